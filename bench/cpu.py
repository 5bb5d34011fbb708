"""The CPU tables of bench/RESULTS.md: measured on this machine, and written in its processor's section there.

    python bench/cpu.py --json cpu.json --write bench/RESULTS.md     # about seven minutes; nothing else should run
    python bench/cpu.py --from cpu.json --write bench/RESULTS.md     # a run's tables once more

It is what `sdie-fast bench` measures, in four parts: the tail of a round, every case on one thread, rounds on every
thread, and a large image. A section is of one processor and instruction set; what stood there is replaced. Needs
`pip install ".[bench]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdie_fast import FILTERS, FilterParams, SdieError, _backends, _core
from sdie_fast._bench.cases import OURS
from sdie_fast._bench.compare import KEYS
from sdie_fast._bench.latency import measure
from sdie_fast._bench.machine import warnings
from sdie_fast._bench.page import FIRST, HEADS, cells, first_cells, note, rates
from sdie_fast._bench.sections import markdown_table, read_section, write_section
from sdie_fast._bench.setting import Setting
from sdie_fast.filters import TABLE

BEGIN = "<!-- cpu tables: written by bench/cpu.py -->"
END = "<!-- end of cpu tables -->"
COUNTS = Path(__file__).with_name("instructions.json")  # of bench/instructions.py
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SMALL, MIDDLE, LARGE = (200, 200), (1024, 1024), (4096, 4096)

Row = Mapping[str, Any]


def parts(threads: int) -> list[dict[str, Any]]:
    """Arguments of `measure` for each part."""
    rounds = ["round", "rounds", "exact-round", "batch", "bilateral", "gaussian", "spatiogram"]
    every = [Setting(size, threads) for size in (SMALL, MIDDLE)]
    return [
        {"settings": [Setting(SMALL)], "cases": ["round"], "repeats": 5000, "seconds": 25.0},
        {"settings": [Setting(SMALL), Setting(MIDDLE)], "repeats": 500, "seconds": 150.0},
        *([{"settings": every, "cases": rounds, "repeats": 500, "seconds": 50.0}] if threads > 1 else []),
        {
            "settings": [Setting(LARGE)],
            "cases": ["round", "exact-round", "wls"],
            "repeats": 50,
            "seconds": 40.0,
            "cold": False,
        },
    ]


def planes() -> dict[str, float]:
    """Float32 planes of working memory for a frame of 16,384 x 1,024, lines either way, whichever needs more."""
    weights = np.zeros((1, 1, len(TABLE)), np.float32)
    weights[..., [name in FILTERS for name in TABLE]] = 1 / len(FILTERS)
    return {
        solver: max(
            _core.workspace_bytes(*size, _backends.core_params(FilterParams(wls_solver=solver)), weights)
            for size in ((1024, 16384), (16384, 1024))
        )
        / (4 * 1024 * 16384)
        for solver in ("exact", "fast")
    }


def run(watch: Callable[[str], None]) -> dict[str, Any]:
    """Measure every part; of a row that two parts have, the first counts, which has more samples."""
    whole: dict[str, Any] = {}
    noise: list[dict[str, Any]] = []
    for part in parts(THREADS):
        report = measure(
            part.pop("settings"), **part, watch=lambda done, total, told: watch(f"{done} of {total}: {told}")
        )
        if not whole:
            whole = {**report, "command": "python bench/cpu.py"}
        else:
            known = {tuple(row[key] for key in KEYS) for row in whole["rows"]}
            whole["rows"] += [row for row in report["rows"] if tuple(row[key] for key in KEYS) not in known]
            calls = [{k: v for k, v in c.items() if k in KEYS} for c in whole["first_calls"]]
            whole["first_calls"] += [
                c for c in report["first_calls"] if {k: v for k, v in c.items() if k in KEYS} not in calls
            ]
            whole["missing"] += [words for words in report["missing"] if words not in whole["missing"]]
            whole["rates"] |= report["rates"]
        noise.append(report["noise"])
    whole["machine"]["threads"] = f"1 and {THREADS}" if THREADS > 1 else 1
    whole["planes"] = planes()
    if COUNTS.exists():
        whole["instructions"] = json.loads(COUNTS.read_text())["instructions"]
    # The load before later parts is that of the parts before them.
    worst = {
        key: max((part[key] for part in noise if part[key] is not None), default=None) for key in ("steal", "spread")
    }
    whole["noise"] |= worst | {"seconds": sum(part["seconds"] for part in noise)}
    whole["noise"]["warnings"] = warnings(whole["noise"]["load"], worst["steal"], worst["spread"], THREADS)
    return whole


class Target(NamedTuple):
    """A figure of a run, and what it should be: at least `limit`, or at most where `least` is False."""

    what: str
    wanted: str
    limit: float
    figure: Callable[[Mapping[str, Any]], float | None]
    least: bool = True
    written: str = "{:.2f}x"


def _find(report: Mapping[str, Any], case: str, side: int, candidate: str, threads: int = 1) -> Row | None:
    """One row; threads 0: more than one."""
    for row in report["rows"]:
        there = row["threads"] == threads or (threads == 0 and row["threads"] > 1)
        if (row["case"], row["size"], row["candidate"]) == (case, f"{side}x{side}", candidate) and there:
            return dict(row)
    return None


def _ratio(case: str, side: int, candidate: str, threads: int = 1) -> Callable[[Mapping[str, Any]], float | None]:
    """A candidate's time over ours in its case."""

    def figure(report: Mapping[str, Any]) -> float | None:
        row = _find(report, case, side, candidate, threads)
        return None if row is None else float(row["ratio"])

    return figure


def _growth(report: Mapping[str, Any]) -> float | None:
    """Time a pixel of exact WLS at 4096 x 4096 over that at 1024 x 1024."""
    middle, large = (_find(report, "wls", side, f"{OURS} exact") for side in (1024, 4096))
    return None if middle is None or large is None else float(middle["mpx_per_s"] / large["mpx_per_s"])


def _fusion(report: Mapping[str, Any]) -> float | None:
    """The fused round's time over the sum of its filters', each alone."""
    whole = _find(report, "shares", 1024, OURS)
    alone = [_find(report, "shares", 1024, f"{OURS}, {name} only") for name in FILTERS if name != "identity"]
    if whole is None or None in alone:
        return None
    return float(whole["median_ms"] / sum(row["median_ms"] for row in alone if row is not None))


def _planes(solver: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda report: report.get("planes", {}).get(solver)


def _instructions(report: Mapping[str, Any]) -> float | None:
    """Instructions a pixel of a round of 200 x 200, as bench/instructions.py counted them."""
    count = report.get("instructions", {}).get("round")
    return None if count is None else float(count) / (SMALL[0] * SMALL[1])


COMPOSED = "OpenCV composed"
ONE = f"{OURS}, one thread"
TARGETS = (
    Target("a round, fast WLS, disk, against OpenCV's, 200 x 200", "7x", 7.0, _ratio("round", 200, COMPOSED)),
    Target("the same, 1024 x 1024", "6x", 6.0, _ratio("round", 1024, COMPOSED)),
    Target(
        "a round, exact WLS, against OpenCV's with its approximate smoother, 200 x 200",
        "1.5x", 1.5, _ratio("exact-round", 200, COMPOSED),
    ),
    Target("the same, 1024 x 1024", "1x", 1.0, _ratio("exact-round", 1024, COMPOSED)),
    Target("the same, 4096 x 4096", "1x", 1.0, _ratio("exact-round", 4096, COMPOSED)),
    Target("exact WLS, time a pixel at 4096 x 4096 over 1024 x 1024", "1.2x at most", 1.2, _growth, least=False),
    Target("exact WLS against SciPy's spsolve, 200 x 200", "50x", 50.0, _ratio("wls", 200, "SciPy spsolve")),
    Target("exact WLS against pyamg, 200 x 200", "30x", 30.0, _ratio("wls", 200, "pyamg")),
    Target("batch of 200 x 200, two cores against one", "1.9x", 1.9, _ratio("batch", 200, ONE, 2)),
    Target("one image of 1024 x 1024, two cores against one", "1.9x", 1.9, _ratio("round", 1024, ONE, 2)),
    Target(
        "a fast round of 200 x 200, instructions a pixel, x86-64-v3",
        "130 at most", 130.0, _instructions, False, "{:.0f}",
    ),
    Target(
        "the fused round over the sum of its filters alone, 1024 x 1024", "0.8x at most", 0.8, _fusion, least=False
    ),
    Target("planes of a 16,384 x 1,024 frame, exact WLS", "6", 6.0, _planes("exact"), False, "{:.1f}"),
    Target("the same, fast WLS", "4", 4.0, _planes("fast"), False, "{:.1f}"),
)  # fmt: skip


def targets_table(report: Mapping[str, Any]) -> str:
    """Lay out the targets beside what a run measured."""
    rows = []
    for target in TARGETS:
        value = target.figure(report)
        measured, verdict = "not measured", ""
        if value is not None:
            measured = target.written.format(value)
            verdict = "met" if (value >= target.limit if target.least else value <= target.limit) else "missed"
        rows.append((target.what, target.wanted, measured, verdict))
    return markdown_table(("what", "target", "measured", ""), rows)


def name_of(report: Mapping[str, Any]) -> str:
    """What a section is of."""
    return f"{report['machine']['processor']}, {report['machine']['instruction set']}"


def _where(row: Row) -> str:
    many = f", {row['batch']} images" * (row["batch"] > 1)
    return f"{row['size'].replace('x', ' x ')}{many}"


def rows_table(rows: Sequence[Row]) -> str:
    """Lay out every candidate; what is as in the line above is left empty."""
    lines, above = [], ("", "", 0)
    for row in rows:
        this = row["case"], _where(row), row["threads"]
        lines.append((*(this if this != above else ("", "", "")), *cells(row)))
        above = this
    return markdown_table(("case", "size", "threads", *HEADS), lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def markdown(report: Mapping[str, Any]) -> str:
    """Write a processor's section."""
    noise = report["noise"]
    facts = ", ".join(f"{k} {v}" for k, v in report["machine"].items() if v)
    text = [
        f"### {name_of(report)}",
        _wrapped(f"{report['date']}, {facts}. `{report['command']}`, {noise['seconds'] / 60:.0f} minutes."),
        _wrapped(f"{rates(report)}. A loop of constant work varied by {noise['spread']:.0%}."),
        *(_wrapped(f"Too noisy to tell small differences: {words}.") for words in noise["warnings"]),
        targets_table(report),
        "Why some are missed stands [below](#what-the-misses-are-made-of). Rounds have fast WLS where nothing else is said.",
        _wrapped(f"{note()[0].upper()}{note()[1:]}."),
        rows_table([row for row in report["rows"] if row["case"] != "shares"]),
        "What each filter costs the round:",
        rows_table([row for row in report["rows"] if row["case"] == "shares"]),
        _wrapped(f"Ours, {FIRST}:"),
        markdown_table(*first_cells(report)),
    ]
    if report["missing"]:
        text.append("\n".join(f"- {words}" for words in report["missing"]))
    return "\n\n".join(text)


def put(path: Path, name: str, section: str) -> None:
    """Write a processor's section between its own marks, which are made, before all others, where they are missing.

    Raises
    ------
    SdieError
        The file has not the marks of the CPU's tables, each once and in order.
    """
    begin, end = f"<!-- cpu: {name} -->", f"<!-- end of cpu: {name} -->"
    others = read_section(path, BEGIN, END)
    if begin in others:
        write_section(path, begin, end, section)
    else:
        write_section(path, BEGIN, END, f"{begin}\n\n{section}\n\n{end}\n\n{others}".rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure or read a run, and write what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python bench/cpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="a run's JSON, instead of measuring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    args = parser.parse_args(arguments)
    try:
        if args.write:
            read_section(args.write, BEGIN, END)  # before minutes are spent
        report = json.loads(args.source.read_text()) if args.source else run(lambda t: print(t, file=sys.stderr))
        if args.json:
            args.json.write_text(json.dumps(report) + "\n")
        if args.write:
            put(args.write, name_of(report), markdown(report))
    except (SdieError, OSError, ValueError, LookupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(targets_table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
