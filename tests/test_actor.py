"""Actors, and the recipes and enhancers that use them."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, Recipe, RecipeError
from sdie_fast.actor import Actions, Actor, ActorFile, Choice, observe, progress, weights_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROUNDS, SIDE = 3, 16
# Fast filters: what is tested here is who chooses the weights.
PARAMS = FilterParams(wls_solver="fast")


PLAIN = Actions()


def write_actor(path, kind, actions=PLAIN, rounds=ROUNDS, side=SIDE):
    """A network whose answer depends on the image's mean, and, a policy's, on the round."""
    from onnx import TensorProto, helper

    size = actions.size
    rng = np.random.default_rng(3)
    shape = [size] if kind == "policy" else [rounds, size]
    scale = rng.uniform(-2, 2, shape).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["observation"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=1),
        helper.make_node("Div", ["m", "white"], ["share"]),
    ]
    inputs = [helper.make_tensor_value_info("observation", TensorProto.UINT8, ["n", side, side])]
    constants = {"axes": np.array([1, 2]), "white": np.float32(255), "scale": scale}
    if kind == "policy":
        inputs.append(helper.make_tensor_value_info("round", TensorProto.FLOAT, ["n", rounds]))
        constants |= {
            "matrix": rng.uniform(-1, 1, (rounds, size)).astype(np.float32),
            "one": np.array([1]),
        }
        nodes += [
            helper.make_node("Squeeze", ["share", "one"], ["flat"]),
            helper.make_node("Mul", ["flat", "scale"], ["x"]),
            helper.make_node("MatMul", ["round", "matrix"], ["y"]),
            helper.make_node("Add", ["x", "y"], ["z"]),
        ]
    else:
        nodes.append(helper.make_node("Mul", ["share", "scale"], ["z"]))
    nodes.append(helper.make_node("Tanh", ["z"], ["action"]))
    graph = helper.make_graph(
        nodes,
        "actor",
        inputs,
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["n", *shape])],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return ActorFile.of(path, rounds, side, actions)


@pytest.fixture(params=["policy", "schedule"])
def kind(request):
    return request.param


@pytest.fixture
def recipe(kind, tmp_path):
    return Recipe(None, PARAMS, "r", "", kind, write_actor(tmp_path / "a.onnx", kind))


class TestWeights:
    @given(hnp.arrays(np.float32, (4, 6), elements=st.floats(-1, 1, width=32)))
    def test_sum_to_one(self, actions):
        weights = weights_of(actions)
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)

    def test_equation_5(self):
        np.testing.assert_allclose(weights_of([1, 0, -1, -1, -1, -1]), [2 / 3, 1 / 3, 0, 0, 0, 0], rtol=1e-6)

    def test_nothing_is_the_uniform_mixture(self):
        np.testing.assert_allclose(weights_of([-1.0] * 6), np.full(6, 1 / 6), rtol=1e-6)

    def test_outside_counts_as_the_end(self):
        np.testing.assert_array_equal(weights_of([9, -9, -1, -1, -1, -1]), weights_of([1, -1, -1, -1, -1, -1]))


class TestParameters:
    def test_ends_and_middle(self):
        p = Choice("guided_eps", 0.001, 0.1)
        np.testing.assert_allclose([p.value(a) for a in (-1, 0, 1, 5)], [1e-3, 1e-2, 0.1, 0.1])
        p = Choice("sharpen_amount", 0.0, 3.0, log=False)
        np.testing.assert_allclose([p.value(a) for a in (-1, 0, 1)], [0, 1.5, 3])

    def test_choose(self):
        actions = Actions((Choice("guided_eps", 0.001, 0.1),))
        assert actions.size == 7
        chosen = actions.params([0, 0, 0, 0, 0, 0, 1], PARAMS)
        assert chosen == dataclasses.replace(PARAMS, guided_eps=chosen.guided_eps)
        assert chosen.guided_eps == pytest.approx(0.1)
        assert Actions.from_list(json.loads(json.dumps(actions.to_list()))) == actions

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            (("window", 3, 7), InvalidArgumentError),
            (("guided_eps", 0.1, 0.01), InvalidArgumentError),
            (("guided_eps", 0.1, 1e9), InvalidArgumentError),
            (("sharpen_amount", 0.0, 1.0), InvalidArgumentError),
            (("guided_eps", "a", 1.0), InvalidTypeError),
            (("guided_eps", 0.01, 1.0, 1), InvalidTypeError),
        ],
    )
    def test_bad(self, given, error):
        with pytest.raises(error):
            Choice(*given)

    @pytest.mark.parametrize("given", ["x", 3, [{}], [{"name": "guided_eps"}], [{"low": 1, "other": 2}]])
    def test_bad_lists(self, given):
        with pytest.raises((InvalidArgumentError, InvalidTypeError)):
            Actions.from_list(given)
        with pytest.raises(InvalidArgumentError, match="once"):
            Actions((Choice("guided_eps", 0.1, 1),) * 2)


def test_observe():
    image = np.zeros((2, 32, 48), np.float32)
    image[1, :, 24:] = 1.0
    seen = observe(image, 8)
    assert seen.shape == (2, 8, 8)
    assert seen.dtype == np.uint8
    assert not seen[0].any()
    np.testing.assert_array_equal(seen[1], np.tile([0] * 4 + [255] * 4, (8, 1)))


class TestEnhancer:
    def test_policy_sees_each_round(self, tmp_path, rng):
        file = write_actor(tmp_path / "a.onnx", "policy")
        images = rng.random((3, 40, 30), np.float32)
        out, trace = sdie.Enhancer(Recipe(None, PARAMS, kind="policy", actor=file))(images)
        actor, state = Actor(file, "policy"), images
        for at in range(ROUNDS):
            actions = actor(observe(state, SIDE), at)
            np.testing.assert_allclose(trace[:, at], weights_of(actions), rtol=1e-6)
            state = sdie.enhance(state, weights_of(actions)[:, None], params=PARAMS)
        np.testing.assert_array_equal(out, state)
        assert np.ptp(trace[:, :, 0]) > 0.01  # not the same everywhere

    def test_schedule_sees_the_first_image(self, tmp_path, rng):
        file = write_actor(tmp_path / "a.onnx", "schedule")
        images = rng.integers(0, 256, (3, 40, 30), dtype=np.uint8)
        out, trace = sdie.Enhancer(Recipe(None, PARAMS, kind="schedule", actor=file))(images)
        actions = Actor(file, "schedule")(observe(images / np.float32(255), SIDE))
        assert trace.shape == (3, ROUNDS, 6)
        np.testing.assert_allclose(trace, weights_of(actions), rtol=1e-6)
        np.testing.assert_array_equal(out, sdie.enhance(images, trace, params=PARAMS))

    def test_of_several_passes_the_first(self, kind, tmp_path, rng):
        file = write_actor(tmp_path / "a.onnx", kind, rounds=4)
        images = rng.integers(0, 256, (2, 40, 30), dtype=np.uint8)
        whole = sdie.Enhancer(Recipe(None, PARAMS, kind=kind, actor=file))(images)[1]
        several = Recipe(None, PARAMS, kind=kind, actor=file, passes=2)
        out, trace = sdie.Enhancer(several)(images)
        np.testing.assert_array_equal(trace, whole[:, :2])
        np.testing.assert_allclose(out, sdie.enhance(images, trace, params=PARAMS), atol=1)

    def test_of_several_passes_of_fixed_weights_the_first(self, rng):
        weights = rng.random((4, 6))
        image = rng.random((40, 30), np.float32)
        out, trace = sdie.Enhancer(Recipe(weights, PARAMS, passes=2))(image)
        assert trace.shape == (2, 6)
        np.testing.assert_array_equal(out, sdie.enhance(image, weights[:2], params=PARAMS))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("shape", [(24, 31), (2, 24, 31), (24, 31, 1), (24, 31, 3), (2, 24, 31, 3)])
    @pytest.mark.parametrize("seed", range(4))
    def test_types_and_shapes(self, recipe, dtype, shape, seed):
        rng = np.random.default_rng(seed)
        if dtype == np.float32:
            image = rng.random(shape, np.float32)
        else:
            image = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        out, trace = sdie.Enhancer(recipe, white_level=65535.0 if dtype == np.uint16 else None)(image)
        assert out.shape == image.shape
        assert out.dtype == dtype
        single = shape[0] == 24
        assert trace.shape == ((ROUNDS, 6) if single else (2, ROUNDS, 6))
        assert not trace.flags.writeable
        # By hand: the same weights through the one fused call.
        weights = trace if single else np.ascontiguousarray(trace)
        expected = sdie.enhance(image, weights, params=PARAMS)
        # Luma is summed in another order; WLS and spatiogram make up to a few hundred times that of its rounding.
        white = 1 if dtype == np.float32 else np.iinfo(dtype).max
        assert np.abs(out.astype(np.float64) - expected).max() <= max(1e-4 * white, dtype != np.float32)

    def test_out_and_strides(self, recipe, rng):
        image = rng.integers(0, 256, (40, 60), dtype=np.uint8)[::-1, ::2]
        enhancer = sdie.Enhancer(recipe)
        buffer = np.zeros_like(image)
        out, _ = enhancer(image, out=buffer)
        assert out is buffer
        np.testing.assert_array_equal(out, enhancer(np.ascontiguousarray(image))[0])

    @pytest.mark.parametrize("parameters", [(), (Choice("gamma_exponent", 0.5, 2.0),)])
    def test_axes(self, parameters, kind, tmp_path, rng):
        actions = Actions(parameters, ("identity", "wls", "gamma"))  # filters without a window
        file = write_actor(tmp_path / "a.onnx", kind, actions)
        enhancer = sdie.Enhancer(Recipe(None, PARAMS, kind=kind, actor=file))
        for width in (1, 2, 3, 4):
            images = rng.integers(0, 256, (3, 20, width), dtype=np.uint8)
            out, trace = enhancer(images, axes="NHW")
            for k, image in enumerate(images):
                alone, weights = enhancer(image)
                np.testing.assert_array_equal(out[k], alone)
                np.testing.assert_array_equal(trace[k], weights)

    def test_chosen_parameters_are_used(self, kind, tmp_path, rng):
        actions = Actions((Choice("sharpen_amount", 0.5, 5.0),))
        file = write_actor(tmp_path / "a.onnx", kind, actions)
        images = rng.random((2, 24, 24), np.float32)
        out, trace = sdie.Enhancer(Recipe(None, PARAMS, kind=kind, actor=file))(images)
        plain = sdie.enhance(images, np.ascontiguousarray(trace), params=PARAMS)
        assert np.abs(out - plain).max() > 1e-3
        actor, state = Actor(file, kind), images
        first = actor(observe(state, SIDE))
        for at in range(ROUNDS):
            chosen = actor(observe(state, SIDE), at) if kind == "policy" else first[:, at]
            state = np.stack(
                [
                    sdie.enhance(s, weights_of(a[:6]), params=actions.params(a, PARAMS))
                    for s, a in zip(state, chosen, strict=True)
                ]
            )
        np.testing.assert_allclose(out, state, atol=1e-6)

    def test_bad_images(self, recipe):
        enhancer = sdie.Enhancer(recipe)
        with pytest.raises(InvalidTypeError):
            enhancer([1, 2])
        with pytest.raises(InvalidArgumentError, match="4 channels"):
            enhancer(np.zeros((20, 20, 4), np.uint8))
        with pytest.raises(InvalidArgumentError):
            enhancer(np.full((20, 20), np.nan, np.float32))
        with pytest.raises(InvalidArgumentError):
            enhancer(np.zeros((20, 20), np.uint8), out=np.zeros((3, 3), np.uint8))


class TestOtherFilters:
    """A recipe's toolkit need not be the library's default."""

    FILTERS = ("median", "identity", "gamma")

    def test_there_and_back_by_name(self, kind, tmp_path, rng):
        actions = Actions((Choice("gamma_exponent", 0.4, 2.0),), self.FILTERS)
        assert actions.size == 4
        file = write_actor(tmp_path / "a.onnx", kind, actions)
        recipe = Recipe(None, PARAMS, kind=kind, actor=file)
        recipe.save(tmp_path / "r")
        found = Recipe.load(tmp_path / "r")
        assert found == recipe
        assert found.filters == self.FILTERS == found.actor.actions.filters
        content = json.loads((tmp_path / "r" / "recipe.json").read_text())
        assert set(content["params"]) == {"window", "median_window", "gamma_exponent"}
        image = rng.random((24, 24), np.float32)
        out, trace = sdie.Enhancer(found)(image)
        assert trace.shape == (ROUNDS, 3)
        actor, state = Actor(file, kind), image[None]
        first = actor(observe(state, SIDE))
        for at in range(ROUNDS):
            action = actor(observe(state, SIDE), at)[0] if kind == "policy" else first[0, at]
            weights = dict(zip(self.FILTERS, weights_of(action[:3]).tolist(), strict=True))
            state = sdie.enhance(state, weights, params=actions.params(action, PARAMS))
        np.testing.assert_allclose(out, state[0], atol=1e-6)

    def test_another_filters_parameter_cannot_be_chosen(self):
        with pytest.raises(InvalidArgumentError, match="received 'wls_lambda'; accepted: those of median"):
            Actions((Choice("wls_lambda", 0.1, 1.0),), self.FILTERS)

    def test_filters_that_are_not_the_actors(self, kind, tmp_path):
        file = write_actor(tmp_path / "a.onnx", kind)
        with pytest.raises(InvalidArgumentError, match="filters: received"):
            Recipe(None, PARAMS, kind=kind, actor=file, filters=self.FILTERS)


class TestOnDisk:
    def test_there_and_back(self, recipe, tmp_path):
        recipe.save(tmp_path / "r")
        found = Recipe.load(tmp_path / "r")
        assert found == recipe
        assert found.rounds == ROUNDS
        assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["actor.onnx", "recipe.json"]
        image = np.arange(900, dtype=np.float32).reshape(30, 30) / 900
        np.testing.assert_array_equal(sdie.Enhancer(found)(image)[0], sdie.Enhancer(recipe)(image)[0])

    def test_a_tampered_network_is_refused(self, recipe, tmp_path):
        recipe.save(tmp_path / "r")
        file = tmp_path / "r" / "actor.onnx"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(RecipeError, match="SHA-256"):
            Recipe.load(tmp_path / "r")
        file.unlink()
        with pytest.raises(RecipeError, match=r"actor\.onnx: cannot be read"):
            Recipe.load(tmp_path / "r")

    def test_a_network_exchanged_after_loading_is_refused(self, recipe, tmp_path):
        recipe.save(tmp_path / "r")
        found = Recipe.load(tmp_path / "r")
        (tmp_path / "r" / "actor.onnx").write_bytes(b"x")
        with pytest.raises(RecipeError, match="SHA-256"):
            sdie.Enhancer(found)

    @pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
    def test_pickles_and_copies_carry_the_network(self, again, recipe, tmp_path, rng):
        file = recipe.save(tmp_path / "r")
        enhancer = sdie.Enhancer(file, threads=2, per_channel=True)
        (tmp_path / "r" / "actor.onnx").unlink()
        found = again(enhancer)
        image = rng.integers(0, 256, (30, 40, 3), np.uint8)
        for one, other in zip(found(image), enhancer(image), strict=True):
            np.testing.assert_array_equal(one, other)
        assert found.recipe == recipe
        assert (found.threads, found.per_channel) == (2, True)
        actor = again(enhancer._actor)
        seen = rng.integers(0, 256, (2, SIDE, SIDE), np.uint8)
        np.testing.assert_array_equal(actor(seen, 1), enhancer._actor(seen, 1))

    def test_a_pickled_recipe_carries_the_network(self, recipe, tmp_path):
        recipe.save(tmp_path / "r")
        pickled = pickle.dumps(Recipe.load(tmp_path / "r"))
        (tmp_path / "r" / "actor.onnx").unlink()
        found = pickle.loads(pickled)
        assert found == recipe
        found.save(tmp_path / "s")
        assert Recipe.load(tmp_path / "s") == recipe
        with pytest.raises(RecipeError, match="SHA-256"):
            dataclasses.replace(found.actor, content=b"another").verified()

    def test_not_a_network(self, kind, tmp_path):
        (tmp_path / "x.onnx").write_bytes(b"none")
        file = ActorFile.of(tmp_path / "x.onnx", ROUNDS, SIDE, Actions())
        with pytest.raises(RecipeError, match=r"x\.onnx: cannot be run"):
            Actor(file, kind)

    @pytest.mark.parametrize("change", [{"rounds": 4}, {"side": 8}, {"parameters": True}])
    def test_made_for_something_else(self, change, kind, tmp_path):
        file = write_actor(tmp_path / "a.onnx", kind)
        if "parameters" in change:
            change = {"actions": Actions((Choice("guided_eps", 0.1, 1),))}
        with pytest.raises(RecipeError, match="inputs and outputs"):
            Actor(dataclasses.replace(file, **change), kind)

    def test_the_other_kind(self, kind, tmp_path):
        other = "schedule" if kind == "policy" else "policy"
        with pytest.raises(RecipeError, match="inputs and outputs"):
            Actor(write_actor(tmp_path / "a.onnx", kind), other)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("files", {}),
            ("files", {"../actor.onnx": "00"}),
            ("files", {"actor.onnx": 3}),
            ("actor", {"side": 16}),
            ("actor", {"side": 4, "parameters": []}),
            ("actor", []),
            ("weights", [[1, 1, 1, 1, 1, 1]]),
            ("rounds", 0),
            ("rounds", "3"),
        ],
    )
    def test_a_signed_file_with_a_wrong_value_is_refused(self, key, value, recipe, tmp_path):
        from sdie_fast.recipe import _digest

        recipe.save(tmp_path / "r")
        path = tmp_path / "r" / "recipe.json"
        content = {**json.loads(path.read_text()), key: value}
        path.write_text(json.dumps({**content, "sha256": _digest(content)}))
        with pytest.raises(RecipeError, match=r"recipe\.json: "):
            Recipe.load(path)


def test_progress():
    np.testing.assert_array_equal(progress(3, 1, 2), [[0, 1, 0]] * 2)
