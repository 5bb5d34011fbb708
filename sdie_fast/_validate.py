"""Every check on what callers pass in, and every message.

Each function takes an argument's value (and its name, where it varies) and returns it in the one
form the rest of the package works with, or raises `InvalidArgumentError` or `InvalidTypeError`
quoting what was received.
"""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .cuda.arrays import DeviceArray
from .errors import InvalidArgumentError, InvalidTypeError

Image = npt.NDArray[Any]
Rule = Callable[[str, Any], Any]
T = TypeVar("T")

MAX_PIXELS = 2**28
MAX_THREADS = 1024
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))

_MAX_SIDE = 2**30
_ONE = np.float32(1.0).view(np.uint32)

# Whether two views share an element is a Diophantine problem; this bounds what numpy spends on it.
_OVERLAP_WORK = 100_000


def quote(value: object) -> str:
    """Write a value for a message, on one line and cut short."""
    try:
        words = " ".join(repr(value).split())
    except ValueError:  # an integer with more digits than Python prints
        return "a number too long to print"
    return words if len(words) <= 80 else words[:77] + "..."


def _wrong_type(name: str, value: object, accepted: str) -> InvalidTypeError:
    kind = type(value).__name__
    return InvalidTypeError(f"{name}: received {quote(value)} of type {kind}; accepted: {accepted}")


def wrong(name: str, received: str, accepted: str) -> InvalidArgumentError:
    """Make the error for a value that cannot be used."""
    return InvalidArgumentError(f"{name}: received {received}; accepted: {accepted}")


def _describe(array: Image | DeviceArray) -> str:
    place = f" on CUDA device {array.device}" if isinstance(array, DeviceArray) else ""
    return f"{array.dtype} array of shape {tuple(array.shape)}{place}"


# Numbers, choices and switches. `Rule`s are made once, in tables, and applied as rule(name, value).


def real(low: float, high: float, *, above_low: bool = False) -> Rule:
    """Rule for a real number in [low, high], or in (low, high] with `above_low`; returns float."""
    accepted = f"a number {'>' if above_low else '>='} {low:g} and <= {high:g}"

    def check(name: str, value: Any) -> float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
            raise _wrong_type(name, value, accepted)
        given: Any = value  # numbers.Real promises no comparison with float
        if not (low < given <= high if above_low else low <= given <= high):
            raise wrong(name, quote(value), accepted)
        return float(value)

    return check


def integer(low: int, high: int, *, odd: bool = False, optional: bool = False) -> Rule:
    """Rule for an integer in [low, high], odd if asked; None passes if `optional`."""
    accepted = f"an{' odd' * odd} integer from {low} to {high}{' or None' * optional}"

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
            raise _wrong_type(name, value, accepted)
        number = operator.index(value)
        if not low <= number <= high or (odd and number % 2 == 0):
            raise wrong(name, quote(number), accepted)
        return number

    return check


def passes(value: Any, rounds: int) -> int:
    """Check a number of passes: rounds divide into them evenly."""
    number: int = integer(1, max(rounds, 1))("passes", value)
    if rounds % number:
        raise wrong("passes", quote(number), f"a divisor of the {rounds} rounds")
    return number


def choice(*accepted: str) -> Rule:
    """Rule for one of a few strings."""
    names = ", ".join(map(repr, accepted))

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(name, value, names)
        if value not in accepted:
            raise wrong(name, quote(value), names)
        return str(value)

    return check


def flag(name: str, value: Any) -> bool:
    """Check a switch: True or False, and nothing that merely counts as either."""
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong_type(name, value, "True or False")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Check a free text."""
    if not isinstance(value, str):
        raise _wrong_type(name, value, "a string")
    return str(value)


def instance(name: str, value: Any, kind: type[T]) -> T:
    """Check that a value is of one of the package's own classes."""
    if not isinstance(value, kind):
        raise _wrong_type(name, value, kind.__name__)
    return value


def equal(name: str, value: Any, expected: object) -> None:
    """Check a value of which only one is accepted."""
    if type(value) is not type(expected) or value != expected:
        raise wrong(name, quote(value), quote(expected))


def known_keys(what: str, received: Iterable[Any], accepted: Iterable[str]) -> None:
    """Check that a mapping has no key besides the accepted ones."""
    names = tuple(accepted)
    for key in received:
        if key not in names:
            raise wrong(what, f"the unknown key {quote(key)}", ", ".join(names))


def mapping(what: str, value: Any) -> Mapping[Any, Any]:
    """Check a dictionary."""
    if not isinstance(value, Mapping):
        raise _wrong_type(what, value, "a dict")
    return value


def path(name: str, value: Any) -> Path:
    """Check a path of the file system."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise _wrong_type(name, value, "a string or a pathlib.Path")
    if "\0" in os.fspath(value):
        raise wrong(name, quote(value), "a path without null characters")
    return Path(value)


_thread_count = integer(1, MAX_THREADS)
_pixel_limit = integer(1, 2**62)
_white_level = real(1.0, 65535.0)
_axes = choice("HW", "HWC", "NHW", "NHWC")


def threads(value: Any) -> int:
    """Check the number of threads to use at most; None means every CPU this process may run on."""
    if value is not None:
        count: int = _thread_count("threads", value)
        return count
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


# Arrays: NumPy's, and those on a CUDA device as `DeviceArray` describes them.


def image(value: Any, max_pixels: Any = None, axes: Any = None) -> Any:
    """Check an image or a batch by its type, shape and size (its values: `intensities`).

    Parameters
    ----------
    value
        uint8, uint16 or float32 array of the axes that `axes_of` tells, with any strides.
    max_pixels
        Largest H * W accepted; None means 2**28.
    axes
        As `axes_of` takes them.

    Returns
    -------
    ndarray or DeviceArray of shape (N, H, W, C), C = 1 or 3
        A view of the array; a copy only of an ndarray whose elements are not aligned in memory.
    """
    array = _array("image", value)
    if array.dtype not in DTYPES:
        raise InvalidTypeError(
            f"image: received {_describe(array)}; accepted dtypes: uint8, uint16, float32, all in native byte order"
        )
    limit: int = MAX_PIXELS if max_pixels is None else _pixel_limit("max_pixels", max_pixels)
    planes = as_planes(array, axes)
    if planes.size == 0:
        raise wrong("image", f"an empty {_describe(array)}", "at least one pixel")
    _, height, width, _ = planes.shape
    received = f"{height} x {width} = {height * width} pixels"
    if height * width > limit:
        raise wrong("image", received, f"at most {limit} (max_pixels= raises the limit)")
    if max(height, width) > _MAX_SIDE:
        raise wrong("image", received, f"at most {_MAX_SIDE} a side")
    if planes.flags.aligned:
        return planes
    if isinstance(planes, DeviceArray):
        raise wrong("image", f"{_describe(array)}, misaligned", "an aligned array")
    return planes.copy()


def _array(name: str, value: Any) -> Any:
    if type(value) is np.ndarray or isinstance(value, DeviceArray):
        return value
    if not isinstance(value, np.ndarray):
        raise _wrong_type(name, value, "a numpy.ndarray, or an array on a CUDA device")
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidTypeError(f"{name}: received a masked array; accepted: a numpy.ndarray without a mask")
    return np.asarray(value)


def axes_of(array: Any, axes: Any = None) -> str:
    """Tell the axes of an array, or a tensor, of images: "HW", "HWC", "NHW" or "NHWC".

    Unless they are given, three axes are a picture where the last can be channels, else a batch of grey pictures. A
    last axis of 2 or 4 is refused: a picture with alpha is likelier than a batch of pictures 4 pixels wide.
    """
    shape = tuple(array.shape)
    if axes is not None:
        found: str = _axes("axes", axes)
        if len(found) != len(shape):
            raise wrong("axes", f"{found!r} for {_describe(array)}", f"a letter for each of its {len(shape)} axes")
    elif len(shape) == 3:
        found = "HWC" if 1 <= shape[2] <= 4 else "NHW"
    elif len(shape) in (2, 4):
        found = "HW" if len(shape) == 2 else "NHWC"
    else:
        pictures = "(H, W), (H, W, 1), (H, W, 3)"
        batches = "(N, H, W), (N, H, W, 1), (N, H, W, 3)"
        raise wrong("image", _describe(array), f"shapes {pictures}, {batches}")
    if found[-1] == "C" and shape[-1] not in (1, 3):
        accepted = "1 or 3 channels (carry alpha beside)"
        if axes is None and len(shape) == 3:
            accepted += f', or axes="NHW" for a batch of images {shape[2]} pixels wide'
        raise wrong("image", f"{_describe(array)}: {shape[-1]} channels", accepted)
    return found


def as_planes(array: Any, axes: Any = None) -> Any:
    """View an array, or a tensor, as (N, H, W, C), by the axes that `axes_of` tells."""
    found = axes_of(array, axes)
    if found[-1] != "C":
        array = array[..., np.newaxis]
    return array if found[0] == "N" else array[np.newaxis]


def white_level(value: Any, dtype: np.dtype[Any]) -> float:
    """Check the white level, and give what counts as 1.0 in images of that dtype."""
    if dtype == np.uint16:
        level: float = 65535.0 if value is None else _white_level("white_level", value)
        return level
    if value is not None:
        raise wrong("white_level", f"{quote(value)} with a {dtype} image", "None, but for uint16")
    return 255.0 if dtype == np.uint8 else 1.0


def intensities(planes: Image, white: float) -> None:
    """Check that the values of (N, H, W, C) images lie in [0, white]."""
    if planes.dtype == np.float32:
        # As integers, the bits of floats from 0.0 to 1.0 are the least: one pass tells, but for -0.0.
        if planes.view(np.uint32).max() <= _ONE:
            return
        low, high = planes.min(), planes.max()  # NaN if any value is
        if not (low >= 0.0 and high <= 1.0):
            received = "NaN" if np.isnan(low) else f"values from {low:.9g} to {high:.9g}"
            raise wrong("image", received, "finite float32 values in [0, 1]")
    elif planes.dtype == np.uint16 and white < 65535.0:
        brightest = int(planes.max())
        if brightest > white:
            raise wrong("image", f"values up to {brightest}", f"at most white_level={white:g}")


def size(planes: Image | DeviceArray, window: int) -> None:
    """Check that (N, H, W, C) images are no smaller than the largest window in use."""
    _, height, width, _ = planes.shape
    if min(height, width) < window:
        raise wrong(
            "image",
            f"{height} x {width} pixels",
            f"at least {window} x {window}, the largest window of the filters in use",
        )


def output(value: Any, image: Any, axes: Any = None) -> tuple[Any, Any]:
    """Check `out`, or make one: the image's shape and dtype, writable, apart from it in memory.

    Both are ndarrays, or both `DeviceArray`s of one device, of which none is made here. Their axes are `axes`.

    Returns
    -------
    out : ndarray or DeviceArray
        The object given, or a new array.
    planes : ndarray or DeviceArray of shape (N, H, W, C)
        A view of it.
    """
    if value is None:
        value = np.empty(image.shape, image.dtype)
        return value, as_planes(value, axes)
    array = _array("out", value)
    _same_place(array, image)
    if array.dtype != image.dtype:
        raise InvalidTypeError(f"out: received {_describe(array)}; accepted dtype: the image's {image.dtype}")
    if array.shape != image.shape:
        raise wrong("out", _describe(array), f"the image's shape {image.shape}")
    if not array.flags.writeable:
        raise wrong("out", "a read-only array", "a writable one")
    if not array.flags.aligned:
        raise wrong("out", "an array of misaligned elements", "an aligned array")
    if _overlaps_itself(array):
        raise wrong("out", f"{_describe(array)} and strides {array.strides}", "elements that do not overlap")
    if _shares_memory(array, image):
        raise wrong("out", "an array that shares memory with image", "one that does not")
    return value, as_planes(array, axes)


def _same_place(array: Image | DeviceArray, image: Image | DeviceArray) -> None:
    devices = [a.device if isinstance(a, DeviceArray) else None for a in (array, image)]
    if devices[0] != devices[1]:
        where = "the host" if devices[1] is None else f"CUDA device {devices[1]}"
        received = _describe(array) + (" on the host" if devices[0] is None else "")
        raise wrong("out", received, f"an array on {where}, where the image is")


def _shares_memory(a: Image | DeviceArray, b: Image | DeviceArray) -> bool:
    if isinstance(a, DeviceArray):
        a = a.addresses
    if isinstance(b, DeviceArray):
        b = b.addresses
    if not np.may_share_memory(a, b):
        return False
    shares: Any = np.shares_memory  # older stubs know no number for max_work
    try:
        return bool(shares(a, b, max_work=_OVERLAP_WORK))
    except RuntimeError:  # numpy's TooHardError
        return True


def _overlaps_itself(array: Image | DeviceArray) -> bool:
    if isinstance(array, np.ndarray) and array.flags.c_contiguous:
        return False
    # Arrays whose axes do not nest by stride count as overlapping; those of every slice and
    # transpose of an ordinary array do nest.
    reach = array.itemsize
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(array.strides, array.shape, strict=True) if length > 1
    ):
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False


def filters(value: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Check a toolkit: distinct names of filters, one at least."""
    names = ", ".join(known)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong_type("filters", value, f"a sequence of names: {names}")
    for k, name in enumerate(value):
        if name not in known:
            raise wrong("filters", f"the unknown filter {quote(name)}", names)
        if name in value[:k]:
            raise wrong("filters", f"{name!r} twice", "each filter once")
    if not value:
        raise wrong("filters", "no name", f"one or more of {names}")
    return tuple(value)
