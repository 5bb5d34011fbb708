"""The line's table of bench/RESULTS.md: plans, streams and formats on this machine, and OpenCV in C++ beside them.

    python bench/line.py --json line.json --write bench/RESULTS.md      # about three minutes; nothing else should run
    python bench/line.py --soak 3600 --json soak.json                   # an hour of paced frames beside it
    python bench/line.py --from line.json soak.json --write bench/RESULTS.md

What is in C++ (bench/line/) is built against the library of the installed package, with cmake and g++; OpenCV's part
needs Debian's libopencv-contrib-dev and libopencv-dev.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import sdie_fast as sdie
from sdie_fast import FILTERS, FilterParams, SdieError, line
from sdie_fast._bench.cases import sample
from sdie_fast._bench.machine import Watch, machine, reference_loop
from sdie_fast._bench.sections import markdown_table, read_section, write_section
from sdie_fast._bench.timing import Timer, by_host, interleave

BEGIN, END = "<!-- line tables: written by bench/line.py -->", "<!-- end of line tables -->"
HERE = Path(__file__).parent / "line"
ROUND = dict.fromkeys(FILTERS, 1.0)
FAST = FilterParams(wls_solver="fast", bilateral_footprint="disk")
SIZES = ((200, 200), (1024, 1024), (256, 16384))
PACKED = ("Mono8", "Mono10", "Mono10p", "Mono10Packed", "Mono12p", "Mono12Packed")
WIDTH, STRIP = 2048, 256

Frame = npt.NDArray[Any]
Say = Callable[[str], None]


def ms(seconds: float | None) -> str:
    """Milliseconds in a table."""
    return "-" if seconds is None else f"{seconds * 1e3:.3g}"


def busy(plan: line.Plan, frame: Frame, out: Frame) -> Timer:
    """Time what the plan itself says it took: the C call without Python around it."""
    return lambda: plan.run(frame, out)[1].busy


def latencies(seconds: float) -> list[dict[str, Any]]:
    """One fast round by the C call, by line.Plan and by enhance(), in turns."""
    rows = []
    for height, width in SIZES:
        frame = sample(height, width)
        out, other = np.empty_like(frame), np.empty_like(frame)
        plan = line.Plan(ROUND, width, height, params=FAST)
        plan.run(frame, out)
        sdie.enhance(frame, ROUND, params=FAST, threads=1, out=other)
        if not np.array_equal(out, other):
            raise SdieError("line.Plan and enhance differ")
        taken = interleave(
            {
                "C": busy(plan, frame, out),
                "line.Plan": by_host(lambda plan=plan, frame=frame, out=out: plan.run(frame, out)),
                "enhance": by_host(
                    lambda frame=frame, other=other: sdie.enhance(frame, ROUND, params=FAST, threads=1, out=other)
                ),
            },
            5000,
            budget=seconds,
        )
        for name, timing in taken.items():
            quantiles = {f"p{100 * q:g}": timing.quantile(q) for q in (0.5, 0.99, 0.999)}
            rows.append({"size": f"{width} x {height}", "call": name, "samples": timing.samples, **quantiles})
    return rows


def unpacking(seconds: float) -> list[dict[str, Any]]:
    """One fast round of 1024 x 1024 pixels in each format, Mono8 out."""
    calls, rng = {}, np.random.default_rng(0)
    for name in PACKED:
        plan = line.Plan(ROUND, 1024, 1024, name, "Mono8", params=FAST)
        shape, dtype = plan.input
        frame = rng.integers(0, 1024 if dtype == np.uint16 else 256, shape).astype(dtype)
        calls[name] = busy(plan, frame, np.empty(*plan.output))
    taken = interleave(calls, 500, budget=seconds)
    base = taken["Mono8"].median
    return [{"format": name, "p50": t.median, "more": t.median / base - 1.0} for name, t in taken.items()]


def streaming(seconds: float) -> dict[str, Any]:
    """Five fast rounds of a web, strip by strip, beside a plan of one such strip without context."""
    rounds = [ROUND] * 5
    stream = line.Stream(rounds, WIDTH, params=FAST, strip=STRIP)
    plan = line.Plan(rounds, WIDTH, STRIP, params=FAST)
    lines = sample(STRIP, WIDTH)
    out = np.empty_like(lines)

    def push() -> None:
        stream.push(lines)
        stream.pull(out=out)

    taken = interleave({"stream": by_host(push), "plan": busy(plan, lines, out)}, 400, budget=seconds)
    stats = stream.stats()
    return {
        "context": stream.context,
        "latency_lines": stream.latency,
        "lines_a_second": STRIP / taken["stream"].median,
        "over_plan": taken["stream"].median / taken["plan"].median,
        "push_to_pull_p50": stats.p50,
        "push_to_pull_p99": stats.p99,
    }


def built(say: Say) -> Path:
    """Build what is in C++ against the installed package; the folder of the programs."""
    cmake = shutil.which("cmake")
    if cmake is None:
        raise SdieError("cmake is missing: pip install cmake")
    folder = Path(tempfile.mkdtemp(prefix="sdie-fast-line-"))
    package = Path(sdie.__file__).parent / "lib" / "cmake" / "sdie_fast"
    say("building bench/line")
    for command in (
        [cmake, "-S", str(HERE), "-B", str(folder), f"-Dsdie_fast_DIR={package}", "-DCMAKE_BUILD_TYPE=Release"],
        [cmake, "--build", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SdieError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return folder


def opencv(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """The round by hand-written OpenCV in C++, in turns with ours; none where OpenCV is missing."""
    program = folder / "opencv_round"
    rows = []
    for height, width in SIZES if program.exists() else ():
        command = [str(program), str(width), str(height), str(seconds)]
        done = subprocess.run(command, input=sample(height, width).tobytes(), capture_output=True, check=True)
        rows.append({"size": f"{width} x {height}", **json.loads(done.stdout)})
    return rows


def run(say: Say) -> dict[str, Any]:
    """Measure everything but the soak."""
    watch, loop = Watch(1), reference_loop()
    reference = [loop() for _ in range(20)]
    say("latency of the calls")
    report: dict[str, Any] = {"latency": latencies(20.0)}
    say("formats")
    report["unpacking"] = unpacking(30.0)
    say("a stream")
    report["stream"] = streaming(20.0)
    reference += [loop() for _ in range(20)]
    report["opencv"] = opencv(built(say), 30.0)
    reference += [loop() for _ in range(20)]
    report |= {"date": datetime.date.today().isoformat(), "machine": machine(1), "noise": watch.noise(reference)}
    return report


def soak(seconds: float, say: Say) -> dict[str, Any]:
    """Run paced frames for so long."""
    program = built(say) / "soak"
    done = subprocess.run([str(program), str(seconds)], stdout=subprocess.PIPE, check=False)
    if done.returncode == 2 or not done.stdout:
        raise SdieError(f"{program} ended with status {done.returncode}")
    return {"soak": json.loads(done.stdout), "soak_date": datetime.date.today().isoformat(), "machine": machine(2)}


def markdown(report: Mapping[str, Any]) -> str:
    """The section's text."""
    m = report["machine"]
    text = [f"Processor {m['processor']}, instruction set {m['instruction set']}, CPUs {m['CPUs']}."]
    if "latency" in report:
        noise = report["noise"]
        text += [
            f"{report['date']}, `python bench/line.py`, one thread, one fast round of six filters (disk footprint), Mono8. A "
            f"loop of constant work varied by {noise['spread']:.0%}.",
            markdown_table(
                ["size", "call", "samples", "p50, ms", "p99", "p99.9"],
                (
                    [r["size"], r["call"], r["samples"], ms(r["p50"]), ms(r["p99"]), ms(r["p99.9"])]
                    for r in report["latency"]
                ),
            ),
            "The same round of 1024 x 1024 pixels in other formats, Mono8 out (target: at most 5% more than Mono8):",
            markdown_table(
                ["format", "p50, ms", "more than Mono8"],
                ([r["format"], ms(r["p50"]), f"{r['more']:+.1%}"] for r in report["unpacking"]),
            ),
        ]
        s = report["stream"]
        text.append(
            f"A stream of {WIDTH} pixels a line, five such rounds, strips of {STRIP} lines and {s['context']} lines of "
            f"context: {s['lines_a_second']:,.0f} lines a second on one thread, {s['over_plan']:.2f} times what a plan "
            f"takes for the strip alone. A strip is finished {ms(s['push_to_pull_p50'])} ms (p99 "
            f"{ms(s['push_to_pull_p99'])} ms) after the push that completes it; a line waits for up to "
            f"{s['latency_lines']} more lines."
        )
        text.append(
            "The round by hand-written OpenCV in C++ (`bench/line/opencv_round.cpp`), in turns with ours; the target is 6 "
            "times at p50, and no worse at p99.9:"
        )
        text.append(
            markdown_table(
                [
                    "size",
                    "OpenCV",
                    "samples",
                    "ours p50, ms",
                    "OpenCV p50",
                    "times",
                    "times at p99.9",
                    "mean difference",
                ],
                (
                    [
                        r["size"],
                        r["opencv"],
                        r["sdie"]["samples"],
                        ms(r["sdie"]["p50"]),
                        ms(r["round"]["p50"]),
                        f"{r['round']['p50'] / r['sdie']['p50']:.1f}",
                        f"{r['round']['p999'] / r['sdie']['p999']:.1f}",
                        f"{r['difference']:.2f} of 255",
                    ]
                    for r in report["opencv"]
                ),
            )
        )
    if "soak" in report:
        s = report["soak"]
        text.append(
            f"Soak, {report['soak_date']}: {s['seconds'] / 60:.0f} minutes of frames of {s['width']} x {s['height']} Mono12p "
            f"at {s['share']:.0%} of what {s['threads']} threads can do (a frame takes {ms(s['alone'])} ms alone, one comes "
            f"every {ms(s['period'])} ms, the deadline is twice that). {s['frames']:,} frames, {s['lost']} lost, {s['late']} "
            f"late, {s['shortened']} shortened; latency from the scheduled time p50 {ms(s['p50'])} ms, p99 {ms(s['p99'])}, "
            f"p99.9 {ms(s['p999'])}, maximum {ms(s['max'])}. Resident memory {s['first_kib'] / 1024:.1f} MiB after the first "
            f"minute and {s['last_kib'] / 1024:.1f} MiB after the last. In the pauses between frames the machine was away "
            f"for {s['away_share']:.2%} of the time, for {ms(s['away_longest'])} ms at the longest. "
            "`python bench/line.py --soak SECONDS`."
        )
    return "\n\n".join(p if p.startswith("|") else "\n".join(textwrap.wrap(p, 118)) for p in text)


def main() -> int:
    """Measure or read runs, and write what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python bench/line.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="paced frames for so long, instead of the rest")
    parser.add_argument("--from", dest="sources", nargs="+", type=Path, metavar="FILE", help="runs' JSON instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    args = parser.parse_args()

    def say(words: str) -> None:
        print(words, file=sys.stderr)

    try:
        if args.write:
            read_section(args.write, BEGIN, END)  # before minutes are spent
        report: dict[str, Any] = {}
        for source in args.sources or ():
            report |= json.loads(source.read_text())
        report = report or (soak(args.soak, say) if args.soak else run(say))
        if args.json:
            args.json.write_text(json.dumps(report) + "\n")
        if args.write:
            write_section(args.write, BEGIN, END, markdown(report))
    except (SdieError, OSError, ValueError, LookupError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
