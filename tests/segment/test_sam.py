import shutil

import numpy as np
import pytest

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError, ModelError
from sdie_fast.segment import Options, Prompt, Sam, Support
from sdie_fast.segment.onnx import available, open_session
from sdie_fast.segment.sam import file_hash

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")


def picture(rng, shape=(120, 170)):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def points(*at):
    return np.array([[p] for p in at], np.float32), np.ones((len(at), 1), np.float32)


def test_as_segment_anything(sam, torch_sam, rng):
    """The whole path of a picture against segment-anything's own predictor."""
    from segment_anything import SamPredictor

    predictor = SamPredictor(torch_sam)
    image = picture(rng, (120, 170, 3))
    predictor.set_image(image)
    # Theirs rounds a resized picture to whole grey levels.
    assert np.abs(sam.encode([image]).features - predictor.features.numpy()).max() < 0.05
    image = picture(rng, (190, 256, 3))  # not resized
    predictor.set_image(image)
    embedding = sam.encode([image])
    assert np.abs(embedding.features - predictor.features.numpy()).max() < 1e-3
    at, labels = points((60, 50))
    _, expected, low = predictor.predict(at[0], labels[0], multimask_output=True, return_logits=True)
    logits, quality = sam.decode(embedding, Prompt(at, labels))
    assert np.abs(logits[0, 1:] - low).max() < 1e-3 * low.std() + 1e-4
    assert np.abs(quality[0, 1:] - expected).max() < 1e-4
    box = np.array([[20, 30, 90, 80]], np.float32)
    _, expected, low = predictor.predict(box=box[0], multimask_output=False, return_logits=True)
    logits, quality = sam.decode(embedding, Prompt(boxes=box))
    assert np.abs(logits[0, :1] - low).max() < 1e-3 * low.std() + 1e-4
    again, _ = sam.decode(embedding, Prompt(at, labels, box, logits[:, 0]))
    _, _, low = predictor.predict(
        at[0],
        labels[0],
        box=box[0],
        mask_input=logits[0, :1],
        multimask_output=False,
        return_logits=True,
    )
    assert np.abs(again[0, :1] - low).max() < 1e-3 * low.std() + 1e-4


def test_batches_change_nothing(sam, rng):
    images = [picture(rng, (50 + 9 * k, 80)) for k in range(7)]
    together = sam.encode(images)
    for k, image in enumerate(images):
        alone = sam.encode([image])
        assert np.abs(alone.features[0] - together.features[k]).max() < 1e-4
        assert alone.geometries[0] == together.geometries[k]
    at, labels = points(*[(5.0 * k, 3.0 * k) for k in range(13)])
    logits, quality = sam.decode(together[2], Prompt(at, labels))
    assert logits.shape == (13, 4, 128, 128)
    one, judged = sam.decode(together[2], Prompt(at[7:8], labels[7:8]))
    assert np.abs(one[0] - logits[7]).max() < 1e-4
    assert np.abs(judged[0] - quality[7]).max() < 1e-5


def test_fingerprints(sam, sam_dir):
    """Equal files, equal answers: whatever else a Sam was told."""
    assert Sam(sam_dir, prompts=2).fingerprint == sam.fingerprint
    assert Sam().fingerprint != sam.fingerprint


def test_kinds_of_image(sam, rng):
    grey = picture(rng, (64, 64))
    truth = sam.encode([grey]).features
    same = [
        np.repeat(grey[..., None], 3, 2),
        grey[..., None],
        np.repeat(grey[..., None], 4, 2)[..., 1:2],
        grey.astype(np.uint16) * 257,
        (grey / np.float32(255)).astype(np.float32),
        np.repeat(grey, 2, axis=1)[:, ::2],
    ]
    for image in same:
        assert np.abs(sam.encode([image]).features - truth).max() < 1e-4
    assert np.abs(sam.encode(np.stack([grey, grey])).features - truth).max() < 1e-4


def test_axes(sam, rng):
    narrow = picture(rng, (2, 64, 4))
    prompt = Prompt(*points((2, 30)))
    masks, quality = sam(narrow, prompt, axes="NHW")
    assert masks.shape == narrow.shape
    for image, mask, q in zip(narrow, masks, quality, strict=True):
        for alone, axes in ((image, None), (image[..., None], None), (image[..., None], "HWC")):
            found, judged = sam(alone, prompt, axes=axes)
            assert (found == mask).all()
            assert judged == pytest.approx([q], abs=1e-5)
    assert len(sam.encode(narrow, axes="NHW")) == 2
    assert len(sam.encode(list(narrow), "HW")) == 2
    batch, _ = sam(picture(rng, (2, 60, 70, 1)), Prompt(*points((2, 30))))
    assert batch.shape == (2, 60, 70)


@pytest.mark.parametrize("shape", [(16, 64, 4), (16, 64, 2), (2, 16, 64, 4)])
def test_alpha_is_refused(sam, rng, shape):
    image = picture(rng, shape)
    mask = np.ones((16, 64), bool)
    for call in (sam, sam.encode, sam.take, lambda i: sam([i]), lambda i: Support(i, [mask])):
        with pytest.raises(InvalidArgumentError, match=f"image: .*: {shape[-1]} channels; accepted: 1 or 3 channels"):
            call(image)


def test_call(sam, rng):
    images = np.stack([picture(rng, (60, 70)) for _ in range(2)])
    at, labels = points((20, 20), (50, 30))
    masks, quality = sam(images, Prompt(at, labels))
    assert masks.shape == (2, 60, 70)
    assert masks.dtype == bool
    assert quality.shape == (2,)
    mask, quality = sam(images[0], [Prompt(at, labels)])
    assert (mask == masks[0]).all()
    mixed, _ = sam([images[0], images[1][:40]], Prompt(at, labels))
    assert [m.shape for m in mixed] == [(60, 70), (40, 70)]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "neither points nor boxes"),
        (Prompt(np.zeros((0, 1, 2)), np.zeros((0, 1))), "points: received none"),
        (Prompt(boxes=np.zeros((0, 4))), "boxes: received none"),
        (Prompt(np.zeros((1, 2))), "points: received shape"),
        (Prompt(np.zeros((1, 1, 2))), "labels: received shape None"),
        (Prompt(np.zeros((1, 1, 2)), np.full((1, 1), 2.0)), "other values"),
        (Prompt(np.array([[[71.0, 5.0]]]), np.ones((1, 1))), "outside of the image, 70 x 60"),
        (Prompt(np.array([[[np.nan, 5.0]]]), np.ones((1, 1))), "NaN"),
        (Prompt(boxes=np.array([[5.0, 5.0, 5.0, 9.0]])), r"x0 < x1 <= 70"),
        (Prompt(boxes=np.array([[5.0, 5.0, 9.0, 61.0]])), r"boxes: received"),
        (Prompt(boxes=np.zeros((1, 3))), "boxes: received shape"),
        (
            Prompt(np.zeros((2, 1, 2)), np.ones((2, 1)), np.array([[0.0, 0, 9, 9]])),
            "received 1 with 2",
        ),
        (
            Prompt(boxes=np.array([[0.0, 0, 9, 9]]), masks=np.zeros((1, 9, 9))),
            "masks: received shape",
        ),
        (Prompt(boxes=np.array([[0.0, 0, 9, 9]]), masks=np.zeros((9, 9))), "masks: received shape"),
    ],
)
def test_bad_prompts(sam, prompt, message):
    with pytest.raises(InvalidArgumentError, match=message):
        sam(np.zeros((60, 70), np.uint8), prompt)


def test_bad_images_and_arguments(sam, sam_dir):
    with pytest.raises(InvalidArgumentError, match="received none"):
        sam.encode([])
    for images in ("x", 3, None):
        with pytest.raises(InvalidTypeError, match="images"):
            sam.encode(images)
    with pytest.raises(InvalidArgumentError, match="in a sequence"):
        sam.encode([np.zeros((2, 30, 30), np.uint8)])
    with pytest.raises(InvalidArgumentError, match="NaN"):
        sam.encode([np.full((30, 30), np.nan, np.float32)])
    with pytest.raises(InvalidTypeError, match="Embeddings of one image"):
        sam.decode(sam.encode(np.zeros((2, 30, 30), np.uint8)), Prompt(*points((3, 3))))
    for name in ("batch", "prompts"):
        with pytest.raises(InvalidArgumentError, match=name):
            Sam(sam_dir, **{name: 0})
    with pytest.raises(InvalidTypeError, match=r"labels|points"):
        sam(np.zeros((30, 30), np.uint8), Prompt("here", "there"))


def test_preparing_allocates_no_input(sam, rng):
    sam.encode([picture(rng)])
    before = sam._input.__array_interface__["data"]
    sam.encode([picture(rng)] * 4)
    assert sam._input.__array_interface__["data"] == before


# ---- the runtime -------------------------------------------------------------------------------------


def test_provider(sam_dir, sam):
    assert sam.providers == ("cpu", "cpu")
    with pytest.raises(InvalidArgumentError, match="provider: received 'npu'"):
        Sam(sam_dir, Options("npu"))
    for provider in ("cuda", "tensorrt"):
        if available()[provider]:
            with pytest.raises(ModelError, match=rf"{provider}: .*sdie-fast\[gpu\]"):
                Sam(sam_dir, Options(provider))


def test_kept_graph_gives_the_same(sam_dir, sam, tmp_path, rng):
    image = picture(rng)
    expected = sam.encode([image]).features
    for _ in range(2):
        cached = Sam(sam_dir, Options("cpu", cache=tmp_path / "cache"))
        assert np.abs(cached.encode([image]).features - expected).max() < 1e-5
        kept = list((tmp_path / "cache").rglob("*.onnx"))
        assert sorted(p.name for p in kept) == ["decoder.onnx", "encoder.onnx"]
        assert not list((tmp_path / "cache").rglob("*.part"))
    assert all(sam.manifest.files[p.name][:16] in str(p) for p in kept)


def test_a_cache_that_cannot_be_written_is_none(sam_dir, tmp_path):
    (tmp_path / "file").touch()
    Sam(sam_dir, Options("cpu", cache=tmp_path / "file"))


def test_a_broken_graph(tmp_path):
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"encoder\.onnx: cannot be run; .*cpu: "):
        open_session(path, Options(), key="0", precision="fp32")


def test_external_data_outside_of_the_directory(sam_dir, tmp_path):
    """A model must not make the runtime read other files."""
    directory = tmp_path / "m"
    shutil.copytree(sam_dir, directory)
    model = onnx.load(str(directory / "encoder.onnx"))
    (tmp_path / "secret").write_bytes(bytes(1 << 23))
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (directory / "encoder.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="not the file"):
        Sam(directory)
    with pytest.raises(ModelError, match="cannot be run"):
        open_session(
            directory / "encoder.onnx",
            Options(),
            key=file_hash(directory / "encoder.onnx"),
            precision="fp32",
        )
