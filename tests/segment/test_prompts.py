"""Prompts are judged with a segmenter whose answers are known: it cuts out what has the grey level of a point."""

import numpy as np
import pytest
from scipy import ndimage

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError
from sdie_fast.segment import Auto, Embeddings, Prompt, Segmenter, Support
from sdie_fast.segment.geometry import Geometry, as_images
from sdie_fast.segment.prompts import agreements, distinct, everything, stability

SIZE, CELLS = 128, 32


class LevelSegmenter(Segmenter):
    """Embeds a picture as itself and two shares of a circle by grey level; cuts out the level under a point."""

    name = "levels"
    size = SIZE

    def encode(self, images):
        features, geometries = [], []
        for image in as_images(images):
            geometry = Geometry(*image.shape[:2], SIZE)
            plane = np.zeros((SIZE, SIZE), np.float32)
            geometry.fill(image[..., 0].astype(np.float32) / 255, plane)
            small = plane.reshape(CELLS, 4, CELLS, 4).mean((1, 3))
            turn = small * np.pi
            features.append(np.concatenate([[np.cos(turn), np.sin(turn)], plane.reshape(16, CELLS, CELLS) * 1e-9]))
            geometries.append(geometry)
        return Embeddings(np.stack(features).astype(np.float32), tuple(geometries))

    def decode(self, embedding, prompt):
        prompt = prompt.checked(embedding.geometries[0])
        plane = embedding.features[0][2:].reshape(SIZE, SIZE) * 1e9
        logits = np.full((len(prompt), 4, SIZE, SIZE), -6.0, np.float32)
        quality = np.zeros((len(prompt), 4), np.float32)
        for k in range(len(prompt)):
            if prompt.points is None:
                x0, y0, x1, y1 = embedding.geometries[0].to_model(prompt.boxes[k]).astype(int)
                logits[k, :, y0:y1, x0:x1] = 6.0
            else:
                x, y = embedding.geometries[0].to_model(prompt.points[k, 0]).astype(int)
                x, y = min(x, SIZE - 1), min(y, SIZE - 1)
                labels, _ = ndimage.label(np.abs(plane - plane[y, x]) < 0.1)
                logits[k][:, labels == labels[y, x]] = 6.0
            quality[k] = (0.95, 0.4, 0.9, 0.3)
        return logits, quality


@pytest.fixture
def segmenter():
    return LevelSegmenter()


@pytest.fixture
def picture():
    """Two bright squares and a dark one on grey; the bright ones' mask."""
    image = np.full((100, 140), 120, np.uint8)
    image[10:40, 10:40] = 250
    image[55:85, 90:120] = 250
    image[60:80, 20:40] = 10
    return image, image == 250


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_auto_union(segmenter, picture):
    image, _ = picture
    mask, quality = segmenter(image)
    assert iou(mask, image != 120) > 0.93
    assert quality == pytest.approx([0.9])
    masks, quality = segmenter(np.stack([image, image]), "auto", grid=20)
    assert masks.shape == (2, 100, 140)


def test_auto_not_background(segmenter, picture):
    image, _ = picture
    mask, _ = segmenter(image, rule="not-background")
    inner = ndimage.binary_erosion(image != 120)
    assert iou(mask, inner) > 0.85
    assert not (mask & (image == 120)).sum() > 30


def test_auto_finds_each_thing_once(segmenter, picture):
    found = everything(segmenter, segmenter.encode([picture[0]]), Auto(grid=16))
    # A point on a blurred outline finds that; the four surfaces are found once each.
    assert ((found.logits > 0).sum((1, 2)) > 150).sum() == 4
    assert (found.stability == 1).all()


def test_auto_thresholds(segmenter, picture):
    image, _ = picture
    for options in ({"quality": 0.95}, {"largest": 0.0}):
        mask, quality = segmenter(image, **options)
        assert not mask.any()
        assert quality == [0]
    everything_, _ = segmenter(image, largest=1.0)
    assert everything_.mean() > 0.95


def test_support(segmenter, picture):
    image, bright = picture
    flipped = image[::-1, ::-1].copy()
    for places, expected in ((1, 0.45), (4, 0.93)):
        mask, quality = segmenter(flipped, Support([image], [bright], places))
        assert iou(mask, bright[::-1, ::-1]) > expected
        assert quality == pytest.approx([0.95])  # the best of all
    dark = image == 10
    mask, _ = segmenter(flipped, Support(np.stack([image, image]), [dark, dark]))
    assert iou(mask, dark[::-1, ::-1]) > 0.9


def test_support_similarity(segmenter, picture):
    image, bright = picture
    similar = Support([image], [bright]).similarity(segmenter, segmenter.encode([image]))
    assert similar.shape == image.shape
    assert similar[bright].min() > similar[~bright].max() - 0.6
    assert np.median(similar[bright]) > 0 > np.median(similar[~bright])


def test_points_and_boxes(segmenter, picture):
    image, bright = picture
    mask, quality = segmenter(image, Prompt(np.array([[[20.0, 20.0]], [[100.0, 70.0]]]), np.ones((2, 1))))
    assert iou(mask, bright) > 0.93
    assert quality == pytest.approx([0.9])  # a single point is ambiguous: the best of the last three
    _, quality = segmenter(image, Prompt(np.array([[[20.0, 20.0], [100.0, 70.0]]]), np.ones((1, 2))))
    assert quality == pytest.approx([0.95])  # several are not: the first
    mask, quality = segmenter(image, Prompt(boxes=np.array([[10.0, 10.0, 40.0, 40.0]])))
    assert mask[15:35, 15:35].all()
    assert quality == pytest.approx([0.95])  # nor is a box


def test_stability():
    logits = np.full((1, 10, 10), -2.0, np.float32)
    logits[0, :4] = 2.0
    assert stability(logits, 1.0) == [1.0]
    logits[0, 4:8] = 0.5
    assert stability(logits, 1.0) == [0.5]
    assert stability(logits, 0.0) == [1.0]


def test_distinct():
    """Two pictures' masks at once, as each alone."""
    masks = np.zeros((4, 10, 10), bool)
    masks[0, :5] = masks[1, :6] = masks[2, 8:] = True
    masks[3, 8:, :5] = True
    quality = np.array([0.5, 0.9, 0.7, 0.8], np.float32)
    for overlap, kept in ((0.7, [1, 3, 2]), (0.4, [1, 3]), (0.9, [1, 3, 2, 0])):
        found, counts = distinct(masks, quality, np.array([4]), overlap)
        assert (found.tolist(), counts) == (kept, [len(kept)])
        found, counts = distinct(np.tile(masks, (2, 1, 1)), np.tile(quality, 2), np.array([4, 0, 4]), overlap)
        assert (found.tolist(), counts) == (kept + [4 + k for k in kept], [len(kept), 0, len(kept)])


def test_agreements():
    masks = np.zeros((4, 5, 8), bool)
    masks[0, :2] = masks[1, :3] = True
    np.testing.assert_allclose(agreements(masks), [2 / 9, 2 / 9, 1 / 3, 1 / 3], rtol=1e-6)  # two empty ones agree
    assert agreements(masks[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    "options",
    [
        {"grid": 0},
        {"grid": 2.5},
        {"quality": 2},
        {"rule": "all"},
        {"offset": -1},
        {"overlap": -0.1},
        {"points": 3},
    ],
)
def test_bad_options(segmenter, picture, options):
    with pytest.raises((InvalidArgumentError, InvalidTypeError), match=r"received|options"):
        segmenter(picture[0], **options)


def test_bad_prompts(segmenter, picture):
    image, bright = picture
    with pytest.raises(InvalidArgumentError, match="'everything'"):
        segmenter(image, "everything")
    with pytest.raises(InvalidTypeError, match="received int"):
        segmenter(image, 3)
    with pytest.raises(InvalidArgumentError, match="received 2 for 1"):
        segmenter(image, [Prompt(), Prompt()])
    with pytest.raises(InvalidArgumentError, match="only with prompt='auto'"):
        segmenter(image, Prompt(), grid=3)
    for masks, error in (
        ([bright, bright], InvalidArgumentError),
        ([bright[:50]], InvalidArgumentError),
        ([np.zeros_like(bright)], InvalidArgumentError),
        ([image], InvalidTypeError),
    ):
        with pytest.raises(error, match="masks: received"):
            Support([image], masks)
    with pytest.raises(InvalidArgumentError, match="places"):
        Support([image], [bright], 0)
