"""Checks of weights, beside those of `_validate`: by the filters' names or as arrays, one form for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._validate import quote, wrong
from .errors import InvalidArgumentError, InvalidTypeError

__all__ = ["frozen", "is_named", "names_in", "shared_weights", "thawed", "weights", "weights_for"]

# Weights that are normalised up to float32 rounding are left alone, so that those that were
# normalised, stored and read back stay the same to the bit.
_SUM_TOLERANCE = 2.0**-22


_PLAIN = frozenset((int, float))  # not bool, which equals them and is refused
_MOST_FROZEN = 1024  # elements


def frozen(value: Any) -> tuple[Any, ...] | None:
    """Give weights as a key of caches, from which `thawed` makes the same again; None where that would not pay."""
    kind = type(value)
    if kind is np.ndarray:
        if value.dtype.kind in "iuf" and value.size <= _MOST_FROZEN:
            return kind, value.dtype, value.shape, value.tobytes()
    elif kind is dict:
        if _PLAIN.issuperset(map(type, value.values())) and all(type(name) is str for name in value):
            return kind, *value.items()
    elif (kind is list or kind is tuple) and _PLAIN.issuperset(map(type, value)):
        return kind, *value
    return None


def thawed(key: tuple[Any, ...]) -> Any:
    """Make weights again of what `frozen` gave."""
    if key[0] is np.ndarray:
        _, dtype, shape, elements = key
        return np.frombuffer(elements, dtype).reshape(shape)
    return key[0](key[1:])


def is_named(value: Any) -> bool:
    """Whether weights are given by the names of filters: a dict, or a list of such for rounds and images."""
    if isinstance(value, np.ndarray):  # quickly, since every call asks
        return False
    return isinstance(value, Mapping) or (isinstance(value, (list, tuple)) and any(map(is_named, value)))


def names_in(value: Any, known: Iterable[str]) -> set[str]:
    """Collect the filters that weights by name name, all of which have to be known."""
    if not isinstance(value, Mapping):
        return set().union(*(names_in(v, known) for v in value)) if isinstance(value, (list, tuple)) else set()
    for name in value:
        if name not in known:
            raise wrong("weights", f"the unknown filter {quote(name)}", ", ".join(known))
    return set(value)


def _rows(value: Any, names: Sequence[str]) -> Any:
    """Turn weights by name into lists of numbers in the order of `names`."""
    if not isinstance(value, Mapping):
        return [_rows(v, names) for v in value] if isinstance(value, (list, tuple)) else value
    for name in value:
        if name not in names:
            raise wrong("weights", f"the unknown filter {quote(name)}", ", ".join(names))
    return [value.get(name, 0.0) for name in names]


def _shapes(names: Sequence[str]) -> str:
    f = len(names)
    return f"shapes ({f},), (T, {f}) or (N, T, {f}), T >= 1, N images, in the order of {', '.join(names)}"


def weights(value: Any, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Check and normalise filter weights.

    Parameters
    ----------
    value
        Non-negative finite numbers of shape (F,), (T, F) or (N, T, F), T >= 1, or dicts from a filter's name to its
        weight in place of the vectors of F; every vector has a positive sum.
    names
        Of the F filters.

    Returns
    -------
    ndarray, float32, shape (T, F) or (N, T, F)
        w = a / sum(a): each vector sums to one.
    """
    if getattr(value, "is_cuda", False) or hasattr(value, "__cuda_array_interface__"):
        raise InvalidTypeError(
            f"weights: received a {type(value).__name__} on a CUDA device; accepted: real numbers "
            "on the host (of torch, weights.cpu())"
        )
    try:
        array = np.asarray(_rows(value, names) if is_named(value) else value)
    except ValueError as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise wrong("weights", quote(value), _shapes(names)) from error  # a ragged list
    if array.dtype.kind not in "iuf":
        raise InvalidTypeError(
            f"weights: received {quote(value)} of dtype {array.dtype}; accepted: real numbers, or dicts of them"
        )
    if array.ndim not in (1, 2, 3) or array.shape[-1] != len(names) or array.size == 0:
        raise wrong("weights", f"shape {array.shape}", _shapes(names))
    a = array.astype(np.float64)
    if a.ndim == 1:
        a = a[np.newaxis]
    # The ufuncs' own reductions, since on so few numbers an array's methods take twice as long.
    if not (np.minimum.reduce(a, axis=None) >= 0.0 and np.maximum.reduce(a, axis=None) < math.inf):
        at = np.argwhere(~(np.isfinite(a) & (a >= 0.0)))[0]
        where = f"for {names[at[-1]]!r}" if is_named(value) else f"at {at.tolist()}"
        raise wrong("weights", f"{a[tuple(at)]} {where}", "finite numbers >= 0")
    largest = np.maximum.reduce(a, axis=-1, keepdims=True)
    if not largest.all():
        at = np.argwhere(largest[..., 0] == 0)[0]
        raise wrong("weights", f"zeros alone at {at.tolist()}", "a weight > 0 in each round")
    normal = a / largest  # so that no sum overflows
    normal /= np.add.reduce(normal, axis=-1, keepdims=True)
    if np.maximum.reduce(np.abs(normal - a), axis=None) <= _SUM_TOLERANCE:
        normal = a
    return normal.astype(np.float32)


def weights_for(normal: npt.NDArray[np.float32], images: int) -> None:
    """Check that normalised weights are for every image, or as many as there are images."""
    if normal.ndim == 3 and len(normal) != images:
        f = normal.shape[2]
        raise wrong(
            "weights", f"shape {normal.shape} for {images} image(s)", f"shapes ({f},), (T, {f}), or (N, T, {f})"
        )


def shared_weights(value: Any, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Check and normalise weights that are the same for every image: float32, (T, F)."""
    normal = weights(value, names)
    if normal.ndim != 2:
        raise wrong("weights", f"shape {normal.shape}", f"shapes ({len(names)},) or (T, {len(names)})")
    return normal
