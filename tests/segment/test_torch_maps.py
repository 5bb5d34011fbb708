"""Map models in torch: the answers of ONNX Runtime, and a gradient that finite differences confirm."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx2torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError, ModelError  # noqa: E402
from sdie_fast.segment import OnnxSegmenter, Prompt  # noqa: E402
from sdie_fast.segment.geometry import resized  # noqa: E402
from sdie_fast.segment.torch_maps import TorchMaps  # noqa: E402

NETWORKS = [
    {}, {"batch": "n"}, {"channels": 1}, {"real": "FLOAT16"}, {"inner": "FLOAT16"}, {"inner": "FLOAT16", "side": 31},
]  # fmt: skip
LAST = {"none": "Sigmoid", "sigmoid": "Identity", "min-max": "Sigmoid"}


def both(path, dtype="float32", **settings):
    return OnnxSegmenter(path, **settings), TorchMaps(path, dtype=dtype, **settings)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("output", ["map", "side"])
def test_as_onnx_runtime(make_map, tmp_path, picture, rng, network, output):
    path = make_map(tmp_path / "m.onnx", **network)
    images = [picture(rng, shape, np.uint8) for shape in ((40, 56), (50, 30, 3), (40, 56))]
    normalise = "min-max" if output == "side" else "none"
    expected, found = both(path, output=output, mean=110, scale=60, normalise=normalise)
    scale = np.abs(expected.maps(images)[0]).max()
    close = 5e-3 if "FLOAT16" in network.values() else 1e-5
    for one, other in zip(expected.maps(images), found.maps(images), strict=True):
        assert other.dtype == np.float32
        np.testing.assert_allclose(other, one, atol=close * scale)
    for one, other in zip(expected.answer(images, "auto"), found.answer(images, "auto"), strict=True):
        assert (one.mask != other.mask).mean() < 0.01
        assert other.quality == pytest.approx(one.quality, rel=0.02)
    half = TorchMaps(path, output=output, mean=110, scale=60, dtype="bfloat16").maps(images)
    for one, other in zip(expected.maps(images), half, strict=True):
        assert 0 < np.abs(other - one).max() < 0.05 * scale


def test_names_and_fingerprints(make_map, tmp_path):
    path = make_map(tmp_path / "m.onnx")
    by_onnx, by_torch = both(path)
    half = TorchMaps(tmp_path / "m.onnx", dtype="bfloat16")
    assert (by_onnx.name, by_torch.name, half.name) == ("m", "m float32, torch", "m bfloat16, torch")
    assert len({by_onnx.fingerprint, by_torch.fingerprint, half.fingerprint}) == 3
    assert by_torch.providers == ("torch cpu",)


def test_pickles(make_map, tmp_path, monkeypatch, picture, rng):
    make_map(tmp_path / "m.onnx", batch="n")
    monkeypatch.chdir(tmp_path)
    found = TorchMaps("m.onnx", dtype="bfloat16", threshold=0.7, batch=2)
    monkeypatch.chdir("/")
    again, image = pickle.loads(pickle.dumps(found)), picture(rng, (40, 50), np.uint8)
    assert (again.fingerprint, again._at_once) == (found.fingerprint, 2)
    np.testing.assert_array_equal(again(image)[0], found(image)[0])


def test_a_cpu_runs_one_picture_at_a_time(make_map, tmp_path):
    make_map(tmp_path / "m.onnx", batch="n")
    assert [TorchMaps(tmp_path / "m.onnx", batch=n)._at_once for n in (None, 3)] == [1, 3]


class TestShares:
    @pytest.mark.parametrize("normalise", ["none", "sigmoid", "min-max"])
    @pytest.mark.parametrize("network", [{"batch": "n"}, {"channels": 1}, {"inner": "FLOAT16"}], ids=str)
    def test_as_the_masks(self, make_map, tmp_path, picture, rng, network, normalise):
        path = make_map(tmp_path / "m.onnx", last=LAST[normalise], **network)
        found = TorchMaps(path, mean=110, scale=60, normalise=normalise, batch=2)
        images = np.stack([picture(rng, (40, 56), np.float32) for _ in range(3)])
        shares = found.shares(torch.from_numpy(images))
        assert (shares.shape, shares.dtype) == ((3, 40, 56), torch.float32)
        masks, _ = found(images, axes="NHW")
        assert ((shares > found.manifest.threshold).numpy() != masks).mean() < 1e-3
        assert 0 < masks.mean() < 1

    @pytest.mark.parametrize("normalise", ["none", "sigmoid", "min-max"])
    def test_gradient(self, make_map, tmp_path, picture, rng, normalise):
        found = TorchMaps(
            make_map(tmp_path / "m.onnx", last=LAST[normalise]), mean=127, scale=255, normalise=normalise
        )
        with torch.inference_mode():  # what this leaves behind must not stand in the gradient's way
            resized(torch.zeros(1, 20, 24), 32, 32)
        image = torch.from_numpy(np.stack([picture(rng, (20, 24), np.float32) for _ in range(2)])).requires_grad_()
        weights = torch.from_numpy(rng.normal(size=(2, 20, 24)).astype(np.float32))

        def value(pictures):
            return (weights * found.shares(pictures)).sum()

        value(image).backward()
        ways = [torch.from_numpy(rng.normal(size=image.shape).astype(np.float32)) for _ in range(12)]
        told = np.array([float((image.grad * way).sum()) for way in ways])
        with torch.no_grad():
            slopes = np.array([float(value(image + 1e-3 * w) - value(image - 1e-3 * w)) / 2e-3 for w in ways])
        assert np.median(np.abs(told - slopes)) < 0.03 * np.abs(slopes).max()  # kinks of ReLU and pooling lie between
        assert np.corrcoef(told, slopes)[0, 1] > 0.99

    def test_constant_maps(self, make_map, tmp_path):
        """Nothing to stretch: nothing is foreground, and no gradient is infinite."""
        model = onnx.load(str(make_map(tmp_path / "m.onnx")))
        for tensor in model.graph.initializer:
            if tensor.name == "w2":
                tensor.raw_data = bytes(len(tensor.raw_data))
        onnx.save(model, str(tmp_path / "m.onnx"))
        image = torch.rand(1, 20, 24, requires_grad=True)
        shares = TorchMaps(tmp_path / "m.onnx", normalise="min-max").shares(image)
        shares.sum().backward()
        assert not shares.any()
        assert image.grad.isfinite().all()

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            (np.zeros((1, 20, 20), np.float32), r"received float32 \(1, 20, 20\)"),
            (torch.zeros(20, 20), r"received torch\.float32 \(20, 20\); accepted: a float32 tensor \(N, H, W\)"),
            (torch.zeros(1, 20, 20, dtype=torch.uint8), r"received torch\.uint8"),
            ([1.0], "received list"),
        ],
    )
    def test_bad_images(self, make_map, tmp_path, images, words):
        with pytest.raises(InvalidTypeError, match=words):
            TorchMaps(make_map(tmp_path / "m.onnx")).shares(images)


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "error", "words"),
        [
            ({"dtype": "float16"}, InvalidArgumentError, "dtype: received 'float16'; accepted: 'float32', 'bfloat16'"),
            ({"device": "gpu"}, InvalidArgumentError, "device: received 'gpu'"),
            ({"device": "cuda:99"}, ModelError, "'cuda:99' is not there"),
            ({"std": 3}, InvalidArgumentError, "settings: received the unknown key 'std'; accepted: size, mean"),
            ({"output": "none"}, InvalidArgumentError, "output: received 'none'; .* has map, side"),
            ({"size": 64}, InvalidArgumentError, "size: received 64; accepted: 32"),
        ],
        ids=str,
    )
    def test_settings(self, make_map, tmp_path, settings, error, words):
        with pytest.raises(error, match=words):
            TorchMaps(make_map(tmp_path / "m.onnx"), **settings)

    def test_prompts(self, make_map, tmp_path):
        with pytest.raises(InvalidArgumentError, match="received a Prompt; accepted: 'auto'"):
            TorchMaps(make_map(tmp_path / "m.onnx"))(np.zeros((40, 50), np.uint8), Prompt(boxes=[[0, 0, 5, 5]]))

    def test_files(self, make_map, tmp_path):
        (tmp_path / "bad.onnx").write_bytes(b"no graph")
        with pytest.raises(ModelError, match=r"bad\.onnx: not an ONNX model"):
            TorchMaps(tmp_path / "bad.onnx")

        def changed(change):
            model = onnx.load(str(make_map(tmp_path / "m.onnx")))
            change(model.graph)
            (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
            return tmp_path / "m.onnx"

        def unknown(graph):
            graph.node[1].op_type = "Mystery"

        def cycle(graph):
            graph.node[0].input[0] = "h2"

        def nothing(graph):
            del graph.node[-2]

        def integers(graph):
            graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8

        for change, words in (
            (unknown, "cannot be converted to torch: .*Mystery"),
            (cycle, "cannot be converted to torch: .*cycle"),
            (nothing, "cannot be converted to torch"),
            (integers, "takes integers"),
        ):
            with pytest.raises(ModelError, match=words):
                TorchMaps(changed(change))

    def test_weights_outside_of_the_directory(self, make_map, tmp_path):
        path = tmp_path / "inside" / "m.onnx"
        model = onnx.load(str(make_map(tmp_path / "m.onnx")))
        path.parent.mkdir()
        onnx.save(model, str(path), save_as_external_data=True, location="m.onnx.data", size_threshold=100)
        TorchMaps(path)
        path.with_name("m.onnx.data").rename(tmp_path / "secret")
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../secret"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="not an ONNX model"):
            TorchMaps(path)
