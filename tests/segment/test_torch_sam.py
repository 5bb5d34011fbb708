"""SAM in torch against the ONNX files, and answers on a device against NumPy's."""

import copy
import functools
import pickle

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")
pytest.importorskip("onnx")

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError, ModelError  # noqa: E402
from sdie_fast.segment import Embeddings, Prompt, Sam, Segmenter, Support, prompts  # noqa: E402
from sdie_fast.segment import torch_sam as module  # noqa: E402
from sdie_fast.segment.checkpoint import read_small_sam  # noqa: E402
from sdie_fast.segment.export import measure_parity  # noqa: E402
from sdie_fast.segment.geometry import Geometry  # noqa: E402
from sdie_fast.segment.sam import SMALL_SAM, load_manifest  # noqa: E402
from sdie_fast.segment.tensors import usable_device  # noqa: E402
from sdie_fast.segment.torch_sam import TorchSam  # noqa: E402

GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    ],
)


@pytest.fixture(scope="module", params=["cpu", GPU])
def torch_small(request):
    """The small SAM that ships."""
    return TorchSam(device=request.param, prompts=7, batch=2)


@pytest.fixture(scope="module")
def shipped():
    return Sam()


def scene(k=0, shape=(90, 120)):
    """A disk and a box on noise, moved with k."""
    rng = np.random.default_rng(k)
    y, x = np.mgrid[: shape[0], : shape[1]]
    disk = (x - 40 - 8 * k) ** 2 + (y - 45) ** 2 < 400
    box = (abs(x - 90) < 12) & (abs(y - 30 - 3 * k) < 14)
    levels = 90 + 60 * disk + 80 * box + rng.normal(0, 6, shape)
    return levels.clip(0, 255).astype(np.uint8), disk


@pytest.fixture(scope="module")
def scenes():
    return np.stack([scene(k)[0] for k in range(3)])


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


class TestModel:
    def test_same_embeddings_and_logits(self, torch_small, shipped, scenes):
        ours, theirs = torch_small.encode(scenes), shipped.encode(scenes)
        assert isinstance(ours.features, torch.Tensor)
        assert ours.features.device == torch_small.device
        assert ours.geometries == theirs.geometries
        # onnxruntime's instance normalisation is what differs.
        assert np.abs(ours.numpy() - theirs.numpy()).max() < 5e-3 * theirs.numpy().std()
        at = np.array([[[40.0, 45.0]], [[90.0, 30.0]]], np.float32)
        box = np.array([[20, 20, 60, 70], [70, 10, 110, 50]], np.float32)
        before = np.random.default_rng(0).normal(0, 3, (2, 128, 128)).astype(np.float32)
        for prompt in (
            Prompt(at, np.ones((2, 1))),
            Prompt(boxes=box),
            Prompt(at, np.zeros((2, 1)), box, before),
        ):
            logits, quality = torch_small.decode(ours[-1], prompt)
            expected, judged = shipped.decode(theirs[-1], prompt)
            assert logits.shape == expected.shape == (2, 4, 128, 128)
            assert logits.dtype == np.float32
            assert np.abs(logits - expected).max() < 2e-2 * expected.std()
            assert np.abs(quality - judged).max() < 1e-3
            for a, b in zip(logits.reshape(-1, 128, 128), expected.reshape(-1, 128, 128), strict=True):
                assert iou(a > 0, b > 0) > 0.99

    def test_kinds_of_image(self, torch_small):
        """uint8, uint16, float32, colour, any shapes together; on the host or not."""
        grey, _ = scene(1)
        colour = np.stack([grey, grey // 2, 255 - grey], 2)
        images = [
            grey,
            grey.astype(np.uint16) * 257,
            grey[:50],
            colour,
            grey.astype(np.float32) / 255,
        ]
        found = torch_small.encode(images).numpy()
        assert np.abs(found[0] - found[1]).max() < 1e-3
        assert np.abs(found[0] - found[4]).max() < 1e-3
        for k in (2, 3):
            assert np.abs(torch_small.encode([images[k]]).numpy()[0] - found[k]).max() < 1e-3
        held = [torch.from_numpy(image).to(torch_small.device) for image in images]
        assert np.abs(torch_small.encode(held).numpy() - found).max() < 1e-3
        batch = torch_small.encode(torch.stack([held[0], held[0]]))
        assert np.abs(batch.numpy() - found[:1]).max() < 1e-3
        assert len(torch_small.encode(held[3])) == 1
        assert np.abs(torch_small.encode(held[0][..., None]).numpy() - found[:1]).max() < 1e-3
        assert len(torch_small.encode(held[3], axes="NHW")) == 90
        for given in (held[0][..., None], images[0][..., None]):
            mask, _ = torch_small(given, Prompt(boxes=np.array([[1, 1, 9, 9]], np.float32)))
            assert mask.shape == (90, 120)

    @pytest.mark.parametrize("again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
    def test_pickles_and_copies(self, torch_small, scenes, again):
        found = again(torch_small)
        assert found.fingerprint == torch_small.fingerprint
        prompt = Prompt(boxes=np.array([[20, 20, 60, 70]], np.float32))
        for one, other in zip(found(scenes, prompt), torch_small(scenes, prompt), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_vit(self, small_vit, rng):
        """Another architecture, whose attention was replaced, against segment-anything's own."""
        sam = TorchSam(small_vit)
        image = rng.integers(0, 256, (160, 130), np.uint8)
        given = torch.from_numpy(image).float().expand(1, 3, -1, -1)
        given = torch.nn.functional.pad((given - 120) / 50, (0, 30))
        with torch.no_grad():
            expected = small_vit.image_encoder(given)
        assert torch.allclose(sam.encode(image).features, expected, atol=1e-4)
        box = np.array([[10.0, 20.0, 90.0, 120.0]], np.float32)
        with torch.no_grad():
            sparse, dense = small_vit.prompt_encoder(None, torch.from_numpy(box), None)
            truth, judged = small_vit.mask_decoder.predict_masks(
                expected, small_vit.prompt_encoder.get_dense_pe(), sparse, dense
            )
        logits, quality = sam.decode(sam.encode(image), Prompt(boxes=box))
        assert np.abs(logits - truth.numpy()).max() < 1e-4 * float(truth.std()) + 1e-4
        assert np.abs(quality - judged.numpy()).max() < 1e-4
        assert sam.thresholds == (0.88, 0.95)
        # The model that was given is left as it was.
        assert type(small_vit.image_encoder.blocks[0].attn).__name__ == "Attention"

    def test_bfloat16(self, shipped, scenes):
        """Half the bits: nearly the same masks."""
        half = TorchSam(dtype="bfloat16", decoder_dtype="bfloat16")
        assert next(half._encoder.parameters()).dtype == torch.bfloat16
        embedding = half.encode(scenes[:1])
        assert embedding.features.dtype == torch.float32
        prompt = Prompt(boxes=np.array([[20, 20, 60, 70]], np.float32))
        assert iou(half(scenes[0], prompt)[0], shipped(scenes[0], prompt)[0]) > 0.93
        error = np.abs(embedding.numpy() - shipped.encode(scenes[:1]).numpy()).mean()
        assert 1e-3 < error < 0.1
        assert half.fingerprint != TorchSam().fingerprint

    def test_fingerprint_and_name(self, torch_sam, tmp_path):
        torch.save(torch_sam.state_dict(), tmp_path / "s.pth")
        a, b = TorchSam(tmp_path / "s.pth"), TorchSam(torch_sam)
        assert a.fingerprint == b.fingerprint != TorchSam().fingerprint
        assert a.name == "SAM small float32, torch"
        assert a.providers == ("torch cpu", "torch cpu")
        assert a.size == 256
        assert a.thresholds == Sam().thresholds

    def test_weights_of_the_files(self, sam_dir):
        """What ships is read back to the bit: it is as far from the ONNX files as what they were exported from."""
        manifest = load_manifest(SMALL_SAM)
        parity = measure_parity(read_small_sam(SMALL_SAM), SMALL_SAM, manifest)
        assert parity["embedding_error"] == pytest.approx(manifest.parity["embedding_error"], rel=0.2)
        assert parity["mask_iou"] == 1.0
        # Fresh weights are alike, and an exporter stores what is alike once.
        with pytest.raises(ModelError, match=r"cannot be read back: .*norm"):
            read_small_sam(sam_dir)

    @pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=GPU.marks)])
    def test_compiled(self, shipped, scenes, monkeypatch, backend):
        """On a CPU what is captured is run as it is: compiling it takes most of a minute."""
        whole = functools.partial(torch.compile, backend=backend, fullgraph=True)
        monkeypatch.setattr(torch, "compile", whole)
        sam = TorchSam(compile=True, device="cpu" if backend == "aot_eager" else "cuda")
        assert sam._run is not sam._encoder
        assert np.abs(sam.encode(scenes).numpy() - shipped.encode(scenes).numpy()).max() < 1e-2


class OnHost(Segmenter):
    """The same model, whose embeddings, logits and qualities are arrays: what NumPy makes of them."""

    def __init__(self, sam):
        self.sam, self.size, self.name, self.thresholds = sam, sam.size, sam.name, sam.thresholds

    size = name = thresholds = None

    def encode(self, images):
        found = self.sam.encode(images)
        return Embeddings(found.numpy(), found.geometries)

    def decode(self, embedding, prompt):
        return self.sam.decode(embedding, prompt)


class TestDevice:
    """On the device as with NumPy, from the same logits."""

    @pytest.fixture
    def logits(self, rng):
        coarse = np.repeat(np.repeat(rng.normal(0, 4, (9, 8, 8)), 8, 1), 8, 2)
        return (coarse + rng.normal(0, 0.5, (9, 64, 64))).astype(np.float32)

    def test_stability_and_overlaps(self, logits):
        tensor = torch.from_numpy(logits)
        for offset in (0.0, 1.0, 3.0):
            found = prompts.stability(tensor, offset)
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), prompts.stability(logits, offset))
        assert prompts.stability(torch.full((2, 5, 5), -9.0), 1.0).tolist() == [0.0, 0.0]
        np.testing.assert_array_equal(prompts._overlaps(tensor > 0).numpy(), prompts._overlaps(logits > 0))

    def test_distinct(self, logits, rng):
        """The same of tensors as of arrays, also where there are none."""
        masks = np.concatenate([logits, logits[::-1] + rng.normal(0, 1, logits.shape)]) > 0
        quality = rng.random(len(masks)).astype(np.float32)
        for sizes in ([6, 6, 6, 0], [0, 18], [18], [0]):
            n = sum(sizes)
            expected, counts = prompts.distinct(masks[:n], quality[:n], np.array(sizes), 0.4)
            given = torch.from_numpy(masks[:n]), torch.from_numpy(quality[:n])
            found, numbers = prompts.distinct(*given, np.array(sizes), 0.4)
            np.testing.assert_array_equal(found.numpy(), expected)
            assert numbers == counts

    @pytest.mark.parametrize("shape", [(64, 64), (40, 90), (300, 170)])
    def test_back_to_the_image(self, logits, shape):
        geometry = Geometry(*shape, 256)
        found = geometry.from_model(torch.from_numpy(logits)).numpy()
        np.testing.assert_allclose(found, geometry.from_model(logits), atol=1e-4)

    @pytest.mark.parametrize("shape", [(60, 80), (33, 21), (5, 7)])
    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_not_background(self, logits, shape, count):
        """Against scipy's morphology, by arrays and by tensors."""
        masks = Geometry(*shape, 64).from_model(logits[:count]) > 0
        painted = np.zeros(shape, int)
        for label, k in enumerate(np.argsort(-masks.sum((1, 2)), kind="stable"), 1):
            painted[masks[k]] = label
        rest = painted != np.bincount(painted.ravel()).argmax()
        expected = ndimage.binary_erosion(ndimage.binary_opening(rest, np.ones((10, 10), bool)))
        for found in (prompts._not_background(masks), prompts._not_background(torch.from_numpy(masks)).numpy()):
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)
        assert expected.any() or count < 9 or shape[0] < 40

    @pytest.mark.parametrize(
        "options",
        [
            {"grid": 4},
            {"grid": 3, "rule": "not-background"},
            {"grid": 3, "quality": 0.3, "stability": 0.3, "largest": 1.0, "overlap": 0.5},
            {"grid": 2, "quality": 1.0},
        ],
        ids=["union", "not-background", "loose", "none"],
    )
    def test_auto(self, torch_small, scenes, options):
        """Against the very same model's logits, by NumPy."""
        expected = prompts.answer(OnHost(torch_small), scenes, "auto", options)
        found = prompts.answer(torch_small, scenes, "auto", options)
        for a, b in zip(found, expected, strict=True):
            assert isinstance(a, prompts.DeviceAnswer)
            assert type(b) is prompts.Answer
            assert iou(a.mask, b.mask) > 0.999 or not b.mask.any()
            assert a.mask.any() == b.mask.any()
            assert a.quality == pytest.approx(b.quality, abs=1e-5)
            assert a.stability == pytest.approx(b.stability, abs=1e-5)
            np.testing.assert_array_equal(a.tensor.cpu().numpy(), a.mask)
        assert {a.mask.any() for a in expected} == {options.get("quality") != 1.0}

    @pytest.mark.parametrize("places", [1, 3])
    def test_support(self, torch_small, scenes, places):
        """Against the very same model's logits, by NumPy."""
        shown, truth = scene(0)
        support = Support([shown], [truth], places)
        expected = prompts.answer(OnHost(torch_small), scenes, support, {})
        for a, b in zip(prompts.answer(torch_small, scenes, support, {}), expected, strict=True):
            assert isinstance(a, prompts.DeviceAnswer)
            assert iou(a.mask, b.mask) > 0.999
            assert a.quality == pytest.approx(b.quality, abs=1e-4)
            assert a.stability == pytest.approx(b.stability, abs=1e-4)

    def test_auto_in_parts(self, torch_small, scenes, monkeypatch):
        """Images are taken together as far as memory goes, which changes nothing."""
        assert torch_small.at_once == module.LOGITS // (4 * 128**2)
        whole, quality = torch_small(scenes, grid=3)
        monkeypatch.setattr(torch_small, "at_once", 18)  # two images' points
        parts, again = torch_small(scenes, grid=3)
        np.testing.assert_array_equal(whole, parts)
        np.testing.assert_allclose(quality, again, atol=1e-5)

    def test_each_ones_prompt(self, torch_small, shipped, scenes):
        """Prompts of several kinds and numbers for images of two shapes, decoded together where they can be."""
        shown, truth = scene(0)
        images = [*scenes, scene(1, (70, 120))[0]]
        given = [
            Prompt(boxes=np.array([[20, 20, 60, 70], [70, 10, 110, 50]], np.float32)),
            Prompt(np.array([[[48.0, 45.0]]]), np.ones((1, 1))),
            Support([shown], [truth]),
            Prompt(boxes=np.array([[30, 20, 70, 69]], np.float32)),
        ]
        masks, quality = torch_small(images, given)
        expected, judged = shipped(images, given)
        for k in range(4):
            assert masks[k].shape == images[k].shape
            assert iou(masks[k], expected[k]) > 0.99
        np.testing.assert_allclose(quality, judged, atol=2e-3)

    def test_tensors_in_arrays_out(self, torch_small, scenes):
        """A batch that is on the device already; one image as one mask."""
        batch = torch.from_numpy(scenes).to(torch_small.device)
        masks, _ = torch_small(batch, grid=3)
        np.testing.assert_array_equal(masks, torch_small(scenes, grid=3)[0])
        one, quality = torch_small(batch[0], grid=3)
        assert one.shape == scenes[0].shape
        assert quality.shape == (1,)
        np.testing.assert_array_equal(one, masks[0])


class TestErrors:
    def test_values(self, tmp_path):
        with pytest.raises(InvalidArgumentError, match="dtype: received 'float16'"):
            TorchSam(dtype="float16")
        with pytest.raises(InvalidArgumentError, match="batch"):
            TorchSam(batch=0)
        with pytest.raises(InvalidTypeError, match="source: received int"):
            TorchSam(3)
        with pytest.raises(ModelError, match="no such file"):
            TorchSam(tmp_path / "none.pth")

    def test_devices(self):
        for name in ("gpu", "meta"):
            with pytest.raises(InvalidArgumentError, match="device: received"):
                usable_device(name)
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        with pytest.raises(ModelError, match=rf"'cuda:{there}' is not there, since torch sees"):
            usable_device(f"cuda:{there}")
        assert usable_device("cpu") == torch.device("cpu")

    def test_another_models_directory(self, sam_dir, tmp_path):
        import json
        import shutil

        directory = shutil.copytree(sam_dir, tmp_path / "m")
        manifest = json.loads((directory / "manifest.json").read_text())
        (directory / "manifest.json").write_text(json.dumps({**manifest, "name": "vit_b"}))
        with pytest.raises(ModelError, match="give the checkpoint"):
            TorchSam(directory)

    def test_images(self, torch_small):
        with pytest.raises(InvalidTypeError, match=r"a tensor of torch\.float64"):
            torch_small.encode(torch.zeros(9, 9, dtype=torch.float64))
        with pytest.raises(InvalidArgumentError, match=r"shape \(2, 9, 9, 4\).*: 4 channels"):
            torch_small.encode(torch.zeros(2, 9, 9, 4))
        with pytest.raises(InvalidArgumentError, match=r"torch.float32 array of shape \(9, 9, 4\): 4 channels"):
            torch_small.encode([torch.zeros(9, 9, 4)])
        with pytest.raises(InvalidArgumentError, match="at least one pixel"):
            torch_small.encode(torch.zeros(9, 0))
        with pytest.raises(InvalidArgumentError, match="NaN or values outside"):
            torch_small.encode(torch.full((9, 9), float("nan")))
        with pytest.raises(InvalidArgumentError, match="NaN or values outside"):
            torch_small.encode(torch.full((9, 9), 1.5))
        with pytest.raises(InvalidArgumentError, match="a batch of 2"):
            torch_small.encode([torch.zeros(2, 9, 9)])
        with pytest.raises(InvalidArgumentError, match="received none"):
            torch_small.encode([])

    def test_prompts(self, torch_small, scenes):
        embedding = torch_small.encode(scenes[:2])
        box = np.array([[1, 1, 9, 9]], np.float32)
        with pytest.raises(InvalidTypeError, match="Embeddings of one image"):
            torch_small.decode(embedding, Prompt(boxes=box))
        with pytest.raises(InvalidArgumentError, match=r"accepted: \(1, 128, 128\)"):
            torch_small.decode(embedding[0], Prompt(boxes=box, masks=np.zeros((1, 4, 4))))
        with pytest.raises(InvalidArgumentError, match="neither points nor boxes"):
            torch_small(scenes[0], Prompt())
