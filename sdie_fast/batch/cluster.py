"""The same work on many machines, by Dask: tasks of some hundred images, or of a shard, each done wherever there is room.

Needs `pip install "sdie-fast[dask]"` here and on the workers, and stores that all of them reach: URLs, or folders of a
file system they share.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import dask
from distributed import (
    CancelledError,
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    TimeoutError,
    WorkerPlugin,
    get_worker,
)

from .. import __version__
from ..errors import BackendUnavailableError, ImageFileError, InvalidArgumentError, SdieError
from ..files import Entry, LocalStore, Store
from . import pipeline, shards
from .job import Job
from .journal import Journal
from .listing import Pair
from .pipeline import Budget
from .shards import Shard
from .summary import Summary

__all__ = ["connected", "run", "run_shards"]

_FIRST, _MOST = 8, 512  # images of a task: it begins with few, so that short runs reach every worker
_SECONDS = 3.0  # that a task is to take: far longer than handing it out, short enough to be lost with its worker
_EACH = 0.01  # and for each thread of the cluster at least so long, as the scheduler takes a millisecond for a task
_AHEAD = 3  # tasks in flight for each thread of the cluster: the scheduler never holds more
_ASKED = 2.0  # seconds after which the cluster is asked for its size again
_OTHER = "--dask: worker {} has sdie_fast {}; accepted: {}, as here"
_CHECKS = 32  # files of a remote OUT looked at together

_GONE = "--dask: the scheduler is gone; --resume goes on from what is done"

Watch = Callable[[Summary, int, bool], None]
Tell = Callable[[str], None]


class _Kit(WorkerPlugin):  # type: ignore[misc]  # of a library without types
    """What every task needs: sent once to each worker, and to those that join later or are started again."""

    def __init__(self, name: str, job: Job, places: tuple[Store, Store] | None, options: dict[str, Any]) -> None:
        self.name, self.job, self.places, self.options = name, job, places, options
        self.memory = 0
        self.budget: Budget | None = None

    def setup(self, worker: Any) -> None:
        limit = getattr(worker.memory_manager, "memory_limit", None) or 0
        self.memory = min(pipeline.default_memory(), limit // 2) or pipeline.default_memory()
        self.budget = Budget(self.memory)


class _Rows:
    """Stands for a journal on a worker: what it is told goes back to the one there is."""

    def __init__(self) -> None:
        self.found: dict[str, Entry] = {}

    def is_done(self, _pair: Pair) -> bool:
        return False

    def add(self, pair: Pair, made: Entry) -> None:
        self.found[pair.target] = made


def _kit(name: str, version: str) -> _Kit:
    if version != __version__:
        raise InvalidArgumentError(_OTHER.format(get_worker().address, __version__, version))
    kit: _Kit = get_worker().plugins[name]
    return kit


def _version() -> str:
    return __version__


def _files(name: str, version: str, pairs: list[Pair]) -> tuple[Summary, dict[str, Entry]]:
    """Enhance some files, on a worker; other tasks are on its other threads."""
    kit = _kit(name, version)
    assert kit.places is not None
    rows = _Rows()
    told = pipeline.run(pairs, *kit.places, kit.job, threads=1, memory=kit.budget, journal=rows)  # type: ignore[arg-type]
    return told, rows.found


def _shard(name: str, version: str, shard: list[Shard]) -> tuple[Summary, dict[str, Entry]]:
    """Do one shard, on a worker."""
    kit = _kit(name, version)
    return shards.enhance_shard(shard[0], kit.job, threads=1, memory=kit.memory, **kit.options), {}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to a cluster, or start one on this machine that ends with the block.

    Parameters
    ----------
    address : str
        "tcp://host:port", a scheduler file, or "local:4" for 4 processes here.

    Raises
    ------
    InvalidArgumentError
        None of these, no scheduler answers, or a worker has another version of this package.
    """
    with contextlib.ExitStack() as stack:
        kind, _, count = address.partition(":")
        if kind == "local" and count.isdecimal() and int(count):
            # A process that dies is started again. That a task's worker dies twice is enough to look at it closely.
            with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
                # Its dashboard's server is always there; at port 0 it is in nobody's way.
                cluster = LocalCluster(
                    n_workers=int(count), threads_per_worker=1, silence_logs=logging.CRITICAL,
                    dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
                )  # fmt: skip
            where: Any = stack.enter_context(cluster)
        elif "://" in address:
            where = address
        elif not os.path.isfile(address):
            accepted = "tcp://host:port, a scheduler file, or local:N"
            raise InvalidArgumentError(f"--dask: received {address!r}; accepted: {accepted}")
        else:
            where = None
        try:
            client = Client(where) if where is not None else Client(scheduler_file=address)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"--dask: {address}: no scheduler answers: {error}") from error
        stack.enter_context(client)
        for worker, version in client.run(_version, on_error="return").items():
            if version != __version__:
                raise InvalidArgumentError(_OTHER.format(worker, version, __version__))
        yield client


class _Run:
    """Tasks handed out as others end, until there are no more."""

    def __init__(self, client: Client, kit: _Kit, call: Callable[..., Any], stop: threading.Event | None) -> None:
        self.client, self.kit, self.call = client, kit, call
        self.stop = stop or threading.Event()
        self.arrived: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.flying: dict[Future, list[Any]] = {}
        # A task whose workers died is done over, item by item and one at a time: only the culprit fails.
        self.suspects: deque[Any] = deque()
        self.alone: Future | None = None
        self.again: set[Any] = set()
        self.number = 0
        self.size = _FIRST
        self.room, self.seconds, self.asked = 1, _SECONDS, 0.0
        self.local = client.cluster if isinstance(client.cluster, LocalCluster) else None
        self.processes = len(self.local.workers) if self.local is not None else 0

    def __call__(
        self,
        items: Iterator[Any],
        most: int,
        finish: Callable[[list[Any], Any], None],
        fail: Callable[[Any, str], None],
        watch: Callable[[], None],
    ) -> bool:
        """Do everything; the answer is whether it came to its end."""
        self.client.register_plugin(self.kit, name=self.kit.name)
        more = True
        try:
            while not self.stop.is_set():
                while more and len(self.flying) < self._room() and not self.stop.is_set():
                    group = list(islice(items, min(self.size, most)))
                    more = bool(group)
                    if group:
                        self._submit(group)
                if self.suspects and self.alone is None:
                    self.alone = self._submit([self.suspects.popleft()])
                if not self.flying and not more:
                    return True
                watch()
                with contextlib.suppress(queue.Empty):
                    self._take(self.arrived.get(timeout=0.1), finish, fail)
                self._room()
        except KeyboardInterrupt:
            self.stop.set()
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be what has failed
                self.client.cancel(list(self.flying), force=True)
                self.client.unregister_worker_plugin(self.kit.name)
        return False

    def _room(self) -> int:
        if time.monotonic() - self.asked > _ASKED:
            try:
                threads = sum(self.client.nthreads().values())
            except OSError as error:
                raise BackendUnavailableError(f"{_GONE}: {error}") from error
            self.room, self.asked = max(1, _AHEAD * threads), time.monotonic()
            self.seconds = max(_SECONDS, _EACH * threads)
            # One that dies while it starts is given up by what watches over it.
            if self.local is not None and len(self.local.workers) < self.processes:
                self.local.scale(self.processes)
        return self.room

    def _submit(self, group: list[Any]) -> Future:
        self.number += 1
        key = f"{self.kit.name}-{self.number}"
        future = self.client.submit(self.call, self.kit.name, __version__, group, key=key, pure=False)
        self.flying[future] = group
        future.add_done_callback(self.arrived.put)
        return future

    def _take(self, future: Future, finish: Callable[..., None], fail: Callable[[Any, str], None]) -> None:
        group = self.flying.pop(future)
        if alone := future is self.alone:
            self.alone = None
        try:
            answer = future.result(timeout=1)
        except TimeoutError:  # its worker died before the answer was fetched: it is done once more
            self.flying[future] = group
            self.alone = future if alone else self.alone
            self.arrived.put(future)
        except CancelledError as error:
            raise BackendUnavailableError("--dask: the scheduler is gone; go on with --resume") from error
        except KilledWorker:
            # Twice, since a process that is about to end may be handed work.
            if alone and group[0] in self.again:
                fail(group[0], "every process that worked on it died")
            else:
                self.again.update(group if alone else ())
                self.suspects.extend(group)
        except SdieError:
            raise
        except Exception as error:
            raise BackendUnavailableError(f"--dask: a worker failed: {type(error).__name__}: {error}") from error
        else:
            finish(group, answer)
            pace = answer[0].seconds / len(group) or 1e-3
            self.size = max(1, min(_MOST, 2 * self.size, int(self.seconds / pace)))


def _everywhere(store: Store) -> Store:
    if store.url.startswith("memory://"):
        raise InvalidArgumentError(f"--dask: {store.url} is seen by one process alone")
    return LocalStore(Path(store.url).absolute()) if store.local else store


def run(
    pairs: Iterable[Pair],
    source: Store,
    target: Store,
    job: Job,
    client: Client,
    *,
    journal: Journal | None = None,
    watch: Watch = lambda *_: None,
    tell: Tell = lambda _: None,
    stop: threading.Event | None = None,
) -> Summary:
    """Enhance every pair on a cluster, as `pipeline.run` does on one machine.

    Parameters
    ----------
    pairs, source, target, job, journal, watch, tell, stop
        As there. A relative path means the same folder on every machine.
    client : distributed.Client
        What `connected` opened.

    Raises
    ------
    ImageFileError
        IN cannot be listed, or OUT not be written to.
    InvalidArgumentError
        A worker has another version of this package, or a store is not seen by it.
    BackendUnavailableError
        The cluster fails.
    """
    begin = time.perf_counter()
    total, listed, complete = Summary(), 0, False
    kit = _Kit(f"sdie-fast-{secrets.token_hex(6)}", job, (_everywhere(source), _everywhere(target)), {})
    work = _Run(client, kit, _files, stop)

    def todo() -> Iterator[Pair]:
        nonlocal listed, complete
        rest = iter(pairs)
        with ThreadPoolExecutor(1 if target.local else _CHECKS) as pool:
            while chunk := _listed(rest, source):
                checked = [False] * len(chunk)
                if journal is not None:
                    with _writing(target):
                        checked = list(pool.map(journal.is_done, chunk))
                for pair, known in zip(chunk, checked, strict=True):
                    listed += 1
                    if known:
                        total.skipped += 1
                    elif pair.error is not None:
                        fail(pair, pair.error)
                    else:
                        yield pair
                watch(total, listed, complete)
                if work.stop.is_set():
                    return
        complete = True

    def finish(group: list[Pair], answer: tuple[Summary, dict[str, Entry]]) -> None:
        told, rows = answer
        if journal is not None:
            with _writing(target):
                for pair in group:
                    if pair.target in rows:
                        journal.add(pair, rows[pair.target])
        total.include(told, tell)

    def fail(pair: Pair, why: str) -> None:
        name = pair.source.name
        total.fail(name, why if why.startswith(name) else f"{name}: {why}")
        tell(total.failed.get(name, f"{name}: {why}"))

    ended = work(todo(), _MOST, finish, fail, lambda: watch(total, listed, complete))
    total.interrupted = not ended
    total.seconds = time.perf_counter() - begin
    watch(total, listed, complete)
    return total


@contextlib.contextmanager
def _writing(target: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = f"OUT: {target.url} cannot be written to: {error.strerror or error}"
        raise ImageFileError(f"{told}; --resume goes on from there") from error


def _listed(rest: Iterator[Pair], source: Store) -> list[Pair]:
    try:
        return list(islice(rest, _CHECKS))
    except OSError as error:
        raise ImageFileError(f"IN: {source.url} cannot be listed: {error.strerror or error}") from error


def run_shards(
    found: Iterable[Shard],
    job: Job,
    client: Client,
    *,
    suffix: str | None = None,
    resume: bool = False,
    watch: Watch = lambda *_: None,
    tell: Tell = lambda _: None,
    stop: threading.Event | None = None,
) -> Summary:
    """Do shards on a cluster, as `shards.run` does on one machine: each is a task.

    Parameters
    ----------
    found, job, suffix, resume, watch, tell, stop
        As there.
    client : distributed.Client
        What `connected` opened.

    Raises
    ------
    ImageFileError, InvalidArgumentError, BackendUnavailableError
        As for `run`.
    """
    begin = time.perf_counter()
    total = Summary()
    kit = _Kit(f"sdie-fast-{secrets.token_hex(6)}", job, None, {"suffix": suffix, "resume": resume})
    todo = (Shard(_everywhere(s.source), s.name, _everywhere(s.target), s.into) for s in found)

    def fail(shard: Shard, why: str) -> None:
        total.fail(shard.url, f"{shard.url}: {why}")
        tell(f"{shard.url}: {why}")

    ended = _Run(client, kit, _shard, stop)(
        todo, 1, lambda _, answer: total.include(answer[0], tell), fail, lambda: watch(total, total.files, False)
    )
    total.interrupted = not ended
    total.seconds = time.perf_counter() - begin
    watch(total, total.files, True)
    return total
