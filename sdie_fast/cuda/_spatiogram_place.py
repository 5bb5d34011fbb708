"""The spatiogram filter's values: every pixel looked up in the bins' weights at its own place.

The definition is `sdie_fast.reference_spatiogram`'s "spatiogram": P(b|x) is proportional to
n_b N(x; m_b, S_b), and the output is its cumulative sum up to the pixel's level. The base-2 logarithm
of such a weight is a quadratic polynomial of the place.

A block of threads has one patch of the plane. Its first threads turn every bin's record into that
polynomial around the patch's middle, and bound it: tangent planes from above, corners from below.
The best lower bound is the patch's `floor`: no pixel's weights sum up to less than 2^floor, so weights
are computed relative to it, and a bin whose upper bound is `FAINT` below it is passed over.

A thread then follows each bin down `RUN` pixels of a column: a weight is the one before times a
ratio, which itself changes by a constant factor. The first two are exponentials, the rest products.
Narrow bins need no care of their own: S is at least one pixel squared, so that a weight which
underflows at the first pixel is still 2^-17 of the sum, or less, at the last one.

That holds where the floor is not far below the highest possible weight, about 1. Where it is, since
every bin is narrower than the patch, the thread finds a floor for its own pixels. Where that is too low
as well, far outside of every bin, each pixel gets its own largest exponent first, as in the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda, float32, int32, types

from ._device import F32, HALF, INDEX, ONE, TWO, ZERO, exp2, part
from ._spatiogram_statistics import (
    ALIGNMENT,
    BIN,
    KX,
    KY,
    MAX_BINS,
    MEAN_X,
    MEAN_X_REST,
    MEAN_Y,
    MEAN_Y_REST,
    PEAK,
    SLOPE,
    SLOPE_REST,
    quotient,
    saturate,
)

RUN = 8  # pixels of a column that a thread computes
ENTRY = 8  # floats of a bin's polynomial: 1, x, y, -xx, xy, -yy, factor of the ratios, bin
ENTRIES = MAX_BINS * ENTRY
ENTRY_STARTS = ENTRIES - ENTRY  # mask
MOST_THREADS = 256

FAINT = F32(22.0)  # a bin is passed over at 2^-22 of the sum: 63 of them are 2e-5 at the most
LOWEST_FLOOR = F32(-20.0)  # a floor below it is not used
STEEPEST = F32(60.0)  # a ratio above 2^60 only follows a weight that stays 0
POSITIVE = 0x7FFFFFFF  # tells the compiler that an index needs no wrapping, as INDEX does
NO_FLOOR = -(2**31) + 128  # both ends of what float32 and int32 hold


@part
def _centre_bin(record, x, y, half_width, half_height, entry):
    """Write a bin's polynomial around (x, y) into entry; return its bounds in the patch."""
    dx = (x - record[MEAN_X]) - record[MEAN_X_REST]
    dy = (y - record[MEAN_Y]) - record[MEAN_Y_REST]
    kx, ky, slope = record[KX], record[KY], record[SLOPE]
    # Off an oblique line dy and slope * dx nearly cancel: one rounding of the whole, not of a part.
    off = cuda.fma(-record[SLOPE_REST], dx, cuda.fma(-slope, dx, dy))
    constant = record[PEAK] - kx * dx * dx - ky * off * off
    along_x = TWO * (ky * off * slope - kx * dx)
    along_y = -TWO * ky * off
    xx, xy = kx + ky * slope * slope, TWO * ky * slope
    entry[0] = constant
    entry[1] = along_x
    entry[2] = along_y
    entry[3] = xx
    entry[4] = xy
    entry[5] = ky
    entry[6] = exp2(-TWO * ky)
    entry[7] = record[BIN]
    rise = half_width * abs(along_x) + half_height * abs(along_y)
    bend = xx * half_width * half_width + ky * half_height * half_height
    bend += abs(xy) * half_width * half_height
    return constant - rise - bend, constant + rise


@part
def _exponent(entry, at, x, y):
    """A bin's exponent at a place in the patch."""
    across = entry[at + 1] - entry[at + 3] * x + entry[at + 4] * y
    return entry[at] + x * across + y * (entry[at + 2] - entry[at + 5] * y)


@part
def _column_floor(count, entries, highest, limit, place_x, place_y):
    """Find the best lower bound of the exponents at a thread's pixels: each bin's at an end."""
    floor = F32(NO_FLOOR)
    for i in range(count):
        if highest[i] >= limit:
            first = _exponent(entries, i * ENTRY, place_x, place_y)
            last = _exponent(entries, i * ENTRY, place_x, place_y + F32(RUN - 1))
            floor = max(floor, min(first, last))
    return floor


@part
def _equalise_far(image, plane, x, y, bins, count, entries, highest, limit, place_x, place_y, out):
    """Equalise a thread's pixels where exponents may lie far below zero: two passes over the bins."""
    height = int32(image.shape[1])
    for k in range(RUN):
        if y + k < height:
            level = image[plane, y + k, x] * F32(bins)
            down = place_y + F32(int32(k))
            top = F32(NO_FLOOR)
            for i in range(count):
                if highest[i] >= limit:
                    top = max(top, _exponent(entries, i * ENTRY, place_x, down))
            total = below = ZERO
            for i in range(count):
                if highest[i] >= limit:
                    weight = exp2(_exponent(entries, i * ENTRY, place_x, down) - top)
                    total += weight
                    below += weight * saturate(level - entries[i * ENTRY + 7])
            out[plane, y + k, x] = below / total


@cuda.jit(fastmath=True)
def equalise_by_place(image, active, bins, records, used, out):
    """Equalise planes by the records of their bins.

    Grid: a block per patch of (blockDim.x, blockDim.y * RUN) pixels, all of a plane's in turn; at most
    `MOST_THREADS` threads.

    Parameters
    ----------
    image, out : (n, H, W) float32
        May be the same array.
    active : (n,) float32
        A plane whose entry is 0 is passed over.
    bins : int32
    records : (n, bins, RECORD) float32
    used : (n,) int32
        From `finish_bins`.
    """
    entries = cuda.shared.array(ENTRIES, float32, alignment=ALIGNMENT)
    highest = cuda.shared.array(MAX_BINS, float32)
    floor = cuda.shared.array(1, int32)
    height, width = int32(image.shape[1]), int32(image.shape[2])
    columns, rows = int32(cuda.blockDim.x), int32(cuda.blockDim.y * RUN)
    across = quotient(width + columns - 1, columns)
    patches = int32(across * quotient(height + rows - 1, rows))
    plane = quotient(cuda.blockIdx.x, patches) & POSITIVE
    if active[plane] == ZERO:
        return
    patch = int32(cuda.blockIdx.x - plane * patches)
    patch_row = quotient(patch, across)
    top = int32(patch_row * rows)
    left = int32((patch - patch_row * across) * columns)
    half_width, half_height = HALF * F32(int32(columns - 1)), HALF * F32(int32(rows - 1))
    thread = (cuda.threadIdx.y * columns + cuda.threadIdx.x) & INDEX
    count = used[plane]
    if thread == 0:
        floor[0] = NO_FLOOR
    cuda.syncthreads()
    i = thread
    while i < count:
        low, high = _centre_bin(
            records[plane, i],
            F32(left) + half_width,
            F32(top) + half_height,
            half_width,
            half_height,
            entries[i * ENTRY : (i + 1) * ENTRY],
        )
        highest[i] = high
        cuda.atomic.max(floor, 0, int32(math.floor(max(low, F32(NO_FLOOR)))))
        i = (i + columns * cuda.blockDim.y) & INDEX
    cuda.syncthreads()

    x, y = (left + cuda.threadIdx.x) & POSITIVE, (top + cuda.threadIdx.y * RUN) & POSITIVE
    if x >= width:
        return
    place_x = F32(int32(cuda.threadIdx.x)) - half_width
    place_y = F32(int32(cuda.threadIdx.y * RUN)) - half_height
    base = F32(floor[0])
    limit = base - FAINT
    if base < LOWEST_FLOOR:
        base = _column_floor(count, entries, highest, limit, place_x, place_y)
        if base < LOWEST_FLOOR:
            _equalise_far(image, plane, x, y, bins, count, entries, highest, limit, place_x, place_y, out)
            return

    level = cuda.local.array(RUN, float32)
    below = cuda.local.array(RUN, float32)
    total = cuda.local.array(RUN, float32)
    for k in range(RUN):
        level[k] = ZERO
        if y + k < height:
            level[k] = image[plane, y + k, x] * F32(bins)
        below[k] = ZERO
        total[k] = ZERO
    between = place_y + place_y + ONE  # twice the place half-way to the next pixel
    for i in range(count):
        if highest[i & INDEX] < limit:
            continue
        at = (i * ENTRY) & ENTRY_STARTS
        constant, along_x, along_y = entries[at], entries[at + 1], entries[at + 2]
        xx, xy, yy = entries[at + 3], entries[at + 4], entries[at + 5]
        factor, own_bin = entries[at + 6], entries[at + 7]
        exponent = constant - base + place_x * (along_x - xx * place_x + xy * place_y)
        exponent += place_y * (along_y - yy * place_y)
        weight = exp2(exponent)
        ratio = exp2(min(along_y + xy * place_x - yy * between, STEEPEST))
        for k in range(RUN):
            total[k] += weight
            below[k] += weight * saturate(level[k] - own_bin)
            weight *= ratio
            ratio *= factor
    for k in range(RUN):
        if y + k < height:
            out[plane, y + k, x] = below[k] * (ONE / total[k])


_PLANES = types.Array(types.float32, 3, "C")
_ACTIVE = types.Array(types.float32, 1, "A")
_USED = types.Array(types.int32, 1, "C")

KERNELS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    (
        "equalise_by_place",
        equalise_by_place,
        (_PLANES, _ACTIVE, types.int32, _PLANES, _USED, _PLANES),
    ),
)


def patch_threads(height: int, width: int) -> tuple[int, int]:
    """Threads of a block along x and y: those that leave the fewest idle past the plane's borders."""

    def cost(threads: tuple[int, int]) -> tuple[int, int]:
        columns, rows = threads
        blocks = -(-width // columns) * -(-height // (rows * RUN))
        # One warp more for what a block does before its pixels.
        return blocks * (-(-columns * rows // 32) + 1), columns * rows

    widths = range(min(width, 16), min(width, 64) + 1)
    choices = [(c, r) for c in widths for r in range(1, MOST_THREADS // c + 1)]
    return min(choices, key=cost)
