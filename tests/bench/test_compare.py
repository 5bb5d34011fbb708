from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from sdie_fast._bench import compare
from sdie_fast.errors import InvalidArgumentError


def samples(median, spread=0.02, count=200, seed=0):
    """Times that wander, as those of neighbours do."""
    rng = np.random.default_rng(seed)
    mood = np.convolve(rng.standard_normal(count + 9), np.ones(10) / np.sqrt(10), "valid")
    return (median * np.exp(spread * mood)).tolist()


def run(median=1.0, *, loop=0.1, seed=0, spread=0.02, candidate="sdie_fast"):
    where = {"case": "round", "size": "200x200", "threads": 1, "batch": 1, "rounds": 1, "backend": "cpu"}
    times = samples(median, spread, seed=seed)
    return {
        "machine": {"processor": "P", "instruction set": "v3", "CPUs": 2, "footprint": "disk", "OpenCV": "5"},
        "noise": {"spread": spread, "warnings": []},
        "rows": [{**where, "candidate": candidate, "samples_ms": times}],
        "reference": [{**where, "samples_ms": samples(loop, spread, seed=seed + 100)}],
    }


def verdict(old, new):
    (found,), words = compare.compare(old, new)
    assert words == []
    assert found.low <= found.ratio <= found.high
    return found.verdict


@pytest.mark.parametrize(("ratio", "expected"), [(0.8, "faster"), (1.25, "slower"), (1.0, "no difference told")])
def test_verdicts(ratio, expected):
    assert verdict(run(), run(ratio, seed=1)) == expected


def test_the_same_program_twice_is_never_told_apart():
    told = [verdict(run(seed=k), run(seed=k + 1000)) for k in range(40)]
    assert told.count("no difference told") >= 39


def test_a_machine_that_became_slower_is_no_difference():
    assert verdict(run(1.0, loop=0.1), run(1.5, loop=0.15, seed=1)) == "no difference told"
    # Nor is one whose loop alone did.
    assert verdict(run(1.0, loop=0.1), run(1.0, loop=0.15, seed=1)) == "no difference told"
    assert verdict(run(1.0, loop=0.1), run(3.0, loop=0.15, seed=1)) == "slower"


def test_noise_widens_what_is_not_told():
    old, new = run(), run(1.15, seed=1)
    assert verdict(old, new) == "slower"
    old["noise"]["spread"] = 0.8  # a mood that its samples of this row do not show
    assert verdict(old, new) == "no difference told"


def test_little_is_not_told_however_steady_the_samples():
    assert verdict(run(spread=1e-4), run(1.02, seed=1, spread=1e-4)) == "no difference told"
    assert verdict(run(spread=1e-4), run(1.04, seed=1, spread=1e-4)) == "slower"


def test_interval_covers_the_truth():
    """In 50 pairs of runs whose medians are 1.1 apart, the 99% interval holds that."""
    loop = [0.1] * 50
    inside = 0
    for k in range(50):
        low, high = compare.interval(samples(1.1, seed=k), samples(1.0, seed=k + 500), loop, loop)
        inside += low <= 1.1 <= high
        assert high / low < 1.15
    assert inside >= 47


@pytest.mark.parametrize("key", ["processor", "instruction set", "CPUs", "governor", "footprint"])
def test_other_machines_are_not_compared(key):
    other = run()
    other["machine"][key] = "another"
    assert compare.compare(other, run())[0] == []
    assert f"{key} was another" in compare.compare(other, run())[1][0]


def test_other_versions_are_compared_and_other_settings_are_not():
    old, new = run(), run(0.5, seed=1)
    old["machine"]["OpenCV"] = "4"
    new["rows"] += copy.deepcopy(new["rows"])
    new["rows"][1]["threads"] = 2
    verdicts, words = compare.compare(old, new)
    assert [v.verdict for v in verdicts] == ["faster"]
    assert words == ["not comparable: round 200x200 2 1 1 cpu sdie_fast: not in the old run"]


def test_only_ours_fail_a_run():
    def slow(candidate):
        return compare.slower(compare.compare(run(candidate=candidate), run(2.0, candidate=candidate, seed=1))[0])

    assert [v.key[-1] for v in slow("sdie_fast exact")] == ["sdie_fast exact"]
    assert slow("OpenCV") == []
    assert compare.slower(compare.compare(run(2.0), run(1.0, seed=1))[0]) == []


def test_reading(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(run()))
    assert compare.read_report(path) == run()
    broken = {
        "no rows": {},
        "a list": [],
        "no samples": run() | {"rows": [{**run()["rows"][0], "samples_ms": []}]},
        "a row's key": run() | {"rows": [{"samples_ms": [1.0]}]},
        "negative": run() | {"reference": [{**run()["reference"][0], "samples_ms": [-1.0]}]},
        "noise": run() | {"noise": {}},
        "words": run() | {"noise": {"spread": "much", "warnings": []}},
    }
    for what, content in broken.items():
        path.write_text(json.dumps(content))
        with pytest.raises(InvalidArgumentError, match="accepted is what `sdie-fast bench --json` printed"):
            print(what, compare.read_report(path))
    path.write_text("{")
    with pytest.raises(InvalidArgumentError, match=r"old\.json"):
        compare.read_report(path)
    with pytest.raises(InvalidArgumentError, match=r"none\.json"):
        compare.read_report(tmp_path / "none.json")
