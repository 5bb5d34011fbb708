"""A folder's files done on every core: each thread takes one file from reading it to its row in the journal."""

from __future__ import annotations

import errno
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from .. import _validate, files
from ..errors import ImageFileError, SdieError
from ..files import Store
from .job import Done, Job
from .journal import Journal
from .listing import Pair
from .summary import Summary

__all__ = ["Budget", "Summary", "check", "default_memory", "run"]

_AHEAD = 10_000  # files listed before they are taken
_REMOTE = 32  # more files in flight than threads, where most of the time goes into waiting for a network
_GRACE = 0.8  # seconds in which images in flight may be finished after an interrupt
_LARGEST = 2**32  # bytes; no BMP, PNG or TIFF of as many pixels as are accepted has more

# OUT is at fault, and the next file would fare no better.
_NO_WAY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def default_memory() -> int:
    """Return the bytes that images in flight may take: 2 GiB, or half of this machine's or container's memory."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # no such limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(2**31, min(found) // 2)


def check(target: Store) -> None:
    """Make OUT, and see whether files can be written there.

    Raises
    ------
    ImageFileError
        They cannot.
    """
    if not target.writable:
        raise ImageFileError(f"OUT: {target.url} cannot be written to: it is a web server")
    if not target.local:
        return
    try:
        os.makedirs(target.url, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.url):
            pass
    except OSError as error:
        why = "it is a file" if os.path.isfile(target.url) else error.strerror
        raise ImageFileError(f"OUT: {target.url} cannot be written to: {why}") from error


class _StoppedError(Exception):
    """The run ends; the file is left as it was."""


class Budget:
    """Memory shared by the images in flight: each waits, in turn, until its share is free.

    An image that needs more than there is runs alone.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = self.holders = self.waiting = 0
        self._turn = threading.Lock()  # a large image is not passed over by small ones
        self._change = threading.Condition()

    @contextmanager
    def share(self, need: int, stop: threading.Event) -> Iterator[None]:
        """Hold so many bytes."""
        with self._change:
            self.waiting += 1
        try:
            with self._turn, self._change:
                while self.holders and self.used + need > self.most:
                    if stop.is_set():
                        raise _StoppedError
                    self._change.wait(0.2)
                self.used += need
                self.holders += 1
        finally:
            with self._change:
                self.waiting -= 1
        try:
            yield
        finally:
            with self._change:
                self.used -= need
                self.holders -= 1
                self._change.notify_all()


def run(
    pairs: Iterable[Pair],
    source: Store,
    target: Store,
    job: Job,
    *,
    threads: int | None = None,
    memory: int | Budget | None = None,
    journal: Journal | None = None,
    watch: Callable[[Summary, int, bool], None] = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Summary:
    """Enhance every pair; a file that fails is noted and the rest go on.

    Parameters
    ----------
    pairs : iterable of Pair
        What `targets` lists; taken while the run goes on.
    source, target : Store
        IN and OUT.
    job : Job
        What is done.
    threads : int, optional
        Threads at most; None means every CPU. Each takes a file of its own. An image gets several where fewer images
        than threads are in flight.
    memory : int or Budget, optional
        Bytes that images in flight may take; None means `default_memory()`.
    journal : Journal, optional
        What is skipped, and where what is done is recorded.
    watch : callable
        Told the summary, the number of files listed, and whether that is all of them, ten times a second.
    tell : callable
        Told of each failure as it happens.
    stop : Event, optional
        Ends the run once it is set: images in flight are finished if that takes less than a second.

    Raises
    ------
    ImageFileError
        OUT cannot be written to.
    SdieError
        IN cannot be listed.
    """
    budget = memory if isinstance(memory, Budget) else Budget(memory or default_memory())
    return _Run(source, target, job, _validate.threads(threads), budget, journal, tell, stop)(pairs, watch)


class _Run:
    def __init__(
        self,
        source: Store,
        target: Store,
        job: Job,
        threads: int,
        budget: Budget,
        journal: Journal | None,
        tell: Callable[[str], None],
        stop: threading.Event | None,
    ) -> None:
        self.source, self.target, self.job, self.threads = source, target, job, threads
        self.budget, self.journal, self.tell = budget, journal, tell
        self.stop = stop or threading.Event()
        local = source.local and target.local
        # On local disks no more: handing a core from one to the next cost a tenth of the time with small images.
        self.workers = threads + (0 if local else _REMOTE)
        self.cores: Any = nullcontext() if local else threading.BoundedSemaphore(threads)
        self.queue: queue.Queue[Pair | None] = queue.Queue(_AHEAD)
        self.listed, self.complete = 0, False
        self.summary = Summary()
        self.change = threading.Condition()  # of everything below, and of the summary
        self.working, self.busy, self.writing = self.workers, 0, 0
        self.ended = threading.Event()  # of the last thread; apart, so that nobody is woken for each file
        self.given_up = False
        self.fatal: Exception | None = None

    def __call__(self, pairs: Iterable[Pair], watch: Callable[[Summary, int, bool], None]) -> Summary:
        begin = time.perf_counter()
        # Daemons: none of them keeps the process alive.
        threading.Thread(target=self._list, args=(pairs,), daemon=True).start()
        for _ in range(self.workers):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while not self.ended.wait(0.1) and not self.stop.is_set():
                watch(self.summary, self.listed, self.complete)
        except KeyboardInterrupt:
            self.stop.set()
        if self.stop.is_set():
            self._wind_up()
        self.summary.seconds = time.perf_counter() - begin
        watch(self.summary, self.listed, self.complete)
        if isinstance(self.fatal, ImageFileError):
            told = f"{self.fatal}; {self.summary.done} images are done, --resume goes on from there"
            raise ImageFileError(told) from self.fatal
        if self.fatal is not None:
            raise self.fatal
        return self.summary

    def _wind_up(self) -> None:
        with self.change:
            self.change.wait_for(lambda: not self.busy, _GRACE if self.fatal is None else None)
            self.given_up = True
            self.change.wait_for(lambda: not self.writing, 10.0)  # a file begun is finished, and its row written
        self.summary.left = self.busy
        # Of a run that had come to its end by then, nothing is left to be done.
        self.summary.interrupted = not self.complete or self.summary.files < self.listed

    def _list(self, pairs: Iterable[Pair]) -> None:
        try:
            for pair in pairs:
                self.queue.put(pair)
                self.listed += 1
            self.complete = True
        except OSError as error:
            self._end(ImageFileError(f"IN: {self.source.url} cannot be listed: {error.strerror or error}"))
        except BaseException as error:  # raised again by the thread that waits
            self._end(error)
        self.queue.put(None)

    def _end(self, error: BaseException) -> None:
        with self.change:
            self.fatal = self.fatal or (error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self.stop.set()

    def _work(self) -> None:
        while not self.stop.is_set():
            begin = time.perf_counter()
            pair = self.queue.get()
            if pair is None:
                self.queue.put(None)  # for the next thread
                break
            with self.change:
                self.summary.wait_seconds += time.perf_counter() - begin
                self.busy += 1
            try:
                self._one(pair)
            except _StoppedError:
                pass
            except BaseException as error:  # whatever a decoder raises costs its file alone
                self._fail(pair.source.name, error)
            finally:
                with self.change:
                    self.busy -= 1
                    self.change.notify_all()
        with self.change:
            self.working -= 1
            if not self.working:
                self.ended.set()

    def _one(self, pair: Pair) -> None:
        name = pair.source.name
        if pair.error is not None:
            raise ImageFileError(pair.error)
        if self.journal is not None and self._journaled(self.journal.is_done, pair):
            with self.change:
                self.summary.skipped += 1
            return
        if pair.source.size > _LARGEST:
            raise ImageFileError(f"{name}: {pair.source.size} bytes, more than any image that is accepted")
        times = [time.perf_counter()]
        data = self.source.read(name)
        need = files.measure(data, name)
        times.append(time.perf_counter())
        with self.budget.share(need, self.stop):
            times.append(time.perf_counter())
            with self.cores:
                done = self.job(data, name, os.path.splitext(pair.target)[1], self._share)
            del data
            self._write(pair, done, times)

    def _share(self) -> int:
        """Threads for an image that is about to be enhanced."""
        more = self.queue.qsize() > self.complete  # the last is the end's mark
        if more and self.busy < self.workers:
            return 1  # the other threads are about to take theirs
        return max(1, self.threads // max(1, self.busy - self.budget.waiting))

    def _write(self, pair: Pair, done: Done, times: list[float]) -> None:
        with self.change:
            if self.given_up:
                raise _StoppedError
            self.writing += 1
        try:
            begin = time.perf_counter()
            try:
                self.target.write(pair.target, done.parts)
                made = self.target.entry(pair.target) if self.journal is not None else None
            except OSError as error:
                if self.target.local:
                    closed = not os.access(self.target.url, os.W_OK)
                else:  # no such bucket, or not ours
                    closed = isinstance(error, (FileNotFoundError, PermissionError))
                if closed or error.errno in _NO_WAY:
                    self._out_failed(error)
                raise ImageFileError(f"{pair.source.name}: cannot be written: {error.strerror or error}") from error
            if self.journal is not None and made is not None:
                self._journaled(self.journal.add, pair, made)
            with self.change:
                self.summary.add(done, times[1] - times[0], time.perf_counter() - begin)
                self.summary.wait_seconds += times[2] - times[1]
        finally:
            with self.change:
                self.writing -= 1
                self.change.notify_all()

    def _journaled(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            self._out_failed(error)

    def _out_failed(self, error: OSError) -> None:
        self._end(ImageFileError(f"OUT: {self.target.url} cannot be written to: {error.strerror or error}"))
        raise _StoppedError from error

    def _fail(self, name: str, error: BaseException) -> None:
        told = str(error)
        if isinstance(error, MemoryError):
            told = told or "not enough memory"
        elif isinstance(error, OSError):
            told = error.strerror or told
        elif not isinstance(error, SdieError):
            told = f"{type(error).__name__}: {told}"
        if not told.startswith(name):
            told = f"{name}: {told}"
        with self.change:
            self.summary.fail(name, told)
            self.tell(told)
