"""What was made from what, kept beside it as the run goes on: lets `--resume` skip what is done and unchanged."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ImageFileError, InvalidArgumentError
from ..files import Entry, Store
from .listing import Pair

__all__ = ["NAME", "Journal", "locked"]

NAME = ".sdie-fast.db"

_ID = 0x53444945  # SQLite's application_id: tells our files from other programs'
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY, job INTEGER NOT NULL,
    source_size INTEGER NOT NULL, source_stamp TEXT NOT NULL,
    target_size INTEGER NOT NULL, target_stamp TEXT NOT NULL
) WITHOUT ROWID;
"""
_FIND = "SELECT job, source_size, source_stamp, target_size, target_stamp FROM files WHERE name = ?"
_ADD = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)"
# What SQLite says of the disk and of permissions. Before Python 3.11 its errors have no codes.
_NOT_DAMAGE = ("disk is full", "disk I/O error", "unable to open", "readonly", "locked", "denied")
_BUSY = (errno.EAGAIN, errno.EACCES)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it when the process ends, however that is.

    Raises
    ------
    InvalidArgumentError
        Another process holds it.
    ImageFileError
        It cannot be made.
    """
    try:
        file = open(path, "ab")  # noqa: SIM115 - what the block raises is none of this
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror}") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no locks on this system
            pass
        except OSError as error:
            if error.errno in _BUSY:
                raise InvalidArgumentError(f"OUT: another run is writing here: it holds {path}") from error
            # A file system without locks: two runs there are the user's to avoid.
        yield


class Journal:
    """A row for each file done: its name in OUT, and what source and target were like.

    Rows are committed one by one, so that whatever ends the process, only images in flight are done again. A reader in
    another process does not disturb. Sizes and stamps are compared for equality alone, whatever clocks do. Safe to be
    shared by threads.

    Parameters
    ----------
    path : Path
        An SQLite file, made where it is missing. One that is damaged, or of another program, is renamed.
    key : str
        What identifies the work: rows of other work do not count.
    target : Store
        OUT.
    resume : bool
        Whether what was done before counts.
    tell : callable
        Takes a message.

    Raises
    ------
    ImageFileError
        It cannot be written.
    """

    def __init__(
        self, path: Path, key: str, target: Store, *, resume: bool = True, tell: Callable[[str], None] = print
    ) -> None:
        self.path, self.key, self.resume = path, key, resume
        self._target, self._tell = target, tell
        self._lock = threading.Lock()
        self._job = 0
        self._base: sqlite3.Connection | None = None
        with self._lock:
            self._guarded(lambda _: None)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_done(self, pair: Pair) -> bool:
        """Whether the target was made from the source, by this work, as both are now."""
        if not self.resume:
            return False
        row = self._ask(_FIND, lambda: (_bytes(pair.target),))
        if row is None or row[:3] != (self._job, pair.source.size, pair.source.stamp):
            return False
        there = self._target.entry(pair.target)
        return there is not None and row[3:] == (there.size, there.stamp)

    def add(self, pair: Pair, made: Entry) -> None:
        """Record that a target has been made."""
        facts = (*pair.source[1:], *made[1:])
        self._ask(_ADD, lambda: (_bytes(pair.target), self._job, *facts))

    def __len__(self) -> int:
        return int(self._ask("SELECT count(*) FROM files WHERE job = ?", lambda: (self._job,))[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._base is not None:
                self._base.close()
            self._base = None

    def _ask(self, text: str, values: Callable[[], tuple[Any, ...]]) -> Any:
        # The values are asked for late: the job's number is another once the file has been set aside.
        with self._lock:
            return self._guarded(lambda base: base.execute(text, values()).fetchone())

    def _guarded(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Work with the file, opened where it is not; a damaged one is set aside, and the work done with a new one."""
        for last in (False, True):
            try:
                if self._base is None:
                    self._base = self._open()
                return work(self._base)
            except (sqlite3.DatabaseError, UnicodeDecodeError, _ForeignError) as error:
                if any(words in str(error) for words in _NOT_DAMAGE):
                    raise ImageFileError(f"{self.path}: cannot be written: {error}") from error
                if last:
                    raise ImageFileError(f"{self.path}: cannot be read: {error}") from error
                self._set_aside(error)
        raise AssertionError("not reached")

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (program,) = base.execute("PRAGMA application_id").fetchone()
            if tables and program != _ID:
                raise _ForeignError("of another program")
            # Written at each commit, and waited for at none: a killed process loses nothing.
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute("PRAGMA cache_size = -32768")  # KiB: names come in no order
            base.execute(f"PRAGMA application_id = {_ID}")
            base.executescript(_TABLES)
            base.execute("INSERT OR IGNORE INTO jobs (key) VALUES (?)", (self.key,))
            found = base.execute("SELECT id FROM jobs WHERE key = ?", (self.key,)).fetchone()
            if found is None:
                raise _ForeignError("damaged")
            (self._job,) = found
        except BaseException:
            base.close()
            raise
        return base

    def _set_aside(self, error: Exception) -> None:
        if self._base is not None:
            self._base.close()
        self._base = None
        for k in itertools.count(1):
            other = self.path.with_name(f"{self.path.name}.bad-{k}")
            if not other.exists():
                break
        os.replace(self.path, other)
        for end in ("-wal", "-shm"):  # of the old file, and no part of a new one
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        self._tell(f"{self.path}: not a journal that can be read ({error}); kept as {other.name}, a new one is begun")


class _ForeignError(Exception):
    pass


def _bytes(name: str) -> bytes:
    """A name as SQLite takes it, which refuses text that is not Unicode."""
    return name.encode("utf-8", "surrogateescape")
