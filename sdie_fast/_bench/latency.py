"""`sdie-fast bench`: the cases, their candidates, and the comparison of answers before any is timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import FILTERS, FilterParams, _backends, enhance
from ..data import synthetic
from ..errors import InvalidArgumentError, SdieError
from ..filters import TABLE
from .peers import PEERS, ROUNDS, SAME, SMOOTHER, Bound, Call, library
from .timing import by_host, interleave, machine

__all__ = ["CASES", "Candidate", "candidates", "check", "measure", "parse_size", "sample"]

BATCH = 64
# Rounds of the whole toolkit, and the solver; each filter by itself; a batch.
TOOLKIT = {"round": (1, "fast"), "rounds": (ROUNDS, "fast"), "exact-round": (1, "exact")}
CASES = (*TOOLKIT, *(name for name in TABLE if name != "identity"), "batch")


class Candidate(NamedTuple):
    """One way of computing a case; the first of a case is ours, and the others are held to `bound`."""

    name: str
    call: Call
    bound: Bound | None = None


def parse_size(text: str) -> tuple[int, int]:
    """Read '200' or '1024x16384' as (height, width)."""
    try:
        parts = [int(p) for p in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or min(parts, default=0) < 16:
        raise InvalidArgumentError(
            f"--size: {text!r}; HEIGHTxWIDTH of 16 or more is accepted, such as 200 or 1024x4096"
        )
    return parts[0], parts[-1]


def sample(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A synthetic strip photograph of that size, uint8."""
    tile = synthetic.surface("scratch", seed=3, size=(min(height, 512), min(width, 512))).image
    reps = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.ascontiguousarray(np.tile(tile, reps)[:height, :width])


def candidates(
    case: str, g: npt.NDArray[np.uint8], threads: int, footprint: str, peers: bool, backend: str = "cpu"
) -> tuple[list[Candidate], list[str]]:
    """List the candidates of a case, ours first, and, in words, the peers that are missing."""

    def ours(weights: Any, solver: str = "exact", images: npt.NDArray[np.uint8] = g, threads: int = threads) -> Call:
        params = FilterParams(wls_solver=solver, bilateral_footprint=footprint)  # type: ignore[arg-type]
        out = np.empty_like(images)
        return lambda: enhance(images, weights, params=params, out=out, threads=threads, backend=backend)

    equal = dict.fromkeys(FILTERS, 1)
    if case in TOOLKIT:
        rounds, solver = TOOLKIT[case]
        found = [Candidate("sdie_fast", ours([equal] * rounds, solver))]
    elif case == "batch":
        batch = np.stack([np.roll(g, k, axis=1) for k in range(BATCH)])
        found = [Candidate("sdie_fast", ours(equal, "fast", batch))]
        if backend == "cpu":
            found.append(Candidate("sdie_fast, one thread", ours(equal, "fast", batch, 1), SAME))
    elif case == "wls":
        found = [
            Candidate("sdie_fast exact", ours({"wls": 1})),
            Candidate("sdie_fast fast", ours({"wls": 1}, "fast"), SMOOTHER),
        ]
    else:
        found = [Candidate("sdie_fast", ours({case: 1}))]
    missing = []
    for peer in PEERS if peers else ():
        if peer.case == case and g.size <= peer.most_pixels:
            try:
                found.append(Candidate(peer.name, peer.make(g, threads), peer.bound))
            except ImportError as error:
                missing.append(f"{case}, {peer.name}: not measured: {error}")
    return found, missing


def check(case: str, name: str, bound: Bound, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> str:
    """Compare an answer with ours, floats in [0, 1] or uint8; returns the difference in words.

    Raises
    ------
    SdieError
        It is more than the two definitions explain, or of another shape.
    """
    if ours.shape != theirs.shape:
        raise SdieError(f"{case}: {name} gives shape {theirs.shape}; {ours.shape} expected")
    levels = [np.float64(255 if x.dtype.kind == "f" else 1) * x for x in (ours, theirs)]
    apart = np.abs(levels[0] - levels[1])
    if bound.margin:
        inner = slice(bound.margin, -bound.margin)
        apart = apart[..., inner, inner]
    most, mean = float(apart.max()), float(apart.mean())
    if not (most <= bound.largest and mean <= bound.mean):
        raise SdieError(f"{case}: {name} differs by {most:.2f} (mean {mean:.2f}) of 255; {bound[:2]} expected")
    return f"{most:.1f} (mean {mean:.2f}) of 255: {bound.why}"


def measure(
    *,
    sizes: list[tuple[int, int]],
    cases: list[str] | None = None,
    threads: int,
    peers: bool,
    repeats: int,
    footprint: str,
    backend: str = "cpu",
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Compare and time every case at every size.

    Returns
    -------
    dict
        "machine": what the figures depend on; "rows": a dict for each candidate of each case and size; "missing": in
        words, peers that could not be measured, and what to install.

    Raises
    ------
    InvalidArgumentError, BackendUnavailableError
        Unknown case, footprint or backend, or a backend that cannot run here.
    SdieError
        A peer's answer lies further from ours than its definition explains: nothing is timed.
    """
    for case in cases or ():
        if case not in CASES:
            raise InvalidArgumentError(f"--case: {case!r}; accepted are {', '.join(CASES)}")
    found = _backends.resolve(backend)
    chosen = cases or [case for case in CASES if case not in TABLE or case in found.filters]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):  # BLAS and OpenMP are held to the threads where it is there
            stack.enter_context(library("threadpoolctl", "threadpoolctl").threadpool_limits(threads))
        for height, width in sizes:
            g = sample(height, width)
            for case in chosen:
                if progress is not None:
                    progress(f"{case} at {height} x {width}")
                those, without = candidates(case, g, threads, footprint, peers, found.name)
                missing += [words for words in without if words not in missing]
                rows += _rows(case, g, those, repeats)
    device = {"backend": found.name, "device": found.note} if found.name != "cpu" else {}
    return {"machine": machine(threads) | device, "rows": rows, "missing": missing}


def _rows(case: str, g: npt.NDArray[np.uint8], those: list[Candidate], repeats: int) -> list[dict[str, Any]]:
    """Compare the candidates of one case, then time them."""
    answer = np.array(those[0].call())
    differences = {
        name: "" if bound is None else check(case, name, bound, answer, np.array(call()))
        for name, call, bound in those
    }
    times = interleave({name: by_host(call) for name, call, _ in those}, repeats)
    pixels = g.size * {"batch": BATCH, "rounds": ROUNDS}.get(case, 1)
    ours = times[those[0].name]
    return [
        {
            "case": case,
            "size": f"{g.shape[0]}x{g.shape[1]}",
            "candidate": name,
            "median_ms": t.median * 1e3,
            "iqr_ms": t.iqr * 1e3,
            "p99_ms": t.p99 * 1e3,
            "best_ms": t.best * 1e3,
            "samples": t.samples,
            "mpx_per_s": pixels / t.median / 1e6,
            "ratio": t.median / ours.median,
            "difference": differences[name],
        }
        for name, t in times.items()
    ]
