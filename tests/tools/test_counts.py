"""bench/gpu/counts.py: the emulator's lines, and the table made of them."""

from __future__ import annotations

import counts
import pytest
import report


def test_reads_the_emulators_lines():
    text = "_ZN1aE launches=2 blocks=6 warps=12 read=400 written=100 float=30 load=3\n_ZN1bE launches=1 jump=2\n"
    assert counts.parse(text) == {
        "_ZN1aE": {"launches": 2, "blocks": 6, "warps": 12, "read": 400, "written": 100, "float": 30, "load": 3},
        "_ZN1bE": {"launches": 1, "jump": 2},
    }


def test_a_kernel_that_is_not_listed_is_named_all_the_same():
    name = "_ZN9sdie_fast4cuda5local9local_mix12_3clocals_3e9mix_localB2v3B120cw51cXTLSUwv1sE5ArrayIfLi1E"
    assert counts.short(name) == "local: mix_local, not listed"
    assert counts.short("powers") == "powers"


def test_the_table_sums_each_case_and_sets_what_was_before_beside_it():
    def row(case, kernel, thousands, moved):
        return {"case": case, "kernel": kernel, "launches": 1, "thousands": thousands, "bytes": moved}

    rows = [row("round", "a", 1500.0, 40.0), row("round", "b", 500.0, 20.0), row("exact", "c", 18000.0, 2100.0)]
    before = [row("round", "a", 2500.0, 50.0), row("round", "gone", 500.0, 7.0)]
    lines = [line.strip("| ").split(" | ") for line in report.counts_table(rows, before).splitlines()]
    assert ["round", "a", "1", "1,500", "2,500", "40.0", "50.0"] in lines
    assert ["round", "b", "1", "500", "| 20.0"] in lines
    assert ["**round**", "all; at most 20.9 Gpx/s", "| 2,000", "3,000", "60.0", "57.0", "2,100, 90 bytes"] in lines
    # 2,100 bytes at 4.2 TB/s are slower than 18 million warp instructions
    assert ["**exact**", "all; at most 2.0 Gpx/s", "| 18,000", "| 2,100.0", "| 18,000, 1,200 bytes"] in lines


def test_a_case_that_takes_more_than_what_is_kept_is_told():
    def rows(thousands, moved):
        return [{"case": "round", "thousands": thousands, "bytes": moved}] * 2

    kept = {"compiler": {"numba-cuda": "1"}, "now": rows(500, 40)}
    assert counts.compare(rows(514, 41), kept, {"numba-cuda": "1"}) == []
    assert counts.compare(rows(516, 40), kept, {"numba-cuda": "1"}) == [
        "round: 1,032 thousand warp instructions; 1,000 are kept"
    ]
    assert counts.compare(rows(1, 42), kept, {"numba-cuda": "1"}) == ["round: 84 bytes a pixel; 80 are kept"]
    with pytest.raises(LookupError, match="counted with"):
        counts.compare(rows(500, 40), kept, {"numba-cuda": "2"})
