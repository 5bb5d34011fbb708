"""When exact weighted least squares are done: a bound of the largest error.

A >= I, so the largest error is at most the energy norm of the error; more closely,
|e(x)| <= ||e||_A / sqrt(c(x)), c(x) the conductance between pixel x and ground (1 / c(x) is the
inverse's diagonal element), of which a lower bound is found from networks inside A. The energy
norm is bounded from the coefficients of the iteration by the Gauss-Radau rule (Meurant & Tichy 2013),
which needs a lower bound of the preconditioned matrix's smallest eigenvalue: 1/2048 for the
first steps, then half to 0.7 of the smallest eigenvalue that the coefficients show (`left_after`). A plane ends when
the bound is below a part of the tolerance. The size of the correction, which is cheaper to look at, was up to a
hundred times too small where pixels hang together in a way that no coarse level sees (dark noise,
spirals, black and white noise).

With this algorithm as one thread of a CPU, over steel and magnetic tiles and twelve hard images (noise of two or a few dark values, stripes,
spirals, mazes, points; lambda 1 and 100), the largest error at the end was a third of the tolerance. On photographs the
error is a fiftieth of it then: the bound is for the pixel that is tied to the others least.
"""

from __future__ import annotations

import math

from numba import cuda

from .kernels import F32, ONE, ZERO, section
from .team import EAST, FIRST, HEIGHT, SECOND, SOUTH, WIDTH, barrier, least_of_block, places
from .transfer import row_of
from .words import get, i32, plane, put, u32

__all__ = ["BOUNDS", "GUESSES", "least_conductance", "left_after"]

FINER = F32(math.sqrt(0.5))  # from one guess of the preconditioned matrix's smallest eigenvalue to the next
GUESSES = 22  # FINER, FINER^2, ..., 1/2048
BOUNDS = GUESSES + 1  # the last is that of the guess taken
SEEN = 3  # steps after which the coefficients show how small it is; before, the last guess is taken
HOPS = 8  # pixels to either side, at least, of the networks that bound the conductance to ground
RUN = 32  # pixels whose networks one thread looks at


@section
def _along(couplings, grounds, ones, to, at, stride, before, count, after):
    """Set `count` pixels of `to`, `stride` apart from `at` on, to what conducts from each to ground along their line.

    Networks begin `before` pixels before the first and `after` after the last one. grounds: plane of what each pixel
    has to ground itself, which counts too; ones: 1 each. Returns the least value set.
    """
    behind, i = ZERO, i32(at - before * stride)
    for hop in range(before + count):
        behind += ONE if ones else get(grounds, i)
        if hop >= before:
            put(to, i, behind)
        edge = get(couplings, i)
        behind = edge * behind / (edge + behind)
        i = i32(i + stride)
    behind, i = ZERO, i32(at + (count - 1 + after) * stride)
    least = F32(3e38)
    for hop in range(after + count):
        if hop >= after:
            value = get(to, i) + behind
            put(to, i, value)
            least = min(least, value)
        behind += ONE if ones else get(grounds, i)
        edge = get(couplings, i - stride)
        behind = edge * behind / (edge + behind)
        i = i32(i - stride)
    return least


@section
def least_conductance(work, levels, sums, crew, shared):
    """A lower bound of the conductance between any pixel and ground; overwrites level 0's corrections.

    That of the pixel's comb: its row, at least `HOPS` pixels to either side, and of each of these its
    column, as far. Leaving out the other edges can only lower it (Rayleigh's monotonicity law).
    """
    _, _, rank, size = crew
    h, w = i32(levels[0, HEIGHT]), i32(levels[0, WIDTH])
    columns, combs = plane(work, levels[0, SECOND]), plane(work, levels[0, FIRST])
    east, south, listed = plane(work, levels[0, EAST]), plane(work, levels[0, SOUTH]), plane(work, sums)
    first, step = places(crew)
    p, end = first, u32(w * ((h + RUN - 1) // RUN))
    while p < end:
        run = row_of(p, w)
        y, x = i32(run * RUN), i32(p - run * w)
        count = i32(min(RUN, h - y))
        before, after = i32(min(HOPS, y)), i32(min(HOPS, h - y - count))
        _along(south, columns, True, columns, i32(y * w + x), w, before, count, after)
        p = u32(p + step)
    barrier(crew)
    least, runs = F32(3e38), i32((w + RUN - 1) // RUN)
    p, end = first, u32(h * runs)
    while p < end:
        y = row_of(p, runs)
        x = i32((p - y * runs) * RUN)
        count = i32(min(RUN, w - x))
        before, after = i32(min(HOPS, x)), i32(min(HOPS, w - x - count))
        least = min(least, _along(east, columns, False, combs, i32(y * w + x), 1, before, count, after))
        p = u32(p + step)
    least = least_of_block(least, shared)
    if cuda.threadIdx.x == 0:
        put(listed, rank, least)
    barrier(crew)
    least = F32(3e38)
    i = i32(cuda.threadIdx.x)
    while i < size:
        least = min(least, get(listed, i))
        i = i32(i + cuda.blockDim.x)
    return least_of_block(least, shared)


@section
def left_after(bounds, since, alpha_before, beta, alpha):
    """Bound the squared energy norm of the error after a step, in units of z.r before it.

    bounds: for each guess mu of the smallest eigenvalue of M A, the Gauss-Radau bound of that norm
    before the step (Meurant & Tichy 2013); below 0 once the steps have shown an
    eigenvalue below mu. After `SEEN` steps the guess after the first that still stands is taken: 0.7
    of it. since: steps before this one.
    """
    guess = ONE
    standing, value = 0, ZERO
    needed = 2 if since + 1 >= SEEN else GUESSES
    for j in range(GUESSES):
        guess *= FINER
        bound = get(bounds, j)
        if since == 0:
            bound = ONE / guess
        elif bound > ZERO:
            rest = bound - alpha_before
            bound = rest / (guess * rest + beta)
        if bound <= alpha:
            bound = -ONE
        put(bounds, j, bound)
        if standing < needed:
            if bound > ZERO:
                standing += 1
                value = bound - alpha
            elif j == GUESSES - 1:
                value = ONE / guess
    return value
