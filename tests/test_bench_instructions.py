"""How bench/instructions.py reads callgrind's sums, and what it says of them; nothing is counted here."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from sdie_fast.filters import FILTERS, TABLE, FilterParams

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "instructions.py"
spec = importlib.util.spec_from_file_location("instructions", SCRIPT)
instructions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(instructions)

KEPT = {
    "isa": "x86-64-v3",
    "compiler": "GNU 12.2.0",
    "libc": "glibc 2.36",
    "valgrind": "3.19.0",
    "instructions": {"wls": 1000, "round": 10_000},
}


def found(*, counts=None, **changes):
    other = copy.deepcopy(KEPT) | changes
    other["instructions"].update(counts or {})
    return other


@pytest.mark.parametrize("count", [970, 1000, 1030])
def test_within_three_per_cent_nothing_is_said(count):
    assert instructions.compare(KEPT, found(counts={"wls": count})) == ([], [])


def test_more_fails_and_says_by_how_much():
    verdict = instructions.compare(KEPT, found(counts={"wls": 1031}))
    assert verdict.more == ["wls"]
    assert verdict.lines == ["wls: 1,031 instructions, +3.1% against the 1,000 kept"]


def test_fewer_passes_and_asks_for_an_update():
    verdict = instructions.compare(KEPT, found(counts={"round": 9_000}))
    assert verdict.more == []
    assert "-10.0%" in verdict.lines[0]
    assert "--update" in verdict.lines[0]


def test_cases_that_come_and_go_fail():
    other = found(counts={"sobel": 5})
    del other["instructions"]["round"]
    verdict = instructions.compare(KEPT, other)
    assert verdict.more == ["sobel", "round"]


@pytest.mark.parametrize("compiler", ["GNU 13.1.0", "Clang 12.2.0"])
def test_another_compiler_is_not_compared(compiler):
    verdict = instructions.compare(KEPT, found(compiler=compiler, counts={"wls": 5000}))
    assert verdict.more is None
    assert compiler in verdict.lines[0]
    assert "GNU 12.2.0" in verdict.lines[0]


def test_a_minor_version_is_compared_and_named_where_counts_differ():
    same = found(compiler="GNU 12.3.0", libc="glibc 2.37")
    assert instructions.compare(KEPT, same) == ([], [])
    verdict = instructions.compare(KEPT, found(compiler="GNU 12.3.0", libc="glibc 2.37", counts={"wls": 2000}))
    assert verdict.more == ["wls"]
    assert verdict.lines[-1] == "not as kept: libc glibc 2.37, was glibc 2.36, compiler GNU 12.3.0, was GNU 12.2.0"


def test_sums_are_read_by_event():
    dump = "version: 1\nevents: Ir Dr D1mr\n\nfn=(1) x\n1 7 8 9\n\nsummary: 123 45 6\ntotals: 123 45 6\n"
    assert instructions.events_of(dump) == {"Ir": 123, "Dr": 45, "D1mr": 6}
    assert instructions.events_of("events: Ir Dr D1mr\nsummary: 123 45\n") == {"Ir": 123, "Dr": 45, "D1mr": 0}
    with pytest.raises(SystemExit, match="without sums"):
        instructions.events_of("events: Ir\n")


def test_the_floor_of_a_round_is_its_filters_and_the_mixing():
    alone = [instructions.floor(name) for name in FILTERS]
    assert instructions.floor("round") == sum(alone) + instructions.MIX
    exact = FilterParams().of("wls").operations()
    assert instructions.floor("wls (exact)") == exact.lanes + exact.special * instructions.SPECIAL
    assert instructions.floor("round (exact wls)") - instructions.floor("round") == pytest.approx(
        instructions.floor("wls (exact)") - instructions.floor("wls")
    )


def test_the_counts_kept_are_of_every_filter_and_have_a_row_each():
    kept = json.loads(SCRIPT.with_suffix(".json").read_text())
    names = ["Mono10p", "Mono10Packed", "Mono12", "Mono12p", "Mono12Packed", "float32"]
    formats = {f"identity ({name})" for name in names}
    assert kept["instructions"].keys() == {*TABLE, "round", "wls (exact)", "round (exact wls)", *formats}
    events = {name: {"Ir": count} for name, count in kept["instructions"].items()}
    rows = instructions.table({"events": events})
    assert len(rows) == 2 + len(events)
    assert all(row.count("|") == 6 for row in rows)


def test_a_missing_program_is_named():
    with pytest.raises(SystemExit, match="sdie_no_such_program is not installed"):
        instructions.run("sdie_no_such_program", "--version")
    with pytest.raises(SystemExit, match="that is why"):
        instructions.run(sys.executable, "-c", "raise SystemExit('that is why')")
