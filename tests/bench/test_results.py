"""The CPU tables of bench/RESULTS.md: what bench/cpu.py computes, and where it writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from sdie_fast import FILTERS
from sdie_fast._bench import sections
from sdie_fast.errors import SdieError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cpu(compiled):
    """The program, as a module."""
    spec = importlib.util.spec_from_file_location("bench_cpu", ROOT / "bench" / "cpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(case, side, candidate, ms, ratio=1.0, threads=1):
    return {
        "case": case, "size": f"{side}x{side}", "threads": threads, "batch": 1, "rounds": 1, "backend": "cpu",
        "candidate": candidate, "version": "", "samples": 50, "median_ms": ms, "iqr_ms": 0.1, "p50_ms": ms,
        "p90_ms": 2 * ms, "p99_ms": None, "p99.9_ms": None, "mpx_per_s": side * side / ms / 1e3, "ratio": ratio,
    }  # fmt: skip


def found():
    return {
        "date": "2026-01-02", "command": "python bench/cpu.py",
        "machine": {"processor": "Some CPU", "instruction set": "x86-64-v3", "CPUs": 2, "governor": None},
        "noise": {"spread": 0.1, "seconds": 300.0, "warnings": ["too loud"]},
        "rates": {"1": {"bytes": 2e10, "multiply_adds": 5e10}, "2": {"bytes": 3e10, "multiply_adds": None}},
        "instructions": {"round": 5_200_000},
        "planes": {"exact": 6.0, "fast": 4.1},
        "missing": ["guided, X: not measured: gone"],
        "first_calls": [],
        "rows": [
            row("round", 200, "sdie_fast", 0.5), row("round", 200, "OpenCV composed", 4.0, 8.0),
            row("round", 1024, "OpenCV composed", 4.0, 5.99), row("exact-round", 1024, "OpenCV composed", 4.0, 1.0),
            row("wls", 1024, "sdie_fast exact", 100.0), row("wls", 4096, "sdie_fast exact", 1920.0),
            row("batch", 200, "sdie_fast, one thread", 9.0, 1.95, threads=2),
            row("batch", 200, "sdie_fast, one thread", 9.0, 3.0, threads=4),
            row("shares", 1024, "sdie_fast", 9.0),
            *(row("shares", 1024, f"sdie_fast, {name} only", 2.5) for name in FILTERS),
        ],
    }  # fmt: skip


def test_targets(cpu):
    table = cpu.targets_table(found())
    for line in (
        "200 x 200 | 7x | 8.00x | met |",
        "the same, 1024 x 1024 | 6x | 5.99x | missed |",
        "the same, 1024 x 1024 | 1x | 1.00x | met |",
        "over 1024 x 1024 | 1.2x at most | 1.20x | met |",
        "two cores against one | 1.9x | 1.95x | met |",
        "alone, 1024 x 1024 | 0.8x at most | 0.72x | met |",  # 9 over five times 2.5: the identity is no filter
        "x86-64-v3 | 130 at most | 130 | met |",
        "exact WLS | 6 | 6.0 | met |",
        "fast WLS | 4 | 4.1 | missed |",
        "against pyamg, 200 x 200 | 30x | not measured | |",
    ):
        assert line in table, line
    assert table.count("| met |") == 7
    bare = found() | {"rows": [], "planes": {}, "instructions": {}}
    assert cpu.targets_table(bare).count("| not measured | |") == len(cpu.TARGETS)


def test_sections_of_processors(cpu, tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text(f"# Before\n\n{cpu.BEGIN}\n\n{cpu.END}\n\n## After\n")
    run = tmp_path / "run.json"
    for name, ms in (("Some CPU", 0.5), ("Another", 0.25), ("Some CPU", 0.125)):
        report = found()
        report["machine"]["processor"] = name
        report["rows"][0]["median_ms"] = ms
        run.write_text(json.dumps(report))
        assert cpu.main(["--from", str(run), "--write", str(path)]) == 0
    text = path.read_text()
    assert text.startswith("# Before\n\n<!-- cpu tables")
    assert text.endswith("<!-- end of cpu tables -->\n\n## After\n")
    assert text.count("### ") == 2
    assert text.count("<!-- cpu: Some CPU, x86-64-v3 -->") == 1
    assert "| round | 200 x 200 | 1 | sdie_fast | 50 | 0.125 | 0.100 | 1.000 | - | - | 80.0 | 1.00x |" in text
    assert "| 0.250 |" in text  # the other's
    assert "| 0.500 |" not in text  # replaced
    assert "| | | | OpenCV composed |" in text
    for words in ("2026-01-02, processor Some CPU", "20.0 GB/s", "too loud", "not measured: gone", "5 minutes"):
        assert words in text
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("|")))) <= 119


def test_a_file_without_marks_is_left_alone(cpu, tmp_path, capsys, monkeypatch):
    path = tmp_path / "RESULTS.md"
    path.write_text("no marks")
    monkeypatch.setattr(cpu, "run", lambda watch: pytest.fail("measured"))
    assert cpu.main(["--write", str(path)]) == 2
    assert "<!-- cpu tables" in capsys.readouterr().err
    assert path.read_text() == "no marks"
    assert cpu.main(["--from", str(tmp_path / "none.json")]) == 2


def test_run_of_every_part(cpu, tmp_path, monkeypatch):
    small = cpu.Setting((32, 32))

    def parts(threads):
        return [
            {"settings": [small], "cases": ["gamma"], "repeats": 9, "seconds": 1.0, "peers": False},
            {"settings": [small], "cases": ["gamma", "median"], "repeats": 7, "seconds": 1.0, "peers": False},
        ]

    assert {key for part in cpu.parts(2) for key in part} <= {"settings", "cases", "repeats", "seconds", "cold"}
    monkeypatch.setattr(cpu, "parts", parts)
    told = []
    report = cpu.run(told.append)
    assert [(r["case"], r["samples"]) for r in report["rows"]] == [("gamma", 9), ("median", 7)]
    assert [calls["case"] for calls in report["first_calls"]] == ["gamma", "median"]
    assert report["planes"]["exact"] > report["planes"]["fast"] > 1
    assert any("gamma" in words for words in told)
    assert cpu.name_of(report) in cpu.markdown(report)


def test_results_have_sections(cpu):
    text = sections.read_section(ROOT / "bench" / "RESULTS.md", cpu.BEGIN, cpu.END)
    assert text.count("<!-- cpu: ") == text.count("<!-- end of cpu: ") >= 2


def test_tables_and_marks(tmp_path):
    assert sections.markdown_table(("a", "b"), [("x", 1), ("", "")]) == "| a | b |\n|---|---|\n| x | 1 |\n| | |"
    path = tmp_path / "x.md"
    for text in ("BEGIN", "END BEGIN", "BEGIN BEGIN END"):
        path.write_text(text)
        with pytest.raises(SdieError, match="one line 'BEGIN' and, after it, one 'END' are needed"):
            sections.write_section(path, "BEGIN", "END", "new")
    path.write_text("a BEGIN old END z")
    sections.write_section(path, "BEGIN", "END", "new")
    assert path.read_text() == "a BEGIN\n\nnew\n\nEND z"
    assert sections.read_section(path, "BEGIN", "END") == "new"
