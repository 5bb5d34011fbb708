"""`segment`, `evaluate` and `export-sam` on a small SAM with random weights."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import sdie_fast as sdie
from sdie_fast import Recipe
from sdie_fast.cli import app
from sdie_fast.data.folder import open_folder
from sdie_fast.learn.cases import box_of, point_of
from sdie_fast.reference import LUMA


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path, rng):
    root = tmp_path / "data"
    for label in ("dent", "pit"):
        for k in range(3):
            image = rng.normal(120, 6, (60, 80))
            mask = np.zeros((60, 80), bool)
            mask[10 + 4 * k : 35, 20 : 50 - 3 * k] = True
            image[mask] -= 60
            for kind, content in (("images", np.clip(image, 0, 255)), ("masks", mask * 255)):
                path = root / kind / label / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content.astype(np.uint8)).save(path)
    return root


def test_evaluate(folder, sam_dir, tmp_path):
    page = tmp_path / "report.html"
    done = call("evaluate", folder, "--segmenter", sam_dir, "--grid", "4", "--quality", "0", "--out", page)
    assert done.exit_code == 0, done.output
    for word in ("dent", "pit", "MIoU", "FB-IoU", "SAM small fp32"):
        assert word in done.output
    assert "running on cpu, prompt auto" in done.output
    assert "None" not in done.output
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 6
    assert "MIoU" in text


@pytest.mark.parametrize("prompt", ["box", "point", "support"])
def test_evaluate_as_json(folder, sam_dir, prompt):
    done = call("evaluate", folder, "--segmenter", sam_dir, "--prompt", prompt, "--size", "0", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    scores = result["scores"]
    judged = 4 if prompt == "support" else 6
    assert sum(scores["images"].values()) == len(result["images"]) == judged
    assert 0 <= scores["miou"] <= 1
    if prompt == "support":
        shown = [n for names in result["split"]["support"].values() for n in names]
        assert len(shown) == 2
        assert not set(shown) & {i["name"] for i in result["images"]}
    else:
        assert "from the truth" in result["prompt"]


def test_evaluate_refusals(folder, sam_dir, tmp_path):
    for arguments, message in (
        ((folder, "--segmenter", tmp_path), "manifest.json"),
        ((folder, "--segmenter", sam_dir, "--prompt", "guess"), "prompt: received"),
        ((folder, "--segmenter", sam_dir, "--data", "coco"), "received 'coco'; accepted: 'auto', 'fssd12'"),
        ((folder, "--segmenter", sam_dir, "--provider", "npu"), "provider: received"),
        ((tmp_path / "none", "--segmenter", sam_dir), "no such folder"),
        ((folder, "--segmenter", sam_dir, "--prompt", "support", "--shots", "3"), "k: received 3"),
    ):
        done = call("evaluate", *arguments)
        assert done.exit_code == 2, arguments
        assert message in " ".join(done.output.split())


def test_prompts_from_the_truth():
    mask = np.zeros((30, 40), bool)
    mask[5:20, 10:31] = True
    assert box_of(mask).boxes.tolist() == [[10, 5, 31, 20]]
    x, y = point_of(mask).points[0, 0]
    assert mask[int(y), int(x)]
    assert y == 12.5
    assert box_of(np.zeros((3, 3), bool)) is None
    assert point_of(np.zeros((3, 3), bool)) is None
    assert point_of(np.ones((3, 3), bool)).points[0, 0].tolist() == [1.5, 1.5]


def test_segment(folder, sam_dir, tmp_path):
    (folder / "images" / "bad.png").write_text("no image")
    out = tmp_path / "out"
    done = call("segment", folder / "images", out, "--segmenter", sam_dir, "--box", "10,5,60,50")
    assert done.exit_code == 1
    assert "failed: " in done.output
    assert "skipped" not in done.output
    assert "bad.png" in done.output
    judged = json.loads((out / "quality.json").read_text())["images"]
    assert len(judged) == 6
    for name, values in judged.items():
        mask = np.asarray(Image.open(out / f"{name}.mask.png"))
        assert mask.shape == (60, 80)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(values["foreground"])
        assert np.asarray(Image.open(out / f"{name}.overlay.png")).shape == (60, 80, 3)


@pytest.fixture
def recipe(tmp_path):
    """Two passes of one round: sharpening, smoothing."""
    made = Recipe(np.eye(6)[[3, 2]], name="two", passes=2)
    made.save(tmp_path / "recipe")
    return tmp_path / "recipe"


def test_segment_with_a_recipe(folder, sam_dir, recipe, tmp_path):
    out = tmp_path / "out"
    done = call(
        "segment", folder / "images", out, "--segmenter", sam_dir, "--recipe", recipe, "--grid", 3, "--size", 48,
        "--select", "last",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((out / "quality.json").read_text())
    assert (result["recipe"], result["rule"]) == ("two", "last")
    assert len(result["images"]) == 6
    for name, values in result["images"].items():
        assert values["round"] == 2
        assert "score" not in values  # without a verifier
        assert np.asarray(Image.open(out / f"{name}.mask.png")).shape == (60, 80)
        assert np.asarray(Image.open(out / f"{name}.overlay.png")).shape == (60, 80, 3)
        enhanced = np.asarray(Image.open(out / f"{name}.enhanced.png"))
        small = Image.open(folder / "images" / name).resize((48, 48), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(enhanced, sdie.filters.bilateral(np.asarray(small)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((60, 80, 3), np.uint8), ((60, 80), np.uint8), ((60, 80), np.uint16)],
    ids=["colour", "grey", "grey16"],
)
def test_a_line_sees_what_training_saw(sam_dir, tmp_path, rng, shape, dtype):
    """A photograph's grey values are those of a data set that holds it: luma (BT.601) of a colour photograph."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    Image.fromarray(pixels).save(tmp_path / "data" / "images" / "x.png")
    Image.fromarray(np.full((60, 80), 255, np.uint8)).save(tmp_path / "data" / "masks" / "x.png")
    ((_, seen, _),) = open_folder(tmp_path / "data", size=None)
    luma = pixels @ LUMA if pixels.ndim == 3 else pixels / (257 if dtype == np.uint16 else 1)
    assert np.abs(seen - luma).max() <= 0.51
    Recipe(np.eye(6)[:1], name="as it is").save(tmp_path / "recipe")
    done = call(
        "segment", tmp_path / "data" / "images", tmp_path / "out", "--segmenter", sam_dir,
        "--recipe", tmp_path / "recipe", "--grid", 1, "--size", 0,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "x.png.enhanced.png")), seen)


def test_segment_with_a_policy_of_each_class(folder, sam_dir, recipe, tmp_path):
    runs = tmp_path / "runs"
    for label in ("dent", "pit"):
        (runs / label).mkdir(parents=True)
        (runs / label / "config.toml").touch()
    shared = ("segment", folder, tmp_path / "out", "--segmenter", sam_dir, "--recipe", runs)
    done = call(*shared)
    assert done.exit_code == 2
    assert "label: received None" in done.output
    done = call(*shared, "--label", "rust")
    assert done.exit_code == 2
    assert "label: received 'rust'; accepted: 'dent', 'pit'" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "dent"), "only with --recipe"),
        (("--select", "last"), "only with --recipe"),
        (("--recipe", "none"), "none"),
        (("--recipe", "{recipe}", "--box", "1,2,3,4"), "only without --recipe"),
        (("--recipe", "{recipe}", "--select", "oracle"), "rule: received 'oracle'"),
        (("--recipe", "{recipe}", "--select", "verifier"), "verifier.npz: no such file"),
        (("--recipe", "{recipe}", "--label", "dent"), "label: received 'dent'"),
        (("--box", "1,2,3"), "4 numbers"),
        (("--point", "a,b"), "2 numbers"),
        (("--point", "1,2", "--box", "1,2,3,4"), "both were given"),
    ],
)
def test_segment_refusals(folder, sam_dir, recipe, tmp_path, options, message):
    given = [o.format(recipe=recipe) for o in options]
    done = call("segment", folder, tmp_path / "out", "--segmenter", sam_dir, *given)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_export_sam(exported, tmp_path):
    directory, said = exported
    assert "masks' IoU" in " ".join(said.split())
    assert (directory / "manifest.json").is_file()
    checkpoint = directory.with_name("small.pt")
    for given, message in (
        ((checkpoint, directory), "something in it"),
        ((tmp_path / "none.pt", tmp_path / "x"), "no such file"),
    ):
        done = call("export-sam", *given)
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())
