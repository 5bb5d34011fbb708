"""Image files in and out: what a file says of its pixels is honoured or refused, never ignored.

PNG, JPEG, TIFF and BMP, told apart by their content. docs/batch.md lists what is kept and what is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SdieError
from . import bmp, jpeg, png, tiff
from .atomic import created, read_file, replace_file
from .colour import grey
from .picture import FULL, Limits, Meta, Picture, Resolution, refuse
from .remote import RemoteStore, open_store
from .store import Entry, LocalStore, Store

__all__ = [
    "FULL", "IMAGE_SUFFIXES", "Entry", "Limits", "LocalStore", "Meta", "Picture", "RemoteStore", "Resolution", "Store", "created", "decode",
    "encode", "grey", "measure", "open_store", "read", "read_file", "replace_file", "write",
]  # fmt: skip

_KINDS: dict[str, Any] = {".png": png, ".jpg": jpeg, ".jpeg": jpeg, ".bmp": bmp, ".tif": tiff, ".tiff": tiff}
IMAGE_SUFFIXES = tuple(_KINDS)
_MAGIC: tuple[tuple[bytes, Any], ...] = (
    (png.SIGNATURE, png), (b"\xff\xd8\xff", jpeg), (b"BM", bmp),
    (b"II*\0", tiff), (b"MM\0*", tiff), (b"II+\0", tiff), (b"MM\0+", tiff),
)  # fmt: skip


def _kind(data: bytes, name: str) -> Any:
    for magic, kind in _MAGIC:
        if data[: len(magic)] == magic:
            return kind
    raise refuse(name, "empty" if not data else "not a PNG, JPEG, TIFF or BMP file")


def decode(data: bytes, name: str, limits: Limits | None = None) -> Picture:
    """Read an image file's content.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What messages call it.
    limits : Limits, optional
        What it may cost.

    Raises
    ------
    ImageFileError
        Not an image, truncated or damaged, over a limit, of several pages, or something in it that cannot be carried
        over rightly. Whatever a decoder raises becomes this error.
    MemoryError
        There is not enough.
    """
    try:
        picture: Picture = _kind(data, name).decode(data, name, limits or Limits())
        return replace(picture, meta=picture.meta.describing(picture.pixels.ndim == 2))
    except (SdieError, MemoryError):
        raise
    except Exception as error:
        raise refuse(name, f"cannot be read: {_words(error)}") from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def measure(data: bytes, name: str) -> int:
    """Bytes that decoding, enhancing and encoding a file will take, by its header: an estimate from above.

    Raises
    ------
    ImageFileError
        It has no header that could be read.
    """
    try:
        height, width, channels, size = map(int, _kind(data, name).header(data, name))
    except SdieError:
        raise
    except Exception as error:
        raise refuse(name, f"cannot be read: {_words(error)}") from error
    # Decoded, enhanced and encoded, alpha apart; the core's float32 planes.
    return height * width * (channels * size * 4 + 4 * (channels + 8)) + len(data)


def encode(picture: Picture, suffix: str, name: str, *, png_level: int = 1) -> Sequence[bytes]:
    """Write an image file's content, in pieces that follow each other.

    Parameters
    ----------
    picture : Picture
        Pixels and what belongs to them.
    suffix : str
        One of `IMAGE_SUFFIXES`: the format. JPEG has quality 95 and no subsampling, TIFF no compression.
    name : str
        What messages call it.
    png_level : int
        0 (stored) to 9 (smallest); 1 is the fastest that compresses.

    Raises
    ------
    ImageFileError
        The format cannot hold the pixels.
    """
    kind = _KINDS[suffix.lower()]
    picture = replace(picture, meta=picture.meta.describing(picture.pixels.ndim == 2))
    try:
        parts: Sequence[bytes] = kind.encode(picture, name, png_level) if kind is png else kind.encode(picture, name)
    except (SdieError, MemoryError):
        raise
    except Exception as error:
        raise refuse(name, f"cannot be written: {_words(error)}") from error
    return parts


def read(path: Path, limits: Limits | None = None) -> Picture:
    """Read one image file: see `decode`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise refuse(str(path), "no such file") from error
    except OSError as error:
        raise refuse(str(path), f"cannot be read: {error.strerror or error}") from error
    return decode(data, str(path), limits)


def write(path: Path, picture: Picture, *, png_level: int = 1) -> None:
    """Write one image file by atomic rename; its suffix decides the format: see `encode`."""
    parts = encode(picture, path.suffix, str(path), png_level=png_level)
    try:
        replace_file(path, lambda file: file.writelines(parts))
    except OSError as error:
        raise refuse(str(path), f"cannot be written: {error.strerror or error}") from error
