"""What a machine allows, measured, and the least bytes and operations that a case needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..filters import FilterParams
from .machine import held
from .timing import by_host

__all__ = ["BYTES", "bandwidth", "operations", "peak"]

BYTES = 2  # a pixel, uint8: read once, written once
_SPECIAL = 8  # multiply-adds of a polynomial in place of an exp2, a log2 or a reciprocal, at the least
_MIX = 10  # of loading, mixing, clipping and converting a pixel in each round

_COPIED = 1 << 28  # bytes: beyond the caches of one core's share, if not beyond the whole L3 of a large server
_SIDE = 384  # of the matrices whose product is the peak of arithmetic: under a millisecond, so that nothing interrupts


def _best_rate(amount: float, call: Callable[[], object], repeats: int) -> float:
    call()
    return amount / min(by_host(call)() for _ in range(repeats))


def bandwidth(threads: int, *, size: int = _COPIED, repeats: int = 10) -> float:
    """Bytes read plus bytes written a second by copies of `size` bytes in all, each thread its part, at best."""
    parts = [np.ones(size // threads, np.uint8) for _ in range(threads)]
    to = [np.zeros_like(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return _best_rate(2.0 * size, lambda: list(pool.map(np.copyto, to, parts)), repeats)


def peak(threads: int, *, side: int = _SIDE, repeats: int = 200) -> float | None:
    """Float32 multiply-adds a second in a product of matrices, at best; None where BLAS cannot be held to threads.

    On one thread, too, which is faster where several get in each other's way.
    """
    a = np.random.default_rng(0).random((side, side), np.float32)
    out = np.empty_like(a)
    best = 0.0
    for count in {1, threads}:
        with held(count) as done:
            if not done:
                return None
            best = max(best, _best_rate(float(side) ** 3, lambda: np.matmul(a, a, out), repeats))
    return best


def operations(weights: Mapping[str, float], params: FilterParams, rounds: int = 1) -> float:
    """Count multiply-adds a pixel that the definitions need for rounds of those filters."""
    each = [params.of(name).operations() for name in weights]
    return rounds * (_MIX + sum(float(count.lanes + _SPECIAL * count.special) for count in each))
