"""Exact weighted least squares on the device, plane by plane to a tolerance, without the host.

The system is (I + lambda L) u = g, L the Laplacian of the pixel grid with the weights of Farbman et
al. 2008, which differ by 1e5 from one edge to the next. It is solved by conjugate gradients with one
multigrid V-cycle an iteration as preconditioner:

- it begins with the fast solution (`wls_fast`), which costs less than an iteration and spares two or three;
- one kernel launch for a whole batch; a team of blocks serves a plane from its weights to its
  result, then takes the next (`team`). A small plane of a large batch has one block, a
  large plane alone has all that the device runs at once;
- the smoother solves lines inside tiles of 16 x 16 that lie in shared memory, on the image itself twice, the second
  time with tiles half a tile aside (`smoother`);
- interpolation follows the couplings, and the coarse operators are P^T A P (`coarsen`, `transfer`, `multigrid`);
- the cycle is symmetric, so that plain conjugate gradients converge whatever the image and lambda;
- an image is done when a bound of its largest error says so (`stopping`).

What else was tried, with the same interpolation, on photographs of steel and magnetic tiles (200 x
200, lambda 1; iterations until the largest error was 1/510, from the image itself on): red-black Gauss-Seidel 12 to
57, damped Jacobi twice 12 to 161, Chebyshev polynomials over 100, zebra lines through the whole image 4 to 14,
tiles as here 4 to 10, tiles of 32 instead 4 to 9, tiles solved exactly 2 to 3. A pass over tiles
moves each array once, as a Gauss-Seidel sweep does, whatever it does in shared memory; solving tiles
exactly needs their factors, 16 values a pixel and pass, which is more than it saves. With one pass on level 0 instead
of two, what the borders of the tiles leave takes tens of iterations; on the coarser levels one is as good as two. From the
fast solution on, 2 to 3 iterations reach 1/510 on such photographs, and 5 to 9 the bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64

from .coarsen import set_up
from .kernels import ACTIVE, F32, ONE, SIMULATED, ZERO, ceil_div, kernel, section
from .multigrid import cycle
from .smoother import FIVE_TILES, ORIGINS, TILES_FLOATS
from .stopping import BOUNDS, GUESSES, least_conductance, left_after
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
    next_image,
    places,
    sum_block,
    total,
)
from .transfer import image_of, row_of
from .wls_fast import SMALL, FastWls, edge_weight, from_lightness, lightness
from .words import get, i32, pair, plane, put, u32

__all__ = ["ExactWls"]

BLOCKS = 4  # of a multiprocessor: what their shared memory, 48 KB each, lets run at once
_bounded = {} if SIMULATED else {"launch_bounds": (THREADS, BLOCKS)}  # so that registers do, too

_IMAGES = float32[:, ::1]
STEEPEST = 1.5  # most that intensity changes when lightness / 100 does
MAX_ITERATIONS = 4000
SURE_AFTER = 1000  # iterations, many times what the hardest image tried has taken
SAFETY = F32(0.95)  # of the tolerance, that the bound of the error may reach


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
def _solve(work, levels, plan, result, tol, crew, tile, origins, bounds):
    """Solve for one image; returns the number of iterations. Adds the solution of A x = r to the result.

    The sure preconditioner, without coarse levels, takes over should the other one show that it is
    not positive definite, or not be done after `SURE_AFTER` iterations.
    """
    inverse, sums, other_sums, direction, image_of_direction, chunks = plan
    least = least_conductance(work, levels, sums, crew, tile)
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
            put(bounds, GUESSES, left_after(bounds, since, alpha_before, beta, alpha))
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
    Memory is for as many planes as the device works on at once, about 50 bytes a pixel each, and for the fast solution of
    all planes, which the iteration begins with.

    Raises
    ------
    InvalidArgumentError
        Planes of more than about 170 million pixels: places in memory are numbers of 32 bits.
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
