"""The GPU tables of bench/RESULTS.md and docs/gpu.md, from a run of this benchmark or from none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdie_fast._bench.sections import markdown_table

__all__ = ["BEGIN", "COUNTS_BEGIN", "COUNTS_END", "END", "counts_table", "crossover", "figures", "markdown"]
__all__ += ["rows_table", "targets_table"]

BEGIN = "<!-- gpu tables: written by bench/gpu -->"
END = "<!-- end of gpu tables -->"
COUNTS_BEGIN = "<!-- gpu counts: written by bench/gpu/counts.py -->"
COUNTS_END = "<!-- end of gpu counts -->"

Row = Mapping[str, Any]

# What is to be reached on an H200: (figure, what, target, limit, how a figure is written).
TARGETS = (
    ("round", "512 of 200 x 200 uint8, one fast round", "10 Gpx/s", 10.0, "{:.2f} Gpx/s"),
    ("ratio", "the same against the round composed in torch", "10x", 10.0, "{:.2f}x"),
    ("local", "the same images, the local filters alone", "30 Gpx/s", 30.0, "{:.2f} Gpx/s"),
    ("exact", "the same images, exact WLS alone", "1 Gpx/s", 1.0, "{:.2f} Gpx/s"),
    ("single", "one image of 200 x 200, five rounds", "under 1 ms", 1.0, "{:.3f} ms"),
    ("square", "1024 x 1024, pixels a second against 200 x 200's", "1x", 1.0, "{:.2f}x"),
    ("line", "a frame of 16,384 x 1,024, one fast round", "4.9 Gpx/s", 4.9, "{:.2f} Gpx/s"),
    ("encoder", "SAM ViT-B's encoder, bfloat16, batches of 8", "200 images/s", 200.0, "{:.0f} images/s"),
)


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Figure of each target that was measured: of this package's quickest candidate from device to device."""
    found: dict[str, float] = {}
    for r in rows:
        if r["candidate"].startswith(("sdie_fast", "TorchSam")) and r["includes"].startswith("device"):
            found[r["case"]] = max(found.get(r["case"], 0.0), float(r["rate"]))
        elif r["case"] == "round" and r["candidate"] == "torch composed":
            found["ratio"] = 1.0 / float(r["rate"])
    if "single" in found:
        found["single"] = 200 * 200 / 1e6 / found["single"]  # milliseconds
    of_round = found.get("round")
    for key, factor in (("ratio", of_round), ("square", of_round and 1.0 / of_round)):
        if key in found and factor:
            found[key] *= factor
        else:
            found.pop(key, None)
    return found


def targets_table(rows: Sequence[Row] = ()) -> str:
    """Lay out the targets beside what was measured, or that nothing was."""
    found = figures(rows)
    lines = ["| what, on an H200 | target | measured | |", "|---|---|---|---|"]
    for key, what, wanted, limit, written in TARGETS:
        measured = written.format(found[key]) if key in found else "not measured"
        verdict = ""
        if key in found:
            met = found[key] < limit if key == "single" else found[key] >= limit
            verdict = "met " if met else "missed "
        lines.append(f"| {what} | {wanted} | {measured} | {verdict}|")
    return "\n".join(lines)


# What counts allow at most: thousand warp instructions an image of 200 x 200, bytes a pixel.
COUNT_LIMITS = {"round": "2,100, 90 bytes", "local": "700 (the mix alone)", "exact": "18,000, 1,200 bytes"}
ISSUED, MOVED = 132 * 4 * 1.98e9, 4.2e12  # warp instructions and bytes a second, of an H200
IMAGE = 200 * 200  # pixels


def counts_table(rows: Sequence[Row], before: Sequence[Row] = ()) -> str:
    """Lay out what `counts.py` counted: each kernel, each case's sum, its target, and the rate that it allows."""

    def sums(of: Sequence[Row], case: str, kernel: str | None) -> tuple[float, float]:
        chosen = [r for r in of if r["case"] == case and (kernel is None or r["kernel"] == kernel)]
        return sum(r["thousands"] for r in chosen), sum(r["bytes"] for r in chosen)

    def cells(case: str, kernel: str | None) -> list[str]:
        made = []
        for place, digits in ((0, 0), (1, 1)):
            made.append(f"{sums(rows, case, kernel)[place]:,.{digits}f}")
            if before:
                past = sums(before, case, kernel)[place]
                made.append(f"{past:,.{digits}f}" if past else "")
        return made

    table = []
    for case in dict.fromkeys(r["case"] for r in rows):
        mine = [r for r in rows if r["case"] == case]
        table += [[case, r["kernel"], r["launches"], *cells(case, r["kernel"]), ""] for r in mine]
        thousands, moved = sums(mine, case, None)
        rate = IMAGE / max(thousands * 1e3 / ISSUED, moved * IMAGE / MOVED) / 1e9
        table.append([f"**{case}**", f"all; at most {rate:.1f} Gpx/s", "", *cells(case, None), COUNT_LIMITS[case]])
    beside = ["before"] if before else []
    heads = ["case", "kernel", "launches", "thousand warp instructions an image", *beside, "bytes a pixel", *beside]
    return markdown_table([*heads, "to reach"], table)


def crossover(rows: Sequence[Row]) -> int | None:
    """Elements from which on an image on the host is enhanced sooner by the GPU than by all cores; None: never seen.

    The least size measured at which, and at all larger ones, the GPU was faster.
    """
    gpu, cpu = (
        {r["elements"]: r["median_ms"] for r in rows if r["case"] == "crossover" and r["includes"] == includes}
        for includes in ("host to host", "CPU")
    )
    least = None
    for elements in sorted(gpu.keys() & cpu.keys(), reverse=True):
        if gpu[elements] >= cpu[elements]:
            break
        least = elements
    return least


def rows_table(rows: Sequence[Row]) -> str:
    """Lay out every candidate of every case."""
    lines = [
        "| case | candidate | time includes | median ms | IQR | rate | ratio | floor, bytes: ms "
        "| floor, arithmetic: ms | share of the floor | answer differs by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    previous = ""
    for r in rows:
        title = r["title"] if r["title"] != previous else ""
        previous = r["title"]
        floor = "| | | "
        if r["floor_ms"]:
            of_bytes, arithmetic = r["floor_ms"]
            floor = f"| {of_bytes:.3f} | {arithmetic:.3f} | {max(r['floor_ms']) / r['median_ms']:.0%} "
        lines.append(
            f"| {title} | {r['candidate']} | {r['includes']} | {r['median_ms']:.3f} | {r['iqr_ms']:.3f} "
            f"| {r['rate']:.3f} {r['unit']} | {r['ratio']:.2f}x {floor}| {r['difference']} |"
        )
    return "\n".join(lines)


def markdown(report: Mapping[str, Any] | None, *, targets: bool = False) -> str:
    """Write the section's text between the markers.

    Parameters
    ----------
    report : mapping or None
        What a run found: "machine", "rates", "rows", "notes", "command", "date". None: nothing was ever run.
    targets : bool
        The targets alone, and on which GPU they were measured: what the docs quote.
    """
    if report is None:
        nothing = "Nothing here was ever run on a GPU. `tools/gpu_check.sh` fills this section in."
        return f"{'Measured: nothing yet.' if targets else nothing}\n\n{targets_table()}"
    machine, rates, rows = report["machine"], report["rates"], report["rows"]
    if targets:
        return f"Measured {report['date']} on {machine['GPU']}.\n\n{targets_table(rows)}"
    parts = [
        f"{report['date']}, {', '.join(f'{name} {v}' for name, v in machine.items() if v)}. `{report['command']}`",
        f"Measured in the same run: {rates['bytes'] / 1e12:.2f} TB/s copied (read plus written), "
        f"{rates['lanes'] / 1e12:.1f} T float32 operations a second (a fused multiply-add is one), "
        f"{rates['special'] / 1e12:.2f} T special functions a second.",
        targets_table(rows),
        "Ratio: the candidate's time over the first one's of its case, both for each image. Floor: the least time of "
        "the case at these rates; share: the floor over the candidate's time.",
        rows_table(rows),
    ]
    if any(r["case"] == "crossover" for r in rows):
        least = crossover(rows)
        parts.append(
            "Images on the host: the GPU is not faster at the largest size measured."
            if least is None
            else f"Images on the host: the GPU is faster from {least:,} elements on (`_backends.CROSSOVER_ELEMENTS`)."
        )
    if report["notes"]:
        parts += ["Not measured in this run:", "\n".join(f"- {note}" for note in report["notes"])]
    return "\n\n".join(parts)
