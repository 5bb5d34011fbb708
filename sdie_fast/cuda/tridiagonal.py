"""Many tridiagonal systems at once, rows or columns of planes, each solved by many threads.

Every system is I + lambda L, L the weighted Laplacian of a line of pixels, in which the right-hand
side is the line itself. Read as a resistor network: node i hangs on ground (its pixel's value) by
conductance 1 and on its neighbours by lambda over the edge's `resistance`, which is worked out here, where it
is used, from the two pixels of a guide. Eliminating a node replaces it by conductances
between its neighbours and to ground (star-mesh transformation), all of them sums and products of
positive numbers: nothing cancels in float32 even where the weights reach 1e4 times lambda.

Who solves what, and why:

- A thread holds `CHUNK` nodes of a line in registers and eliminates all but the last, which leaves
  the threads of a line with a line of one node each (Wang's partition method, 1981). Each pixel is
  read once and written once.
- These nodes lie in shared memory, and two threads of a line eliminate them, from both ends to the one in the
  middle, while other blocks have the multiprocessor: 16 steps at the most, and an eighth of the
  instructions that a parallel reduction would take.
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

from numba import cuda, float32, int32, int64, uint64

from .chunks import (
    ROW_THREADS,
    STAGED,
    WARP,
    column_of_thread,
    load_column,
    load_row,
    row_of_thread,
    store_column,
    store_row,
)
from .kernels import ACTIVE, F32, ONE, PLACE, PLANES, ZERO, ceil_div, kernel, launch, listed
from .nodes import (
    CHUNK,
    COUPLING,
    CURRENT,
    CURRENT_BEFORE,
    GROUND,
    GROUND_BEFORE,
    NODE_FIELDS,
    eliminate,
    node_solver,
    reduce_nodes,
    resistances,
)

__all__ = ["Lines"]

SLOTS = 32  # chunks of the longest segment that the kernels take
MOST_CHUNKS = SLOTS  # of a segment
COLUMN_THREADS = 512  # of a block that solves columns, at most
MOST_COLUMNS = 32
_NODES = float32[:, :, :, ::1]


class _Direction(NamedTuple):
    """How lines of pixels lie: along rows or down columns."""

    rows: bool
    reduce: Any
    solve: Any


def _kernels(rows: bool) -> _Direction:
    """Make the kernels for rows or for columns.

    Arrays are (planes, H, W). `source` holds the lines, and may be `u`, where the solution goes; `guide`
    what the edges are of, `offset` and `alpha` as in `resistance`; `scale` is lambda. Rows: blocks of (chunks of a
    segment, rows), a grid of (segments, groups of rows, planes). Columns: blocks of (columns; chunks of a
    segment), a grid of (groups of columns, segments, planes). A block has whole warps, one at least, and two
    chunks a line.
    """
    locate, load, store = (
        (row_of_thread, load_row, store_row) if rows else (column_of_thread, load_column, store_column)
    )
    threads = ROW_THREADS if rows else COLUMN_THREADS
    staging = STAGED if rows else 1
    nodes_shape = (NODE_FIELDS, threads)
    solving = (NODE_FIELDS + 2) * threads
    solve_nodes = node_solver(threads)
    along = 1 if rows else 2  # the axis of u on which lines lie side by side
    chunk_and_before = CHUNK + 1

    @cuda.jit(fastmath=True)
    def reduce(source, guide, scale, alpha, offset, active, nodes, first_row, first_plane):
        """Reduce every segment of every line to its last node: nodes (5, planes, segments, lines)."""
        staged = cuda.shared.array(staging, float32)
        staged_guide = cuda.shared.array(staging, float32)
        shared = cuda.shared.array(nodes_shape, float32)
        seen = cuda.local.array(chunk_and_before, float32)
        edge = cuda.local.array(CHUNK, float32)
        value = cuda.local.array(CHUNK, float32)
        unused = cuda.local.array(CHUNK, float32)
        node = cuda.local.array(NODE_FIELDS, float32)
        plane = uint64(cuda.blockIdx.z + first_plane)
        if active[plane] == ZERO:
            return
        segment, line, place = locate(first_row)
        own, joined = load(source, guide, plane, line, segment, place, staged, staged_guide, value, seen)
        resistances(seen, own, joined, alpha, offset, edge)
        eliminate(edge, value, scale, unused, unused, unused, node)
        reduce_nodes(node, place, shared)
        if place.slot == 0 and line < source.shape[along]:
            for k in range(NODE_FIELDS):
                nodes[k, plane, segment, line] = node[k]

    @cuda.jit(fastmath=True)
    def solve(source, guide, u, scale, alpha, offset, active, segments, ends, first_row, first_plane):
        """Solve every line, one segment of a line to each line of threads.

        `ends`, of (planes, segments, lines), has the value of each segment's last pixel, where there
        are several.
        """
        staged = cuda.shared.array(staging, float32)
        staged_guide = cuda.shared.array(staging, float32)
        shared = cuda.shared.array(solving, float32)
        seen = cuda.local.array(chunk_and_before, float32)
        edge = cuda.local.array(CHUNK, float32)
        value = cuda.local.array(CHUNK, float32)
        into_before = cuda.local.array(CHUNK, float32)
        into_next = cuda.local.array(CHUNK, float32)
        constant = cuda.local.array(CHUNK, float32)
        node = cuda.local.array(NODE_FIELDS, float32)
        plane = uint64(cuda.blockIdx.z + first_plane)
        if active[plane] == ZERO:
            return
        segment, line, place = locate(first_row)
        own, joined = load(source, guide, plane, line, segment, place, staged, staged_guide, value, seen)
        resistances(seen, own, joined, alpha, offset, edge)
        eliminate(edge, value, scale, into_before, into_next, constant, node)
        known, before, last = int32(0), ZERO, ZERO
        if segment > 0:
            known = int32(1)
            if own > 0:
                before = ends[plane, segment - 1, line]
        if segment + 1 < segments:
            known = int32(known + 2)
            if own > 0:
                last = ends[plane, segment, line]
        before, last = solve_nodes(node, place, known, before, last, shared)
        value[CHUNK - 1] = last
        for k in range(CHUNK - 1):
            i = CHUNK - 2 - k
            value[i] = constant[i] + into_before[i] * before + into_next[i] * value[i + 1]
        store(u, plane, line, segment, place, staged, value, own)

    note = "rows" if rows else "columns"
    edges = PLANES, *(float32,) * 3
    listed(reduce, PLANES, *edges, ACTIVE, _NODES, int64, int64, note=note)
    listed(solve, PLANES, PLANES, *edges, ACTIVE, int64, PLANES, int64, int64, note=note)
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
    """How many segments a line is cut into, and how many chunks each has: two at least."""
    chunks = max(2, ceil_div(length, CHUNK))
    each = ceil_div(chunks, ceil_div(chunks, MOST_CHUNKS))
    return ceil_div(chunks, each), each


def _lines_of_a_block(lines: int, chunks: int, rows: bool) -> int:
    """The count of lines that leaves the fewest threads idle; of such counts the largest."""
    most = ROW_THREADS // chunks if rows else min(COLUMN_THREADS // chunks, MOST_COLUMNS)
    least = min(ceil_div(WARP, chunks), most)  # a whole warp
    step = 1 if rows or most < 4 else 4  # of columns: 16 bytes
    counts = range(max(least, step), most + 1, step)

    def warps(count: int) -> int:
        return ceil_div(lines, count) * (ceil_div(count * chunks, WARP) + 1)

    return min(counts, key=lambda count: (warps(count), -count))


class Lines:
    """The launches that solve the rows, or the columns, of planes of one size."""

    def __init__(self, planes: int, height: int, width: int, *, rows: bool) -> None:
        self._kernels = _ALONG_ROWS if rows else _DOWN_COLUMNS
        self._length, self._lines = (width, height) if rows else (height, width)
        self._segments, chunks = _segments(self._length)
        group = _lines_of_a_block(self._lines, chunks, rows)
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

    def __call__(self, source: Any, guide: Any, u: Any, strength: float, edges: Any, active: Any, stream: Any) -> None:
        """Solve I + strength * L of the lines of `source`; enqueues only. edges: `resistance`'s (alpha, offset)."""
        scale, planes = F32(strength), u.shape[0]
        rows, reduce, solve = self._kernels
        grid = (self._segments, self._groups) if rows else (self._groups, self._segments)
        if self._segments > 1:
            launch(
                reduce, (*grid, planes), self._block, stream, source, guide, scale, *edges, active, self._nodes
            )  # fmt: skip
            threads = 64
            ends = ceil_div(self._lines, threads), 1, planes
            launch(solve_ends, ends, threads, stream, self._nodes, active, self._ends)
        launch(
            solve, (*grid, planes), self._block, stream, source, guide, u, scale, *edges, active, self._segments,
            self._ends,
        )  # fmt: skip
