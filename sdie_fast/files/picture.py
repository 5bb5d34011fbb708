"""What an image file holds, whatever its format."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageFileError, InvalidArgumentError

__all__ = ["FULL", "Limits", "Meta", "Picture", "Resolution", "refuse", "rescaled", "turned"]

FULL = 65535  # a white level: 16 bits in full

_METRES = {"inch": 0.0254, "cm": 0.01, "m": 1.0}


@dataclass(frozen=True)
class Limits:
    """What a file may cost before it is refused.

    Attributes
    ----------
    pixels : int
        Height times width, at most.
    metadata : int
        Bytes of text, EXIF or colour profile, unpacked, at most: what is longer is left out.
    """

    pixels: int = 2**28
    metadata: int = 2**24

    def __post_init__(self) -> None:
        for name in ("pixels", "metadata"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value < 2**62:
                raise InvalidArgumentError(f"{name}: received {value!r}; accepted: an integer from 1 to 2**62 - 1")

    def check(self, name: str, height: int, width: int) -> None:
        """Refuse an empty picture, and one of too many pixels.

        Raises
        ------
        ImageFileError
            It is one.
        """
        if height < 1 or width < 1:
            raise refuse(name, f"{width} x {height} pixels")
        if height * width > self.pixels:
            raise refuse(name, f"{width} x {height} pixels, more than the {self.pixels} accepted (--max-pixels)")


def refuse(name: str, why: str) -> ImageFileError:
    """Make the error of a file that is not taken."""
    return ImageFileError(f"{name}: {why}")


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit of length along x and y; of the unit "none" only their ratio counts."""

    x: float
    y: float
    unit: str = "none"

    @staticmethod
    def of(x: Any, y: Any, unit: str) -> Resolution | None:
        """Make one, or none of numbers that are no resolution: zero, negative, not finite, beyond 32 bits."""
        try:
            x, y = float(x), float(y)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return None
        if not all(math.isfinite(v) and 1e-3 <= v < 2**31 for v in (x, y)):
            return None
        return None if unit == "none" and x == y else Resolution(x, y, unit)

    def per(self, unit: str) -> tuple[float, float]:
        """Pixels per another unit."""
        scale = _METRES[unit] / _METRES[self.unit]
        return self.x * scale, self.y * scale

    def whole(self, unit: str, most: int) -> tuple[int, int] | None:
        """Whole numbers of pixels per unit (or their ratio), or None where those would be wrong by more than 1%."""
        x, y = (self.x, self.y) if self.unit == "none" else self.per(unit)
        if self.unit == "none":
            ratio = Fraction(x / y).limit_denominator(1000)
            pair = ratio.numerator, ratio.denominator
        else:
            pair = round(x), round(y)
        near = all(1 <= n <= most for n in pair) and (
            self.unit == "none" or all(abs(n - v) <= 0.01 * v for n, v in zip(pair, (x, y), strict=True))
        )
        return pair if near else None


@dataclass(frozen=True)
class Meta:
    """What a file says beside its pixels.

    Attributes
    ----------
    resolution : Resolution, optional
        Turned with the pixels.
    icc : bytes, optional
        A colour profile that describes the pixels.
    exif : bytes, optional
        EXIF data, beginning with its byte order, with the orientation 1.
    native : tuple of (str, bytes)
        Parts that only this format has, as they stand in the file: chunks of a PNG, comments of a JPEG.
    """

    resolution: Resolution | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    native: tuple[tuple[str, bytes], ...] = ()

    def describing(self, grey: bool) -> Meta:
        """Leave a profile out that is none, or one of other colours than the pixels."""
        icc = self.icc
        wanted = b"GRAY" if grey else b"RGB "
        sound = icc is not None and len(icc) >= 128 and icc[36:40] == b"acsp" and icc[16:20] == wanted
        return self if icc is None or sound else replace(self, icc=None)


@dataclass(frozen=True)
class Picture:
    """One image file, read.

    Attributes
    ----------
    pixels : ndarray, uint8, uint16 or float32
        (H, W) grey or (H, W, 3) RGB, black at 0, upright. float32 lies in [0, 1].
    alpha : ndarray, optional
        (H, W) of the same dtype: carried over unchanged. Pixels are not multiplied by it.
    alpha_kind : {"straight", "associated", "unspecified"}
        "associated": the file's pixels were multiplied by alpha, and will be where the format says so (TIFF).
        "unspecified": a fourth channel of which the file does not say what it is.
    white_level : float, optional
        The uint16 value that counts as 1.0, where the file says so: `FULL` of fewer bits that were spread over 16. None
        means that it does not say.
    meta : Meta
        What the file says beside its pixels.
    """

    pixels: npt.NDArray[Any]
    alpha: npt.NDArray[Any] | None = None
    alpha_kind: str = "straight"
    white_level: float | None = None
    meta: Meta = field(default_factory=Meta)


def rescaled(values: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Spread samples of 1 to 16 bits over the whole range of 8 or 16 bits; black stays 0 and white becomes white."""
    if bits in (8, 16):
        return values
    kind: Any = np.uint8 if bits < 8 else np.uint16
    low, high = (1 << bits) - 1, int(np.iinfo(kind).max)
    table = (np.arange(low + 1, dtype=np.uint64) * high * 2 + low) // (2 * low)
    return np.asarray(table.astype(kind)[values.astype(np.uint16)])


def straight(pixels: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo the multiplication of pixels by alpha; `multiplied` gives back the very same numbers."""
    if pixels.dtype.kind == "f":
        many = alpha if pixels.ndim == 2 else alpha[..., None]
        return np.asarray(np.divide(pixels, many, out=np.zeros_like(pixels), where=many > 0).clip(0, 1))
    high = int(np.iinfo(pixels.dtype).max)
    many = (alpha if pixels.ndim == 2 else alpha[..., None]).astype(np.uint64)
    found = (2 * high * pixels.astype(np.uint64) + many) // np.maximum(2 * many, 1)
    return np.where(many > 0, np.minimum(found, high), 0).astype(pixels.dtype)


def multiplied(pixels: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Multiply pixels by alpha."""
    many = alpha if pixels.ndim == 2 else alpha[..., None]
    if pixels.dtype.kind == "f":
        return np.asarray(pixels * many)
    high = int(np.iinfo(pixels.dtype).max)
    return np.asarray((2 * pixels.astype(np.uint64) * many + high) // (2 * high), pixels.dtype)


def turned(picture: Picture, orientation: Any) -> Picture:
    """Apply what EXIF calls orientation (1 to 8; anything else counts as 1), the resolution's axes included."""
    if orientation not in range(2, 9):
        return picture
    swap = orientation >= 5

    def turn(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if swap:
            a = a.swapaxes(0, 1)
        # Which axes are mirrored, after the swap.
        if orientation in (3, 4, 7, 8):
            a = a[::-1]
        if orientation in (2, 3, 6, 7):
            a = a[:, ::-1]
        return np.ascontiguousarray(a)

    meta, r = picture.meta, picture.meta.resolution
    if swap and r is not None:
        meta = replace(meta, resolution=Resolution(r.y, r.x, r.unit))
    alpha = None if picture.alpha is None else turn(picture.alpha)
    return replace(picture, pixels=turn(picture.pixels), alpha=alpha, meta=meta)
