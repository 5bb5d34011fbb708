"""Compile every CUDA kernel as a launch does, on any machine, and look at what came out.

    python tools/cuda_ptx.py

No GPU and no CUDA toolkit is needed: numba-cuda, and the NVVM and nvJitLink that pip brings with it
(`pip install "numba-cuda[cu13]"`), compile and link for an architecture that is not there. Each kernel is compiled for the
types that it is called with, as its module in `sdie_fast.cuda` lists them, with the dispatcher's own options: optimised
while linking, within its bounds on threads and registers. What is told is true of the machine code that a GPU would get:
registers, how many warps they leave room for, stack, spilled bytes and shared memory in nvJitLink's words; float64
instructions and arrays in local memory from the PTX that it assembles.

Fails where a kernel does not compile, keeps an array in local memory, uses stack or spills beyond `STACK`, or holds more
float64 instructions than `FLOAT64` allows it: on most GPUs one of them takes the time of 32 to 64 in float32 (of 2 on an
H100 or H200), and in Numba a single constant of Python's float type makes them. The last column tells how many seconds
the kernel took, Numba's part and NVIDIA's.

Exit codes: 0 all well, 1 a kernel failed, 2 nothing could be compiled here.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import re
import sys
import time
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

# Kernels (shell patterns over their names) that may use float64, and how many instructions of it: sums over a block of
# pixels, once for each bin; each bin's mean and covariance, once. Of several patterns the first counts.
FLOAT64 = (("moments: *gather*", 60), ("moments: finish_bins", 120))

# Kernels that may use stack, such as for spilled registers, and how many bytes of it a thread: none.
STACK: tuple[tuple[str, int], ...] = ()

FIX = 'pip install "numba-cuda[cu13]" (for a CUDA 12 driver: "numba-cuda[cu12]")'
REGISTERS = 65536  # of one multiprocessor, compute capability 7.0 to 12.0
WARPS = 64  # that one multiprocessor holds at most, 8.0 and 9.0
COLUMNS = ("PTX", "float64", "local", "registers", "warps", "stack", "spilled", "shared", "seconds")

_INSTRUCTION = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)[\s;]")
_LOCAL = re.compile(r"^\s*\.local\s.*\[(\d+)\];")


def opcodes(ptx: str) -> Iterator[str]:
    """Every instruction's opcode with its suffixes, such as 'ld.global.v4.f32'; no directives or labels."""
    return (match[1] for line in ptx.splitlines() if (match := _INSTRUCTION.match(line)))


def count_float64(ptx: str) -> int:
    """Count the instructions that touch a float64."""
    return sum(".f64" in opcode for opcode in opcodes(ptx))


def local_bytes(ptx: str) -> int:
    """Bytes of local memory a thread asks for: arrays that are indexed at run time, off chip."""
    return sum(int(m[1]) for line in ptx.splitlines() if (m := _LOCAL.match(line)))


def allowance(name: str, table: Iterable[tuple[str, int]]) -> int:
    """What a table (`FLOAT64`, `STACK`) allows a kernel."""
    return next((count for pattern, count in table if fnmatch.fnmatch(name, pattern)), 0)


def parse_ptxas(text: str) -> dict[str, int]:
    """Read registers, warps they leave room for, stack, spilled bytes and shared memory out of what `ptxas -v` says.

    Stack and spills are summed over the entry and the functions it calls; registers are the entry's.
    """

    def add_up(pattern: str) -> int:
        return sum(int(n) for n in re.findall(pattern, text))

    used = re.findall(r"Used (\d+) registers", text)
    if not used:
        raise ValueError(f"nothing is said of registers: {text.strip()[:300]!r}")
    registers = max(map(int, used))
    return {
        "registers": registers,
        "warps": min(WARPS, REGISTERS // (-(-registers // 8) * 8 * 32)),  # registers come in eights
        "stack": add_up(r"(\d+) bytes stack frame"),
        "spilled": add_up(r"(\d+) bytes spill stores") + add_up(r"(\d+) bytes spill loads"),
        "shared": add_up(r"(\d+) bytes smem"),
    }


def build(function: Any, signature: tuple[Any, ...], capability: tuple[int, int]) -> tuple[str, str]:
    """Compile and link a kernel for a compute capability as a launch would; needs no driver.

    Returns what nvJitLink's assembler says of the machine code, and the PTX that it assembled.
    """
    from numba.cuda import codegen, dispatcher
    from numba.cuda.cudadrv import driver

    from sdie_fast.cuda.driver import prepare

    prepare()
    # Numba asks the current device for what it compiles for; with the "a" it launches.
    device = types.SimpleNamespace(compute_capability=capability)
    target = (*capability, "a" if capability >= (9, 0) else "")
    options = driver._Linker._get_linker_options

    def verbose(linker: Any, ptx: bool) -> Any:
        return dataclasses.replace(options(linker, ptx), ptxas_options=["-v"])

    with (
        mock.patch.object(dispatcher, "get_current_device", return_value=device),
        mock.patch.object(codegen.CUDACodeLibrary, "_ensure_cc", return_value=target),
        mock.patch.object(driver._Linker, "_get_linker_options", verbose),
    ):
        library = dispatcher._Kernel(function.py_func, signature, **function.targetoptions).library
        library.get_cubin(target)
        ptx = library.get_lto_ptx(target) if library._lto else library.get_asm_str(target)
    return library.get_linkerinfo(target), ptx.strip("\0")


def faults(name: str, figures: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with a kernel."""
    doubles, stack = allowance(name, FLOAT64), allowance(name, STACK)
    if figures["float64"] > doubles:
        yield (
            f"{figures['float64']} float64 instructions, {doubles} allowed: a constant or an operation that Numba types "
            "as float64 (write float32(0.5), not 0.5), or add a line to FLOAT64"
        )
    if figures["local"]:
        yield f"{figures['local']} bytes of local memory: an array's index is not known to the compiler"
    if figures["stack"] > stack:
        yield f"{figures['stack']} bytes of stack, {stack} allowed: registers are spilled, or a function is not inlined"


def examine(name: str, kernel: Any, signature: Any, capability: tuple[int, int]) -> tuple[dict[str, Any], str, str]:
    """Compile one kernel; returns its figures (see `COLUMNS`), its PTX, and what is wrong with it."""
    begin = time.perf_counter()
    try:
        words, ptx = build(kernel, signature, capability)
        assembled = parse_ptxas(words)
    except Exception as error:  # whatever the compiler raises: it is the result
        return {}, "", f"{type(error).__name__}: {error}"
    figures = {"PTX": sum(1 for _ in opcodes(ptx)), "float64": count_float64(ptx), "local": local_bytes(ptx)}
    figures |= assembled | {"seconds": round(time.perf_counter() - begin, 1)}
    return figures, ptx, "; ".join(faults(name, figures))


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
    width = max(len(k.name) for k in chosen)
    failed = 0
    print(row("kernel", {c: c for c in COLUMNS}, width), flush=True)
    for name, kernel, signature in chosen:
        figures, ptx, wrong = examine(name, kernel, signature, args.arch)
        print(row(name, figures, width), flush=True)
        if wrong:
            failed += 1
            print(f"{name}: {wrong}", file=sys.stderr)
        if args.out and ptx:
            (args.out / (re.sub(r"\W+", "_", name) + ".ptx")).write_text(ptx)
    print(f"{len(chosen)} kernels for sm_{args.arch[0]}{args.arch[1]}, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
