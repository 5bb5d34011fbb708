"""Synthetic strip-steel photographs with exact masks, for FSSD-12's twelve kinds of defect.

Procedural and seeded: the same kind, seed and size give the same image, whatever was made before. For trying the
package out, for tests and for training where no labelled photographs are at hand; they stand in for real ones in look
and grey-level statistics, not in variety.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError
from . import _defects, _texture

CODES = {
    "abrasion_mask": "Am",
    "iron_sheet_ash": "Ia",
    "liquid": "Ld",
    "oxide_scale": "Op",
    "oil_spot": "Os",
    "water_spot": "Ws",
    "patch": "Pa",
    "punching": "Pk",
    "red_iron_sheet": "Ri",
    "roll_printing": "Rp",
    "scratch": "Sc",
    "inclusion": "Se",
}
"""Kinds, in FSSD-12's order of classes 1 to 12, and that data set's codes."""

KINDS = tuple(CODES)
_PAINTERS: dict[str, _defects.Painter] = {kind: getattr(_defects, kind) for kind in KINDS}

_MASK_SHARE = (0.004, 0.36)
_TRIES = 40
_DTYPES = (np.uint8, np.uint16, np.float32)
_kind = _validate.choice(*KINDS)
_seed = _validate.integer(0, 2**32 - 1)
_side = _validate.integer(32, 16384)


class Sample(NamedTuple):
    """One synthetic photograph.

    Attributes
    ----------
    image : ndarray, (H, W)
        uint8, uint16 (white 65535) or float32 in [0, 1].
    mask : ndarray of bool, (H, W)
        The defect's pixels.
    kind : str
        One of `KINDS`, or "clean".
    seed : int
    """

    image: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    kind: str
    seed: int


def _check_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise InvalidTypeError(f"size: received {size!r}; a pair (height, width) is accepted")
    return int(_side("size[0]", size[0])), int(_side("size[1]", size[1]))


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise InvalidTypeError(f"dtype: received {dtype!r}; uint8, uint16 or float32 is accepted") from error
    if found not in _DTYPES:
        raise InvalidArgumentError(f"dtype: received {found}; uint8, uint16 or float32 is accepted")
    return found


def _quantise(image: _texture.Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype == np.float32:
        return image.astype(np.float32)
    return np.floor(image * np.iinfo(dtype).max + 0.5).astype(dtype)


def _generator(kind: str, seed: int, size: tuple[int, int], attempt: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(kind.encode()), seed, *size, attempt])


def clean(*, seed: int, size: tuple[int, int] = (200, 200), dtype: npt.DTypeLike = np.uint8) -> Sample:
    """Make a surface without a defect; its mask is empty. Arguments as for `surface`."""
    shape = _check_size(size)
    kept = _check_dtype(dtype)
    rng = _generator("clean", int(_seed("seed", seed)), shape, 0)
    plane, grain = _texture.strip(rng, *shape)
    image = _texture.photograph(rng, plane, grain)
    return Sample(_quantise(image, kept), np.zeros(shape, bool), "clean", seed)


def surface(
    kind: str, *, seed: int, size: tuple[int, int] = (200, 200), dtype: npt.DTypeLike = np.uint8
) -> Sample:
    """Make one photograph of a strip with a defect of one kind.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        0 to 2**32 - 1.
    size : (int, int)
        Height and width in pixels, 32 to 16384 each.
    dtype : uint8, uint16 or float32

    Returns
    -------
    Sample
        The mask covers between 0.4 and 36 per cent of the image.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Unknown kind, seed, size or dtype out of range.
    """
    name = str(_kind("kind", kind))
    number = int(_seed("seed", seed))
    shape = _check_size(size)
    kept = _check_dtype(dtype)
    # A defect may by chance lie outside the picture or cover it: then the next attempt's is taken.
    for attempt in range(_TRIES):
        rng = _generator(name, number, shape, attempt)
        plane, grain = _texture.strip(rng, *shape)
        plane, mask = _PAINTERS[name](rng, plane, grain)
        if _MASK_SHARE[0] <= mask.mean() <= _MASK_SHARE[1]:
            break
    image = _texture.photograph(rng, plane, grain)
    return Sample(_quantise(image, kept), mask, name, number)


def dataset(
    kinds: Sequence[str] = KINDS,
    *,
    per_kind: int,
    seed: int = 0,
    size: tuple[int, int] = (200, 200),
    dtype: npt.DTypeLike = np.uint8,
) -> Iterator[Sample]:
    """Make `per_kind` surfaces of every kind, kind by kind; their seeds are seed, seed + 1, ..."""
    if isinstance(kinds, str):
        raise InvalidTypeError(f"kinds: received the string {kinds!r}; a sequence of kinds is accepted")
    count = int(_validate.integer(1, 10**6)("per_kind", per_kind))
    for kind in kinds:
        for k in range(count):
            yield surface(kind, seed=seed + k, size=size, dtype=dtype)


def write_dataset(
    directory: str | Path,
    kinds: Sequence[str] = KINDS,
    *,
    per_kind: int,
    seed: int = 0,
    size: tuple[int, int] = (200, 200),
) -> Path:
    """Write a data set in the layout of FSSD-12 and Defect-4i and return its directory.

    Steel_XX/Images/Steel_XX_n.png and Steel_XX/GT/Steel_XX_n.png (masks 0 / 255), n from 1, with the lists
    all_defective.txt and all_mask.txt of lines "path  class id" (ids as FSSD-12's).
    """
    from PIL import Image

    root = Path(directory)
    lists: dict[str, list[str]] = {"Images": [], "GT": []}
    numbers: dict[str, int] = {}
    for sample in dataset(kinds, per_kind=per_kind, seed=seed, size=size):
        name = f"Steel_{CODES[sample.kind]}"
        numbers[name] = numbers.get(name, 0) + 1
        pixels = {"Images": sample.image, "GT": sample.mask.astype(np.uint8) * 255}
        for part, values in pixels.items():
            path = Path(name) / part / f"{name}_{numbers[name]}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / path)
            lists[part].append(f"{path.as_posix()}  {KINDS.index(sample.kind) + 1}\n")
    for part, file_name in (("Images", "all_defective.txt"), ("GT", "all_mask.txt")):
        (root / file_name).write_text("".join(lists[part]), encoding="utf-8")
    return root
