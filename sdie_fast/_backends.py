"""Backends by name: what runs an enhancement, whether it can run here and, if not, why not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from . import _validate, _weights
from .cuda.arrays import DeviceArray
from .errors import BackendUnavailableError, InvalidArgumentError
from .filters import TABLE, FilterParams, toolkit

if TYPE_CHECKING:
    from . import _core

_NAMES = tuple(TABLE)
Array = TypeVar("Array")  # a numpy.ndarray, or an array on a CUDA device: the answer is of its kind

# Elements of an image or a batch on the host from which "auto" takes the GPU: where the kernels save
# more than the copies up and down cost. NOT MEASURED on any GPU yet, and until then it is never.
CROSSOVER_ELEMENTS = math.inf


class Options(NamedTuple):
    """How images are to be enhanced: what `sdie_fast.enhance` says of each."""

    white_level: float
    per_channel: bool
    threads: int


# Enhances (N, H, W, C) `src` into `dst`, both of one dtype: ndarrays, or for "cuda" two `DeviceArray`s as well. The
# weights are normalised, float32 and (N, T, F), in the order of the table of filters.
Run = Callable[[Any, Any, npt.NDArray[np.float32], FilterParams, Options], None]


@dataclass(frozen=True)
class Backend:
    """One way of computing; `reason` and `fix` say why it is not available, and what would help.

    `note` says on what it runs, where that is not plain; `filters` are those it has.
    """

    name: str
    available: bool
    reason: str
    fix: str
    run: Run
    note: str = ""
    filters: tuple[str, ...] = tuple(TABLE)


@functools.cache
def _core_filters() -> tuple[str, ...]:
    names: tuple[str, ...] = importlib.import_module("._core", __package__).filters()
    return names


@functools.lru_cache(maxsize=64)
def core_params(params: FilterParams) -> _core.Params:
    """Parameters as the compiled module takes them: every window resolved."""
    from . import _core

    return _core.Params(params.resolved(_core_filters()))


@functools.cache
def _core_enhance() -> Callable[..., None]:
    from . import _core

    names = _core.filters()
    if names == _NAMES:
        return _core.enhance

    def enhance(src: Any, dst: Any, weights: Any, *rest: Any) -> None:  # the table is ahead of the compiled module
        _core.enhance(src, dst, np.ascontiguousarray(weights[..., _columns(names)]), *rest)

    return enhance


def _run_cpu(src: Any, dst: Any, weights: Any, params: FilterParams, options: Options) -> None:
    _core_enhance()(src, dst, weights, core_params(params), *options)


def clear_cache() -> None:
    """Free what the compiled backend keeps between calls; see `sdie_fast.clear_cache`."""
    if get("cpu").available:
        from . import _core

        _core.clear_cache()


def _cpu() -> Backend:
    reason = fix = ""
    filters: tuple[str, ...] = ()
    try:
        filters = _core_filters()
    except ModuleNotFoundError:
        reason = "the compiled module sdie_fast._core is missing"
        fix = "pip install sdie-fast (or, in a checkout, pip install .)"
    except ImportError as error:
        reason = f"the compiled module does not load: {error}"
        fix = "unset SDIE_FAST_ISA, if it is named in the reason; otherwise reinstall sdie-fast"
    return Backend("cpu", not reason, reason, fix, _run_cpu, filters=filters)


def _run_reference(src: Any, dst: Any, weights: Any, params: FilterParams, options: Options) -> None:
    from . import reference

    white_level, per_channel, _ = options
    result = reference.enhance(src, weights, params, white_level=white_level, per_channel=per_channel)
    if dst.dtype == np.float32:
        dst[...] = result
    else:
        dst[...] = np.floor(result * white_level + 0.5)


def _reference() -> Backend:
    found = importlib.util.find_spec("scipy") is not None
    reason, fix = ("", "") if found else ("SciPy is missing", "pip install scipy")
    return Backend("reference", found, reason, fix, _run_reference)


def _run_cuda(src: Any, dst: Any, weights: Any, params: FilterParams, options: Options) -> None:
    from .cuda.run import run as run_cuda

    run_cuda(src, dst, weights, params, **options._asdict())


def _cuda() -> Backend:
    from .cuda import FILTERS, driver

    found = driver.state()
    return Backend("cuda", found.available, found.reason, found.fix, _run_cuda, found.note, FILTERS)


# Fastest first. For arrays on the host "auto" tries those in HOST in this order; it asks for the
# GPU's driver only where the crossover says so.
_MAKERS = {"cuda": _cuda, "cpu": _cpu, "reference": _reference}
HOST = ("cpu", "reference")
NAMES = (*_MAKERS, "auto")

_name = _validate.choice(*NAMES)


@functools.cache
def get(name: str) -> Backend:
    """Get the backend of that name, available or not; it is looked for once per process."""
    return _MAKERS[name]()


def backends() -> tuple[Backend, ...]:
    """List every backend, fastest first, available or not."""
    return tuple(get(name) for name in _MAKERS)


def resolve(name: str, filters: tuple[str, ...] = ()) -> Backend:
    """Get the backend to run those filters for a name a caller gave, for arrays on the host.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        No such name.
    BackendUnavailableError
        It cannot run here, or lacks a filter. Only "auto" falls back on a slower one, with a warning, once.
    """
    if _name("backend", name) == "auto":
        return _automatic(filters)
    backend = get(name)
    reason, fix = _missing(backend, filters)
    if reason:
        raise BackendUnavailableError(f"backend: {name!r} cannot run here: {reason}; to fix: {fix}")
    return backend


def _missing(backend: Backend, filters: tuple[str, ...]) -> tuple[str, str]:
    """Why a backend cannot run those filters here, and what would help."""
    if not backend.available:
        return backend.reason, backend.fix
    for name in filters:
        if name not in backend.filters:
            others = " or ".join(repr(other) for other in HOST if other != backend.name)
            return f"it has no filter {name!r}", f"leave it out, or take {others}"
    return "", ""


@functools.cache
def _automatic(filters: tuple[str, ...]) -> Backend:
    missing: list[str] = []
    for backend in map(get, HOST):
        reason, fix = _missing(backend, filters)
        if not reason:
            if missing:
                warnings.warn(
                    f"backend 'auto' runs {backend.name!r}, which is slower, because " + "; ".join(missing),
                    RuntimeWarning,
                    stacklevel=6,  # the caller of enhance() or of a filter
                )
            return backend
        missing.append(f"{backend.name!r} cannot run: {reason} (to fix: {fix})")
    raise BackendUnavailableError("backend: none can run here: " + "; ".join(missing))


def placed(name: str, value: Any) -> Any:
    """Describe an array on a CUDA device as a `DeviceArray`; anything else comes back as it is."""
    if value is None or isinstance(value, np.ndarray):
        return value
    from .cuda import arrays

    return arrays.describe(name, value) if arrays.on_device(value) else value


def choose(name: str, image: Any, filters: tuple[str, ...] = ()) -> Backend:
    """Get the backend to run those filters on an image, by the name a caller gave and where the image lies.

    On a CUDA device "auto" is "cuda"; on the host it is "cuda" from `CROSSOVER_ELEMENTS` on, where
    there is a GPU, and what `resolve` says below.

    Raises
    ------
    InvalidArgumentError
        A backend of the host for an image on a device.
    BackendUnavailableError, InvalidTypeError
        As for `resolve`.
    """
    if not isinstance(image, np.ndarray):
        from .cuda import arrays

        if arrays.on_device(image):
            if _name("backend", name) not in ("auto", "cuda"):
                raise InvalidArgumentError(
                    f"backend: received {name!r} with an image on a CUDA device; accepted: 'cuda', "
                    "'auto' (to fix: one of them, or copy the image to the host, as a numpy.ndarray)"
                )
            return resolve("cuda", filters)
    elif name == "auto" and image.size >= CROSSOVER_ELEMENTS and not _missing(get("cuda"), filters)[0]:
        return get("cuda")
    return resolve(name, filters)


@functools.lru_cache(maxsize=64)
def _columns(names: tuple[str, ...]) -> Any:
    """Places of those filters in the table."""
    if names == _NAMES[: len(names)]:
        return slice(len(names))
    return [_NAMES.index(name) for name in names]


class _Mix(NamedTuple):
    """Weights as a caller gave them, checked, and what follows from them alone."""

    normal: npt.NDArray[np.float32]  # (T, f) or (N, T, f) of the filters named
    table: npt.NDArray[np.float32]  # (1, T, F) or (N, T, F) of every filter in the table
    used: tuple[str, ...]


def _mix(weights: Any, filters: Any) -> _Mix:
    names = toolkit(weights, filters)
    normal = _weights.weights(weights, names)
    largest = np.maximum.reduce(normal.reshape(-1, len(names)))
    table = np.zeros((*(normal.shape[:-2] or (1,)), normal.shape[-2], len(_NAMES)), np.float32)
    table[..., _columns(names)] = normal
    table.flags.writeable = False  # it is kept
    return _Mix(normal, table, tuple(name for name, w in zip(names, largest.tolist(), strict=True) if w))


@functools.lru_cache(maxsize=256)
def _kept_mix(key: tuple[Any, ...], filters: tuple[str, ...] | None) -> _Mix:
    return _mix(_weights.thawed(key), filters)


def _mix_of(weights: Any, filters: Any) -> _Mix:
    """Check weights and the filters that they are for, or remember what came of it the last time."""
    key = _weights.frozen(weights)
    if key and (filters is None or (type(filters) is tuple and all(type(name) is str for name in filters))):
        return _kept_mix(key, filters)
    return _mix(weights, filters)


@functools.lru_cache(maxsize=64)
def _largest_window(params: FilterParams, used: tuple[str, ...]) -> int:
    largest: int = max(2 * params.of(name).reach() + 1 for name in used)
    return largest


def run(
    image: Array,
    weights: Any,
    params: FilterParams,
    *,
    out: Array | None,
    backend: str,
    threads: int | None,
    white_level: float | None,
    per_channel: bool,
    max_pixels: int | None,
    axes: str | None,
    filters: Sequence[str] | None,
) -> Array:
    """Check every argument, then enhance; the arguments are those of `sdie_fast.enhance`."""
    mix = _mix_of(weights, filters)
    chosen = choose(backend, image, mix.used)
    count = _validate.threads(threads)
    each_channel = _validate.flag("per_channel", per_channel)
    array = placed("image", image)
    src = _validate.image(array, max_pixels, axes)
    white = _validate.white_level(white_level, src.dtype)
    _validate.size(src, _largest_window(params, mix.used))
    _weights.weights_for(mix.normal, len(src))
    each = mix.table if len(mix.table) == len(src) else np.repeat(mix.table, len(src), axis=0)
    result, dst = output(out, array, axes)
    if not isinstance(array, DeviceArray):
        # On a device that would mean waiting for all that is under way to the values.
        _validate.intensities(src, white)
    chosen.run(src, dst, each, params, Options(white, each_channel, count))
    answer: Array = result
    return answer


def output(out: Any, image: Any, axes: Any = None) -> tuple[Any, Any]:
    """Check `out` for an image as `placed` gives it, or make one of the image's kind; of the same axes.

    Returns
    -------
    out
        The object given, or a new array.
    planes : ndarray or DeviceArray of shape (N, H, W, C)
        A view of it.
    """
    if not isinstance(image, DeviceArray):
        result, planes = _validate.output(placed("out", out), image, axes)
        return (result if out is None else out), planes
    if out is None:
        from .cuda import arrays

        out = arrays.empty_like(image)
    return out, _validate.output(placed("out", out), image, axes)[1]
