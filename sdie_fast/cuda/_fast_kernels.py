"""Kernels of the fast weighted least squares: many tridiagonal systems, each solved by many threads.

Every system is I + lambda L, L the weighted Laplacian of a line of pixels, in which the right-hand
side is the line itself. Read as a resistor network: node i hangs on ground (its pixel's value) by
conductance 1 and on its neighbours by lambda * a. Eliminating a node replaces it by conductances
between its neighbours and to ground (star-mesh transformation), all of them sums and products of
positive numbers: nothing cancels in float32 even where the weights reach 1e4 times lambda.

Who solves what, and why:

- A thread holds `CHUNK` nodes of a line in registers and eliminates all but the last, which leaves
  the threads of a line with a line of one node each (Wang's partition method, 1981). Each pixel is
  read once and written once.
- These nodes are solved by parallel cyclic reduction (Hockney & Jesshope 1981) through shared
  memory: log2 of their number in steps, no serial walk, and the same code for rows (threads of a
  line side by side) and columns (threads of a line one below the other; reads and writes are
  coalesced as they are).
- Rows go through shared memory to be read and written coalesced: each thread's nodes are consecutive
  there, with a word of padding after each chunk so that no two threads of a warp meet in one bank.
- Lines longer than `CHUNK` * `SLOTS` are cut into segments of equal length. A first kernel reduces each segment to
  one node; a second solves the nodes of each line, serially: there are 64 even in 16,384 pixels;
  the third is the kernel of short lines, given the nodes' values on both sides.

So both one image of 200 x 200 (25 threads a line) and a line of 16,384 pixels have threads to spare,
where one thread a line would walk thousands of dependent steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, int64

from ._device import INDEX, ONE, PLACE, ZERO, part

CHUNK_BITS = 3
CHUNK = 1 << CHUNK_BITS  # nodes of a thread
SLOTS = 32  # most chunks of a segment
ROW_THREADS = 256  # of a block that solves rows
COLUMNS = 32  # most lines of a block that solves columns: their pixels are one coalesced read
COLUMN_THREADS = COLUMNS * SLOTS

# What a segment is reduced to, in the order of the first axis of `nodes`: its last node's coupling
# to the last node of the segment before, its conductance to ground and the current from there, and
# what the segment adds of both to the node before.
COUPLING, GROUND, CURRENT, GROUND_BEFORE, CURRENT_BEFORE = range(5)
NODE_FIELDS = 5
STAGED = ROW_THREADS * (CHUNK + 1)
ROW_NODES = (NODE_FIELDS, ROW_THREADS)
COLUMN_NODES = (NODE_FIELDS, COLUMN_THREADS)


@part
def _eliminate(left, value, into_before, into_next, constant, node):
    """Eliminate all nodes of a chunk but its last.

    left[i] couples node i with the one before it, of the chunk before for i = 0; value[i] is the
    pixel. Node i < CHUNK - 1 is then constant[i] + into_before[i] * (last node of the chunk before)
    + into_next[i] * (node i + 1). node: see `COUPLING`.
    """
    coupling, ground, current = left[0], ONE, value[0]
    ground_before, current_before = ZERO, ZERO
    for i in range(CHUNK - 1):
        after = left[i + 1]
        inverse = ONE / (coupling + ground + after)
        before = coupling * inverse
        forward = after * inverse
        into_before[i] = before
        into_next[i] = forward
        constant[i] = current * inverse
        ground_before += ground * before
        current_before += current * before
        coupling = coupling * forward
        ground = ONE + ground * forward
        current = value[i + 1] + current * forward
    node[COUPLING] = coupling
    node[GROUND] = ground
    node[CURRENT] = current
    node[GROUND_BEFORE] = ground_before
    node[CURRENT_BEFORE] = current_before


@part
def _solve_nodes(
    node, slot, slots, at, step, known, before_value, last_value, grounds, currents, lefts, rights
):
    """Solve the line of the chunks' last nodes: returns the values of the one before and of the own.

    slot: place of this thread's node among the line's `slots`; `at` and `step`: where it lies in
    the shared arrays, and how far its neighbours are. known: bit 0 the value before the first node
    is before_value, bit 1 the last node's is last_value; otherwise nothing is coupled there. Every
    thread of the block must come here.
    """
    last = slots - 1
    # Share what belongs to the node before, and the coupling with it.
    lefts[at] = node[COUPLING]
    grounds[at] = node[GROUND_BEFORE]
    currents[at] = node[CURRENT_BEFORE]
    cuda.syncthreads()
    left, ground, current, right = node[COUPLING], node[GROUND], node[CURRENT], ZERO
    if slot < last:
        right = lefts[at + step]
        ground += grounds[at + step]
        current += currents[at + step]
    cuda.syncthreads()
    if slot == 0:
        if known & 1:
            ground += left
            current += left * before_value
        left = ZERO
    if known & 2:
        if slot == last - 1:
            ground += right
            current += right * last_value
            right = ZERO
        if slot == last:
            left, ground, current = ZERO, ONE, last_value
    # Each step eliminates both neighbours of every node at once, each in its own copy of the line.
    reach = 1
    while reach < slots:
        inverse = ONE / (ground + left + right)
        grounds[at] = ground * inverse
        currents[at] = current * inverse
        lefts[at] = left * inverse
        rights[at] = right * inverse
        cuda.syncthreads()
        if slot >= reach:
            other = (at - reach * step) & INDEX
            ground += left * grounds[other]
            current += left * currents[other]
            left = left * lefts[other]
        if slot + reach < slots:
            other = (at + reach * step) & INDEX
            ground += right * grounds[other]
            current += right * currents[other]
            right = right * rights[other]
        cuda.syncthreads()
        reach *= 2
    value = current / ground
    currents[at] = value
    cuda.syncthreads()
    before = before_value
    if slot > 0:
        before = currents[at - step]
    return before, value


@part
def _substitute(value, before, last, into_before, into_next, constant):
    """Fill value[] of the chunk from the values of the last node before it and its own last node."""
    value[CHUNK - 1] = last
    for k in range(CHUNK - 1):
        i = CHUNK - 2 - k
        value[i] = constant[i] + into_before[i] * before + into_next[i] * value[i + 1]


@part
def _reduce_nodes(node, slot, slots, at, step, shared):
    """Combine the chunks of a segment into one: slot 0 ends with the whole segment's node[].

    shared: five arrays. Pairs, then pairs of pairs: at each step the left one's last node goes.
    """
    couplings, grounds, currents = shared[0], shared[1], shared[2]
    grounds_before, currents_before = shared[3], shared[4]
    reach = 1
    while reach < slots:
        couplings[at] = node[COUPLING]
        grounds[at] = node[GROUND]
        currents[at] = node[CURRENT]
        grounds_before[at] = node[GROUND_BEFORE]
        currents_before[at] = node[CURRENT_BEFORE]
        cuda.syncthreads()
        if slot % (2 * reach) == 0 and slot + reach < slots:
            other = (at + reach * step) & INDEX
            ground = node[GROUND] + grounds_before[other]
            current = node[CURRENT] + currents_before[other]
            after = couplings[other]
            inverse = ONE / (node[COUPLING] + ground + after)
            before = node[COUPLING] * inverse
            forward = after * inverse
            node[GROUND_BEFORE] += ground * before
            node[CURRENT_BEFORE] += current * before
            node[COUPLING] *= forward
            node[GROUND] = grounds[other] + ground * forward
            node[CURRENT] = currents[other] + current * forward
        cuda.syncthreads()
        reach *= 2


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
    """Read a segment of a row; left[] and value[] of `_eliminate` become this thread's chunk."""
    _stage(u, ONE, plane, line, first, staged_u)
    _stage(edges, scale, plane, line, first, staged_edges)
    cuda.syncthreads()
    own = ((cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * (CHUNK + 1)) & INDEX
    for i in range(CHUNK):
        value[i] = staged_u[own + i]
        left[i] = staged_edges[own + i]


@part
def _load_column(u, edges, scale, plane, line, first, left, value):
    """Read a chunk of a column: left[] and value[] of `_eliminate`."""
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
    """Which ends of a segment have their values in `ends`: see `_solve_nodes`."""
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
    _eliminate(left, value, into_before, into_next, constant, node)
    known = _known(segment, segments)
    before, last = ZERO, ZERO
    if line < u.shape[1]:
        if known & 1:
            before = ends[plane, segment - 1, line]
        if known & 2:
            last = ends[plane, segment, line]
    before, last = _solve_nodes(
        node, slot, slots, at, 1, known, before, last, grounds, currents, lefts, rights
    )
    _substitute(value, before, last, into_before, into_next, constant)
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
    _eliminate(left, value, into_before, into_next, constant, node)
    known = _known(segment, segments)
    before, last = ZERO, ZERO
    if line < u.shape[2]:
        if known & 1:
            before = ends[plane, segment - 1, line]
        if known & 2:
            last = ends[plane, segment, line]
    before, last = _solve_nodes(
        node, slot, slots, at, lines, known, before, last, grounds, currents, lefts, rights
    )
    _substitute(value, before, last, into_before, into_next, constant)
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
    _eliminate(left, value, unused, unused, unused, node)
    _reduce_nodes(node, slot, slots, at, 1, shared)
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
    _eliminate(left, value, unused, unused, unused, node)
    _reduce_nodes(node, slot, slots, slot * lines + cuda.threadIdx.x, lines, shared)
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
