"""WebDataset shards: tar files of samples, read from end to end, whose images are enhanced and all else is kept."""

from __future__ import annotations

import errno
import json
import os
import posixpath
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from .. import _validate, files
from ..errors import ImageFileError, InvalidArgumentError, SdieError
from ..files import Entry, Store, open_store
from .job import Done, Job
from .listing import expand
from .pipeline import default_memory
from .summary import Summary

__all__ = ["Shard", "enhance_shard", "is_shards", "plan", "run"]

_COPIED = 1 << 24  # bytes above which what is no image is passed through, not held
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Shard:
    """A shard to be done: where it lies, and where it goes."""

    source: Store
    name: str
    target: Store
    into: str

    @property
    def url(self) -> str:
        """What messages call it."""
        return posixpath.join(self.source.url, self.name)

    @property
    def mark(self) -> str:
        """Name of the file that says the shard is done."""
        return self.into.removesuffix(".tar") + ".stats.json"


def is_shards(where: str) -> bool:
    """Whether a path, a URL or a pattern of them names shards."""
    return where.lower().endswith((".tar", ".tar.gz", ".tgz"))


def plan(source: str, target: str) -> list[Shard]:
    """Pair the shards that IN names with those that OUT names, or with as many in the folder OUT.

    Raises
    ------
    InvalidArgumentError
        Patterns that cannot be used, of different counts, or that would overwrite an original or a result.
    BackendUnavailableError
        What reaches a URL is not installed.
    """
    for option, where in (("IN", source), ("OUT", target)):
        if where.lower().endswith((".tar.gz", ".tgz")):
            raise InvalidArgumentError(
                f"{option}: {where} is a compressed tar file; accepted are shards that end in .tar"
            )
    given = expand(source)
    if is_shards(target):
        made = expand(target)
        if len(made) != len(given):
            raise InvalidArgumentError(f"OUT: {target} names {len(made)} shards, IN {source} {len(given)}")
    else:
        made = [posixpath.join(target, posixpath.basename(name)) for name in given]
    if len(set(made)) < len(made):
        raise InvalidArgumentError(f"OUT: {target}: several shards of {source} would be written to one")
    if both := {_place(where) for where in given} & {_place(where) for where in made}:
        raise InvalidArgumentError(f"OUT: {min(both)} is an input; originals are never overwritten")
    stores: dict[str, Store] = {}

    def at(where: str) -> tuple[Store, str]:
        folder, name = posixpath.split(where)
        if folder not in stores:
            stores[folder] = open_store(folder or ".")
        return stores[folder], name

    return [Shard(*at(a), *at(b)) for a, b in zip(given, made, strict=True)]


def _place(where: str) -> str:
    return where if "://" in where else os.path.realpath(where)


class _Member(tarfile.TarInfo):
    """A member's header; one that is damaged or missing is an error, not the end of the file."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zeros with which a tar file ends
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _is_image(member: tarfile.TarInfo) -> bool:
    name = posixpath.basename(member.name)
    return member.isreg() and name.lower().endswith(files.IMAGE_SUFFIXES) and not name.startswith(".")


@dataclass
class _Held:
    """A member read, and its content or what will be made of it."""

    member: tarfile.TarInfo
    content: bytes | Future[Done]
    need: int


class _Stopped(Exception):  # noqa: N818 - no error
    """The run ends."""


class _Copy:
    """One shard on its way from IN to OUT; at most so many images, or so many bytes, are held."""

    def __init__(self, job: Job, suffix: str | None, pool: ThreadPoolExecutor, window: int, memory: int) -> None:
        self.job, self.suffix, self.pool = job, suffix, pool
        self.window, self.memory = window, memory
        self.held: deque[_Held] = deque()
        self.need = 0
        self.told = Summary()

    def __call__(self, source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        with (
            tarfile.open(fileobj=source, mode="r|", tarinfo=_Member) as given,
            tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as made,
        ):
            try:
                while (member := given.next()) is not None:
                    given.members.clear()  # type: ignore[attr-defined]  # it would keep each one
                    if stop.is_set():
                        raise _Stopped
                    self._take(given, made, member)
                self._write(made, lambda: True)
            finally:
                for held in self.held:
                    if isinstance(held.content, Future):
                        held.content.cancel()

    def _take(self, given: tarfile.TarFile, made: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.issparse():
            raise ImageFileError(f"{member.name} is sparse; such members are not accepted")
        stream = given.extractfile(member) if member.isreg() else None
        if not _is_image(member):
            if member.size > _COPIED:
                self._write(made, lambda: True)
                made.addfile(member, stream)
                return
            self.held.append(_Held(member, stream.read() if stream else b"", member.size))
            self.need += member.size
        else:
            begin = time.perf_counter()
            data = stream.read() if stream else b""
            self.told.read_seconds += time.perf_counter() - begin
            try:
                need = files.measure(data, member.name)
            except SdieError as error:
                self._fail(member, error)
                return
            self._write(made, lambda: self.need + need > self.memory)
            suffix = self.suffix or posixpath.splitext(member.name)[1]
            self.held.append(_Held(member, self.pool.submit(self.job, data, member.name, suffix), need))
            self.need += need
        self._write(made, lambda: len(self.held) > self.window or self.need > self.memory)

    def _fail(self, member: tarfile.TarInfo, error: Exception) -> None:
        told = str(error) or type(error).__name__
        self.told.fail(member.name, told if member.name in told else f"{member.name}: {told}")

    def _write(self, made: tarfile.TarFile, more: Callable[[], bool]) -> None:
        """Write what was read first, for as long as `more()` says."""
        while self.held and more():
            held = self.held.popleft()
            self.need -= held.need
            member, content = held.member, held.content
            if isinstance(content, Future):
                try:
                    done = content.result()
                except (OSError, ValueError, MemoryError, RuntimeError) as error:
                    self._fail(member, error)
                    continue
                self.told.add(done)
                content = b"".join(done.parts)
                if self.suffix is not None:
                    member.name = posixpath.splitext(member.name)[0] + self.suffix
                member.size = len(content)
                for stale in ("size", "path"):
                    member.pax_headers.pop(stale, None)  # type: ignore[attr-defined]
            begin = time.perf_counter()
            made.addfile(member, BytesIO(content))
            made.members.clear()  # type: ignore[attr-defined]
            self.told.write_seconds += time.perf_counter() - begin


def _known(shard: Shard, key: str, source: Entry) -> Summary | None:
    """What was told of a shard when it was done, if it is what would come of it now."""
    try:
        told = json.loads(shard.target.read(shard.mark))
        made = shard.target.entry(shard.into)
        if made is None or (told["key"], told["source_size"], told["source_stamp"], told["size"]) != (
            (key, source.size, source.stamp, made.size)
        ):
            return None
        return Summary(skipped=int(told["images"]), failures=int(told["failures"]), failed=dict(told["failed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or damaged


def enhance_shard(
    shard: Shard,
    job: Job,
    *,
    threads: int | None = None,
    memory: int | None = None,
    suffix: str | None = None,
    resume: bool = False,
    stop: threading.Event | None = None,
) -> Summary:
    """Make one shard of another: its images enhanced, all else as it was, in the same order.

    It appears whole, and after it a file that says what is in it. An image that fails is left out, and its sample's
    other members are kept.

    Parameters
    ----------
    shard : Shard
        From where, and to where.
    job : Job
        What is done.
    threads : int, optional
        Threads at most; None means every CPU.
    memory : int, optional
        Bytes that images in flight may take; None means `default_memory()`.
    suffix : str, optional
        Of every image that comes out, such as ".png"; None keeps what it has.
    resume : bool
        Skip it if it has been made from the same, in the same way.
    stop : Event, optional
        Ends it, with nothing written.

    Returns
    -------
    Summary
        A shard that cannot be read or written is one failure.

    Raises
    ------
    ImageFileError
        There is no room for what is to be written.
    """
    count = _validate.threads(threads)
    with _pool(count) as pool:
        return _enhance(shard, job, pool, 4 * count, memory or default_memory(), suffix, resume, stop)


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _enhance(
    shard: Shard,
    job: Job,
    pool: ThreadPoolExecutor,
    window: int,
    memory: int,
    suffix: str | None,
    resume: bool,
    stop: threading.Event | None,
) -> Summary:
    begin = time.perf_counter()
    copy = _Copy(job, suffix, pool, window, memory)
    key = f"{job.key}{suffix or ''}"
    try:
        source = shard.source.entry(shard.name)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, "no such shard")
        if resume and (known := _known(shard, key, source)):
            return known
        with shard.source.open(shard.name) as given, shard.target.create(shard.into) as made:
            copy(given, made, stop or threading.Event())
        told = copy.told
        told.seconds = time.perf_counter() - begin
        size = shard.target.entry(shard.into)
        content = {
            "key": key,
            "source": shard.url,
            "source_size": source.size,
            "source_stamp": source.stamp,
            "size": size.size if size else 0,
            "images": told.done,
            "failures": told.failures,
            "failed": told.failed,
            "pixels": told.pixels,
            "seconds": round(told.seconds, 3),
        }
        shard.target.write(shard.mark, [json.dumps(content, indent=2).encode(), b"\n"])
        return told
    except _Stopped:
        return Summary(interrupted=True)
    except (OSError, ValueError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise ImageFileError(f"OUT: {shard.target.url} cannot be written to: {error.strerror}") from error
        told = Summary()
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        damaged = "damaged or cut short: " if isinstance(error, tarfile.TarError) else ""
        told.fail(shard.url, f"{shard.url}: {damaged}{why}")
        return told


def run(
    shards: Iterable[Shard],
    job: Job,
    *,
    threads: int | None = None,
    memory: int | None = None,
    suffix: str | None = None,
    resume: bool = False,
    watch: Callable[[Summary, int, bool], None] = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Summary:
    """Do shard after shard, as `enhance_shard` does; one that fails is noted and the rest go on.

    Parameters
    ----------
    shards : iterable of Shard
        What `plan` made.
    job, threads, memory, suffix, resume, stop
        As for `enhance_shard`.
    watch : callable
        Told the summary, the number of images found, and whether that is all of them, after each shard.
    tell : callable
        Told of each failure.

    Raises
    ------
    ImageFileError
        There is no room for what is to be written.
    """
    begin = time.perf_counter()
    count = _validate.threads(threads)
    total = Summary()
    with _pool(count) as pool:
        try:
            for shard in shards:
                part = _enhance(shard, job, pool, 4 * count, memory or default_memory(), suffix, resume, stop)
                total.include(part, tell)
                watch(total, total.files, False)
                if part.interrupted:
                    break
        except KeyboardInterrupt:
            total.interrupted = True
    total.seconds = time.perf_counter() - begin
    watch(total, total.files, True)
    return total
