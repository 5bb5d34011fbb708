"""Many tridiagonal systems at once, rows or columns of planes, each solved by many threads.

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
- Lines longer than `CHUNK` * `SLOTS` are cut into segments of equal length. A first kernel reduces
  each segment to one node; a second solves the nodes of each line, serially: there are 64 even in
  16,384 pixels; the third is the kernel of short lines, given the nodes' values on both sides.

So both one image of 200 x 200 (25 threads a line) and a line of 16,384 pixels have threads to spare,
where one thread a line would walk thousands of dependent steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, float32, int64

from .kernels import ACTIVE, F32, INDEX, ONE, PLACE, PLANES, ZERO, ceil_div, kernel, launch, listed, part

__all__ = ["Lines"]

CHUNK_BITS = 3
CHUNK = 1 << CHUNK_BITS  # nodes of a thread
SLOTS = 32  # chunks of the longest segment that the kernels take
MOST_CHUNKS = SLOTS  # of a segment
ROW_THREADS = 256  # of a block that solves rows
COLUMNS = 32  # most lines of a block that solves columns: their pixels are one coalesced read

# What a segment is reduced to, in the order of the first axis of `nodes`: its last node's coupling
# to the last node of the segment before, its conductance to ground and the current from there, and
# what the segment adds of both to the node before.
COUPLING, GROUND, CURRENT, GROUND_BEFORE, CURRENT_BEFORE = range(5)
NODE_FIELDS = 5
_NODES = float32[:, :, :, ::1]


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
def _solve_nodes(node, place, known, before_value, last_value, grounds, currents, lefts, rights):
    """Solve the line of the chunks' last nodes: returns the values of the one before and of the own.

    place: (slot, slots, at, step): this thread's node among the line's, where it lies in the shared
    arrays, and how far its neighbours are. known: bit 0 the value before the first node is
    before_value, bit 1 the last node's is last_value; otherwise nothing is coupled there. Every
    thread of the block must come here.
    """
    slot, slots, at, step = place
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
def _reduce_nodes(node, place, shared):
    """Combine the chunks of a segment into one: slot 0 ends with the whole segment's node[].

    shared: five arrays. Pairs, then pairs of pairs: at each step the left one's last node goes.
    """
    slot, slots, at, step = place
    reach = 1
    while reach < slots:
        for k in range(NODE_FIELDS):
            shared[k, at] = node[k]
        cuda.syncthreads()
        if slot % (2 * reach) == 0 and slot + reach < slots:
            other = (at + reach * step) & INDEX
            ground = node[GROUND] + shared[GROUND_BEFORE, other]
            current = node[CURRENT] + shared[CURRENT_BEFORE, other]
            after = shared[COUPLING, other]
            inverse = ONE / (node[COUPLING] + ground + after)
            before = node[COUPLING] * inverse
            forward = after * inverse
            node[GROUND_BEFORE] += ground * before
            node[CURRENT_BEFORE] += current * before
            node[COUPLING] *= forward
            node[GROUND] = shared[GROUND, other] + ground * forward
            node[CURRENT] = shared[CURRENT, other] + current * forward
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
def _unstage(u, plane, line, first, staged):
    """Copy a segment from shared memory to a row, coalesced."""
    lanes = cuda.blockDim.x
    base = cuda.threadIdx.y * lanes * (CHUNK + 1)
    height, width = u.shape[1], u.shape[2]
    if line < height and first + lanes * CHUNK <= width:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            u[plane, line & PLACE, (first + i) & PLACE] = staged[(base + i + (i >> CHUNK_BITS)) & INDEX]
    else:
        for k in range(CHUNK):
            i = k * lanes + cuda.threadIdx.x
            if line < height and first + i < width:
                u[plane, line & PLACE, (first + i) & PLACE] = staged[(base + i + (i >> CHUNK_BITS)) & INDEX]


@part
def _row_of_thread(first_row):
    """(segment, line, (slot, slots, at, step)) of a thread that solves rows, see `_kernels`."""
    line = (cuda.blockIdx.y + first_row) * cuda.blockDim.y + cuda.threadIdx.y
    at = (cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x) & INDEX
    return cuda.blockIdx.x & PLACE, line, (cuda.threadIdx.x, cuda.blockDim.x, at, 1)


@part
def _load_row(u, edges, scale, plane, line, segment, place, staged_u, staged_edges, left, value):
    first = segment * (place[1] * CHUNK)
    _stage(u, ONE, plane, line, first, staged_u)
    _stage(edges, scale, plane, line, first, staged_edges)
    cuda.syncthreads()
    own = (place[2] * (CHUNK + 1)) & INDEX
    for i in range(CHUNK):
        value[i] = staged_u[own + i]
        left[i] = staged_edges[own + i]


@part
def _store_row(u, plane, line, segment, place, staged_u, value):
    own = (place[2] * (CHUNK + 1)) & INDEX
    for i in range(CHUNK):
        staged_u[own + i] = value[i]
    cuda.syncthreads()
    _unstage(u, plane, line, segment * (place[1] * CHUNK), staged_u)


@part
def _column_of_thread(first_row):
    """As `_row_of_thread`, of a thread that solves columns."""
    lines, slot = cuda.blockDim.x, cuda.threadIdx.y
    line = cuda.blockIdx.x * lines + cuda.threadIdx.x
    at = (slot * lines + cuda.threadIdx.x) & INDEX
    return (cuda.blockIdx.y + first_row) & PLACE, line, (slot, cuda.blockDim.y, at, lines)


@part
def _load_column(u, edges, scale, plane, line, segment, place, staged_u, staged_edges, left, value):
    height, width = u.shape[1], u.shape[2]
    first = (segment * place[1] + place[0]) * CHUNK
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
def _store_column(u, plane, line, segment, place, staged_u, value):
    height, width = u.shape[1], u.shape[2]
    first = (segment * place[1] + place[0]) * CHUNK
    if line < width and first + CHUNK <= height:
        for i in range(CHUNK):
            u[plane, (first + i) & PLACE, line & PLACE] = value[i]
    else:
        for i in range(CHUNK):
            if line < width and first + i < height:
                u[plane, (first + i) & PLACE, line & PLACE] = value[i]


class _Direction(NamedTuple):
    """How lines of pixels lie: along rows or down columns."""

    rows: bool
    reduce: Any
    solve: Any


def _kernels(rows: bool) -> _Direction:
    """Make the kernels for rows or for columns.

    u is (planes, H, W); edges[y, x] joins a pixel and the one before it in its line; `scale` is
    lambda. Rows: blocks of (chunks of a segment, rows), a grid of (segments, groups of rows, planes).
    Columns: blocks of (columns, at most `COLUMNS`; chunks of a segment), a grid of (groups of columns,
    segments, planes).
    """
    locate, load, store = (
        (_row_of_thread, _load_row, _store_row) if rows else (_column_of_thread, _load_column, _store_column)
    )
    threads = ROW_THREADS if rows else COLUMNS * SLOTS
    staging = ROW_THREADS * (CHUNK + 1) if rows else 1
    nodes_shape = (NODE_FIELDS, threads)
    along = 1 if rows else 2  # the axis of u on which lines lie side by side

    @cuda.jit(fastmath=True)
    def reduce(u, edges, scale, active, nodes, first_row, first_plane):
        """Reduce every segment of every line to its last node: nodes (5, planes, segments, lines)."""
        staged_u = cuda.shared.array(staging, float32)
        staged_edges = cuda.shared.array(staging, float32)
        shared = cuda.shared.array(nodes_shape, float32)
        left = cuda.local.array(CHUNK, float32)
        value = cuda.local.array(CHUNK, float32)
        unused = cuda.local.array(CHUNK, float32)
        node = cuda.local.array(NODE_FIELDS, float32)
        plane = (cuda.blockIdx.z + first_plane) & PLACE
        if active[plane] == ZERO:
            return
        segment, line, place = locate(first_row)
        load(u, edges, scale, plane, line, segment, place, staged_u, staged_edges, left, value)
        _eliminate(left, value, unused, unused, unused, node)
        _reduce_nodes(node, place, shared)
        if place[0] == 0 and line < u.shape[along]:
            for k in range(NODE_FIELDS):
                nodes[k, plane, segment, line] = node[k]

    @cuda.jit(fastmath=True)
    def solve(u, edges, scale, active, segments, ends, first_row, first_plane):
        """Solve every line of u in place, one segment of a line to each line of threads.

        `ends`, of (planes, segments, lines), has the value of each segment's last pixel, where there
        are several.
        """
        staged_u = cuda.shared.array(staging, float32)
        staged_edges = cuda.shared.array(staging, float32)
        grounds = cuda.shared.array(threads, float32)
        currents = cuda.shared.array(threads, float32)
        lefts = cuda.shared.array(threads, float32)
        rights = cuda.shared.array(threads, float32)
        left = cuda.local.array(CHUNK, float32)
        value = cuda.local.array(CHUNK, float32)
        into_before = cuda.local.array(CHUNK, float32)
        into_next = cuda.local.array(CHUNK, float32)
        constant = cuda.local.array(CHUNK, float32)
        node = cuda.local.array(NODE_FIELDS, float32)
        plane = (cuda.blockIdx.z + first_plane) & PLACE
        if active[plane] == ZERO:
            return
        segment, line, place = locate(first_row)
        load(u, edges, scale, plane, line, segment, place, staged_u, staged_edges, left, value)
        _eliminate(left, value, into_before, into_next, constant, node)
        known, before, last = 0, ZERO, ZERO
        if segment > 0:
            known += 1
            if line < u.shape[along]:
                before = ends[plane, segment - 1, line]
        if segment + 1 < segments:
            known += 2
            if line < u.shape[along]:
                last = ends[plane, segment, line]
        before, last = _solve_nodes(node, place, known, before, last, grounds, currents, lefts, rights)
        value[CHUNK - 1] = last
        for k in range(CHUNK - 1):
            i = CHUNK - 2 - k
            value[i] = constant[i] + into_before[i] * before + into_next[i] * value[i + 1]
        store(u, plane, line, segment, place, staged_u, value)

    note = "rows" if rows else "columns"
    listed(reduce, PLANES, PLANES, float32, ACTIVE, _NODES, int64, int64, note=note)
    listed(solve, PLANES, PLANES, float32, ACTIVE, int64, PLANES, int64, int64, note=note)
    return _Direction(rows, reduce, solve)


_ALONG_ROWS, _DOWN_COLUMNS = _kernels(True), _kernels(False)


@kernel(_NODES, ACTIVE, PLANES, int64, int64, fastmath=True)
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


def _segments(length: int) -> tuple[int, int]:
    """How many segments a line is cut into, and how many chunks each has."""
    chunks = ceil_div(length, CHUNK)
    each = ceil_div(chunks, ceil_div(chunks, MOST_CHUNKS))
    return ceil_div(chunks, each), each


class Lines:
    """The launches that solve the rows, or the columns, of planes of one size."""

    def __init__(self, planes: int, height: int, width: int, *, rows: bool) -> None:
        self._kernels = _ALONG_ROWS if rows else _DOWN_COLUMNS
        self._length, self._lines = (width, height) if rows else (height, width)
        self._segments, chunks = _segments(self._length)
        group = min(ROW_THREADS // chunks if rows else COLUMNS, self._lines)
        self._block = (chunks, group) if rows else (group, chunks)
        self._groups = ceil_div(self._lines, group)
        shape = (planes, self._segments, self._lines)
        if self._segments > 1:
            self._nodes = cuda.device_array((NODE_FIELDS, *shape), "float32")
            self._ends = cuda.device_array(shape, "float32")
        else:  # not read
            self._ends = cuda.device_array((1, 1, 1), "float32")

    @staticmethod
    def workspace_bytes(planes: int, length: int, lines: int) -> int:
        """Bytes of device memory an instance holds."""
        segments, _ = _segments(length)
        count = planes * segments * lines if segments > 1 else 0
        return 4 * ((NODE_FIELDS + 1) * count or 1)

    def __call__(self, u: Any, edges: Any, strength: float, active: Any, stream: Any) -> None:
        """Solve I + strength * L of these edges in place; enqueues only."""
        if self._length == 1:
            return  # the system is u = g
        scale, planes = F32(strength), u.shape[0]
        rows, reduce, solve = self._kernels
        grid = (self._segments, self._groups) if rows else (self._groups, self._segments)
        if self._segments > 1:
            launch(reduce, (*grid, planes), self._block, stream, u, edges, scale, active, self._nodes)
            threads = 64
            ends = ceil_div(self._lines, threads), 1, planes
            launch(solve_ends, ends, threads, stream, self._nodes, active, self._ends)
        launch(solve, (*grid, planes), self._block, stream, u, edges, scale, active, self._segments, self._ends)
