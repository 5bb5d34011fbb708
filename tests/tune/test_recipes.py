"""Recipes over HTTP: saved, loaded, and told as code."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import sdie_fast as sdie
from sdie_fast import cli, files
from sdie_fast.tune.recipes import Options, recipe_of
from sdie_fast.tune.work import Work


def test_saved_and_loaded_again(ask, folder, recipe):
    usual = {"name": "line 2", "recipe": recipe, "notes": "camera 3", "seen": ["images/patch.png", "deep.tif"]}
    told = ask("/api/save", {**usual, "options": {"white_level": 4095}}).json
    saved = sdie.Recipe.load(folder / "recipes" / "line 2")
    assert told["file"] == str(folder / "recipes" / "line 2" / "recipe.json")
    assert np.allclose(saved.weights, np.array(recipe["weights"]) / np.sum(recipe["weights"], 1, keepdims=True))
    assert saved.params.sharpen_amount == 1.2
    for part in (
        "camera 3",
        "2 pictures of steel: images/patch.png, deep.tif",
        "White level 4095",
        "sdie-fast tune",
    ):
        assert part in saved.notes
    assert "taken" in ask("/api/save", usual).json["error"]
    assert ask("/api/save", {**usual, "replace": True}).status == 200
    back = ask("/api/load", {"name": "line 2"}).json
    given = {key: back[key] for key in ("filters", "weights", "params")}
    again = ask("/api/enhance", {"name": "images/patch.png", "recipe": given}).pixels
    assert np.array_equal(again, sdie.Enhancer(saved)(files.read(folder / "images" / "patch.png").pixels)[0])
    assert [r["name"] for r in ask("/api/recipes").json] == ["line 2", ""]


@pytest.mark.parametrize("note", ["", "camera 3", "camera 3\n\nlot 7\nsdie-fast tune"])
@pytest.mark.parametrize("seen", [[], ["deep.tif"], ["a.png"] * 9])
@pytest.mark.parametrize("options", [{}, {"white_level": 4095}])
def test_a_note_comes_back_as_it_was_written(ask, recipe, note, seen, options):
    usual = {"name": "x", "recipe": recipe, "seen": seen, "options": options, "replace": True}
    for _ in range(2):
        told = ask("/api/save", {**usual, "notes": note}).json
        assert told["note"] == ask("/api/load", {"name": "x"}).json["note"] == note
    assert ("1 picture of" in told["notes"]) == (len(seen) == 1)
    assert told["notes"].count("sdie-fast tune ") == 1


def test_a_recipe_that_cannot_be_saved_or_read(ask, folder, recipe):
    (folder / "recipes").write_text("in the way")
    assert ask("/api/save", {"name": "x", "recipe": recipe}).status == 422
    (folder / "recipes").unlink()
    (folder / "recipes" / "bad").mkdir(parents=True)
    (folder / "recipes" / "bad" / "recipe.json").write_text("{")
    assert "JSON" in ask("/api/recipes").json[0]["error"]
    assert ask("/api/load", {"name": "bad"}).status == 422


def test_of_a_network_the_weights_that_it_gives_a_picture(folder):
    pytest.importorskip("onnxruntime")
    shipped = sdie.Recipe.load(Path(sdie.__file__).parent / "models" / "sdie_small")
    shipped.save(folder / "recipes" / "learned")
    work = Work(folder, threads=1)
    told = work.load("learned", "images/patch.png")
    _, trace = sdie.Enhancer(shipped)(files.read(folder / "images" / "patch.png").pixels)
    assert np.allclose(told["weights"], trace, atol=1e-6)
    assert told["kind"] == shipped.kind != "fixed"
    with pytest.raises(sdie.errors.RecipeError, match="picture"):
        work.load("learned", None)


@pytest.mark.parametrize("options", [{}, {"white_level": 4095, "per_channel": True}])
def test_the_code_does_the_same(ask, folder, recipe, tmp_path, options):
    name = "deep.tif" if options else "images/patch.png"
    recipe = {**recipe, "weights": recipe["weights"][:1] * 2}
    told = ask("/api/code", {"recipe": recipe, "options": options}).json
    expected = ask("/api/enhance", {"name": name, "recipe": recipe, "options": options}).pixels
    scope = {"image": files.read(folder / name).pixels}
    exec(told["python"], scope)
    assert np.array_equal(scope["out"], expected)
    words = shlex.split(told["command"])
    assert words[2] == str(folder)
    words[2:4] = [str(folder / name), str(tmp_path / "out.png")]
    done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 0, done.output
    assert np.array_equal(files.read(tmp_path / "out.png").pixels, expected)


def test_the_command_of_rounds_that_differ(ask, folder, recipe):
    assert ask("/api/code", {"recipe": recipe}).json["command"].startswith("#")
    assert ask("/api/code", {"recipe": recipe, "saved": "line 2"}).json["command"].startswith("#")  # there is none
    ask("/api/save", {"name": "line 2", "recipe": recipe})
    told = ask("/api/code", {"recipe": recipe, "saved": "line 2"}).json["command"]
    assert shlex.split(told)[-2:] == ["--recipe", str(folder / "recipes" / "line 2")]
    # What has changed since, here or in the file, is not what the command would take.
    for change in ({"weights": recipe["weights"][::-1]}, {"params": {"sharpen_amount": 1.3}}):
        other = {**recipe, **change}
        assert ask("/api/code", {"recipe": other, "saved": "line 2"}).json["command"].startswith("#")


def test_the_command_of_the_recipe_that_the_page_began_with(ask, folder, recipe):
    first = {k: v for k, v in ask("/api/state").json["recipe"].items() if k in ("filters", "weights", "params")}
    told = ask("/api/code", {"recipe": first, "saved": ""}).json["command"]
    assert shlex.split(told) == ["sdie-fast", "enhance", str(folder), "enhanced"]
    recipe_of(recipe).save(folder / "mine")
    words = shlex.split(Work(folder, first=folder / "mine").code(recipe, Options(), "")["command"])
    assert words[4:] == ["--recipe", str(folder / "mine")]
