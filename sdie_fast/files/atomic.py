"""Files that appear whole or not at all, and image files opened."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import SdieError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "created", "opened_image", "read_file", "replace_file"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@contextmanager
def created(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Write a file by atomic rename: what the block fills is a neighbour, which takes the name at its end.

    Folders are made as needed. What the block or the file system raises passes through, and an older
    file is then still there, unchanged. durable: what was written outlives a power failure, which
    costs a wait for the disk.
    """
    # Short and of fixed length: the name itself may be as long as the file system takes.
    part = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        try:
            file = open(part, "xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(part, "xb")
        with file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, save: Callable[[BinaryIO], object], *, durable: bool = False) -> None:
    """Write a file by atomic rename, as `created`: `save(file)` fills it."""
    with created(path, durable=durable) as file:
        save(file)


def read_file(path: Path, most: int, failure: type[SdieError]) -> bytes:
    """Read a file of so many bytes at most.

    Raises
    ------
    failure
        It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise failure(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > most:
        raise failure(f"{path}: holds more than {most} bytes; files of its kind never do")
    return data


@contextmanager
def opened_image(path: Path, failure: type[SdieError]) -> Iterator[Image.Image]:
    """Open an image file by Pillow, without its limit on pixels below which it only warns.

    Raises
    ------
    failure
        The file is not there, or is none that Pillow can read to its end.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except SdieError:
        raise
    except FileNotFoundError as error:
        raise failure(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise failure(f"{path}: not an image file that can be read here") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise failure(f"{path}: cannot be read: {error}") from error
