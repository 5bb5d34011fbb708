"""The benchmark's cases: who computes each, and how their answers are compared."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import FILTERS, FilterParams, enhance
from ..errors import InvalidArgumentError, SdieError
from ..filters import TABLE
from .peers import PEERS, SAME, SMOOTHER, Bound, Call
from .setting import Setting
from .timing import by_host

__all__ = ["CASES", "OURS", "Candidate", "candidates", "check", "load", "picture", "sample"]

Plane = npt.NDArray[Any]

# Rounds of the whole toolkit, and the solver; each filter by itself; a batch; what each filter costs the round.
TOOLKIT = {"round": "fast", "rounds": "fast", "exact-round": "exact"}
CASES = (*TOOLKIT, *(name for name in TABLE if name != "identity"), "batch", "shares")
OURS = "sdie_fast"  # what the names of our candidates begin with
_TOLD = Bound(float("inf"), float("inf"), "told, not judged")


class Candidate(NamedTuple):
    """One way of computing a case; the first of a case is ours, and the others are held to `bound`.

    `weights` and `solver` are ours; `version` is which of its library's versions a peer runs.
    """

    name: str
    call: Call
    bound: Bound | None = None
    weights: Mapping[str, float] | None = None
    solver: str = ""
    version: str = ""


def sample(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A synthetic strip photograph of that size, uint8."""
    from ..data import synthetic

    tile = synthetic.surface("scratch", seed=3, size=(min(height, 512), min(width, 512))).image
    reps = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.ascontiguousarray(np.tile(tile, reps)[:height, :width])


def picture(case: str, g: npt.NDArray[np.uint8], setting: Setting) -> npt.NDArray[np.uint8]:
    """What the candidates of a case are given: the plane (H, W), or a batch of views of it (N, H, W)."""
    many = setting.of(case).batch
    return np.stack([np.roll(g, k, axis=1) for k in range(many)]) if case == "batch" else g


def load(spec: str) -> Callable[[Plane], Any]:
    """Import a candidate of the user's own, "module:function"; the current folder is looked into first.

    Raises
    ------
    InvalidArgumentError
        Not of that form, or no such module or function.
    SdieError
        The module raises while it is imported.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise InvalidArgumentError(f"--candidate: received {spec!r}; accepted: module:function, such as mine:smooth")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise InvalidArgumentError(
            f"--candidate: {spec}: {error}; looked for in this folder and on Python's path"
        ) from error
    except Exception as error:
        raise SdieError(f"--candidate: {spec}: {type(error).__name__} on import: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise InvalidArgumentError(f"--candidate: {spec} is {type(found).__name__}; a function of a plane is accepted")
    return found  # type: ignore[no-any-return]


def _ours(name: str, g: Plane, weights: Any, setting: Setting, footprint: str, solver: str = "fast") -> Candidate:
    """One of this package's, which writes into memory of its own, allocated here."""
    params = FilterParams(wls_solver=solver, bilateral_footprint=footprint)  # type: ignore[arg-type]
    out = np.empty_like(g)

    def call() -> Plane:
        return enhance(g, weights, params=params, out=out, threads=setting.threads, backend=setting.backend)

    first = weights[0] if isinstance(weights, list) else weights
    return Candidate(name, call, None, first, solver)


def _own(case: str, spec: str, function: Callable[[Plane], Any], images: Plane) -> Call:
    """Call the user's function of a copy that it cannot write to; what it raises is told with its name."""
    given = images.copy()
    given.flags.writeable = False

    def call() -> Plane:
        try:
            return np.asarray(function(given))
        except Exception as error:
            raise SdieError(f"{case}: {spec}: {type(error).__name__}: {error}") from error

    return call


def _shares(g: Plane, setting: Setting, footprint: str) -> list[Candidate]:
    """The round, each of its filters alone, and the round without it."""
    equal = dict.fromkeys(FILTERS, 1)
    found = [_ours(OURS, g, equal, setting, footprint)]
    for name in FILTERS:
        rest = {other: 1 for other in FILTERS if other != name}
        found.append(_ours(f"{OURS}, {name} only", g, {name: 1}, setting, footprint))
        found.append(_ours(f"{OURS}, no {name}", g, rest, setting, footprint))
    return found


def candidates(
    case: str,
    g: npt.NDArray[np.uint8],
    setting: Setting,
    footprint: str,
    peers: bool,
    own: Mapping[str, Callable[[Plane], Any]] | None = None,
) -> tuple[list[Candidate], list[str]]:
    """List the candidates of a case on a plane (H, W): ours first, then the user's own, then peers.

    Returns
    -------
    list of Candidate
    list of str
        In words, the peers that are missing.
    """
    setting, equal = setting.of(case), dict.fromkeys(FILTERS, 1)
    images = picture(case, g, setting)
    if case == "shares":
        return _shares(g, setting, footprint), []
    if case == "wls":
        fast = _ours(f"{OURS} fast", g, {"wls": 1}, setting, footprint)
        found = [
            _ours(f"{OURS} exact", g, {"wls": 1}, setting, footprint, "exact"),
            fast._replace(bound=SMOOTHER),
        ]
    elif case in TOOLKIT or case == "batch":
        ours = [equal] * setting.rounds, TOOLKIT.get(case, "fast")
        found = [_ours(OURS, images, ours[0], setting, footprint, ours[1])]
        if setting.backend == "cpu" and setting.threads > 1:
            single = _ours(f"{OURS}, one thread", images, ours[0], setting._replace(threads=1), footprint, ours[1])
            found.append(single._replace(bound=SAME))
    else:
        found = [_ours(OURS, g, {case: 1}, setting, footprint)]
    for spec, function in (own or {}).items():
        found.append(Candidate(spec, _own(case, spec, function, images), _TOLD))
    missing = []
    for peer in PEERS if peers else ():
        if peer.case == case and g.size <= peer.most_pixels:
            try:
                found.append(_fastest(peer.name, peer.make(images, setting), peer.bound))
            except ImportError as error:
                missing.append(f"{case}, {peer.name}: not measured: {error}")
    return found, missing


def _fastest(name: str, made: Call | Mapping[str, Call], bound: Bound) -> Candidate:
    """Try each version of a peer a few times, and take the fastest."""
    versions = made if isinstance(made, Mapping) else {"": made}
    best = {
        version: min(by_host(call)() for _ in range(5)) if len(versions) > 1 else 0.0
        for version, call in versions.items()
    }
    version = min(best, key=lambda v: best[v])
    return Candidate(name, versions[version], bound, version=version)


def check(case: str, name: str, bound: Bound, ours: Plane, theirs: Plane) -> str:
    """Compare an answer with ours, floats in [0, 1] or uint8; returns the difference in words.

    Raises
    ------
    SdieError
        It is more than the two definitions explain, or of another shape.
    """
    if ours.shape != theirs.shape or theirs.dtype.kind not in "fu":
        raise SdieError(
            f"{case}: {name} gives {theirs.dtype} of shape {theirs.shape}; uint8, or floats in [0, 1], of shape "
            f"{ours.shape} expected"
        )
    if theirs.dtype.kind == "f" and (theirs.min() < -1 or theirs.max() > 2):  # a sharpened picture may leave [0, 1]
        raise SdieError(f"{case}: {name} gives floats from {theirs.min():.3g} to {theirs.max():.3g}; [0, 1] expected")
    levels = [np.float64(255 if x.dtype.kind == "f" else 1) * x for x in (ours, theirs)]
    apart = np.abs(levels[0] - levels[1])
    if bound.margin:
        inner = slice(bound.margin, -bound.margin)
        apart = apart[..., inner, inner]
    most, mean = float(apart.max()), float(apart.mean())
    if not (most <= bound.largest and mean <= bound.mean):
        raise SdieError(f"{case}: {name} differs by {most:.2f} (mean {mean:.2f}) of 255; {bound[:2]} expected")
    return f"{most:.1f} (mean {mean:.2f}) of 255: {bound.why}"
