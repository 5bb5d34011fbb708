"""A segmenter by path: which class a file or a directory is for."""

import builtins
import re
import sys

import pytest

from sdie_fast.errors import InvalidArgumentError, MissingPackageError, ModelError
from sdie_fast.segment import OnnxSegmenter, Sam
from sdie_fast.segment.onnx import PROVIDERS, available, import_runtime
from sdie_fast.segment.opening import is_checkpoint, open_segmenter
from sdie_fast.segment.sam import SMALL_SAM

pytest.importorskip("onnxruntime")

JSON = '{"format": "sdie_fast map 1", "name": "drawn"}'


@pytest.fixture
def model(make_map, tmp_path):
    return make_map(tmp_path / "maps" / "m.onnx", json=JSON)


def test_by_onnx_runtime(model):
    for source in (None, SMALL_SAM):
        assert isinstance(open_segmenter(source), Sam)
    for source in (model, model.parent):
        found = open_segmenter(source, "cpu", threads=1)
        assert isinstance(found, OnnxSegmenter)
        assert (found.name, found.path) == ("drawn", model)
        assert found._model.session.get_session_options().intra_op_num_threads == 1


def test_in_torch(model, torch_sam, tmp_path):
    pytest.importorskip("onnx2torch")
    import torch

    from sdie_fast.segment.torch_maps import TorchMaps
    from sdie_fast.segment.torch_sam import TorchSam

    torch.save(torch_sam.state_dict(), tmp_path / "small.pt")
    for source, kind in ((model, TorchMaps), (model.parent, TorchMaps), (None, TorchSam)):
        found = open_segmenter(source, "cpu", backend="torch", dtype="bfloat16")
        assert isinstance(found, kind)
        assert found.dtype == "bfloat16"
    assert isinstance(open_segmenter(tmp_path / "small.pt"), TorchSam)


def test_threads_of_torch(model, monkeypatch):
    pytest.importorskip("onnx2torch")
    import torch

    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    for threads in (None, 3):
        open_segmenter(model, "cpu", threads, "torch")
    assert told == [3]


def test_checkpoints(model, tmp_path):
    (tmp_path / "sam.pth").touch()
    assert is_checkpoint(tmp_path / "sam.pth")
    assert not any(map(is_checkpoint, (None, tmp_path, model, tmp_path / "none.pth")))


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("maps/m.onnx", {"backend": "jax"}, InvalidArgumentError, "--segmenter-backend: received 'jax'"),
        ("maps/m.onnx", {"threads": 0}, InvalidArgumentError, "threads: received 0"),
        ("maps/m.onnx", {"provider": "npu"}, InvalidArgumentError, "provider: received 'npu'"),
        ("maps/m.onnx", {"dtype": "bfloat16"}, InvalidArgumentError, "--segmenter-dtype: received 'bfloat16'"),
        ("maps/m.onnx", {"backend": "torch", "provider": "tensorrt"}, InvalidArgumentError, "--provider: received"),
        ("sam.pth", {"backend": "onnx"}, InvalidArgumentError, "export-sam"),
        ("none.onnx", {}, ModelError, r"none\.onnx: no such file"),
        ("two", {}, ModelError, "two"),
    ],
    ids=str,
)
def test_refusals(make_map, model, tmp_path, source, options, error, words):
    if options.get("backend") == "torch":
        pytest.importorskip("onnx2torch")
    (tmp_path / "sam.pth").touch()
    for name in ("a", "b"):
        make_map(tmp_path / "two" / f"{name}.onnx", json=JSON)
    with pytest.raises(error, match=words):
        open_segmenter(tmp_path / source, **options)


def test_a_missing_package(model, monkeypatch):
    pytest.importorskip("torch")
    real = builtins.__import__

    def without(name, *given, **named):
        if name == "onnx2torch":
            raise ModuleNotFoundError("No module named 'onnx2torch'", name="onnx2torch")
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "sdie_fast.segment.torch_maps", raising=False)
    monkeypatch.delattr("sdie_fast.segment.torch_maps", raising=False)
    with pytest.raises(MissingPackageError, match=r'onnx2torch is missing: pip install "sdie-fast\[sam\]"'):
        open_segmenter(model, backend="torch")


def test_no_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    told = 'onnxruntime is missing: pip install "sdie-fast[cpu]", or "sdie-fast[gpu]" with an NVIDIA GPU'
    with pytest.raises(MissingPackageError, match=f"^{re.escape(told)}$"):
        import_runtime()
    assert available() == dict.fromkeys(PROVIDERS, told)
