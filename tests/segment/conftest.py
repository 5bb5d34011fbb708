"""Small SAMs with random weights, one of them exported once: its answers mean nothing, but they are torch's."""

import pytest


@pytest.fixture(scope="session")
def torch_sam():
    torch = pytest.importorskip("torch")
    pytest.importorskip("segment_anything")
    from sdie_fast.segment.small import build_small_sam

    torch.manual_seed(3)
    return build_small_sam()


@pytest.fixture(scope="session")
def exported(torch_sam, tmp_path_factory):
    """The one export of the small SAM, by the command: its directory, and what was said."""
    pytest.importorskip("onnxscript")
    import torch
    from typer.testing import CliRunner

    from sdie_fast.cli import app

    folder = tmp_path_factory.mktemp("models")
    torch.save(torch_sam.state_dict(), folder / "small.pt")
    done = CliRunner().invoke(app, ["export-sam", str(folder / "small.pt"), str(folder / "small")])
    assert done.exit_code == 0, done.output
    return folder / "small", done.output


@pytest.fixture(scope="session")
def sam_dir(exported):
    return exported[0]


@pytest.fixture(scope="session")
def sam(sam_dir):
    from sdie_fast.segment import Sam

    return Sam(sam_dir, prompts=5, batch=3)


@pytest.fixture(scope="session")
def randomise_positions():
    """A fresh model's position terms are all zero."""
    torch = pytest.importorskip("torch")

    def randomise(sam):
        with torch.no_grad():
            for name, p in sam.named_parameters():
                if "rel_pos" in name or "pos_embed" in name:
                    p.normal_(0, 0.3)
        return sam

    return randomise


@pytest.fixture(scope="session")
def small_vit(randomise_positions):
    torch = pytest.importorskip("torch")
    pytest.importorskip("segment_anything")
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    torch.manual_seed(1)
    sam = Sam(
        ImageEncoderViT(
            img_size=160,
            depth=2,
            embed_dim=48,
            num_heads=3,
            out_chans=32,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
            norm_layer=torch.nn.LayerNorm,
        ),
        PromptEncoder(32, (10, 10), (160, 160), 8),
        MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(2, 32, 4, 64)),
        [120.0] * 3,
        [50.0] * 3,
    ).eval()
    return randomise_positions(sam)
