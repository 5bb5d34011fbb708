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


@pytest.fixture(scope="session")
def make_map():
    """Writes a small network with random weights, from a picture to a map, as an ONNX file."""
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def make(path, *, seed=0, batch=1, channels=3, side=32, real="FLOAT", inner=None, last="Sigmoid", json=None):
        """Convolution, pooling with the rest, convolution, resizing: outputs "map" and "side", the latter smaller.

        real: of input and outputs; inner: of what is between them, by casts that come last in the file.
        """
        rng = np.random.default_rng(seed)
        outer, kind = (getattr(TensorProto, k) for k in (real, inner or real))
        dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
        pooled = (side + 1) // 2
        grown = np.array([batch, 1, side, side], np.int64) if batch == 1 else np.array([1, 1, 2, 2], np.float32)
        weights = {
            "w1": rng.normal(0, 1.0, (4, channels, 3, 3)).astype(dtype),
            "w2": rng.normal(0, 1.0, (1, 4, 3, 3)).astype(dtype),
            "grown": grown,
        }
        resize = ["small", "", "", "grown"] if batch == 1 else ["small", "", "grown"]
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["h1"], pads=[1] * 4),
            helper.make_node("Relu", ["h1"], ["h2"]),
            helper.make_node("MaxPool", ["h2"], ["h3"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            helper.make_node("Conv", ["h3", "w2"], ["small"], pads=[1] * 4),
            helper.make_node("Resize", resize, ["large"], mode="linear", coordinate_transformation_mode="half_pixel"),
            helper.make_node(last, ["large"], ["y"]),
            helper.make_node("Cast", ["input"], ["x"], to=kind),
            helper.make_node("Cast", ["y"], ["map"], to=outer),
            helper.make_node("Cast", ["small"], ["side"], to=outer),
        ]
        graph = helper.make_graph(
            nodes,
            "map",
            [helper.make_tensor_value_info("input", outer, [batch, channels, side, side])],
            [
                helper.make_tensor_value_info("map", outer, [batch, 1, side, side]),
                helper.make_tensor_value_info("side", outer, [batch, 1, pooled, pooled]),
            ],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, str(path))
        if json is not None:
            path.with_suffix(".json").write_text(json)
        return path

    return make


@pytest.fixture(scope="session")
def graph_folders(tmp_path_factory):
    """The directory of each of `exported_graphs.MAKERS`, made when it is asked for."""
    import exported_graphs as graphs

    made = {}

    def get(kind):
        if kind not in made:
            if kind.startswith("samexporter"):
                pytest.importorskip("segment_anything")
            graphs.torch.manual_seed(sum(map(ord, kind)))
            made[kind] = tmp_path_factory.mktemp("graphs")
            graphs.MAKERS[kind](made[kind])
            graphs.describe(made[kind], graph=kind.split()[0])
        return made[kind]

    return get
