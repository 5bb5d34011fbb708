"""Multigrid's operators: interpolation that follows the couplings, and the coarse matrices that it makes.

A pixel that a coarse level keeps has its value from there; one between two kept ones takes both in
the ratio of its couplings to either side; one in the middle of four takes the average, by its
couplings, of the eight around it (black-box multigrid: Dendy 1982; de Zeeuw 1990). The coarse
operator is then P^T A P, which has nine points again.
"""

from __future__ import annotations

from numba import cuda, float32

from .kernels import F32, HALF, ONE, ZERO, part, section
from .team import (
    DIAGONALS,
    EAST,
    FIRST,
    GROUND,
    HEIGHT,
    PAIR,
    PIXELS,
    SECOND,
    SOUTH,
    SOUTH_EAST,
    SOUTH_WEST,
    TO,
    WIDTH,
    barrier,
    places,
)
from .transfer import LOWER, SIDES, UPPER, WHOLE, one_share, other_share, pack, restrict, row_of, steps_of
from .words import below, get, i32, pair, put, u32

__all__ = ["set_up"]

PAIRS = 6  # of a cell's four corners


@part
def _at(work, place, y, x, height, width):
    """A value of a plane; 0 outside."""
    value = ZERO
    if below(y, height) and below(x, width):
        value = get(work, place + i32(y * width + x))
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
    left, upper = _share(west, east, j + 1 >= columns), _share(north, south, i + 1 >= rows)
    put(work, at + SIDES * n, pack(steps_of(left), steps_of(upper)))


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
        west = max(get(work, e + (y + 1) * w + x), ZERO)
        east = max(get(work, e + (y + 1) * w + x + 1), ZERO)
        north = max(get(work, s + y * w + x + 1), ZERO)
        south = max(get(work, s + (y + 1) * w + x + 1), ZERO)
        sides = get(work, at + SIDES * n)
        left, upper = one_share(sides), other_share(sides)
        left_below = one_share(_at(work, levels[k, TO] + SIDES * n, i + 1, j, rows, columns))
        upper_right = other_share(_at(work, levels[k, TO] + SIDES * n, i, j + 1, rows, columns))
        a = west * upper + north * left
        b = east * upper_right + north * (ONE - left)
        c = west * (ONE - upper) + south * left_below
        d = east * (ONE - upper_right) + south * (ONE - left_below)
        if k > 0:
            se, sw = levels[k, SOUTH_EAST], levels[k, SOUTH_WEST]
            a += max(get(work, se + y * w + x), ZERO)
            b += max(_at(work, sw, y, x + 2, h, w), ZERO)
            c += max(get(work, sw + (y + 1) * w + x + 1), ZERO)
            d += max(get(work, se + (y + 1) * w + x + 1), ZERO)
        whole = (a + b) + (c + d)
        if whole > ZERO:
            scale = ONE / whole
            a, b, c, d = a * scale, b * scale, c * scale, d * scale
        else:
            a = ONE
    first, second, third = steps_of(a), steps_of(b), steps_of(c)
    put(work, at + UPPER * n, pack(first, second))
    put(work, at + LOWER * n, pack(third, max(WHOLE - first - second - third, 0)))


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
    sides = get(work, to + SIDES * n + at)
    above, below_it = get(work, to + UPPER * n + at), get(work, to + LOWER * n + at)
    left, upper = one_share(sides), other_share(sides)
    left_below = one_share(_at(work, to + SIDES * n, i + 1, j, rows, columns))
    upper_right = other_share(_at(work, to + SIDES * n, i, j + 1, rows, columns))
    p, q, r, t = one_share(above), other_share(above), one_share(below_it), other_share(below_it)
    for which in range(PAIRS):
        pairs[which] = ZERO
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
    put(work, levels[c, EAST] + at, pairs[0] if right else ZERO)
    put(work, levels[c, SOUTH] + at, pairs[1] if below else ZERO)
    put(work, levels[c, SOUTH_EAST] + at, pairs[2] if both else ZERO)
    put(work, levels[c, FIRST] + at, pairs[5] if both else ZERO)
    if right:
        put(work, levels[c, SOUTH_WEST] + at + 1, pairs[3] if both else ZERO)
        put(work, levels[c, SECOND] + at + 1, pairs[4] if both else ZERO)
    if j == 0:
        put(work, levels[c, SOUTH_WEST] + at, ZERO)
        put(work, levels[c, SECOND] + at, ZERO)


@part
def _finish_cell(work, levels, c, at):
    """Add what the cells above and to the left hold for a coarse pixel of level c, and pack its couplings."""
    columns = levels[c, WIDTH]
    east, south = levels[c, EAST] + at, levels[c, SOUTH] + at
    e = get(work, east)
    if at >= columns:
        e += get(work, levels[c, FIRST] + at - columns)
    s = get(work, south) + get(work, levels[c, SECOND] + at)
    put(work, east, e)
    put(work, south, s)
    put(work, levels[c, PAIR] + at, pair(e, s))
    diagonals = pair(get(work, levels[c, SOUTH_EAST] + at), get(work, levels[c, SOUTH_WEST] + at))
    put(work, levels[c, DIAGONALS] + at, diagonals)


@section
def coarsen(work, levels, k, crew, tile):
    """Set level k's interpolation and level k + 1's operator."""
    pairs = cuda.local.array(PAIRS, float32)
    n, columns = u32(levels[k + 1, PIXELS]), levels[k + 1, WIDTH]
    first, step = places(crew)
    p = first
    while p < n:
        i = row_of(p, columns)
        _set_sides(work, levels, k, i, i32(p - i * columns))
        p = u32(p + step)
    barrier(crew)
    p = first
    while p < n:
        i = row_of(p, columns)
        _set_corners(work, levels, k, i, i32(p - i * columns))
        p = u32(p + step)
    barrier(crew)
    p = first
    while p < n:
        i = row_of(p, columns)
        _coarsen_cell(work, levels, k, i, i32(p - i * columns), pairs)
        p = u32(p + step)
    restrict(work, levels, k, -1, crew, tile)
    p = first
    while p < n:
        _finish_cell(work, levels, k + 1, p)
        p = u32(p + step)
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
            a[p * n + p] += get(work, levels[k, GROUND] + p)
            for direction in range(4):
                if direction == 0:
                    place, q = levels[k, EAST], p + 1
                elif direction == 1:
                    place, q = levels[k, SOUTH], p + w
                elif direction == 2:
                    place, q = levels[k, SOUTH_EAST], p + w + 1
                else:
                    place, q = levels[k, SOUTH_WEST], p + w - 1
                coupling = get(work, place + p)
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
        put(work, inverse + i, a[i])
    cuda.syncthreads()


@section
def set_up(work, levels, inverse, crew, shared):
    """Set all coarse operators from level 0's couplings."""
    last = levels.shape[0] - 1
    for k in range(last):
        coarsen(work, levels, k, crew, shared)
    if crew[2] == 0:
        _invert(work, levels, last, inverse, shared)
    barrier(crew)
