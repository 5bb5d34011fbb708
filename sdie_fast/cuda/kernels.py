"""What all kernels share: constants, fast functions, launches of more blocks than a grid holds, and the list of kernels."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda, float32, int32, uint32

from ..filters import TABLE
from . import driver
from .cache import KernelCache

__all__ = ["every_kernel", "exact_part", "kept", "kernel", "launch", "listed", "part", "section"]

driver.prepare()

# Python numbers are float64 to the compiler; these keep the arithmetic in float32.
F32 = np.float32
ZERO, HALF, ONE, TWO = F32(0.0), F32(0.5), F32(1.0), F32(2.0)

# An index masked by one of these is known to the compiler not to be negative, which spares Python's
# wrapping of negative indices: six instructions an axis at each access.
INDEX = 0xFFFF  # in shared memory
PLACE = 0x7FFFFFFF  # along an axis of an image
PIXEL = 0x7FFFFFFFFFFFFFFF  # in a batch

SIMULATED = bool(config.ENABLE_CUDASIM)

POSITION = {name: k for k, name in enumerate(TABLE)}  # of each filter's weight

# Types of arguments: planes (n, H, W), and which of them are computed.
PLANES, ACTIVE = float32[:, :, ::1], float32[::1]

# 2^x and log2(x) by the special function unit, relative error about 2^-22; results that would be
# denormal are 0. Only kernels compiled with fastmath get these from the same names. A float32's bits as
# an int32, and back.
exp2: Callable[[Any], Any]
log2: Callable[[Any], Any]
bits_of: Callable[[Any], Any]
float_of: Callable[[Any], Any]
if SIMULATED:
    exp2, log2 = np.exp2, np.errstate(divide="ignore")(np.log2)
    bits_of, float_of = (lambda v: np.float32(v).view(np.int32)), (lambda v: np.int32(v).view(np.float32))
else:
    from numba.cuda import libdevice

    exp2, log2 = libdevice.exp2f, libdevice.fast_log2f
    bits_of, float_of = libdevice.float_as_int, libdevice.int_as_float

# Functions that belong to a kernel: inlined, so that their small arrays live in registers.
_inlined = {} if SIMULATED else {"forceinline": True}
part = functools.partial(cuda.jit, device=True, fastmath=True, **_inlined)
exact_part = functools.partial(cuda.jit, device=True, **_inlined)
# A function of its own in the machine code: it is called from several places, or long.
section = functools.partial(cuda.jit, device=True, fastmath=True)

GRID_LIMIT = 65535  # blocks of a grid along y and z


def pieces(along_y: int, along_z: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a grid along y and z into what one launch takes: yields (first y, first z, y, z)."""
    for z in range(0, along_z, GRID_LIMIT):
        for y in range(0, along_y, GRID_LIMIT):
            yield y, z, min(GRID_LIMIT, along_y - y), min(GRID_LIMIT, along_z - z)


def launch(kernel: Any, grid: tuple[int, int, int], block: Any, stream: Any, *arguments: Any) -> None:
    """Launch a kernel whose last two arguments are the first block of the launch along y and z."""
    for y, z, rows, depth in pieces(grid[1], grid[2]):
        kernel[(grid[0], rows, depth), block, stream](*arguments, y, z)


def ceil_div(a: int, b: int) -> int:
    """The quotient of two positive numbers, rounded up."""
    return -(-a // b)


@part
def quotient(a, b):
    """The whole quotient of two int32 that are not negative: Numba's own division is of int64."""
    return int32(uint32(a) // uint32(b))


class Kernel(NamedTuple):
    """A kernel with the types of the arguments it is called with, for tools and tests."""

    name: str
    function: Any
    signature: tuple[Any, ...]


_listed: list[Kernel] = []


def kept(function: Any) -> Any:
    """Make a kernel look for itself among those kept on disk before it is compiled; returns it."""
    if not SIMULATED:
        function._cache = KernelCache(function)
    return function


def listed(function: Any, *signature: Any, note: str = "") -> Any:
    """Keep a kernel, and list it under its module's and its own name; returns it."""
    plain = function.py_func if hasattr(function, "py_func") else function.fn
    module = plain.__module__.removeprefix(f"{__package__}.")
    _listed.append(Kernel(f"{module}: {plain.__name__}{note and ' ' + note}", function, signature))
    return kept(function)


def kernel(*signature: Any, **options: Any) -> Callable[[Callable[..., None]], Any]:
    """Compile a function as a kernel when it is first called, and list it with these types."""
    return lambda function: listed(cuda.jit(**options)(function), *signature)


def every_kernel() -> list[Kernel]:
    """List the kernels of all modules."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return sorted(_listed, key=lambda kernel: kernel.name.partition(":")[0])
