"""Timing on a GPU: candidates in turns, each sample a run of calls between two events, or by the host's clock."""

from __future__ import annotations

import dataclasses
import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .timing import Timing, summarise

Enqueue = Callable[[int], object]


class Clock(Protocol):
    """Seconds a call takes when made `calls` times in a row, with the inputs `first`, `first` + 1 and so on."""

    def __call__(self, enqueue: Enqueue, first: int, calls: int) -> float: ...


class EventClock:
    """By CUDA events on a stream: what the device spends, and the gaps that launching leaves between."""

    def __init__(self, torch: Any, stream: Any) -> None:
        self._torch, self._stream = torch, stream

    def __call__(self, enqueue: Enqueue, first: int, calls: int) -> float:
        """Time the calls, which enqueue on the stream and do not wait."""
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self._stream)
        for k in range(first, first + calls):
            enqueue(k)
        end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls


def host_clock(enqueue: Enqueue, first: int, calls: int) -> float:
    """By the host's clock, for calls that return when their result is there."""
    begin = time.perf_counter()
    for k in range(first, first + calls):
        enqueue(k)
    return (time.perf_counter() - begin) / calls


@dataclasses.dataclass(frozen=True)
class Timed:
    """A call to be timed, and by which clock."""

    enqueue: Enqueue
    clock: Clock


def interleave(
    candidates: Mapping[str, Timed],
    *,
    seconds: float,
    sample: float = 0.02,
    least: int = 5,
    most: int = 100,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time the candidates in turns of shuffled order.

    Parameters
    ----------
    candidates : mapping of name to Timed
        Called with 0, 1, 2 and so on; each call should read another input, so that together they exceed the cache.
    seconds : float
        For all of them; at least `least` turns are made, however long they take.
    sample : float
        Seconds one sample takes at least (many calls, where one is shorter).
    least, most : int
        Turns.
    seed : int
        Of the order.

    Returns
    -------
    dict of name to Timing
        Of single calls: means over the calls of a sample, of which there are as many as turns.
    """
    calls: dict[str, int] = {}
    at: dict[str, int] = {}
    for name, candidate in candidates.items():
        candidate.clock(candidate.enqueue, 0, 2)  # compiles, allocates, records
        once = candidate.clock(candidate.enqueue, 2, 1)
        calls[name] = max(1, min(500, round(sample / max(once, 1e-6))))
        at[name] = 3
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order, shuffle = list(candidates), random.Random(seed)
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for turn in range(most):
            if turn >= least and time.perf_counter() - begin > seconds:
                break
            shuffle.shuffle(order)
            for name in order:
                candidate = candidates[name]
                samples[name].append(candidate.clock(candidate.enqueue, at[name], calls[name]))
                at[name] += calls[name]
    finally:
        if collecting:
            gc.enable()
    return {name: summarise(taken) for name, taken in samples.items()}
