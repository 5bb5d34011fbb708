"""Instructions of each filter and of a round in the compiled core, by valgrind's callgrind: python bench/instructions.py

A figure that does not depend on the machine's mood. What is counted is a call of the core on a 200 x 200 uint8 picture,
with fast WLS and the disk footprint where no other is named, by one thread, for x86-64-v3 (callgrind knows no AVX-512);
nothing of Python's is in it. "identity (Mono12p)" reads and writes that format. Beside it, per pixel and 8-lane vector,
the arithmetic that the definitions need, as the filters' table counts it. It builds what it counts, sdie_count of
CMakeLists.txt: that takes CMake, a compiler and valgrind.

--check compares with instructions.json and fails where a count is more than 3% higher; --update writes that file. Counts
of another compiler cannot be compared: the check then says so and passes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from sdie_fast.data import synthetic
from sdie_fast.filters import FILTERS, FilterParams

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_suffix(".json")
ISA = "x86-64-v3"
LANES = 8
SIDE = 200
SPECIAL = 8  # operations of an exp2, the least of the special functions that are polynomials here
MIX = 10  # of mixing and converting a round
TOLERANCE = 3  # per cent
COUNTED = "sdie_counted"  # of csrc/selftest/count.cpp
EXACT = " (exact"  # in the names of what is counted with exact WLS


class Verdict(NamedTuple):
    """What a comparison came to; `more` are the names of what costs too much, None where nothing can be compared."""

    more: list[str] | None
    lines: list[str]


def run(*command: Any) -> str:
    """Return what a command prints; what it says on failure goes into the error."""
    try:
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise SystemExit(
            f"{command[0]} is not installed: counting needs cmake, a C++ compiler and valgrind"
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr).strip()
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said}") from error


def build(folder: Path) -> Path:
    """Build sdie_count in a folder."""
    run("cmake", "-S", ROOT, "-B", folder, "-DSDIE_MODULE=OFF", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", folder, "--parallel", 2, "--target", "sdie_count")
    return folder / "sdie_count"


def events_of(dump: str) -> dict[str, int]:
    """Read the sums of a dump of callgrind's, by event: "Ir" is instructions."""
    names, sums = (re.search(rf"^{key}: (.*)$", dump, re.MULTILINE) for key in ("events", "summary"))
    if not names or not sums:
        raise SystemExit("callgrind left a dump without sums")
    values = map(int, sums[1].split())  # without the zeros at its end
    return dict(itertools.zip_longest(names[1].split(), values, fillvalue=0))


def measure(program: Path, *, cache: bool = False) -> dict[str, Any]:
    """Count every case in one process: a dump each, in the order in which the program names them."""
    version = run("valgrind", "--version").strip().removeprefix("valgrind-")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "picture").write_bytes(synthetic.surface("scratch", seed=3).image.tobytes())
        callgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/dump")
        collecting = (
            f"--toggle-collect={COUNTED}",
            f"--dump-after={COUNTED}",
            f"--cache-sim={'yes' if cache else 'no'}",
        )
        printed = run(*callgrind, *collecting, program, ISA, folder / "picture", SIDE, SIDE)
        dumps = {int(path.suffix[1:]): path.read_text() for path in folder.glob("dump.*")}
    compiler, *names = printed.splitlines()
    if len(dumps) != len(names):
        raise SystemExit(f"callgrind left {len(dumps)} dumps of {len(names)} calls")
    events = {name: events_of(dumps[k]) for k, name in enumerate(names, 1)}
    return {
        "command": "python bench/instructions.py --update",
        "isa": ISA,
        "compiler": compiler,
        "libc": " ".join(platform.libc_ver()),
        "valgrind": version,
        "events": events,
        "instructions": {name: found["Ir"] for name, found in events.items()},
    }


def major(compiler: str) -> str:
    """Take a compiler's name and its major version: "GNU 12" of "GNU 12.2.0"."""
    return compiler.partition(".")[0]


def compare(kept: dict[str, Any], found: dict[str, Any]) -> Verdict:
    """Hold counts against those kept, each with the compiler and the libraries they are of."""
    if (kept["isa"], major(kept["compiler"])) != (found["isa"], major(found["compiler"])):
        why = f"skipped: counts of {found['compiler']} cannot be compared with those of {kept['compiler']}"
        return Verdict(None, [why])
    more, lines = [], []
    for name, count in found["instructions"].items():
        before = kept["instructions"].get(name)
        if before is None:
            more.append(name)
            lines.append(f"{name}: {count:,} instructions, of which no count is kept")
            continue
        more_or_fewer = f"{name}: {count:,} instructions, {count / before - 1:+.1%} against the {before:,} kept"
        if 100 * count > (100 + TOLERANCE) * before:
            more.append(name)
            lines.append(more_or_fewer)
        elif 100 * count < (100 - TOLERANCE) * before:
            lines.append(f"{more_or_fewer}: time to --update")
    for name in kept["instructions"].keys() - found["instructions"].keys():
        more.append(name)
        lines.append(f"{name}: kept, and no longer counted")
    others = [key for key in ("libc", "valgrind", "compiler") if kept[key] != found[key]]
    if lines and others:
        lines.append("not as kept: " + ", ".join(f"{key} {found[key]}, was {kept[key]}" for key in others))
    return Verdict(more, lines)


def floor(name: str) -> float:
    """Count the operations a pixel that the definitions need."""
    exact = EXACT in name
    params = FilterParams(wls_solver="exact" if exact else "fast", bilateral_footprint="disk")

    def of(filter_name: str) -> float:
        needed = params.of(filter_name).operations()
        return float(needed.lanes + needed.special * SPECIAL)

    base = name.partition(" (")[0]
    return sum(map(of, FILTERS)) + MIX if base == "round" else of(base)


def table(found: dict[str, Any], *, cache: bool = False) -> list[str]:
    """Write the rows of RESULTS.md's table; with `cache`, misses of the simulated caches beside them."""
    columns = ["what", "instructions", "a pixel", "floor a pixel", "share"]
    if cache:
        columns += ["L1 data misses a pixel", "last-level misses a pixel"]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, events in found["events"].items():
        per_pixel = events["Ir"] / SIDE**2
        least = floor(name) / LANES
        cells = [name, f"{events['Ir'] / 1e6:.2f} M", f"{per_pixel:.1f}", f"{least:.1f}", f"{least / per_pixel:.0%}"]
        if cache:
            misses = (sum(events[key] for key in keys) for keys in (("D1mr", "D1mw"), ("DLmr", "DLmw")))
            cells += [f"{count / SIDE**2:.3f}" for count in misses]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> int:
    """Count, and print the table, check or update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help=f"fail where a count is over {TOLERANCE}%% more than kept")
    what.add_argument("--update", action="store_true", help=f"write {KEPT.name}")
    what.add_argument("--cache", action="store_true", help="simulate caches too: misses beside the instructions")
    parser.add_argument(
        "--build", type=Path, default=ROOT / "build" / "instructions", help="where to build sdie_count"
    )
    given = parser.parse_args()
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"skipped: counts are of {ISA}, and this processor is {platform.machine()}")
        return 0 if given.check else 1
    found = measure(build(given.build), cache=given.cache)
    print("\n".join(table(found, cache=given.cache)))
    if given.update:
        del found["events"]
        KEPT.write_text(json.dumps(found, indent=2) + "\n")
    if not given.check:
        return 0
    verdict = compare(json.loads(KEPT.read_text()), found)
    print("\n".join(verdict.lines))
    if verdict.more:
        print(
            "more instructions than kept; where that is meant: python bench/instructions.py --update", file=sys.stderr
        )
    elif verdict.more is not None:
        print(f"no count is over {TOLERANCE}% more than kept")
    return 1 if verdict.more else 0


if __name__ == "__main__":
    sys.exit(main())
