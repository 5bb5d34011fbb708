"""The commands of docs/learning.md, "Reproducing the paper", on the releases' trees with a SAM of random weights.

It has two blocks; $SDIE_FAST_VIT_H names a folder for a whole ViT-H, whose ONNX files stay there.
"""

import functools
import json
import os
from pathlib import Path

import pytest
import release_trees
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
registry = pytest.importorskip("segment_anything").sam_model_registry
for needed in ("cma", "matplotlib", "onnxscript", "sklearn"):
    pytest.importorskip(needed)

from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer  # noqa: E402

from sdie_fast import Recipe  # noqa: E402
from sdie_fast.cli import app  # noqa: E402
from sdie_fast.data import synthetic  # noqa: E402
from sdie_fast.data.releases import DEFECT4I_FOLDS, FSSD12_FOLDS  # noqa: E402
from sdie_fast.evaluate.judge import SDIE  # noqa: E402
from sdie_fast.learn import distill, runs  # noqa: E402
from sdie_fast.segment.checkpoint import build  # noqa: E402
from sdie_fast.segment.sam import load_manifest  # noqa: E402

pytestmark = pytest.mark.slow
WHOLE = os.environ.get("SDIE_FAST_VIT_H")

# What makes a run short, and lets through the masks of random weights, which are noise.
SETTINGS = """
compare = false
fold = 0
batch = 2
{}
[auto]
grid = 2
stability = 0.0
largest = 1.0
"""


def two_blocks():
    """ViT-H's width, two of its 32 blocks, a small picture."""
    norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
    return Sam(
        ImageEncoderViT(
            96, depth=2, embed_dim=1280, num_heads=16, norm_layer=norm, use_rel_pos=True, window_size=4,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(256, (6, 6), (96, 96), 16),
        MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)),
    )  # fmt: skip


@functools.cache
def draw(number, k):
    """A surface of the class's number, as FSSD-12 counts."""
    made = synthetic.surface(synthetic.KINDS[number - 1], seed=k) if number else synthetic.clean(seed=k)
    return made.image, made.mask


def call(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module", params=["two blocks", "whole"])
def whole(request):
    if request.param == "whole" and WHOLE is None:
        pytest.skip("SDIE_FAST_VIT_H names no folder for a whole ViT-H")
    return request.param == "whole"


@pytest.fixture(scope="module")
def vit_h(whole, randomise_positions, tmp_path_factory):
    """The checkpoint, exported."""
    folder = Path(WHOLE) if whole else tmp_path_factory.mktemp("models")
    if not (folder / "sam_vit_h").exists():
        with pytest.MonkeyPatch.context() as patch:
            if not whole:
                patch.setitem(registry, "vit_h", two_blocks)
            torch.manual_seed(0)
            sam = randomise_positions(build("vit_h"))
            sam.mask_decoder.iou_prediction_head.layers[-1].bias.data += 2.0  # it is sure of its masks
            torch.save(sam.state_dict(), folder / "random.pth")
            call("export-sam", folder / "random.pth", folder / "sam_vit_h", "--precision", "fp16")
        (folder / "random.pth").unlink()
    return folder / "sam_vit_h"


@pytest.fixture
def short(whole, tmp_path, monkeypatch):
    """The current folder, with the settings of a short run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distill, "STEPS", 20)  # a schedule that is hardly taught: that takes long, and is not asked
    monkeypatch.setattr(distill, "VARIANTS", 2)
    Path("short.toml").write_text(SETTINGS.format("" if whole else "side = 48"))


def test_export(vit_h, whole):
    manifest = load_manifest(vit_h)
    assert (manifest.name, manifest.precision, manifest.size) == ("vit_h", "fp16", 1024 if whole else 96)
    assert 1e-6 < manifest.parity["embedding_error"] < 3e-2


@pytest.mark.parametrize(
    ("lay_out", "folder", "preset", "rounds", "told", "classes"),
    [
        (release_trees.fssd12, "FSSD-12/", "paper", 5, "FSSD-12 fold 0 val", FSSD12_FOLDS[0]),
        (
            release_trees.defect4i,
            "Surface Defects-4i/",
            "published-code",
            4,
            "Defects-4i fold 0 test",
            DEFECT4I_FOLDS[0],
        ),
    ],
    ids=["FSSD-12", "Defects-4i"],
)
def test_from_data_to_report(whole, vit_h, short, lay_out, folder, preset, rounds, told, classes):
    classes = classes[: 1 if whole else 2]
    lay_out(Path(folder), 2, draw, listed=len(classes))  # a shot and a test image of each class
    call(
        "train", folder, "--shots", 1, "--seed", 0, "--segmenter", f"{vit_h}/", "--preset", preset, "--device", "cpu",
        "--out", "run", "--budget", 1, "--config", "short.toml",
    )  # fmt: skip
    config, about = runs.load_config(Path("run"))
    assert (config.rounds, config.encoder, about["segmenter"]) == (rounds, "resnet18", "SAM vit_h fp16")
    assert Recipe.load("run/policy").rounds == rounds
    baselines = preset == "paper" and not whole
    done = call(
        "evaluate", folder, "--fold", 0, "--segmenter", f"{vit_h}/", "--recipe", "run", "--recipe", "run",
        "--memory", "answers.sqlite", "--out", "report.html", "--json", *["--no-baselines"] * (not baselines),
    )  # fmt: skip
    judged = json.loads(done)
    assert [(f["data"], f["images"], f["rounds"]) for f in judged["facts"]] == [(told, len(classes), rounds)] * 2
    assert list(judged["classes"]) == [*classes, "MIoU", "FB-IoU"]
    ways = judged["by shots"]["1 shot"]["main"]
    assert {SDIE, "SDIE, schedule", "SDIE, fixed"} <= set(ways)
    assert ({"uniform", "one filter a round", "wls"} <= set(ways)) == baselines
    assert 0 < ways[SDIE]["oracle MIoU"]["mean"] < 100
    page = Path("report.html").read_text()
    assert "In the paper" in page
    assert page.count("data:image/jpeg") == len(classes)
