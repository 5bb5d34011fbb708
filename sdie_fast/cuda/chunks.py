"""How tridiagonal systems' lines are read and written: rows through shared memory, columns as they lie."""

from __future__ import annotations

from numba import cuda, int32, uint32, uint64

from .kernels import ZERO, part
from .nodes import CHUNK, Place

__all__ = [
    "STAGED", "WARP", "column_of_thread", "load_column", "load_row", "row_of_thread", "store_column", "store_row",
]  # fmt: skip

ROW_THREADS = 256  # of a block that solves rows, at most
WARP = 32
CHUNK_BITS = CHUNK.bit_length() - 1
# A line of a block of rows in shared memory: the pixel before it, a word, its chunks and a word after each.
BEFORE_CHUNKS = 2
STAGED = ROW_THREADS * (CHUNK + 1) + BEFORE_CHUNKS * (ROW_THREADS // 2)
STAGED_STEP = WARP + (WARP >> CHUNK_BITS)  # between pixels a warp apart


@part
def row_of_thread(first_row):
    """(segment, line, `Place`) of a thread that solves rows, see `tridiagonal`."""
    slots, lines = int32(cuda.blockDim.x), int32(cuda.blockDim.y)
    line = int32((cuda.blockIdx.y + first_row) * lines + cuda.threadIdx.y)
    at = int32(cuda.threadIdx.y * slots + cuda.threadIdx.x)
    return int32(cuda.blockIdx.x), line, Place(int32(cuda.threadIdx.x), slots, at, int32(1), lines, slots, at)


@part
def _pixels_of_row(u, line, segment, place):
    """(pixels of the segment, of which the thread's; where a block's line and the thread's chunk are staged)."""
    first = int32(segment * place.slots * CHUNK)
    count = min(int32(u.shape[2] - first), int32(place.slots * CHUNK))
    own = int32(0)
    if line < u.shape[1]:
        own = int32(count - place.slot * CHUNK)
    pitch = int32(place.slots * (CHUNK + 1) + BEFORE_CHUNKS)
    return first, count, own, pitch


@part
def load_row(source, guide, plane, line, segment, place, staged, staged_guide, value, seen):
    """Read a chunk of `source` and of the guide: (how many pixels it has, is there one before it)."""
    first, count, own, pitch = _pixels_of_row(source, line, segment, place)
    warp, lane = int32(place.thread >> 5), int32(place.thread & (WARP - 1))
    warps = int32((place.slots * place.lines) >> 5)  # whole ones
    top = int32(line - cuda.threadIdx.y)
    last = min(place.lines, int32(source.shape[1] - top))
    if warp >= warps:
        last = int32(0)
    left = int32(count - lane)
    x = uint64(first + lane)
    while warp < last:
        y = uint64(top + warp)
        start = int32(warp * pitch)
        to = uint32(start + BEFORE_CHUNKS + lane + (lane >> CHUNK_BITS))
        for k in range(CHUNK):
            if k * WARP < left:
                staged[to + k * STAGED_STEP] = source[plane, y, x + uint64(k * WARP)]
                staged_guide[to + k * STAGED_STEP] = guide[plane, y, x + uint64(k * WARP)]
        if segment > 0 and lane == 0:
            staged_guide[uint32(start)] = guide[plane, y, uint64(first - 1)]
        warp = int32(warp + warps)
    cuda.syncthreads()
    at = uint32(cuda.threadIdx.y * pitch + BEFORE_CHUNKS + place.slot * (CHUNK + 1))
    joined = segment + place.slot > 0
    if own >= CHUNK:
        for i in range(CHUNK):
            value[i] = staged[at + i]
            seen[i + 1] = staged_guide[at + i]
    else:
        for i in range(CHUNK):
            value[i] = ZERO
            seen[i + 1] = ZERO
            if i < own:
                value[i] = staged[at + i]
                seen[i + 1] = staged_guide[at + i]
    seen[0] = seen[1]
    if joined and own > 0:
        seen[0] = staged_guide[uint32(at - BEFORE_CHUNKS)]
    return own, joined


@part
def store_row(u, plane, line, segment, place, staged, value, own):
    """Write a chunk's values, of which `own` lie in the plane."""
    first, count, _, pitch = _pixels_of_row(u, line, segment, place)
    at = uint32(cuda.threadIdx.y * pitch + BEFORE_CHUNKS + place.slot * (CHUNK + 1))
    for i in range(CHUNK):
        staged[at + i] = value[i]
    cuda.syncthreads()
    warp, lane = int32(place.thread >> 5), int32(place.thread & (WARP - 1))
    warps = int32((place.slots * place.lines) >> 5)
    top = int32(line - cuda.threadIdx.y)
    last = min(place.lines, int32(u.shape[1] - top))
    if warp >= warps:
        last = int32(0)
    left = int32(count - lane)
    x = uint64(first + lane)
    while warp < last:
        y = uint64(top + warp)
        at = uint32(warp * pitch + BEFORE_CHUNKS + lane + (lane >> CHUNK_BITS))
        for k in range(CHUNK):
            if k * WARP < left:
                u[plane, y, x + uint64(k * WARP)] = staged[at + k * STAGED_STEP]
        warp = int32(warp + warps)


@part
def column_of_thread(first_row):
    """As `row_of_thread`, of a thread that solves columns."""
    lines, slot = int32(cuda.blockDim.x), int32(cuda.threadIdx.y)
    line = int32(cuda.blockIdx.x * lines + cuda.threadIdx.x)
    at = int32(slot * lines + cuda.threadIdx.x)
    place = Place(slot, int32(cuda.blockDim.y), at, lines, lines, int32(1), at)
    return int32(cuda.blockIdx.y + first_row), line, place


@part
def load_column(source, guide, plane, line, segment, place, staged, staged_guide, value, seen):
    """As `load_row`."""
    first = int32((segment * place.slots + place.slot) * CHUNK)
    own = int32(0)
    if line < source.shape[2]:
        own = int32(source.shape[1] - first)
    x, y = uint64(line), uint64(first)
    if own >= CHUNK:
        for i in range(CHUNK):
            value[i] = source[plane, y + uint64(i), x]
            seen[i + 1] = guide[plane, y + uint64(i), x]
    else:
        for i in range(CHUNK):
            value[i] = ZERO
            seen[i + 1] = ZERO
            if i < own:
                value[i] = source[plane, y + uint64(i), x]
                seen[i + 1] = guide[plane, y + uint64(i), x]
    seen[0] = seen[1]
    if first > 0 and own > 0:
        seen[0] = guide[plane, uint64(first - 1), x]
    return own, first > 0


@part
def store_column(u, plane, line, segment, place, staged, value, own):
    """As `store_row`."""
    x, y = uint64(line), uint64((segment * place.slots + place.slot) * CHUNK)
    if own >= CHUNK:
        for i in range(CHUNK):
            u[plane, y + uint64(i), x] = value[i]
    else:
        for i in range(CHUNK):
            if i < own:
                u[plane, y + uint64(i), x] = value[i]
