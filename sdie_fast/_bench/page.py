"""The benchmark's page: tables and charts of one run in one HTML file."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluate.page import chart, table, write_page
from . import charts
from .cases import OURS
from .compare import KEYS, Verdict
from .timing import QUANTILES, quantile_name, samples_needed

__all__ = [
    "FIRST",
    "HEADS",
    "VERDICT_HEADS",
    "cells",
    "first_cells",
    "note",
    "rates",
    "setting_words",
    "verdict_tables",
    "write_report",
]

Row = Mapping[str, Any]

HEADS = ("candidate", "samples", "p50 ms", "IQR", *map(quantile_name, QUANTILES[1:]), "Mpx/s", "ratio")
VERDICT_HEADS = ("candidate", "then ms", "now ms", "then / now", "99% interval", "")
FIRST = (
    "ms, medians of three fresh processes: import of the package, the first call (cold), the first call at another "
    "size (warm); beside the p50"
)


def note() -> str:
    """What stands below tables."""
    needed = ", ".join(f"{quantile_name(q)} {samples_needed(q):,}" for q in QUANTILES)
    return (
        "ratio: the candidate's p50 over ours, above 1 where we are faster; -: too few samples for that percentile "
        f"(needed, so that one lies beyond it with a chance of 99%: {needed})"
    )


def rates(report: Mapping[str, Any]) -> str:
    """What the machine can do at all, in words."""
    found = []
    for threads, rate in report["rates"].items():
        peak = "" if rate["multiply_adds"] is None else f", {rate['multiply_adds'] / 1e9:.0f} G multiply-adds/s"
        found.append(f"{threads} thread{'s' * (int(threads) > 1)}: {rate['bytes'] / 1e9:.1f} GB/s copied{peak}")
    return "; ".join(found)


def setting_words(row: Row) -> str:
    """Where a row was measured: '200x200, 2 threads, 64 images'."""
    words = [row["size"], f"{row['threads']} thread{'s' * (row['threads'] > 1)}"]
    words += [f"{row['batch']} images"] * (row["batch"] > 1) + [f"{row['rounds']} rounds"] * (row["rounds"] > 1)
    return ", ".join(words + [row["backend"]] * (row["backend"] != "cpu"))


def cells(row: Row) -> tuple[str, ...]:
    """One candidate's figures as `HEADS` names them."""
    name = row["candidate"] + f", {row['version']}" * bool(row["version"])
    times = [row["median_ms"], row["iqr_ms"], *(row[f"{quantile_name(q)}_ms"] for q in QUANTILES[1:])]
    written = ("-" if ms is None else f"{ms:.3f}" for ms in times)
    return name, f"{row['samples']:,}", *written, f"{row['mpx_per_s']:.1f}", f"{row['ratio']:.2f}x"


def verdict_tables(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Comparisons case by case: a title, and rows as `VERDICT_HEADS` names them."""
    for key, group in itertools.groupby(verdicts, key=lambda v: v.key[:-1]):
        where = dict(zip(KEYS, key, strict=False))
        yield (
            f"{where['case']}, {setting_words(where)}",
            [
                (
                    v.key[-1],
                    f"{v.old_ms:.3f}",
                    f"{v.new_ms:.3f}",
                    f"{v.ratio:.3f}",
                    f"{v.low:.3f} to {v.high:.3f}",
                    v.verdict,
                )
                for v in group
            ],
        )


def write_report(path: Path, report: Mapping[str, Any], verdicts: Sequence[Verdict] = ()) -> None:
    """Write the page, by atomic rename.

    Raises
    ------
    ImportError
        There is no matplotlib.
    OSError
        The file cannot be written.
    """
    rows, noise = report["rows"], report["noise"]
    measured = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value)
    steal = "not told" if noise["steal"] is None else f"{noise['steal']:.1%}"
    load = "not told" if noise["load"] is None else f"{noise['load']:.1f}"
    facts = (
        f"<p>{html.escape(report['date'])}: {html.escape(measured)}.</p><p>{rates(report)}.</p>"
        f"<p>{noise['seconds']:.0f} s; load before {load}; time stolen by the hypervisor {steal}; a loop of constant "
        f"work varied by {noise['spread']:.0%}.</p>"
    )
    warnings = "".join(
        f'<p class="warning">Too noisy to tell small differences: {html.escape(w)}.</p>' for w in noise["warnings"]
    )
    compared = ""
    if verdicts:
        compared = "<h2>Against the older run</h2>" + "".join(
            f"<h3>{title}</h3>{table(rows, VERDICT_HEADS)}" for title, rows in verdict_tables(verdicts)
        )
    parts = [facts, warnings, compared, _distributions(rows), _scaling(rows), _shares(rows), _roof(report)]
    groups = itertools.groupby(rows, key=lambda row: (row["case"], setting_words(row)))
    tables = "".join(f"<h3>{case}, {where}</h3>{table(map(cells, group), HEADS)}" for (case, where), group in groups)
    parts += [f"<h2>All figures</h2><p>{html.escape(note())}</p>", tables, _first(report)]
    if report["missing"]:
        parts.append("<h2>Not measured</h2>" + "".join(f"<p>{html.escape(words)}</p>" for words in report["missing"]))
    write_page(path, "Latency of sdie_fast and others", "".join(parts))


def _distributions(rows: Sequence[Row]) -> str:
    """A chart for each setting, a panel for each case; of one or two cases, one chart of all settings."""
    rows = [row for row in rows if row["case"] != "shares"]
    if not rows:
        return ""
    few = len({row["case"] for row in rows}) <= 2
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        where = setting_words({**row, "batch": 1, "rounds": 1})
        many = [f"{row['batch']} images"] * (row["batch"] > 1) + [f"{row['rounds']} rounds"] * (row["rounds"] > 1)
        panel = ", ".join([row["case"], *([setting_words(row)] if few else many)])
        found.setdefault("" if few else where, {}).setdefault(panel, []).append(row)
    parts = [
        "<h2>How long calls take</h2><p>Share of the calls that were done within a time; further left is faster.</p>"
    ]
    for where, panels in found.items():
        picture = chart(charts.distributions(panels), "shares of calls over time", kind="svg+xml", wide=True)
        parts.append(f"<h3>{where}</h3>{picture}" if where else picture)
    return "".join(parts)


_SWEPT = (("pixels", "image size"), ("threads", "threads"), ("batch", "images"), ("rounds", "rounds"))


def _scaling(rows: Sequence[Row]) -> str:
    """A chart for each key that was swept, at the first value of the others."""
    rows = [{**row, "pixels": _pixels(row["size"])} for row in rows if row["case"] != "shares"]
    parts = []
    for key, label in _SWEPT:
        panels: dict[str, list[Row]] = {}
        for case in dict.fromkeys(row["case"] for row in rows):
            of_case = [row for row in rows if row["case"] == case]
            others = [name for name in ("size", "threads", "batch", "rounds", "backend") if name != key]
            if key == "pixels":
                others = ["threads", "rounds", "backend"]  # larger images make smaller batches
            for row in of_case:
                if all(row[name] == of_case[0][name] for name in others):
                    panels.setdefault(case, []).append(row)
        panels = {case: those for case, those in panels.items() if len({row[key] for row in those}) > 1}
        if panels:
            picture = charts.scaling(key, label, panels)
            what = "in proportion would be the dashed line; " * (key == "threads") + "higher is faster"
            parts.append(
                f"<h2>By {label}</h2><p>{what.capitalize()}.</p>{chart(picture, label, kind='svg+xml', wide=True)}"
            )
    return "".join(parts)


def _pixels(size: str) -> int:
    height, width = map(int, size.split("x"))
    return height * width


def _shares(rows: Sequence[Row]) -> str:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["case"] == "shares":
            groups.setdefault(setting_words(row), []).append(row)
    if not groups:
        return ""
    picture = chart(charts.shares(groups), "share of each filter", kind="svg+xml", wide=True)
    return (
        "<h2>What each filter costs the round</h2><p>Milliseconds, with fast WLS. Full: the filter alone, which also "
        "loads and stores the image. Hatched: the round less the round without the filter, which leaves out what "
        f"filters share.</p>{picture}"
    )


def _roof(report: Mapping[str, Any]) -> str:
    parts = []
    for threads, rate in report["rates"].items():
        rows = [
            row
            for row in report["rows"]
            if row["candidate"] in (OURS, f"{OURS} fast", f"{OURS} exact")
            and (row["threads"], row["batch"], row["rounds"], row["backend"]) == (int(threads), 1, 1, "cpu")
            and row["case"] != "shares"
        ]
        if rate["multiply_adds"] is None:
            return "<h2>Roofline</h2><p>The peak was not measured: pip install threadpoolctl</p>"
        for size in dict.fromkeys(row["size"] for row in rows):
            these = [row for row in rows if row["size"] == size]
            picture = charts.roof(these, rate["bytes"], rate["multiply_adds"])
            parts.append(f"<h3>{setting_words(these[0])}</h3>{chart(picture, 'roofline', kind='svg+xml')}")
    if not parts:
        return ""
    return (
        "<h2>Roofline</h2><p>How near ours come to what this machine allows, measured here: memory by a copy, "
        "arithmetic by a product of float32 matrices. Operations are what the definitions need, counted by hand; a "
        "special function counts as eight. Bytes are one read and one write of each pixel.</p>" + "".join(parts)
    )


def first_cells(report: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Our first calls beside the steady ones, in ms: heads and rows of a table; `FIRST` explains them."""
    steady = {
        (row["case"], setting_words(row)): row["median_ms"]
        for row in report["rows"]
        if row["candidate"] in (OURS, f"{OURS} exact")
    }
    rows = [
        (
            f"{calls['case']}, {setting_words(calls)}",
            *(f"{calls[name]:.2f}" for name in ("import_ms", "process_ms", "size_ms")),
            f"{steady[calls['case'], setting_words(calls)]:.2f}",
        )
        for calls in report["first_calls"]
    ]
    return ("case", "import", "cold", "warm", "p50"), rows


def _first(report: Mapping[str, Any]) -> str:
    heads, rows = first_cells(report)
    if not rows:
        return ""
    return f"<h2>Ours, cold and warm</h2><p>{FIRST}.</p>{table(rows, heads)}"
