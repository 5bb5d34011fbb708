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

from numba import cuda, float32, int32, int64, uint32, uint64

from .edges import NO_EDGE, resistance
from .kernels import ACTIVE, F32, ONE, PLACE, PLANES, TWO, ZERO, ceil_div, kernel, launch, listed, log2, part

__all__ = ["Lines"]

CHUNK_BITS = 3
CHUNK = 1 << CHUNK_BITS  # nodes of a thread
SLOTS = 32  # chunks of the longest segment that the kernels take
MOST_CHUNKS = SLOTS  # of a segment
ROW_THREADS = 256  # of a block that solves rows
COLUMN_THREADS = 512  # of a block that solves columns
MOST_COLUMNS = 32
WARP = 32
# A line of a block of rows in shared memory: the pixel before it, a word, its chunks and a word after each.
BEFORE_CHUNKS = 2
STAGED = ROW_THREADS * (CHUNK + 1) + BEFORE_CHUNKS * (ROW_THREADS // 2)
STAGED_STEP = WARP + (WARP >> CHUNK_BITS)  # between pixels a warp apart

# What a segment is reduced to, in the order of the first axis of `nodes`: its last node's coupling
# to the last node of the segment before, its conductance to ground and the current from there, and
# what the segment adds of both to the node before.
COUPLING, GROUND, CURRENT, GROUND_BEFORE, CURRENT_BEFORE = range(5)
NODE_FIELDS = 5
_NODES = float32[:, :, :, ::1]
FIXED = F32(1e20)  # conductance to ground of a node whose value is known


@part
def _resistances(seen, count, joined, alpha, offset, found):
    """Find the resistances of a chunk's edges: found[i] is before node i.

    seen[0] is the guide's pixel before the chunk, if `joined`; seen[i + 1] that of node i < `count`.
    """
    twice = TWO * offset
    log_before = log2(seen[0] + offset)
    if count >= CHUNK:
        for i in range(CHUNK):
            log_own = log2(seen[i + 1] + offset)
            found[i] = resistance(seen[i], seen[i + 1], log_before, log_own, twice, alpha)
            log_before = log_own
    else:
        for i in range(CHUNK):
            found[i] = NO_EDGE
            if i < count:
                log_own = log2(seen[i + 1] + offset)
                found[i] = resistance(seen[i], seen[i + 1], log_before, log_own, twice, alpha)
                log_before = log_own
    if not joined:
        found[0] = NO_EDGE


@part
def _eliminate(edge, value, scale, into_before, into_next, constant, node):
    """Eliminate all nodes of a chunk but its last.

    edge[i] is the resistance between node i and the one before it, of the chunk before for i = 0, `scale` the
    conductance at resistance 1; value[i] is the pixel. Node i < CHUNK - 1 is then constant[i] +
    into_before[i] * (last node of the chunk before) + into_next[i] * (node i + 1). node: see `COUPLING`.
    """
    coupling, ground, current = scale / edge[0], ONE, value[0]
    ground_before, current_before = ZERO, ZERO
    for i in range(CHUNK - 1):
        after = edge[i + 1]
        # One over the node's conductances, the next edge's scale / after among them, is after * inverse.
        inverse = ONE / (after * (coupling + ground) + scale)
        own = after * inverse
        before = coupling * own
        forward = scale * inverse
        into_before[i] = before
        into_next[i] = forward
        constant[i] = current * own
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


class _Place(NamedTuple):
    """Where a thread's node is among those of the block's lines."""

    slot: Any  # of the line's `slots`
    slots: Any
    at: Any  # in the shared arrays
    step: Any  # from there to the line's next node
    lines: Any  # of the block
    pitch: Any  # from a line's first node to the next line's
    thread: Any  # of the block


def _node_solver(size: int) -> Any:
    """Make the function that solves the lines of the chunks' last nodes; `size` is the most nodes of a block."""
    coupling_at, ground_at, current_at, ground_before_at, current_before_at = (k * size for k in range(NODE_FIELDS))
    other_ground_at, other_current_at = 5 * size, 6 * size

    @part
    def solve_nodes(node, place, known, before, last, shared):
        """Return the values of the node before and of the own.

        known: bit 0 the value before the line's first node is `before`, bit 1 its last node's is `last`;
        otherwise nothing is coupled there. Every thread of the block must come here.
        """
        at, step = uint32(place.at), place.step
        ground, current = node[GROUND], node[CURRENT]
        if known & 1 and place.slot == 0:
            ground += node[COUPLING]
            current += node[COUPLING] * before
        if place.slot == place.slots - 1:
            # Nothing comes from a next node.
            shared[at + ground_before_at] = ZERO
            shared[at + current_before_at] = ZERO
            if known & 2:
                ground, current = FIXED, FIXED * last
        shared[at + coupling_at] = node[COUPLING]
        shared[at + ground_at] = ground
        shared[at + current_at] = current
        if place.slot > 0:
            shared[uint32(at - step) + ground_before_at] = node[GROUND_BEFORE]
            shared[uint32(at - step) + current_before_at] = node[CURRENT_BEFORE]
        cuda.syncthreads()
        thread, lines = place.thread, place.lines
        middle = int32(place.slots >> 1)
        backwards = thread >= lines
        # Of the node at hand, of its edge to the next one, and how far that is.
        here, move, count = int32(thread * place.pitch), step, middle
        if backwards:
            here = int32((thread - lines) * place.pitch + (place.slots - 1) * step)
            move, count = int32(-step), int32(place.slots - 1 - middle)
        edge = here if backwards else int32(here + step)
        ground = current = ZERO
        if thread < 2 * lines:
            for _ in range(count):
                i = uint32(here)
                ground += shared[i + ground_at] + shared[i + ground_before_at]
                current += shared[i + current_at] + shared[i + current_before_at]
                left = shared[uint32(edge) + coupling_at]
                inverse = ONE / (ground + left)
                forward = left * inverse
                shared[i + ground_at] = forward
                shared[i + current_at] = current * inverse
                ground *= forward
                current *= forward
                here, edge = int32(here + move), int32(edge + move)
            shared[uint32(thread) + other_ground_at] = ground
            shared[uint32(thread) + other_current_at] = current
        cuda.syncthreads()
        if thread < 2 * lines:
            other = uint32(thread - lines if backwards else thread + lines)
            i = uint32(here)
            ground += shared[i + ground_at] + shared[i + ground_before_at] + shared[other + other_ground_at]
            current += shared[i + current_at] + shared[i + current_before_at] + shared[other + other_current_at]
            value = current / ground
            # No coupling is needed any more: the values go there.
            if not backwards:
                shared[i + coupling_at] = value
            for _ in range(count):
                here = int32(here - move)
                i = uint32(here)
                value = shared[i + current_at] + shared[i + ground_at] * value
                shared[i + coupling_at] = value
        cuda.syncthreads()
        if place.slot > 0:
            before = shared[uint32(at - step) + coupling_at]
        return before, shared[at + coupling_at]

    return solve_nodes


@part
def _reduce_nodes(node, place, shared):
    """Combine the chunks of a segment into one: slot 0 ends with the whole segment's node[].

    shared: five arrays. Pairs, then pairs of pairs: at each step the left one's last node goes.
    """
    at = uint32(place.at)
    reach = int32(1)
    while reach < place.slots:
        for k in range(NODE_FIELDS):
            shared[k, at] = node[k]
        cuda.syncthreads()
        if place.slot & (2 * reach - 1) == 0 and place.slot + reach < place.slots:
            other = uint32(at + reach * place.step)
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
        reach = int32(2 * reach)


@part
def _row_of_thread(first_row):
    """(segment, line, `_Place`) of a thread that solves rows, see `_kernels`."""
    slots, lines = int32(cuda.blockDim.x), int32(cuda.blockDim.y)
    line = int32((cuda.blockIdx.y + first_row) * lines + cuda.threadIdx.y)
    at = int32(cuda.threadIdx.y * slots + cuda.threadIdx.x)
    return int32(cuda.blockIdx.x), line, _Place(int32(cuda.threadIdx.x), slots, at, int32(1), lines, slots, at)


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
def _load_row(source, guide, plane, line, segment, place, staged, staged_guide, value, seen):
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
def _store_row(u, plane, line, segment, place, staged, value, own):
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
def _column_of_thread(first_row):
    """As `_row_of_thread`, of a thread that solves columns."""
    lines, slot = int32(cuda.blockDim.x), int32(cuda.threadIdx.y)
    line = int32(cuda.blockIdx.x * lines + cuda.threadIdx.x)
    at = int32(slot * lines + cuda.threadIdx.x)
    place = _Place(slot, int32(cuda.blockDim.y), at, lines, lines, int32(1), at)
    return int32(cuda.blockIdx.y + first_row), line, place


@part
def _load_column(source, guide, plane, line, segment, place, staged, staged_guide, value, seen):
    """As `_load_row`."""
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
def _store_column(u, plane, line, segment, place, staged, value, own):
    x, y = uint64(line), uint64((segment * place.slots + place.slot) * CHUNK)
    if own >= CHUNK:
        for i in range(CHUNK):
            u[plane, y + uint64(i), x] = value[i]
    else:
        for i in range(CHUNK):
            if i < own:
                u[plane, y + uint64(i), x] = value[i]


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
        (_row_of_thread, _load_row, _store_row) if rows else (_column_of_thread, _load_column, _store_column)
    )
    threads = ROW_THREADS if rows else COLUMN_THREADS
    staging = STAGED if rows else 1
    nodes_shape = (NODE_FIELDS, threads)
    solving = (NODE_FIELDS + 2) * threads
    solve_nodes = _node_solver(threads)
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
        _resistances(seen, own, joined, alpha, offset, edge)
        _eliminate(edge, value, scale, unused, unused, unused, node)
        _reduce_nodes(node, place, shared)
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
        _resistances(seen, own, joined, alpha, offset, edge)
        _eliminate(edge, value, scale, into_before, into_next, constant, node)
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
