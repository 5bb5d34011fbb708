"""The nodes of tridiagonal systems: a chunk's in registers, and the lines of the chunks' last nodes in shared memory.

What they stand for is said in `tridiagonal`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, int32, uint32

from .edges import NO_EDGE, resistance
from .kernels import F32, ONE, TWO, ZERO, log2, part

__all__ = ["CHUNK", "NODE_FIELDS", "Place", "eliminate", "node_solver", "reduce_nodes", "resistances"]

CHUNK = 8  # nodes of a thread

# What a segment is reduced to, in the order of the first axis of `nodes`: its last node's coupling
# to the last node of the segment before, its conductance to ground and the current from there, and
# what the segment adds of both to the node before.
COUPLING, GROUND, CURRENT, GROUND_BEFORE, CURRENT_BEFORE = range(5)
NODE_FIELDS = 5
FIXED = F32(1e20)  # conductance to ground of a node whose value is known


@part
def resistances(seen, count, joined, alpha, offset, found):
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
def eliminate(edge, value, scale, into_before, into_next, constant, node):
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


class Place(NamedTuple):
    """Where a thread's node is among those of the block's lines."""

    slot: Any  # of the line's `slots`
    slots: Any
    at: Any  # in the shared arrays
    step: Any  # from there to the line's next node
    lines: Any  # of the block
    pitch: Any  # from a line's first node to the next line's
    thread: Any  # of the block


def node_solver(size: int) -> Any:
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
def reduce_nodes(node, place, shared):
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
