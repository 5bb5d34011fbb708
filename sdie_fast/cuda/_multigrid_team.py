"""Teams of blocks that serve one image together: how they form, wait for each other and sum.

A team must never wait for a block that the GPU has not started, since blocks of other kernels may
hold the room until theirs are done. So a team is those of its blocks that have come when its first
one closes it; a block that comes later has nothing to do. Any team of one or more blocks gives the
same result to the last bit: sums are taken over chunks of pixels that do not depend on the team.
"""

from __future__ import annotations

import functools

from numba import cuda

from ._device import ZERO
from ._multigrid_levels import CHUNK

# A function of its own in the machine code: it is called from several places, or long.
section = functools.partial(cuda.jit, device=True, fastmath=True)

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
def barrier(teams, team, size):
    """Wait for all threads of a team; what any of them wrote before, all of them see after."""
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
def next_image(teams, team, rank, size, told):
    """Take the team's next image from the queue; told: shared memory, one int32."""
    if rank == 0 and cuda.threadIdx.x == 0:
        cuda.atomic.exch(teams, (team, IMAGE), cuda.atomic.add(teams, (0, QUEUE), 1))
    barrier(teams, team, size)
    if cuda.threadIdx.x == 0:
        told[0] = cuda.atomic.add(teams, (team, IMAGE), 0)
    cuda.syncthreads()
    return told[0]


@section
def sum_block(value, shared):
    """Sum a value over the threads of a block, whose number is a power of two; all get the sum."""
    me = cuda.threadIdx.x
    shared[me] = value
    cuda.syncthreads()
    step = cuda.blockDim.x >> 1
    while step > 0:
        if me < step:
            shared[me] += shared[me + step]
        cuda.syncthreads()
        step >>= 1
    total = shared[0]
    cuda.syncthreads()
    return total


@section
def least_of_block(value, shared):
    """As `sum_block`, but the smallest value."""
    me = cuda.threadIdx.x
    shared[me] = value
    cuda.syncthreads()
    step = cuda.blockDim.x >> 1
    while step > 0:
        if me < step:
            shared[me] = min(shared[me], shared[me + step])
        cuda.syncthreads()
        step >>= 1
    least = shared[0]
    cuda.syncthreads()
    return least


@section
def total(work, sums, chunks, shared):
    """Sum a list of the chunks' sums; every block of the team does, and all get the same."""
    value = ZERO
    for chunk in range(cuda.threadIdx.x, chunks, cuda.blockDim.x):
        value += work[sums + chunk]
    return sum_block(value, shared)


@section
def product(work, a, b, pixels, sums, rank, size, shared):
    """List the chunks' sums of a * b, planes at these places; a barrier must follow."""
    for chunk in range(rank, (pixels + CHUNK - 1) // CHUNK, size):
        value = ZERO
        for i in range(chunk * CHUNK + cuda.threadIdx.x, min((chunk + 1) * CHUNK, pixels), cuda.blockDim.x):
            value += work[a + i] * work[b + i]
        value = sum_block(value, shared)
        if cuda.threadIdx.x == 0:
            work[sums + chunk] = value
