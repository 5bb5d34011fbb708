import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError
from sdie_fast.learn.baselines import search, simple
from sdie_fast.learn.rollout import constant, follow

pytest.importorskip("cma")


def test_single_filters_are_what_they_say(env):
    ways = simple(env, 0)
    assert list(ways) == [
        "uniform",
        "random",
        "half identity",
        "one filter a round",
        *sdie.FILTERS[1:],
    ]
    for k, name in enumerate(sdie.FILTERS[1:], 1):
        image = follow(env, ways[name], [0])[0].images[1]
        expected = sdie.enhance(env.cases[0].image, np.eye(6)[k], params=env.params)
        assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("each_round", [False, True])
def test_search_beats_the_uniform_mixture(env, each_round):
    told = []
    budget = 800
    found = search(env, budget, 0, each_round=each_round, watch=lambda *t: told.append(t))
    assert found.shape == (3, 6)
    assert np.abs(found).max() <= 1
    assert (np.ptp(found, 0).max() > 0) == each_round
    assert told[-1][0] <= budget
    assert env.calls <= budget

    def mean_return(rows):
        return np.mean([np.sum(r.rewards[1:]) for r in follow(env, constant(rows))])

    best = mean_return(found)
    assert best == pytest.approx(told[-1][1], abs=1e-6)
    assert best > mean_return(np.zeros((3, 6))) + 0.02


def test_search_is_seeded(env):
    a, b = (search(env, 200, 4, each_round=False) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(InvalidArgumentError, match="calls"):
        search(env, 0, 0, each_round=False)


def test_search_begins_where_it_is_told(env, monkeypatch):
    """So closely about the start that nothing else is found."""
    monkeypatch.setattr("sdie_fast.learn.baselines.SIGMA", 1e-6)
    start = np.linspace(-0.9, 0.9, 18, dtype=np.float32).reshape(3, 6)
    found = search(env, 1, 0, each_round=True, start=start)
    np.testing.assert_allclose(found, start, atol=1e-4)
    even = search(env, 1, 0, each_round=False, start=start[:1])
    np.testing.assert_allclose(even, np.repeat(start[:1], 3, 0), atol=1e-4)


def test_search_follows_the_cases_it_is_told(env):
    before = env.calls
    search(env, 1, 0, each_round=False, which=[1, 2])
    assert (env.calls - before) % (2 * env.rounds) == 0
    assert (env.calls - before) // (2 * env.rounds) < 20  # one generation
