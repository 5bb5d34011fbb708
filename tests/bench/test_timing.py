from __future__ import annotations

import gc
import itertools
import math

import pytest

from sdie_fast._bench import timing


def test_known_samples():
    t = timing.Timing([0.001 * k for k in (5, 1, 3, 2, 4)])
    assert (t.samples, t.best) == (5, 0.001)
    assert t.median == pytest.approx(0.003)
    assert t.iqr == pytest.approx(0.002)


@pytest.mark.parametrize(("q", "needed"), [(0.5, 7), (0.9, 44), (0.99, 459), (0.999, 4603)])
def test_percentiles_of_too_few_samples_are_refused(q, needed):
    assert timing.samples_needed(q) == needed
    assert 1 - q**needed >= 0.99 > 1 - q ** (needed - 1)
    assert timing.Timing(range(needed - 1)).quantile(q) is None
    assert timing.Timing(range(needed)).quantile(q) == pytest.approx(q * (needed - 1))
    assert timing.quantile_name(q) == f"p{100 * q:g}"


def recorded(calls, name, seconds):
    def taken():
        calls.append(name)
        return seconds

    return taken


def test_candidates_take_turns():
    calls = []
    samples = {"a": recorded(calls, "a", 0.25), "b": recorded(calls, "b", 2.0)}
    result = timing.interleave(samples, 10, warmup=2)
    assert {name: (t.samples, t.median) for name, t in result.items()} == {"a": (10, 0.25), "b": (10, 2.0)}
    assert calls[:3] == ["a", "a", "b"]  # one call is warm-up enough for what takes over a second
    counted = calls[3:]
    assert all(set(counted[k : k + 2]) == {"a", "b"} for k in range(0, 20, 2))
    assert counted != ["a", "b"] * 10  # the order within a turn changes
    assert timing.interleave({"a": samples["a"]}, 10, least=4, budget=0.0)["a"].samples == 4
    assert timing.interleave(samples, 5, budget=math.inf)["b"].samples == 5


def test_slow_candidates_sit_out_turns(monkeypatch):
    """By a clock that only calls move: 10 ms and 1 s."""
    now, calls = [0.0], []

    def sample(name, seconds):
        def taken():
            now[0] += seconds
            calls.append(name)
            return seconds

        return taken

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    result = timing.interleave({"quick": sample("quick", 0.01), "slow": sample("slow", 1.0)}, 100, budget=11.0)
    assert (result["quick"].samples, result["slow"].samples) == (100, 10)  # what the quick one leaves goes to the slow
    counted = calls[3 + 3 :]
    places = [k for k, name in enumerate(counted) if name == "slow"]
    assert min(b - a for a, b in itertools.pairwise(places)) >= 9  # over the whole run, evenly
    # The warm-up was misleading: the budget ends the run, but the least is taken.
    costs = iter([0.001] * 3 + [1.0] * 1000)

    def sudden():
        now[0] += next(costs)
        return 0.0

    assert timing.interleave({"x": sudden}, 1000, least=7, budget=5.0)["x"].samples == 7


def test_collection_is_left_as_it_was():
    timing.interleave({"a": lambda: 0.0}, 3)
    assert gc.isenabled()


def test_one_call_by_the_clock():
    calls = []
    assert timing.by_host(lambda: calls.append(1))() >= 0
    assert calls == [1]
