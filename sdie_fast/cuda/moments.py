"""Spatiograms: mass, mean position and covariance of every intensity bin of a plane.

The definition is `sdie_fast.filters.spatiogram`'s. Two kernels:

1. `gather_moments`: a warp sums the moments of some of a plane's cells, at most 32 x 64 pixels each. A
   thread walks down one column, and has sums of its own for every bin in shared memory: a pixel changes
   those of its two bins, without atomic operations, whatever the image holds. Since a thread's x is one,
   sums of 1, y and y y are enough; where its cell ends, each bin's thread adds them up along x.
2. `finish_bins`: a block per plane adds these up and leaves a record per occupied bin.

Sums inside a cell are float32, of positions from the cell's middle, at most 32 away; between cells
they are float64, a dozen operations per bin and cell: the variance across a thin oblique line is the
small difference of large ones. All sums are in a fixed order, so that results repeat to the bit.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float32, float64, int32, types, uint32, uint64

from .kernels import ACTIVE, F32, HALF, ONE, PLANES, SIMULATED, ZERO, ceil_div, kernel, listed, log2, part, quotient
from .pixels import read_channel, read_luma, read_plane

__all__ = ["cell_sides", "finish_bins", "gather_moments", "load_and_gather", "saturate"]

MAX_BINS = 64
THREADS = 256  # of a block, at most
LANES = 32  # columns of a cell, at most: one thread each
CELL_ROWS = 64  # at most
WARPS = 2
GATHER_THREADS = WARPS * LANES
FLIGHT = 4  # pixels that a thread reads ahead
MOMENTS = 6  # n, x, y, xx, xy, yy
SUMS = MAX_BINS * LANES  # of one kind: each thread has one for each bin
ALL_SUMS = 3 * SUMS  # of 1, y and y y

# Places in a record: log2 of n * N(x; m, S) is PEAK - KX dx^2 - KY (dy - (SLOPE + SLOPE_REST) dx)^2,
# with dx = x - MEAN_X - MEAN_X_REST, dy alike. This triangular form keeps its digits where the
# inverse of S would lose them; two float32 hold what must be exact far from the origin.
PEAK, MEAN_X, MEAN_X_REST, MEAN_Y, MEAN_Y_REST, KX, KY, SLOPE, SLOPE_REST, BIN = range(10)
RECORD = 10

EMPTY_MASS = 1e-6  # the reference's
HALF_LOG2_E = 0.5 / math.log(2.0)

if not SIMULATED:
    from numba.cuda import libdevice

# Four float32 at once from shared memory; the simulator knows no alignment.
ALIGNMENT = None if SIMULATED else 16
_MOMENTS = float64[:, :, :, ::1]


@part
def _clipped(v):
    return min(max(v, ZERO), ONE)


# Clip to [0, 1]: one instruction, or a modifier of the one before.
saturate: Any = _clipped if SIMULATED else libdevice.saturatef


@part
def _add_pixel(value, y, scale, most, last_pair, own, pitch, sums):
    """Share a pixel out between its two bins, in the sums that are the thread's own."""
    level = min(max(cuda.fma(value, scale, -HALF), ZERO), most)
    low = min(int32(level), last_pair)
    upper = level - F32(low)
    lower = ONE - upper
    at = uint32(own + low * pitch)
    above = uint32(at + pitch)
    yy = y * y
    n, n_above = sums[at], sums[above]
    along, along_above = sums[at + SUMS], sums[above + SUMS]
    square, square_above = sums[at + 2 * SUMS], sums[above + 2 * SUMS]
    sums[at] = n + lower
    sums[above] = n_above + upper
    sums[at + SUMS] = along + lower * y
    sums[above + SUMS] = along_above + upper * y
    sums[at + 2 * SUMS] = square + lower * yy
    sums[above + 2 * SUMS] = square_above + upper * yy


@part
def _take_sums(base, lane, middle, sums, own):
    """Add up a bin's sums of a warp's columns about the cell's middle, into own[MOMENTS], and clear them."""
    n = x = y = xx = xy = yy = ZERO
    for k in range(LANES):
        # Each bin's thread begins at another column, so that no two meet in a bank.
        column = int32((k + lane) & (LANES - 1))
        at = uint32(base + column)
        dx = F32(column) - middle
        column_n, column_y = sums[at], sums[at + SUMS]
        column_x = column_n * dx
        n += column_n
        x += column_x
        xx += column_x * dx
        y += column_y
        xy += column_y * dx
        yy += sums[at + 2 * SUMS]
        sums[at] = ZERO
        sums[at + SUMS] = ZERO
        sums[at + 2 * SUMS] = ZERO
    own[0], own[1], own[2], own[3], own[4], own[5] = n, x, y, xx, xy, yy


@part
def _move_to_corner(own, x0, y0, every):
    """Add a cell's moments, which are about (x0, y0), to those about the plane's corner."""
    n, x, y, xx, xy, yy = own[0], own[1], own[2], own[3], own[4], own[5]
    full_x = float64(x) + x0 * float64(n)
    full_y = float64(y) + y0 * float64(n)
    every[0] += float64(n)
    every[1] += full_x
    every[2] += full_y
    every[3] += float64(xx) + x0 * (float64(x) + full_x)
    every[4] += float64(xy) + x0 * float64(y) + y0 * full_x
    every[5] += float64(yy) + y0 * (float64(y) + full_y)


def _gatherer(read: Any, write: Any) -> Any:
    """Make what gathers moments of the pixels that `read` finds (see `pixels`), after `write` has kept them.

    A block sums the moments of the cells of one part of a plane. Grid: planes * `parts` blocks of
    `GATHER_THREADS`. Cells are of at most `CELL_ROWS` rows and `LANES` columns. Written: `moments` (n, parts,
    MOMENTS, bins), sums of share * (1, x, y, x x, x y, y y), in pixels from the plane's corner.
    """

    @part
    def add_column(image, plane, src, n, c, white, x, top, bottom, middle, bins, own, pitch, sums):
        """Share out a column of a cell, `FLIGHT` pixels of it under way at once."""
        scale, most, last_pair = F32(bins), F32(int32(bins - 1)), int32(bins - 2)
        value = cuda.local.array(FLIGHT, float32)
        y = F32(top) - middle
        left = int32(bottom - top)
        row, x = uint64(top), uint64(x)
        while left >= FLIGHT:
            for k in range(FLIGHT):
                value[k] = read(image, plane, src, n, row + uint64(k), x, c, white)
            for k in range(FLIGHT):
                write(value[k], image, plane, row + uint64(k), x)
            for k in range(FLIGHT):
                _add_pixel(value[k], y + F32(k), scale, most, last_pair, own, pitch, sums)
            row += uint64(FLIGHT)
            left = int32(left - FLIGHT)
            y += F32(FLIGHT)
        while left > 0:
            last = read(image, plane, src, n, row, x, c, white)
            write(last, image, plane, row, x)
            _add_pixel(last, y, scale, most, last_pair, own, pitch, sums)
            row += uint64(1)
            left = int32(left - 1)
            y += ONE

    @part
    def gather(image, plane, src, white, channels, bins, rows, columns, parts, moments):
        sums = cuda.shared.array(ALL_SUMS, float32)
        other = cuda.shared.array((MOMENTS, LANES), float64)
        thread = int32(cuda.threadIdx.x)
        warp, lane = int32(thread >> 5), int32(thread & (LANES - 1))
        part_of_plane = int32(cuda.blockIdx.x - plane * parts)
        of_images = quotient(plane, channels)
        n, c = uint64(of_images), uint64(int32(plane - of_images * channels))
        height, width = int32(image.shape[1]), int32(image.shape[2])
        across = quotient(width + columns - 1, columns)
        cells = int32(across * quotient(height + rows - 1, rows))
        share = quotient(cells + parts - 1, parts)
        # Up to `LANES` bins each warp has a cell and its bins; with more of them the second warp has bins only.
        warps = int32(2 if bins <= LANES else 1)
        pitch = int32(LANES * warps)
        own_bin = int32(lane if warps == 2 else thread)
        owner = int32(warp if warps == 2 else 0)
        own = cuda.local.array(MOMENTS, float32)  # of a cell
        every = cuda.local.array(MOMENTS, float64)
        for m in range(MOMENTS):
            every[m] = float64(0.0)
        for k in range(ALL_SUMS // GATHER_THREADS):
            sums[uint32(thread + k * GATHER_THREADS)] = ZERO

        first = int32(part_of_plane * share)
        end = min(int32(first + share), cells)
        while first < end:
            cuda.syncthreads()
            cell = int32(first + warp)
            if warp < warps and cell < end:
                top = int32(quotient(cell, across) * rows)
                left = int32((cell - quotient(cell, across) * across) * columns)
                x = int32(left + lane)
                if lane < columns and x < width:
                    middle = F32(top) + HALF * F32(int32(rows - 1))
                    bottom = min(int32(top + rows), height)
                    add_column(
                        image, uint64(plane), src, n, c, white, x, top, bottom, middle, bins, thread, pitch, sums
                    )  # fmt: skip
            cuda.syncthreads()
            cell = int32(first + owner)
            if own_bin < bins and cell < end:
                _take_sums(own_bin * pitch + owner * LANES, lane, HALF * F32(int32(columns - 1)), sums, own)
                if own[0] > ZERO:
                    row = quotient(cell, across)
                    x0 = F32(int32((cell - row * across) * columns)) + HALF * F32(int32(columns - 1))
                    y0 = F32(int32(row * rows)) + HALF * F32(int32(rows - 1))
                    _move_to_corner(own, float64(x0), float64(y0), every)
            first = int32(first + warps)

        if thread >= LANES and warps == 2:
            for m in range(MOMENTS):
                other[m, lane] = every[m]
        cuda.syncthreads()
        if thread < bins:
            for m in range(MOMENTS):
                total = every[m]
                if warps == 2:
                    total += other[m, lane]
                moments[plane, part_of_plane, m, thread] = total

    return gather


@part
def _keep_nothing(value, image, plane, y, x):
    pass


@part
def _keep(value, image, plane, y, x):
    image[plane, y, x] = value


def _loader(read: Any) -> Any:
    gather = _gatherer(read, _keep)

    @cuda.jit(fastmath=True)
    def load_and_gather(image, src, scale, channels, bins, rows, columns, parts, moments):
        """Fill planes as `pixels.load` does, and gather their moments, of all of them."""
        plane = quotient(cuda.blockIdx.x, parts)
        gather(image, plane, src, scale, channels, bins, rows, columns, parts, moments)

    return load_and_gather


_gather = _gatherer(read_plane, _keep_nothing)


@kernel(PLANES, ACTIVE, *(int32,) * 4, _MOMENTS, fastmath=True)
def gather_moments(image, active, bins, rows, columns, parts, moments):
    """Gather moments of planes, those of zero activity passed over: see `_gatherer`."""
    plane = quotient(cuda.blockIdx.x, parts)
    if active[plane] == ZERO:
        return
    _gather(image, plane, image, ONE, int32(1), bins, rows, columns, parts, moments)


load_and_gather = _loader(read_channel), _loader(read_luma)
for _name in ("uint8", "uint16", "float32"):
    for _what, _one in zip(("channels", "luma"), load_and_gather, strict=True):
        _signature = PLANES, getattr(types, _name)[:, :, :, :], float32, *(int32,) * 5, _MOMENTS
        listed(_one, *_signature, note=f"{_what} {_name}")


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


def cell_sides(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the cells that cover a plane: of even size, as few as may be.

    They depend on the plane's size alone, so that a plane's sums do not depend on its batch.
    """
    return even_side(height, CELL_ROWS), even_side(width, LANES)


def even_side(pixels: int, most: int) -> int:
    """The least side of as few pieces as pieces of `most` pixels would be."""
    return ceil_div(pixels, ceil_div(pixels, most))
