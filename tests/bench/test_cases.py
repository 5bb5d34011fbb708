from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from sdie_fast import FILTERS
from sdie_fast._bench import cases, peers
from sdie_fast._bench.setting import Setting
from sdie_fast.errors import InvalidArgumentError, SdieError
from sdie_fast.filters import TABLE

SMALL = Setting((40, 56))


def listed(case, setting=SMALL, **options):
    g = cases.sample(*setting.size)
    return cases.candidates(case, g, setting, "disk", options.pop("with_peers", True), **options)


@pytest.mark.parametrize("name", list(TABLE)[1:])
def test_every_peer_agrees(name):
    found, missing = listed(name, SMALL._replace(backend="reference"))
    ours, *others = found
    answer = np.array(ours.call())
    for candidate in others:
        assert "of 255" in cases.check(name, candidate.name, candidate.bound, answer, np.array(candidate.call()))
    measured = [c.name for c in others if not c.name.startswith(cases.OURS)]
    absent = [words.split(", ")[1].split(": ")[0] for words in missing]
    assert sorted(measured + absent) == sorted(p.name for p in peers.PEERS if p.case == name)


def test_the_fastest_version_is_taken(monkeypatch):
    pytest.importorskip("cv2")
    slow = {"uint8": 3, "float32": 1}
    spent = []
    monkeypatch.setattr(cases, "by_host", lambda call: lambda: slow[call() or spent[-1]])
    found = cases._fastest("x", {name: lambda name=name: spent.append(name) for name in slow}, peers.SAME)
    assert found.version == "float32"
    (cv,) = [c for c in listed("median")[0] if c.name == "OpenCV"]
    assert cv.version == ""  # there is but one


def test_peers_in_floats_and_bytes_give_the_same():
    pytest.importorskip("cv2")
    g = cases.sample(64, 80)
    for name in ("bilateral", "sharpen", "guided", "gamma", "gaussian"):
        both = peers._opencv(name)(g, Setting())
        eight, unit = both["uint8"](), both["float32"]()
        assert (eight.dtype, unit.dtype) == (np.uint8, np.float32)
        assert np.abs(eight - 255.0 * np.clip(unit, 0, 1)).max() < 2.1, name


def test_a_peer_that_takes_every_cpu_is_measured_with_all_alone(monkeypatch):
    pytest.importorskip("kornia_rs")
    monkeypatch.setattr(peers.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    g = cases.sample(40, 56)
    with pytest.raises(ImportError, match="cannot be held to 2; --threads 3 has it"):
        peers._kornia_rs("equalize_hist")(g, Setting(threads=2))
    assert peers._kornia_rs("equalize_hist")(g, Setting(threads=3))().shape == g.shape


def test_shares_are_of_the_round_with_and_without_each_filter(compiled):
    found, missing = listed("shares")
    assert missing == []
    assert [c.name for c in found] == [
        "sdie_fast",
        *(f"sdie_fast, {words}" for name in FILTERS for words in (f"{name} only", f"no {name}")),
    ]
    by_name = {c.name: c.weights for c in found}
    assert set(by_name["sdie_fast, wls only"]) == {"wls"}
    assert set(by_name["sdie_fast, no wls"]) == set(FILTERS) - {"wls"}
    assert set(by_name["sdie_fast"]) == set(FILTERS)


@pytest.mark.parametrize("case", ["round", "rounds", "exact-round", "batch"])
def test_one_thread_stands_beside_many(compiled, case):
    two = SMALL._replace(threads=2, batch=3, rounds=2)
    ours, single = listed(case, two, with_peers=False)[0]
    assert single.name == "sdie_fast, one thread"
    assert np.array_equal(ours.call(), single.call())
    assert len(listed(case, two._replace(threads=1), with_peers=False)[0]) == 1


def test_batches_and_rounds_are_as_set(compiled):
    many = SMALL._replace(batch=3, rounds=2)
    assert listed("batch", many, with_peers=False)[0][0].call().shape == (3, *SMALL.size)
    one = listed("round", many, with_peers=False)[0][0].call().copy()
    assert not np.array_equal(listed("rounds", many, with_peers=False)[0][0].call(), one)


def own(function, case="sharpen"):
    found = listed(case, with_peers=False, own={"mine:f": function})[0][-1]
    assert found.name == "mine:f"
    return found


def test_the_users_candidate(compiled):
    candidate = own(lambda g: np.float32(g) / 255)
    answer = np.array(listed("sharpen", with_peers=False)[0][0].call())
    told = cases.check("sharpen", "mine:f", candidate.bound, answer, candidate.call())
    assert told.endswith("of 255: told, not judged")
    assert not told.startswith("0.0")
    assert own(lambda g: g, "batch").call().shape == (64, *SMALL.size)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda g: g[1:], r"sharpen: mine:f gives uint8 of shape \(39, 56\); .*\(40, 56\) expected"),
        (lambda g: None, "sharpen: mine:f gives object"),
        (lambda g: g > 3, "sharpen: mine:f gives bool"),
        (lambda g: 1 / 0, "sharpen: mine:f: ZeroDivisionError: division by zero"),
        (lambda g: np.copyto(g, 1), "sharpen: mine:f: ValueError: .*read-only"),
        (lambda g: np.full(g.shape, np.nan), "sharpen: mine:f differs by nan"),
    ],
)
def test_a_wrong_candidate_is_named(function, words):
    candidate = own(function)
    with pytest.raises(SdieError, match=words):
        cases.check("sharpen", candidate.name, candidate.bound, np.zeros(SMALL.size, np.uint8), candidate.call())


def test_a_candidate_is_imported_from_this_folder(tmp_path, monkeypatch):
    (tmp_path / "my_smoother_of_tests.py").write_text("def f(g):\n    return g\nlevel = 3\n")
    (tmp_path / "my_broken_module.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert cases.load("my_smoother_of_tests:f")(5) == 5
    for spec, words in {
        "my_smoother_of_tests": "accepted: module:function",
        ":f": "accepted: module:function",
        "my_smoother_of_tests:g": "my_smoother_of_tests:g: .*no attribute 'g'",
        "my_smoother_of_tests:level": "is int; a function of a plane is accepted",
        "none_such_module:f": "No module named 'none_such_module'; looked for in this folder",
    }.items():
        with pytest.raises(InvalidArgumentError, match=words):
            cases.load(spec)
    with pytest.raises(SdieError, match="my_broken_module:f: RuntimeError on import: no licence"):
        cases.load("my_broken_module:f")
    assert sys.path == before


def test_comparison():
    g = np.zeros((9, 9), np.uint8)
    other = g.copy()
    other[0, 4] = 9
    bound = peers.Bound(1.0, 0.5, "because")
    with pytest.raises(SdieError, match=r"case: who differs by 9\.00"):
        cases.check("case", "who", bound, g, other)
    assert cases.check("case", "who", bound._replace(margin=1), g, other) == "0.0 (mean 0.00) of 255: because"
    assert cases.check("case", "who", bound, g + np.uint8(51), np.full(g.shape, 0.2)).startswith("0.0 ")
    with pytest.raises(SdieError, match="differs by nan"):
        cases.check("case", "who", bound, g, np.full(g.shape, np.nan))


@pytest.mark.parametrize(("case", "found"), [("guided", 0), ("round", 0), ("bilateral", 1)])
def test_opencv_without_its_contrib_modules(monkeypatch, case, found):
    cv2 = pytest.importorskip("cv2")
    plain = types.SimpleNamespace(**{name: getattr(cv2, name) for name in dir(cv2) if name != "ximgproc"})
    monkeypatch.setitem(sys.modules, "cv2", plain)
    measured, missing = listed(case)
    assert sum(c.name.startswith("OpenCV") for c in measured) == found
    told = [words for words in missing if "OpenCV" in words]
    assert len(told) == 1 - found
    for words in told:
        assert words.startswith(f"{case}, OpenCV")
        assert f"OpenCV {cv2.__version__} is installed without its contrib modules (ximgproc)" in words
        assert "pip install opencv-contrib-python-headless" in words


def test_a_version_without_a_function_is_told(monkeypatch):
    pytest.importorskip("scipy.ndimage")
    monkeypatch.delattr("scipy.ndimage.median_filter")
    (words,) = [words for words in listed("median")[1] if "SciPy" in words]
    assert words.endswith("this version has no scipy.ndimage.median_filter; pip install --upgrade scipy")


def test_what_is_not_installed_is_named(monkeypatch):
    for module in ("pyamg", "kornia.filters"):
        monkeypatch.setitem(sys.modules, module, None)
    (words,) = [words for words in listed("wls")[1] if "pyamg" in words]
    assert words.startswith("wls, pyamg: not measured: pyamg does not load")
    assert any("pip install kornia" in words for words in listed("guided")[1])
    assert listed("wls", with_peers=False)[1] == []
