"""CUDA graphs: all launches of T rounds recorded once, replayed as one.

A launch from Python takes some ten microseconds, and T rounds of a small image are dozens of launches of kernels that take
less than that each: recorded, they cost one launch. What is recorded holds the addresses of its buffers, so it reads and
writes buffers of our own, into and out of which images are copied; `worth_recording` says when that pays.

A recording is made at the second call of the same kind: the first compiles the kernels, which must not happen while a
stream is being recorded.
"""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from . import driver, streams

__all__ = ["Graph", "Recorder", "RecordingError", "worth_recording"]

# Bytes of an image batch up to which launches, not pixels, are taken to be what costs time, so that
# copying it in and out is little beside them. An estimate: NOT MEASURED on any GPU yet.
MOST_BYTES = 4 * 2**20
_KEPT = 8  # recordings of one set of buffers

Enqueue = Callable[[Any], None]


def worth_recording(size: int) -> bool:
    """Whether a batch of so many bytes is replayed from a recording."""
    return size <= MOST_BYTES and not driver.simulated()


class RecordingError(RuntimeError):
    """Work cannot be recorded."""


class Graph:
    """Work recorded from a stream, ready to be launched on any.

    Parameters
    ----------
    enqueue : callable
        Enqueues the work on the Numba stream it is given, and nowhere else.
    stream : Numba stream
        To record from: one of our own (`streams.own`), since default streams cannot be recorded. Nothing runs.

    Raises
    ------
    RecordingError
        The driver refuses, or the work is of a kind that cannot be recorded.
    """

    def __init__(self, enqueue: Enqueue, stream: Any) -> None:
        try:
            graph = _recorded(enqueue, stream)
            try:
                self._handle = streams.call("cuGraphInstantiate", graph, 0)
            finally:
                driver.binding().cuGraphDestroy(graph)
        except streams.DriverError as error:
            raise RecordingError(str(error)) from error
        weakref.finalize(self, driver.binding().cuGraphExecDestroy, self._handle)

    def launch(self, stream: Any) -> None:
        """Enqueue the recorded work on a Numba stream."""
        streams.call("cuGraphLaunch", self._handle, stream.handle)


def _recorded(enqueue: Enqueue, stream: Any) -> Any:
    """Capture what is enqueued; gives the driver's graph."""
    binding = driver.binding()
    # Relaxed: what other threads, or Numba's clean-up, do meanwhile does not spoil the recording.
    mode = binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    streams.call("cuStreamBeginCapture", stream.handle, mode)
    try:
        enqueue(stream)
    except Exception as error:
        # A recording that was begun must be ended, or the stream stays unusable.
        code, graph = binding.cuStreamEndCapture(stream.handle)
        if code == 0:
            binding.cuGraphDestroy(graph)
        raise RecordingError(f"the launches cannot be recorded: {error}") from error
    return streams.call("cuStreamEndCapture", stream.handle)


class Recorder:
    """Work of recurring kinds: launched plainly the first time, recorded the second, replayed then."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, Graph | None] = OrderedDict()
        self._stream: Any = None
        self._refused = False

    def __call__(self, key: Hashable, enqueue: Enqueue, stream: Any) -> None:
        """Enqueue work on a stream.

        Parameters
        ----------
        key
            What the work depends on besides the contents of its buffers.
        enqueue : callable
            Enqueues it on the stream it is given.
        stream : Numba stream
        """
        if key not in self._graphs or self._refused:
            enqueue(stream)
            self._graphs[key] = None
        else:
            graph = self._graphs[key] or self._record(key, enqueue)
            if graph is None:
                enqueue(stream)
            else:
                graph.launch(stream)
        self._graphs.move_to_end(key)
        while len(self._graphs) > _KEPT:
            self._graphs.popitem(last=False)

    def _record(self, key: Hashable, enqueue: Enqueue) -> Graph | None:
        try:
            if self._stream is None:
                self._stream = streams.own()
            self._graphs[key] = Graph(enqueue, self._stream)
        except RecordingError as error:
            self._refused = True
            _tell(str(error))
        return self._graphs[key]


_told: set[str] = set()


def _tell(reason: str) -> None:
    """Warn once of each reason: every call works, but small images take longer than they could."""
    if reason not in _told:
        _told.add(reason)
        warnings.warn(
            f"backend 'cuda' launches its kernels one by one, because {reason}", RuntimeWarning, stacklevel=2
        )
