"""What the manifest of graphs that others export may say, and which graphs are refused."""

import shutil

import numpy as np
import pytest
from exported_graphs import CELLS, MEAN, SIDE, SIZE, WIDTH, describe

from sdie_fast.errors import ModelError
from sdie_fast.segment import Prompt, Sam

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)


@pytest.fixture
def sam2(graph_folders, tmp_path):
    """A copy whose manifest may be changed: `sam2(**values)`."""
    directory = tmp_path / "sam2"
    shutil.copytree(graph_folders("sam2"), directory)
    return lambda **values: describe(directory, **{"graph": "sam2"} | values)


def test_the_least_manifest(sam2):
    """Without sizes a model is as large as those that are published; this one is not."""
    with pytest.raises(ModelError, match=r"image has the shape \(1, 3, 128, 128\); .*'sam2'.*\(1, 3, 1024, 1024\)"):
        Sam(sam2(size=None, channels=None, embedding_size=None))
    with pytest.raises(ModelError, match=r"image_embed has the shape .* accepted .*\(1, 256, 8, 8\)"):
        Sam(sam2(channels=None))
    sam = Sam(sam2(name="small"))
    assert (sam.name, sam.size, sam.thresholds) == ("SAM small fp32", SIZE, (0.88, 0.95))
    assert sam.manifest.pixel_mean == pytest.approx(MEAN)


def test_hashes(sam2):
    """Checked where they are given, made where they are not: other files, other answers kept."""
    directory = sam2()
    own = Sam(directory).manifest.files
    assert sorted(own) == ["t.decoder.onnx", "t.encoder.onnx"]
    assert Sam(sam2(files=own)).fingerprint == Sam(sam2(files={})).fingerprint
    with pytest.raises(ModelError, match=r"t\.encoder\.onnx: not the file that"):
        Sam(sam2(files={"t.encoder.onnx": own["t.decoder.onnx"]}))
    before = Sam(sam2()).fingerprint
    (directory / "t.encoder_data.bin").write_bytes(b"weights")
    assert Sam(directory).fingerprint != before


def test_means(sam2, picture):
    usual = Sam(sam2()).encode(picture).numpy()
    other = Sam(sam2(pixel_mean=[0, 0, 0], pixel_std=[255, 255, 255])).encode(picture).numpy()
    assert np.abs(usual - other).max() > 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"graph": "sam3"}, "graph: received 'sam3'; accepted: sdie_fast, samexporter, sam-hq, sam2, efficientsam"),
        ({"graph": []}, "not a valid manifest"),
        ({"graph": None}, "pixel_mean: received \\(\\); accepted: three numbers"),
        ({"graph": "samexporter"}, r"t\.encoder\.onnx: its inputs are image; accepted for 'samexporter': input_image"),
        ({"name": None}, "not a valid manifest"),
        ({"surplus": 1}, "not a valid manifest"),
        ({"encoder": "x.onnx"}, r"x\.onnx: no such file"),
        ({"encoder": "../x.onnx"}, "outside of its directory"),
        ({"encoder": 3}, "not a valid manifest"),
        ({"decoder": "t.encoder.onnx"}, r"t\.encoder\.onnx: its inputs are image; accepted for 'sam2': image_embed, "),
        (
            {"encoder": "t.decoder.onnx"},
            r"t\.decoder\.onnx: its inputs are image_embed, .*accepted for 'sam2': image$",
        ),
        ({"pixel_std": [1, 0, 1]}, "pixel_std: received"),
        ({"pixel_mean": [1, 2]}, "pixel_mean: received"),
        ({"pixel_mean": "abc"}, "not a valid manifest"),
        ({"size": "big"}, "sizes"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_refusals(sam2, values, message):
    with pytest.raises(ModelError, match=message):
        Sam(sam2(**values))


def graph(path, inputs, outputs):
    """A graph that only has inputs and outputs: {name: (type, shape)}, each output one constant."""
    helper, types = onnx.helper, onnx.TensorProto
    sides = [[helper.make_tensor_value_info(n, *own) for n, own in side.items()] for side in (inputs, outputs)]
    nodes = []
    for name, (_, shape) in outputs.items():
        value = onnx.numpy_helper.from_array(np.zeros([n if isinstance(n, int) else 1 for n in shape], np.float32))
        nodes.append(helper.make_node("Constant", [], [name], value=value))
    made = helper.make_graph(nodes, "g", *sides)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return types


def test_graphs_that_do_not_fit(tmp_path):
    kinds = onnx.TensorProto
    encoder = {"batched_images": (kinds.FLOAT, ["n", 3, "h", "w"])}
    maps = {"image_embeddings": (kinds.FLOAT, [1, WIDTH, CELLS, CELLS])}
    inputs = maps | {
        "batched_point_coords": (kinds.FLOAT, [1, "q", "p", 2]),
        "batched_point_labels": (kinds.INT32, [1, "q", "p"]),
        "orig_im_size": (kinds.INT64, [2]),
    }
    outputs = {"output_masks": (kinds.FLOAT, [1, 1, 2, SIDE, SIDE]), "iou_predictions": (kinds.FLOAT, [1, 1, 2])}
    picture = np.zeros((60, 70), np.uint8)

    def opened(encoder=encoder, maps=maps, inputs=inputs, outputs=outputs):
        graph(tmp_path / "t.encoder.onnx", encoder, maps)
        graph(tmp_path / "t.decoder.onnx", inputs, outputs)
        return Sam(describe(tmp_path, graph="efficientsam"))

    sam = opened()
    with pytest.raises(ModelError, match=r"returned masks \(1, 2, 32, 32\) .*accepted: 1, 3 or 4"):
        sam.decode(sam.encode(picture), Prompt([[[20, 30]]], [[1]]))
    for changed, message in (
        ({"encoder": {"batched_images": (kinds.FLOAT16, ["n", 3, "h", "w"])}}, r"type tensor\(float16\)"),
        ({"encoder": {"batched_images": (kinds.FLOAT, [2, 3, "h", "w"])}}, r"accepted .*\(1, 3, 128, 128\) or \(any"),
        ({"maps": {"embedding": maps["image_embeddings"]}}, "its outputs are embedding; accepted"),
        ({"inputs": inputs | {"batched_point_coords": (kinds.FLOAT, [1, 5, "p", 2])}}, "batched_point_coords has"),
        ({"inputs": inputs | {"orig_im_size": (kinds.DOUBLE, [2])}}, r"type tensor\(double\); .*tensor\(int64\)"),
        ({"inputs": inputs | {"extra": (kinds.FLOAT, [1])}}, "its inputs are .*extra; accepted"),
        ({"outputs": {"masks": outputs["output_masks"]}}, "its outputs are masks; accepted"),
    ):
        with pytest.raises(ModelError, match=message):
            opened(**changed)


def test_a_graph_that_fails(graph_folders, tmp_path, picture):
    """Shapes may allow what the graph does not."""
    shutil.copytree(graph_folders("sam2"), tmp_path / "m")
    path = tmp_path / "m" / "t.encoder.onnx"
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(path))
    sam = Sam(tmp_path / "m")
    with pytest.raises(ModelError, match=r"t\.encoder\.onnx: cannot be run: "):
        sam.encode([picture, picture])
