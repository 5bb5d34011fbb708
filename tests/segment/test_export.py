import copy
import json
import shutil

import numpy as np
import pytest

from sdie_fast.errors import InvalidArgumentError, ModelError

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")
onnx = pytest.importorskip("onnx")

from sdie_fast.segment import Options, checkpoint, export  # noqa: E402
from sdie_fast.segment.onnx import open_session  # noqa: E402
from sdie_fast.segment.onnx_files import store_in_half, to_onnx  # noqa: E402
from sdie_fast.segment.sam import file_hash, load_manifest  # noqa: E402

# Shapes must follow from the batch alone; these make them follow from data, or are refused by TensorRT.
REFUSED = {
    "NonZero",
    "Loop",
    "If",
    "Scan",
    "Unique",
    "NonMaxSuppression",
    "Compress",
    "TopK",
    "GridSample",
}


def test_files_and_manifest(sam_dir):
    manifest = load_manifest(sam_dir)
    assert {p.name for p in sam_dir.iterdir()} == {"manifest.json", "encoder.onnx", "decoder.onnx"}
    assert manifest.files["encoder.onnx"] == file_hash(sam_dir / "encoder.onnx")
    assert (manifest.size, manifest.channels, manifest.embedding_size) == (256, 64, 32)
    assert manifest.parity["mask_iou"] >= 0.99
    assert manifest.parity["embedding_error"] < 1e-3
    assert "torch" in manifest.made_with


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_graph_suits_tensorrt(sam_dir, name):
    graph = onnx.load(str(sam_dir / f"{name}.onnx")).graph
    operators = {node.op_type for node in graph.node}
    assert not operators & REFUSED
    assert "orig_im_size" not in {i.name for i in graph.input}
    dynamic = {d.dim_param for i in graph.input for d in i.type.tensor_type.shape.dim if d.dim_param}
    assert dynamic == ({"batch"} if name == "encoder" else {"prompts", "points"})
    for node in graph.node:  # no dimension but the batch is computed
        if node.op_type == "Shape":
            begin = next((a.i for a in node.attribute if a.name == "start"), 0)
            assert begin in (0, 1), node


def test_gelu_is_one_pass(sam_dir, tmp_path):
    """Written in the order that onnxruntime knows, which changes no bit."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "fused.onnx")
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(str(sam_dir / "decoder.onnx"), settings, providers=["CPUExecutionProvider"])
    operators = [n.op_type for n in onnx.load(str(tmp_path / "fused.onnx")).graph.node]
    assert operators.count("Gelu") == 4
    assert "Erf" not in operators

    def answer(path):
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": np.linspace(-4, 4, 999, dtype=np.float32)[None]})[0]

    names, dynamic = (["x"], ["y"]), ({0: torch.export.Dim("batch", min=1, max=8)},)
    x = torch.zeros(2, 999)
    to_onnx(torch.nn.GELU(), (x,), tmp_path / "ordered.onnx", names, dynamic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdie_fast.segment.onnx_files._order_gelu", lambda _graph: None)
        to_onnx(torch.nn.GELU(), (x,), tmp_path / "plain.onnx", names, dynamic)
    plain, ordered = tmp_path / "plain.onnx", tmp_path / "ordered.onnx"
    assert plain.read_bytes() != ordered.read_bytes()
    np.testing.assert_array_equal(answer(plain), answer(ordered))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_nothing_of_the_exporting_machine(sam_dir, name):
    data = (sam_dir / f"{name}.onnx").read_bytes()
    assert b"stack_trace" not in data
    assert b".py" not in data


def as_exported(monkeypatch, directory):
    """Exporting takes the files of an earlier export: what is tested comes after."""
    monkeypatch.setattr(export, "export_encoder", lambda _sam, _kind, path: shutil.copy(directory / path.name, path))
    monkeypatch.setattr(export, "export_decoder", lambda _sam, path: shutil.copy(directory / path.name, path))


@pytest.mark.slow
def test_half_precision(torch_sam, sam_dir, tmp_path, monkeypatch):
    encode = export.export_encoder
    as_exported(monkeypatch, sam_dir)
    monkeypatch.setattr(export, "export_encoder", encode)
    manifest = export.export_sam(None, tmp_path / "half", architecture="small", model=torch_sam, precision="fp16")
    assert 1e-6 < manifest.parity["embedding_error"] < 3e-2
    graph = onnx.load(str(tmp_path / "half" / "encoder.onnx")).graph
    kinds = [t.data_type for t in graph.initializer if len(t.dims) == 4]
    assert kinds
    assert set(kinds) == {onnx.TensorProto.FLOAT16}
    assert (tmp_path / "half" / "encoder.onnx").stat().st_size < 5e6


def test_weights_that_half_holds_are_stored_so(sam_dir, tmp_path):
    """Half the bytes, the same numbers; a file whose weights need all bits stays as it is."""
    before = (sam_dir / "encoder.onnx").read_bytes()
    shutil.copy(sam_dir / "encoder.onnx", tmp_path / "whole.onnx")
    store_in_half(tmp_path / "whole.onnx")
    assert (tmp_path / "whole.onnx").read_bytes() == before
    model = onnx.load_from_string(before)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            rounded = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    images = np.random.default_rng(0).normal(0, 1, (1, 3, 256, 256)).astype(np.float32)
    path, answers = tmp_path / "encoder.onnx", []
    onnx.save(model, str(path))
    for _ in range(2):
        answers += open_session(path, Options("cpu"), key="0", precision="fp32").run(images=images)
        store_in_half(path)
    np.testing.assert_array_equal(*answers)
    assert path.stat().st_size < 0.6 * len(before)


def test_large_models_have_external_data(tmp_path, monkeypatch):
    """Weights beside the graph, found from wherever it is opened."""
    monkeypatch.setattr("sdie_fast.segment.onnx_files.EXTERNAL_OVER", 500_000)
    layer, x = torch.nn.Linear(400, 400), torch.randn(2, 400)
    to_onnx(layer, (x,), tmp_path / "m.onnx", (["x"], ["y"]), ({0: torch.export.Dim("batch", min=1, max=8)},))
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
    assert (tmp_path / "m.onnx").stat().st_size < 1e4
    (found,) = open_session(tmp_path / "m.onnx", Options("cpu"), key="0", precision="fp32").run(x=x.numpy())
    np.testing.assert_allclose(found, layer(x).detach().numpy(), atol=1e-5)


def test_checkpoints(torch_sam, tmp_path):
    path = tmp_path / "small.pt"
    torch.save(torch_sam.state_dict(), path)
    model, architecture = checkpoint.load_checkpoint(path)
    assert architecture == "small"
    assert not model.training
    for a, b in zip(model.parameters(), torch_sam.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ModelError, match=r"small\.pt: holds small, not vit_b"):
        checkpoint.load_checkpoint(path, "vit_b")
    state = torch_sam.state_dict()
    del state["image_encoder.fold.weight"]
    torch.save(state, path)
    with pytest.raises(ModelError, match="does not fit small"):
        checkpoint.load_checkpoint(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="not a checkpoint of segment-anything"):
        checkpoint.load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="not a state dictionary"):
        checkpoint.load_checkpoint(path)
    path.write_bytes(b"PK no")
    with pytest.raises(ModelError, match=r"small\.pt: not a checkpoint"):
        checkpoint.load_checkpoint(path)
    with pytest.raises(ModelError, match="no such file"):
        checkpoint.load_checkpoint(tmp_path / "none.pt")


def test_pickled_code_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"image_encoder.stem.weight": Hostile()}, tmp_path / "h.pt")
    with pytest.raises(ModelError, match="not a checkpoint"):
        checkpoint.load_checkpoint(tmp_path / "h.pt")


def test_failed_parity_writes_nothing(torch_sam, sam_dir, tmp_path, monkeypatch):
    as_exported(monkeypatch, sam_dir)
    monkeypatch.setitem(export.PARITY_IOU, "fp32", 1.1)
    with pytest.raises(ModelError, match="differs from torch's"):
        export.export_sam(None, tmp_path / "m", architecture="small", model=torch_sam)
    assert list(tmp_path.iterdir()) == []


def test_parity_sees_wrong_weights(torch_sam, sam_dir):
    other = copy.deepcopy(torch_sam)
    with torch.no_grad():
        other.mask_decoder.output_upscaling[1].weight *= -1.0
    measured = export.measure_parity(other, sam_dir, load_manifest(sam_dir))
    assert measured["mask_iou"] < 0.9
    with torch.no_grad():
        other.image_encoder.stem.weight *= 1.1
    assert export.measure_parity(other, sam_dir, load_manifest(sam_dir))["embedding_error"] > 1e-3


def test_bad_arguments(tmp_path, torch_sam):
    with pytest.raises(InvalidArgumentError, match="precision"):
        export.export_sam(None, tmp_path / "m", model=torch_sam, precision="int4")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InvalidArgumentError, match="something in it"):
        export.export_sam(None, tmp_path / "full", model=torch_sam)
    with pytest.raises(InvalidArgumentError, match="checkpoint: received None"):
        export.export_sam(None, tmp_path / "m")
    with pytest.raises(InvalidArgumentError, match="architecture"):
        checkpoint.build("vit_x")


def test_manifest_refusals(sam_dir, tmp_path):
    def broken(change):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(sam_dir, directory)
        change(directory)
        return directory

    def edit(**values):
        def change(directory):
            path = directory / "manifest.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | values))

        return change

    def truncate(directory):
        file = directory / "encoder.onnx"
        file.write_bytes(file.read_bytes()[:-100])

    for change, message in (
        (truncate, r"encoder\.onnx: not the file"),
        (lambda d: (d / "decoder.onnx").unlink(), r"decoder\.onnx: no such file"),
        (lambda d: (d / "manifest.json").unlink(), "no such file"),
        (lambda d: (d / "manifest.json").write_text("{"), "cannot be read"),
        (edit(format="x"), "another format"),
        (edit(size=-1), "sizes"),
        (edit(precision="fp8"), "precision"),
        (edit(files={}), "names no encoder"),
        (edit(surplus=1), "not a valid manifest"),
        (
            edit(files={"encoder.onnx": "", "decoder.onnx": "", "../x": ""}),
            "outside of its directory",
        ),
    ):
        with pytest.raises(ModelError, match=message):
            load_manifest(broken(change))
