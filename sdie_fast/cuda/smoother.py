"""Multigrid: the smoother, which solves lines inside tiles that lie in shared memory.

Line relaxation is what copes with couplings that differ by 1e5 from one edge to the next, but lines
through a whole image leave most of a GPU idle. Here the image is cut into tiles of `SIDE` x `SIDE`;
in each, with nothing outside it changing, even rows, odd rows, even columns and odd columns are
solved in turn (zebra line relaxation), and on level 0 a second pass works on tiles that lie half a
tile aside, so that no border of the first is one of the second. A pass reads and writes each array
once, whatever it does inside; measured on photographs, two such passes before and two after the
coarse correction smooth better than whole lines do.

The order of a pass can be reversed, which is the transposed operator: a cycle that ends with the
reverse of what it began with is symmetric, as conjugate gradients need it.

Couplings are read as pairs of bfloat16: a preconditioner may be that of a matrix which is a little
another one, as long as that is symmetric and positive definite, too.
"""

from __future__ import annotations

from numba import cuda

from .kernels import F32, ONE, ZERO, part, section
from .team import DIAGONALS, GROUND, HEIGHT, PAIR, PIXELS, RESIDUAL, SECOND, SIDE, THREADS, TO, WIDTH, sum_block
from .transfer import interpolated
from .words import below, get, i32, one_of, other_of, plane, put, u32

__all__ = ["smooth"]

LINES = SIDE // 2  # of a tile that are solved at once; the code below has shifts and masks for a `SIDE` of 16
PITCH = SIDE + 2  # with one pixel around
ORIGIN = PITCH + 1  # of the tile's first pixel

# Where a tile's arrays begin, for one index that serves all. An array has as much of a margin as is
# read of it.
_MARGIN = PITCH * PITCH
_Z = 0
_R = _Z + _MARGIN - ORIGIN
_E = _R + ORIGIN + PITCH * SIDE - PITCH
_S = _E + PITCH + PITCH * SIDE
_C = _S + PITCH * (SIDE + 1)  # of a step along a line: what is multiplied by the next value
_D = _C + SIDE * LINES  # and what is added
_FIVE = _D + SIDE * LINES
_SE = _FIVE
_SW = _SE + PITCH * (SIDE + 1)
_G = _SW + PITCH * (SIDE + 1) - ORIGIN
_NINE = _G + ORIGIN + PITCH * SIDE

# Tiles begin 1 modulo 4 words apart, so that the eight rows or columns of four tiles that a warp
# solves at once lie in different banks, or nearly.
FIVE_SIZE = (_FIVE + 2) // 4 * 4 + 1
NINE_SIZE = (_NINE + 2) // 4 * 4 + 1
FIVE_TILES = 8  # of a block at once
ORIGINS = 2 * FIVE_TILES  # their first pixels: row, column
NINE_TILES = 4
TILES_FLOATS = max(FIVE_SIZE * FIVE_TILES, NINE_SIZE * NINE_TILES)

# Threads take a tile's pixels column by column, so many of a row at once.
LANES, ROWS = min(SIDE, THREADS), max(THREADS // SIDE, 1)

LEAST = F32(1e-20)  # ground that keeps a division harmless


@part
def _solve_line(tile, start, scratch, along, across, forth, aside, nine):
    """Solve for z along a line, with nothing else changing.

    start: index of its first pixel; forth and aside: steps along and across it; along, across: the
    places of the couplings in these directions.

    Elimination keeps what ties a node to ground apart from what ties it to the next one (a resistor
    network): all are sums of positive numbers, nothing cancels. A negative coupling, which coarse
    levels may have, counts as none along the line. What a line is coupled to at its ends is as fixed
    as ground: before the first node by what elimination starts with, after the last because
    substitution starts with 0.
    """
    at = start
    before = get(tile, at + (along - forth))
    z_before, z = get(tile, at + (_Z - forth)), get(tile, at + _Z)
    edge, reduced, value = max(before, ZERO), ONE, ZERO  # of the node before
    for _ in range(SIDE):
        after, z_after = get(tile, at + along), get(tile, at + (_Z + forth))
        up, down = get(tile, at + (across - aside)), get(tile, at + across)
        ground = up + down
        f = (
            get(tile, at + _R)
            + up * (get(tile, at + (_Z - aside)) - z)
            + down * (get(tile, at + (_Z + aside)) - z)
            + before * (z_before - z)
            + after * (z_after - z)
        )
        forward = after
        if nine:
            a, b = get(tile, at + _SE), get(tile, at + (_SE - PITCH - 1))
            c, d = get(tile, at + _SW), get(tile, at + (_SW - PITCH + 1))
            own = get(tile, at + _G)
            ground = max(ground + ((a + b) + (c + d)) + own, LEAST)
            f += (
                a * (get(tile, at + (_Z + PITCH + 1)) - z)
                + b * (get(tile, at + (_Z - PITCH - 1)) - z)
                + c * (get(tile, at + (_Z + PITCH - 1)) - z)
                + d * (get(tile, at + (_Z - PITCH + 1)) - z)
                - own * z
            )
            forward = max(after, ZERO)
        else:
            ground += ONE
            f -= z
        q = edge * reduced + ground
        inverse = ONE / (q + forward)
        value = (edge * value + f) * inverse
        put(tile, scratch + _C, forward * inverse)
        put(tile, scratch + _D, value)
        edge, reduced = forward, q * inverse
        before = after
        z_before, z = z, z_after
        at += forth
        scratch += LINES
    value = ZERO
    for _ in range(SIDE):
        at -= forth
        scratch -= LINES
        value = get(tile, scratch + _D) + get(tile, scratch + _C) * value
        put(tile, at + _Z, get(tile, at + _Z) + value)


@part
def _relax(tile, tiles, pitch, columns, odd, nine):
    """Solve every other row, or column, of all tiles. A thread solves a line."""
    i = u32(cuda.threadIdx.x)
    end = u32(tiles * LINES)
    while i < end:
        base, lane = (i >> 3) * pitch, i & 7
        if columns:
            _solve_line(tile, base + ORIGIN + 2 * lane + odd, base + lane, i32(_S), i32(_E), i32(PITCH), i32(1), nine)
        else:
            _solve_line(
                tile, base + ORIGIN + (2 * lane + odd) * PITCH, base + lane, i32(_E), i32(_S), i32(1), i32(PITCH), nine
            )
        i = u32(i + cuda.blockDim.x)
    cuda.syncthreads()


@part
def _correct(work, levels, k, level, tile, origins, tiles, pitch, nine):
    """Add to z what the solution of level k + 1 is on this level, in tiles and around them."""
    height, width = level[0], level[1]
    columns, n = i32(levels[k + 1, WIDTH]), i32(levels[k + 1, PIXELS])
    shares, coarse = plane(work, levels[k, TO]), plane(work, levels[k + 1, SECOND])
    i, end = u32(cuda.threadIdx.x), u32(tiles * _MARGIN)
    while i < end:
        t = i32(i // _MARGIN)
        place = i32(i - t * _MARGIN)
        row = i32(u32(place) // PITCH)
        column = i32(place - row * PITCH)
        y, x = i32(get(origins, 2 * t) + row - 1), i32(get(origins, 2 * t + 1) + column - 1)
        corner = (row == 0 or row == SIDE + 1) and (column == 0 or column == SIDE + 1)
        if below(y, height) and below(x, width) and (nine or not corner):
            at = t * pitch + place + _Z
            put(tile, at, get(tile, at) + interpolated(shares, coarse, y, x, columns, n))
        i = u32(i + cuda.blockDim.x)
    cuda.syncthreads()


@part
def _load_margin(planes, source, tile, to, origins, tiles, pitch, level, row, column, down, which):
    """Load 16 pixels at the margin of each tile, from (row, column) on, downwards or to the right; 0 outside the image.

    which: 0: z, 1 or 2: one of each pair in the source, 3: zeros.
    """
    height, width = level[0], level[1]
    i = u32(cuda.threadIdx.x)
    end = u32(tiles * SIDE)
    while i < end:
        t, lane = i >> 4, i & 15
        y, x = row, column
        if down:
            y = row + lane
        else:
            x = column + lane
        at = u32(t * pitch + ORIGIN + y * PITCH + x)
        y, x = i32(get(origins, 2 * t) + y), i32(get(origins, 2 * t + 1) + x)
        value = ZERO
        if which < 3 and below(y, height) and below(x, width):
            pixel = u32(y * width + x)
            if which == 0:
                value = get(planes[0], pixel)
            elif which == 1:
                value = one_of(get(source, pixel))
            else:
                value = other_of(get(source, pixel))
        put(tile, at + to, value)
        i = u32(i + cuda.blockDim.x)


@part
def _load(planes, level, tile, origins, tiles, pitch, fresh, step, nine):
    """Load tiles and what is read around them; fresh: z is 0, and the residual loses step * image first."""
    residual, edges, diagonals, ground, image = planes[1], planes[2], planes[3], planes[4], planes[6]
    height, width = level[0], level[1]
    for t in range(tiles):
        top, column = get(origins, 2 * t), i32(cuda.threadIdx.x & (LANES - 1))
        while column < SIDE:
            x = i32(get(origins, 2 * t + 1) + column)
            row = i32(cuda.threadIdx.x // LANES)
            at = t * pitch + ORIGIN + row * PITCH + column
            while row < SIDE:
                y = i32(top + row)
                z, r, g, pair, other = ZERO, ZERO, ZERO, ZERO, ZERO
                if below(y, height) and below(x, width):
                    pixel = u32(y * width + x)
                    r, pair = get(residual, pixel), get(edges, pixel)
                    if not fresh:
                        z = get(planes[0], pixel)
                    elif not nine and step != ZERO:
                        r -= step * get(image, pixel)
                        put(residual, pixel, r)
                    if nine:
                        g, other = get(ground, pixel), get(diagonals, pixel)
                put(tile, at + _Z, z)
                put(tile, at + _R, r)
                put(tile, at + _E, one_of(pair))
                put(tile, at + _S, other_of(pair))
                if nine:
                    put(tile, at + _G, g)
                    put(tile, at + _SE, one_of(other))
                    put(tile, at + _SW, other_of(other))
                row = i32(row + ROWS)
                at += ROWS * PITCH
            column = i32(column + LANES)
    # Constants as numbers of 32 bits: for each set of Python's the compiler would make another function.
    none, one, far, which = i32(0), i32(1), i32(SIDE), i32(3 if fresh else 0)
    _load_margin(planes, edges, tile, i32(_Z), origins, tiles, pitch, level, i32(-1), none, none, which)
    _load_margin(planes, edges, tile, i32(_Z), origins, tiles, pitch, level, far, none, none, which)
    _load_margin(planes, edges, tile, i32(_Z), origins, tiles, pitch, level, none, i32(-1), one, which)
    _load_margin(planes, edges, tile, i32(_Z), origins, tiles, pitch, level, none, far, one, which)
    _load_margin(planes, edges, tile, i32(_E), origins, tiles, pitch, level, none, i32(-1), one, one)
    _load_margin(planes, edges, tile, i32(_S), origins, tiles, pitch, level, i32(-1), none, none, i32(2))
    if nine:
        _load_margin(planes, diagonals, tile, i32(_SE), origins, tiles, pitch, level, i32(-1), i32(-1), none, one)
        _load_margin(planes, diagonals, tile, i32(_SE), origins, tiles, pitch, level, none, i32(-1), one, one)
        _load_margin(planes, diagonals, tile, i32(_SW), origins, tiles, pitch, level, i32(-1), one, none, i32(2))
        _load_margin(planes, diagonals, tile, i32(_SW), origins, tiles, pitch, level, none, far, one, i32(2))
        _load_corners(planes, tile, origins, tiles, pitch, level, fresh)


@part
def _load_corners(planes, tile, origins, tiles, pitch, level, fresh):
    """Load z at the corners around tiles, which diagonal couplings ask for."""
    height, width = level[0], level[1]
    i = u32(cuda.threadIdx.x)
    end = u32(tiles * 4)
    while i < end:
        t, row, column = i >> 2, (i & 1) * (SIDE + 1) - 1, ((i >> 1) & 1) * (SIDE + 1) - 1
        at = u32(t * pitch + ORIGIN + row * PITCH + column)
        y, x = i32(get(origins, 2 * t) + row), i32(get(origins, 2 * t + 1) + column)
        value = ZERO
        if not fresh and below(y, height) and below(x, width):
            value = get(planes[0], u32(y * width + x))
        put(tile, at + _Z, value)
        i = u32(i + cuda.blockDim.x)


@part
def _smooth_tiles(
    work, levels, k, planes, level, fresh, corrected, step, backwards, tile, origins, tiles, pitch, nine
):
    """Smooth tiles; returns this thread's part of the product of z and the residual."""
    _load(planes, level, tile, origins, tiles, pitch, fresh, step, nine)
    cuda.syncthreads()
    if corrected:
        _correct(work, levels, k, level, tile, origins, tiles, pitch, nine)
    for turn in range(4):
        which = 3 - turn if backwards else turn
        _relax(tile, tiles, pitch, which >= 2, which & 1, nine)
    height, width, z_out = level[0], level[1], planes[5]
    product = ZERO
    for t in range(tiles):
        top, column = get(origins, 2 * t), i32(cuda.threadIdx.x & (LANES - 1))
        while column < SIDE:
            x = i32(get(origins, 2 * t + 1) + column)
            row = i32(cuda.threadIdx.x // LANES)
            at = t * pitch + ORIGIN + row * PITCH + column
            while row < SIDE:
                y = i32(top + row)
                if below(y, height) and below(x, width):
                    value = get(tile, at + _Z)
                    put(z_out, u32(y * width + x), value)
                    product += value * get(tile, at + _R)
                row = i32(row + ROWS)
                at += ROWS * PITCH
            column = i32(column + LANES)
    cuda.syncthreads()
    return product


@section
def smooth(work, levels, k, z_in, z_out, fresh, corrected, step, image, offset, backwards, sums, crew, tile, origins):
    """Smooth level k once: from the plane in column `z_in` (fresh: zeros) to that in `z_out`, another one.

    Tiles begin `offset` pixels outside the image. corrected: the solution of level k + 1 is added to z first. step: on
    level 0, if fresh, what the residual loses of the plane at `image` first; 0: nothing. sums: place of a list that gets
    the products of z and the residual, a sum for each group of tiles; below 0: not wanted. tile, origins: shared memory,
    `TILES_FLOATS` float32 and `ORIGINS` int32. A barrier must follow. Returns the number of groups.
    """
    _, _, rank, size = crew
    level = i32(levels[k, HEIGHT]), i32(levels[k, WIDTH])
    planes = (
        plane(work, levels[k, z_in]), plane(work, levels[k, RESIDUAL]), plane(work, levels[k, PAIR]),
        plane(work, levels[k, DIAGONALS]), plane(work, levels[k, GROUND]), plane(work, levels[k, z_out]),
        plane(work, image),
    )  # fmt: skip
    across = u32((level[1] + offset + SIDE - 1) >> 4)
    count = i32(i32(across) * ((level[0] + offset + SIDE - 1) >> 4))
    most = FIVE_TILES if k == 0 else NINE_TILES
    groups = (count + most - 1) // most
    group = i32(rank)
    while group < groups:
        first = i32(group * most)
        tiles = i32(min(most, count - first))
        i = i32(cuda.threadIdx.x)
        while i < tiles:
            y = i32(u32(first + i) // across)
            put(origins, 2 * i, y * SIDE - offset)
            put(origins, 2 * i + 1, (first + i - y * i32(across)) * SIDE - offset)
            i = i32(i + cuda.blockDim.x)
        cuda.syncthreads()
        if k == 0:
            product = _smooth_tiles(
                work, levels, k, planes, level, fresh, corrected, step, backwards, tile, origins, tiles,
                i32(FIVE_SIZE), False,
            )  # fmt: skip
            if sums >= 0:
                product = sum_block(product, tile)
                if cuda.threadIdx.x == 0:
                    put(work, sums + group, product)
        else:
            _smooth_tiles(
                work, levels, k, planes, level, fresh, corrected, ZERO, backwards, tile, origins, tiles,
                i32(NINE_SIZE), True,
            )  # fmt: skip
        group = i32(group + size)
    return groups
