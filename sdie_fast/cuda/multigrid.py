"""Multigrid: one V-cycle over the levels."""

from __future__ import annotations

from numba import cuda

from .kernels import ZERO, section
from .smoother import smooth
from .team import FIRST, PIXELS, RESIDUAL, SECOND, SIDE, barrier
from .transfer import restrict
from .words import get, i32, put, u32

__all__ = ["cycle"]


@section
def _solve_coarsest(work, levels, k, inverse, crew):
    """Set the last level's second correction by its inverse."""
    if crew[2] == 0:
        n = levels[k, PIXELS]
        i = u32(cuda.threadIdx.x)
        while i < u32(n):
            value = ZERO
            for j in range(n):
                value += get(work, inverse + i * n + j) * get(work, levels[k, RESIDUAL] + j)
            put(work, levels[k, SECOND] + i, value)
            i = u32(i + cuda.blockDim.x)
    barrier(crew)


@section
def cycle(work, levels, inverse, deep, step, image, sums, crew, tile, origins):
    """Set level 0's second correction z to M r, r its residual: M approximates the inverse of A.

    step, image: what r loses first, see `smooth`; sums: place of the list of sums of z r, whose length is returned.

    Without `deep` level 0 is smoothed and no more. That M is positive definite whatever the image,
    and so is the whole one wherever coarse operators have no negative couplings, of which they seldom
    have any: lines of an M-matrix solved one after the other are a weak regular splitting, and so are
    passes over tiles and their reversed ones after each other; hence smoothing shrinks the energy
    norm of any error (Ortega & Rheinboldt 1967), level by level.

    Level 0 has two passes down and two up, the others one: more of them there hardly spare an iteration.
    """
    last = levels.shape[0] - 1
    listed = i32(0)
    for turn in range(2 * last + 1):
        k = turn if turn <= last else 2 * last - turn
        if k > 0 and not deep:
            continue
        if turn == last:
            _solve_coarsest(work, levels, k, inverse, crew)
            continue
        up = turn > last
        # Down: zeros to `FIRST`, on level 0 from there to `SECOND`. Up: to `SECOND` in the end.
        passes = 2 if k == 0 else 1
        for number in range(passes):
            first = k == 0 and number == 0
            fresh = not up and number == 0
            z_in, z_out = (SECOND, FIRST) if first else (FIRST, SECOND)
            if k > 0 and not up:
                z_in, z_out = SECOND, FIRST
            offset = SIDE // 2 if k == 0 and (number == 1) != up else 0
            wanted = sums if k == 0 and up and number == 1 else -1
            loss = step if k == 0 and fresh else ZERO
            groups = smooth(
                work, levels, k, z_in, z_out, fresh, up and deep and number == 0, loss, image, offset, up, wanted, crew, tile, origins
            )  # fmt: skip
            if wanted >= 0:
                listed = groups
            barrier(crew)
        if deep and not up:
            restrict(work, levels, k, SECOND if k == 0 else FIRST, crew, tile)
    return listed
