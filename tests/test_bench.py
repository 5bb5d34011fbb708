from __future__ import annotations

import json

import numpy as np
import pytest

from sdie_fast._bench import run, timing
from sdie_fast.errors import InvalidArgumentError, SdieError


def test_summary_of_known_samples():
    t = timing.summarise([0.001 * k for k in (5, 1, 3, 2, 4)])
    assert t.median == pytest.approx(0.003)
    assert t.best == pytest.approx(0.001)
    assert t.iqr == pytest.approx(0.002)
    assert t.p99 == pytest.approx(np.quantile([0.001, 0.002, 0.003, 0.004, 0.005], 0.99))
    assert t.samples == 5


def test_candidates_take_turns():
    calls = []
    result = timing.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 10, warmup=2)
    assert {t.samples for t in result.values()} == {10}
    counted = calls[4:]
    assert sorted(counted) == ["a"] * 10 + ["b"] * 10
    assert all(set(counted[k : k + 2]) == {"a", "b"} for k in range(0, 20, 2))
    assert counted != ["a", "b"] * 10  # the order within a turn changes


@pytest.mark.parametrize(("text", "size"), [("200", (200, 200)), ("64x96", (64, 96)), ("1024X16384", (1024, 16384))])
def test_sizes(text, size):
    assert run.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "axb", "1x2x3", "-200"])
def test_bad_sizes(text):
    with pytest.raises(InvalidArgumentError, match="--size"):
        run.parse_size(text)


def measure(**options):
    arguments = {
        "sizes": [(48, 64)],
        "cases": None,
        "threads": 1,
        "peers": True,
        "repeats": 3,
        "footprint": "disk",
        "progress": None,
    }
    return run.measure(**{**arguments, **options})


def test_report(compiled):
    report = json.loads(json.dumps(measure()))
    assert report["machine"]["threads"] == 1
    assert {row["case"] for row in report["rows"]} == set(run.CASES)
    for row in report["rows"]:
        assert row["median_ms"] > 0
        assert row["samples"] == 3
        assert row["candidate"].startswith("sdie_fast") or row["difference"]
    ours = [row for row in report["rows"] if row["candidate"] in ("sdie_fast", "sdie_fast exact")]
    assert all(row["ratio"] == 1.0 for row in ours)


def test_wrong_answers_are_not_timed(compiled, monkeypatch):
    monkeypatch.setitem(run._BOUNDS, "sharpen", (0.0, 0.0, "nothing"))
    pytest.importorskip("cv2")
    with pytest.raises(SdieError, match=r"sharpen: OpenCV differs by .* expected"):
        measure(cases=["sharpen"])


def test_unknown_case():
    with pytest.raises(InvalidArgumentError, match=r"--case.*median"):
        measure(cases=["median"])
