"""The spatiogram filter of planes on the device: its three methods, their memory and launches; the first's values.

"clahe" and "global" are in `equalise`, the statistics of "spatiogram" in `moments`. Its values: P(b|x) is proportional to
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

import functools
import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import cuda, float32, int32

from . import equalise, moments
from .kernels import ACTIVE, F32, HALF, INDEX, ONE, PLANES, TWO, ZERO, ceil_div, exp2, kernel, part
from .moments import (
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

__all__ = ["Spatiogram"]

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


@kernel(PLANES, ACTIVE, int32, PLANES, int32[::1], PLANES, fastmath=True)
def equalise_by_place(image, active, bins, records, used, out):
    """Equalise planes by the records of their bins, those of `finish_bins`; `out` may be `image`.

    Grid: a block per patch of (blockDim.x, blockDim.y * RUN) pixels, all of a plane's in turn; at most
    `MOST_THREADS` threads.
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


@functools.cache
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


Method = Literal["spatiogram", "clahe", "global"]

# Blocks that keep a large GPU busy: 16 for each of the 132 multiprocessors of an H100 or H200.
FULL_GRID = 2112
READ_THREADS = (32, 8)


class _Layout(NamedTuple):
    """What does not depend on the images: the cut of a plane, and the arrays of the workspace."""

    rows: int  # of a cell or a tile
    columns: int
    parts: int  # blocks per plane (spatiogram) or per tile (clahe, global)
    arrays: dict[str, tuple[tuple[int, ...], Any]]  # shape and dtype of each


def _layout(planes: int, height: int, width: int, method: str, bins: int, tiles: int) -> _Layout:
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {"everywhere": ((planes,), np.float32)}
    if method == "spatiogram":
        rows, columns = moments.cell_sides(height, width)
        cells = ceil_div(height, rows) * ceil_div(width, columns)
        share = ceil_div(cells, ceil_div(FULL_GRID, planes))  # cells of a part
        parts = ceil_div(cells, share)
        arrays["moments"] = (planes, parts, moments.MOMENTS, bins), np.float64
        arrays["records"] = (planes, bins, moments.RECORD), np.float32
        arrays["used"] = (planes,), np.int32
        return _Layout(rows, columns, parts, arrays)
    if method == "global":
        tiles = 1
    even = height % tiles == 0 and width % tiles == 0
    rows, columns = (equalise.tile_size(n, tiles, even) for n in (height, width))
    parts = equalise.tile_parts(rows * columns)
    arrays["counts"] = (planes, tiles * tiles, parts, equalise.LEVELS), np.int32
    arrays["tables"] = (planes, tiles * tiles, equalise.LEVELS), np.float32
    return _Layout(rows, columns, parts, arrays)


class Spatiogram:
    """The filter `sdie_fast.filters.spatiogram` for batches of planes of one size.

    Memory is allocated here, once; a call enqueues three kernels and waits for nothing. Calls of one
    object must follow each other on one stream, since they share that memory. Results repeat to the
    bit, and an image's do not depend on the others of its batch.

    Parameters
    ----------
    planes : int
        The most planes of a call.
    height, width : int
        Of every plane, in pixels.
    method : {"spatiogram", "clahe", "global"}
    bins : int
        Intensity bins of "spatiogram", 2 to 64.
    tiles : int
        Tiles a side of "clahe", 1 to 64.

    Notes
    -----
    Errors against the reference are those of float32: at most 2e-5 on the tests' images in Numba's
    simulator, whose exponentials are NumPy's. Where the definition is not continuous they can be
    larger: a bin whose mass is around 1e-6 of a pixel may count as empty here and not there.
    """

    def __init__(self, planes: int, height: int, width: int, *, method: Method, bins: int, tiles: int) -> None:
        self.shape = (planes, height, width)
        self.method = method
        self.bins = bins
        self.tiles = 1 if method == "global" else tiles
        self._layout = _layout(planes, height, width, method, bins, tiles)
        self._memory = {name: cuda.device_array(*array) for name, array in self._layout.arrays.items()}
        self._memory["everywhere"].copy_to_device(np.ones(planes, np.float32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int, *, method: Method, bins: int, tiles: int) -> int:
        """Bytes of device memory that an object of these arguments holds."""
        arrays = _layout(planes, height, width, method, bins, tiles).arrays.values()
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays)

    def __call__(self, image: Any, out: Any, *, clip_limit: float, active: Any = None, stream: Any = 0) -> None:
        """Equalise planes; enqueued on the stream.

        Parameters
        ----------
        image, out : (n, H, W) float32 device arrays, C-contiguous
            Intensities in [0, 1]; n at most the planes of this object. They may be the same array.
        clip_limit : float
            Of "clahe": the most counts of a level, over the mean.
        active : (n,) float32 device array, C-contiguous, optional
            A plane whose entry is 0 is not computed: its part of `out` stays as it was.
        stream : numba stream, optional
            0 is the default stream.
        """
        n = image.shape[0]
        if n == 0:
            return
        weights = self._memory["everywhere"] if active is None else active
        if self.method == "spatiogram":
            self._by_place(n, image, out, weights, stream)
        else:
            self._by_level(n, image, out, clip_limit, weights, stream)

    def _by_place(self, n: int, image: Any, out: Any, active: Any, stream: Any) -> None:
        _, height, width = self.shape
        rows, columns, parts, _ = self._layout
        sums, records, used = (self._memory[k] for k in ("moments", "records", "used"))
        bin_bits = (self.bins - 1).bit_length()
        sizes = np.array([self.bins, bin_bits, rows, columns, parts], np.int32)
        moments.gather_moments[n * parts, moments.GATHER_THREADS, stream](image, active, *sizes[[0, 2, 3, 4]], sums)
        moments.finish_bins[n, moments.THREADS, stream](sums, active, *sizes[[0, 1, 4]], records, used)
        across, down = patch_threads(height, width)
        blocks = n * ceil_div(width, across) * ceil_div(height, down * RUN)
        equalise_by_place[blocks, (across, down), stream](image, active, sizes[0], records, used, out)

    def _by_level(self, n: int, image: Any, out: Any, clip_limit: float, active: Any, stream: Any) -> None:
        _, height, width = self.shape
        rows, columns, parts, _ = self._layout
        counts, tables = self._memory["counts"], self._memory["tables"]
        area = rows * columns
        limit = area if self.method == "global" else equalise.count_limit(clip_limit, rows, columns)
        sizes = np.array([self.tiles, rows, columns, parts, limit], np.int32)
        blocks = n * self.tiles * self.tiles
        threads = min(equalise.COUNT_THREADS, 32 * ceil_div(area, 32))
        equalise.count_levels[blocks * parts, threads, stream](image, active, *sizes[:4], counts)
        equalise.make_tables[blocks, equalise.TABLE_THREADS, stream](
            counts, active, sizes[4], sizes[3], np.float32(area), tables
        )
        across, down = READ_THREADS
        blocks = n * ceil_div(width, across) * ceil_div(height, down)
        equalise.read_tables[blocks, READ_THREADS, stream](image, active, *sizes[:3], tables, out)
