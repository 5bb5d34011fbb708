"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import SdieError

__all__ = ["created", "read_file", "replace_file"]


@contextmanager
def created(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Write a file by atomic rename: what the block fills is a neighbour, which takes the name at its end.

    Folders are made as needed. What the block or the file system raises passes through, and an older
    file is then still there, unchanged. durable: what was written outlives a power failure, which
    costs a wait for the disk.
    """
    # Short and of fixed length: the name itself may be as long as the file system takes.
    part = f"{path.parent}/.{secrets.token_hex(6)}.part"
    try:
        file = open(part, "xb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(part, "xb")  # noqa: SIM115
    try:
        with file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


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
