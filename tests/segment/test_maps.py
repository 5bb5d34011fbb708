"""Maps and masks against ONNX Runtime called by hand, with Pillow's resizing."""

import copy
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError, ModelError
from sdie_fast.segment import Auto, OnnxSegmenter, Options, Prompt, Support
from sdie_fast.segment.maps import MapSegmenter

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SHAPES = [((40, 56), np.uint8), ((56, 40, 3), np.uint8), ((24, 90), np.uint16), ((32, 32, 3), np.float32)]


def stretched(plane, height, width):
    """Pillow's bilinear resizing of a float32 plane."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def by_hand(path, image, size, mean=0.0, scale=255.0, output="map"):
    """What the network gives for a picture, float32 (h, w)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[image.dtype.type]
    planes = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1) * (255.0 / white)
    if given.shape[1] == 1 and len(planes) == 3:
        planes = (0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2])[None]
    if given.shape[1] == 3 and len(planes) == 1:
        planes = np.repeat(planes, 3, 0)
    planes = np.stack([stretched(plane, size, size) for plane in planes])
    planes = (planes - np.reshape(mean, (-1, 1, 1))) / np.reshape(scale, (-1, 1, 1))
    dtype = np.float16 if given.type == "tensor(float16)" else np.float32
    return session.run([output], {given.name: planes[None].astype(dtype)})[0][0, 0].astype(np.float32)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def constant(tmp_path):
    """Makes a segmenter whose map is an array, whatever the picture."""

    def make(values, **settings):
        values = np.asarray(values, np.float32)
        helper, real = onnx.helper, onnx.TensorProto.FLOAT
        nodes = [
            helper.make_node("ReduceMin", ["x"], ["least"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Mul", ["least", "none"], ["zero"]),
            helper.make_node("Add", ["zero", "values"], ["map"]),
        ]
        graph = helper.make_graph(
            nodes, "constant",
            [helper.make_tensor_value_info("x", real, ["n", 1, 16, 16])],
            [helper.make_tensor_value_info("map", real, ["n", 1, *values.shape])],
            [onnx.numpy_helper.from_array(v, n) for v, n in ((np.zeros(1, np.float32), "none"), (values, "values"))],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, str(tmp_path / "constant.onnx"))
        return OnnxSegmenter(tmp_path / "constant.onnx", **settings)

    return make


class TestAgainstTheRuntime:
    @pytest.mark.parametrize(
        "network",
        [
            {},
            {"batch": "n"},
            {"channels": 1},
            {"real": "FLOAT16"},
            {"inner": "FLOAT16"},
            {"side": 31},
            {"side": 31, "channels": 1, "real": "FLOAT16"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize(("shape", "dtype"), SHAPES, ids=str)
    def test_maps_and_masks(self, make_map, tmp_path, picture, rng, network, shape, dtype):
        path = make_map(tmp_path / "m.onnx", **network)
        mean, scale = ([100.0, 120.0, 90.0], [50.0, 60.0, 70.0]) if network.get("channels", 3) == 3 else (110.0, 60.0)
        segmenter = OnnxSegmenter(path, mean=mean, scale=scale, normalise="min-max", threshold=0.6)
        image = picture(rng, shape, dtype)
        expected = by_hand(path, image, network.get("side", 32), mean, scale)
        (found,) = segmenter.maps(image)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=4e-3 if "FLOAT16" in network.values() else 1e-4)
        mask, _ = segmenter(image)
        share = (stretched(expected, *shape[:2]) - expected.min()) / np.ptp(expected)
        assert 0.02 < (share > 0.6).mean() < 0.98
        assert iou(mask, share > 0.6) > 0.97

    @pytest.mark.parametrize("batch", [1, "n"])
    def test_a_batch_changes_nothing(self, make_map, tmp_path, picture, rng, batch):
        segmenter = OnnxSegmenter(make_map(tmp_path / "m.onnx", batch=batch), batch=2)
        sizes = []
        run = segmenter._run
        segmenter._run = lambda given: (sizes.append(len(given)), run(given))[1]
        images = [picture(rng, shape, np.uint8) for shape in ((40, 50), (30, 30, 3), (50, 40), (40, 50), (33, 33))]
        together = segmenter.answer(images, "auto")
        assert sizes == ([1] * 5 if batch == 1 else [2, 2, 1])
        for image, answer in zip(images, together, strict=True):
            (alone,) = segmenter.answer(image, "auto")
            np.testing.assert_array_equal(answer.mask, alone.mask)
            assert answer.quality == pytest.approx(alone.quality, rel=1e-5)
            assert answer.mask.shape == image.shape[:2]
        masks, quality = segmenter(np.stack([images[0], images[3]]))
        assert masks.shape == (2, 40, 50)
        assert quality.tolist() == pytest.approx([together[0].quality, together[3].quality], rel=1e-5)

    def test_one_of_several_outputs(self, make_map, tmp_path, picture, rng):
        path, image = make_map(tmp_path / "m.onnx"), picture(rng, (40, 50), np.uint8)
        assert OnnxSegmenter(path).manifest.output == "map"
        side = OnnxSegmenter(path, output="side")
        np.testing.assert_allclose(side.maps(image)[0], by_hand(path, image, 32, output="side"), atol=1e-4)
        with pytest.raises(InvalidArgumentError, match=r"output: received 'mask'; .* has map, side"):
            OnnxSegmenter(path, output="mask")

    def test_threads_and_provider(self, make_map, tmp_path):
        segmenter = OnnxSegmenter(make_map(tmp_path / "m.onnx"), options=Options("cpu", threads=1))
        assert segmenter.providers == ("cpu",)
        assert segmenter._model.session.get_session_options().intra_op_num_threads == 1


class TestNormalise:
    RAW = np.array([[-6.0, 0.2, 0.45], [0.55, 0.8, 9.0]])

    @pytest.mark.parametrize(
        ("settings", "expected", "inner", "outer"),
        [
            ({}, RAW > 0.5, 2, 4),  # those above 0.7, those above 0.3
            ({"threshold": 0.0}, RAW > 0, 4, 5),
            ({"normalise": "sigmoid"}, RAW > 0, 1, 5),  # logits of 0.7 and 0.3: -0.85 and 0.85
            ({"normalise": "sigmoid", "threshold": 0.4}, np.log(0.4 / 0.6) < RAW, 4, 5),
            ({"normalise": "min-max"}, RAW > 1.5, 1, 5),
            ({"normalise": "min-max", "threshold": 1.0}, RAW > 9.0, None, None),
        ],
        ids=str,
    )
    def test_mask_quality_and_stability(self, constant, settings, expected, inner, outer):
        segmenter = constant(self.RAW, **settings)
        (answer,) = segmenter.answer(np.zeros((2, 3), np.uint8), "auto")
        np.testing.assert_array_equal(answer.mask, expected)
        assert answer.mask.dtype == bool
        if inner is None:
            assert (answer.quality, answer.stability) == (0, 0)
            return
        shares = 1 / (1 + np.exp(-self.RAW)) if segmenter.manifest.normalise == "sigmoid" else self.RAW
        assert answer.quality == pytest.approx(shares[expected].mean(), rel=1e-5)
        assert answer.stability == pytest.approx(inner / outer)
        _, quality = segmenter(np.zeros((2, 3), np.uint8))
        assert quality[0] == np.float32(answer.quality)

    @pytest.mark.parametrize("value", [-1e4, 1e4])
    def test_far_from_zero(self, constant, value):
        """No overflow, which would be an error here."""
        (found,) = constant(np.full((4, 4), value), normalise="sigmoid").maps(np.zeros((20, 20), np.uint8))
        np.testing.assert_array_equal(found, float(value > 0))

    @pytest.mark.parametrize(
        ("value", "normalise", "share"), [(0.7, "none", 1), (0.3, "none", 0), (0.7, "min-max", 0), (2, "sigmoid", 1)]
    )
    def test_constant_maps(self, constant, value, normalise, share):
        segmenter = constant(np.full((4, 4), value), normalise=normalise)
        (answer,) = segmenter.answer(np.zeros((20, 30), np.uint8), "auto")
        assert answer.mask.shape == (20, 30)
        assert answer.mask.mean() == share
        assert answer.stability == share * (value == 2)  # none of 0.7 is above 0.7
        assert (answer.quality > 0) == bool(share)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_no_numbers(self, constant, value):
        with pytest.raises(ModelError, match=r"constant\.onnx: output 'map' has NaN or infinite"):
            constant([[0.0, value]])(np.zeros((20, 30), np.uint8))


class TestSettings:
    JSON = '{"format": "sdie_fast map 1", "name": "drawn", "mean": 50, "normalise": "sigmoid", "threshold": 0.3}'

    def test_json_and_arguments(self, make_map, tmp_path):
        path = make_map(tmp_path / "m.onnx", json=self.JSON)
        told = OnnxSegmenter(path).manifest
        assert (told.name, told.mean, told.normalise, told.threshold) == ("drawn", (50.0,) * 3, "sigmoid", 0.3)
        assert (told.size, told.scale, told.output) == (32, (255.0,) * 3, "map")
        above = OnnxSegmenter(path, mean=(1, 2, 3), scale=4, normalise="none", threshold=0.0, size=32, output="side")
        told = above.manifest
        assert (told.mean, told.scale, told.normalise, told.threshold) == ((1, 2, 3), (4, 4, 4), "none", 0.0)
        assert (above.name, above.size, told.output) == ("drawn", 32, "side")
        assert OnnxSegmenter(tmp_path).path == path  # its directory

    def test_size(self, make_map, tmp_path):
        path = make_map(tmp_path / "m.onnx")
        assert OnnxSegmenter(path).size == 32
        with pytest.raises(InvalidArgumentError, match="size: received 64; accepted: 32"):
            OnnxSegmenter(path, size=64)
        model = onnx.load(str(path))
        for at in (2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[at].dim_param = "s"
        free = tmp_path / "free.onnx"
        onnx.save(model, str(free))
        with pytest.raises(InvalidArgumentError, match=r"size: received None; .* of any size"):
            OnnxSegmenter(free)
        assert OnnxSegmenter(free, size=48).size == 48

    @pytest.mark.parametrize(
        ("settings", "error", "words"),
        [
            ({"mean": "a"}, InvalidArgumentError, "mean: received 'a'"),
            ({"scale": 0}, InvalidArgumentError, "scale: received 0"),
            ({"normalise": "tanh"}, InvalidArgumentError, "normalise: received 'tanh'"),
            ({"threshold": 2}, InvalidArgumentError, "threshold: received 2"),
            ({"size": 1.5}, InvalidTypeError, "size: received 1.5"),
            ({"output": 3}, InvalidTypeError, "output: received 3"),
            ({"batch": 0}, InvalidArgumentError, "batch: received 0"),
            ({"options": Options("npu")}, InvalidArgumentError, "provider: received 'npu'"),
        ],
        ids=str,
    )
    def test_bad_ones(self, make_map, tmp_path, settings, error, words):
        with pytest.raises(error, match=words):
            OnnxSegmenter(make_map(tmp_path / "m.onnx"), **settings)

    def test_the_hash(self, make_map, tmp_path):
        path = make_map(tmp_path / "m.onnx")
        right = OnnxSegmenter(path).hash
        for value, fits in ((right, True), ("0" * 64, False)):
            path.with_suffix(".json").write_text(json.dumps({"format": "sdie_fast map 1", "sha256": value}))
            if fits:
                OnnxSegmenter(path)
                continue
            with pytest.raises(ModelError, match=f"its SHA-256 is {right}, not 0000"):
                OnnxSegmenter(path)

    def test_fingerprints(self, make_map, tmp_path):
        """What answers depend on, and nothing else: not a name, nor where the file lies."""
        path, other = make_map(tmp_path / "m.onnx"), make_map(tmp_path / "other.onnx", seed=1)
        same = shutil.copy(path, tmp_path / "same.onnx")
        same.with_suffix(".json").write_text('{"format": "sdie_fast map 1", "name": "x", "source": "y"}')
        first = OnnxSegmenter(path).fingerprint
        assert first == OnnxSegmenter(path, size=32, threshold=0.5, batch=3).fingerprint
        assert first == OnnxSegmenter(same).fingerprint
        different = [OnnxSegmenter(other).fingerprint, OnnxSegmenter(path, output="side").fingerprint, first]
        different += [OnnxSegmenter(path, **s).fingerprint for s in ({"mean": 1}, {"scale": 1}, {"threshold": 0.4})]
        assert len({*different}) == len(different)

    def test_pickles_and_copies(self, make_map, tmp_path, monkeypatch, picture, rng):
        make_map(tmp_path / "m.onnx", batch="n")
        monkeypatch.chdir(tmp_path)
        segmenter = OnnxSegmenter("m.onnx", threshold=0.7, options=Options("cpu", 1), batch=2)
        monkeypatch.chdir("/")
        image = picture(rng, (40, 50), np.uint8)
        for again in (pickle.loads(pickle.dumps(segmenter)), copy.deepcopy(segmenter)):
            assert again.fingerprint == segmenter.fingerprint
            assert again._at_once == 2
            np.testing.assert_array_equal(again(image)[0], segmenter(image)[0])


@pytest.fixture(scope="module")
def segmenter(make_map, tmp_path_factory):
    return OnnxSegmenter(make_map(tmp_path_factory.mktemp("map") / "m.onnx"))


class TestPrompts:
    def test_auto_is_accepted(self, segmenter):
        images = np.zeros((2, 40, 50), np.uint8)
        usual = segmenter.answer(images, "auto")
        for prompt, options in ((Auto(), {}), ([Auto()] * 2, None), ("auto", {"grid": 12, "quality": None})):
            for one, other in zip(segmenter.answer(images, prompt, options), usual, strict=True):
                np.testing.assert_array_equal(one.mask, other.mask)
        assert not segmenter.takes_prompts

    @pytest.mark.parametrize(
        ("prompt", "options", "words"),
        [
            (Auto(grid=3, quality=0.5), {}, r"'auto' with grid=3, quality=0\.5; accepted: 'auto' without options"),
            ("auto", {"grid": 3}, "'auto' with grid=3; accepted: 'auto' without options"),
            (Prompt(boxes=[[0, 0, 5, 5]]), {}, "received a Prompt; accepted: 'auto'"),
            ([Auto(), Prompt(boxes=[[0, 0, 5, 5]])], {}, "received a Prompt"),
            (Support([np.zeros((8, 8), np.uint8)], [np.ones((8, 8), bool)]), {}, "received a Support"),
            ("auto", {"points": 3}, "unknown key 'points'"),
            ("point", {}, "received 'point'"),
            ([Auto()], {}, r"received 1 for 2 image\(s\)"),
        ],
        ids=["an Auto", "options", "a Prompt", "one of two", "a Support", "unknown options", "a word", "too few"],
    )
    def test_others_are_refused(self, segmenter, prompt, options, words):
        with pytest.raises(InvalidArgumentError, match=words):
            segmenter.answer(np.zeros((2, 40, 50), np.uint8), prompt, options)

    def test_there_is_nothing_to_decode(self, segmenter):
        embedding = segmenter.encode(np.zeros((40, 50), np.uint8))
        assert embedding.features.shape == (1, 32, 32)
        with pytest.raises(InvalidArgumentError, match="m maps a picture to its foreground and cannot be pointed at"):
            segmenter.decode(embedding, Prompt(boxes=[[0, 0, 5, 5]]))
        with pytest.raises(InvalidTypeError, match="prompt: received int"):
            segmenter.answer(np.zeros((40, 50), np.uint8), 3)

    @pytest.mark.parametrize("images", [np.zeros((40, 50), np.int32), [], np.zeros((4, 4, 4, 4), np.uint8)])
    def test_bad_images(self, segmenter, images):
        with pytest.raises((InvalidArgumentError, InvalidTypeError), match=r"images?: received"):
            segmenter(images)


def test_what_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        MapSegmenter("m.onnx", 1)


@pytest.mark.skipif("SDIE_FAST_ISNET" not in os.environ, reason="set SDIE_FAST_ISNET to what fetch-segmenter wrote")
def test_isnet(data):
    """ISNet on photographs: ONNX Runtime's masks as by hand, torch's in bfloat16 nearly."""
    segmenter = OnnxSegmenter(os.environ["SDIE_FAST_ISNET"])
    assert segmenter.name.startswith("ISNet")
    pytest.importorskip("onnx2torch")
    from sdie_fast.segment.torch_maps import TorchMaps

    in_torch = TorchMaps(segmenter.path, dtype="bfloat16")
    for name in (
        "MT_Break/Images/MT_Break_11.jpg",
        "MT_Crack/Images/MT_Crack_1.jpg",
        "Steel_Pa/Images/Steel_Pa_100.png",
    ):
        file = data / "defects-dev" / name
        image = np.asarray(Image.open(file).convert("L"))
        raw = by_hand(segmenter.path, image, 1024, 128.0, 256.0, "output")
        share = (stretched(raw, *image.shape) - raw.min()) / np.ptp(raw)
        mask, _ = segmenter(image)
        assert iou(mask, share > 0.5) > 0.999, file.name
        assert iou(in_torch(image)[0], mask) > 0.9, file.name
