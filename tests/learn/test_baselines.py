import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError
from sdie_fast.learn.baselines import search, simple
from sdie_fast.learn.env import SdieEnv
from sdie_fast.learn.rollout import constant, follow

pytest.importorskip("cma")


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
