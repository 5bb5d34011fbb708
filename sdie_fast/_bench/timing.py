"""Timing several candidates for one job so that the machine's mood falls on all of them alike."""

from __future__ import annotations

import contextlib
import gc
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from .. import __version__, _backends

__all__ = ["Timer", "Timing", "by_host", "interleave", "machine", "summarise"]

Timer = Callable[[], float]  # makes a call, or many alike, and returns the seconds of one
OPENCV = (
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-python",
)


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate's calls, summed up."""

    median: float
    iqr: float
    p99: float
    best: float
    samples: int


def summarise(samples: Sequence[float]) -> Timing:
    """Sum up seconds of single calls."""
    first, median, third, p99 = (float(q) for q in np.quantile(samples, (0.25, 0.5, 0.75, 0.99)))
    return Timing(median, third - first, p99, min(samples), len(samples))


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
    """Time the candidates in turns, each once a turn, in shuffled order.

    Parameters
    ----------
    samples : mapping of name to callable
        Each returns the seconds of one call.
    turns : int
        Of all candidates; fewer, but at least `least`, once `budget` seconds are spent.
    warmup : int
        Samples of each that are not counted (one, for candidates that take over a second).
    seed : int
        Of the order.

    Returns
    -------
    dict of name to Timing
    """
    for sample in samples.values():
        for _ in range(warmup):
            if sample() > 1.0:
                break
    taken: dict[str, list[float]] = {name: [] for name in samples}
    order, shuffle = list(samples), random.Random(seed)
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for turn in range(turns):
            if turn >= least and time.perf_counter() - begin > budget:
                break
            shuffle.shuffle(order)
            for name in order:
                taken[name].append(samples[name]())
    finally:
        if collecting:
            gc.enable()
    return {name: summarise(seconds) for name, seconds in taken.items()}


def installed(*packages: str) -> str | None:
    """Version of the first of these packages that is installed."""
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return None


def machine(threads: int) -> dict[str, str | int | None]:
    """What the figures depend on: processor, instruction set, threads and versions (None: not installed)."""
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    isa = None
    if _backends.get("cpu").available:
        from .. import _core

        isa = _core.active_isa()
    return {
        "processor": model,
        "instruction set": isa,
        "threads": threads,
        "sdie_fast": __version__,
        "OpenCV": installed(*OPENCV),
        "SciPy": installed("scipy"),
        "scikit-image": installed("scikit-image"),
        "pyamg": installed("pyamg"),
        "Python": platform.python_version(),
    }
