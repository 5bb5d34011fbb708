"""A team of blocks that serves one image: its memory, how it forms, how its blocks wait for each other and sum.

**Memory.** Level 0 is the image; each further one keeps every other row and column, down to `COARSEST`
unknowns. A level's arrays are planes of its own height * width, row-major and without padding, but with zeros before
and after; a coupling that would leave the image is zero, so that a pixel's neighbour may be read whether it exists or
not.

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

from ..errors import InvalidArgumentError
from .kernels import SIMULATED, ZERO, ceil_div, part, section
from .words import get, i32, look, pause, put, u32

__all__ = [
    "barrier",
    "clear_margins",
    "join",
    "lay_out",
    "least_of_block",
    "next_image",
    "places",
    "sum_block",
    "total",
]

# Threads of a block, a power of two: four warps load and store what two of them solve. Fewer where
# each is a thread of Python's.
THREADS = 4 if SIMULATED else 128
COARSEST = 16  # most unknowns of the last level, which is solved by its inverse
SIDE = 16  # of the smoother's tiles
CHUNK = 2048  # pixels whose products are summed by one block: what a sum's rounding depends on
ALIGN = 32  # floats: 128 bytes, a cache line

# Columns of the levels' table: size, then the places of the arrays.
#   EAST, SOUTH, SOUTH_EAST, SOUTH_WEST: coupling of a pixel with the one in that direction (the
#     diagonals from level 1 on); PAIR, DIAGONALS: the same in pairs of bfloat16, see `words.pair`
#   GROUND: a pixel's coupling with ground (1 on level 0)
#   RESIDUAL: right-hand side; FIRST, SECOND: corrections, in turn
#   TO: three planes of the next level's size, the weights of the interpolation from it (transfer.py)
(
    HEIGHT, WIDTH, PIXELS, EAST, SOUTH, SOUTH_EAST, SOUTH_WEST, PAIR, DIAGONALS, GROUND, RESIDUAL, FIRST, SECOND, TO,
) = range(14)  # fmt: skip
COLUMNS = 14
WEIGHTS = 3
ABSENT = (SOUTH_EAST, SOUTH_WEST, DIAGONALS, GROUND)  # of level 0


@dataclasses.dataclass(frozen=True)
class Levels:
    """The layout of a team's memory for images of one size; places count float32 values.

    Attributes
    ----------
    table : (levels, COLUMNS) int32
        See the columns' names.
    inverse, sums, other_sums, direction, image_of_direction : int
        Places of what the solver needs beside the levels: the last level's inverse, two lists of sums, two planes.
    chunks : int
        Length of a list of sums, of what is summed by pixels.
    floats : int
        Size of the memory.
    """

    table: npt.NDArray[np.int32]
    inverse: int
    sums: int
    other_sums: int
    direction: int
    image_of_direction: int
    chunks: int
    floats: int


def lay_out(height: int, width: int) -> Levels:
    """Lay out the memory of one team for images of height x width, both at least 1.

    Raises
    ------
    InvalidArgumentError
        Places would not be numbers of 32 bits.
    """
    used = 0

    def take(floats: int, margin: int = 0) -> int:
        nonlocal used
        at = used + ceil_div(margin, ALIGN) * ALIGN
        used = at + ceil_div(floats + margin, ALIGN) * ALIGN
        return at

    pixels = height * width
    chunks = ceil_div(pixels, CHUNK)
    # As long as there may be blocks in a team, at least.
    listed = ceil_div(height, SIDE) * ceil_div(width, SIDE)
    inverse, sums, other_sums = take(COARSEST * COARSEST), take(listed), take(listed)
    direction, image_of_direction = take(pixels), take(pixels)
    rows: list[list[int]] = []
    while True:
        n = height * width
        last = bool(rows) and n <= COARSEST
        row = [height, width, n]
        row += [take(n, width + 1) if rows or column not in ABSENT else 0 for column in range(EAST, TO)]
        height, width = ceil_div(height, 2), ceil_div(width, 2)
        row.append(0 if last else take(WEIGHTS * height * width))
        rows.append(row)
        if last:
            break
    if used >= 2**31:
        raise InvalidArgumentError(
            f"image: received {rows[0][0]} x {rows[0][1]} pixels; accepted by exact WLS on a GPU: about "
            f"{pixels * 2**31 // used // 10**6} million pixels (to fix: wls_solver='fast')"
        )
    return Levels(np.array(rows, np.int32), inverse, sums, other_sums, direction, image_of_direction, chunks, used)


@section
def clear_margins(work, levels, crew):
    """Set to 0 what lies before and after each plane, a row and a pixel: so that neighbours need no test."""
    first, step = places(crew)
    for k in range(levels.shape[0]):
        n, margin = i32(levels[k, PIXELS]), i32(levels[k, WIDTH] + 1)
        for column in range(EAST, TO):
            at = i32(levels[k, column])
            i = first
            while at > 0 and i < u32(margin):
                put(work, at - margin + i32(i), ZERO)
                put(work, at + n + i32(i), ZERO)
                i = u32(i + step)


# Columns of the teams' table, (teams, TEAM) int32, all 0 at first. The next image of all teams is [0, QUEUE]. What
# blocks wait for lies on a cache line of its own, apart from what others write meanwhile.
LINE = 32
PHASE, SIZE, ARRIVED, IMAGE, QUEUE = 0, LINE, 2 * LINE, 2 * LINE + 1, 2 * LINE + 2
TEAM = 3 * LINE
CLOSED = 1 << 20  # added to `ARRIVED` when the team is closed; more than the blocks of a grid
PATIENCE = 400  # times that the first block looks whether all have come, half a microsecond apart
TURNED = 1 << 30  # of `PHASE`: changes when all have come to a barrier; below it, those that have come


@section
def join(teams, team, blocks):
    """Let this block's first thread join; returns (rank, size), or a size of 0: come too late."""
    rank = cuda.atomic.add(teams, (team, ARRIVED), 1)
    if rank >= CLOSED:
        return rank, 0
    if rank == 0:
        for _ in range(PATIENCE):
            if look(teams, team, ARRIVED) >= blocks:
                break
            pause(500)
        size = cuda.atomic.add(teams, (team, ARRIVED), CLOSED)
        cuda.threadfence()
        cuda.atomic.exch(teams, (team, SIZE), size)
        return rank, size
    size = look(teams, team, SIZE)
    while size == 0:
        pause(100)
        size = look(teams, team, SIZE)
    return rank, size


@section
def barrier(crew):
    """Wait for all threads of a team; what any of them wrote before, all of them see after.

    Blocks that come add 1 to a word. The first one adds what is left to a whole turn of it, so that the word says by
    itself when all have come, and in which turn a block came: there is no second word that could be read too early
    or too late.
    """
    teams, team, rank, size = crew
    cuda.syncthreads()
    if size > 1:
        if cuda.threadIdx.x == 0:
            own = 1
            if rank == 0:  # without it the turn cannot end
                turn = TURNED if (look(teams, team, PHASE) & TURNED) == 0 else -TURNED
                own = turn - (size - 1)
            cuda.threadfence()
            before = cuda.atomic.add(teams, (team, PHASE), np.int32(own))
            while ((look(teams, team, PHASE) ^ before) & TURNED) == 0:
                pause(100)
        cuda.syncthreads()


@section
def next_image(crew, told):
    """Take the team's next image from the queue; told: shared memory, one int32."""
    teams, team, rank, _ = crew
    if rank == 0 and cuda.threadIdx.x == 0:
        cuda.atomic.exch(teams, (team, IMAGE), cuda.atomic.add(teams, (0, QUEUE), 1))
    barrier(crew)
    if cuda.threadIdx.x == 0:
        told[0] = look(teams, team, IMAGE)
    cuda.syncthreads()
    return told[0]


@part
def places(crew):
    """Give the first of a thread's places in an array that all threads of a team share, and the step to the next."""
    _, _, rank, size = crew
    return u32(rank * cuda.blockDim.x + cuda.threadIdx.x), u32(size * cuda.blockDim.x)


def _over_block(combine: Any) -> Any:
    @section
    def over_block(value, shared):
        """Combine a value of each thread of a block, whose number is a power of two; all get the result."""
        me, step = i32(cuda.threadIdx.x), i32(cuda.blockDim.x >> 1)
        put(shared, me, value)
        cuda.syncthreads()
        while step > 0:
            if me < step:
                put(shared, me, combine(get(shared, me), get(shared, me + step)))
            cuda.syncthreads()
            step = i32(step >> 1)
        result = get(shared, 0)
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
def total(sums, count, shared):
    """Sum a list of sums; every block of the team does, and all get the same."""
    value = ZERO
    i = u32(cuda.threadIdx.x)
    while i < u32(count):
        value += get(sums, i)
        i = u32(i + cuda.blockDim.x)
    return sum_block(value, shared)
