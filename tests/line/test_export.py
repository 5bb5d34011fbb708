"""Recipes as the C library reads them."""

from __future__ import annotations

import importlib
from importlib.resources import files

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, Recipe, RecipeError

line = pytest.importorskip("sdie_fast.line", reason="the compiled module is not there")
fnv1a = importlib.import_module("sdie_fast.line.export")._fnv1a  # the function export hides its module

RECIPE = Recipe(
    [{"identity": 2, "bilateral": 1, "gamma": 1}, {"identity": 0.99999, "bilateral": 0.00001}],
    FilterParams(bilateral_footprint="disk", window=5, gamma_exponent=0.7),
    "Steel strip Ä\n",
)


def test_the_check_is_fnv1a():
    """Test vectors of the function's authors."""
    for text, value in (("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)):
        assert fnv1a(text.encode()) == value


def test_the_file_to_the_byte(tmp_path):
    content = (
        "sdie-fast-line 1\n"
        "name Steel strip ??\n"
        f"recipe {RECIPE.to_dict()['sha256']}\n"
        "round identity=0.5 bilateral=0.25 gamma=0.25\n"
        "round identity=0.99999 bilateral=1e-05\n"
        "set bilateral_window 5\n"
        "set bilateral_sigma_space 1.5\n"
        "set bilateral_sigma_range 0.1\n"
        "set bilateral_footprint disk\n"
        "set gamma_exponent 0.7\n"
    )
    path = line.export(RECIPE, tmp_path / "new" / "steel.line")
    assert path == tmp_path / "new" / "steel.line"
    assert path.read_bytes().decode("ascii") == content + f"check {fnv1a(content.encode()):016x}\n"


def test_every_parameter_comes_through(tmp_path, rng, picture):
    """Parameters unlike the usual ones, of all filters: C reads what Python meant."""
    params = FilterParams(
        window=5, wls_lambda=0.3, wls_alpha=1.7, wls_solver="fast", bilateral_sigma_range=0.031, sharpen_amount=1.5,
        sharpen_threshold=0.01, guided_eps=1e-3, spatiogram_method="clahe", spatiogram_tiles=3, gamma_exponent=1.3,
        median_window=3, gaussian_window=9,
    )  # fmt: skip
    recipe = Recipe([dict.fromkeys(sdie.filters.TABLE, 1)] * 2, params)
    frame = picture(rng, (60, 70), np.uint8)
    wanted = sdie.Enhancer(recipe)(frame)[0]
    assert (wanted != sdie.Enhancer(Recipe(recipe.weights, filters=recipe.filters))(frame)[0]).any()
    with line.Plan(line.export(recipe, tmp_path / "x"), 70, 60) as plan:
        np.testing.assert_array_equal(plan.run(frame)[0], wanted)


def test_a_damaged_file_is_refused(tmp_path):
    whole = line.export(RECIPE, tmp_path / "x").read_bytes()
    for at in range(15, len(whole), 5):
        (tmp_path / "bad").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(RecipeError, match="bad: "):
            line.Plan(tmp_path / "bad", 8, 8)
    for cut in (whole[:-1], whole[:-30], whole + b"\n"):
        (tmp_path / "bad").write_bytes(cut)
        with pytest.raises(RecipeError, match="bad: "):
            line.Plan(tmp_path / "bad", 8, 8)


@pytest.mark.parametrize(
    ("name", "told"), [("", "name "), ("x" * 300, "name " + "x" * 200), ("tab\there \x7f", "name tab?here ?")]
)
def test_names_as_the_file_takes_them(name, told, tmp_path):
    path = line.export(Recipe({"gamma": 1}, name=name), tmp_path / "x")
    assert path.read_text("ascii").splitlines()[1] == told
    line.Plan(path, 8, 8).close()


def test_the_first_pass_of_several(tmp_path):
    path = line.export(Recipe([{"gamma": 1}, {"median": 1}], passes=2), tmp_path / "x")
    told = path.read_text("ascii")
    assert told.count("\nround ") == 1
    assert "median" not in told


def test_what_is_refused_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    learned = files("sdie_fast") / "models" / "sdie_small"
    for recipe, told in (
        (str(learned), r"kind '\w+', whose network .* accepted: kind 'fixed' .*sdie_plan_set_weights"),
        (Recipe([{"gamma": 1}] * 33), "received 33 rounds; accepted: 1 to 32"),
    ):
        with pytest.raises(InvalidArgumentError, match=told):
            line.export(recipe, path)
    with pytest.raises(RecipeError, match="nowhere"):
        line.export(tmp_path / "nowhere", path)
    assert path.read_text() == "old"
    with pytest.raises(RecipeError, match="x/y: cannot be written"):
        line.export(RECIPE, path / "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x"]
