"""Backends by name: what runs an enhancement, whether it can run here and, if not, why not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from . import _validate
from .errors import BackendUnavailableError

if TYPE_CHECKING:
    from . import _core
    from ._params import FilterParams

Planes = npt.NDArray[Any]


class Run(Protocol):
    """Enhances (N, H, W, C) `src` into `dst`, both of one dtype.

    The weights are normalised, float32 and (N, T, 6).
    """

    def __call__(
        self,
        src: Planes,
        dst: Planes,
        weights: npt.NDArray[np.float32],
        params: FilterParams,
        *,
        white_level: float,
        per_channel: bool,
        threads: int,
    ) -> None: ...


@dataclass(frozen=True)
class Backend:
    """One way of computing; `reason` and `fix` say why it is not available, and what would help."""

    name: str
    available: bool
    reason: str
    fix: str
    run: Run


@functools.lru_cache(maxsize=64)
def core_params(params: FilterParams) -> _core.Params:
    """Parameters as the compiled module takes them: every window resolved."""
    from . import _core

    values = params.to_dict()
    del values["window"]
    _, _, values["bilateral_window"], values["sharpen_window"], values["guided_window"], _ = (
        params.windows()
    )
    return _core.Params(**values)


def _run_cpu(
    src: Planes,
    dst: Planes,
    weights: npt.NDArray[np.float32],
    params: FilterParams,
    *,
    white_level: float,
    per_channel: bool,
    threads: int,
) -> None:
    from . import _core

    _core.enhance(src, dst, weights, core_params(params), white_level, per_channel, threads)


def _cpu() -> Backend:
    reason = fix = ""
    try:
        importlib.import_module("._core", __package__)
    except ModuleNotFoundError:
        reason = "the compiled module sdie_fast._core is missing"
        fix = "pip install sdie-fast (or, in a checkout, pip install .)"
    except ImportError as error:
        reason = f"the compiled module does not load: {error}"
        fix = "unset SDIE_FAST_ISA, if it is named in the reason; otherwise reinstall sdie-fast"
    return Backend("cpu", not reason, reason, fix, _run_cpu)


def _run_reference(
    src: Planes,
    dst: Planes,
    weights: npt.NDArray[np.float32],
    params: FilterParams,
    *,
    white_level: float,
    per_channel: bool,
    threads: int,
) -> None:
    from . import reference

    del threads
    result = reference.enhance(
        src, weights, params, white_level=white_level, per_channel=per_channel
    )
    if dst.dtype == np.float32:
        dst[...] = result
    else:
        dst[...] = np.floor(result * white_level + 0.5)


def _reference() -> Backend:
    found = importlib.util.find_spec("scipy") is not None
    reason, fix = ("", "") if found else ("SciPy is missing", "pip install scipy")
    return Backend("reference", found, reason, fix, _run_reference)


# Fastest first: the order in which "auto" tries them.
_MAKERS = {"cpu": _cpu, "reference": _reference}
NAMES = (*_MAKERS, "auto")

_name = _validate.choice(*NAMES)


@functools.cache
def get(name: str) -> Backend:
    """Get the backend of that name, available or not; it is looked for once per process."""
    return _MAKERS[name]()


def backends() -> tuple[Backend, ...]:
    """List every backend, fastest first, available or not."""
    return tuple(get(name) for name in _MAKERS)


def resolve(name: str) -> Backend:
    """Get the backend to run for a name a caller gave.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        No such name.
    BackendUnavailableError
        It cannot run here. Only "auto" falls back on a slower one, with a warning, once.
    """
    if _name("backend", name) == "auto":
        return _automatic()
    backend = get(name)
    if not backend.available:
        raise BackendUnavailableError(
            f"backend: {name!r} cannot run here: {backend.reason}; to fix: {backend.fix}"
        )
    return backend


@functools.cache
def _automatic() -> Backend:
    missing: list[Backend] = []
    for backend in backends():
        if backend.available:
            if missing:
                warnings.warn(
                    f"backend 'auto' runs {backend.name!r}, which is slower, because "
                    + "; ".join(
                        f"{b.name!r} cannot run: {b.reason} (to fix: {b.fix})" for b in missing
                    ),
                    RuntimeWarning,
                    stacklevel=5,  # the caller of enhance() or of a filter
                )
            return backend
        missing.append(backend)
    raise BackendUnavailableError(
        "backend: none can run here: "
        + "; ".join(f"{b.name!r}: {b.reason}; to fix: {b.fix}" for b in missing)
    )


def run(
    image: npt.NDArray[Any],
    weights: npt.ArrayLike,
    params: FilterParams,
    *,
    out: npt.NDArray[Any] | None,
    backend: str,
    threads: int | None,
    white_level: float | None,
    per_channel: bool,
    max_pixels: int | None,
) -> npt.NDArray[Any]:
    """Check every argument, then enhance; the arguments are those of `sdie_fast.enhance`."""
    chosen = resolve(backend)
    count = _validate.threads(threads)
    each_channel = _validate.flag("per_channel", per_channel)
    src = _validate.image(image, max_pixels)
    white = _validate.white_level(white_level, src.dtype)
    normal = _validate.weights(weights)
    _validate.size(src, int(((normal > 0) * params.windows()).max()))
    per_image = _validate.weights_per_image(normal, len(src))
    result, dst = _validate.output(out, image)
    _validate.intensities(src, white)
    chosen.run(
        src, dst, per_image, params, white_level=white, per_channel=each_channel, threads=count
    )
    return result
