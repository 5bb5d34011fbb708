"""Two runs of the benchmark: what became faster or slower, as far as the spread of their samples lets one tell."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from .cases import OURS

__all__ = ["KEYS", "Verdict", "compare", "interval", "read_report", "slower"]

KEYS = ("case", "size", "threads", "batch", "rounds", "backend", "candidate")
# What must be alike for times to be comparable. Versions may differ: they are what is compared.
_MACHINE = ("processor", "instruction set", "CPUs", "footprint")
_RESAMPLED, _CONFIDENCE = 1000, 0.99
_LARGEST = 1 << 28  # bytes of a report


class Verdict(NamedTuple):
    """One row in both runs: the old median over the new, above 1 where the new run is faster, and its interval."""

    key: tuple[Any, ...]
    old_ms: float
    new_ms: float
    ratio: float
    low: float
    high: float
    verdict: str  # "faster", "slower", "no difference told"


def _medians(samples: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Medians of resampled series: of blocks of neighbours, since neighbours in time are alike (a block bootstrap)."""
    n = len(samples)
    block = max(1, round(math.sqrt(n)))
    begins = rng.integers(0, n - block + 1, (_RESAMPLED, -(-n // block)))
    places = (begins[..., None] + np.arange(block)).reshape(_RESAMPLED, -1)[:, :n]
    return np.asarray(np.median(samples[places], axis=1))


def interval(old: Sequence[float], new: Sequence[float], drift: float = 1.0) -> tuple[float, float]:
    """99% interval of the ratio of medians, old over new, by bootstrap.

    Parameters
    ----------
    old, new : sequence of float
        Times in the order in which they were taken.
    drift : float
        Factor, above or below 1, by which the machine itself changed between the runs: the interval grows by it.
    """
    rng = np.random.default_rng(0)
    ratios = _medians(np.asarray(old, np.float64), rng) / _medians(np.asarray(new, np.float64), rng)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    wider = max(drift, 1 / drift)
    return float(low / wider), float(high * wider)


def read_report(path: Path) -> dict[str, Any]:
    """Read what `sdie-fast bench --json` printed.

    Raises
    ------
    InvalidArgumentError
        No such file, or none of those.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST >> 20} MiB")
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report["rows"]:
            if not all(key in row for key in KEYS) or not all(ms > 0 for ms in row["samples_ms"]):
                raise ValueError("a row lacks what a run writes")
        if not (report["noise"]["reference_ms"] > 0 and isinstance(report["machine"], dict)):
            raise ValueError("it does not say on what machine")
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidArgumentError(
            f"{path}: {type(error).__name__}: {error}; accepted is what `sdie-fast bench --json` printed"
        ) from error
    return dict(report)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[Verdict], list[str]]:
    """Compare the rows that two reports share.

    Returns
    -------
    list of Verdict
        None where the machines differ.
    list of str
        Why rows, or all of them, are not comparable, in words.
    """
    there, here = old["machine"], new["machine"]
    words = [
        f"not comparable: {name} was {there.get(name)}, and is {here.get(name)}"
        for name in _MACHINE
        if there.get(name) != here.get(name)
    ]
    if words:
        return [], words
    drift = old["noise"]["reference_ms"] / new["noise"]["reference_ms"]
    before = {tuple(row[key] for key in KEYS): row for row in old["rows"]}
    found = []
    for row in new["rows"]:
        key = tuple(row[name] for name in KEYS)
        was = before.pop(key, None)
        if was is None:
            words.append(f"not comparable: {' '.join(map(str, key))}: not in the old run")
            continue
        low, high = interval(was["samples_ms"], row["samples_ms"], drift)
        verdict = "faster" if low > 1 else "slower" if high < 1 else "no difference told"
        times = was["median_ms"], row["median_ms"]
        found.append(Verdict(key, *times, times[0] / times[1], low, high, verdict))
    return found, words


def slower(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those of this package's candidates, and not of peers, that are slower."""
    return [v for v in verdicts if v.verdict == "slower" and v.key[-1].startswith(OURS)]
