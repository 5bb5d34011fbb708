"""The least time a GPU needs for a workload: by the bytes that must move, and by the arithmetic of the definitions.

Bytes: every input byte read once and every output byte written once, whatever happens in between. Arithmetic: what the
filters' `operations` count. Both are divided by rates measured on the GPU at hand, not by a data sheet's: three kernels do
nothing else, each long enough that its start does not matter. numba-cuda is imported with this module.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32

from sdie_fast import FilterParams
from sdie_fast.cuda._device import exp2

__all__ = ["Floor", "Rates", "floor_of", "measure"]

THREADS = 256
UNROLL = 4  # loads in flight in a thread
CHAINS = 8  # independent results that a thread works on: more than one operation's latency needs
STEPS = 1024


class Rates(NamedTuple):
    """Per second: bytes read plus bytes written, float32 lane operations (a fused multiply-add is one), exp2."""

    bytes: float
    lanes: float
    special: float


class Floor(NamedTuple):
    """Seconds, each as if the other took no time: no version can go below the larger."""

    bytes: float
    arithmetic: float


def floor_of(pixels: int, rounds: int, params: FilterParams, filters: Iterable[str], rates: Rates) -> Floor:
    """Compute the floor of a call on so many uint8 pixels in all: arithmetic is repeated each round, bytes are not.

    Lanes and special functions work side by side: the slower one counts.
    """
    each = [params.of(name).operations() for name in filters]
    lanes = 10 + sum(o.lanes for o in each)  # ten to load, mix, clip and convert
    arithmetic = max(lanes / rates.lanes, sum(o.special for o in each) / rates.special)
    return Floor(2 * pixels / rates.bytes, float(pixels) * rounds * arithmetic)


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


def _chained(step):
    """Make a kernel of CHAINS x steps calls of `step` a thread, whose sum is kept, so that none is left out."""

    @cuda.jit(fastmath=True)
    def kernel(out, a, b, steps):
        i = cuda.grid(1)
        x = float32(cuda.threadIdx.x) * float32(1.0 / THREADS)
        v0, v1, v2, v3 = x, x + a, x + b, x - a
        v4, v5, v6, v7 = x - b, x * a, x * b, a
        for _ in range(steps):
            v0, v1, v2, v3 = step(v0, a, b), step(v1, a, b), step(v2, a, b), step(v3, a, b)
            v4, v5, v6, v7 = step(v4, a, b), step(v5, a, b), step(v6, a, b), step(v7, a, b)
        out[i] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))

    return kernel


@cuda.jit(device=True, fastmath=True)
def _multiply_add(v, a, b):
    return v * a + b


@cuda.jit(device=True, fastmath=True)
def _exponential(v, _a, _b):
    # With fastmath one instruction of the special function unit; all stay near 1.
    return exp2(-v)


multiply_add = _chained(_multiply_add)
exponentials = _chained(_exponential)


def _seconds(enqueue: Callable[[], Any], stream: Any, repeats: int) -> float:
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
    return float(statistics.median(taken))


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
    span = THREADS * UNROLL
    count = megabytes * (1 << 20) // 8 // span * span
    # Noise: a GPU may compress what is all alike.
    noise = np.random.default_rng(0).integers(0, 1 << 63, min(count, 1 << 20), dtype=np.uint64)
    src, dst = cuda.to_device(np.resize(noise, count)), cuda.device_array(count, np.uint64)
    copied = _seconds(lambda: copy[count // span, THREADS, stream](src, dst, np.int32(count)), stream, repeats)

    blocks = cuda.get_current_device().MULTIPROCESSOR_COUNT * blocks_per_sm
    out = cuda.device_array(blocks * THREADS, np.float32)
    arguments = out, np.float32(0.75), np.float32(0.25), np.int32(STEPS)

    def rate(kernel: Any) -> float:
        seconds = _seconds(lambda: kernel[blocks, THREADS, stream](*arguments), stream, repeats)
        return float(blocks) * THREADS * CHAINS * STEPS / seconds

    return Rates(bytes=2.0 * count * 8 / copied, lanes=rate(multiply_add), special=rate(exponentials))
