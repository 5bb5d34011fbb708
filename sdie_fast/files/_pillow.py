"""Image files in and out, by Pillow: which are taken, how they are held, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .atomic import opened_image, replace_file
from ..errors import ImageFileError

_GREY = {"L": np.uint8, "I;16": np.uint16, "I;16L": np.uint16, "I;16B": np.uint16}
_MAX_PIXELS = 2**28


@dataclass(frozen=True)
class Picture:
    """One image file, read.

    Attributes
    ----------
    pixels : ndarray, uint8 or uint16
        (H, W) grey or (H, W, 3) RGB.
    alpha : ndarray, uint8, optional
        (H, W): carried over unchanged.
    info : dict
        What Pillow is given back on writing: colour profile, resolution.
    """

    pixels: npt.NDArray[Any]
    alpha: npt.NDArray[np.uint8] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    white_level: float | None = None


def _sixteen_bit_colour(image: Image.Image) -> bool:
    # Pillow reads such files as 8-bit RGB without a word; only the decoder's raw mode tells.
    return any("16" in str(part) for tile in getattr(image, "tile", []) for part in (tile[3],))


def read(path: Path, max_pixels: int = _MAX_PIXELS) -> Picture:
    """Read one image file.

    Raises
    ------
    ImageFileError
        Not an image, truncated, larger than max_pixels, several pages or frames, or pixels that
        would lose something here (16-bit colour, floating point).
    """
    with opened_image(path, ImageFileError) as image:
        return _convert(path, image, max_pixels)


def _convert(path: Path, image: Image.Image, max_pixels: int) -> Picture:
    if image.width * image.height > max_pixels:
        raise ImageFileError(f"{path}: {image.width} x {image.height} pixels, more than the {max_pixels} accepted")
    if getattr(image, "n_frames", 1) > 1:
        raise ImageFileError(f"{path}: {image.n_frames} pages or frames; one is accepted")  # type: ignore[attr-defined]
    if image.mode in ("RGB", "RGBA") and _sixteen_bit_colour(image):
        raise ImageFileError(
            f"{path}: 16-bit colour, of which only 8 bits could be read; convert it to grey or 8 bits"
        )
    info = {k: image.info[k] for k in ("icc_profile", "dpi") if image.info.get(k)}
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in _GREY:
        pixels = np.asarray(image)
        return Picture(pixels.astype(_GREY[image.mode], copy=False), None, info)
    if image.mode == "I":  # how Pillow before 11 holds 16-bit PNG
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageFileError(f"{path}: values {wide.min()} to {wide.max()}; 0 to 65535 are accepted")
        return Picture(wide.astype(np.uint16), None, info)
    if image.mode in ("1", "P", "RGB", "RGBA", "LA", "PA", "CMYK"):
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        grey = image.mode in ("1", "LA")
        if has_alpha:
            both = np.asarray(image.convert("LA" if grey else "RGBA"))
            colour = both[..., 0] if grey else both[..., :3]
            return Picture(np.ascontiguousarray(colour), both[..., -1], info)
        return Picture(np.asarray(image.convert("L" if grey else "RGB")), None, info)
    raise ImageFileError(f"{path}: pixels of mode {image.mode!r}; 8- and 16-bit grey and 8-bit colour are accepted")


def _image(picture: Picture, path: Path) -> Image.Image:
    pixels = picture.pixels
    if picture.alpha is not None and path.suffix.lower() not in (".jpg", ".jpeg", ".bmp"):
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        return Image.fromarray(np.concatenate([planes, picture.alpha[..., None]], axis=2))
    if pixels.dtype == np.uint16 and path.suffix.lower() in (".jpg", ".jpeg", ".bmp"):
        raise ImageFileError(f"{path}: 16-bit pixels do not fit this format; write PNG or TIFF (--format png)")
    return Image.fromarray(np.ascontiguousarray(pixels))


_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}


def write(path: Path, picture: Picture) -> None:
    """Write one image file by atomic rename; the suffix decides the format (JPEG at quality 95).

    Raises
    ------
    ImageFileError
        The format cannot hold the pixels, or the file cannot be written.
    """
    kind = _FORMATS[path.suffix.lower()]
    options: dict[str, Any] = dict(picture.info)
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    if kind == "PNG":
        options["compress_level"] = 1  # the fastest; files grow by a tenth
    try:
        image = _image(picture, path)
        replace_file(path, lambda file: image.save(file, format=kind, **options))
    except ImageFileError:
        raise
    except (OSError, ValueError) as error:
        raise ImageFileError(f"{path}: cannot be written: {error}") from error


def decode(data: bytes, name: str, max_pixels: int = _MAX_PIXELS) -> Picture:
    """Read an image file's content."""
    import io

    return read(io.BytesIO(data), max_pixels)  # type: ignore[arg-type]


def measure(data: bytes, name: str) -> int:
    """Bytes that decoding, enhancing and encoding take."""
    return 50 * len(data)


def encode(picture: Picture, suffix: str, name: str, png_level: int = 1) -> list[bytes]:
    """Write an image file's content."""
    import io
    import pathlib

    path = pathlib.Path("x" + suffix)
    stream = io.BytesIO()
    _image(picture, path).save(stream, format=_FORMATS[suffix.lower()], **picture.info)
    return [stream.getvalue()]
