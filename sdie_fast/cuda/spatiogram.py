"""The spatiogram filter of planes on the device: its three methods, their memory and launches; the first's values.

"clahe" and "global" are in `equalise`, the statistics of "spatiogram" in `moments`. Its values: P(b|x) is proportional to
n_b N(x; m_b, S_b), and the output is its cumulative sum up to the pixel's level. The base-2 logarithm
of such a weight is a quadratic polynomial of the place.

The fused kernel (`local`) evaluates it, each block of threads on one patch of the plane. Its first threads turn every
bin's record into that
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
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import cuda, float32, int32, uint32, uint64

from . import equalise, moments
from .kernels import F32, ONE, TWO, ZERO, ceil_div, exp2, part
from .moments import (
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
    saturate,
)
from .parts import RUN, Tile

__all__ = ["ENTRIES", "NO_FLOOR", "Spatiogram", "by_place"]

ENTRY = 8  # floats of a bin's polynomial: 1, x, y, -xx, xy, -yy, factor of the ratios, bin
ENTRIES = MAX_BINS * ENTRY
ENTRY_STARTS = ENTRIES - ENTRY  # mask

FAINT = F32(22.0)  # a bin is passed over at 2^-22 of the sum: 63 of them are 2e-5 at the most
LOWEST_FLOOR = F32(-20.0)  # a floor below it is not used
STEEPEST = F32(60.0)  # a ratio above 2^60 only follows a weight that stays 0
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


def by_place(at: Tile) -> tuple[Any, Any]:
    """Make the functions of a block that has the pixels `at`: `centre_bins`, and after a barrier `add_equalised`."""
    columns, rows, pitch, halo, threads = at.columns, at.rows, at.pitch, at.halo, at.threads
    half_width, half_height = F32(0.5 * (columns - 1)), F32(0.5 * (rows - 1))

    @part
    def centre_bins(records, used, plane, left, top, thread, entries, highest, floor):
        """Turn the records of a plane's bins into `entries` and `highest`; floor[0], `NO_FLOOR` before, rises."""
        x, y = F32(left) + half_width, F32(top) + half_height
        i = thread
        while i < used[plane]:
            record = records[plane, uint64(i)]
            entry = entries[i * ENTRY : (i + 1) * ENTRY]
            low, high = _centre_bin(record, x, y, half_width, half_height, entry)
            highest[uint32(i)] = high
            cuda.atomic.max(floor, 0, int32(math.floor(max(low, F32(NO_FLOOR)))))
            i = int32(i + threads)

    @part
    def equalise_far(tile, centre, bins, count, entries, highest, limit, place_x, place_y, weight, mixed):
        """Equalise a thread's pixels where exponents may lie far below zero: two passes over the bins."""
        top = cuda.local.array(RUN, float32)
        total = cuda.local.array(RUN, float32)
        below = cuda.local.array(RUN, float32)
        for k in range(RUN):
            top[k] = F32(NO_FLOOR)
            total[k] = ZERO
            below[k] = ZERO
        for i in range(count):
            if highest[i] >= limit:
                for k in range(RUN):
                    top[k] = max(top[k], _exponent(entries, i * ENTRY, place_x, place_y + F32(k)))
        for i in range(count):
            if highest[i] >= limit:
                for k in range(RUN):
                    share = exp2(_exponent(entries, i * ENTRY, place_x, place_y + F32(k)) - top[k])
                    total[k] += share
                    below[k] += share * saturate(tile[centre + k * pitch] * bins - entries[i * ENTRY + 7])
        for k in range(RUN):
            mixed[k] += weight * (below[k] / total[k])

    @part
    def add_equalised(tile, column, row, bins, count, entries, highest, floor, weight, mixed):
        """Add weight * the equalised value to a thread's run of pixels, mixed[RUN]."""
        centre = uint32((row + halo) * pitch + column + halo)
        place_x = F32(column) - half_width
        place_y = F32(row) - half_height
        base = F32(floor[0])
        limit = base - FAINT
        if base < LOWEST_FLOOR:
            base = _column_floor(count, entries, highest, limit, place_x, place_y)
            if base < LOWEST_FLOOR:
                equalise_far(tile, centre, bins, count, entries, highest, limit, place_x, place_y, weight, mixed)
                return

        level = cuda.local.array(RUN, float32)
        below = cuda.local.array(RUN, float32)
        total = cuda.local.array(RUN, float32)
        for k in range(RUN):
            level[k] = tile[centre + k * pitch] * bins
            below[k] = ZERO
            total[k] = ZERO
        between = place_y + place_y + ONE  # twice the place half-way to the next pixel
        i = uint32(0)
        while i < count:
            if highest[i] >= limit:
                at = uint32(i * ENTRY) & ENTRY_STARTS
                constant, along_x, along_y = entries[at], entries[at + 1], entries[at + 2]
                xx, xy, yy = entries[at + 3], entries[at + 4], entries[at + 5]
                factor, own_bin = entries[at + 6], entries[at + 7]
                exponent = constant - base + place_x * (along_x - xx * place_x + xy * place_y)
                exponent += place_y * (along_y - yy * place_y)
                share = exp2(exponent)
                ratio = exp2(min(along_y + xy * place_x - yy * between, STEEPEST))
                for k in range(RUN):
                    total[k] += share
                    below[k] += share * saturate(level[k] - own_bin)
                    share *= ratio
                    ratio *= factor
            i = uint32(i + 1)
        for k in range(RUN):
            mixed[k] += weight * (below[k] / total[k])

    return centre_bins, add_equalised


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
        # Cells of a part: one for each of a block's warps, at least.
        share = max(moments.WARPS, ceil_div(cells, ceil_div(FULL_GRID, planes)))
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

    Of "spatiogram" a call leaves the planes' `records` and `used` for the fused kernel; the other methods write planes.
    Memory is allocated here, once; a call enqueues two or three kernels and waits for nothing. Calls of one
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

    def __call__(
        self, image: Any, out: Any, *, clip_limit: float, active: Any = None, stream: Any = 0, source: Any = None
    ) -> None:
        """Equalise planes, or gather their statistics; enqueued on the stream.

        Parameters
        ----------
        image, out : (n, H, W) float32 device arrays, C-contiguous
            Intensities in [0, 1]; n at most the planes of this object. They may be the same array. "spatiogram" has
            no use for `out`.
        clip_limit : float
            Of "clahe": the most counts of a level, over the mean.
        active : (n,) float32 device array, C-contiguous, optional
            A plane whose entry is 0 is not computed: its part of `out` stays as it was.
        stream : numba stream, optional
            0 is the default stream.
        source : (images, luma, white), optional
            Of "spatiogram": load the planes from these images first, as `pixels.load` does.
        """
        n = image.shape[0]
        if n == 0:
            return
        weights = self._memory["everywhere"] if active is None else active
        if self.method == "spatiogram":
            self._gather(n, image, weights, source, stream)
        else:
            self._by_level(n, image, out, clip_limit, weights, stream)

    @property
    def records(self) -> Any:
        """Records of every plane's bins, (planes, bins, RECORD) float32, as `moments.finish_bins` writes them."""
        return self._memory["records"]

    @property
    def used(self) -> Any:
        """How many bins of every plane have a record, (planes,) int32."""
        return self._memory["used"]

    def _gather(self, n: int, image: Any, active: Any, source: Any, stream: Any) -> None:
        rows, columns, parts, _ = self._layout
        sums = self._memory["moments"]
        bin_bits = (self.bins - 1).bit_length()
        sizes = np.array([self.bins, bin_bits, rows, columns, parts], np.int32)
        threads, cut = moments.GATHER_THREADS, sizes[[0, 2, 3, 4]]
        if source is None:
            moments.gather_moments[n * parts, threads, stream](image, active, *cut, sums)
        else:
            images, luma, white = source
            channels = np.int32(n // images.shape[0])
            moments.load_and_gather[luma][n * parts, threads, stream](
                image, images, F32(1.0 / white), channels, *cut, sums
            )
        moments.finish_bins[n, moments.THREADS, stream](sums, active, *sizes[[0, 1, 4]], self.records, self.used)

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
