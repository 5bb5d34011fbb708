"""Multigrid: set-up of all levels, and one V-cycle, a symmetric preconditioner."""

from __future__ import annotations

from numba import cuda

from ._device import F32, ONE, ZERO
from ._multigrid_coarsen import coarsen, go_down, go_up
from ._multigrid_levels import (
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
    WIDTH,
)
from ._multigrid_team import barrier, section
from ._multigrid_tiles import SIDE, smooth

HALF_SIDE = SIDE // 2


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
def set_up(work, levels, inverse, teams, team, rank, size, shared):
    """Set all coarse operators from level 0's couplings."""
    last = levels.shape[0] - 1
    for k in range(last):
        coarsen(work, levels, k, teams, team, rank, size)
    if rank == 0:
        _invert(work, levels, last, inverse, shared)
    barrier(teams, team, size)


@section
def _smooth_level(work, levels, k, offset, start, backwards, teams, team, rank, size, tile, origins):
    """One pass of the smoother; returns where the correction is afterwards."""
    z_in = start
    z_out = levels[k, FIRST] if start == levels[k, SECOND] else levels[k, SECOND]
    if start < 0:
        z_out = levels[k, SECOND] if one_tile(levels, k) else levels[k, FIRST]
    elif one_tile(levels, k):
        z_out = start
    smooth(work, levels, k, z_in, z_out, offset, backwards, rank, size, tile, origins)
    barrier(teams, team, size)
    return z_out


@section
def one_tile(levels, k):
    """Whether a tile holds the level: then one pass is all there is to do."""
    return levels[k, HEIGHT] <= SIDE and levels[k, WIDTH] <= SIDE


@section
def cycle(work, levels, inverse, deep, teams, team, rank, size, tile, origins):
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
            if rank == 0:
                for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                    value = ZERO
                    for j in range(n):
                        value += work[inverse + i * n + j] * work[levels[k, RESIDUAL] + j]
                    work[levels[k, SECOND] + i] = value
            barrier(teams, team, size)
        else:
            up = turn > last
            z = levels[k, SECOND] if up else -1
            if up and deep:
                go_up(work, levels, k, z, levels[k + 1, SECOND], teams, team, rank, size)
            alone = one_tile(levels, k)
            for step in range(1 if alone else 2):
                # Down: whole tiles, then shifted ones; up: the other way round.
                offset = HALF_SIDE if (step == 1) != up and not alone else 0
                z = _smooth_level(work, levels, k, offset, z, up, teams, team, rank, size, tile, origins)
            if deep and not up:
                go_down(work, levels, k, z, teams, team, rank, size)
