"""A map model wherever a segmenter is taken: judged, trained with, on the command line, in `tune`."""

import json
import sqlite3
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sdie_fast import Recipe
from sdie_fast.cli import app
from sdie_fast.data.folder import open_folder
from sdie_fast.errors import InvalidArgumentError
from sdie_fast.evaluate.judge import evaluate_segmenter
from sdie_fast.segment import OnnxSegmenter
from sdie_fast.tune.recipes import Options
from sdie_fast.tune.search import Effort
from sdie_fast.tune.work import Work

pytest.importorskip("onnxruntime")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def model(make_map, tmp_path):
    text = '{"format": "sdie_fast map 1", "name": "drawn", "normalise": "min-max", "mean": 120, "scale": 60}'
    return make_map(tmp_path / "maps" / "m.onnx", batch="n", json=text)


@pytest.fixture
def folder(tmp_path, rng):
    root = tmp_path / "data"
    for label in ("dent", "pit"):
        for k in range(3):
            image = rng.normal(120, 6, (48, 48))
            mask = np.zeros((48, 48), bool)
            mask[10 + 4 * k : 35, 12 : 40 - 3 * k] = True
            image[mask] -= 60
            for kind, content in (("images", np.clip(image, 0, 255)), ("masks", mask * 255)):
                path = root / kind / label / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content.astype(np.uint8)).save(path)
    return root


def test_judged(model, folder):
    segmenter, data = OnnxSegmenter(model), open_folder(folder, size=None)
    found = evaluate_segmenter(segmenter, data)
    assert len(found.images) == 6
    assert all(0 < image["predicted_iou"] <= 1 for image in found.images)
    for prompt in ("box", "support"):
        with pytest.raises(InvalidArgumentError, match="drawn maps a picture to its foreground"):
            evaluate_segmenter(segmenter, data, prompt)


def test_evaluate(model, folder, tmp_path):
    page = tmp_path / "page.html"
    done = call("evaluate", folder, "--segmenter", model, "--size", 0, "--out", page)
    assert done.exit_code == 0, done.output
    assert "segmenter drawn, running on cpu, prompt auto" in done.output
    assert "grid" not in done.output  # there is none
    assert "MIoU" in page.read_text()
    done = call("evaluate", folder, "--segmenter", model.parent, "--grid", 6)
    assert done.exit_code == 2
    assert "received 'auto' with grid=6; accepted: 'auto' without options" in " ".join(done.output.split())


def test_segment(model, folder, tmp_path):
    done = call("segment", folder / "images", tmp_path / "out", "--segmenter", model, "--threads", 1)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert told["segmenter"] == "drawn"
    segmenter = OnnxSegmenter(model)
    for name, facts in told["images"].items():
        mask, quality = segmenter(np.asarray(Image.open(folder / "images" / name)))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}.mask.png")) > 0, mask)
        assert facts["predicted_iou"] == pytest.approx(float(quality[0]))
    done = call("segment", folder / "images", tmp_path / "boxes", "--segmenter", model, "--box", "1,2,30,40")
    assert done.exit_code == 1
    assert "received a Prompt; accepted: 'auto'" in " ".join(done.output.split())


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_train(model, folder, tmp_path, monkeypatch, backend):
    for needed in ("torch", "onnxscript", "matplotlib", *(["onnx2torch"] * (backend == "torch"))):
        pytest.importorskip(needed)
    from sdie_fast.learn import runs
    from sdie_fast.learn.train import Training

    def finish(run):
        """Leave what the command reads: a run's recipes have nothing of the segmenter, and take most of the time."""
        result = {"alone": 0.0, "rules_on_shots": {"last": {"reward": 0.0}}, "rule": "last"}
        (run.out / runs.RESULT).write_text(json.dumps(result))

    monkeypatch.setattr(Training, "finish", finish)
    (tmp_path / "settings.toml").write_text(
        f'size = 48\nside = 16\nbackend = "{backend}"\nrounds = 2\npasses = 1\nviews = 1\nupdates = 1\nbatch = 8\n'
        f'compare = false\nthreads = 1\nmemory = "{tmp_path}/answers.sqlite"\n'
    )
    given = ("--shots", 1, "--budget", 4, "--segmenter", model, "--config", tmp_path / "settings.toml")
    done = call("train", folder, "--out", tmp_path / "run", *given)
    assert done.exit_code == 0, done.output
    name, runner = ("drawn float32, torch", "torch") if backend == "torch" else ("drawn", "onnx")
    written = (tmp_path / "run" / "config.toml").read_text()
    assert f'segmenter = "{name}"' in written
    assert f'backend = "{runner}"' in written
    with sqlite3.connect(tmp_path / "answers.sqlite") as memory:
        ((count,),) = memory.execute("SELECT count(*) FROM answers").fetchall()
    assert count >= 4


def test_recipes(model, folder, tmp_path):
    Recipe(np.eye(6)[[3, 2]], name="two", passes=2).save(tmp_path / "recipe")
    given = ("--segmenter", model, "--recipe", tmp_path / "recipe", "--size", 48, "--threads", 1)
    done = call("evaluate", folder, "--json", "--no-baselines", *given)
    assert done.exit_code == 0, done.output
    assert "segmenter alone" in done.stdout
    done = call("segment", folder / "images" / "pit", tmp_path / "out", "--select", "stability", *given)
    assert done.exit_code == 0, done.output
    assert len(json.loads((tmp_path / "out" / "quality.json").read_text())["images"]) == 3


def test_tune(model, folder):
    pytest.importorskip("cma")
    recipe = {"filters": ["identity", "bilateral"], "weights": [[0.5, 0.5]], "params": {"wls_solver": "fast"}}
    work = Work(folder, threads=1, segmenter=model)
    picture = work.folder.listing()["pictures"][0]
    marks, facts = work.masked(picture["name"], recipe, Options(), picture["mask"])
    assert marks.shape == (48, 48)
    assert 0 <= facts["iou"] <= 1
    assert facts["quality"] > 0
    work.begin_search(recipe, Options(), Effort(each=2, calls=8, size=0, grid=3))
    for _ in range(1200):
        if work.search.told()["state"] != "running":
            break
        time.sleep(0.05)
    assert work.search.close()
    assert work.search.told()["state"] == "done", work.search.told()
