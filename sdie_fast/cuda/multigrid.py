"""Multigrid: interpolation that follows the couplings, coarse operators, ways up and down, and one V-cycle of them.

A pixel that a coarse level keeps has its value from there; one between two kept ones takes both in
the ratio of its couplings to either side; one in the middle of four takes the average, by its
couplings, of the eight around it (black-box multigrid: Dendy 1982; de Zeeuw 1990). The coarse
operator is then P^T A P, which has nine points again.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32

from .kernels import F32, HALF, ONE, PIXEL, ZERO, part, section
from .smoother import SIDE, smooth
from .team import (
    EAST,
    FIRST,
    GROUND,
    HEIGHT,
    PIXELS,
    RESIDUAL,
    SECOND,
    SOUTH,
    SOUTH_EAST,
    SOUTH_WEST,
    TO,
    WIDTH,
    barrier,
    places,
)

__all__ = ["cycle", "image_of", "operator_of", "row_of", "set_up"]

HALF_SIDE = SIDE // 2

# The planes at a level's `TO`, at the coarse pixel (i, j) of the fine one (2 i, 2 j): share of (i, j)
# in the pixel to the right (the rest is its right neighbour's), in the one below, and those of the
# four coarse ones around in the pixel diagonally below.
LEFT, UPPER, CORNERS = range(3)

PAIRS = 6  # of a cell's four corners


@part
def row_of(i, width):
    """The row of pixel i, by a division of 32 bits."""
    return np.int64(np.uint32(i) // np.uint32(width))


@part
def _at(work, place, y, x, height, width):
    """A value of a plane; 0 outside."""
    value = ZERO
    if 0 <= y < height and 0 <= x < width:
        value = work[(place + y * width + x) & PIXEL]
    return value


@part
def _share(one, other, alone):
    """The share of one coupling in two; a negative one counts as none."""
    one, other = max(one, ZERO), max(other, ZERO)
    both = one + other
    value = HALF
    if alone:
        value = ONE
    elif both > ZERO:
        value = one / both
    return value


@part
def _set_sides(work, levels, k, i, j):
    h, w = levels[k, HEIGHT], levels[k, WIDTH]
    rows, columns = levels[k + 1, HEIGHT], levels[k + 1, WIDTH]
    e, s = levels[k, EAST], levels[k, SOUTH]
    y, x = 2 * i, 2 * j
    west, east = _at(work, e, y, x, h, w), _at(work, e, y, x + 1, h, w)
    north, south = _at(work, s, y, x, h, w), _at(work, s, y + 1, x, h, w)
    if k > 0:
        se, sw = levels[k, SOUTH_EAST], levels[k, SOUTH_WEST]
        west += _at(work, se, y - 1, x, h, w) + _at(work, sw, y, x + 1, h, w)
        east += _at(work, se, y, x + 1, h, w) + _at(work, sw, y - 1, x + 2, h, w)
        north += _at(work, se, y, x - 1, h, w) + _at(work, sw, y, x + 1, h, w)
        south += _at(work, se, y + 1, x, h, w) + _at(work, sw, y + 1, x, h, w)
    n = rows * columns
    at = levels[k, TO] + i * columns + j
    work[at + LEFT * n] = _share(west, east, j + 1 >= columns)
    work[at + UPPER * n] = _share(north, south, i + 1 >= rows)


@part
def _set_corners(work, levels, k, i, j):
    h, w = levels[k, HEIGHT], levels[k, WIDTH]
    rows, columns = levels[k + 1, HEIGHT], levels[k + 1, WIDTH]
    n = rows * columns
    at = levels[k, TO] + i * columns + j
    y, x = 2 * i, 2 * j
    a, b, c, d = ZERO, ZERO, ZERO, ZERO
    if y + 1 < h and x + 1 < w:
        e, s = levels[k, EAST], levels[k, SOUTH]
        west = max(work[e + (y + 1) * w + x], ZERO)
        east = max(work[e + (y + 1) * w + x + 1], ZERO)
        north = max(work[s + y * w + x + 1], ZERO)
        south = max(work[s + (y + 1) * w + x + 1], ZERO)
        left, upper = work[at + LEFT * n], work[at + UPPER * n]
        left_below = _at(work, levels[k, TO] + LEFT * n, i + 1, j, rows, columns)
        upper_right = _at(work, levels[k, TO] + UPPER * n, i, j + 1, rows, columns)
        a = west * upper + north * left
        b = east * upper_right + north * (ONE - left)
        c = west * (ONE - upper) + south * left_below
        d = east * (ONE - upper_right) + south * (ONE - left_below)
        if k > 0:
            se, sw = levels[k, SOUTH_EAST], levels[k, SOUTH_WEST]
            a += max(work[se + y * w + x], ZERO)
            b += max(_at(work, sw, y, x + 2, h, w), ZERO)
            c += max(work[sw + (y + 1) * w + x + 1], ZERO)
            d += max(work[se + (y + 1) * w + x + 1], ZERO)
        whole = (a + b) + (c + d)
        if whole > ZERO:
            scale = ONE / whole
            a, b, c, d = a * scale, b * scale, c * scale, d * scale
        else:
            a = ONE
    work[at + CORNERS * n], work[at + (CORNERS + 1) * n] = a, b
    work[at + (CORNERS + 2) * n], work[at + (CORNERS + 3) * n] = c, d


@part
def _add_edge(pairs, coupling, a, b, c, d):
    """Add an edge between two pixels whose values differ by a, b, c, d of the four corners'."""
    pairs[0] -= coupling * a * b
    pairs[1] -= coupling * a * c
    pairs[2] -= coupling * a * d
    pairs[3] -= coupling * b * c
    pairs[4] -= coupling * b * d
    pairs[5] -= coupling * c * d


@part
def _coarsen_cell(work, levels, k, i, j, pairs):
    """Add what a cell brings to the coarse operator: what lies between (i, j) and its neighbours.

    A coupling a between pixels whose values are P_m and P_n of the corners' gives a (P_m - P_n)
    (P_m - P_n)^T. A cell owns its couplings but those on its right and lower sides. What it gives to
    these sides themselves waits in the coarse corrections' planes, for `_finish_cell`.
    """
    h, w = levels[k, HEIGHT], levels[k, WIDTH]
    rows, columns = levels[k + 1, HEIGHT], levels[k + 1, WIDTH]
    n = rows * columns
    to = levels[k, TO]
    e, s = levels[k, EAST], levels[k, SOUTH]
    y, x = 2 * i, 2 * j
    at = i * columns + j
    left, upper = work[to + LEFT * n + at], work[to + UPPER * n + at]
    left_below = _at(work, to + LEFT * n, i + 1, j, rows, columns)
    upper_right = _at(work, to + UPPER * n, i, j + 1, rows, columns)
    p, q = work[to + CORNERS * n + at], work[to + (CORNERS + 1) * n + at]
    r, t = work[to + (CORNERS + 2) * n + at], work[to + (CORNERS + 3) * n + at]
    for pair in range(PAIRS):
        pairs[pair] = ZERO
    # The cell's pixels, row by row: top = (left, 1 - left, 0, 0), side = (upper, 0, 1 - upper, 0),
    # middle = (p, q, r, t), right = (0, upper_right, 0, 1 - upper_right), bottom = (0, 0,
    # left_below, 1 - left_below), and the corners.
    _add_edge(pairs, _at(work, e, y, x, h, w), ONE - left, left - ONE, ZERO, ZERO)
    _add_edge(pairs, _at(work, e, y, x + 1, h, w), left, -left, ZERO, ZERO)
    _add_edge(pairs, _at(work, s, y, x, h, w), ONE - upper, ZERO, upper - ONE, ZERO)
    _add_edge(pairs, _at(work, s, y, x + 1, h, w), left - p, ONE - left - q, -r, -t)
    _add_edge(pairs, _at(work, e, y + 1, x, h, w), upper - p, -q, ONE - upper - r, -t)
    _add_edge(pairs, _at(work, e, y + 1, x + 1, h, w), p, q - upper_right, r, t - (ONE - upper_right))
    _add_edge(pairs, _at(work, s, y + 1, x, h, w), upper, ZERO, -upper, ZERO)
    _add_edge(pairs, _at(work, s, y + 1, x + 1, h, w), p, q, r - left_below, t - (ONE - left_below))
    if k > 0:
        se, sw = levels[k, SOUTH_EAST], levels[k, SOUTH_WEST]
        _add_edge(pairs, _at(work, se, y, x, h, w), ONE - p, -q, -r, -t)
        _add_edge(pairs, _at(work, se, y, x + 1, h, w), left, ONE - left - upper_right, ZERO, upper_right - ONE)
        _add_edge(pairs, _at(work, sw, y, x + 1, h, w), left - upper, ONE - left, upper - ONE, ZERO)
        _add_edge(pairs, _at(work, sw, y, x + 2, h, w), -p, ONE - q, -r, -t)
        _add_edge(pairs, _at(work, se, y + 1, x, h, w), upper, ZERO, ONE - upper - left_below, left_below - ONE)
        _add_edge(pairs, _at(work, se, y + 1, x + 1, h, w), p, q, r, t - ONE)
        _add_edge(pairs, _at(work, sw, y + 1, x + 1, h, w), p, q, r - ONE, t)
        far = ONE - upper_right - (ONE - left_below)
        _add_edge(pairs, _at(work, sw, y + 1, x + 2, h, w), ZERO, upper_right, -left_below, far)
    c = k + 1
    right, below = j + 1 < columns, i + 1 < rows
    both = right and below
    work[levels[c, EAST] + at] = pairs[0] if right else ZERO
    work[levels[c, SOUTH] + at] = pairs[1] if below else ZERO
    work[levels[c, SOUTH_EAST] + at] = pairs[2] if both else ZERO
    work[levels[c, FIRST] + at] = pairs[5] if both else ZERO
    if right:
        work[levels[c, SOUTH_WEST] + at + 1] = pairs[3] if both else ZERO
        work[levels[c, SECOND] + at + 1] = pairs[4] if both else ZERO
    if j == 0:
        work[levels[c, SOUTH_WEST] + at] = ZERO
        work[levels[c, SECOND] + at] = ZERO


@part
def _finish_cell(work, levels, c, i, j):
    """Add what the cells above and to the left hold for coarse pixel (i, j) of level c."""
    columns = levels[c, WIDTH]
    at = i * columns + j
    if i > 0:
        work[levels[c, EAST] + at] += work[levels[c, FIRST] + at - columns]
    work[levels[c, SOUTH] + at] += work[levels[c, SECOND] + at]


@part
def _restrict(work, levels, k, source, i, j):
    """The value of P^T f at coarse pixel (i, j), f a plane of level k; below 0: ones."""
    h, w = levels[k, HEIGHT], levels[k, WIDTH]
    columns = levels[k + 1, WIDTH]
    n = levels[k + 1, PIXELS]
    at = levels[k, TO] + i * columns + j
    value = ZERO
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            y, x = 2 * i + dy, 2 * j + dx
            if 0 <= y < h and 0 <= x < w:
                f = ONE
                if source >= 0:
                    f = work[(source + y * w + x) & PIXEL]
                # The planes of weights are at the coarse pixel above or to the left of (y, x).
                if dy == 0 and dx == 0:
                    share = ONE
                elif dy == 0:
                    share = work[at + LEFT * n] if dx > 0 else ONE - work[at + LEFT * n - 1]
                elif dx == 0:
                    share = work[at + UPPER * n] if dy > 0 else ONE - work[at + UPPER * n - columns]
                else:
                    place = at + CORNERS * n
                    if dx < 0:
                        place += n - 1
                    if dy < 0:
                        place += 2 * n - columns
                    share = work[place]
                value += share * f
    return value


@section
def coarsen(work, levels, k, crew):
    """Set level k's interpolation and level k + 1's operator."""
    pairs = cuda.local.array(PAIRS, float32)
    n, columns = levels[k + 1, PIXELS], levels[k + 1, WIDTH]
    first, step = places(crew)
    for p in range(first, n, step):
        i = row_of(p, columns)
        _set_sides(work, levels, k, i, p - i * columns)
    barrier(crew)
    for p in range(first, n, step):
        i = row_of(p, columns)
        _set_corners(work, levels, k, i, p - i * columns)
    barrier(crew)
    ground = levels[k, GROUND] if k > 0 else -1
    for p in range(first, n, step):
        i = row_of(p, columns)
        _coarsen_cell(work, levels, k, i, p - i * columns, pairs)
        work[levels[k + 1, GROUND] + p] = _restrict(work, levels, k, ground, i, p - i * columns)
    barrier(crew)
    for p in range(first, n, step):
        i = row_of(p, columns)
        _finish_cell(work, levels, k + 1, i, p - i * columns)
    barrier(crew)


@part
def operator_of(levels, k):
    """What `image_of` needs of a level: read once, before a loop that writes to memory."""
    return (
        levels[k, PIXELS], levels[k, WIDTH], levels[k, EAST], levels[k, SOUTH],
        levels[k, SOUTH_EAST], levels[k, SOUTH_WEST], levels[k, GROUND],
    )  # fmt: skip


@part
def _flux(work, couplings, plane, i, step, n):
    """What flows from pixel i of a plane to those `step` before and after it."""
    value = ZERO
    at, c = plane + i, work[(plane + i) & PIXEL]
    if i + step < n:
        value += work[(couplings + i) & PIXEL] * (c - work[(at + step) & PIXEL])
    if i >= step:
        value += work[(couplings + i - step) & PIXEL] * (c - work[(at - step) & PIXEL])
    return value


@part
def image_of(work, operator, nine, plane, i):
    """A times a plane, at pixel i, as fluxes: differences first, so that nothing large cancels.

    nine: the level has diagonal couplings. Neighbours of the first and the last column that lie in
    another row have couplings of zero.
    """
    n, w, east, south, south_east, south_west, ground = operator
    value = work[(plane + i) & PIXEL]
    if nine:
        value *= work[(ground + i) & PIXEL]
    value += _flux(work, east, plane, i, 1, n) + _flux(work, south, plane, i, w, n)
    if nine:
        value += _flux(work, south_east, plane, i, w + 1, n) + _flux(work, south_west, plane, i, w - 1, n)
    return value


@section
def go_down(work, levels, k, z, crew):
    """Level k + 1's right-hand side, P^T (r - A z); overwrites level k's first correction."""
    rest = levels[k, FIRST]
    first, step = places(crew)
    operator, residual = operator_of(levels, k), levels[k, RESIDUAL]
    for i in range(first, operator[0], step):
        work[rest + i] = work[residual + i] - image_of(work, operator, k > 0, z, i)
    barrier(crew)
    n, columns = levels[k + 1, PIXELS], levels[k + 1, WIDTH]
    for p in range(first, n, step):
        i = row_of(p, columns)
        work[levels[k + 1, RESIDUAL] + p] = _restrict(work, levels, k, rest, i, p - i * columns)
    barrier(crew)


@section
def go_up(work, levels, k, z, coarse, crew):
    """Add to the plane z of level k what the plane `coarse` of level k + 1 is there: z += P coarse."""
    h, w = levels[k, HEIGHT], levels[k, WIDTH]
    n, columns = levels[k + 1, PIXELS], levels[k + 1, WIDTH]
    first, step = places(crew)
    for p in range(first, n, step):
        i = row_of(p, columns)
        y, x = 2 * i, 2 * (p - i * columns)
        at = levels[k, TO] + p
        # Where a neighbour does not exist its share is zero; its own value is read instead.
        a = work[coarse + p]
        right = 1 if x + 2 < w else 0
        below = columns if y + 2 < h else 0
        b, c, d = work[coarse + p + right], work[coarse + p + below], work[coarse + p + below + right]
        fine = z + y * w + x
        work[fine] += a
        if x + 1 < w:
            work[fine + 1] += b + work[at + LEFT * n] * (a - b)
        if y + 1 < h:
            work[fine + w] += c + work[at + UPPER * n] * (a - c)
            if x + 1 < w:
                work[fine + w + 1] += (
                    work[at + CORNERS * n] * a
                    + work[at + (CORNERS + 1) * n] * b
                    + work[at + (CORNERS + 2) * n] * c
                    + work[at + (CORNERS + 3) * n] * d
                )
    barrier(crew)


@section
def _invert(work, levels, k, inverse, a):
    """Set the inverse of the last level's matrix; a: shared memory, COARSEST^2 float32.

    Gauss-Jordan elimination without pivoting: the matrix is symmetric and positive definite. All
    threads of a block work on it.
    """
    me, threads = cuda.threadIdx.x, cuda.blockDim.x
    n, w = levels[k, PIXELS], levels[k, WIDTH]
    for i in range(me, n * n, threads):
        a[i] = ZERO
    cuda.syncthreads()
    if me == 0:
        for p in range(n):
            a[p * n + p] += work[levels[k, GROUND] + p]
            for direction in range(4):
                if direction == 0:
                    place, q = levels[k, EAST], p + 1
                elif direction == 1:
                    place, q = levels[k, SOUTH], p + w
                elif direction == 2:
                    place, q = levels[k, SOUTH_EAST], p + w + 1
                else:
                    place, q = levels[k, SOUTH_WEST], p + w - 1
                coupling = work[place + p]
                if q < n and q != p:
                    a[p * n + p] += coupling
                    a[q * n + q] += coupling
                    a[p * n + q] -= coupling
                    a[q * n + p] -= coupling
    cuda.syncthreads()
    for pivot in range(n):
        factor = ONE / max(a[pivot * n + pivot], F32(1e-20))
        cuda.syncthreads()
        for j in range(me, n, threads):
            a[pivot * n + j] = factor if j == pivot else a[pivot * n + j] * factor
        cuda.syncthreads()
        for i in range(me, n, threads):
            if i != pivot:
                own = a[i * n + pivot]
                a[i * n + pivot] = ZERO
                for j in range(n):
                    a[i * n + j] -= own * a[pivot * n + j]
        cuda.syncthreads()
    for i in range(me, n * n, threads):
        work[inverse + i] = a[i]
    cuda.syncthreads()


@section
def set_up(work, levels, inverse, crew, shared):
    """Set all coarse operators from level 0's couplings."""
    last = levels.shape[0] - 1
    for k in range(last):
        coarsen(work, levels, k, crew)
    if crew[2] == 0:
        _invert(work, levels, last, inverse, shared)
    barrier(crew)


@section
def _smooth_level(work, levels, k, offset, start, backwards, crew, tile, origins):
    """One pass of the smoother; returns where the correction is afterwards."""
    z_in = start
    z_out = levels[k, FIRST] if start == levels[k, SECOND] else levels[k, SECOND]
    if start < 0:
        z_out = levels[k, SECOND] if one_tile(levels, k) else levels[k, FIRST]
    elif one_tile(levels, k):
        z_out = start
    smooth(work, levels, k, z_in, z_out, offset, backwards, crew, tile, origins)
    barrier(crew)
    return z_out


@section
def one_tile(levels, k):
    """Whether a tile holds the level: then one pass is all there is to do."""
    return levels[k, HEIGHT] <= SIDE and levels[k, WIDTH] <= SIDE


@section
def cycle(work, levels, inverse, deep, crew, tile, origins):
    """Set level 0's second correction to M r, r its residual: M approximates the inverse of A.

    Without `deep` level 0 is smoothed and no more. That M is positive definite whatever the image,
    and so is the whole one wherever coarse operators have no negative couplings, of which they seldom
    have any: lines of an M-matrix solved one after the other are a weak regular splitting, and so are
    passes over tiles and their reversed ones after each other; hence smoothing shrinks the energy
    norm of any error (Ortega & Rheinboldt 1967), level by level.
    """
    last = levels.shape[0] - 1
    for turn in range(2 * last + 1):
        k = turn if turn <= last else 2 * last - turn
        if k > 0 and not deep:
            continue
        if turn == last:
            # The coarsest level: by its inverse.
            n = levels[k, PIXELS]
            if crew[2] == 0:
                for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                    value = ZERO
                    for j in range(n):
                        value += work[inverse + i * n + j] * work[levels[k, RESIDUAL] + j]
                    work[levels[k, SECOND] + i] = value
            barrier(crew)
        else:
            up = turn > last
            z = levels[k, SECOND] if up else -1
            if up and deep:
                go_up(work, levels, k, z, levels[k + 1, SECOND], crew)
            alone = one_tile(levels, k)
            for step in range(1 if alone else 2):
                # Down: whole tiles, then shifted ones; up: the other way round.
                offset = HALF_SIDE if (step == 1) != up and not alone else 0
                z = _smooth_level(work, levels, k, offset, z, up, crew, tile, origins)
            if deep and not up:
                go_down(work, levels, k, z, crew)
