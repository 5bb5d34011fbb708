import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError
from sdie_fast.actor import Actions, Choice
from sdie_fast.learn.baselines import (
    BY_GRADIENT,
    SEARCHED_WAYS,
    action_of,
    constant,
    random_policy,
    search,
    searches,
    simple,
    start_action,
    start_schedule,
)
from sdie_fast.learn.env import SdieEnv, follow
from sdie_fast.learn.episode import Observation

pytest.importorskip("cma")

SIX = Actions()
WIDER = Actions((Choice("guided_eps", 0.001, 0.1), Choice("sharpen_amount", 0.1, 10.0)))
ORDER = ("bilateral", "guided", "wls", "sharpen", "spatiogram")

ONE_PASS = ["one filter a round", "uniform", "half identity", *sdie.FILTERS[1:]]


def test_single_filters_are_what_they_say(env):
    ways = simple(env, 0)
    assert list(ways) == ["random", *ONE_PASS]
    for k, name in enumerate(sdie.FILTERS[1:], 1):
        image = follow(*ways[name], [0])[0].images[1]
        expected = sdie.enhance(env.cases[0].image, np.eye(6)[k], params=env.params)
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_only_what_differs_between_passes_takes_several(segmenter, cases):
    env = SdieEnv(segmenter, cases, rounds=4, passes=2, side=16, options={"grid": 1})
    ways = simple(env, 0)
    assert list(ways) == ["random", "one filter a pass", *ONE_PASS]
    for name, (where, act) in ways.items():
        rollout = follow(where, act, [0])[0]
        assert len(rollout.actions) == (2 if name in ONE_PASS else 4)
    random = follow(*ways["random"], [0])[0]
    assert (random.images[1] != random.images[3]).any()


@pytest.mark.parametrize("each_round", [False, True])
def test_search_beats_the_uniform_mixture(env, each_round):
    told = []
    budget = 800
    start = np.zeros((3 if each_round else 1, 6), np.float32)
    found = search(env, budget, 0, start, watch=lambda *t: told.append(t))
    assert found.shape == start.shape
    assert np.abs(found).max() <= 1
    assert told[-1][0] <= budget
    assert env.calls <= budget

    def mean_return(rows):
        return np.mean([np.sum(r.rewards[1:]) for r in follow(env, constant(rows))])

    best = mean_return(found)
    assert best == pytest.approx(told[-1][1], abs=1e-6)
    assert best > mean_return(start) + 0.02


def test_search_is_seeded(env):
    even = np.zeros((1, 6), np.float32)
    a, b = (search(env, 200, 4, even) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(InvalidArgumentError, match="calls"):
        search(env, 0, 0, even)


def test_search_begins_where_it_is_told(env, monkeypatch):
    """So closely about the start that nothing else is found."""
    monkeypatch.setattr("sdie_fast.learn.baselines.SIGMA", 1e-6)
    start = np.linspace(-0.9, 0.9, 18, dtype=np.float32).reshape(3, 6)
    np.testing.assert_allclose(search(env, 1, 0, start), start, atol=1e-4)
    np.testing.assert_allclose(search(env, 1, 0, start[:1]), start[:1], atol=1e-4)


def test_search_follows_the_cases_it_is_told(env):
    before = env.calls
    search(env, 1, 0, np.zeros((1, 6), np.float32), which=[1, 2])
    assert (env.calls - before) % (2 * env.rounds) == 0
    assert (env.calls - before) // (2 * env.rounds) < 20  # one generation


def test_action_of():
    weights = np.array([[0.5, 0.25, 0.25, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    np.testing.assert_allclose(SIX.weights(action_of(weights, SIX)), weights, atol=1e-6)
    assert action_of(weights, WIDER).shape == (2, 8)


@pytest.mark.parametrize("identity", [1 / 6, 0.5, 0.9, 1.0])
def test_start_action(identity):
    action = start_action(identity, WIDER)
    assert action.shape == (8,)
    assert -1 <= action.min() <= action.max() <= 0.8 + 1e-6
    rest = (1 - identity) / 5
    np.testing.assert_allclose(WIDER.weights(action), [identity, *[rest] * 5], atol=1e-3)
    if identity == 1 / 6:
        np.testing.assert_allclose(action, 0, atol=1e-6)


@pytest.mark.parametrize("rounds", [1, 5, 7])
def test_start_of_one_pass(rounds):
    rows = start_schedule("filters", rounds, 1, WIDER)
    assert rows.shape == (rounds, 8)
    assert -0.95 - 1e-6 <= rows[:, :6].min() <= rows.max() <= 0.8 + 1e-6
    weights = WIDER.weights(rows)
    np.testing.assert_allclose(weights[:, 0], 1.8 / 3.8, atol=1e-6)
    for at, w in enumerate(weights):
        assert sdie.FILTERS[1 + w[1:].argmax()] == ORDER[at % 5]
        assert w[1:].max() == pytest.approx(1.8 / 3.8)
    np.testing.assert_array_equal(start_schedule("uniform", rounds, 1, SIX), 0)


def test_start_of_passes():
    weights = SIX.weights(start_schedule("filters", 18, 6, SIX)).reshape(6, 3, 6)
    for k, rounds in enumerate(weights):
        for w in rounds:
            assert sdie.FILTERS[w.argmax()] == ORDER[k % 5]
            assert w.max() == 1


class TestOtherToolkits:
    """Every filter of the toolkit in use has its turn, whatever its place, and no other has a share."""

    TOOLKIT = Actions(filters=("gaussian", "identity", "median", "wls", "bilateral"))
    TURNS = ("bilateral", "wls", "gaussian", "median")

    def test_start_of_passes(self):
        rows = start_schedule("filters", 10, 5, self.TOOLKIT)
        expected = np.zeros((10, 5))
        for at in range(10):
            expected[at, self.TOOLKIT.filters.index(self.TURNS[at // 2 % 4])] = 1
        np.testing.assert_array_equal(self.TOOLKIT.weights(rows), expected)

    def test_start_of_one_pass(self):
        weights = self.TOOLKIT.weights(start_schedule("filters", 4, 1, self.TOOLKIT))
        for row, name in zip(weights, self.TURNS, strict=True):
            assert row[1] == row[self.TOOLKIT.filters.index(name)] == pytest.approx(1.8 / 3.75)

    def test_a_seventh_filter(self):
        seven = Actions(filters=(*sdie.FILTERS, "median"))
        weights = seven.weights(start_schedule("filters", 12, 6, seven))
        np.testing.assert_array_equal(weights[:10, 6], 0)
        np.testing.assert_array_equal(weights[10:, 6], 1)
        np.testing.assert_array_equal(weights[:10, :6], SIX.weights(start_schedule("filters", 10, 5, SIX)))

    def test_without_the_identity(self):
        two = Actions(filters=("median", "wls"))
        np.testing.assert_allclose(
            two.weights(start_schedule("filters", 2, 1, two)),
            [[0.05 / 1.85, 1.8 / 1.85], [1.8 / 1.85, 0.05 / 1.85]],
            rtol=1e-5,
        )
        np.testing.assert_array_equal(start_action(0.5, two), 0)

    def test_ways(self, segmenter, cases):
        actions = Actions(filters=("identity", "sharpen", "guided"))
        env = SdieEnv(segmenter, cases, rounds=2, side=16, actions=actions, options={"grid": 1})
        ways = simple(env, 0)
        assert list(ways) == ["random", "one filter a round", "uniform", "half identity", "sharpen", "guided"]
        for name in ("sharpen", "guided"):
            image = follow(*ways[name], [0])[0].images[1]
            expected = sdie.enhance(cases[0].image, {name: 1})
            assert np.abs(image.astype(int) - expected).max() <= 1, name


def test_a_short_schedule_begins_anew():
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    act = constant(rows)
    for at in range(5):
        state = Observation(np.zeros((3, 8, 8), np.uint8), at)
        np.testing.assert_array_equal(act(state), np.tile(rows[at % 2], (3, 1)))


def test_chance_is_seeded(env):
    a, b = (follow(env, random_policy(3, 6)) for _ in range(2))
    np.testing.assert_array_equal(a[2].actions, b[2].actions)
    assert np.ptp([r.actions[0][0] for r in a]) > 0


def test_weights_by_gradient_where_the_segmenter_has_one(env, monkeypatch):
    """All shots, in the rounds of a pass, for no more segmentations than the other searches have."""
    torch = pytest.importorskip("torch")
    which, budget, pictures = [0, 2], 90, []

    def shares(images):
        pictures.append(images)
        return torch.sigmoid(20 * (images - 0.5))

    monkeypatch.setattr(env.segmenter, "shares", shares, raising=False)
    found = dict(searches(env, "filters", budget, 0, which, lambda *_: None))
    assert list(found) == [*SEARCHED_WAYS, BY_GRADIENT]
    assert len(pictures) == 90
    rows = found[BY_GRADIENT]
    assert rows.shape == (1, 6)

    def soft(weights):
        made = [sdie.enhance(env.cases[k].image / np.float32(255), weights, params=env.params) for k in which]
        shares = 1 / (1 + np.exp(-20 * (np.stack(made) - 0.5)))
        truths = np.stack([env.cases[k].truth for k in which])
        return np.minimum(shares, truths).sum() / np.maximum(shares, truths).sum()

    assert soft(SIX.weights(rows)) > soft(SIX.weights(start_action(0.5, SIX))) + 0.02
