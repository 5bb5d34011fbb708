"""What the kernels share: constants, fast functions, and launches of more blocks than a grid holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import config, cuda

# Python numbers are float64 to the compiler; these keep the arithmetic in float32.
F32 = np.float32
ZERO, HALF, ONE, TWO = F32(0.0), F32(0.5), F32(1.0), F32(2.0)

# An index masked by one of these is known to the compiler not to be negative, which spares Python's
# wrapping of negative indices: six instructions an axis at each access.
INDEX = 0xFFFF  # in shared memory
PLACE = 0x7FFFFFFF  # along an axis of an image
PIXEL = 0x7FFFFFFFFFFFFFFF  # in a batch

SIMULATED = bool(config.ENABLE_CUDASIM)

# 2^x and log2(x) by the special function unit, relative error about 2^-22; results that would be
# denormal are 0. Only kernels compiled with fastmath get these from the same names.
exp2: Callable[[Any], Any]
log2: Callable[[Any], Any]
if SIMULATED:
    exp2, log2 = np.exp2, np.log2
else:
    from numba.cuda import libdevice

    exp2, log2 = libdevice.exp2f, libdevice.fast_log2f

# Functions that belong to a kernel: inlined, so that their small arrays live in registers.
_inlined = {} if SIMULATED else {"forceinline": True}
part = functools.partial(cuda.jit, device=True, fastmath=True, **_inlined)
exact_part = functools.partial(cuda.jit, device=True, **_inlined)

GRID_LIMIT = 65535  # blocks of a grid along y and z


def pieces(along_y: int, along_z: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a grid along y and z into what one launch takes: yields (first y, first z, y, z)."""
    for z in range(0, along_z, GRID_LIMIT):
        for y in range(0, along_y, GRID_LIMIT):
            yield y, z, min(GRID_LIMIT, along_y - y), min(GRID_LIMIT, along_z - z)


def ceil_div(a: int, b: int) -> int:
    """The quotient of two positive numbers, rounded up."""
    return -(-a // b)


@part
def reflect(i, n):
    """Reflect a coordinate into [0, n) without repeating the edge; farther ones end at an edge."""
    i = abs(i)
    if i >= n:
        i = 2 * (n - 1) - i
    return max(i, 0)
