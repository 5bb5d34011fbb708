"""Multigrid: the smoother, which solves lines inside tiles that lie in shared memory.

Line relaxation is what copes with couplings that differ by 1e5 from one edge to the next, but lines
through a whole image leave most of a GPU idle. Here the image is cut into tiles of `SIDE` x `SIDE`;
in each, with nothing outside it changing, even rows, odd rows, even columns and odd columns are
solved in turn (zebra line relaxation), and a second pass works on tiles that lie half a tile aside,
so that no border of the first is one of the second. A pass reads and writes each array once,
whatever it does inside; measured on photographs, two such passes before and two after the coarse
correction smooth better than whole lines do.

The order of a pass can be reversed, which is the transposed operator: a cycle that ends with the
reverse of what it began with is symmetric, as conjugate gradients need it.
"""

from __future__ import annotations

from numba import cuda

from .kernels import F32, INDEX, ONE, PIXEL, ZERO, part, section
from .team import EAST, GROUND, HEIGHT, RESIDUAL, SOUTH, SOUTH_EAST, SOUTH_WEST, WIDTH

__all__ = ["smooth"]

SIDE = 16  # the code below has shifts and masks for it
LINES = SIDE // 2  # of a tile that are solved at once
PITCH = SIDE + 2  # with one pixel around
ORIGIN = PITCH + 1  # of the tile's first pixel

# Where a tile's arrays begin. Those without a margin begin `ORIGIN` early, so that one index serves
# all.
_MARGIN = PITCH * PITCH
_INNER = PITCH * SIDE
_Z = 0
_E = _MARGIN
_S = 2 * _MARGIN
_R = 3 * _MARGIN - ORIGIN
_C = 3 * _MARGIN + _INNER  # of a step along a line: what is multiplied by the next value
_D = _C + SIDE * LINES  # and what is added
_FIVE = _D + SIDE * LINES
_SE = _FIVE
_SW = _FIVE + _MARGIN
_G = _FIVE + 2 * _MARGIN - ORIGIN
_NINE = _FIVE + 2 * _MARGIN + _INNER

# Tiles begin 1 modulo 4 words apart, so that the eight rows or columns of four tiles that a warp
# solves at once lie in different banks, or nearly.
FIVE_SIZE = _FIVE // 4 * 4 + 1
NINE_SIZE = _NINE // 4 * 4 + 1
FIVE_TILES = 8  # of a block at once
ORIGINS = 2 * FIVE_TILES  # their first pixels: row, column
NINE_TILES = 4
TILES_FLOATS = max(FIVE_SIZE * FIVE_TILES, NINE_SIZE * NINE_TILES)  # 47.5 KB

LEAST = F32(1e-20)  # ground that keeps a division harmless


@part
def _flux(tile, couplings, at, step):
    """What flows from a pixel of z to those `step` before and after it."""
    c = tile[at + _Z]
    after = tile[at + couplings] * (c - tile[at + _Z + step])
    return after + tile[at + couplings - step] * (c - tile[at + _Z - step])


@part
def _image(tile, at, nine):
    """A z at a pixel of a tile, as fluxes: differences first, so that nothing large cancels."""
    value = _flux(tile, _E, at, 1) + _flux(tile, _S, at, PITCH)
    if nine:
        value += _flux(tile, _SE, at, PITCH + 1) + _flux(tile, _SW, at, PITCH - 1)
        return value + tile[at + _G] * tile[at + _Z]
    return value + tile[at + _Z]


@part
def _solve_line(tile, start, scratch, along, across, forth, aside, nine):
    """Add to z along a line what makes the residual there zero, with nothing else changing.

    start: index of its first pixel; forth and aside: steps along and across it; along, across: the
    places of the couplings in these directions.

    Elimination keeps what ties a node to ground apart from what ties it to the next one (a resistor
    network): all are sums of positive numbers, nothing cancels. A negative coupling, which coarse
    levels may have, counts as none along the line.
    """
    edge, reduced, value = ZERO, ZERO, ZERO  # of the node before
    at = start & INDEX
    before = tile[at + along - forth]
    z_before, z = tile[at + _Z - forth], tile[at + _Z]
    for k in range(SIDE):
        after = tile[at + along]
        z_after = tile[at + _Z + forth]
        up, down = tile[at + across - aside], tile[at + across]
        ground = up + down
        f = (
            tile[at + _R]
            + up * (tile[at + _Z - aside] - z)
            + down * (tile[at + _Z + aside] - z)
            + before * (z_before - z)
            + after * (z_after - z)
        )
        if nine:
            a, b = tile[at + _SE], tile[at + _SE - PITCH - 1]
            c, d = tile[at + _SW], tile[at + _SW - PITCH + 1]
            own = tile[at + _G]
            ground += (a + b) + (c + d) + own
            f += (
                a * (tile[at + _Z + PITCH + 1] - z)
                + b * (tile[at + _Z - PITCH - 1] - z)
                + c * (tile[at + _Z + PITCH - 1] - z)
                + d * (tile[at + _Z - PITCH + 1] - z)
                - own * z
            )
        else:
            ground += ONE
            f -= z
        # The line ends with the tile: what it is coupled to there is as fixed as ground.
        forward = max(after, ZERO)
        if k == 0:
            ground += max(before, ZERO)
        if k == SIDE - 1:
            ground += forward
            forward = ZERO
        q = edge * reduced + max(ground, LEAST)
        inverse = ONE / (q + forward)
        value = (edge * value + f) * inverse
        tile[(scratch + _C + k * LINES) & INDEX] = forward * inverse
        tile[(scratch + _D + k * LINES) & INDEX] = value
        edge, reduced = forward, q * inverse
        before = after
        z_before, z = z, z_after
        at = (at + forth) & INDEX
    value = ZERO
    for i in range(SIDE):
        k = SIDE - 1 - i
        at = (at - forth) & INDEX
        value = tile[(scratch + _D + k * LINES) & INDEX] + tile[(scratch + _C + k * LINES) & INDEX] * value
        tile[at + _Z] += value


@part
def _relax(tile, tiles, pitch, columns, odd, nine):
    """Solve every other row, or column, of all tiles. A thread solves a line."""
    # One piece of code for both directions: it is long.
    along, across, forth, aside = _E, _S, 1, PITCH
    if columns:
        along, across, forth, aside = _S, _E, PITCH, 1
    for i in range(cuda.threadIdx.x, tiles * LINES, cuda.blockDim.x):
        base = (i >> 3) * pitch
        lane = i & (LINES - 1)
        start = base + ORIGIN + (2 * lane + odd) * aside
        _solve_line(tile, start, base + lane, along, across, forth, aside, nine)
    cuda.syncthreads()


@part
def _load_pixel(work, level, z_in, tile, at, y, x, nine, couplings, inner):
    """Load what a tile needs of a pixel, at its index there; zeros where the image ends."""
    height, width, east, south, south_east, south_west, ground, residual = level
    e, s, se, sw, z, r, g = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ONE
    if 0 <= y < height and 0 <= x < width:
        pixel = y * width + x
        if couplings:
            e = work[(east + pixel) & PIXEL]
            s = work[(south + pixel) & PIXEL]
            if nine:
                se = work[(south_east + pixel) & PIXEL]
                sw = work[(south_west + pixel) & PIXEL]
        if inner:
            r = work[(residual + pixel) & PIXEL]
            if nine:
                g = work[(ground + pixel) & PIXEL]
        if z_in >= 0:
            z = work[(z_in + pixel) & PIXEL]
    at = at & INDEX
    tile[at + _Z] = z
    tile[at + _E] = e
    tile[at + _S] = s
    if nine:
        tile[at + _SE] = se
        tile[at + _SW] = sw
    if inner:
        tile[at + _R] = r
        if nine:
            tile[at + _G] = g


@part
def _load(work, level, z_in, tile, origins, tiles, pitch, nine):
    """Load tiles and one pixel around them."""
    for i in range(cuda.threadIdx.x, tiles * SIDE * SIDE, cuda.blockDim.x):
        t, row, column = i >> 8, (i >> 4) & 15, i & 15
        at = t * pitch + ORIGIN + row * PITCH + column
        y, x = origins[2 * t] + row, origins[2 * t + 1] + column
        _load_pixel(work, level, z_in, tile, at, y, x, nine, True, True)
    # Around: above, below, left, right, the four corners.
    for i in range(cuda.threadIdx.x, tiles * 128, cuda.blockDim.x):
        t, side, lane = i >> 7, (i >> 4) & 7, i & 15
        row, column = lane, lane
        if side == 0:
            row = -1
        elif side == 1:
            row = SIDE
        elif side == 2:
            column = -1
        elif side == 3:
            column = SIDE
        else:
            row = SIDE if lane & 1 else -1
            column = SIDE if lane & 2 else -1
        if side < 4 or (side == 4 and lane < 4):
            at = t * pitch + ORIGIN + row * PITCH + column
            y, x = origins[2 * t] + row, origins[2 * t + 1] + column
            _load_pixel(work, level, z_in, tile, at, y, x, nine, row < SIDE, False)


@part
def _smooth_tiles(work, level, z_in, z_out, backwards, tile, origins, tiles, pitch, nine):
    _load(work, level, z_in, tile, origins, tiles, pitch, nine)
    cuda.syncthreads()
    if z_in >= 0:
        # The residual of what is there, and from now on z is what the pass adds.
        for i in range(cuda.threadIdx.x, tiles * SIDE * SIDE, cuda.blockDim.x):
            at = ((i >> 8) * pitch + ORIGIN + ((i >> 4) & 15) * PITCH + (i & 15)) & INDEX
            tile[at + _R] -= _image(tile, at, nine)
        cuda.syncthreads()
        for i in range(cuda.threadIdx.x, tiles * 512, cuda.blockDim.x):
            if (i & 511) < _MARGIN:
                tile[((i >> 9) * pitch + _Z + (i & 511)) & INDEX] = ZERO
        cuda.syncthreads()
    for step in range(4):
        which = 3 - step if backwards else step
        _relax(tile, tiles, pitch, which >= 2, which & 1, nine)
    height, width = level[0], level[1]
    for i in range(cuda.threadIdx.x, tiles * SIDE * SIDE, cuda.blockDim.x):
        t, row, column = i >> 8, (i >> 4) & 15, i & 15
        y, x = origins[2 * t] + row, origins[2 * t + 1] + column
        if 0 <= y < height and 0 <= x < width:
            pixel = y * width + x
            z = tile[(t * pitch + ORIGIN + row * PITCH + column + _Z) & INDEX]
            if z_in >= 0:
                z += work[(z_in + pixel) & PIXEL]
            work[(z_out + pixel) & PIXEL] = z
    cuda.syncthreads()


@section
def smooth(work, levels, k, z_in, z_out, offset, backwards, crew, tile, origins):
    """Smooth level k once: from the plane at z_in (below 0: zeros) to that at z_out.

    Tiles begin `offset` pixels outside the image. z_in and z_out may be the same only on a level of
    one tile. tile, origins: shared memory, `TILES_FLOATS` float32 and `ORIGINS` int32. A
    barrier must follow.
    """
    _, _, rank, size = crew
    level = (
        levels[k, HEIGHT], levels[k, WIDTH], levels[k, EAST], levels[k, SOUTH],
        levels[k, SOUTH_EAST], levels[k, SOUTH_WEST], levels[k, GROUND], levels[k, RESIDUAL],
    )  # fmt: skip
    across = (level[1] + offset + SIDE - 1) >> 4
    count = across * ((level[0] + offset + SIDE - 1) >> 4)
    group = FIVE_TILES if k == 0 else NINE_TILES
    first = rank * group
    while first < count:
        tiles = min(group, count - first)
        for i in range(cuda.threadIdx.x, tiles, cuda.blockDim.x):
            y = (first + i) // across
            origins[2 * i] = y * SIDE - offset
            origins[2 * i + 1] = (first + i - y * across) * SIDE - offset
        cuda.syncthreads()
        if k == 0:
            _smooth_tiles(work, level, z_in, z_out, backwards, tile, origins, tiles, FIVE_SIZE, False)
        else:
            _smooth_tiles(work, level, z_in, z_out, backwards, tile, origins, tiles, NINE_SIZE, True)
        first += size * group
