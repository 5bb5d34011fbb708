"""Spatiograms: mass, mean position and covariance of every intensity bin of a plane.

The definition is `sdie_fast.filters.spatiogram`'s. Two kernels:

1. `gather_moments`: a block of threads sums the moments of some of a plane's cells, at most
   64 x 64 pixels each. A thread owns one bin for some of the cell's rows: every pixel is read by all
   the bins' threads, which costs a few operations a bin and no atomic one, whatever the image holds.
2. `finish_bins`: a block per plane adds these up and leaves a record per occupied bin.

Sums inside a cell are float32, of positions from the cell's middle, at most 32 away; between cells
they are float64, a dozen operations per bin and cell: the variance across a thin oblique line is the
small difference of large ones. All sums are in a fixed order, so that results repeat to the bit.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float32, float64, int32, uint32

from .kernels import ACTIVE, F32, HALF, INDEX, ONE, PLANES, SIMULATED, ZERO, kernel, log2, part

__all__ = ["cell_side", "finish_bins", "gather_moments", "quotient", "saturate"]

MAX_BINS = 64
THREADS = 256  # of a block, at most
CELL = 64  # columns and rows of a cell, at most
GROUP = 8  # a cell's sides are multiples of it: four pixels are read on both sides of its middle
MOMENTS = 6  # n, x, y, xx, xy, yy
CELL_PIXELS = CELL * CELL
SUMS = MOMENTS * THREADS
FOURS = CELL_PIXELS - 4  # mask: tells the compiler that four floats may be read at once

# Places in a record: log2 of n * N(x; m, S) is PEAK - KX dx^2 - KY (dy - (SLOPE + SLOPE_REST) dx)^2,
# with dx = x - MEAN_X - MEAN_X_REST, dy alike. This triangular form keeps its digits where the
# inverse of S would lose them; two float32 hold what must be exact far from the origin.
PEAK, MEAN_X, MEAN_X_REST, MEAN_Y, MEAN_Y_REST, KX, KY, SLOPE, SLOPE_REST, BIN = range(10)
RECORD = 10

EMPTY_MASS = 1e-6  # the reference's
HALF_LOG2_E = 0.5 / math.log(2.0)

# Four float32 at once from shared memory; the simulator knows no alignment.
ALIGNMENT = None if SIMULATED else 16
# So that a multiprocessor of 65,536 registers holds four blocks instead of three; nothing is spilled.
_REGISTERS: dict[str, Any] = {} if SIMULATED else {"max_registers": 64}
OUTSIDE = F32(-2.0)  # a level that no bin reaches
_MOMENTS = float64[:, :, :, ::1]


@part
def saturate(v):
    """Clip to [0, 1]. Where denormals are kept this is a modifier of the operation before it."""
    return min(max(v, ZERO), ONE)


@part
def quotient(a, b):
    """The whole quotient of two int32 that are not negative: Numba's own division is of int64."""
    return int32(uint32(a) // uint32(b))


@part
def _level(image, plane, y, x, bottom, right, scale, last):
    """Intensity of a pixel in bins, from the middle of the first one; `OUTSIDE` past the border."""
    level = OUTSIDE
    if y < bottom and x < right:
        level = min(max(cuda.fma(image[plane, y, x], scale, -HALF), ZERO), last)
    return level


@part
def _load_cell(image, plane, top, left, bins, rows, columns, tile):
    """Fill the rows of the tile with levels, four of a thread under way at once."""
    scale, last = F32(bins), F32(int32(bins - 1))
    bottom = min(int32(top + rows), int32(image.shape[1]))
    right = min(int32(left + columns), int32(image.shape[2]))
    warps = int32(cuda.blockDim.x >> 5)
    x = int32(left + (cuda.threadIdx.x & 31))
    row = int32(cuda.threadIdx.x >> 5)
    while row < rows:
        y = int32(top + row)
        under = int32(y + warps)
        level = _level(image, plane, y, x, bottom, right, scale, last)
        level_right = _level(image, plane, y, int32(x + 32), bottom, right, scale, last)
        level_under = _level(image, plane, under, x, bottom, right, scale, last)
        level_both = _level(image, plane, under, int32(x + 32), bottom, right, scale, last)
        at = int32(row * CELL + (cuda.threadIdx.x & 31)) & INDEX
        tile[at] = level
        tile[at + 32] = level_right
        if row + warps < rows:
            tile[at + warps * CELL] = level_under
            tile[at + warps * CELL + 32] = level_both
        row = int32(row + 2 * warps)


# Without fastmath, whose flushing of denormals would make operations of `abs` and `saturate`.
@kernel(PLANES, ACTIVE, *(int32,) * 5, _MOMENTS, **_REGISTERS)
def gather_moments(image, active, bins, bin_bits, rows, columns, parts, moments):
    """Sum the moments of the cells of one part of a plane, those of zero activity passed over.

    Grid: planes * `parts` blocks of a power of two of threads, at least 2 ** `bin_bits`, the least power
    of two that is not below `bins`. Cells are of `rows` by `columns`, a multiple of `GROUP`, both at most
    `CELL`. Written: `moments` (n, parts, MOMENTS, bins), sums of share * (1, x, y, x x, x y, y y), in
    pixels from the plane's corner.
    """
    tile = cuda.shared.array(CELL_PIXELS, float32, alignment=ALIGNMENT)
    sums = cuda.shared.array(SUMS, float32)
    thread, threads = int32(cuda.threadIdx.x), int32(cuda.blockDim.x)
    plane = quotient(cuda.blockIdx.x, parts)
    part_of_plane = int32(cuda.blockIdx.x - plane * parts)
    if active[plane] == ZERO:
        return
    across = quotient(image.shape[2] + columns - 1, columns)
    cells = int32(across * quotient(image.shape[1] + rows - 1, rows))
    share = quotient(cells + parts - 1, parts)
    lanes = int32(1 << bin_bits)
    own_bin = F32(int32(thread & (lanes - 1)))
    streams = int32(threads >> bin_bits)
    half_columns = int32(columns >> 1)
    half_width, half_height = F32(half_columns), HALF * F32(int32(rows - 1))
    own = cuda.local.array(MOMENTS, float32)  # of a cell
    every = cuda.local.array(MOMENTS, float64)
    for m in range(MOMENTS):
        every[m] = float64(0.0)

    cell = int32(part_of_plane * share)
    end = min(int32(cell + share), cells)
    while cell < end:
        top = int32(quotient(cell, across) * rows)
        left = int32((cell - quotient(cell, across) * across) * columns)
        _load_cell(image, plane, top, left, bins, rows, columns, tile)
        cuda.syncthreads()

        n = x = y = xx = xy = yy = ZERO
        row = int32(thread >> bin_bits)
        while row < rows:
            row_n = row_x = row_xx = ZERO
            after_at = int32(row * CELL + half_columns)
            before_at = after_at
            middle = HALF
            while middle < half_width:
                before_at = int32(before_at - 4)
                for i in range(4):  # pixels in pairs about the row's middle
                    after = tile[(after_at & FOURS) + i]
                    before = tile[(before_at & FOURS) + (3 - i)]
                    after = saturate(ONE - abs(after - own_bin))
                    before = saturate(ONE - abs(before - own_bin))
                    both, dx = after + before, middle + F32(i)
                    row_n += both
                    row_x += (after - before) * dx
                    row_xx += both * (dx * dx)
                middle += F32(4.0)
                after_at = int32(after_at + 4)
            dy = F32(row) - half_height
            n += row_n
            x += row_x
            xx += row_xx
            y += dy * row_n
            xy += dy * row_x
            yy += dy * dy * row_n
            row = int32(row + streams)
        own[0], own[1], own[2], own[3], own[4], own[5] = n, x, y, xx, xy, yy
        for m in range(MOMENTS):
            sums[m * THREADS + thread] = own[m]
        cuda.syncthreads()

        if thread < bins:
            for m in range(MOMENTS):
                own[m] = ZERO
            i = thread
            while i < threads:
                for m in range(MOMENTS):
                    own[m] += sums[(m * THREADS + i) & INDEX]
                i = int32(i + lanes)
            n, x, y, xx, xy, yy = own[0], own[1], own[2], own[3], own[4], own[5]
            if n > ZERO:
                x0 = float64(left) + float64(0.5) * float64(columns - 1)
                y0 = float64(top) + float64(0.5) * float64(rows - 1)
                full_x = float64(x) + x0 * float64(n)
                full_y = float64(y) + y0 * float64(n)
                every[0] += float64(n)
                every[1] += full_x
                every[2] += full_y
                every[3] += float64(xx) + x0 * (float64(x) + full_x)
                every[4] += float64(xy) + x0 * float64(y) + y0 * full_x
                every[5] += float64(yy) + y0 * (float64(y) + full_y)
        cell = int32(cell + 1)

    if thread < bins:
        for m in range(MOMENTS):
            moments[plane, part_of_plane, m, thread] = every[m]


@part
def _write_record(moments, own, record):
    """Turn a bin's moments into its record."""
    n, x, y, xx, xy, yy = moments[0], moments[1], moments[2], moments[3], moments[4], moments[5]
    share = float64(1.0) / n
    mean_x, mean_y = x * share, y * share
    var_x = max(xx * share - mean_x * mean_x, float64(0.0)) + float64(1.0)
    var_y = max(yy * share - mean_y * mean_y, float64(0.0)) + float64(1.0)
    slope = (xy * share - mean_x * mean_y) / var_x
    # The variance of y at a given x: at least the pixel squared that the definition adds to it.
    rest = max(var_y - slope * slope * var_x, float64(1.0))
    whole_x, whole_y = math.floor(mean_x), math.floor(mean_y)
    record[PEAK] = log2(float32(n)) - HALF * log2(float32(var_x * rest))
    record[MEAN_X] = float32(whole_x)
    record[MEAN_X_REST] = float32(mean_x - whole_x)
    record[MEAN_Y] = float32(whole_y)
    record[MEAN_Y_REST] = float32(mean_y - whole_y)
    record[KX] = float32(float64(HALF_LOG2_E) / var_x)
    record[KY] = float32(float64(HALF_LOG2_E) / rest)
    record[SLOPE] = float32(slope)
    record[SLOPE_REST] = float32(slope - float64(float32(slope)))
    record[BIN] = float32(own)


@kernel(_MOMENTS, ACTIVE, *(int32,) * 3, PLANES, int32[::1], fastmath=True)
def finish_bins(moments, active, bins, bin_bits, parts, records, used):
    """Add up a plane's parts; write the records (n, bins, RECORD) of the bins that hold anything, in order.

    Grid: one block per plane, of a power of two of threads, at least 2 ** bin_bits. Arguments as for
    `gather_moments`; `used` (n,) becomes how many bins of a plane have a record.
    """
    sums = cuda.shared.array((MOMENTS, THREADS), float64)
    occupied = cuda.shared.array(MAX_BINS, int32)
    plane, thread = cuda.blockIdx.x, cuda.threadIdx.x
    if active[plane] == ZERO:
        return
    lanes = int32(1 << bin_bits)
    own = int32(thread & (lanes - 1))
    if own < bins:
        for m in range(MOMENTS):
            total = float64(0.0)
            i = int32(thread >> bin_bits)
            while i < parts:
                total += moments[plane, i, m, own]
                i = int32(i + (cuda.blockDim.x >> bin_bits))
            sums[m, thread] = total
    cuda.syncthreads()
    every = cuda.local.array(MOMENTS, float64)
    if thread < bins:
        for m in range(MOMENTS):
            every[m] = float64(0.0)
            i = int32(thread)
            while i < cuda.blockDim.x:
                every[m] += sums[m, i]
                i = int32(i + lanes)
        occupied[thread] = 1 if every[0] >= float64(EMPTY_MASS) else 0
    cuda.syncthreads()
    if thread < bins:
        place = 0
        for j in range(thread):
            place += occupied[j]
        if occupied[thread] == 1:
            _write_record(every, thread, records[plane, place])
        if thread == bins - 1:
            used[plane] = place + occupied[thread]


def cell_side(pixels: int) -> int:
    """Side of the cells that cover a number of pixels with the least waste: a multiple of 8.

    It depends on the plane's size alone, so that a plane's sums do not depend on its batch.
    """
    sides = range(GROUP, CELL + 1, GROUP)
    return min(sides, key=lambda side: (-(-pixels // side) * side, -side))
