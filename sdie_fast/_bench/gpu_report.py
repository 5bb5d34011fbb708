"""The GPU tables of bench/RESULTS.md, from a run of `bench/bench_cuda.py` or from none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._files import replace_file
from ..errors import SdieError
from .gpu_candidates import COMPOSED, OURS

BEGIN = "<!-- gpu tables: written by bench/bench_cuda.py -->"
END = "<!-- end of gpu tables -->"
NOT_MEASURED = "not measured"

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be reached on an H200: `unit` also says whether more or less is better."""

    what: str
    wanted: str
    limit: float
    least: bool  # the figure must be at least the limit; else at most


TARGETS = {
    "round": Target("512 of 200 x 200 uint8, one fast round", "10 Gpx/s", 10.0, True),
    "round-ratio": Target("the same against the round composed in torch", "10x", 10.0, True),
    "local": Target("the same images, the local filters alone", "30 Gpx/s", 30.0, True),
    "exact": Target("the same images, exact WLS alone", "1 Gpx/s", 1.0, True),
    "single": Target("one image of 200 x 200, five rounds", "under 1 ms", 1.0, False),
    "square": Target("1024 x 1024, pixels a second against 200 x 200's", "1x", 1.0, True),
    "line": Target("a frame of 16,384 x 1,024, one fast round", "4.9 Gpx/s", 4.9, True),
    "encoder": Target("SAM ViT-B's encoder, bfloat16, batches of 8", "200 images/s", 200.0, True),
}


def _best(rows: Sequence[Row], case: str, where: str = "device") -> Row | None:
    """Quickest row of this package's for a case, from device to device."""
    mine = [r for r in rows if r["case"] == case and r["candidate"].startswith(OURS) and r["where"].startswith(where)]
    return min(mine, key=lambda r: float(r["median_ms"]), default=None)


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Figure of each target that was measured, in the target's unit."""
    found: dict[str, float] = {}
    best = {case: _best(rows, case) for case in ("round", "local", "exact", "single", "square", "line")}
    for case, row in best.items():
        if row is not None:
            found[case] = float(row["median_ms"] if case == "single" else row["gpx_per_s"])
    if best["round"] is not None and best["square"] is not None:
        found["square"] = found["square"] / found["round"]
    else:
        found.pop("square", None)
    composed = [r for r in rows if r["case"] == "round" and r["candidate"] == COMPOSED and r["where"] == "device"]
    if best["round"] is not None and composed:
        found["round-ratio"] = composed[0]["median_ms"] / best["round"]["median_ms"]
    encoders = [r["images_per_s"] for r in rows if r["case"] == "encoder" and r["candidate"].startswith("TorchSam")]
    if encoders:
        found["encoder"] = max(encoders)
    return found


def crossover(rows: Sequence[Row]) -> int | None:
    """Elements from which on an image on the host is enhanced sooner by the GPU than by all cores; None: never seen.

    The least size measured at which, and at all larger ones, the GPU was faster.
    """
    times: dict[int, dict[str, float]] = {}
    for r in rows:
        if r["case"] == "crossover":
            times.setdefault(int(r["elements"]), {})[r["where"]] = float(r["median_ms"])
    least = None
    for elements, by_where in sorted(times.items(), reverse=True):
        if not by_where.get("host to host", float("inf")) < by_where.get("CPU", 0.0):
            break
        least = elements
    return least


def _figure(key: str, value: float) -> str:
    if key == "single":
        return f"{value:.3f} ms"
    if key in ("round-ratio", "square"):
        return f"{value:.2f}x"
    return f"{value:.0f} images/s" if key == "encoder" else f"{value:.2f} Gpx/s"


def targets_table(rows: Sequence[Row] | None) -> str:
    """Lay out the targets beside what was measured, or that nothing was."""
    found = figures(rows or ())
    lines = ["| what, on an H200 | target | measured | |", "|---|---|---|---|"]
    for key, target in TARGETS.items():
        if key not in found:
            lines.append(f"| {target.what} | {target.wanted} | {NOT_MEASURED} | |")
            continue
        met = found[key] >= target.limit if target.least else found[key] < target.limit
        lines.append(
            f"| {target.what} | {target.wanted} | {_figure(key, found[key])} | {'met' if met else 'missed'} |"
        )
    return "\n".join(lines)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def rows_table(rows: Sequence[Row]) -> str:
    """Lay out the enhancement cases."""
    lines = [
        "| case | candidate | time includes | median ms | IQR | Gpx/s | ratio | floor, bytes: ms "
        "| floor, arithmetic: ms | share of the floor | answer differs by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    previous = ""
    for r in rows:
        if r["case"] == "encoder":
            continue
        first = r["title"] if r["title"] != previous else ""
        previous = r["title"]
        share = r.get("share")
        lines.append(
            f"| {first} | {r['candidate']} | {r['where']} | {r['median_ms']:.3f} | {r['iqr_ms']:.3f} "
            f"| {r['gpx_per_s']:.3f} | {r['ratio']:.2f}x | {_milliseconds(r.get('floor_bytes_ms'))} "
            f"| {_milliseconds(r.get('floor_arithmetic_ms'))} | {'' if share is None else f'{share:.0%}'} "
            f"| {r['difference']} |"
        )
    return "\n".join(lines)


def encoder_table(rows: Sequence[Row]) -> str:
    """Lay out the encoder's rows; empty where it was not measured."""
    lines = [
        "| SAM's encoder | median ms a batch | IQR | images/s | embedding's error over its spread |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        if r["case"] == "encoder":
            lines.append(
                f"| {r['candidate']}, batches of {r['batch']} | {r['median_ms']:.2f} | {r['iqr_ms']:.2f} "
                f"| {r['images_per_s']:.1f} | {r['difference']} |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def summary(report: Mapping[str, Any] | None) -> str:
    """Write the targets alone, and on which GPU they were measured: what the docs quote."""
    if report is None:
        return f"Measured: nothing yet.\n\n{targets_table(None)}"
    return f"Measured {report['date']} on {report['machine']['gpu']}.\n\n{targets_table(report['rows'])}"


def markdown(report: Mapping[str, Any] | None) -> str:
    """Write the section's text between the markers.

    Parameters
    ----------
    report : mapping or None
        What a run found: "machine", "rates", "rows", "notes", "command", "date". None: nothing was ever run.
    """
    if report is None:
        return "\n".join(
            [
                "Nothing here was ever run on a GPU. `tools/gpu_check.sh` fills this section in.",
                "",
                targets_table(None),
            ]
        )
    machine, rates = report["machine"], report["rates"]
    rows = report["rows"]
    parts = [
        f"{report['date']}, {machine['gpu']}, {machine['multiprocessors']} multiprocessors, "
        f"{machine['l2_megabytes']:.0f} MB of L2, driver {machine['driver']}, "
        + ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
        + f". `{report['command']}`",
        "",
        f"Measured in the same run: {rates['bytes'] / 1e12:.2f} TB/s copied (read plus written), "
        f"{rates['lanes'] / 1e12:.1f} T float32 operations a second (a fused multiply-add is one), "
        f"{rates['special'] / 1e12:.2f} T special functions a second.",
        "",
        targets_table(rows),
        "",
        "Ratio: the candidate's time over the first one's of its case, both for each pixel. Floor: the least time of "
        "the case at these rates; share: the floor over the candidate's time.",
        "",
        rows_table(rows),
    ]
    if any(r["case"] == "crossover" for r in rows):
        least = crossover(rows)
        parts += [
            "",
            "Images on the host: the GPU is not faster at the largest size measured."
            if least is None
            else f"Images on the host: the GPU is faster from {least:,} elements on (`_backends.CROSSOVER_ELEMENTS`).",
        ]
    encoder = encoder_table(rows)
    if encoder:
        parts += ["", encoder]
    if report["notes"]:
        parts += ["", "Not measured in this run:", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(parts)


def with_section(text: str, section: str) -> str:
    """Replace what stands between the markers.

    Raises
    ------
    SdieError
        The text has not each marker once, in order.
    """
    begin, end = text.find(BEGIN), text.find(END)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or end < begin:
        raise SdieError(f"one line {BEGIN!r} and, after it, one {END!r} are needed")
    return f"{text[: begin + len(BEGIN)]}\n\n{section}\n\n{text[end:]}"


def write_section(path: Path, section: str) -> None:
    """Put a section into a Markdown file, which appears whole or stays as it was."""
    try:
        text = with_section(path.read_text(encoding="utf-8"), section)
    except SdieError as error:
        raise SdieError(f"{path}: {error}") from error
    replace_file(path, lambda file: file.write(text.encode("utf-8")))
