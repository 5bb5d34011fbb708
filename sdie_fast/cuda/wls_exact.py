"""Exact weighted least squares on the device, plane by plane to a tolerance, without the host.

The system is (I + lambda L) u = g, L the Laplacian of the pixel grid with the weights of Farbman et
al. 2008, which differ by 1e5 from one edge to the next. It is solved by conjugate gradients with one
multigrid V-cycle an iteration as preconditioner:

- one kernel launch for a whole batch; a team of blocks serves a plane from its weights to its
  result, then takes the next (`team`). A small plane of a large batch has one block, a
  large plane alone has all that the device runs at once;
- the smoother solves lines inside tiles of 16 x 16 that lie in shared memory, twice, the second time
  with tiles half a tile aside (`smoother`);
- interpolation follows the couplings, and the coarse operators are P^T A P (`multigrid`);
- the cycle is symmetric, so that plain conjugate gradients converge whatever the image and lambda.

What else was tried, with the same interpolation, on photographs of steel and magnetic tiles (200 x
200, lambda 1; iterations until the largest error was 1/510): red-black Gauss-Seidel 12 to 57, damped
Jacobi twice 12 to 161, Chebyshev polynomials over 100, zebra lines through the whole image 4 to 14,
tiles as here 4 to 10, tiles of 32 instead 4 to 9, tiles solved exactly 2 to 3. A pass over tiles
moves each array once, as a Gauss-Seidel sweep does, whatever it does in shared memory; solving tiles
exactly needs their factors, 16 values a pixel and pass, which is more than it saves. An iteration
moves about 52 values a pixel, levels below included: 208 bytes.

Measured with this code, compiled for the CPU as one thread: 8 to 13 iterations to the bound below on seven such
photographs, 145 on black and white noise, where pixels of one value hang together around corners, up to 208 on
diagonal stripes. The largest error of all was 0.1 of the tolerance.

**When to stop.** A >= I, so the largest error is at most the energy norm of the error; more closely,
|e(x)| <= ||e||_A / sqrt(c(x)), c(x) the conductance between pixel x and ground (1 / c(x) is the
inverse's diagonal element), of which a lower bound is found from networks inside A. The energy
norm is bounded from the coefficients of the iteration by the Gauss-Radau rule (Meurant & Tichy 2013),
which needs a lower bound of the preconditioned matrix's smallest eigenvalue: 1/4096 for the
first steps, then 1/16, or less where the coefficients show one below 1/4 (`_left`). A plane ends when the bound is
below 0.8 of the tolerance. The size of the correction, which is cheaper to look at, was up to a
hundred times too small where pixels hang together in a way that no coarse level sees (dark noise,
spirals, black and white noise).

Not measured on a GPU: none was at hand. The kernels were run in Numba's simulator, where a team has
one block, or two in one test that lets them run side by side; what it cannot show is the order of
memory between multiprocessors, which rests on `threadfence` on both sides of a team's barrier.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64

from .kernels import ACTIVE, F32, ONE, SIMULATED, ZERO, ceil_div, kernel, section
from .multigrid import cycle, image_of, row_of, set_up
from .smoother import FIVE_TILES, ORIGINS, TILES_FLOATS
from .team import (
    CHUNK,
    EAST,
    FIRST,
    HEIGHT,
    PAIR,
    PIXELS,
    RESIDUAL,
    SECOND,
    SIDE,
    SOUTH,
    TEAM,
    THREADS,
    WIDTH,
    barrier,
    clear_margins,
    join,
    lay_out,
    least_of_block,
    next_image,
    places,
    sum_block,
    total,
)
from .wls_fast import SMALL, FastWls, edge_weight, from_lightness, lightness
from .words import get, i32, pair, plane, put, u32

__all__ = ["ExactWls"]

BLOCKS = 4  # of a multiprocessor: what their shared memory, 48 KB each, lets run at once
_bounded = {} if SIMULATED else {"launch_bounds": (THREADS, BLOCKS)}  # so that registers do, too

_IMAGES = float32[:, ::1]
STEEPEST = 1.5  # most that intensity changes when lightness / 100 does
MAX_ITERATIONS = 4000
SURE_AFTER = 1000  # iterations, many times what the hardest image tried has taken
SAFETY = F32(0.8)  # of the tolerance, that the bound of the error may reach
FINER = F32(math.sqrt(0.5))  # from one guess of the preconditioned matrix's smallest eigenvalue to the next
GUESSES = 22  # FINER, FINER^2, ..., 1/2048
BOUNDS = GUESSES + 1  # the last is that of the guess taken
SEEN = 3  # steps after which the coefficients show how small it is; before, the last guess is taken
HOPS = 8  # pixels to either side, at least, of the networks that bound the conductance to ground
RUN = 32  # pixels whose networks one thread looks at


@section
def _prepare(work, levels, guide, result, scale, alpha, offset, light, crew):
    """Set level 0's couplings, scale * a, and the residual of the result so far; both images become lightness."""
    h, w, n = i32(levels[0, HEIGHT]), i32(levels[0, WIDTH]), u32(levels[0, PIXELS])
    g, u, r = plane(work, levels[0, FIRST]), plane(work, levels[0, SECOND]), plane(work, levels[0, RESIDUAL])
    east, south, edges = plane(work, levels[0, EAST]), plane(work, levels[0, SOUTH]), plane(work, levels[0, PAIR])
    first, step = places(crew)
    clear_margins(work, levels, crew)
    i = first
    while i < n:
        value, start = get(guide, i), get(result, i)
        if light:
            value, start = lightness(value), lightness(start)
            put(result, i, start)
        put(g, i, value)
        put(u, i, start)
        i = u32(i + step)
    barrier(crew)
    i = first
    while i < n:
        y = row_of(i, w)
        own = get(g, i)
        e, s = ZERO, ZERO
        if i32(i) + 1 < (y + 1) * w:
            e = scale * _edge(own, get(g, i + 1), alpha, offset)
        if y + 1 < h:
            s = scale * _edge(own, get(g, i + w), alpha, offset)
        put(east, i, e)
        put(south, i, s)
        put(edges, i, pair(e, s))
        i = u32(i + step)
    barrier(crew)
    i = first
    while i < n:
        put(r, i, get(g, i) - image_of(u, east, south, i, w))
        i = u32(i + step)
    barrier(crew)


@section
def _edge(p, q, alpha, offset):
    """Weigh the edge between two pixels.

    Of near-equal pixels the logarithm of the ratio keeps digits that a difference of logarithms loses.
    """
    low, high = min(p, q), max(p, q)
    return edge_weight(F32(math.log1p((high - low) / (low + offset))), alpha)


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
def _bound(work, levels, sums, crew, shared):
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
def _turn(work, levels, directions, result, ratio, taken, fresh, sums, chunks, crew, shared):
    """Add `taken` * p to the result, turn p to z + ratio p, A p likewise, and list the chunks' sums of p A p.

    fresh: there was no p.
    """
    _, _, rank, size = crew
    n, w = u32(levels[0, PIXELS]), i32(levels[0, WIDTH])
    z, east, south = plane(work, levels[0, SECOND]), plane(work, levels[0, EAST]), plane(work, levels[0, SOUTH])
    direction, image = plane(work, directions[0]), plane(work, directions[1])
    listed = plane(work, sums)
    chunk = i32(rank)
    while chunk < chunks:
        value = ZERO
        i, end = u32(chunk * CHUNK + cuda.threadIdx.x), u32(min((chunk + 1) * CHUNK, n))
        while i < end:
            p, q = get(z, i), image_of(z, east, south, i, w)
            if not fresh:
                before = get(direction, i)
                put(result, i, get(result, i) + taken * before)
                p += ratio * before
                q += ratio * get(image, i)
            put(direction, i, p)
            put(image, i, q)
            value += p * q
            i = u32(i + cuda.blockDim.x)
        value = sum_block(value, shared)
        if cuda.threadIdx.x == 0:
            put(listed, chunk, value)
        chunk = i32(chunk + size)


@section
def _left(bounds, since, alpha_before, beta, alpha):
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


@section
def _solve(work, levels, plan, result, tol, crew, tile, origins, bounds):
    """Solve for one image; returns the number of iterations. Adds the solution of A x = r to the result.

    The sure preconditioner, without coarse levels, takes over should the other one show that it is
    not positive definite, or not be done after `SURE_AFTER` iterations.
    """
    inverse, sums, other_sums, direction, image_of_direction, chunks = plan
    least = _bound(work, levels, sums, crew, tile)
    set_up(work, levels, inverse, crew, tile)
    enough = SAFETY * tol
    enough = enough * enough * least
    zr_before, alpha = ONE, ZERO
    loss = ZERO  # what the residual is still to lose of the direction's image
    iterations, since = 0, 0  # since: iterations since the directions were begun
    deep = SURE_AFTER > 0
    while iterations < MAX_ITERATIONS:
        listed = cycle(work, levels, inverse, deep, loss, image_of_direction, sums, crew, tile, origins)
        zr = total(plane(work, sums), listed, tile)
        iterations += 1
        loss = ZERO
        if deep and (zr < ZERO or iterations == SURE_AFTER):
            deep = False
            _take(work, levels, direction, result, alpha, since, crew)
            since = 0
            continue
        if zr <= ZERO:
            break
        beta = zr / zr_before
        directions = direction, image_of_direction
        _turn(work, levels, directions, result, beta, alpha, since == 0, other_sums, chunks, crew, tile)
        barrier(crew)
        pap = total(plane(work, other_sums), chunks, tile)
        if pap <= ZERO:
            since = 0  # the direction is of no use
            break
        alpha_before = alpha
        alpha = zr / pap
        loss = alpha
        if cuda.threadIdx.x == 0:
            put(bounds, GUESSES, _left(bounds, since, alpha_before, beta, alpha))
        cuda.syncthreads()
        left = zr * get(bounds, GUESSES)
        cuda.syncthreads()
        since += 1
        zr_before = zr
        if left <= enough:
            break
    _take(work, levels, direction, result, alpha, since, crew)
    return iterations


@section
def _take(work, levels, direction, result, alpha, since, crew):
    """Add the last step to the result, where there was one."""
    n, p = u32(levels[0, PIXELS]), plane(work, direction)
    if since > 0:
        i, step = places(crew)
        while i < n:
            put(result, i, get(result, i) + alpha * get(p, i))
            i = u32(i + step)
    barrier(crew)


@kernel(
    _IMAGES, _IMAGES, ACTIVE, int64, *(float32,) * 4, _IMAGES, int32[:, ::1], *(int64,) * 6, int32[:, ::1], int64,
    int32[::1], fastmath=True, **_bounded,
)  # fmt: skip
def solve(
    guide, out, active, light, scale, alpha, offset, tol, memory, levels, inverse, sums, other_sums,
    direction, image_of_direction, chunks, teams, blocks, iterations,
):  # fmt: skip
    """Smooth images (n, H * W), `blocks` blocks a team; see `ExactWls`. out: what to begin with, then the result.

    memory: (teams, floats), laid out by levels and the places after it; teams: see `join`;
    iterations: (n,) int32, written for each image computed. The block's size is a power of two, of
    at most `TILES_FLOATS` threads.
    """
    tile = cuda.shared.array(TILES_FLOATS, float32)
    origins = cuda.shared.array(ORIGINS, int32)
    told = cuda.shared.array(2, int32)
    bounds = cuda.shared.array(BOUNDS, float32)
    team = cuda.blockIdx.x // blocks
    if cuda.threadIdx.x == 0:
        told[0], told[1] = join(teams, team, blocks)
    cuda.syncthreads()
    crew = teams, team, told[0], told[1]
    cuda.syncthreads()
    if crew[3] == 0:
        return
    work = memory[team]
    first, step = places(crew)
    plan = inverse, sums, other_sums, direction, image_of_direction, chunks
    image = next_image(crew, told)
    while image < out.shape[0]:
        if active[image] != ZERO:
            result = out[image]
            _prepare(work, levels, guide[image], result, scale, alpha, offset, light, crew)
            taken = _solve(work, levels, plan, result, tol, crew, tile, origins, bounds)
            if light:
                i = first
                while i < u32(out.shape[1]):
                    put(result, i, from_lightness(max(get(result, i), ZERO)))
                    i = u32(i + step)
            if crew[2] == 0 and cuda.threadIdx.x == 0:
                iterations[image] = taken
        barrier(crew)
        image = next_image(crew, told)


@kernel(int32[:, ::1])
def reset(teams):
    """Make the teams' table ready for a launch."""
    for i in range(cuda.threadIdx.x, teams.shape[0], cuda.blockDim.x):
        for column in range(teams.shape[1]):
            teams[i, column] = 0


def _room() -> int:
    """Blocks that the device runs at once."""
    if SIMULATED:
        return BLOCKS
    return BLOCKS * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


class ExactWls:
    """Weighted least squares to a tolerance in the maximum norm; memory for one size.

    Parameters
    ----------
    planes, height, width : int
        The most planes of a call, and their size: at least 1.
    on_lightness : bool
        Smooth CIE L* instead of intensity.

    Attributes
    ----------
    iterations : device (planes,) int32
        What each plane of the last call took; older values where a plane was not computed.

    Notes
    -----
    Memory is for as many planes as the device works on at once, about 43 bytes a pixel each.
    """

    def __init__(self, planes: int, height: int, width: int, *, on_lightness: bool) -> None:
        self._layout = lay_out(height, width)
        teams = min(planes, _room())
        self._memory = cuda.device_array((teams, self._layout.floats), "float32")
        self._levels = cuda.to_device(self._layout.table)
        self._teams = cuda.device_array((teams, TEAM), "int32")
        self._all = cuda.to_device(np.ones(planes, np.float32))
        self._start = FastWls(planes, height, width, on_lightness=on_lightness)
        self._light = on_lightness
        self.iterations = cuda.to_device(np.zeros(planes, np.int32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int, *, on_lightness: bool) -> int:
        """Bytes of device memory an instance holds."""
        at = lay_out(height, width)
        own = min(planes, _room()) * 4 * (at.floats + TEAM) + at.table.nbytes + 8 * planes
        return own + FastWls.workspace_bytes(planes, height, width, on_lightness=on_lightness)

    def __call__(
        self,
        guide: Any,
        out: Any,
        *,
        lambda_: float,
        alpha: float,
        tol: float,
        active: Any = None,
        stream: Any = 0,
    ) -> None:
        """Smooth planes; enqueues only: the iteration ends on the device.

        Parameters
        ----------
        guide, out : device (n, H, W) float32, C-contiguous
            Intensities in [0, 1]; not aliased; n at most the planes of the workspace.
        lambda_, alpha : float
            As `sdie_fast.FilterParams` has them.
        tol : float
            The largest error accepted.
        active : device (n,) float32, C-contiguous, or None
            A plane whose entry is 0 is not computed. None: all.
        stream : Numba stream
            0 is the default stream.
        """
        planes, height, width = out.shape
        at, room = self._layout, _room()
        tiles = ceil_div(height, SIDE) * ceil_div(width, SIDE)
        blocks = max(1, min(room // planes, ceil_div(tiles, FIVE_TILES)))
        teams = min(planes, room // blocks)
        self._start(guide, out, lambda_=lambda_, alpha=alpha, active=active, stream=stream)
        reset[1, THREADS, stream](self._teams)
        # On L* / 100 the definition's small constant is a hundredth, too.
        solve[teams * blocks, THREADS, stream](
            guide.reshape(planes, height * width), out.reshape(planes, height * width),
            self._all if active is None else active, int(self._light), F32(lambda_), F32(alpha),
            F32(SMALL / 100 if self._light else SMALL), F32(tol / STEEPEST if self._light else tol),
            self._memory, self._levels, at.inverse, at.sums, at.other_sums, at.direction,
            at.image_of_direction, at.chunks, self._teams, blocks, self.iterations,
        )  # fmt: skip
