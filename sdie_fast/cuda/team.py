"""A team of blocks that serves one image: its memory, how it forms, how its blocks wait for each other and sum.

**Memory.** Level 0 is the image; each further one keeps every other row and column, down to `COARSEST`
unknowns. A level's arrays are planes of its own height * width, row-major and without padding; a coupling
that would leave the image is zero, so that a pixel's neighbour may be read wherever it exists in memory.

**Teams.** A team must never wait for a block that the GPU has not started, since blocks of other kernels
may hold the room until theirs are done. So a team is those of its blocks that have come when its first
one closes it; a block that comes later has nothing to do. Any team of one or more blocks gives the
same result to the last bit: sums are taken over chunks of pixels that do not depend on the team.

In kernels `crew` is (teams' table, number of the team, this block's rank in it, blocks in it).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from .kernels import ZERO, ceil_div, part, section

__all__ = ["barrier", "join", "lay_out", "least_of_block", "next_image", "places", "product", "sum_block", "total"]

COARSEST = 16  # most unknowns of the last level, which is solved by its inverse
CHUNK = 2048  # pixels whose products are summed by one block: what a sum's rounding depends on
ALIGN = 32  # floats: 128 bytes, a cache line

# Columns of the levels' table: size, then the places of the arrays.
#   EAST, SOUTH, SOUTH_EAST, SOUTH_WEST: coupling of a pixel with the one in that direction (the
#     diagonals from level 1 on); GROUND: its coupling with ground (1 on level 0)
#   RESIDUAL: right-hand side; FIRST, SECOND: corrections, in turn
#   TO: six planes of the next level's size, the weights of the interpolation from it, see
#     `_multigrid_coarsen`
(
    HEIGHT, WIDTH, PIXELS, EAST, SOUTH, SOUTH_EAST, SOUTH_WEST, GROUND, RESIDUAL, FIRST, SECOND, TO,
) = range(12)  # fmt: skip
COLUMNS = 12
WEIGHTS = 6

# What lies before the levels' arrays: two lists of sums, one value a chunk, and the last level's
# inverse.
_HEAD = COARSEST * COARSEST


@dataclasses.dataclass(frozen=True)
class Levels:
    """The layout of a team's memory for images of one size; places count float32 values.

    Attributes
    ----------
    table : (levels, COLUMNS) int64
        See the columns' names.
    inverse, sums, other_sums, direction, image_of_direction : int
        Places of what the solver needs beside the levels.
    chunks : int
        Length of a list of sums.
    floats : int
        Size of the memory.
    """

    table: npt.NDArray[np.int64]
    inverse: int
    sums: int
    other_sums: int
    direction: int
    image_of_direction: int
    chunks: int
    floats: int


def lay_out(height: int, width: int) -> Levels:
    """Lay out the memory of one team for images of height x width, both at least 1."""
    used = 0

    def take(floats: int) -> int:
        nonlocal used
        at = used
        used += ceil_div(floats, ALIGN) * ALIGN
        return at

    pixels = height * width
    chunks = ceil_div(pixels, CHUNK)
    inverse, sums, other_sums = take(_HEAD), take(chunks), take(chunks)
    direction, image_of_direction = take(pixels), take(pixels)
    rows: list[list[int]] = []
    while True:
        n = height * width
        last = bool(rows) and n <= COARSEST
        row = [height, width, n, take(n), take(n)]
        row += [take(n), take(n), take(n)] if rows else [0, 0, 0]
        row += [take(n), take(n), take(n)]
        height, width = ceil_div(height, 2), ceil_div(width, 2)
        row.append(0 if last else take(WEIGHTS * height * width))
        rows.append(row)
        if last:
            break
    return Levels(np.array(rows, np.int64), inverse, sums, other_sums, direction, image_of_direction, chunks, used)


# Columns of the teams' table, (teams, TEAM) int32, all 0 at first. The next image of all teams is
# [0, QUEUE].
ARRIVED, SIZE, WAITING, GENERATION, IMAGE, QUEUE = range(6)
TEAM = 8
CLOSED = 1 << 20  # added to `ARRIVED` when the team is closed; more than the blocks of a grid
PATIENCE = 400  # times that the first block looks whether all have come, each about half a microsecond


@section
def join(teams, team, blocks):
    """Let this block's first thread join; returns (rank, size), or a size of 0: come too late."""
    rank = cuda.atomic.add(teams, (team, ARRIVED), 1)
    if rank >= CLOSED:
        return rank, 0
    if rank == 0:
        for _ in range(PATIENCE):
            if cuda.atomic.add(teams, (team, ARRIVED), 0) >= blocks:
                break
        size = cuda.atomic.add(teams, (team, ARRIVED), CLOSED)
        cuda.threadfence()
        cuda.atomic.exch(teams, (team, SIZE), size)
        return rank, size
    size = 0
    while size == 0:
        size = cuda.atomic.add(teams, (team, SIZE), 0)
    return rank, size


@section
def barrier(crew):
    """Wait for all threads of a team; what any of them wrote before, all of them see after."""
    teams, team, _, size = crew
    cuda.syncthreads()
    if size > 1:
        if cuda.threadIdx.x == 0:
            cuda.threadfence()
            now = cuda.atomic.add(teams, (team, GENERATION), 0)
            if cuda.atomic.add(teams, (team, WAITING), 1) == size - 1:
                cuda.atomic.exch(teams, (team, WAITING), 0)
                cuda.threadfence()
                cuda.atomic.add(teams, (team, GENERATION), 1)
            else:
                while cuda.atomic.add(teams, (team, GENERATION), 0) == now:
                    pass
            cuda.threadfence()
        cuda.syncthreads()


@section
def next_image(crew, told):
    """Take the team's next image from the queue; told: shared memory, one int32."""
    teams, team, rank, _ = crew
    if rank == 0 and cuda.threadIdx.x == 0:
        cuda.atomic.exch(teams, (team, IMAGE), cuda.atomic.add(teams, (0, QUEUE), 1))
    barrier(crew)
    if cuda.threadIdx.x == 0:
        told[0] = cuda.atomic.add(teams, (team, IMAGE), 0)
    cuda.syncthreads()
    return told[0]


@part
def places(crew):
    """Give the first of a thread's places in an array that all threads of a team share, and the step to the next."""
    _, _, rank, size = crew
    return rank * cuda.blockDim.x + cuda.threadIdx.x, size * cuda.blockDim.x


def _over_block(combine: Any) -> Any:
    @section
    def over_block(value, shared):
        """Combine a value of each thread of a block, whose number is a power of two; all get the result."""
        me = cuda.threadIdx.x
        shared[me] = value
        cuda.syncthreads()
        step = cuda.blockDim.x >> 1
        while step > 0:
            if me < step:
                shared[me] = combine(shared[me], shared[me + step])
            cuda.syncthreads()
            step >>= 1
        result = shared[0]
        cuda.syncthreads()
        return result

    return over_block


@part
def _plus(a, b):
    return a + b


@part
def _least(a, b):
    return min(a, b)


sum_block, least_of_block = _over_block(_plus), _over_block(_least)


@section
def total(work, sums, chunks, shared):
    """Sum a list of the chunks' sums; every block of the team does, and all get the same."""
    value = ZERO
    for chunk in range(cuda.threadIdx.x, chunks, cuda.blockDim.x):
        value += work[sums + chunk]
    return sum_block(value, shared)


@section
def product(work, a, b, pixels, sums, crew, shared):
    """List the chunks' sums of a * b, planes at these places; a barrier must follow."""
    _, _, rank, size = crew
    for chunk in range(rank, (pixels + CHUNK - 1) // CHUNK, size):
        value = ZERO
        for i in range(chunk * CHUNK + cuda.threadIdx.x, min((chunk + 1) * CHUNK, pixels), cuda.blockDim.x):
            value += work[a + i] * work[b + i]
        value = sum_block(value, shared)
        if cuda.threadIdx.x == 0:
            work[sums + chunk] = value
