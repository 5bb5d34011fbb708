"""Compile every CUDA kernel to PTX, on any machine, and look at what came out.

    python tools/cuda_ptx.py

No GPU and no CUDA toolkit is needed: numba-cuda and the NVVM that pip brings with it (`pip install "numba-cuda[cu13]"`)
compile for an architecture that is not there. Each kernel is compiled for the signatures that it is called with, as listed
beside it in `sdie_fast.cuda`.

Fails where a kernel does not compile, or holds more float64 instructions than `FLOAT64` allows it: on most GPUs one of them
takes the time of 32 to 64 in float32 (of 2 on an H100 or H200), and in Numba a single constant of Python's float type makes
them. Where a `ptxas` is found (in Triton's package, which torch brings; in a CUDA toolkit) the kernels are assembled
too, and registers, stack, spills and shared memory printed; without one those columns stay empty, and nothing else is lost.

Exit codes: 0 all well, 1 a kernel failed, 2 nothing could be compiled here.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Kernels (shell patterns over their names) that may use float64, how many instructions of it, and why. Of several
# patterns that fit a name the first counts; a kernel that none fits may use none.
FLOAT64: tuple[tuple[str, int, str], ...] = (
    (
        "_spatiogram_statistics: gather_moments",
        50,
        "sums over a block of pixels, once for each bin",
    ),
    ("_spatiogram_statistics: finish_bins", 120, "each bin's mean and covariance, once"),
)

FIX = 'pip install "numba-cuda[cu13]" (for a CUDA 12 driver: "numba-cuda[cu12]")'
REGISTERS = 65536  # of one multiprocessor, compute capability 7.0 to 12.0
WARPS = 64  # that one multiprocessor holds at most, 8.0 and 9.0

_INSTRUCTION = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)[\s;]")
_LOCAL = re.compile(r"^\s*\.local\s.*\[(\d+)\];")
_RELEASE = re.compile(r"release (\d+)\.(\d+)")


class TooOldError(RuntimeError):
    """The ptxas found does not read the PTX that NVVM wrote."""


@dataclasses.dataclass
class Report:
    """What is known of one compiled kernel; bytes are per thread, but `shared`, which is per block."""

    name: str
    seconds: float
    instructions: int
    float64: int
    allowed: int
    local: int
    registers: int | None = None
    stack: int | None = None
    spilled: int | None = None
    shared: int | None = None
    error: str = ""
    note: str = ""

    @property
    def warps(self) -> int | None:
        """Warps of a multiprocessor that the registers leave room for (they come in eights)."""
        if not self.registers:
            return None
        return min(WARPS, REGISTERS // (-(-self.registers // 8) * 8 * 32))


def opcodes(ptx: str) -> Iterator[str]:
    """Every instruction's opcode with its suffixes, such as 'ld.global.v4.f32'; no directives or labels."""
    for line in ptx.splitlines():
        match = _INSTRUCTION.match(line)
        if match:
            yield match[1]


def count_float64(ptx: str) -> int:
    """Count the instructions that touch a float64."""
    return sum(".f64" in opcode for opcode in opcodes(ptx))


def local_bytes(ptx: str) -> int:
    """Bytes of local memory a thread asks for: arrays that are indexed at run time, off chip."""
    return sum(int(m[1]) for line in ptx.splitlines() if (m := _LOCAL.match(line)))


def allowance(name: str) -> int:
    """How many float64 instructions a kernel may hold."""
    return next((count for pattern, count, _ in FLOAT64 if fnmatch.fnmatch(name, pattern)), 0)


def find_ptxas(given: str | None = None) -> tuple[str, tuple[int, int]] | None:
    """Path and CUDA release of the newest ptxas here: an older one refuses newer PTX.

    Looked for on PATH, in $CUDA_HOME, /usr/local/cuda, NVIDIA's and Triton's Python packages.
    """
    if given:
        places = [Path(given)]
    else:
        places = [Path(p) for p in [shutil.which("ptxas")] if p]
        for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
            places += [Path(root) / "bin" / "ptxas"] if root else []
        for package, pattern in (
            ("nvidia", "*/bin/ptxas"),
            ("triton", "backends/nvidia/bin/ptxas*"),
        ):
            spec = importlib.util.find_spec(package)
            for folder in (spec.submodule_search_locations or []) if spec else []:
                places += Path(folder).glob(pattern)
    found = []
    for place in places:
        if not os.access(place, os.X_OK):
            continue
        done = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
        if release := _RELEASE.search(done.stdout):
            found.append(((int(release[1]), int(release[2])), str(place)))
    if not found:
        return None
    release_found, path = max(found)
    return path, release_found


def parse_ptxas(text: str) -> dict[str, int]:
    """Read registers, stack, spilled bytes and shared memory out of `ptxas -v`.

    Stack and spills are summed over the entry and the functions it calls; registers are the entry's.
    """

    def add_up(pattern: str) -> int:
        return sum(int(n) for n in re.findall(pattern, text))

    registers = [int(n) for n in re.findall(r"Used (\d+) registers", text)]
    return {
        "registers": max(registers, default=0),
        "stack": add_up(r"(\d+) bytes stack frame"),
        "spilled": add_up(r"(\d+) bytes spill stores") + add_up(r"(\d+) bytes spill loads"),
        "shared": add_up(r"(\d+) bytes smem"),
    }


def assemble(ptxas: str, ptx: str, arch: str, max_registers: int | None) -> dict[str, int]:
    """Assemble for sm_`arch`; returns `parse_ptxas`'s figures.

    Raises
    ------
    TooOldError
        The PTX is of a newer CUDA than this ptxas: nothing is known of the kernel.
    RuntimeError
        It does not assemble; ptxas's words.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [ptxas, f"-arch=sm_{arch}", "-v", "-o", f"{folder}/kernel.cubin", str(source)]
        if max_registers:
            command.append(f"-maxrregcount={max_registers}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        text = done.stderr + done.stdout
        words = (text.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise (TooOldError if "Unsupported .version" in text else RuntimeError)(f"ptxas: {words}")
    return parse_ptxas(done.stdout + done.stderr)


def examine(
    name: str, kernel: Any, signature: Any, capability: tuple[int, int], ptxas: str | None
) -> tuple[Report, str]:
    """Compile one kernel and gather its report; returns also the PTX ("" where there is none)."""
    from sdie_fast.cuda import _catalogue

    begin = time.perf_counter()
    report = Report(name, 0.0, 0, 0, allowance(name), 0)
    try:
        ptx = _catalogue.ptx(kernel, signature, capability)
    except Exception as error:  # whatever the compiler raises: it is the result
        report.error = f"{type(error).__name__}: {error}"
        return report, ""
    finally:
        report.seconds = time.perf_counter() - begin
    report.instructions = sum(1 for _ in opcodes(ptx))
    report.float64 = count_float64(ptx)
    report.local = local_bytes(ptx)
    if ptxas:
        try:
            limit = kernel.targetoptions.get("max_registers")
            figures = assemble(ptxas, ptx, f"{capability[0]}{capability[1]}", limit)
            for key, value in figures.items():
                setattr(report, key, value)
        except TooOldError as error:
            report.note = str(error)
        except RuntimeError as error:
            report.error = str(error)
    if report.float64 > report.allowed:
        report.error = report.error or (
            f"{report.float64} float64 instructions, {report.allowed} allowed: a constant or an "
            "operation that Numba types as float64 (write float32(0.5), not 0.5), or add a line to FLOAT64"
        )
    return report, ptx


def parse_arch(text: str) -> tuple[int, int]:
    """Read 'sm_90', '90' or '9.0' as (9, 0)."""
    digits = text.lower().removeprefix("sm_").replace(".", "")
    if not digits.isdigit() or len(digits) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r}: such as sm_90, sm_80 or sm_120 is accepted")
    return int(digits[:-1]), int(digits[-1])


COLUMNS = ("PTX", "f64", "local", "registers", "warps", "stack", "spilled", "shared", "s")


def heading(width: int) -> str:
    """Name the columns; `width` is that of the kernels' names."""
    return "  ".join(["kernel".ljust(width), *(column.rjust(9) for column in COLUMNS)])


def row(report: Report, width: int) -> str:
    """Lay a report out under `heading`."""
    r = report
    known = (r.instructions, r.float64, r.local, r.registers, r.warps, r.stack, r.spilled, r.shared)
    cells = ["" if value is None else str(value) for value in known] + [f"{r.seconds:.1f}"]
    return "  ".join([r.name.ljust(width), *(cell.rjust(9) for cell in cells)])


def main(arguments: list[str] | None = None) -> int:
    """Compile, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="*", metavar="PATTERN", help="only those, such as 'wls_*'")
    parser.add_argument("--arch", type=parse_arch, default=(9, 0), help="sm_90 unless told")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the PTX there")
    parser.add_argument("--ptxas", metavar="PATH", help="this one instead of the newest found")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    args = parser.parse_args(arguments)
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)  # the simulator compiles nothing
    try:
        from sdie_fast.cuda import _catalogue

        known = _catalogue.kernels()
    except ImportError as error:
        print(f"nothing can be compiled here: {error}; to fix: {FIX}", file=sys.stderr)
        return 2
    chosen = [k for k in known if fnmatch.fnmatch(k[0], args.kernel)]
    if not chosen:
        print(f"--kernel: none is called {args.kernel!r}", file=sys.stderr)
        return 2
    ptxas = find_ptxas(args.ptxas)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    reports = []
    width = max(len(k[0]) for k in chosen)
    if not args.json:
        print(heading(width), flush=True)
    for name, kernel, signature in chosen:
        report, ptx = examine(name, kernel, signature, args.arch, ptxas[0] if ptxas else None)
        reports.append(report)
        if not args.json:
            print(row(report, width), flush=True)
        if args.out and ptx:
            (args.out / (re.sub(r"\W+", "_", name) + ".ptx")).write_text(ptx)
    failed = [r for r in reports if r.error]
    if args.json:
        print(json.dumps([{**dataclasses.asdict(r), "warps": r.warps} for r in reports], indent=2))
    else:
        assembler = f"ptxas of CUDA {ptxas[1][0]}.{ptxas[1][1]}" if ptxas else "no ptxas found: not assembled"
        print(f"{len(reports)} kernels for sm_{args.arch[0]}{args.arch[1]}, {len(failed)} failed; {assembler}")
    for note in sorted({r.note for r in reports if r.note}):
        print(f"not assembled: {note}", file=sys.stderr)
    for report in failed:
        print(f"{report.name}: {report.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
