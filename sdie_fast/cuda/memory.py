"""What one shape of image needs on the device, allocated once, kept while it is in use, and dropped when memory is short."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DeviceMemoryError
from ..filters import TABLE, FilterParams
from . import driver, streams
from .graph import Recorder
from .rounds import Active, Rounds, Shape
from .views import Batch

__all__ = ["Buffers", "Job", "WeightBuffer", "Workspace", "allocate", "allocated", "cache", "turn", "with_workspace"]

Weights = npt.NDArray[np.float32]

_KEPT = 4  # workspaces, of the shapes used last
_KINDS_KEPT = 2  # of dtype and T, for each workspace
_UPLOADS = 16  # copies of weights that may be under way
_SHARE = 0.9  # of the free memory that is taken


_FIX = "smaller images or batches, less memory held by others (of torch, torch.cuda.empty_cache()), or backend='cpu'"


class WeightBuffer:
    """Weights on the device, uploaded where they differ from those that are there.

    An upload reads pinned memory some time after it is enqueued, and waiting for it would be
    waiting for everything enqueued before: so each takes a pinned buffer of its own out of a few
    that are used in turn.
    """

    def __init__(self, images: int, rounds: int) -> None:
        self._shape = images, rounds, len(TABLE)
        self._device = Batch(self._shape, np.float32)
        self._held = b""
        self._pinned: list[tuple[Any, Any]] = []  # the oldest upload first

    @staticmethod
    def bytes(images: int, rounds: int) -> int:
        """How much device memory one takes."""
        return 4 * images * rounds * len(TABLE)

    def put(self, weights: Weights, stream: Any) -> Any:
        """Enqueue the upload of (n, T, filters) weights; returns the device array they will be in."""
        given = weights.tobytes()
        if given != self._held:
            pinned, event = self._next()
            pinned[: len(weights)] = weights
            streams.upload(self._device.address, streams.address(pinned), weights.nbytes, stream)
            event.record(stream)
            self._pinned.append((pinned, event))
            self._held = given
        return self._device.first(len(weights))

    def _next(self) -> tuple[Any, Any]:
        if self._pinned and (len(self._pinned) >= _UPLOADS or streams.finished(self._pinned[0][1])):
            pinned, event = self._pinned.pop(0)
            event.synchronize()
            return pinned, event
        return driver.cuda().pinned_array(self._shape, np.float32), streams.event()


class Buffers:
    """A batch and its result on the device, C-contiguous, at addresses that stay."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any], rounds: int) -> None:
        self.images = shape[0]
        self.src, self.dst = Batch(shape, dtype), Batch(shape, dtype)
        self.weights = WeightBuffer(shape[0], rounds)
        self.recorder = Recorder()

    @staticmethod
    def bytes(shape: Shape, dtype: np.dtype[Any], rounds: int) -> int:
        """How much device memory one set takes."""
        return 2 * math.prod(shape) * dtype.itemsize + WeightBuffer.bytes(shape[0], rounds)


class _Turns:
    """Who computes on a device: one stream after the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: Any = None


_turns: dict[int, _Turns] = {}
_turns_lock = threading.Lock()


@contextlib.contextmanager
def turn(stream: Any) -> Iterator[None]:
    """Order what is enqueued on a stream inside after all that was enqueued so before.

    Workspaces are shared, and exact WLS is a kernel whose blocks wait for each other: two of them
    at once, each with a part of the device, might wait for ever. One batch fills the device in any
    case.
    """
    device = driver.current_device()
    with _turns_lock:
        turns = _turns.setdefault(device, _Turns())
    with turns.lock:
        if turns.last is None:
            turns.last = streams.event()
        else:
            turns.last.wait(stream)
        try:
            yield
        finally:
            turns.last.record(stream)


@dataclass(frozen=True)
class Job:
    """What the memory of a call depends on.

    Attributes
    ----------
    shape : tuple of int
        (N, H, W, C) of the whole batch.
    active : tuple of bool
        Filters that have any weight; the others need no memory.
    """

    shape: Shape
    params: FilterParams
    per_channel: bool
    active: Active

    def bytes(self, images: int) -> int:
        """What the rounds of so many images at a time take on the device."""
        shape = (images, *self.shape[1:])
        return Rounds.workspace_bytes(shape, self.params, per_channel=self.per_channel, active=self.active)


class Workspace:
    """The rounds of one shape with their memory, and the buffers that go with them.

    It is used by one caller at a time, who holds `lock` while enqueueing; on the device `turn`
    orders what different callers' streams do with it.
    """

    def __init__(self, images: int, job: Job, active: Active) -> None:
        self.shape = (images, *job.shape[1:])
        self.active = active
        self.rounds = Rounds(self.shape, job.params, per_channel=job.per_channel, active=active)
        streams.settle()  # what it copied to the device is there, for whichever stream
        self.lock = threading.Lock()
        self.streams: dict[bool, Any] = {}  # of the host's way: for one chunk, for several
        self._kinds: OrderedDict[tuple[np.dtype[Any], int], dict[int, Any]] = OrderedDict()
        self._weights: OrderedDict[int, WeightBuffer] = OrderedDict()

    def suits(self, images: int, job: Job) -> bool:
        """Whether it has the memory for so many images at a time."""
        return self.shape[0] >= images and all(a or not b for a, b in zip(self.active, job.active, strict=True))

    def weights(self, rounds: int) -> WeightBuffer:
        """Get the weights' buffer for T rounds of the whole batch."""
        return _recent(self._weights, rounds, _KINDS_KEPT, lambda: WeightBuffer(self.shape[0], rounds))

    def buffers(self, slot: int, images: int, dtype: np.dtype[Any], rounds: int, make: Any) -> Any:
        """Get the buffers of a slot for at least so many images, of one dtype and T rounds.

        `make` is their class, `Buffers` or one derived from it, always the same for a slot.
        """
        slots = _recent(self._kinds, (dtype, rounds), _KINDS_KEPT, dict)
        if slot in slots and slots[slot].images < images:
            del slots[slot]  # before what replaces it is allocated
        if slot not in slots:
            slots[slot] = make((images, *self.shape[1:]), dtype, rounds)
        return slots[slot]


def _recent(held: OrderedDict[Any, Any], key: Any, most: int, make: Callable[[], Any]) -> Any:
    """Get what is held for a key, or make it; those used longest ago go."""
    if key not in held:
        held[key] = make()
    held.move_to_end(key)
    while len(held) > most:
        held.popitem(last=False)
    return held[key]


class _Cache:
    """Workspaces by shape, the one used last kept longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Any, ...], Workspace] = OrderedDict()

    @staticmethod
    def _key(job: Job) -> tuple[Any, ...]:
        return driver.current_device(), job.shape[1:], job.params, job.per_channel

    def get(self, images: int, job: Job) -> Workspace:
        """Get a workspace for at least so many images, or make one."""
        key = self._key(job)
        with self._lock:
            found = self._held.get(key)
            active = job.active
            if found is not None and not found.suits(images, job):
                # Calls with other filters will come again: the new one serves both.
                active = tuple(a or b for a, b in zip(active, found.active, strict=True))
                del found, self._held[key]  # it goes before what replaces it comes
            return _recent(self._held, key, _KEPT, lambda: Workspace(images, job, active))

    def has(self, images: int, job: Job) -> bool:
        """Whether a workspace for so many images is there."""
        with self._lock:
            found = self._held.get(self._key(job))
            return found is not None and found.suits(images, job)

    def clear(self) -> None:
        """Drop all that nobody is using."""
        with self._lock:
            self._held.clear()

    def __len__(self) -> int:
        return len(self._held)


cache = _Cache()


def _fitting(images: int, job: Job, more: Callable[[int], int]) -> int:
    """How many of the images are to be done at a time: all, or as many as fit in free memory."""
    if cache.has(images, job):
        return images
    room = _SHARE * driver.free_memory()
    if job.bytes(images) + more(images) > room:
        cache.clear()
        room = _SHARE * driver.free_memory()
    while images > 1 and job.bytes(images) + more(images) > room:
        images = (images + 1) // 2
    return images


def with_workspace(images: int, job: Job, more: Callable[[int], int], use: Callable[[Workspace, int], None]) -> None:
    """Do a job with a workspace: in fewer images at a time where memory does not suffice.

    Parameters
    ----------
    images : int
        Images at a time at most.
    job : Job
    more : callable
        Bytes besides the rounds' for so many images at a time.
    use : callable
        Gets the workspace, its lock held, and how many images it is to do at a time. It is called
        again with fewer where the device's memory runs out on the way.

    Raises
    ------
    DeviceMemoryError
        One image is too many.
    """
    images = _fitting(images, job, more)
    while True:
        try:
            _with_lock(images, job, use)
            return
        except Exception as error:
            if not driver.is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the frames that held what had been allocated.
        cache.clear()
        if images == 1:
            break
        images = (images + 1) // 2
    _, height, width, channels = job.shape
    raise DeviceMemoryError(
        f"backend 'cuda': an image of {height} x {width} pixels with {channels} channel(s) needs "
        f"{_mebibytes(job.bytes(1) + more(1))} of GPU memory; free: "
        f"{_mebibytes(driver.free_memory())}; to fix: {_FIX}"
    )


def _with_lock(images: int, job: Job, use: Callable[[Workspace, int], None]) -> None:
    workspace = cache.get(images, job)
    with workspace.lock:
        use(workspace, images)


def allocate(shape: tuple[int, ...], dtype: Any) -> Any:
    """Allocate a device array besides the workspaces, which give way to it.

    Raises
    ------
    DeviceMemoryError
        Memory does not suffice.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return allocated(lambda: driver.cuda().device_array(shape, dtype), size)


def allocated(make: Callable[[], Any], size: int) -> Any:
    """Let any library allocate so many bytes; the workspaces give way to it.

    Raises
    ------
    DeviceMemoryError
        Memory does not suffice.
    """
    for _ in range(2):
        try:
            return make()
        except Exception as error:
            if not driver.is_out_of_memory(error):
                raise
        cache.clear()
        driver.free_memory()  # so that it is given back to the driver now
    raise DeviceMemoryError(
        f"backend 'cuda': needs {_mebibytes(size)} more of GPU memory; free: "
        f"{_mebibytes(driver.free_memory())}; to fix: {_FIX}"
    )


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
