import copy
import dataclasses
import hashlib
import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, Recipe, RecipeError


@pytest.fixture
def recipe():
    return Recipe(
        [[3, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]],
        FilterParams(window=9),
        name="strip 7",
        notes="näher",
    )


def write(path, content, *, sign=True):
    """Write a recipe file, by default with the right hash for whatever it says."""
    if sign:
        content = {key: value for key, value in content.items() if key != "sha256"}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(content))
    return path


class TestInMemory:
    def test_weights_are_normalised_and_read_only(self, recipe):
        np.testing.assert_allclose(recipe.weights[0], [0.6, 0.2, 0, 0, 0, 0.2], rtol=1e-6)
        assert recipe.weights.dtype == np.float32
        assert recipe.rounds == 2
        with pytest.raises(ValueError, match="read-only"):
            recipe.weights[0, 0] = 1

    @pytest.mark.parametrize("again", [lambda r: pickle.loads(pickle.dumps(r)), copy.copy, copy.deepcopy])
    def test_pickles_and_copies(self, again, recipe):
        found = again(recipe)
        assert found == recipe
        assert not found.weights.flags.writeable

    def test_the_callers_array_is_copied(self):
        given_weights = np.full((1, 6), 1 / 6, np.float32)
        recipe = Recipe(given_weights)
        given_weights[0, 0] = 9
        assert recipe.weights[0, 0] < 1
        assert given_weights.flags.writeable

    def test_by_name(self):
        assert Recipe({"wls": 1, "sharpen": 3}) == Recipe([0, 1, 0, 3, 0, 0])
        several = Recipe([{"median": 1}, {"wls": 1, "gamma": 1}])
        assert several.filters == (*sdie.FILTERS, "gamma", "median")
        assert several.weights.tolist() == [[0] * 7 + [1], [0, 0.5, 0, 0, 0, 0, 0.5, 0]]
        few = Recipe([1, 3], filters=("gaussian", "identity"))
        assert few.weights.tolist() == [[0.25, 0.75]]
        with pytest.raises(InvalidArgumentError, match="filters: received the unknown filter 'blur'"):
            Recipe([1], filters=("blur",))

    def test_frozen(self, recipe):
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.name = "other"

    def test_equality_and_hash(self, recipe):
        same = Recipe(recipe.weights, recipe.params, recipe.name, recipe.notes)
        assert same == recipe
        assert hash(same) == hash(recipe)
        assert Recipe(recipe.weights) != recipe
        assert recipe != "strip 7"

    @pytest.mark.parametrize(
        ("arguments", "error", "told"),
        [
            ({"weights": [1, 2]}, InvalidArgumentError, "weights: received shape"),
            (
                {"weights": np.ones((2, 2, 6))},
                InvalidArgumentError,
                r"weights: received shape \(2, 2, 6\)",
            ),
            ({"weights": [-1] * 6}, InvalidArgumentError, "weights: received -1.0"),
            ({"weights": None}, InvalidTypeError, "weights: received None"),
            ({"params": {}}, InvalidTypeError, "params: received {} of type dict"),
            ({"name": 7}, InvalidTypeError, "name: received 7"),
            ({"notes": None}, InvalidTypeError, "notes: received None"),
            ({"kind": "best"}, InvalidArgumentError, "kind: received 'best'; accepted: 'fixed'"),
            ({"kind": "policy"}, InvalidArgumentError, "weights: received .* accepted: None"),
            ({"kind": "policy", "weights": None}, InvalidTypeError, "actor: received None"),
            ({"passes": 0}, InvalidArgumentError, "passes: received 0"),
            (
                {"passes": 2},
                InvalidArgumentError,
                "passes: received 2; accepted: an integer from 1 to 1",
            ),
            (
                {"weights": np.ones((5, 6)), "passes": 2},
                InvalidArgumentError,
                "passes: received 2; accepted: a divisor of",
            ),
            ({"passes": 1.0}, InvalidTypeError, "passes: received 1.0"),
            ({"actor": 3}, InvalidArgumentError, "actor: received 3; accepted: None"),
        ],
    )
    def test_bad_arguments(self, arguments, error, told):
        with pytest.raises(error, match=told):
            Recipe(**{"weights": [1] * 6, **arguments})


class TestOnDisk:
    def test_there_and_back(self, recipe, tmp_path):
        file = recipe.save(tmp_path / "new" / "folder")
        assert file == tmp_path / "new" / "folder" / "recipe.json"
        for path in (file, file.parent, str(file)):
            assert Recipe.load(path) == recipe
        assert os.listdir(file.parent) == ["recipe.json"]

    def test_other_filters(self, tmp_path):
        recipe = Recipe([[1, 3]], FilterParams(gaussian_sigma=2.0), filters=("gaussian", "identity"))
        recipe.save(tmp_path)
        loaded = Recipe.load(tmp_path)
        assert loaded == recipe
        assert loaded.filters == ("gaussian", "identity")
        image = np.arange(400, dtype=np.float32).reshape(20, 20) / 400
        expected = sdie.enhance(image, {"gaussian": 1, "identity": 3}, params=recipe.params)
        np.testing.assert_array_equal(sdie.Enhancer(loaded)(image)[0], expected)

    def test_passes(self, recipe, tmp_path):
        """Those of one pass are written as they were before there were several."""
        several = Recipe(recipe.weights, passes=2)
        file = several.save(tmp_path)
        assert Recipe.load(file).passes == 2
        assert several != Recipe(recipe.weights)
        assert "passes" not in recipe.to_dict()

    @given(
        weights=hnp.arrays(np.float32, (3, 6), elements=st.floats(0, 100, width=32)),
        name=st.text(),
        notes=st.text(),
        window=st.sampled_from([3, 5, 7, 9, 11]),
        eps=st.floats(1e-4, 10),
    )
    def test_there_and_back_to_the_bit(self, weights, name, notes, window, eps, tmp_path_factory):
        weights[:, 0] += 1
        recipe = Recipe(weights, FilterParams(window=window, guided_eps=eps), name, notes)
        loaded = Recipe.load(recipe.save(tmp_path_factory.mktemp("recipe")))
        np.testing.assert_array_equal(loaded.weights, recipe.weights)
        assert loaded == recipe

    def test_content(self, recipe, tmp_path):
        content = json.loads(recipe.save(tmp_path).read_text())
        assert content["format"] == "sdie-fast-recipe"
        assert (content["version"], content["kind"], content["rounds"]) == (1, "fixed", 2)
        assert content["filters"] == list(sdie.FILTERS)
        assert content["params"] == recipe.params.to_dict(sdie.FILTERS)
        assert content["files"] == {}
        assert content["weights"][0] == [0.6, 0.2, 0.0, 0.0, 0.0, 0.2]
        write(tmp_path / "signed.json", content)
        assert json.loads((tmp_path / "signed.json").read_text())["sha256"] == content["sha256"]

    def test_saving_replaces_an_older_one(self, recipe, tmp_path):
        Recipe([1] * 6).save(tmp_path)
        recipe.save(tmp_path)
        assert Recipe.load(tmp_path) == recipe

    def test_a_failed_save_leaves_the_older_one_and_nothing_else(self, recipe, tmp_path, monkeypatch):
        older = Recipe([1] * 6)
        older.save(tmp_path)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RecipeError, match=r"recipe\.json: cannot be written: No space left"):
            recipe.save(tmp_path)
        assert os.listdir(tmp_path) == ["recipe.json"]
        assert Recipe.load(tmp_path) == older

    def test_a_folder_that_cannot_be(self, recipe, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(RecipeError, match="cannot be written"):
            recipe.save(tmp_path / "file")
        with pytest.raises(InvalidTypeError, match="directory: received 3"):
            recipe.save(3)

    def test_file_mode_is_the_usual_one(self, recipe, tmp_path):
        (tmp_path / "usual").write_text("")
        assert recipe.save(tmp_path).stat().st_mode == (tmp_path / "usual").stat().st_mode

    @pytest.mark.parametrize("path", ["nowhere", "nowhere/recipe.json", "."])
    def test_missing(self, path, tmp_path):
        with pytest.raises(RecipeError, match=r"cannot be read: No such file"):
            Recipe.load(tmp_path / path)

    def test_a_folder_of_recipes(self, recipe, tmp_path):
        for name in ("b", "a"):
            recipe.save(tmp_path / name)
        with pytest.raises(RecipeError, match=r"has no recipe\.json; recipes in it: a, b$"):
            Recipe.load(tmp_path)

    def test_a_picture(self, tmp_path):
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
        with pytest.raises(RecipeError, match=r"x\.png: is not JSON: not even text; accepted: a folder"):
            Recipe.load(tmp_path / "x.png")

    def test_path_of_wrong_type(self):
        with pytest.raises(InvalidTypeError, match="path: received 3"):
            Recipe.load(3)
        with pytest.raises(InvalidArgumentError, match="null"):
            Recipe.load("a\0b")


class TestDamage:
    @pytest.fixture
    def content(self, recipe):
        return recipe.to_dict()

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"\xff\xfe\x00",
            b"PK\x03\x04",
            b"[" * 100_000,
            b'{"version": NaN}',
            b'{"version": -Infinity}',
            b'{"version": 1e400}',
            b'{"version": 1, "version": 1}',
            b'{"version": ' + b"9" * 10_000 + b"}",
        ],
    )
    def test_not_json(self, data, tmp_path):
        (tmp_path / "recipe.json").write_bytes(data)
        with pytest.raises(RecipeError, match=r"recipe\.json: is not JSON: "):
            Recipe.load(tmp_path)

    @pytest.mark.parametrize("data", ["[]", "3", '"x"', "null"])
    def test_not_an_object(self, data, tmp_path):
        (tmp_path / "recipe.json").write_text(data)
        with pytest.raises(RecipeError, match=r"recipe: received .* accepted: a dict"):
            Recipe.load(tmp_path)

    def test_too_large(self, tmp_path):
        (tmp_path / "recipe.json").write_bytes(b" " * (2**20 + 1))
        with pytest.raises(RecipeError, match="more than 1048576 bytes"):
            Recipe.load(tmp_path)

    def test_every_truncation_is_refused(self, recipe, tmp_path):
        data = recipe.save(tmp_path).read_bytes().rstrip()
        for size in range(0, len(data), 7):
            (tmp_path / "cut.json").write_bytes(data[:size])
            with pytest.raises(RecipeError, match=r"cut\.json: is not JSON"):
                Recipe.load(tmp_path / "cut.json")

    @pytest.mark.parametrize("key", ["name", "notes", "weights", "params", "rounds", "files"])
    def test_an_edit_is_refused(self, key, content, tmp_path):
        edits = {
            "weights": [[1.0, 0, 0, 0, 0, 0]] * 2,
            "params": {"window": 5},
            "rounds": 3,
            "files": {"a": "b"},
        }
        file = write(tmp_path / "r.json", {**content, key: edits.get(key, "edited")}, sign=False)
        with pytest.raises(RecipeError, match=r"r\.json: sha256: received .* damaged, or edited by hand"):
            Recipe.load(file)

    @pytest.mark.parametrize("key", sorted(Recipe([1] * 6).to_dict()))
    def test_a_missing_key_is_named(self, key, content, tmp_path):
        del content[key]
        file = write(tmp_path / "r.json", content, sign=False)
        with pytest.raises(RecipeError, match=rf"r\.json: {key}: "):
            Recipe.load(file)

    @pytest.mark.parametrize(
        ("key", "value", "told"),
        [
            ("format", "zip", "format: received 'zip'; accepted: 'sdie-fast-recipe'"),
            ("version", 2, "version: received 2; accepted: 1"),
            ("version", 1.0, "version: received 1.0"),
            ("version", True, "version: received True"),
            ("kind", "best", "kind: received 'best'; accepted: 'fixed'"),
            ("kind", "schedule", "actor: missing"),
            ("kind", ["fixed"], "kind: received"),
            ("name", 3, "name: received 3"),
            ("notes", [], "notes: received"),
            ("rounds", 3, "rounds: received 3; accepted: 2"),
            ("rounds", 2.0, "rounds: received 2.0"),
            ("filters", ["wls"], "weights: received shape"),
            (
                "filters",
                [*sdie.FILTERS[:5], "blur"],
                "filters: received the unknown filter 'blur'; accepted: identity",
            ),
            ("filters", ["wls"] * 6, "filters: received 'wls' twice"),
            ("filters", "wls", "filters: received 'wls'"),
            ("files", {"actor.onnx": "00"}, "files: received .* accepted: {}"),
            ("weights", [], "weights: received shape"),
            ("weights", [[1, 1, 1, 1, 1, -1]] * 2, r"weights: received -1.0 at \[0, 5\]"),
            ("weights", [[0] * 6] * 2, "weights: received zeros alone"),
            ("weights", [[1] * 5] * 2, "weights: received shape"),
            ("weights", [[None] * 6] * 2, "weights: received"),
            ("weights", [["1"] * 6] * 2, "weights: received"),
            ("weights", {"0": 1}, "weights: received"),
            ("weights", "x", "weights: received"),
            ("params", [], "params: received"),
            ("params", {"sigma": 1}, "params: received the unknown key 'sigma'"),
            ("params", {"window": 4}, "window: received 4; accepted: an odd integer"),
            ("params", {"wls_lambda": "1"}, "wls_lambda: received '1'"),
            ("params", {"window": 7.0}, "window: received 7.0"),
            ("passes", 3, "passes: received 3"),
            ("passes", "2", "passes: received '2'"),
            ("extra", 1, "recipe: received the unknown key 'extra'"),
        ],
    )
    def test_a_signed_file_with_a_wrong_value_is_refused(self, key, value, told, content, tmp_path):
        file = write(tmp_path / "r.json", {**content, key: value})
        with pytest.raises(RecipeError, match=rf"r\.json: {told}"):
            Recipe.load(file)


class TestDefault:
    def test_is_what_ships(self):
        recipe = sdie.default_recipe()
        assert recipe.rounds == 5
        assert recipe.name == "default"
        assert recipe is sdie.default_recipe()

    def test_is_quick_and_mild(self):
        recipe = sdie.default_recipe()
        assert recipe.params.wls_solver == "fast"
        assert recipe.params.bilateral_footprint == "disk"
        assert (recipe.weights.argmax(axis=1) == 0).all()
