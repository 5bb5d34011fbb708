"""Files that fsspec reaches: object stores (`s3://`, `gs://`), web servers (`https://`), `memory://` and others."""

from __future__ import annotations

import errno
import io
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote

from ..errors import BackendUnavailableError, InvalidArgumentError
from .store import Entry, LocalStore, Store

__all__ = ["RemoteStore", "open_store"]

T = TypeVar("T")

PATIENCE = 60.0  # seconds for which a store that fails is asked again

_BLOCK = 8 << 20  # bytes fetched ahead of a reader
_WHOLE = 32 << 20  # bytes below which a file is held in memory and sent by one request
_WEB = ("http", "https")
# What one request has written is there at once and whole: no other name is needed beside.
_OBJECTS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"))
_EXTRAS = {"gs": "gcsfs", "gcs": "gcsfs"}
# Listings call it by these names; the first that is there tells whether a file has changed.
_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created")
_LASTING = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, NotImplementedError,
    ImportError, TypeError, ValueError, LookupError,
)  # fmt: skip


def _passing(error: Exception) -> bool:
    """Whether what failed may succeed when it is asked for again."""
    status = getattr(error, "status", None)  # of an answer over HTTP
    if isinstance(status, int) and 400 <= status < 500:
        return status in (408, 429)
    return not isinstance(error, _LASTING) and "Credentials" not in type(error).__name__


class _Reader(io.RawIOBase):
    """A remote file read on from where it was, whatever fails in between."""

    def __init__(self, file: Any, ask: Callable[..., Any]) -> None:
        self._file = file
        self._ask = ask

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # A stream that cannot go back has lost its place by then: only its first failure is told.
        read = self._file.read
        data = self._ask(read, len(buffer)) if self._file.seekable() else read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class RemoteStore(Store):
    """Files below a URL, by fsspec; what fails in passing is tried again. It can be pickled.

    Credentials and endpoints are where fsspec and the store's own tools look for them: the environment and
    configuration files.

    Parameters
    ----------
    url : str
        Such as "s3://bucket/photos".
    patience : float
        Seconds for which a store that does not answer, or answers that it is busy, is asked again.

    Raises
    ------
    BackendUnavailableError
        What reaches this kind of URL is not installed.
    InvalidArgumentError
        There is no such kind.
    """

    local = False

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self.protocol = url.partition("://")[0]
        try:
            from fsspec.core import url_to_fs

            # Listings are read once, and may not be those of an earlier run. A bucket that could be asked for parts of
            # a file at a time is asked for the size of every file before.
            options = {"max_concurrency": 1} if self.protocol in ("s3", "s3a") else {}
            self._fs, root = url_to_fs(url, use_listings_cache=False, **options)
        except ImportError as error:
            extra = _EXTRAS.get(self.protocol)
            fix = f"pip install {extra}" if extra else 'pip install "sdie-fast[urls]"'
            missing = error.name or f"what reads {self.protocol}://"
            raise BackendUnavailableError(f"{url}: {missing} is missing: {fix}") from error
        except ValueError as error:
            raise InvalidArgumentError(f"{url}: {error}") from error
        self._root = root.rstrip("/") + "/"
        self.writable = self.protocol not in _WEB

    def _ask(self, what: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call until it succeeds, with longer and longer pauses in between, or patience is at an end."""
        end = time.monotonic() + self.patience
        pause = 0.2
        while True:
            try:
                return what(*args, **options)
            except Exception as error:
                # Pauses differ, so that many workers do not come back all at once.
                wait = pause * random.uniform(0.5, 1)
                if _passing(error) and time.monotonic() + wait < end:
                    time.sleep(wait)
                    pause = min(2 * pause, 10.0)
                elif isinstance(error, OSError) and not _passing(error):
                    raise
                else:  # each library has errors of its own; a number such as EIO would speak of a disk
                    status = getattr(error, "status", None)
                    kind = PermissionError if status in (401, 403) else OSError
                    raise kind(str(error) or type(error).__name__) from error

    def _entry(self, facts: dict[str, Any]) -> Entry:
        stamp = next((facts[key] for key in _STAMPS if facts.get(key)), "")
        if hasattr(stamp, "timestamp"):  # a date in one answer, seconds in another
            stamp = stamp.timestamp()
        return Entry(facts["name"][len(self._root) :], int(facts.get("size") or 0), str(stamp).strip('"'))

    def walk(self, skip: Callable[[str], bool] = lambda _: False) -> Iterator[Entry]:
        """List files page by page, or folder by folder, as the store has them."""
        found = self._pages(skip) if hasattr(self._fs, "call_s3") else self._folders(skip)
        return (self._entry(facts) for facts in found)

    def _pages(self, skip: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
        # Without a delimiter: a bucket of ten million files is listed as it is worked on, however it is laid out.
        bucket, _, prefix = self._root.partition("/")
        mark: dict[str, str] = {}
        seen = False
        folder, skipped = "", False
        while True:
            page = self._ask(self._fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **mark)
            for item in page.get("Contents", ()):
                seen = True
                name = item["Key"][len(prefix) :]
                if not name or name.endswith("/"):
                    continue  # how some tools mark a folder
                if (above := name.rpartition("/")[0]) != folder:
                    parts = above.split("/")
                    folder = above
                    skipped = bool(above) and any(skip("/".join(parts[:n])) for n in range(1, len(parts) + 1))
                if not skipped:
                    yield {"name": f"{bucket}/{item['Key']}", "size": item["Size"], "ETag": item["ETag"]}
            if not page.get("IsTruncated"):
                break
            mark = {"ContinuationToken": page["NextContinuationToken"]}
        if not seen:
            raise FileNotFoundError(errno.ENOENT, "there is nothing under that name", self.url)

    def _folders(self, skip: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
        folders = [self._root]
        while folders:
            folder = folders.pop()
            for facts in self._ask(self._fs.ls, folder, detail=True):
                path = facts["name"]
                # A page of links has some that lead elsewhere, or to itself in another order.
                if not path.startswith(folder) or "?" in path or path == folder:
                    continue
                if facts["type"] == "directory":
                    if not skip(path[len(self._root) :].rstrip("/")):
                        folders.append(path.rstrip("/") + "/")
                elif facts.get("size") is None:
                    yield self._ask(self._fs.info, path)
                else:
                    yield facts

    def entry(self, name: str) -> Entry | None:
        """Tell of one file, or None if it is not there."""
        try:
            facts = self._ask(self._fs.info, self._root + name)
        except FileNotFoundError:
            return None
        return self._entry(facts) if facts["type"] == "file" else None

    def open(self, name: str) -> BinaryIO:
        """Open a file to be read from its beginning to its end."""
        file = self._ask(self._fs.open, self._root + name, "rb", block_size=_BLOCK)
        return cast(BinaryIO, io.BufferedReader(_Reader(file, self._ask), 1 << 20))

    def read(self, name: str) -> bytes:
        """Read a file, by one request."""
        return bytes(self._ask(self._fs.cat_file, self._root + name))

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to be written: it is sent, whole, when the block ends without an error.

        Until then it lies in memory, or if it is large in the folder for temporary files.
        """
        if not self.writable:
            raise InvalidArgumentError(f"{self.url}: a web server is read from, not written to")
        with tempfile.SpooledTemporaryFile(max_size=_WHOLE) as spool:
            yield cast(BinaryIO, spool)
            self._ask(self._send, self._root + name, spool)

    def _send(self, path: str, spool: Any) -> None:
        size = spool.seek(0, io.SEEK_END) or spool.tell()
        spool.seek(0)
        if self.protocol == "memory" or (self.protocol in _OBJECTS and size <= _WHOLE):
            self._fs.pipe_file(path, spool.read())
            return
        if self.protocol not in _OBJECTS:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        # In parts, or under another name, until the last of it is there.
        file = self._fs.open(path, "wb", block_size=_WHOLE, autocommit=False)
        try:
            shutil.copyfileobj(spool, file, 1 << 20)
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            with suppress(AttributeError):
                file.closed = True  # or collecting it would send the rest
            raise


def open_store(where: str | Path, *, patience: float = PATIENCE) -> Store:
    """Open a folder, or what a URL names.

    Parameters
    ----------
    where : str or Path
        A folder of this machine, or a URL such as "s3://bucket/photos" or "https://host/photos".
    patience : float
        Seconds for which a URL's store that fails is asked again.

    Raises
    ------
    BackendUnavailableError
        What reaches this kind of URL is not installed; the message says how to get it.
    InvalidArgumentError
        There is no such kind of URL.
    """
    scheme, there, rest = str(where).partition("://")
    if not there:
        return LocalStore(Path(where))
    if scheme == "file":
        return LocalStore(Path(unquote(rest)))
    return RemoteStore(str(where), patience)
