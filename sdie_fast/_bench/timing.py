"""Timing several candidates for one job so that the machine's mood falls on all of them alike."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate's calls, summed up."""

    median: float
    iqr: float
    p99: float
    best: float
    samples: int


def quantile(sorted_samples: Sequence[float], q: float) -> float:
    """Quantile by linear interpolation between order statistics (NumPy's default)."""
    place = q * (len(sorted_samples) - 1)
    low = int(place)
    high = min(low + 1, len(sorted_samples) - 1)
    return sorted_samples[low] + (place - low) * (sorted_samples[high] - sorted_samples[low])


def summarise(samples: Sequence[float]) -> Timing:
    """Sum up seconds of single calls."""
    ordered = sorted(samples)
    return Timing(
        median=statistics.median(ordered),
        iqr=quantile(ordered, 0.75) - quantile(ordered, 0.25),
        p99=quantile(ordered, 0.99),
        best=ordered[0],
        samples=len(ordered),
    )


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warmup: int = 3,
    budget: float = 20.0,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time each candidate `repeats` times, all of them once per turn in shuffled order.

    Parameters
    ----------
    candidates : mapping of name to callable
        Called without arguments.
    repeats : int
        Turns; fewer, but at least three, once `budget` seconds are spent.
    warmup : int
        Calls of each that are not counted (one, for candidates that take over a second).
    seed : int
        Of the order.

    Returns
    -------
    dict of name to Timing
    """
    order = list(candidates)
    shuffle = random.Random(seed)
    for call in candidates.values():
        for _ in range(warmup):
            begin = time.perf_counter()
            call()
            if time.perf_counter() - begin > 1.0:
                break
    samples: dict[str, list[float]] = {name: [] for name in order}
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for turn in range(repeats):
            if turn >= 3 and time.perf_counter() - start > budget:
                break
            shuffle.shuffle(order)
            for name in order:
                begin = time.perf_counter()
                candidates[name]()
                samples[name].append(time.perf_counter() - begin)
    finally:
        if collecting:
            gc.enable()
    return {name: summarise(samples[name]) for name in candidates}
