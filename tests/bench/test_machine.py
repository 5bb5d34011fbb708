from __future__ import annotations

import sys

import pytest

from sdie_fast import FilterParams
from sdie_fast._bench import machine, roofline


def test_facts_of_this_machine():
    facts = machine.machine("1, 2")
    assert facts["processor"]
    assert facts["threads"] == "1, 2"
    assert facts["NumPy"] == machine.installed("none-such", "numpy")
    assert machine.installed("none-such") is None


def test_facts_are_read_from_the_system(tmp_path, monkeypatch):
    for index, (level, kind, size) in enumerate([(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2M")]):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    (tmp_path / "cpufreq").mkdir()
    for name, value in {
        "scaling_cur_freq": 2100000,
        "cpuinfo_max_freq": 3500000,
        "scaling_governor": "powersave",
    }.items():
        (tmp_path / "cpufreq" / name).write_text(f"{value}\n")
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    facts = machine.machine(1)
    assert facts["caches"] == "L1d 48K, L2 2M"
    assert facts["frequency"] == "2.10 of 3.50 GHz"
    assert facts["governor"] == "powersave"
    monkeypatch.setattr(machine, "_CPU", tmp_path / "none")
    assert machine.machine(1)["caches"] is None
    assert machine.machine(1)["governor"] is None


@pytest.mark.parametrize(
    ("load", "steal", "spread", "words"),
    [
        (0.1, 0.0, 0.1, []),
        (None, None, 0.1, []),
        (0.1, 0.0, 0.5, ["a loop of constant work varied by 50%"]),
        (0.1, 0.1, 0.1, ["the hypervisor gave 10.0%"]),
        (3.0, 0.0, 0.1, ["the load was 3.0"]),
    ],
)
def test_warnings(monkeypatch, load, steal, spread, words):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    found = machine.warnings(load, steal, spread, 1)
    assert [warning[: len(word)] for warning, word in zip(found, words, strict=True)] == words
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)  # the others have room
    assert machine.warnings(3.0, 0.0, 0.1, 1) == []


def test_noise(monkeypatch):
    jiffies = iter([(1000, 10), (1400, 30)])
    monkeypatch.setattr(machine, "_jiffies", lambda: next(jiffies))
    noise = machine.Watch(1).noise([0.001] * 8 + [0.003] * 2)
    assert noise["steal"] == pytest.approx(20 / 400)
    assert noise["reference_ms"] == pytest.approx(1.0)
    assert noise["spread"] == pytest.approx(2.0)
    assert len(noise["warnings"]) >= 2


def test_noise_where_the_system_tells_nothing(monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda path: None)
    monkeypatch.delattr(machine.os, "getloadavg", raising=False)
    noise = machine.Watch(1).noise([0.001] * 10)
    assert (noise["load"], noise["steal"], noise["warnings"]) == (None, None, [])
    assert machine.machine(1)["frequency"] is None


def test_reference_loop():
    assert 0 < machine.reference_loop()() < 1


def test_rates():
    assert 1e8 < roofline.bandwidth(2, size=1 << 22, repeats=2) < 1e13
    pytest.importorskip("threadpoolctl")
    assert 1e7 < roofline.peak(1, side=128, repeats=2) < 1e13


def test_no_peak_where_threads_cannot_be_held(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with machine.held(1) as done:
        assert not done
    assert roofline.peak(1, side=16, repeats=1) is None


def test_operations_of_a_round():
    """A 7 x 7 Gaussian both ways by 7 operations each, 3 to sharpen; 10 to load, mix and store."""
    params = FilterParams()
    assert roofline.operations({"sharpen": 1}, params) == 27
    assert roofline.operations({"sharpen": 1}, params, rounds=5) == 5 * 27
    count = params.of("bilateral").operations()
    assert roofline.operations({"sharpen": 1, "bilateral": 2}, params) == 27 + count.lanes + 8 * count.special
