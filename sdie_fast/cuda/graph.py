"""CUDA graphs: all launches of T rounds recorded once, replayed as one.

A launch from Python takes some ten microseconds, and T rounds of a small image are dozens of launches of kernels that take
less than that each: recorded, they cost one launch. What is recorded holds the addresses of its buffers, so it reads and
writes buffers of our own, into and out of which images are copied; `worth_recording` says when that pays.

A recording is made at the second call of the same kind: the first compiles the kernels, which must not happen while a
stream is being recorded.
"""

from __future__ import annotations

import importlib
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from . import driver

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


def _checked(binding: Any, answer: tuple[Any, ...], call: str) -> Any:
    """Unpack what a function of cuda.bindings returns: a code, then at most one value."""
    code, *values = answer
    if int(code) != 0:
        raise RecordingError(f"{call} answers {getattr(code, 'name', code)}")
    return values[0] if values else None


class Graph:
    """Work recorded from a stream, ready to be launched on any.

    Parameters
    ----------
    enqueue : callable
        Enqueues the work on the Numba stream it is given, and nowhere else.
    stream : Numba stream
        To record from: one of our own, since default streams cannot be recorded. Nothing runs.
    binding : module, optional
        The driver's functions, as cuda.bindings.driver has them.

    Raises
    ------
    RecordingError
        The driver refuses, or the work is of a kind that cannot be recorded.
    """

    def __init__(self, enqueue: Enqueue, stream: Any, binding: Any = None) -> None:
        if binding is None:
            binding = importlib.import_module("cuda.bindings.driver")
        self._binding = binding
        handle = binding.CUstream(int(stream.handle))
        # Relaxed: what other threads, or Numba's clean-up, do meanwhile does not spoil the recording.
        mode = binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        _checked(binding, binding.cuStreamBeginCapture(handle, mode), "cuStreamBeginCapture")
        failure: Exception | None = None
        try:
            enqueue(stream)
        except Exception as error:
            failure = error
        # A recording that was begun must be ended, or the stream stays unusable.
        answer = binding.cuStreamEndCapture(handle)
        if failure is not None:
            if int(answer[0]) == 0 and len(answer) > 1:
                binding.cuGraphDestroy(answer[1])
            raise RecordingError(f"the launches cannot be recorded: {failure}") from failure
        graph = _checked(binding, answer, "cuStreamEndCapture")
        try:
            self._handle = _checked(binding, binding.cuGraphInstantiate(graph, 0), "cuGraphInstantiate")
        finally:
            binding.cuGraphDestroy(graph)
        weakref.finalize(self, binding.cuGraphExecDestroy, self._handle)

    def launch(self, stream: Any) -> None:
        """Enqueue the recorded work on a Numba stream."""
        handle = self._binding.CUstream(int(stream.handle))
        _checked(self._binding, self._binding.cuGraphLaunch(self._handle, handle), "cuGraphLaunch")


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
                self._stream = driver.cuda().stream()
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
