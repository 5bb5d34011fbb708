"""`sdie-fast bench`: cases and settings measured, and what the machine was like meanwhile."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import FilterParams, _backends
from ..errors import InvalidArgumentError
from ..filters import TABLE
from . import roofline
from .cases import CASES, Candidate, candidates, check, sample
from .first import first_calls
from .machine import Watch, held, machine, reference_loop
from .setting import Setting
from .timing import QUANTILES, Timing, by_host, interleave, quantile_name

__all__ = ["LEAST", "measure"]

LEAST = 7  # calls of each candidate: what a median takes
_REFERENCE = "reference loop"

Watcher = Callable[[int, int, str], None]


def measure(
    settings: Sequence[Setting],
    *,
    cases: Sequence[str] | None = None,
    peers: bool = True,
    own: Mapping[str, Callable[[Any], Any]] | None = None,
    repeats: int = 500,
    seconds: float = 50.0,
    footprint: str = "disk",
    cold: bool = True,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Compare and time every case at every setting.

    Parameters
    ----------
    settings : sequence of Setting
    cases : sequence of str, optional
        Of `CASES`; None means all that the backend has.
    peers : bool
        Whether other libraries are measured, too.
    own : mapping of name to callable, optional
        Candidates of the user's: a function of a uint8 plane (H, W), in a batch (N, H, W), that gives uint8 or floats
        in [0, 1] of the same shape. Their answers are compared with ours and the difference told, not judged.
    repeats : int
        Calls of each candidate at most.
    seconds : float
        For all timed calls together; `LEAST` of each are made whatever they take.
    footprint : {"disk", "square"}
        Of our bilateral filter.
    cold : bool
        Whether first calls are measured, in fresh processes.
    watch : callable, optional
        Told (done, all, what comes next) before each case at each setting, and once in the end.

    Returns
    -------
    dict
        "date"; "machine": what the figures depend on; "noise": see `Watch.noise`; "rows": a dict for each candidate of
        each case and setting; "reference": a loop of constant work timed in turn with them; "rates":
        of `roofline`, by threads; "first_calls"; "missing": in words, peers that could not be measured, and what to
        install.

    Raises
    ------
    InvalidArgumentError, BackendUnavailableError
        Unknown case, footprint or backend, or a backend that cannot run here.
    SdieError
        A peer's answer lies further from ours than its definition explains (nothing of its case is timed), or a
        candidate of the user's fails.
    """
    for case in cases or ():
        if case not in CASES:
            raise InvalidArgumentError(f"--case: {case!r}; accepted are {', '.join(CASES)}")
    backends = {s.backend: _backends.resolve(s.backend) for s in settings}  # "auto" is one of the others
    settings = [s._replace(backend=backends[s.backend].name) for s in settings]
    backends = {b.name: b for b in backends.values()}
    todo = list(
        dict.fromkeys(
            (case, setting.of(case))
            for setting in settings
            for case in cases or CASES
            if cases or case not in TABLE or case in backends[setting.backend].filters
        )
    )
    threads = sorted({s.threads for s in settings})
    facts = machine(", ".join(map(str, threads)))
    facts["footprint"] = footprint
    devices = {f"device of {name}": b.note for name, b in backends.items() if name != "cpu"}
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": facts | devices,
        "rates": {str(n): {"bytes": roofline.bandwidth(n), "multiply_adds": roofline.peak(n)} for n in threads},
        "rows": [],
        "reference": [],
        "first_calls": [],
        "missing": [],
    }
    reference: list[float] = []
    mood, left = Watch(max(threads)), seconds
    for done, (case, setting) in enumerate(todo):
        if watch is not None:
            watch(done, len(todo), f"{case}, {setting.facts()['size']}, {setting.threads} threads")
        g = sample(*setting.size)
        if cold and case != "shares":  # whose first candidate is the round
            calls = first_calls(case, setting, g, footprint)
            report["first_calls"].append({"case": case, **setting.facts(), **calls})
        with held(setting.threads):
            those, missing = candidates(case, g, setting, footprint, peers, own)
            report["missing"] += [words for words in missing if words not in report["missing"]]
            answers = _differences(case, those)
            timers = {c.name: by_host(c.call) for c in those} | {_REFERENCE: reference_loop()}
            times = interleave(timers, repeats, least=LEAST, budget=left / (len(todo) - done))
        loop = times.pop(_REFERENCE).seconds
        reference += loop
        report["reference"].append({"case": case, **setting.facts(), "samples_ms": _milliseconds(loop)})
        left = max(0.0, left - sum(sum(t.seconds) for t in times.values()))
        report["rows"] += _rows(case, setting, footprint, those, times, answers)
    if watch is not None:
        watch(len(todo), len(todo), "done")
    report["noise"] = mood.noise(reference)
    return report


def _milliseconds(seconds: Sequence[float]) -> list[float]:
    return [round(s * 1e3, 6) for s in seconds]


def _differences(case: str, those: Sequence[Candidate]) -> dict[str, str]:
    """Compare every answer with the first one's."""
    answer = np.array(those[0].call())
    return {c.name: "" if c.bound is None else check(case, c.name, c.bound, answer, np.array(c.call())) for c in those}


def _rows(
    case: str,
    setting: Setting,
    footprint: str,
    those: Sequence[Candidate],
    times: Mapping[str, Timing],
    differences: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Sum up what was measured of one case at one setting."""
    pixels = setting.size[0] * setting.size[1] * setting.batch * setting.rounds
    ours = times[those[0].name].median
    rows = []
    for candidate in those:
        t = times[candidate.name]
        quantiles = {q: t.quantile(q) for q in QUANTILES}
        row = {
            "case": case,
            **setting.facts(),
            "candidate": candidate.name,
            "version": candidate.version,
            "samples": t.samples,
            "median_ms": t.median * 1e3,
            "iqr_ms": t.iqr * 1e3,
            **{f"{quantile_name(q)}_ms": None if v is None else v * 1e3 for q, v in quantiles.items()},
            "best_ms": t.best * 1e3,
            "mpx_per_s": pixels / t.median / 1e6,
            "ratio": t.median / ours,
            "difference": differences[candidate.name],
            "samples_ms": _milliseconds(t.seconds),
        }
        if candidate.weights is not None:
            params = FilterParams(wls_solver=candidate.solver, bilateral_footprint=footprint)  # type: ignore[arg-type]
            row["operations"] = roofline.operations(candidate.weights, params)
        rows.append(row)
    return rows
