"""Timing several candidates for one job so that the machine's mood falls on all of them alike."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["QUANTILES", "Timer", "Timing", "by_host", "interleave", "quantile_name", "samples_needed"]

Timer = Callable[[], float]  # makes a call, or many alike, and returns the seconds of one
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def quantile_name(q: float) -> str:
    """'p99.9' of 0.999."""
    return f"p{100 * q:g}"


def samples_needed(quantile: float) -> int:
    """Fewest samples of which at least one lies beyond that quantile with a chance of 99%: 0.01 >= quantile ** n.

    7 for the median, 44, 459 and 4,603 for p90, p99 and p99.9: with fewer, a percentile is only the largest sample by
    another name.
    """
    return math.ceil(math.log(0.01) / math.log(quantile))


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate's calls, in the order in which they were made; one at least."""

    seconds: Sequence[float]

    @property
    def samples(self) -> int:
        """Number of calls."""
        return len(self.seconds)

    @property
    def median(self) -> float:
        """Median, of however few samples."""
        return float(np.median(self.seconds))

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        first, third = np.quantile(self.seconds, (0.25, 0.75))
        return float(third - first)

    @property
    def best(self) -> float:
        """Least."""
        return min(self.seconds)

    def quantile(self, q: float) -> float | None:
        """Quantile, or None where there are fewer samples than `samples_needed`."""
        return float(np.quantile(self.seconds, q)) if self.samples >= samples_needed(q) else None


def by_host(call: Callable[[], object]) -> Timer:
    """Time one call by the host's clock."""

    def sample() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return sample


def interleave(
    samples: Mapping[str, Timer],
    turns: int,
    *,
    least: int = 3,
    warmup: int = 3,
    budget: float = 20.0,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time the candidates in turns, in shuffled order within a turn.

    Parameters
    ----------
    samples : mapping of name to callable
        Each returns the seconds of one call.
    turns : int
        Samples of each candidate, where `budget` allows. Where it does not, slow candidates sit out turns, evenly over
        the whole run: each has its share of the time, and what quick ones leave of theirs.
    least : int
        Samples of each candidate whatever the budget.
    warmup : int
        Samples of each that are not counted (one, for candidates that take over a second).
    budget : float
        Seconds for all candidates together.
    seed : int
        Of the order.

    Returns
    -------
    dict of name to Timing
    """
    cost = dict.fromkeys(samples, 0.0)
    for name, sample in samples.items():
        for _ in range(warmup):
            begin = time.perf_counter()
            slow = sample() > 1.0
            took = time.perf_counter() - begin
            cost[name] = min(took, cost[name] or took)
            if slow:
                break
    due, left = {}, budget
    for k, name in enumerate(sorted(cost, key=lambda name: cost[name])):
        share = left / (len(cost) - k)
        due[name] = int(min(turns, max(least, share / max(cost[name], 1e-9))))
        left = max(0.0, left - due[name] * cost[name])
    taken: dict[str, list[float]] = {name: [] for name in samples}
    order, shuffle, most = list(samples), random.Random(seed), max(due.values())
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for turn in range(most):
            over = time.perf_counter() - begin > budget
            shuffle.shuffle(order)
            for name in order:
                if (turn + 1) * due[name] // most == turn * due[name] // most:
                    continue
                if not over or len(taken[name]) < least:
                    taken[name].append(samples[name]())
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}
