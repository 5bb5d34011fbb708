"""The kernel of exact weighted least squares: preconditioned conjugate gradients, image by image.

See `wls_exact` for what it does and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64

from ._device import F32, ONE, PIXEL, SIMULATED, ZERO, part
from ._multigrid_coarsen import image_of, operator_of
from ._multigrid_cycle import cycle, set_up
from ._multigrid_levels import (
    CHUNK,
    EAST,
    FIRST,
    HEIGHT,
    PIXELS,
    RESIDUAL,
    SECOND,
    SOUTH,
    WIDTH,
)
from ._multigrid_team import (
    barrier,
    join,
    least_of_block,
    next_image,
    product,
    section,
    sum_block,
    total,
)
from ._multigrid_tiles import ORIGINS, TILES_FLOATS
from .wls_fast import _weight, from_lightness, lightness

# Threads of a block, a power of two: four warps load and store what two of them solve. Fewer where
# each is a thread of Python's.
THREADS = 4 if SIMULATED else 128
BLOCKS = 4  # of a multiprocessor: what their shared memory, 48 KB each, lets run at once
_bounded = {} if SIMULATED else {"launch_bounds": (THREADS, BLOCKS)}  # so that registers do, too

MAX_ITERATIONS = 4000
SURE_AFTER = 1000  # iterations, many times what the hardest image tried has taken
SAFETY = F32(0.8)  # of the tolerance, that the bound of the error may reach
GUESSES = 6  # of the preconditioned matrix's smallest eigenvalue: 1/4, 1/16, ...
SEEN = 6  # steps after which the coefficients show how small it is; before, the last guess is taken
HOPS = 8  # pixels to either side, of the networks that bound the conductance to ground


@section
def _weigh(work, levels, guide, out, image, scale, alpha, offset, light, teams, team, rank, size):
    """Set level 0's couplings, scale * a, and u = g: in `out` and in the first correction."""
    n, w = levels[0, PIXELS], levels[0, WIDTH]
    u, east, south = levels[0, FIRST], levels[0, EAST], levels[0, SOUTH]
    first, step = rank * cuda.blockDim.x + cuda.threadIdx.x, size * cuda.blockDim.x
    for i in range(first, n, step):
        value = guide[image, i]
        if light:
            value = lightness(value)
        out[image, i] = value
        work[u + i] = value
    barrier(teams, team, size)
    for i in range(first, n, step):
        x = i - np.int64(np.uint32(i) // np.uint32(w)) * w
        own = work[u + i]
        e, s = ZERO, ZERO
        if x + 1 < w:
            e = scale * _edge(own, work[u + i + 1], alpha, offset)
        if i + w < n:
            s = scale * _edge(own, work[u + i + w], alpha, offset)
        work[east + i] = e
        work[south + i] = s
    barrier(teams, team, size)


@section
def _edge(p, q, alpha, offset):
    """Weigh the edge between two pixels.

    Of near-equal pixels the logarithm of the ratio keeps digits that a difference of logarithms loses.
    """
    low, high = min(p, q), max(p, q)
    return _weight(F32(math.log1p((high - low) / (low + offset))), ZERO, alpha)


@section
def _conductance(work, couplings, grounds, i, stride, before, after):
    """Conductance from pixel i to ground along a line, both ways, its own not counted.

    grounds: plane of what each pixel has to ground itself; below 0: 1. before, after: pixels there
    are on either side.
    """
    value = ZERO
    for side in range(2):
        hops = min(HOPS, after if side else before)
        behind = ZERO
        for hop in range(hops):
            far = hops - hop  # from the far end on
            at = i + far * stride if side else i - far * stride
            edge = work[(couplings + (at - stride if side else at)) & PIXEL]
            behind += work[(grounds + at) & PIXEL] if grounds >= 0 else ONE
            behind = edge * behind / (edge + behind)
        value += behind
    return value


@section
def _bound(work, levels, sums, chunks, teams, team, rank, size, shared):
    """A lower bound of the conductance between any pixel and ground.

    That of the pixel's comb: its row, `HOPS` pixels to either side, and of each of these its column,
    as far. Leaving out the other edges can only lower it (Rayleigh's monotonicity law).
    """
    n, h, w = levels[0, PIXELS], levels[0, HEIGHT], levels[0, WIDTH]
    east, south, columns = levels[0, EAST], levels[0, SOUTH], levels[0, SECOND]
    first, step = rank * cuda.blockDim.x + cuda.threadIdx.x, size * cuda.blockDim.x
    for i in range(first, n, step):
        y = np.int64(np.uint32(i) // np.uint32(w))
        work[columns + i] = ONE + _conductance(work, south, -1, i, w, y, h - 1 - y)
    barrier(teams, team, size)
    for chunk in range(rank, chunks, size):
        least = F32(3e38)
        for i in range(chunk * CHUNK + cuda.threadIdx.x, min((chunk + 1) * CHUNK, n), cuda.blockDim.x):
            x = i - np.int64(np.uint32(i) // np.uint32(w)) * w
            value = work[columns + i] + _conductance(work, east, columns, i, 1, x, w - 1 - x)
            least = min(least, value)
        least = least_of_block(least, shared)
        if cuda.threadIdx.x == 0:
            work[sums + chunk] = least
    barrier(teams, team, size)
    least = F32(3e38)
    for chunk in range(cuda.threadIdx.x, chunks, cuda.blockDim.x):
        least = min(least, work[sums + chunk])
    return least_of_block(least, shared)


@section
def _turn(work, levels, direction, image, ratio, fresh, sums, chunks, rank, size, shared):
    """Turn p to z + ratio p, A p likewise, and list the chunks' sums of p A p; fresh: p was 0."""
    operator, z = operator_of(levels, 0), levels[0, SECOND]
    n = operator[0]
    for chunk in range(rank, chunks, size):
        value = ZERO
        for i in range(chunk * CHUNK + cuda.threadIdx.x, min((chunk + 1) * CHUNK, n), cuda.blockDim.x):
            p, q = work[(z + i) & PIXEL], image_of(work, operator, False, z, i)
            if not fresh:
                p += ratio * work[(direction + i) & PIXEL]
                q += ratio * work[(image + i) & PIXEL]
            work[(direction + i) & PIXEL] = p
            work[(image + i) & PIXEL] = q
            value += p * q
        value = sum_block(value, shared)
        if cuda.threadIdx.x == 0:
            work[sums + chunk] = value


@part
def _left(bounds, since, alpha_before, beta, alpha):
    """Bound the squared energy norm of the error after a step, in units of z.r before it.

    bounds: for each guess mu of the smallest eigenvalue of M A, the Gauss-Radau bound of that norm
    before the step (Meurant & Tichy 2013); below 0 once the steps have shown an
    eigenvalue below mu. After `SEEN` steps the guess after the first that still stands is taken: a
    quarter of it. since: steps before this one.
    """
    guess = ONE
    standing, value = 0, ZERO
    needed = 2 if since + 1 >= SEEN else GUESSES
    for j in range(GUESSES):
        guess *= F32(0.25)
        bound = bounds[j]
        if since == 0:
            bound = ONE / guess
        elif bound > ZERO:
            rest = bound - alpha_before
            bound = rest / (guess * rest + beta)
        if bound <= alpha:
            bound = -ONE
        bounds[j] = bound
        if standing < needed:
            if bound > ZERO:
                standing += 1
                value = bound - alpha
            elif j == GUESSES - 1:
                value = ONE / guess
    return value


@section
def _solve(
    work, levels, places, out, image, tol, teams, team, rank, size, tile, origins
):  # fmt: skip
    """Solve for one image; returns the number of iterations. out holds u = g, then u.

    The sure preconditioner, without coarse levels, takes over should the other one show that it is
    not positive definite, or not be done after `SURE_AFTER` iterations.
    """
    inverse, sums, other_sums, direction, image_of_direction, chunks = places
    n, r, z = levels[0, PIXELS], levels[0, RESIDUAL], levels[0, SECOND]
    first, step = rank * cuda.blockDim.x + cuda.threadIdx.x, size * cuda.blockDim.x
    operator, u = operator_of(levels, 0), levels[0, FIRST]
    for i in range(first, n, step):
        work[r + i] = work[u + i] - image_of(work, operator, False, u, i)
    least = _bound(work, levels, sums, chunks, teams, team, rank, size, tile)
    set_up(work, levels, inverse, teams, team, rank, size, tile)
    enough = SAFETY * tol
    enough = enough * enough * least
    bounds = cuda.local.array(GUESSES, float32)
    zr_before, alpha = ONE, ZERO
    iterations, since = 0, 0  # since: iterations since the directions were begun
    deep = SURE_AFTER > 0
    while iterations < MAX_ITERATIONS:
        cycle(work, levels, inverse, deep, teams, team, rank, size, tile, origins)
        product(work, z, r, n, sums, rank, size, tile)
        barrier(teams, team, size)
        zr = total(work, sums, chunks, tile)
        iterations += 1
        if deep and (zr < ZERO or iterations == SURE_AFTER):
            deep, since = False, 0
            continue
        if zr <= ZERO:
            break
        beta = zr / zr_before
        _turn(
            work, levels, direction, image_of_direction, beta, since == 0, other_sums, chunks, rank,
            size, tile,
        )  # fmt: skip
        barrier(teams, team, size)
        pap = total(work, other_sums, chunks, tile)
        if pap <= ZERO:
            break
        alpha_before = alpha
        alpha = zr / pap
        for i in range(first, n, step):
            out[image, i] += alpha * work[(direction + i) & PIXEL]
            work[(r + i) & PIXEL] -= alpha * work[(image_of_direction + i) & PIXEL]
        barrier(teams, team, size)
        left = zr * _left(bounds, since, alpha_before, beta, alpha)
        since += 1
        zr_before = zr
        if left <= enough:
            break
    return iterations


@cuda.jit(fastmath=True, **_bounded)
def solve(
    guide, out, active, light, scale, alpha, offset, tol, memory, levels, inverse, sums, other_sums,
    direction, image_of_direction, chunks, teams, blocks, iterations,
):  # fmt: skip
    """Smooth images (n, H * W), `blocks` blocks a team; see `ExactWls`.

    memory: (teams, floats), laid out by levels and the places after it; teams: see `join`;
    iterations: (n,) int32, written for each image computed. The block's size is a power of two, of
    at most `TILES_FLOATS` threads.
    """
    tile = cuda.shared.array(TILES_FLOATS, float32)
    origins = cuda.shared.array(ORIGINS, int32)
    told = cuda.shared.array(2, int32)
    team = cuda.blockIdx.x // blocks
    if cuda.threadIdx.x == 0:
        told[0], told[1] = join(teams, team, blocks)
    cuda.syncthreads()
    rank, size = told[0], told[1]
    cuda.syncthreads()
    if size == 0:
        return
    work = memory[team]
    first, step = rank * cuda.blockDim.x + cuda.threadIdx.x, size * cuda.blockDim.x
    places = (inverse, sums, other_sums, direction, image_of_direction, chunks)
    image = next_image(teams, team, rank, size, told)
    while image < out.shape[0]:
        if active[image] != ZERO:
            _weigh(
                work,
                levels,
                guide,
                out,
                image,
                scale,
                alpha,
                offset,
                light,
                teams,
                team,
                rank,
                size,
            )
            taken = _solve(work, levels, places, out, image, tol, teams, team, rank, size, tile, origins)
            if light:
                for i in range(first, out.shape[1], step):
                    out[image, i] = from_lightness(max(out[image, i], ZERO))
            if rank == 0 and cuda.threadIdx.x == 0:
                iterations[image] = taken
        barrier(teams, team, size)
        image = next_image(teams, team, rank, size, told)


@cuda.jit
def reset(teams):
    """Make the teams' table ready for a launch."""
    for i in range(cuda.threadIdx.x, teams.shape[0], cuda.blockDim.x):
        for column in range(teams.shape[1]):
            teams[i, column] = 0


_IMAGES = float32[:, ::1]
KERNELS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    (
        "solve",
        solve,
        (
            _IMAGES, _IMAGES, float32[:], int64, float32, float32, float32, float32, _IMAGES,
            int64[:, ::1], int64, int64, int64, int64, int64, int64, int32[:, ::1], int64,
            int32[::1],
        ),
    ),
    ("reset", reset, (int32[:, ::1],)),
)  # fmt: skip
