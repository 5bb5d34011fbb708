"""Procedural photographs of hot-rolled strip with exact defect masks.

Twelve kinds of defect, those of the FSSD-12 set, on strip with rolling texture, uneven light and
sensor noise. Everything follows from the kind, the seed and the size: the same three give the
same sample, whatever was drawn before it, on every platform whose float64 arithmetic rounds alike.

>>> from sdie_fast.data import synthetic
>>> sample = synthetic.surface("scratch", seed=7)
>>> sample.image.shape, sample.image.dtype, bool(sample.mask.any())
((200, 200), dtype('uint8'), True)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import ImageFileError, InvalidArgumentError, InvalidTypeError
from . import _marks, _stains, _texture
from ._shapes import Canvas, Defect

__all__ = ["FSSD_CODES", "KINDS", "Photograph", "clean", "dataset", "surface", "write_dataset"]

_Draw = Callable[[np.random.Generator, Canvas], Defect]

# In the order of FSSD-12's class ids, 1 to 12: code and drawing.
_TABLE: dict[str, tuple[str, _Draw]] = {
    "abrasion_mask": ("Am", _marks.abrasion_mask),
    "iron_sheet_ash": ("Ia", _stains.iron_sheet_ash),
    "liquid": ("Ld", _stains.liquid),
    "oxide_scale": ("Op", _stains.oxide_scale),
    "oil_spot": ("Os", _stains.oil_spot),
    "water_spot": ("Ws", _stains.water_spot),
    "patch": ("Pa", _stains.patch),
    "punching": ("Pk", _marks.punching),
    "red_iron_sheet": ("Ri", _stains.red_iron_sheet),
    "roll_printing": ("Rp", _marks.roll_printing),
    "scratch": ("Sc", _marks.scratch),
    "inclusion": ("Se", _marks.inclusion),
}

KINDS: tuple[str, ...] = tuple(_TABLE)
"""The twelve kinds of defect, in the order of FSSD-12's class ids 1 to 12."""

FSSD_CODES = MappingProxyType({kind: code for kind, (code, _) in _TABLE.items()})
"""FSSD-12's two-letter code of each kind: its class is ``Steel_<code>``."""

MIN_SHARE, MAX_SHARE = 0.005, 0.35
"""Least and greatest share of the image that a mask covers."""

# Share of samples on the coarse finish; what is not listed stands on it this often.
_COARSE = {"patch": 0.9, "scratch": 0.0, "inclusion": 0.0}
_COARSE_ELSE = 0.1

# Share of samples photographed with the strip running from side to side.
_SIDEWAYS = {"patch": 0.1, "inclusion": 0.06}
_SIDEWAYS_ELSE = 0.25

_ATTEMPTS = 64

# Drawing takes about twenty float64 planes.
_MAX_PIXELS = 2**26

_Image = npt.NDArray[Any]
_seed = _validate.integer(0, 2**64 - 1)
_side = _validate.integer(16, 16384)
_count = _validate.integer(1, 10**7)
_kind = _validate.choice(*KINDS)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph and the truth about it.

    Attributes
    ----------
    image : ndarray, (H, W), uint8, uint16 or float32
        Grey levels; float32 in [0, 1], integers over their whole range.
    mask : ndarray, bool, (H, W)
        True on the defect.
    kind : str
        One of `KINDS`, or ``"clean"``.
    seed : int
        With the kind and the size it gives the sample again.
    """

    image: _Image
    mask: npt.NDArray[np.bool_]
    kind: str
    seed: int


def surface(
    kind: str, *, seed: int, size: tuple[int, int] = (200, 200), dtype: npt.DTypeLike = np.uint8
) -> Photograph:
    """Photograph of a strip with one kind of defect on it.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        0 to 2**64 - 1; neighbouring seeds have nothing in common.
    size : (int, int)
        Height and width in pixels, each 16 to 16384, 2**26 pixels at most. Defects grow with the
        image; grain and blur, which belong to the camera, do not.
    dtype : dtype
        uint8, uint16 (white at 65535) or float32 (in [0, 1], not quantised): the same photograph.

    Returns
    -------
    Photograph
        Its mask covers 0.5 % to 35 % of the image.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        An unknown kind, or a seed, size or dtype outside what is said above.
    """
    name = _kind("kind", kind)
    return _make(name, _seed("seed", seed), _checked_size(size), _checked_dtype(dtype))


def clean(*, seed: int, size: tuple[int, int] = (200, 200), dtype: npt.DTypeLike = np.uint8) -> Photograph:
    """Photograph of a sound strip: a sample of kind ``"clean"`` whose mask is empty.

    Parameters and errors are those of `surface`.
    """
    return _make("clean", _seed("seed", seed), _checked_size(size), _checked_dtype(dtype))


def dataset(
    kinds: Sequence[str] = KINDS,
    *,
    per_kind: int,
    seed: int,
    size: tuple[int, int] = (200, 200),
    dtype: npt.DTypeLike = np.uint8,
) -> Iterator[Photograph]:
    """Make samples of several kinds, one kind after the other, as they are asked for.

    Parameters
    ----------
    kinds : sequence of str
        From `KINDS`, each at most once.
    per_kind : int
        Samples of each kind, 1 to 10,000,000. A smaller number gives the first of a larger.
    seed : int
        0 to 2**64 - 1. Each sample gets a seed of its own from it, by which `surface` gives that
        sample again.
    size, dtype
        As for `surface`.

    Returns
    -------
    iterator of Photograph

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        As `surface`, and at once, not at the first sample.
    """
    names = _checked_kinds(kinds)
    count = _count("per_kind", per_kind)
    first, shape, kept = _seed("seed", seed), _checked_size(size), _checked_dtype(dtype)
    return (_make(k, _member(first, i), shape, kept) for k in names for i in range(count))


def write_dataset(
    directory: str | os.PathLike[str],
    kinds: Sequence[str] = KINDS,
    *,
    per_kind: int,
    seed: int,
    size: tuple[int, int] = (200, 200),
) -> Path:
    """Write a data set to disk, laid out as the Defect-4i release.

    ``Steel_<code>/Images/Steel_<code>_<n>.png`` and ``Steel_<code>/GT/Steel_<code>_<n>.png``, n
    from 1, masks 0 and 255; ``all_defective.txt`` and ``all_mask.txt`` with a line
    ``path  class_id`` for each, ids being FSSD-12's. The directory appears when it is complete.

    Parameters
    ----------
    directory : path
        Must not exist, or be empty.
    kinds, per_kind, seed, size
        As for `dataset`.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        As `dataset`; or the directory has something in it.
    ImageFileError
        It cannot be written.
    """
    target = _validate.path("directory", directory)
    samples = dataset(kinds, per_kind=per_kind, seed=seed, size=size)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidArgumentError(
                f"directory: received {str(target)!r}, which has something in it; accepted: "
                "a directory that is empty or does not exist"
            )
        scratch.mkdir(parents=True)
        _write(scratch, samples)
        if target.exists():
            target.rmdir()
        scratch.rename(target)
    except OSError as error:
        raise ImageFileError(f"{target}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _write(directory: Path, samples: Iterator[Photograph]) -> None:
    """Write images, masks and lists of samples that come one kind after the other."""
    from PIL import Image

    numbers: dict[str, int] = {}
    lists: dict[str, list[str]] = {"Images": [], "GT": []}
    for sample in samples:
        number = numbers[sample.kind] = numbers.get(sample.kind, 0) + 1
        name = f"Steel_{FSSD_CODES[sample.kind]}"
        pictures = {"Images": sample.image, "GT": np.where(sample.mask, 255, 0).astype(np.uint8)}
        for folder, pixels in pictures.items():
            path = f"{name}/{folder}/{name}_{number}.png"
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(directory / path)
            lists[folder].append(f"{path}  {KINDS.index(sample.kind) + 1}\n")
    for folder, title in (("Images", "all_defective.txt"), ("GT", "all_mask.txt")):
        (directory / title).write_bytes("".join(lists[folder]).encode())


def _member(seed: int, number: int) -> int:
    """Seed of a data set's n-th sample."""
    words = [seed & 0xFFFFFFFF, seed >> 32, number]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _stream(kind: str, seed: int, size: tuple[int, int], *which: int) -> np.random.Generator:
    """Random numbers of one part of one sample: no part's draws depend on another's."""
    number = KINDS.index(kind) + 1 if kind in KINDS else 0
    # Always the same count of 32-bit words, so that no two lists run together into the same one.
    words = [number, seed & 0xFFFFFFFF, seed >> 32, *size, *which]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def _make(kind: str, seed: int, size: tuple[int, int], dtype: np.dtype[Any]) -> Photograph:
    setting = _stream(kind, seed, size, 0, 0)
    coarse = _texture.chance(setting, _COARSE.get(kind, _COARSE_ELSE))
    sideways = _texture.chance(setting, _SIDEWAYS.get(kind, _SIDEWAYS_ELSE))
    shape = size[::-1] if sideways else size
    canvas = Canvas(shape, 0.0)
    ground = _stream(kind, seed, size, 1, 0)
    if coarse:
        # Patches stay dark where the strip is overexposed; fainter defects would be lost.
        brightest = 0.94 if kind == "patch" else 0.6
        strip = _texture.coarse_surface(ground, shape, canvas.unit, brightest)
    else:
        strip = _texture.fine_surface(ground, shape, canvas.unit)
    mask = np.zeros(shape, dtype=np.bool_)
    light, texture = strip.light, strip.texture
    if kind != "clean":
        defect = _draw(kind, seed, size, Canvas(shape, strip.roughness))
        mask = defect.mask
        if defect.damping is not None:
            texture = texture * (1 - defect.damping)
        if defect.shine is not None:
            light = light + light.mean() * defect.shine
        light = light * defect.gain
    image = _texture.photograph(_stream(kind, seed, size, 2, 0), light * (1 + texture), strip.focus, strip.grain)
    if sideways:
        image, mask = image.T, mask.T
    return Photograph(_as_dtype(image, dtype), np.ascontiguousarray(mask), kind, seed)


def _draw(kind: str, seed: int, size: tuple[int, int], canvas: Canvas) -> Defect:
    """Draw until the mask's share is within limits; failing that, the nearest to them."""
    draw = _TABLE[kind][1]
    best, least = None, np.inf
    for attempt in range(_ATTEMPTS):
        defect = draw(_stream(kind, seed, size, 3, attempt), canvas)
        share = float(defect.mask.mean())
        excess = max(MIN_SHARE - share, share - MAX_SHARE, 0.0)
        if excess == 0:
            return defect
        if share > 0 and excess < least:
            best, least = defect, excess
    if best is None:
        raise RuntimeError(f"no {kind} fits an image of {size} at seed {seed}")
    return best


def _as_dtype(image: _texture.Plane, dtype: np.dtype[Any]) -> _Image:
    if dtype.kind == "f":
        return np.ascontiguousarray(image, dtype=dtype)
    return np.ascontiguousarray(np.floor(image * np.iinfo(dtype).max + 0.5), dtype=dtype)


def _checked_size(size: Any) -> tuple[int, int]:
    if isinstance(size, str) or not isinstance(size, Sequence):
        raise InvalidTypeError(f"size: received {size!r} of type {type(size).__name__}; accepted: (height, width)")
    if len(size) != 2:
        raise InvalidArgumentError(f"size: received {len(size)} numbers; accepted: 2, height and width")
    height, width = _side("size[0]", size[0]), _side("size[1]", size[1])
    if height * width > _MAX_PIXELS:
        raise InvalidArgumentError(f"size: received {height} x {width}; accepted: {_MAX_PIXELS} pixels at most")
    return height, width


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    accepted = "uint8, uint16 or float32"
    try:
        kept: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise InvalidTypeError(f"dtype: received {dtype!r}; accepted: {accepted}") from error
    if kept not in _validate.DTYPES:
        raise InvalidTypeError(f"dtype: received {kept}; accepted: {accepted}")
    return kept


def _checked_kinds(kinds: Any) -> tuple[str, ...]:
    if isinstance(kinds, str) or not isinstance(kinds, Sequence):
        raise InvalidTypeError(
            f"kinds: received {kinds!r} of type {type(kinds).__name__}; accepted: a sequence of "
            "names from sdie_fast.data.synthetic.KINDS"
        )
    names = tuple(_kind("kinds", kind) for kind in kinds)
    if not names or len(set(names)) < len(names):
        raise InvalidArgumentError(f"kinds: received {list(names)}; accepted: one kind or more, each once")
    return names
