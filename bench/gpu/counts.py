"""What each kernel executes, counted on the emulated driver: the figure that can be had without a GPU.

    tools/ptx_emulator/run VENV/bin/python bench/gpu/counts.py

VENV is what tools/ptx_emulator/README.md describes. A few of the benchmark's images, of each kind of
surface, stand for its 512. Counted are the instructions of the PTX that ships, weighted by what ptxas makes of each
(`cost` in tools/ptx_emulator/translate.py): a warp executes what the busiest of its threads does. Bytes are those of
global memory that a block reads or writes for the first time since its last barrier.

counts.json keeps the counts of each case's kernels: "before" the kernels were worked over by these figures, and "now".
--check fails where a case takes more than 3% above the latter; counts of another compiler cannot be compared, and the
check then says so and passes. --update writes that file.

The bounds quoted are those of an H200's data sheet: 132 multiprocessors issue four warp instructions each at 1.98 GHz,
4.8 TB/s of memory, of which 4.2 are taken to be had. They are no measurement.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from report import COUNTS_BEGIN, COUNTS_END, counts_table
from workloads import WORKLOADS, Workload, draw

from sdie_fast import enhance
from sdie_fast._bench.machine import installed
from sdie_fast._bench.sections import write_section

KEPT = Path(__file__).with_suffix(".json")
TOLERANCE = 3  # per cent
COMPILER = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")  # packages
CASES = {"round": 3, "local": 3, "exact": 4}  # images counted of each
NOT_INSTRUCTIONS = ("launches", "blocks", "warps", "read", "written")


def parse(text: str) -> dict[str, dict[str, int]]:
    """Read the emulator's lines: the counts of each kernel by its name in the machine code."""
    found = {}
    for line in text.splitlines():
        name, *pairs = line.split(" ")
        found[name] = {key: int(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    return found


def names() -> dict[str, str]:
    """Names of the kernels compiled so far, by those in the machine code; of several types of argument the first."""
    from sdie_fast.cuda.kernels import every_kernel

    found: dict[str, str] = {}
    for kernel in every_kernel():
        for compiled in kernel.function.overloads.values():
            found.setdefault(compiled.entry_name, kernel.name)
    return found


def short(mangled: str) -> str:
    """Module and name of a kernel that is not listed, from its name in the machine code."""
    rest, parts = mangled.removeprefix("_ZN"), []
    while found := re.match(r"\d+", rest):
        parts.append(rest[found.end() :][: int(found[0])])
        rest = rest[found.end() + len(parts[-1]) :]
    return f"{parts[2]}: {parts[-1]}, not listed" if parts[:2] == ["sdie_fast", "cuda"] else mangled


def count(work: Workload) -> list[dict[str, Any]]:
    """Run a workload once; returns a row for each kernel, the largest first."""
    counted = ctypes.CDLL("libptx_runtime.so").emulated_counts
    counted.restype = ctypes.c_char_p
    counted()  # forget what came before
    images = draw(work, 1)[0]
    enhance(images, work.weights, filters=work.filters, params=work.params("square"), backend="cuda")
    rows, known = [], names()
    for name, counts in parse(counted().decode()).items():
        kinds = {kind: n for kind, n in counts.items() if kind not in NOT_INSTRUCTIONS}
        rows.append(
            {
                "case": work.name,
                "kernel": known.get(name) or short(name),
                "launches": counts["launches"],
                "thousands": round(sum(kinds.values()) / 1e3 / work.images, 1),
                "bytes": round((counts["read"] + counts["written"]) / work.pixels, 1),
                "kinds": {kind: n / 1e3 / work.images for kind, n in sorted(kinds.items(), key=lambda i: -i[1])},
            }
        )
    return sorted(rows, key=lambda row: -row["thousands"])


def compare(rows: list[dict[str, Any]], kept: dict[str, Any], compiler: dict[str, Any]) -> list[str]:
    """Say which cases take more than the kept ones; raises LookupError where they cannot be compared."""
    if kept["compiler"] != compiler:
        raise LookupError(f"counted with {compiler}, kept are those of {kept['compiler']}")
    wrong = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for figure, unit in (("thousands", "thousand warp instructions"), ("bytes", "bytes a pixel")):
            now, then = (sum(r[figure] for r in of if r["case"] == case) for of in (rows, kept["now"]))
            if now > then * (1 + TOLERANCE / 100):
                wrong.append(f"{case}: {now:,.0f} {unit}; {then:,.0f} are kept")
    return wrong


def main(given: list[str]) -> int:
    """Count and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--case", nargs="+", choices=CASES, default=list(CASES))
    add("--images", type=int, help=f"of each case; {CASES} unless told")
    add("--kinds", action="store_true", help="print the instructions of each kind too")
    add("--check", action="store_true", help="fail where a case takes more than what is kept")
    add("--update", action="store_true", help="keep these counts")
    add("--write", type=Path, metavar="FILE", help="put the table into this Markdown file, between its marks")
    args = parser.parse_args(given)
    if "EMULATOR_CACHE" not in os.environ:
        parser.error("run it by tools/ptx_emulator/run")
    # One block works on each image, as where there are 512 of them. Kernels of several processes may share a name.
    os.environ |= {"EMULATOR_COUNT": "1", "EMULATOR_MULTIPROCESSORS": "1", "SDIE_FAST_KERNEL_CACHE": ""}
    rows: list[dict[str, Any]] = []
    for work in WORKLOADS:
        if work.name in args.case:
            print(work.title, file=sys.stderr, flush=True)
            rows += count(dataclasses.replace(work, images=args.images or CASES[work.name]))
    kept = json.loads(KEPT.read_text())
    compiler = {name: installed(name) for name in COMPILER}
    table = counts_table(rows, kept["before"])
    print(table)
    if args.kinds:
        for row in rows:
            kinds = ", ".join(f"{kind} {n:,.1f}" for kind, n in row["kinds"].items())
            print(f"{row['case']}, {row['kernel']}: {kinds}")
    wrong: list[str] = []
    if args.check:
        try:
            wrong = compare(rows, kept, compiler)
        except LookupError as error:
            print(f"not compared: {error}")
        print(*wrong, sep="\n", file=sys.stderr)
    if args.update:
        shown = ("case", "kernel", "launches", "thousands", "bytes")
        kept |= {"compiler": compiler, "now": [{key: row[key] for key in shown} for row in rows]}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    if args.write:
        write_section(args.write, COUNTS_BEGIN, COUNTS_END, table)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
