"""Which files are models of maps: their interface, their weights beside them, and what is refused."""

import numpy as np
import pytest

from sdie_fast.errors import InvalidTypeError, ModelError
from sdie_fast.segment import OnnxSegmenter

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def model_file(path, shape=("n", 3, 32, 32), real=None, inputs=1, output=("n", 1, 32, 32)):
    """A model of that interface, which passes a channel on."""
    helper, real = onnx.helper, real or onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x0", "at", "end", "axis"], ["y"])],
        "part",
        [helper.make_tensor_value_info(f"x{k}", real, shape) for k in range(inputs)],
        [helper.make_tensor_value_info("y", real, output)],
        [onnx.numpy_helper.from_array(np.array([v]), n) for v, n in ((0, "at"), (output[1], "end"), (1, "axis"))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        ({"inputs": 2}, "has 2 inputs; accepted: one"),
        ({"inputs": 0}, "cannot be run|has 0 inputs"),
        ({"shape": ("n", 4, 32, 32)}, r"its input is \['n', 4, 32, 32\]; accepted: \(N, 3, S, S\)"),
        ({"shape": ("n", 3, 32, 64)}, "its input is"),
        ({"shape": ("n", 3, 32)}, "its input is"),
        ({"shape": (2, 3, 32, 32), "output": (2, 1, 32, 32)}, "takes 2 pictures at once"),
        ({"real": onnx.TensorProto.INT32}, "and takes integers; accepted: .* real numbers"),
    ],
    ids=str,
)
def test_interfaces_that_do_not_fit(tmp_path, interface, words):
    with pytest.raises(ModelError, match=words):
        OnnxSegmenter(model_file(tmp_path / "m.onnx", **interface))


def test_an_output_that_is_no_map(tmp_path):
    segmenter = OnnxSegmenter(model_file(tmp_path / "m.onnx", output=("n", 2, 32, 32)))
    with pytest.raises(ModelError, match=r"output 'y' is \(1, 2, 32, 32\) for 1 picture\(s\); accepted: \(N, 1"):
        segmenter(np.zeros((40, 50), np.uint8))


def test_a_run_that_fails(make_map, tmp_path):
    """A file that claims to take many pictures, and does not."""
    model = onnx.load(str(make_map(tmp_path / "m.onnx")))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.output[1]
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, str(tmp_path / "m.onnx"))
    segmenter = OnnxSegmenter(tmp_path / "m.onnx")
    assert segmenter.maps(np.zeros((40, 50), np.uint8))[0].shape == (32, 32)
    with pytest.raises(ModelError, match=r"m\.onnx: failed on an input of shape \(2, 3, 32, 32\): "):
        segmenter(np.zeros((2, 40, 50), np.uint8))


def test_no_model(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    for path, words in (
        ("bad.onnx", r"bad\.onnx: cannot be run"),
        ("none.onnx", r"none\.onnx: no such file"),
        ("", "accepted: an .onnx file, or a directory with one"),
        ("model.pth", "accepted: an .onnx file"),
    ):
        with pytest.raises(ModelError, match=words):
            OnnxSegmenter(tmp_path / path)
    with pytest.raises(InvalidTypeError, match="path: received 3"):
        OnnxSegmenter(3)


def test_weights_beside(make_map, tmp_path, picture, rng):
    """They are read where they lie below the model's folder, are part of its fingerprint, and nowhere else."""
    image, plain = picture(rng, (40, 50), np.uint8), OnnxSegmenter(make_map(tmp_path / "m.onnx"))
    path = tmp_path / "outside" / "m.onnx"
    path.parent.mkdir()
    onnx.save(
        onnx.load(str(plain.path)),
        str(path),
        save_as_external_data=True,
        location="m.onnx.data",
        size_threshold=100,
    )
    beside = OnnxSegmenter(path)
    np.testing.assert_array_equal(beside.maps(image)[0], plain.maps(image)[0])
    data = path.with_name("m.onnx.data")
    kept = data.read_bytes()
    data.write_bytes(bytes(len(kept)))
    assert OnnxSegmenter(path).fingerprint != beside.fingerprint
    for location in ("../secret", str(tmp_path / "secret")):
        (tmp_path / "secret").write_bytes(kept)
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=r"m\.onnx: cannot be run"):
            OnnxSegmenter(path)
