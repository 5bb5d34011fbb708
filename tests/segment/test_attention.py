"""Exports of a ViT: small ones for every path, and, with `-m slow`, ViT-B at full size."""

import copy
import importlib
import shutil

import numpy as np
import pytest

from sdie_fast.errors import InvalidArgumentError, ModelError
from sdie_fast.segment import Options, Prompt, Sam

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")
onnx = pytest.importorskip("onnx")

from sdie_fast.segment import export  # noqa: E402
from sdie_fast.segment.checkpoint import build, load_checkpoint  # noqa: E402
from sdie_fast.segment.modules import FusedAttention, RowAttention, restate  # noqa: E402
from sdie_fast.segment.torch_sam import TorchSam  # noqa: E402


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 16])
def test_rows_are_the_whole(small_vit, rows):
    whole = small_vit.image_encoder.blocks[1].attn
    x = torch.randn(2, 10, 10, 48)
    with torch.no_grad():
        assert torch.allclose(RowAttention(whole, rows)(x), whole(x), atol=1e-5)


@pytest.mark.parametrize("block", [0, 1])  # over windows; over the whole
def test_fused_is_the_whole(small_vit, block):
    whole = small_vit.image_encoder.blocks[block].attn
    side = (4, 10)[block]
    x = torch.randn(5, side, side, 48)
    fused = FusedAttention(whole)
    assert fused.place.shape[1] % 8 == (-16 % 8)  # with the channels, a multiple of 8
    with torch.no_grad():
        assert torch.allclose(fused(x), whole(x), atol=1e-5)


def test_restated(small_vit):
    """By rows only where attention is over the whole; fused everywhere; an encoder without attention as it is."""
    for attention, kinds in ((RowAttention, ["Attention", "RowAttention"]), (FusedAttention, ["FusedAttention"] * 2)):
        encoder = copy.deepcopy(small_vit.image_encoder)
        restate(encoder, attention)
        assert [type(b.attn).__name__ for b in encoder.blocks] == kinds
    restate(torch.nn.Identity(), RowAttention)


@pytest.fixture(scope="module")
def decoder_file(small_vit, tmp_path_factory):
    path = tmp_path_factory.mktemp("vit") / "decoder.onnx"
    export.export_decoder(small_vit, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_precisions(small_vit, decoder_file, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(export, "export_decoder", lambda _sam, path: shutil.copy(decoder_file, path))
    directory = tmp_path / precision
    manifest = export.export_sam(None, directory, architecture="vit_b", model=small_vit, precision=precision)
    error = manifest.parity["embedding_error"]
    assert {"fp32": error < 1e-4, "fp16": 1e-5 < error < 3e-2, "int8": 1e-3 < error < 0.5}[precision]
    graph = onnx.load(str(directory / "encoder.onnx")).graph
    integer = [n for n in graph.node if n.op_type == "MatMulInteger"]
    # Each block's qkv, projection and two of the perceptron.
    assert len(integer) == (8 if precision == "int8" else 0)
    # The model that was exported is left as it was.
    assert {type(b.attn).__name__ for b in small_vit.image_encoder.blocks} == {"Attention"}
    assert {p.dtype for p in small_vit.parameters()} == {torch.float32}
    sam = Sam(directory)
    assert sam.providers == ("cpu", "cpu")
    image = np.random.default_rng(0).integers(0, 256, (100, 160), np.uint8)
    for n in (1, 3):
        assert sam.encode([image] * n).features.shape == (n, 32, 10, 10)
    if precision == "int8":
        with pytest.raises(ModelError, match="int8 model runs on the CPU"):
            Sam(directory, Options("cuda"))


def test_int8_is_for_vit(torch_sam, tmp_path):
    with pytest.raises(InvalidArgumentError, match="no linear layers"):
        export.export_sam(None, tmp_path / "c", architecture="small", model=torch_sam, precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_the_official_layout(tmp_path, monkeypatch):
    """Known by its width; here with two of ViT-B's twelve layers, for small pictures."""
    theirs = importlib.import_module("segment_anything.build_sam")
    encoder, prompts = theirs.ImageEncoderViT, theirs.PromptEncoder
    cells = {"image_embedding_size": (4, 4), "input_image_size": (64, 64)}
    monkeypatch.setattr(theirs, "ImageEncoderViT", lambda **given: encoder(**given | {"img_size": 64}))
    monkeypatch.setattr(theirs, "PromptEncoder", lambda **given: prompts(**given | cells))
    monkeypatch.setitem(theirs.sam_model_registry, "vit_b", lambda: theirs._build_sam(768, 2, 12, [1]))
    model = build("vit_b")
    torch.save(model.state_dict(), tmp_path / "sam_vit_b.pth")
    loaded, architecture = load_checkpoint(tmp_path / "sam_vit_b.pth")
    assert architecture == "vit_b"
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    sam = TorchSam(tmp_path / "sam_vit_b.pth")
    assert (sam.name, sam.size, sam.thresholds) == ("SAM vit_b float32, torch", 64, (0.88, 0.95))
    image = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)
    mask, quality = sam(image, Prompt(boxes=np.array([[10.0, 10.0, 50.0, 40.0]])))
    assert mask.shape == (60, 80)
    assert np.isfinite(quality).all()


@pytest.mark.slow
def test_vit_b_at_full_size(tmp_path, randomise_positions):
    """From a checkpoint file of the official layout to masks."""
    torch.manual_seed(0)
    torch.save(randomise_positions(build("vit_b")).state_dict(), tmp_path / "sam_vit_b.pth")
    manifest = export.export_sam(tmp_path / "sam_vit_b.pth", tmp_path / "vit_b")
    assert (manifest.name, manifest.size, manifest.channels) == ("vit_b", 1024, 256)
    assert manifest.parity["embedding_error"] < 1e-4
    assert manifest.parity["mask_iou"] > 0.99
    torch_sam = TorchSam(tmp_path / "sam_vit_b.pth")
    (tmp_path / "sam_vit_b.pth").unlink()
    sam = Sam(tmp_path / "vit_b")
    image = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)
    prompt = Prompt(boxes=np.array([[10.0, 10.0, 50.0, 40.0]]))
    (mask, quality), (other, judged) = sam(image, prompt), torch_sam(image, prompt)
    assert mask.shape == (60, 80)
    assert np.isfinite(quality).all()
    assert (mask & other).sum() / max((mask | other).sum(), 1) > 0.99
    assert np.abs(judged - quality).max() < 1e-4
