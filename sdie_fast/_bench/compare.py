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
_MACHINE = ("processor", "instruction set", "CPUs", "governor", "footprint")
_RESAMPLED, _CONFIDENCE = 1000, 0.99
# Nothing nearer to 1 is told: processes of one program differ by as much, by where their memory lies. Nor is what lies
# within a quarter of the two runs' spreads: samples of one run say little of a machine whose mood lasts longer.
_MARGIN = 0.03
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


def interval(
    old: Sequence[float], new: Sequence[float], old_loop: Sequence[float], new_loop: Sequence[float]
) -> tuple[float, float]:
    """99% interval of the ratio of medians, old over new, by bootstrap.

    Parameters
    ----------
    old, new : sequence of float
        Times in the order in which they were taken.
    old_loop, new_loop : sequence of float
        Times of constant work, taken in turn with them. The interval spans both the ratio of times and the ratio in
        units of this loop: a machine that itself became slower is no difference, and a loop that did is none either.
    """
    rng = np.random.default_rng(0)
    before, after, loop_before, loop_after = (
        _medians(np.asarray(times, np.float64), rng) for times in (old, new, old_loop, new_loop)
    )
    tail = (1 - _CONFIDENCE) / 2
    by_clock, by_loop = before / after, before / loop_before / (after / loop_after)
    quantiles = np.quantile([by_clock, by_loop], (tail, 1 - tail), axis=1)
    return float(quantiles.min()), float(quantiles.max())


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
        for rows, keys in ((report["rows"], KEYS), (report["reference"], KEYS[:-1])):
            if not all(row["samples_ms"] and min(row["samples_ms"]) > 0 and row.keys() >= {*keys} for row in rows):
                raise ValueError("a row lacks what a run writes")
        if (
            not isinstance(report["machine"], dict)
            or not report["noise"]["spread"] >= 0
            or not isinstance(report["noise"]["warnings"], list)
        ):
            raise ValueError("it does not say on what machine")
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidArgumentError(
            f"{path}: {type(error).__name__}: {error}; accepted is what `sdie-fast bench --json` printed"
        ) from error
    return dict(report)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEYS)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[Verdict], list[str]]:
    """Compare the rows that two reports share.

    Returns
    -------
    list of Verdict
        Empty where the machines differ.
    list of str
        In words: why rows, or all of them, are not comparable, and that the old run was noisy.
    """
    there, here = old["machine"], new["machine"]
    words = [
        f"not comparable: {name} was {there.get(name)}, and is {here.get(name)}"
        for name in _MACHINE
        if there.get(name) != here.get(name)
    ]
    if words:
        return [], words
    words = [f"the old run was too noisy to tell small differences: {warning}" for warning in old["noise"]["warnings"]]
    loops = [{_key(row)[:-1]: row["samples_ms"] for row in report["reference"]} for report in (old, new)]
    margin = 1 + max(_MARGIN, sum(report["noise"]["spread"] for report in (old, new)) / 4)
    before = {_key(row): row for row in old["rows"]}
    found = []
    for row in new["rows"]:
        key = _key(row)
        was = before.pop(key, None)
        if was is None or any(key[:-1] not in loop for loop in loops):
            words.append(f"not comparable: {' '.join(map(str, key))}: not in the old run")
            continue
        low, high = interval(was["samples_ms"], row["samples_ms"], *(loop[key[:-1]] for loop in loops))
        verdict = "faster" if low > margin else "slower" if high * margin < 1 else "no difference told"
        then, now = (float(np.median(samples["samples_ms"])) for samples in (was, row))
        found.append(Verdict(key, then, now, then / now, low, high, verdict))
    return found, words


def slower(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those of this package's candidates, and not of peers, that are slower."""
    return [v for v in verdicts if v.verdict == "slower" and v.key[-1].startswith(OURS)]
