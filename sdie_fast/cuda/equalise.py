"""Histogram equalisation on 256 levels: by tiles with a contrast limit, and of the whole plane.

The definitions are `sdie_fast.filters.spatiogram`'s "clahe" (Zuiderveld 1994 as OpenCV has it for 8-bit images) and
"global", which is the former with one tile and no limit. A pixel between two levels counts for both
and reads both. Counts are whole numbers of 2^-18 of a pixel, so that sums are exact in any order and
results repeat to the bit.
"""

from __future__ import annotations

import math

from numba import cuda, float32, int32, int64

from .kernels import ACTIVE, F32, INDEX, ONE, PLANES, ZERO, kernel, part, quotient
from .moments import saturate

__all__ = ["count_levels", "count_limit", "make_tables", "read_tables", "tile_parts", "tile_size"]

LEVELS = 256
COUNT_THREADS = 256  # of a block that counts, at most
TABLE_THREADS = 32  # of a block that makes a table
OWN_LEVELS = LEVELS // TABLE_THREADS
COPIES = 4  # of the counters, so that neighbours of one level do not all wait for each other
COUNTERS = (LEVELS + 1) * COPIES  # a level past the last one, for shares of 0
COUNT_BITS = 18
ONE_COUNT = 1 << COUNT_BITS
PART_PIXELS = 1 << (31 - COUNT_BITS - 1)  # that a block counts: their sum fits int32
TOP = F32(LEVELS - 1)
_COUNTS = int32[:, :, :, ::1]


@part
def _mirror(i, n):
    """Reflect a coordinate that is not negative into [0, n), as often as it takes."""
    if i >= n:
        period = max(int32(2 * (n - 1)), int32(1))
        i = int32(i - quotient(i, period) * period)
        i = min(i, int32(period - i)) if n > 1 else int32(0)
    return i


@part
def _split_level(v):
    """Split an intensity into the level below it and its share of the one above."""
    v = saturate(v)
    level = min(int32(v * TOP), int32(LEVELS - 1))
    return level, saturate(cuda.fma(v, TOP, -F32(level)))


@kernel(PLANES, ACTIVE, *(int32,) * 4, _COUNTS, fastmath=True)
def count_levels(image, active, tiles, tile_height, tile_width, parts, counts):
    """Count the levels of every tile: `counts` (n, tiles^2, parts, LEVELS), pixels times `ONE_COUNT`.

    Grid: planes * tiles^2 * parts blocks, each of `PART_PIXELS` pixels of a tile, and of a number of threads that
    `COPIES` divides. There are `tiles` a side; they may reach past the plane, which is reflected there.
    """
    counters = cuda.shared.array(COUNTERS, int32)
    thread, threads = int32(cuda.threadIdx.x), int32(cuda.blockDim.x)
    tile_and_plane = quotient(cuda.blockIdx.x, parts)
    part_of_tile = int32(cuda.blockIdx.x - tile_and_plane * parts)
    plane = quotient(tile_and_plane, tiles * tiles)
    tile = int32(tile_and_plane - plane * tiles * tiles)
    if active[plane] == ZERO:
        return
    height, width = int32(image.shape[1]), int32(image.shape[2])
    i = thread
    while i < COUNTERS:
        counters[i] = 0
        i = int32(i + threads)
    cuda.syncthreads()

    tile_row = quotient(tile, tiles)
    top = int32(tile_row * tile_height)
    left = int32((tile - tile_row * tiles) * tile_width)
    at = int32(part_of_tile * PART_PIXELS + thread)
    end = min(int32(part_of_tile * PART_PIXELS + PART_PIXELS), int32(tile_height * tile_width))
    row = quotient(at, tile_width)
    column = int32(at - row * tile_width)
    rows_on = quotient(threads, tile_width)
    columns_on = int32(threads - rows_on * tile_width)
    copy = int32(thread & (COPIES - 1))
    while at < end:
        v = image[plane, _mirror(int32(top + row), height), _mirror(int32(left + column), width)]
        level, share = _split_level(v)
        upper = int32(share * F32(ONE_COUNT) + F32(0.5))
        place = int32(level * COPIES + copy) & INDEX
        if upper < ONE_COUNT:
            cuda.atomic.add(counters, place, int32(ONE_COUNT - upper))
        if upper > 0:
            cuda.atomic.add(counters, place + COPIES, upper)
        at = int32(at + threads)
        row = int32(row + rows_on)
        column = int32(column + columns_on)
        if column >= tile_width:
            column = int32(column - tile_width)
            row = int32(row + 1)
    cuda.syncthreads()
    level = thread
    while level < LEVELS:
        total = int32(0)
        for k in range(COPIES):
            total += counters[(level * COPIES + k) & INDEX]
        counts[plane, tile, part_of_tile, level] = total
        level = int32(level + threads)


@part
def _given_back(whole, level):
    """Counts given back to the levels up to this one, of a whole number: evenly, then one by one."""
    each = whole >> 8
    rest = int32(whole & 255)
    given = each * int64(level + 1)
    if rest > 0:
        step = quotient(LEVELS, rest)
        given += int64(min(int32(quotient(level, step) + 1), rest))
    return float32(given)


@kernel(_COUNTS, ACTIVE, int32, int32, float32, PLANES, fastmath=True)
def make_tables(counts, active, limit, parts, area, tables):
    """Turn a tile's counts into a table of intensities: `tables` (n, tiles^2, LEVELS).

    A level keeps `limit` pixels of the tile's `area` at the most; the others are given back to all levels.
    Grid: planes * tiles^2 blocks of `TABLE_THREADS` threads.
    """
    kept_sums = cuda.shared.array(TABLE_THREADS, int64)
    excess_sums = cuda.shared.array(TABLE_THREADS, int64)
    kept = cuda.local.array(OWN_LEVELS, int64)  # sums over a thread's levels, which are neighbours
    thread = int32(cuda.threadIdx.x)
    tiles = int32(counts.shape[1])
    plane = quotient(cuda.blockIdx.x, tiles)
    tile = int32(cuda.blockIdx.x - plane * tiles)
    if active[plane] == ZERO:
        return
    first = int32(thread * OWN_LEVELS)
    for k in range(OWN_LEVELS):
        kept[k] = 0
    for i in range(parts):
        for k in range(OWN_LEVELS):
            kept[k] += int64(counts[plane, tile, i, first + k])
    most = int64(limit) << COUNT_BITS
    total = over = int64(0)
    for k in range(OWN_LEVELS):
        over += max(kept[k] - most, int64(0))
        total += min(kept[k], most)
        kept[k] = total
    kept_sums[thread] = total
    excess_sums[thread] = over
    cuda.syncthreads()
    below = over = int64(0)
    for i in range(TABLE_THREADS):
        over += excess_sums[i]
        if i < thread:
            below += kept_sums[i]
    # Between whole numbers of excess pixels linear, as the reference.
    share = F32(over & (ONE_COUNT - 1)) * F32(1.0 / ONE_COUNT)
    whole = over >> COUNT_BITS
    for k in range(OWN_LEVELS):
        level = int32(first + k)
        given = (ONE - share) * _given_back(whole, level) + share * _given_back(whole + 1, level)
        sum_of_kept = F32(below + kept[k]) * F32(1.0 / ONE_COUNT)
        tables[plane, tile, level] = (sum_of_kept + given) / area


@part
def _between_tiles(place, size, tiles):
    """Find the tiles on both sides of a pixel, and how far it is from the middle of the first."""
    # In half pixels, from a tile before the first one's middle.
    t = int32(2 * place + size)
    low = quotient(t, int32(2 * size))
    share = F32(int32(t - low * 2 * size)) / F32(int32(2 * size))
    return max(int32(low - 1), int32(0)), min(low, int32(tiles - 1)), share


@part
def _read(table, level, above, share):
    """Look a pixel up in one tile's table."""
    value = table[level]
    return value + share * (table[above] - value)


@kernel(PLANES, ACTIVE, *(int32,) * 3, PLANES, PLANES, fastmath=True)
def read_tables(image, active, tiles, tile_height, tile_width, tables, out):
    """Look every pixel up in the tables of the tiles around it; `out` may be `image`.

    Grid: a block per (blockDim.y, blockDim.x) pixels, all of a plane's in turn.
    """
    height, width = int32(image.shape[1]), int32(image.shape[2])
    across = quotient(width + cuda.blockDim.x - 1, cuda.blockDim.x)
    patches = int32(across * quotient(height + cuda.blockDim.y - 1, cuda.blockDim.y))
    plane = quotient(cuda.blockIdx.x, patches)
    patch = int32(cuda.blockIdx.x - plane * patches)
    patch_row = quotient(patch, across)
    y = int32(patch_row * cuda.blockDim.y + cuda.threadIdx.y)
    x = int32((patch - patch_row * across) * cuda.blockDim.x + cuda.threadIdx.x)
    if active[plane] == ZERO or y >= height or x >= width:
        return
    level, share = _split_level(image[plane, y, x])
    above = min(int32(level + 1), int32(LEVELS - 1))
    if tiles == 1:
        out[plane, y, x] = _read(tables[plane, 0], level, above, share)
        return
    upper, lower, down = _between_tiles(y, tile_height, tiles)
    left, right, across_share = _between_tiles(x, tile_width, tiles)
    value_left = _read(tables[plane, upper * tiles + left], level, above, share)
    value_right = _read(tables[plane, upper * tiles + right], level, above, share)
    top = value_left + across_share * (value_right - value_left)
    value_left = _read(tables[plane, lower * tiles + left], level, above, share)
    value_right = _read(tables[plane, lower * tiles + right], level, above, share)
    bottom = value_left + across_share * (value_right - value_left)
    out[plane, y, x] = top + down * (bottom - top)


def tile_size(pixels: int, tiles: int, even: bool) -> int:
    """Side of the tiles; OpenCV pads both sides of a plane that they do not divide evenly."""
    return pixels // tiles if even else pixels // tiles + 1


def count_limit(clip_limit: float, height: int, width: int) -> int:
    """The most pixels that a level of a tile keeps, as OpenCV has it."""
    return min(max(1, int(clip_limit * height * width / LEVELS)), height * width)


def tile_parts(area: int) -> int:
    """Blocks that count one tile."""
    return math.ceil(area / PART_PIXELS)
