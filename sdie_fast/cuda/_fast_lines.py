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

from numba import cuda

from ._device import INDEX, ONE, ZERO, part

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
def eliminate(left, value, into_before, into_next, constant, node):
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
def solve_nodes(node, slot, slots, at, step, known, before_value, last_value, grounds, currents, lefts, rights):
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
def substitute(value, before, last, into_before, into_next, constant):
    """Fill value[] of the chunk from the values of the last node before it and its own last node."""
    value[CHUNK - 1] = last
    for k in range(CHUNK - 1):
        i = CHUNK - 2 - k
        value[i] = constant[i] + into_before[i] * before + into_next[i] * value[i + 1]


@part
def reduce_nodes(node, slot, slots, at, step, shared):
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
