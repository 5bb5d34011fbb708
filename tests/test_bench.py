from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from sdie_fast import FILTERS, _backends
from sdie_fast._bench import latency, peers, timing
from sdie_fast.errors import InvalidArgumentError, SdieError
from sdie_fast.filters import TABLE


def test_summary_of_known_samples():
    t = timing.summarise([0.001 * k for k in (5, 1, 3, 2, 4)])
    assert t.median == pytest.approx(0.003)
    assert t.best == pytest.approx(0.001)
    assert t.iqr == pytest.approx(0.002)
    assert t.p99 == pytest.approx(0.00496)
    assert t.samples == 5


def test_candidates_take_turns():
    calls = []

    def sample(name, seconds):
        def taken():
            calls.append(name)
            return seconds

        return taken

    result = timing.interleave({"a": sample("a", 0.25), "b": sample("b", 2.0)}, 10, warmup=2)
    assert {name: (t.samples, t.median) for name, t in result.items()} == {"a": (10, 0.25), "b": (10, 2.0)}
    assert calls[:3] == ["a", "a", "b"]  # one call is warm-up enough for what takes over a second
    counted = calls[3:]
    assert all(set(counted[k : k + 2]) == {"a", "b"} for k in range(0, 20, 2))
    assert counted != ["a", "b"] * 10  # the order within a turn changes
    assert timing.interleave({"a": sample("a", 1.0)}, 10, least=4, budget=0.0)["a"].samples == 4


def test_one_call_by_the_clock():
    calls = []
    assert timing.by_host(lambda: calls.append(1))() >= 0
    assert calls == [1]


@pytest.mark.parametrize(("text", "size"), [("200", (200, 200)), ("64x96", (64, 96)), ("1024X16384", (1024, 16384))])
def test_sizes(text, size):
    assert latency.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "axb", "1x2x3", "-200"])
def test_bad_sizes(text):
    with pytest.raises(InvalidArgumentError, match="--size"):
        latency.parse_size(text)


def measure(*cases, **options):
    arguments = {"sizes": [(48, 64)], "threads": 1, "peers": True, "repeats": 3, "footprint": "disk", "progress": None}
    return latency.measure(cases=list(cases) or None, **{**arguments, **options})


def test_report(compiled):
    report = json.loads(json.dumps(measure()))
    assert report["machine"]["threads"] == 1
    expected = {case for case in latency.CASES if case not in TABLE or case in _backends.get("cpu").filters}
    assert {row["case"] for row in report["rows"]} == expected > {"round", "batch", *FILTERS[1:]}
    for row in report["rows"]:
        assert row["median_ms"] > 0
        assert row["samples"] == 3
        assert row["candidate"].startswith("sdie_fast") or row["difference"]
    ours = [row for row in report["rows"] if row["candidate"] in ("sdie_fast", "sdie_fast exact")]
    assert all(row["ratio"] == 1.0 for row in ours)


@pytest.mark.parametrize("name", list(TABLE)[1:])
def test_every_peer_agrees(name):
    g = latency.sample(40, 56)
    ours, *others = latency.candidates(name, g, 1, "disk", peers=True, backend="reference")[0]
    answer = np.array(ours.call())
    for candidate in others:
        assert "of 255" in latency.check(name, candidate.name, candidate.bound, answer, np.array(candidate.call()))
    if name != "wls":
        assert [c.name for c in others] == [p.name for p in peers.PEERS if p.case == name] or "cv2" not in sys.modules


def test_a_filter_without_a_peer_is_measured_by_itself(compiled, monkeypatch):
    monkeypatch.setattr(latency, "PEERS", ())
    assert [row["candidate"] for row in measure("guided")["rows"]] == ["sdie_fast"]


def test_wrong_answers_are_not_timed(compiled, monkeypatch):
    pytest.importorskip("cv2")
    strict = peers.Bound(0.0, 0.0, "nothing")
    monkeypatch.setattr(latency, "PEERS", [p._replace(bound=strict) for p in peers.PEERS if p.case == "sharpen"])
    with pytest.raises(SdieError, match=r"sharpen: OpenCV differs by .* expected"):
        measure("sharpen")


def test_comparison():
    g = np.zeros((9, 9), np.uint8)
    other = g.copy()
    other[0, 4] = 9
    bound = peers.Bound(1.0, 0.5, "because")
    with pytest.raises(SdieError, match=r"case: who differs by 9\.00"):
        latency.check("case", "who", bound, g, other)
    assert latency.check("case", "who", bound._replace(margin=1), g, other) == "0.0 (mean 0.00) of 255: because"
    assert latency.check("case", "who", bound, g + np.uint8(51), np.full(g.shape, 0.2)).startswith("0.0 ")
    with pytest.raises(SdieError, match="differs by nan"):
        latency.check("case", "who", bound, g, np.full(g.shape, np.nan))


@pytest.mark.parametrize(("case", "found"), [("guided", 0), ("round", 0), ("bilateral", 1)])
def test_opencv_without_its_contrib_modules(compiled, monkeypatch, case, found):
    cv2 = pytest.importorskip("cv2")
    plain = types.SimpleNamespace(**{name: getattr(cv2, name) for name in dir(cv2) if name != "ximgproc"})
    monkeypatch.setitem(sys.modules, "cv2", plain)
    report = measure(case)
    assert sum(row["candidate"].startswith("OpenCV") for row in report["rows"]) == found
    assert len(report["missing"]) == 1 - found
    for words in report["missing"]:
        assert words.startswith(f"{case}, OpenCV")
        assert f"OpenCV {cv2.__version__} is installed without its contrib modules (ximgproc)" in words
        assert "pip install opencv-contrib-python-headless" in words


def test_what_is_not_installed_is_named(compiled, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyamg", None)
    report = measure("wls", sizes=[(48, 64), (40, 40)])
    (words,) = [words for words in report["missing"] if "pyamg" in words]  # once, not for each size
    assert words.startswith("wls, pyamg: not measured: pyamg does not load")
    assert "pyamg" not in {row["candidate"] for row in report["rows"]}
    assert measure("wls", peers=False)["missing"] == []


def test_unknown_case():
    with pytest.raises(InvalidArgumentError, match=r"--case: 'mean'; accepted are round, .*median"):
        measure("mean")
