"""What the GPU at hand can do at most: bytes moved, float32 operations and special functions a second, measured.

Three kernels do nothing else, each long enough that its start does not matter. Their rates, not a data sheet's, are what
the floors of `gpu_floor` divide by. numba-cuda is imported with this module.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import numpy as np
from numba import cuda, float32

from ..cuda.kernels import exp2

THREADS = 256
UNROLL = 4  # loads in flight in a thread
CHAINS = 8  # independent results that a thread works on: more than one operation's latency needs
STEPS = 1024


@dataclasses.dataclass(frozen=True)
class Rates:
    """Per second: bytes read plus bytes written, float32 lane operations (a fused multiply-add is one), exp2."""

    bytes: float
    lanes: float
    special: float


@cuda.jit
def copy(src, dst, count):
    """dst[:count] = src[:count]; UNROLL elements a thread, a block's worth apart."""
    first = cuda.blockIdx.x * (THREADS * UNROLL) + cuda.threadIdx.x
    if first + (UNROLL - 1) * THREADS < count:
        a = src[first]
        b = src[first + THREADS]
        c = src[first + 2 * THREADS]
        d = src[first + 3 * THREADS]
        dst[first] = a
        dst[first + THREADS] = b
        dst[first + 2 * THREADS] = c
        dst[first + 3 * THREADS] = d


@cuda.jit(fastmath=True)
def multiply_add(out, a, b, steps):
    """CHAINS x steps fused multiply-adds a thread; one value of each is kept, so that none is left out."""
    i = cuda.grid(1)
    x = float32(cuda.threadIdx.x)
    v0, v1, v2, v3 = x, x + a, x + b, x - a
    v4, v5, v6, v7 = x - b, x * a, x * b, a
    for _ in range(steps):
        v0 = v0 * a + b
        v1 = v1 * a + b
        v2 = v2 * a + b
        v3 = v3 * a + b
        v4 = v4 * a + b
        v5 = v5 * a + b
        v6 = v6 * a + b
        v7 = v7 * a + b
    out[i] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))


@cuda.jit(fastmath=True)
def exponentials(out, a, steps):
    """CHAINS x steps exp2 a thread: with fastmath one instruction of the special function unit each.

    With `a` at most 1 / THREADS all stay near 1.
    """
    i = cuda.grid(1)
    x = float32(cuda.threadIdx.x) * a
    v0, v1, v2, v3 = x, x + a, x - a, a
    v4, v5, v6, v7 = -x, a - x, -x - a, x + x
    for _ in range(steps):
        v0 = exp2(-v0)
        v1 = exp2(-v1)
        v2 = exp2(-v2)
        v3 = exp2(-v3)
        v4 = exp2(-v4)
        v5 = exp2(-v5)
        v6 = exp2(-v6)
        v7 = exp2(-v7)
    out[i] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))


KERNELS = (
    ("bench.copy", copy, "void(uint64[::1], uint64[::1], int32)"),
    ("bench.multiply_add", multiply_add, "void(float32[::1], float32, float32, int32)"),
    ("bench.exponentials", exponentials, "void(float32[::1], float32, int32)"),
)


def _seconds(enqueue: Any, stream: Any, repeats: int) -> float:
    """Median time of a call on the device, by events around each."""
    enqueue()
    taken = []
    for _ in range(repeats):
        begin, end = cuda.event(), cuda.event()
        begin.record(stream)
        enqueue()
        end.record(stream)
        end.synchronize()
        taken.append(cuda.event_elapsed_time(begin, end) / 1e3)
    return statistics.median(taken)


def _copy_rate(megabytes: int, stream: Any, repeats: int) -> float:
    span = THREADS * UNROLL
    count = megabytes * (1 << 20) // 8 // span * span
    src, dst = cuda.device_array(count, np.uint64), cuda.device_array(count, np.uint64)
    noise = np.random.default_rng(0).integers(0, 1 << 63, min(count, 1 << 20), dtype=np.uint64)
    for start in range(0, count, len(noise)):
        part = src[start : start + len(noise)]
        part.copy_to_device(noise[: part.size])

    def enqueue() -> None:
        copy[count // span, THREADS, stream](src, dst, np.int32(count))

    return 2.0 * count * 8 / _seconds(enqueue, stream, repeats)


def measure(*, megabytes: int = 1024, blocks_per_sm: int = 64, repeats: int = 7) -> Rates:
    """Measure all three on the current device.

    Parameters
    ----------
    megabytes : int
        Size of each of the copy's two arrays; many times the L2 cache.
    blocks_per_sm : int
        Blocks of 256 threads that the arithmetic kernels start for each multiprocessor.
    repeats : int
        Timed calls of each, after one that is not; the median counts.
    """
    stream = cuda.stream()
    blocks = cuda.get_current_device().MULTIPROCESSOR_COUNT * blocks_per_sm
    out = cuda.device_array(blocks * THREADS, np.float32)
    a, b, steps = np.float32(0.75), np.float32(0.25), np.int32(STEPS)

    def add() -> None:
        multiply_add[blocks, THREADS, stream](out, a, b, steps)

    def power() -> None:
        exponentials[blocks, THREADS, stream](out, np.float32(1 / THREADS), steps)

    operations = float(blocks) * THREADS * CHAINS * STEPS
    return Rates(
        bytes=_copy_rate(megabytes, stream, repeats),
        lanes=operations / _seconds(add, stream, repeats),
        special=operations / _seconds(power, stream, repeats),
    )
