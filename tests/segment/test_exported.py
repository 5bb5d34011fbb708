"""Graphs that others export (`exported_graphs`), against onnxruntime called as their exporters call it."""

import pickle

import numpy as np
import pytest
from exported_graphs import CELLS, MAKERS, MEAN, SIDE, SIZE, STD, WIDTH, resize, torch

from sdie_fast.errors import InvalidArgumentError
from sdie_fast.segment import Prompt, Sam, Support
from sdie_fast.segment.exported import CONVENTIONS, Maps
from sdie_fast.segment.geometry import Geometry, Stretched
from sdie_fast.segment.onnx import Held

ort = pytest.importorskip("onnxruntime")


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)


def scaled(image, high, wide):
    """A picture made larger, (high, wide, 3)."""
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    return resize(planes, (high, wide), mode="bilinear")[0].permute(1, 2, 0).numpy()


def by_hand(folder, kind, image, at, labels, mask=None):
    """One prompt of points and corners (P, 2), called as the exporters' own scripts do.

    Returns logits (M, side, side), predicted IoU (M,), and where masks are drawn over the picture logits (M, H, W).
    """
    encoder, decoder = (ort.InferenceSession(str(folder / f"t.{part}.onnx")) for part in ("encoder", "decoder"))
    (high, wide), name = image.shape[:2], encoder.get_inputs()[0].name
    if kind.startswith("efficientsam"):
        at, labels = at[labels > 0], labels[labels > 0]  # it has none outside
        if "filled" in kind:  # with what it fills up itself
            nowhere = np.tile(np.array([-wide, -high], np.float32) / SIZE, (4 - len(at), 1))
            at, labels = np.append(at, nowhere, 0), np.append(labels, np.full(len(nowhere), np.float32(-1)))
        planes = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        given = {
            "image_embeddings": encoder.run(None, {name: planes})[0],
            "batched_point_coords": at[None, None],
            "batched_point_labels": labels[None, None],
            "orig_im_size": np.array([high, wide]),
        }
        drawn, judged, low = decoder.run(None, given)
        return low[0], judged[0, 0], drawn[0, 0]
    longest = max(high, wide)
    inner = (SIZE, SIZE) if kind == "sam2" else (round(high * SIZE / longest), round(wide * SIZE / longest))
    own = scaled(image, *inner)
    if len(encoder.get_inputs()[0].shape) == 4:
        planes = np.zeros((1, 3, SIZE, SIZE), np.float32)
        planes[0, :, : inner[0], : inner[1]] = ((own - MEAN) / STD).transpose(2, 0, 1)
        own = planes
    given = dict(zip([o.name for o in encoder.get_outputs()], encoder.run(None, {name: own}), strict=True))
    at = (at * np.array([inner[1] / wide, inner[0] / high])).astype(np.float32)
    if kind != "sam2":
        given["orig_im_size"] = np.array([high, wide], np.float32)
        if 2 not in labels:
            at, labels = np.append(at, np.zeros((1, 2), np.float32), 0), np.append(labels, np.float32(-1))
    given |= {"point_coords": at[None], "point_labels": labels[None]}
    given["mask_input"] = np.zeros((1, 1, SIDE, SIDE), np.float32) if mask is None else mask[None, None]
    given["has_mask_input"] = np.array([mask is not None], np.float32)
    found = dict(zip([o.name for o in decoder.get_outputs()], decoder.run(None, given), strict=True))
    if kind != "sam2":
        return found["low_res_masks"][0], found["iou_predictions"][0], None
    drawn = resize(torch.from_numpy(found["masks"]), (high, wide), mode="bilinear").numpy()
    return found["masks"][0], found["iou_predictions"][0], drawn[0]


AT, LABELS = np.array([[20.0, 30.0], [50.0, 60.0]], np.float32), np.array([1.0, 0.0], np.float32)
CORNERS = np.array([[10.0, 12.0], [55.0, 70.0]], np.float32)
POINT, BOX = Prompt(AT[None, :1], LABELS[None, :1]), Prompt(boxes=CORNERS.reshape(1, 4))
PROMPTS = {
    "point": (POINT, AT[:1], LABELS[:1]),
    "points": (Prompt(AT[None], LABELS[None]), AT, LABELS),
    "box": (BOX, CORNERS, np.array([2, 3], np.float32)),
    "both": (
        Prompt(AT[None], LABELS[None], CORNERS.reshape(1, 4)),
        np.append(AT, CORNERS, 0),
        np.array([1, 0, 2, 3], np.float32),
    ),
}


@pytest.mark.parametrize("shape", [(90, 110, 3), (120, 64, 3)])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_as_by_hand(graph_folders, kind, rng, shape, prompt):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    prompt, at, labels = PROMPTS[prompt]
    sam = Sam(graph_folders(kind))
    if kind == "efficientsam" and len(at) > 1:
        with pytest.raises(
            InvalidArgumentError, match=rf"points: received {len(at)}, .*at most 1 by t\.decoder\.onnx"
        ):
            sam(image, prompt)
        return
    truth, judged, drawn = by_hand(graph_folders(kind), kind, image, at, labels)
    embedding = sam.encode(image)
    assert embedding.numpy().shape == (1, WIDTH, CELLS, CELLS)
    logits, quality = sam.decode(embedding, prompt)
    rows = {4: [0, 1, 2, 3], 3: [int(judged.argmax()), 0, 1, 2], 1: [0, 0, 0, 0]}[len(judged)]
    np.testing.assert_allclose(logits, truth[None, rows], atol=2e-3 * truth.std())
    np.testing.assert_allclose(quality, judged[None, rows], atol=1e-4)
    assert truth.std() > 0.02  # an answer at all
    if drawn is not None:
        best = int(judged.argmax())
        ours = embedding.geometries[0].from_model(logits[:, 1 + best])[0]
        np.testing.assert_allclose(ours, drawn[best], atol=4e-3 * drawn.std())
        both = sam(image, prompt)[0] == (drawn[best] > 0)
        assert both.mean() > 0.999


@pytest.mark.parametrize("kind", ["samexporter", "sam-hq", "sam2"])
def test_a_mask_again(graph_folders, kind, picture):
    """A mask found before counts, and a box with it; EfficientSAM takes none."""
    sam = Sam(graph_folders(kind))
    embedding = sam.encode(picture)
    before = sam.decode(embedding, POINT)[0][:, 0]
    truth, _, _ = by_hand(graph_folders(kind), kind, picture, CORNERS, np.array([2, 3], np.float32), before[0])
    logits, _ = sam.decode(embedding, Prompt(boxes=BOX.boxes, masks=before))
    np.testing.assert_allclose(logits[0, 1:], truth[-3:].repeat(3 // len(truth[-3:]), 0), atol=2e-3 * truth.std())
    assert np.abs(logits - sam.decode(embedding, BOX)[0]).max() > 0.1


def test_many_at_once(graph_folders, kind, rng):
    """Images and prompts together, where the graphs let them, answer as each alone."""
    sam = Sam(graph_folders(kind), batch=2, prompts=3)
    assert sam._graphs.together == (kind == "samexporter" or kind.startswith("efficientsam"))
    images = [rng.integers(0, 256, (70 + 10 * k, 100), dtype=np.uint8) for k in range(3)]
    together = sam.encode(images)
    assert together.numpy().shape == (3, WIDTH, CELLS, CELLS)
    prompts = Prompt(rng.uniform(0, 60, (7, 1, 2)).astype(np.float32), np.ones((7, 1), np.float32))
    logits, quality = sam.decode(together[2], prompts)
    assert logits.shape == (7, 4, SIDE, SIDE)
    for k, image in enumerate(images):
        alone = sam.encode(image)
        np.testing.assert_allclose(together[k].numpy(), alone.numpy(), atol=1e-4)
        assert type(alone.geometries[0]) is (Stretched if CONVENTIONS[kind.split()[0]].stretched else Geometry)
    for k in range(7):
        own, judged = sam.decode(alone, Prompt(prompts.points[k : k + 1], prompts.labels[k : k + 1]))
        np.testing.assert_allclose(logits[k : k + 1], own, atol=2e-3 * own.std())
        np.testing.assert_allclose(quality[k : k + 1], judged, atol=1e-4)


def test_every_prompt(graph_folders, kind, picture):
    """Segmented by each kind of prompt, from a pickle too."""
    if kind == "efficientsam":
        pytest.skip("one point a prompt")
    sam = Sam(graph_folders(kind))
    shown = Support(picture, [np.arange(90)[:, None] < np.full(110, 40)])
    images = np.stack([picture, picture[::-1]])
    copy = pickle.loads(pickle.dumps(sam))
    for given, options in (("auto", {"grid": 3, "quality": 0.0, "stability": 0.0}), (shown, {}), (POINT, {})):
        masks, quality = sam(images, given, **options)
        assert masks.shape == (2, 90, 110)
        assert np.isfinite(quality).all()
        assert masks.any() or given == "auto"
        assert (copy(images, given, **options)[0] == masks).all()
    assert isinstance(sam.encode(picture).features, Maps) == (kind in ("sam2", "sam-hq"))


def test_learning_sees_it(graph_folders, rng):
    """A step of the environment that `train` learns in."""
    from sdie_fast.learn.cases import Case
    from sdie_fast.learn.env import SdieEnv, reward_of

    image = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    truth = image > 99
    sam = Sam(graph_folders("sam2"))
    env = SdieEnv(sam, [Case(image, truth, Support([image], [truth]), "x", "x/1")], rounds=2, side=16)
    env.reset()
    step = env.step(rng.uniform(-1, 1, (1, 6)))
    mask, _ = sam(step.images[0], env.cases[0].prompt)
    assert step.reward[0] == pytest.approx(reward_of(mask, truth, "fb-iou"))


def test_images_of_torch(graph_folders, kind, picture):
    sam = Sam(graph_folders(kind))
    np.testing.assert_allclose(sam.encode(torch.from_numpy(picture)).numpy(), sam.encode(picture).numpy(), atol=1e-3)


def test_maps_that_stay(graph_folders, picture):
    """As on a GPU: several maps an image, each bound by its address."""
    sam, plain = Sam(graph_folders("sam2")), Sam(graph_folders("sam2"))
    sam._held = True
    ours, theirs = (model.encode([picture, picture[::-1]]) for model in (sam, plain))
    assert all(isinstance(m, Held) for m in ours.features.maps)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)
    for k in range(2):
        expected = plain.decode(theirs[k], BOX)[0]
        np.testing.assert_allclose(sam.decode(ours[k], BOX)[0], expected, atol=1e-3 * expected.std())
