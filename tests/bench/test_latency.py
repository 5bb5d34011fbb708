from __future__ import annotations

import json

import pytest

from sdie_fast import FILTERS, _backends
from sdie_fast._bench import cases, latency, peers
from sdie_fast._bench.setting import Setting
from sdie_fast.errors import BackendUnavailableError, InvalidArgumentError, SdieError
from sdie_fast.filters import TABLE

SMALL = Setting((48, 64))


def measure(*chosen, settings=(SMALL,), **options):
    quick = {"peers": False, "repeats": 7, "cold": False}
    return latency.measure(settings, cases=list(chosen) or None, **{**quick, **options})


def test_report(compiled):
    watched = []
    report = measure(peers=True, seconds=1.0, watch=lambda *told: watched.append(told))
    assert json.loads(json.dumps(report)) == report
    expected = {case for case in cases.CASES if case not in TABLE or case in _backends.get("cpu").filters}
    assert {row["case"] for row in report["rows"]} == expected > {"round", "batch", "shares", *FILTERS[1:]}
    assert [done for done, _, _ in watched] == list(range(len(expected) + 1))
    for row in report["rows"]:
        assert row["samples"] == len(row["samples_ms"]) >= latency.LEAST
        assert min(row["samples_ms"]) == pytest.approx(row["best_ms"], abs=1e-6)
        assert row["p50_ms"] == row["median_ms"]
        assert row["p99_ms"] is None
        pixels = 48 * 64 * row["batch"] * row["rounds"]
        assert row["mpx_per_s"] == pytest.approx(pixels / row["median_ms"] / 1e3)
        assert row["difference"] or row["candidate"].startswith("sdie_fast")
        assert ("operations" in row) == row["candidate"].startswith("sdie_fast")
    ours = [row for row in report["rows"] if row["candidate"] in ("sdie_fast", "sdie_fast exact")]
    assert all(row["ratio"] == 1.0 for row in ours)
    assert [(r["case"], len(r["samples_ms"]) >= 7) for r in report["reference"]] == [
        (case, True) for case in dict.fromkeys(row["case"] for row in report["rows"])
    ]
    assert report["rates"]["1"]["bytes"] > 0
    assert report["machine"]["threads"] == "1"


def test_a_sweep_measures_each_case_once_at_each_point_that_matters(compiled):
    settings = [Setting((32, 32), threads, batch) for threads in (1, 2) for batch in (2, 3)]
    report = measure("guided", "batch", settings=settings)
    points = [(r["case"], r["threads"], r["batch"]) for r in report["rows"] if "one thread" not in r["candidate"]]
    assert points == [
        ("guided", 1, 1), ("batch", 1, 2), ("batch", 1, 3), ("guided", 2, 1), ("batch", 2, 2), ("batch", 2, 3),
    ]  # fmt: skip
    assert set(report["rates"]) == {"1", "2"}
    assert report["machine"]["threads"] == "1, 2"


def test_percentiles_come_with_enough_samples(compiled):
    row = measure("gamma", repeats=459, settings=[Setting((16, 16))])["rows"][0]
    assert row["samples"] == 459
    assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= max(row["samples_ms"]) + 1e-6
    assert row["p99.9_ms"] is None


def test_first_calls(compiled):
    (calls,) = measure("gamma", "shares", cold=True)["first_calls"]  # those of shares are the round's
    assert calls["case"] == "gamma"
    assert min(calls[name] for name in ("import_ms", "process_ms", "size_ms")) > 0


def test_the_users_candidate_is_measured(compiled):
    rows = measure("gamma", own={"mine:f": lambda g: g})["rows"]
    assert [row["candidate"] for row in rows] == ["sdie_fast", "mine:f"]
    assert "told, not judged" in rows[1]["difference"]
    with pytest.raises(SdieError, match="gamma: mine:f: KeyError"):
        measure("gamma", own={"mine:f": lambda g: {}[0]})


def test_wrong_answers_are_not_timed(compiled, monkeypatch):
    pytest.importorskip("cv2")
    strict = peers.Bound(0.0, 0.0, "nothing")
    monkeypatch.setattr(cases, "PEERS", [p._replace(bound=strict) for p in peers.PEERS if p.name == "OpenCV"])
    with pytest.raises(SdieError, match=r"sharpen: OpenCV differs by .* expected"):
        measure("sharpen", peers=True)


def test_another_backend():
    report = measure("guided", "batch", settings=[Setting((32, 32), batch=2, backend="reference")])
    assert [(row["candidate"], row["backend"]) for row in report["rows"]] == [("sdie_fast", "reference")] * 2
    assert "device of reference" in report["machine"]


def test_what_cannot_be_measured(monkeypatch):
    with pytest.raises(InvalidArgumentError, match=r"--case: 'mean'; accepted are round, .*median"):
        measure("mean")
    gone = _backends.Backend("cuda", False, "no GPU today", "buy one", None)
    real = _backends.get
    monkeypatch.setattr(_backends, "get", lambda name: gone if name == "cuda" else real(name))
    with pytest.raises(BackendUnavailableError, match="no GPU today"):
        measure("guided", settings=[SMALL, SMALL._replace(backend="cuda")])
