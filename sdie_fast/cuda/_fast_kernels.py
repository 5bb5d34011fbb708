"""Kernels of the fast weighted least squares: rows and columns of planes, see `_fast_lines`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, int64

from ._device import INDEX, ONE, PLACE, ZERO, part
from ._fast_lines import (
    CHUNK,
    CHUNK_BITS,
    COLUMN_NODES,
    COLUMN_THREADS,
    COUPLING,
    CURRENT,
    CURRENT_BEFORE,
    GROUND,
    GROUND_BEFORE,
    NODE_FIELDS,
    ROW_NODES,
    ROW_THREADS,
    STAGED,
    eliminate,
    reduce_nodes,
    solve_nodes,
    substitute,
)


@part
def _stage(source, scale, plane, line, first, staged):
    """Copy a segment of a row to shared memory, coalesced; pixels past the end become 0."""
    lanes = cuda.blockDim.x
    base = cuda.threadIdx.y * lanes * (CHUNK + 1)
    height, width = source.shape[1], source.shape[2]
    if line < height and first + lanes * CHUNK <= width:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            value = source[plane, line & PLACE, (first + i) & PLACE]
            staged[(base + i + (i >> CHUNK_BITS)) & INDEX] = value * scale
    else:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            value = ZERO
            if line < height and first + i < width:
                value = source[plane, line & PLACE, (first + i) & PLACE] * scale
            staged[(base + i + (i >> CHUNK_BITS)) & INDEX] = value


@part
def _load_row(u, edges, scale, plane, line, first, staged_u, staged_edges, left, value):
    """Read a segment of a row; left[] and value[] of `eliminate` become this thread's chunk."""
    _stage(u, ONE, plane, line, first, staged_u)
    _stage(edges, scale, plane, line, first, staged_edges)
    cuda.syncthreads()
    own = ((cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * (CHUNK + 1)) & INDEX
    for i in range(CHUNK):
        value[i] = staged_u[own + i]
        left[i] = staged_edges[own + i]


@part
def _load_column(u, edges, scale, plane, line, first, left, value):
    """Read a chunk of a column: left[] and value[] of `eliminate`."""
    height, width = u.shape[1], u.shape[2]
    if line < width and first + CHUNK <= height:
        for i in range(CHUNK):
            left[i] = edges[plane, (first + i) & PLACE, line & PLACE] * scale
            value[i] = u[plane, (first + i) & PLACE, line & PLACE]
    else:
        for i in range(CHUNK):
            left[i] = ZERO
            value[i] = ZERO
            if line < width and first + i < height:
                left[i] = edges[plane, (first + i) & PLACE, line & PLACE] * scale
                value[i] = u[plane, (first + i) & PLACE, line & PLACE]


@part
def _store_column(u, plane, line, first, value):
    height, width = u.shape[1], u.shape[2]
    if line < width and first + CHUNK <= height:
        for i in range(CHUNK):
            u[plane, (first + i) & PLACE, line & PLACE] = value[i]
    else:
        for i in range(CHUNK):
            if line < width and first + i < height:
                u[plane, (first + i) & PLACE, line & PLACE] = value[i]


@part
def _store_row(u, plane, line, first, staged):
    """Copy a segment from shared memory to a row, coalesced."""
    lanes = cuda.blockDim.x
    base = cuda.threadIdx.y * lanes * (CHUNK + 1)
    height, width = u.shape[1], u.shape[2]
    if line < height and first + lanes * CHUNK <= width:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            value = staged[(base + i + (i >> CHUNK_BITS)) & INDEX]
            u[plane, line & PLACE, (first + i) & PLACE] = value
    else:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            if line < height and first + i < width:
                value = staged[(base + i + (i >> CHUNK_BITS)) & INDEX]
                u[plane, line & PLACE, (first + i) & PLACE] = value


@part
def _known(segment, segments):
    """Which ends of a segment have their values in `ends`: see `solve_nodes`."""
    known = 0
    if segment > 0:
        known += 1
    if segment + 1 < segments:
        known += 2
    return known


@cuda.jit(fastmath=True)
def solve_rows(u, edges, scale, active, segments, ends, first_row, first_plane):
    """Solve every row of u in place, one segment of a row to each line of threads.

    edges[y, x] joins (y, x - 1) and (y, x); `scale` is lambda. `ends`, of (planes, segments, H), has
    the value of each segment's last pixel, where there are several. Block: (chunks of a segment,
    rows); grid: (segments, groups of rows, planes).
    """
    staged_u = cuda.shared.array(STAGED, float32)
    staged_edges = cuda.shared.array(STAGED, float32)
    grounds = cuda.shared.array(ROW_THREADS, float32)
    currents = cuda.shared.array(ROW_THREADS, float32)
    lefts = cuda.shared.array(ROW_THREADS, float32)
    rights = cuda.shared.array(ROW_THREADS, float32)
    left = cuda.local.array(CHUNK, float32)
    value = cuda.local.array(CHUNK, float32)
    into_before = cuda.local.array(CHUNK, float32)
    into_next = cuda.local.array(CHUNK, float32)
    constant = cuda.local.array(CHUNK, float32)
    node = cuda.local.array(NODE_FIELDS, float32)

    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if active[plane] == ZERO:
        return
    segment = cuda.blockIdx.x & PLACE
    first = segment * (cuda.blockDim.x * CHUNK)
    line = (cuda.blockIdx.y + first_row) * cuda.blockDim.y + cuda.threadIdx.y
    slot, slots = cuda.threadIdx.x, cuda.blockDim.x
    at = (cuda.threadIdx.y * slots + slot) & INDEX

    _load_row(u, edges, scale, plane, line, first, staged_u, staged_edges, left, value)
    eliminate(left, value, into_before, into_next, constant, node)
    known = _known(segment, segments)
    before, last = ZERO, ZERO
    if line < u.shape[1]:
        if known & 1:
            before = ends[plane, segment - 1, line]
        if known & 2:
            last = ends[plane, segment, line]
    before, last = solve_nodes(node, slot, slots, at, 1, known, before, last, grounds, currents, lefts, rights)
    substitute(value, before, last, into_before, into_next, constant)
    own = (at * (CHUNK + 1)) & INDEX
    for i in range(CHUNK):
        staged_u[own + i] = value[i]
    cuda.syncthreads()
    _store_row(u, plane, line, first, staged_u)


@cuda.jit(fastmath=True)
def solve_columns(u, edges, scale, active, segments, ends, first_row, first_plane):
    """Solve every column of u in place; edges[y, x] joins (y - 1, x) and (y, x).

    `ends` is (planes, segments, W). Block: (columns, at most COLUMNS; chunks of a segment); grid:
    (groups of columns, segments, planes).
    """
    grounds = cuda.shared.array(COLUMN_THREADS, float32)
    currents = cuda.shared.array(COLUMN_THREADS, float32)
    lefts = cuda.shared.array(COLUMN_THREADS, float32)
    rights = cuda.shared.array(COLUMN_THREADS, float32)
    left = cuda.local.array(CHUNK, float32)
    value = cuda.local.array(CHUNK, float32)
    into_before = cuda.local.array(CHUNK, float32)
    into_next = cuda.local.array(CHUNK, float32)
    constant = cuda.local.array(CHUNK, float32)
    node = cuda.local.array(NODE_FIELDS, float32)

    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if active[plane] == ZERO:
        return
    segment = (cuda.blockIdx.y + first_row) & PLACE
    lines, slot, slots = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockDim.y
    line = cuda.blockIdx.x * lines + cuda.threadIdx.x
    first = (segment * slots + slot) * CHUNK
    at = (slot * lines + cuda.threadIdx.x) & INDEX

    _load_column(u, edges, scale, plane, line, first, left, value)
    eliminate(left, value, into_before, into_next, constant, node)
    known = _known(segment, segments)
    before, last = ZERO, ZERO
    if line < u.shape[2]:
        if known & 1:
            before = ends[plane, segment - 1, line]
        if known & 2:
            last = ends[plane, segment, line]
    before, last = solve_nodes(node, slot, slots, at, lines, known, before, last, grounds, currents, lefts, rights)
    substitute(value, before, last, into_before, into_next, constant)
    _store_column(u, plane, line, first, value)


@cuda.jit(fastmath=True)
def reduce_rows(u, edges, scale, active, nodes, first_row, first_plane):
    """Reduce every segment of every row to its last node: nodes (5, planes, segments, H).

    Block and grid as those of `solve_rows`.
    """
    staged_u = cuda.shared.array(STAGED, float32)
    staged_edges = cuda.shared.array(STAGED, float32)
    shared = cuda.shared.array(ROW_NODES, float32)
    left = cuda.local.array(CHUNK, float32)
    value = cuda.local.array(CHUNK, float32)
    unused = cuda.local.array(CHUNK, float32)
    node = cuda.local.array(NODE_FIELDS, float32)

    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if active[plane] == ZERO:
        return
    segment = cuda.blockIdx.x & PLACE
    line = (cuda.blockIdx.y + first_row) * cuda.blockDim.y + cuda.threadIdx.y
    slot, slots = cuda.threadIdx.x, cuda.blockDim.x
    at = (cuda.threadIdx.y * slots + slot) & INDEX
    first = segment * (cuda.blockDim.x * CHUNK)
    _load_row(u, edges, scale, plane, line, first, staged_u, staged_edges, left, value)
    eliminate(left, value, unused, unused, unused, node)
    reduce_nodes(node, slot, slots, at, 1, shared)
    if slot == 0 and line < u.shape[1]:
        for k in range(NODE_FIELDS):
            nodes[k, plane, segment, line] = node[k]


@cuda.jit(fastmath=True)
def reduce_columns(u, edges, scale, active, nodes, first_row, first_plane):
    """Reduce every segment of every column to its last node: nodes (5, planes, segments, W).

    Block and grid as those of `solve_columns`.
    """
    shared = cuda.shared.array(COLUMN_NODES, float32)
    left = cuda.local.array(CHUNK, float32)
    value = cuda.local.array(CHUNK, float32)
    unused = cuda.local.array(CHUNK, float32)
    node = cuda.local.array(NODE_FIELDS, float32)

    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if active[plane] == ZERO:
        return
    segment = (cuda.blockIdx.y + first_row) & PLACE
    lines, slot, slots = cuda.blockDim.x, cuda.threadIdx.y, cuda.blockDim.y
    line = cuda.blockIdx.x * lines + cuda.threadIdx.x
    first = (segment * slots + slot) * CHUNK
    _load_column(u, edges, scale, plane, line, first, left, value)
    eliminate(left, value, unused, unused, unused, node)
    reduce_nodes(node, slot, slots, slot * lines + cuda.threadIdx.x, lines, shared)
    if slot == 0 and line < u.shape[2]:
        for k in range(NODE_FIELDS):
            nodes[k, plane, segment, line] = node[k]


@cuda.jit(fastmath=True)
def solve_ends(nodes, active, ends, first_row, first_plane):
    """Solve the line of each line's segments: ends (planes, segments, lines). One thread a line.

    Overwrites the first two fields of `nodes`.
    """
    line = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if line >= ends.shape[2] or active[plane] == ZERO:
        return
    segments = ends.shape[1]
    ground, current = ZERO, ZERO
    forward = ZERO
    for s in range(segments):
        ground = nodes[GROUND, plane, s, line] + ground * forward
        current = nodes[CURRENT, plane, s, line] + current * forward
        after = ZERO
        if s + 1 < segments:
            ground += nodes[GROUND_BEFORE, plane, s + 1, line]
            current += nodes[CURRENT_BEFORE, plane, s + 1, line]
            after = nodes[COUPLING, plane, s + 1, line]
        inverse = ONE / (ground + after)
        forward = after * inverse
        nodes[COUPLING, plane, s, line] = forward
        nodes[GROUND, plane, s, line] = current * inverse
    value = ZERO
    for k in range(segments):
        s = segments - 1 - k
        value = nodes[GROUND, plane, s, line] + nodes[COUPLING, plane, s, line] * value
        ends[plane, s, line] = value


_PLANES = float32[:, :, ::1]
_NODES = float32[:, :, :, ::1]
_ACTIVE = float32[::1]
_AT = (int64, int64)
KERNELS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    ("solve_rows", solve_rows, (_PLANES, _PLANES, float32, _ACTIVE, int64, _PLANES, *_AT)),
    ("solve_columns", solve_columns, (_PLANES, _PLANES, float32, _ACTIVE, int64, _PLANES, *_AT)),
    ("reduce_rows", reduce_rows, (_PLANES, _PLANES, float32, _ACTIVE, _NODES, *_AT)),
    ("reduce_columns", reduce_columns, (_PLANES, _PLANES, float32, _ACTIVE, _NODES, *_AT)),
    ("solve_ends", solve_ends, (_NODES, _ACTIVE, _PLANES, *_AT)),
)
