"""The least time a GPU needs for a workload: by the bytes that must move, and by the arithmetic of the definitions.

Bytes: every input byte read once and every output byte written once, whatever happens in between. Arithmetic: what the
filters' `operations` count. Both are divided by rates measured on the GPU at hand, not by a data sheet's: a copy and two
kernels that do nothing else, long enough that their start does not matter. numba-cuda is imported with this module.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from clock import Method, Runner
from numba import cuda, float32

from sdie_fast import FilterParams
from sdie_fast.cuda.kernels import exp2

__all__ = ["Floor", "Peak", "floor_of", "measure"]

THREADS = 256
CHAINS = 8  # independent results that a thread works on: more than one operation's latency needs
STEPS = 1024


class Peak(NamedTuple):
    """Per second: bytes read plus bytes written, float32 lane operations (a fused multiply-add is one), exp2."""

    bytes: float
    lanes: float
    special: float


class Floor(NamedTuple):
    """Seconds, each as if the other took no time: no version can go below the larger."""

    bytes: float
    arithmetic: float


def floor_of(pixels: int, rounds: int, params: FilterParams, filters: Iterable[str], peak: Peak) -> Floor:
    """Compute the floor of a call on so many uint8 pixels in all: arithmetic is repeated each round, bytes are not.

    Lanes and special functions work side by side: the slower one counts.
    """
    each = [params.of(name).operations() for name in filters]
    lanes = 10 + sum(o.lanes for o in each)  # ten to load, mix, clip and convert
    arithmetic = max(lanes / peak.lanes, sum(o.special for o in each) / peak.special)
    return Floor(2 * pixels / peak.bytes, pixels * rounds * arithmetic)


def _chained(step: Any) -> Any:
    """Make a kernel of CHAINS x steps calls of `step` a thread, whose sum is kept, so that none is left out."""
    step = cuda.jit(device=True, fastmath=True)(step)

    @cuda.jit(fastmath=True)
    def kernel(out: Any, a: float, b: float, steps: int) -> None:
        i = cuda.grid(1)
        x = float32(cuda.threadIdx.x) * float32(1.0 / THREADS)
        v0, v1, v2, v3 = x, x + a, x + b, x - a
        v4, v5, v6, v7 = x - b, x * a, x * b, a
        for _ in range(steps):
            v0, v1, v2, v3 = step(v0, a, b), step(v1, a, b), step(v2, a, b), step(v3, a, b)
            v4, v5, v6, v7 = step(v4, a, b), step(v5, a, b), step(v6, a, b), step(v7, a, b)
        out[i] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))

    return kernel


multiply_add = _chained(lambda v, a, b: v * a + b)
# With fastmath one instruction of the special function unit; all stay near 1.
exponentials = _chained(lambda v, a, b: exp2(-v))


def measure(runner: Runner, *, megabytes: int = 1024, blocks_per_sm: int = 64, repeats: int = 7) -> Peak:
    """Measure all three.

    Parameters
    ----------
    runner : Runner
    megabytes : int
        Size of what is copied; many times the L2 cache.
    blocks_per_sm : int
        Blocks of 256 threads that the arithmetic kernels start for each multiprocessor.
    repeats : int
        Timed calls of each, after one that is not; the median counts.
    """
    torch = runner.torch

    def seconds(call: Callable[[], Any]) -> float:
        method = Method(runner.on_stream(lambda _: call()), 1)
        return statistics.median([runner.seconds(method, k, 1) for k in range(repeats + 1)][1:])

    def rate(kernel: Any) -> float:
        arguments = cuda.as_cuda_array(out), np.float32(0.75), np.float32(0.25), np.int32(STEPS)
        return float(out.numel()) * CHAINS * STEPS / seconds(lambda: kernel[blocks, THREADS, stream](*arguments))

    stream = cuda.external_stream(runner.stream.cuda_stream)
    blocks = torch.cuda.get_device_properties(0).multi_processor_count * blocks_per_sm
    out = torch.empty(blocks * THREADS, device="cuda")
    # Noise: a GPU may compress what is all alike.
    noise = torch.randint(256, (megabytes << 20,), dtype=torch.uint8, device="cuda")
    to = torch.empty_like(noise)
    runner.wait()
    return Peak(2 * noise.numel() / seconds(lambda: to.copy_(noise)), rate(multiply_add), rate(exponentials))
