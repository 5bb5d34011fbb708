"""Where files lie: what every such place can do, and a folder of this machine."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .atomic import created

__all__ = ["Entry", "LocalStore", "Store"]


class Entry(NamedTuple):
    """A file as a listing tells of it.

    Attributes
    ----------
    name : str
        Below the store's root, with forward slashes.
    size : int
        In bytes.
    stamp : str
        Another whenever the content is: a time of modification, or an ETag.
    """

    name: str
    size: int
    stamp: str


class Store(ABC):
    """A root below which files are listed, read and written whole.

    Methods raise OSError (FileNotFoundError, PermissionError and so on) as the file system does.
    """

    local: bool
    url: str
    writable = True

    @abstractmethod
    def walk(self, skip: Callable[[str], bool] = lambda _: False) -> Iterator[Entry]:
        """List files one after another, in no order; `skip(name)` leaves a folder out."""

    @abstractmethod
    def entry(self, name: str) -> Entry | None:
        """Tell of one file, or None if it is not there."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file to be read from its beginning to its end."""

    @abstractmethod
    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file to be written: it appears, whole, when the block ends without an error."""

    def read(self, name: str) -> bytes:
        """Read a file."""
        with self.open(name) as stream:
            return stream.read()

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file, whole or not at all."""
        with self.create(name) as stream:
            stream.writelines(parts)


class LocalStore(Store):
    """A folder of this machine, which need not be there yet to be written to."""

    local = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def walk(self, skip: Callable[[str], bool] = lambda _: False) -> Iterator[Entry]:
        """List files; linked folders are followed, none that is already on the way down to itself.

        `skip` is asked of files that are links as well.
        """
        top = os.stat(self.root)
        ways: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset({(top.st_dev, top.st_ino)}))]
        while ways:
            folder, above = ways.pop()
            try:
                found = os.scandir(self.root / folder)
            except OSError:
                if not folder:
                    raise
                continue  # gone, or closed to us: the other folders are listed all the same
            with found:
                for item in found:
                    name = folder + item.name
                    try:
                        facts = item.stat()
                        if stat.S_ISDIR(facts.st_mode):
                            key = (facts.st_dev, facts.st_ino)
                            if key not in above and not skip(name):
                                ways.append((name + "/", above | {key}))
                        elif stat.S_ISREG(facts.st_mode) and not (item.is_symlink() and skip(name)):
                            yield Entry(name, facts.st_size, str(facts.st_mtime_ns))
                    except OSError:
                        continue  # a link to nowhere

    def entry(self, name: str) -> Entry | None:
        """Tell of one file, or None if it is not there."""
        try:
            facts = os.stat(self.root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(name, facts.st_size, str(facts.st_mtime_ns)) if stat.S_ISREG(facts.st_mode) else None

    def open(self, name: str) -> BinaryIO:
        """Open a file to be read."""
        return open(self.root / name, "rb")

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file to be written: it appears, whole, when the block ends without an error."""
        if name.startswith("/") or ".." in name.split("/"):  # a bucket's files may have such names
            raise PermissionError(errno.EPERM, "its name leads out of the folder", name)
        return created(self.root / name)
