"""Compile every CUDA kernel to PTX, on any machine, and look at what came out.

    python tools/cuda_ptx.py

No GPU and no CUDA toolkit is needed: numba-cuda and the NVVM that pip brings with it (`pip install "numba-cuda[cu13]"`)
compile for an architecture that is not there. Each kernel is compiled for the types that it is called with, as its module
in `sdie_fast.cuda` lists them.

Fails where a kernel does not compile, keeps an array in local memory, or holds more float64 instructions than `FLOAT64`
allows it: on most GPUs one of them takes the time of 32 to 64 in float32 (of 2 on an H100 or H200), and in Numba a single
constant of Python's float type makes them. Where a `ptxas` is found (in Triton's package, which torch brings; in a CUDA
toolkit) the kernels are assembled too, and registers, stack, spills and shared memory printed; without one those columns
stay empty, and nothing else is lost.

Exit codes: 0 all well, 1 a kernel failed, 2 nothing could be compiled here.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Kernels (shell patterns over their names) that may use float64, and how many instructions of it: sums over a block of
# pixels, once for each bin; each bin's mean and covariance, once. Of several patterns the first counts.
FLOAT64 = (("moments: *gather*", 60), ("moments: finish_bins", 120))

FIX = 'pip install "numba-cuda[cu13]" (for a CUDA 12 driver: "numba-cuda[cu12]")'
REGISTERS = 65536  # of one multiprocessor, compute capability 7.0 to 12.0
WARPS = 64  # that one multiprocessor holds at most, 8.0 and 9.0
COLUMNS = ("PTX", "float64", "local", "registers", "warps", "stack", "spilled", "shared", "seconds")

_INSTRUCTION = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)[\s;]")
_LOCAL = re.compile(r"^\s*\.local\s.*\[(\d+)\];")
_RELEASE = re.compile(r"release (\d+)\.(\d+)")


class TooOldError(RuntimeError):
    """The ptxas found does not read the PTX that NVVM wrote."""


def opcodes(ptx: str) -> Iterator[str]:
    """Every instruction's opcode with its suffixes, such as 'ld.global.v4.f32'; no directives or labels."""
    return (match[1] for line in ptx.splitlines() if (match := _INSTRUCTION.match(line)))


def count_float64(ptx: str) -> int:
    """Count the instructions that touch a float64."""
    return sum(".f64" in opcode for opcode in opcodes(ptx))


def local_bytes(ptx: str) -> int:
    """Bytes of local memory a thread asks for: arrays that are indexed at run time, off chip."""
    return sum(int(m[1]) for line in ptx.splitlines() if (m := _LOCAL.match(line)))


def allowance(name: str) -> int:
    """How many float64 instructions a kernel may hold."""
    return next((count for pattern, count in FLOAT64 if fnmatch.fnmatch(name, pattern)), 0)


def find_ptxas() -> tuple[str, tuple[int, int]] | None:
    """Path and CUDA release of the newest ptxas here: an older one refuses newer PTX.

    Looked for on PATH, in $CUDA_HOME, /usr/local/cuda, NVIDIA's and Triton's Python packages.
    """
    places = [Path(p) for p in [shutil.which("ptxas")] if p]
    places += [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "ptxas"]
    for package, pattern in (("nvidia", "*/bin/ptxas"), ("triton", "backends/nvidia/bin/ptxas*")):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            places += Path(folder).glob(pattern)
    found = []
    for place in places:
        if os.access(place, os.X_OK):
            done = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
            if release := _RELEASE.search(done.stdout):
                found.append(((int(release[1]), int(release[2])), str(place)))
    if not found:
        return None
    release_found, path = max(found)
    return path, release_found


def parse_ptxas(text: str) -> dict[str, int]:
    """Read registers, warps they leave room for, stack, spilled bytes and shared memory out of `ptxas -v`.

    Stack and spills are summed over the entry and the functions it calls; registers are the entry's.
    """

    def add_up(pattern: str) -> int:
        return sum(int(n) for n in re.findall(pattern, text))

    registers = max((int(n) for n in re.findall(r"Used (\d+) registers", text)), default=1)
    return {
        "registers": registers,
        "warps": min(WARPS, REGISTERS // (-(-registers // 8) * 8 * 32)),  # registers come in eights
        "stack": add_up(r"(\d+) bytes stack frame"),
        "spilled": add_up(r"(\d+) bytes spill stores") + add_up(r"(\d+) bytes spill loads"),
        "shared": add_up(r"(\d+) bytes smem"),
    }


def assemble(ptxas: str, ptx: str, arch: str, options: dict[str, Any]) -> dict[str, int]:
    """Assemble for sm_`arch` within a kernel's options; returns `parse_ptxas`'s figures.

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
        if options.get("max_registers"):
            command.append(f"-maxrregcount={options['max_registers']}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        text = done.stderr + done.stdout
        words = (text.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise (TooOldError if "Unsupported .version" in text else RuntimeError)(f"ptxas: {words}")
    return parse_ptxas(done.stdout + done.stderr)


def compile_ptx(function: Any, signature: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """Compile a kernel to PTX for a compute capability, as a launch would; needs no driver."""
    from numba import cuda
    from numba.cuda import dispatcher

    # Numba asks the current device for its capability when a kernel calls a device function, even
    # if the kernel is compiled for another one.
    device = types.SimpleNamespace(compute_capability=capability)
    saved = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: device
    try:
        fast = bool(function.targetoptions.get("fastmath"))
        text, _ = cuda.compile_ptx(function.py_func, signature, cc=capability, fastmath=fast)
    finally:
        dispatcher.get_current_device = saved
    return str(text)


def examine(
    name: str, kernel: Any, signature: Any, capability: tuple[int, int], ptxas: str | None
) -> tuple[dict[str, Any], str, str]:
    """Compile one kernel; returns its figures (see `COLUMNS`), its PTX, and what is wrong with it."""
    begin = time.perf_counter()
    try:
        ptx = compile_ptx(kernel, signature, capability)
    except Exception as error:  # whatever the compiler raises: it is the result
        return {}, "", f"{type(error).__name__}: {error}"
    figures: dict[str, Any] = {"seconds": round(time.perf_counter() - begin, 1), "PTX": sum(1 for _ in opcodes(ptx))}
    figures |= {"float64": count_float64(ptx), "local": local_bytes(ptx)}
    wrong = f"{figures['local']} bytes of local memory: an array's index is not known to the compiler" * (
        figures["local"] > 0
    )
    if figures["float64"] > allowance(name):
        wrong = (
            f"{figures['float64']} float64 instructions, {allowance(name)} allowed: a constant or an operation that "
            "Numba types as float64 (write float32(0.5), not 0.5), or add a line to FLOAT64"
        )
    if ptxas:
        try:
            figures |= assemble(ptxas, ptx, f"{capability[0]}{capability[1]}", kernel.targetoptions)
        except TooOldError as error:
            print(f"not assembled: {error}", file=sys.stderr)
        except RuntimeError as error:
            wrong = wrong or str(error)
    return figures, ptx, wrong


def parse_arch(text: str) -> tuple[int, int]:
    """Read 'sm_90', '90' or '9.0' as (9, 0)."""
    digits = text.lower().removeprefix("sm_").replace(".", "")
    if not digits.isdigit() or len(digits) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r}: such as sm_90, sm_80 or sm_120 is accepted")
    return int(digits[:-1]), int(digits[-1])


def row(name: str, figures: dict[str, Any], width: int) -> str:
    """Lay figures out under the names of `COLUMNS`; `width` is that of the kernels' names."""
    return "  ".join([name.ljust(width), *(str(figures.get(c, "")).rjust(9) for c in COLUMNS)])


def main(arguments: list[str] | None = None) -> int:
    """Compile, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="*", metavar="PATTERN", help="only those, such as 'wls_*'")
    parser.add_argument("--arch", type=parse_arch, default=(9, 0), help="sm_90 unless told")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the PTX there")
    args = parser.parse_args(arguments)
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)  # the simulator compiles nothing
    try:
        from sdie_fast.cuda.kernels import every_kernel

        chosen = [k for k in every_kernel() if fnmatch.fnmatch(k.name, args.kernel)]
    except ImportError as error:
        print(f"nothing can be compiled here: {error}; to fix: {FIX}", file=sys.stderr)
        return 2
    if not chosen:
        print(f"--kernel: none is called {args.kernel!r}", file=sys.stderr)
        return 2
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    ptxas = find_ptxas()
    width = max(len(k.name) for k in chosen)
    failed = 0
    print(row("kernel", {c: c for c in COLUMNS}, width), flush=True)
    for name, kernel, signature in chosen:
        figures, ptx, wrong = examine(name, kernel, signature, args.arch, ptxas[0] if ptxas else None)
        print(row(name, figures, width), flush=True)
        if wrong:
            failed += 1
            print(f"{name}: {wrong}", file=sys.stderr)
        if args.out and ptx:
            (args.out / (re.sub(r"\W+", "_", name) + ".ptx")).write_text(ptx)
    assembler = f"ptxas of CUDA {ptxas[1][0]}.{ptxas[1][1]}" if ptxas else "no ptxas found: not assembled"
    print(f"{len(chosen)} kernels for sm_{args.arch[0]}{args.arch[1]}, {failed} failed; {assembler}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
