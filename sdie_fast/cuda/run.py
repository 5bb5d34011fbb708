"""The backend "cuda": images on the host or on the device through T rounds.

Images on the device are computed from and into the caller's arrays, on the stream of their library (see `arrays`).
Images on the host go up and down in chunks, through pinned buffers, copies beside the kernels. Three streams (up,
compute, down) and two sets of buffers: while the kernels work on one chunk, the host fills the pinned buffer of the next
and takes the result of the one before out of its own. Events order the streams; the host waits only for results. A
batch of one chunk uses the compute stream alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SdieError
from ..filters import FilterParams
from . import driver, streams
from .arrays import ordered
from .graph import worth_recording
from .memory import Buffers, Job, WeightBuffer, Workspace, turn, with_workspace
from .rounds import Shape
from .views import DeviceArray, numba_array

__all__ = ["run"]

# Bytes of a chunk: small enough that the first is soon on its way, large enough that a copy takes
# far longer than to start it. An estimate: NOT MEASURED on any GPU yet.
CHUNK_BYTES = 16 * 2**20
SLOTS = 2
_DEVICE_SLOT = -1  # of the buffers whose addresses recordings hold; the host's begin at 0


def run(
    src: Any,
    dst: Any,
    weights: npt.NDArray[np.float32],
    params: FilterParams,
    *,
    white_level: float,
    per_channel: bool,
    threads: int,
) -> None:
    """Enhance (N, H, W, C) images `src` into `dst`.

    Parameters
    ----------
    src, dst : ndarray or DeviceArray, uint8, uint16 or float32, (N, H, W, C)
        Both on the host, or both on the current device, of one dtype, any strides, not overlapping.
        On the host the call returns when `dst` holds the results. On the device it returns when the
        work is enqueued (see `arrays`); nobody waits, and the values of `src` are not looked at:
        kernels clip what lies outside [0, 1], and what they make of NaN is not defined.
    weights : ndarray, float32, (N, T, filters)
        Normalised, on the host, in the order of `sdie_fast.filters.TABLE`.
    params : FilterParams
    white_level : float
        What counts as 1.0.
    per_channel : bool
        Colour: every channel instead of luma.
    threads : int
        Not used.

    Raises
    ------
    BackendUnavailableError
        numba.cuda does not start, or no kernel compiles.
    DeviceMemoryError
        Not even one image fits in the memory that is free. What was cached has been dropped, and
        the next call works as ever.
    """
    del threads
    active = tuple(np.logical_or.reduce(weights, axis=(0, 1)).tolist())
    call = _Call(Job(src.shape, params, per_channel, active), src, dst, weights, white_level)
    # With a context current, for which Numba would else ask the driver at each of its calls.
    way = driver.cuda().require_context(call.on_device if isinstance(src, DeviceArray) else call.on_host)
    try:
        way()
    except SdieError:
        raise
    except Exception as error:
        # What a GPU answers is an error of this call; that nothing compiles is one of the installation.
        if "CUDA_ERROR" in str(error) or driver.proved().available:
            raise
        raise driver.refusal(driver.proved()) from error


@dataclass(frozen=True)
class _Call:
    """One call's images, weights, and the two ways they can go."""

    job: Job
    src: Any
    dst: Any
    weights: npt.NDArray[np.float32]
    white: float

    def rounds(self, workspace: Workspace, src: Any, dst: Any, weights: Any, stream: Any) -> None:
        """Enqueue the rounds of images on the device."""
        workspace.rounds(src, dst, weights, self.job.active, white_level=self.white, stream=stream)

    def recorded(self, workspace: Workspace, buffers: Buffers, count: int, weights: Any, stream: Any) -> None:
        """Enqueue the rounds of the buffers' first images as one launch, from the second time on."""
        key = count, self.job.active, self.white

        def enqueue(on: Any) -> None:
            self.rounds(workspace, buffers.src.first(count), buffers.dst.first(count), weights, on)

        buffers.recorder(key, enqueue, stream)

    def on_device(self) -> None:
        """From the caller's array into the caller's array, or through buffers whose addresses stay."""
        src, dst = self.src, self.dst
        images, rounds = self.weights.shape[:2]
        size = src.nbytes
        small = worth_recording(size) and src.flags.c_contiguous and dst.flags.c_contiguous

        def use(workspace: Workspace, at_a_time: int) -> None:
            with ordered(src, dst) as stream, turn(stream):
                if not small or at_a_time < images:
                    buffer = workspace.weights(rounds)
                    for start in range(0, images, at_a_time):
                        part = slice(start, start + at_a_time)
                        weights = buffer.put(self.weights[part], stream)
                        self.rounds(workspace, numba_array(src[part]), numba_array(dst[part]), weights, stream)
                    return
                # Between copies into and out of the buffers that the recording holds.
                buffers = workspace.buffers(_DEVICE_SLOT, images, src.dtype, rounds, Buffers)
                weights = buffers.weights.put(self.weights, stream)
                streams.exchange(buffers.src.address, src.pointer, size, stream)
                self.recorded(workspace, buffers, images, weights, stream)
                streams.exchange(dst.pointer, buffers.dst.address, size, stream)

        with_workspace(images, self.job, lambda n: WeightBuffer.bytes(n, rounds) + (2 * size if small else 0), use)

    def on_host(self) -> None:
        """Up and down in chunks; returns when `dst` holds the results."""
        images, rounds = self.weights.shape[:2]
        per_image = self.src.dtype.itemsize * math.prod(self.job.shape[1:])
        at_a_time = min(images, max(1, CHUNK_BYTES // per_image))

        def more(count: int) -> int:
            sets = SLOTS if count < images else 1
            return sets * Buffers.bytes((count, *self.job.shape[1:]), self.src.dtype, rounds)

        def use(workspace: Workspace, count: int) -> None:
            pipeline = _Pipeline(self, workspace, count)
            try:
                pipeline.run()
            finally:
                pipeline.wait()

        with_workspace(at_a_time, self.job, more, use)


class _Slot(Buffers):
    """Buffers with their pinned twins on the host, and how far the chunk in them has come."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any], rounds: int) -> None:
        super().__init__(shape, dtype, rounds)
        cuda = driver.cuda()
        self.pinned_src = cuda.pinned_array(shape, dtype)
        self.pinned_dst = cuda.pinned_array(shape, dtype)
        self.source, self.target = map(streams.address, (self.pinned_src, self.pinned_dst))
        self.uploaded, self.computed, self.downloaded = (streams.event() for _ in range(3))


class _Streams:
    """The three streams of a device; a chunk on its own passes through the middle one."""

    def __init__(self, pipelined: bool) -> None:
        self.compute = streams.own()
        self.up = streams.own() if pipelined else self.compute
        self.down = streams.own() if pipelined else self.compute


class _Pipeline:
    """One call's way through the streams, at most so many images at a time."""

    def __init__(self, call: _Call, workspace: Workspace, images: int) -> None:
        self._call, self._workspace = call, workspace
        # Chunks of nearly one size: a last small one would leave the streams idle.
        total, rounds = call.weights.shape[:2]
        chunks = -(-total // images)
        self._size = -(-total // chunks)
        self._slots: list[_Slot] = [
            workspace.buffers(k, self._size, call.src.dtype, rounds, _Slot) for k in range(min(SLOTS, chunks))
        ]
        if (chunks > 1) not in workspace.streams:
            workspace.streams[chunks > 1] = _Streams(chunks > 1)
        self._streams: _Streams = workspace.streams[chunks > 1]
        # A chunk, so that the recorded part is the whole of the work.
        self._recorded = chunks == 1 and worth_recording(call.src.nbytes)

    def run(self) -> None:
        """Send every chunk through."""
        under_way: list[tuple[_Slot, slice]] = []
        total = len(self._call.src)
        for k, start in enumerate(range(0, total, self._size)):
            slot = self._slots[k % len(self._slots)]
            if len(under_way) == len(self._slots):
                self._take(*under_way.pop(0))
            part = slice(start, min(start + self._size, total))
            self._send(slot, part)
            under_way.append((slot, part))
        for item in under_way:
            self._take(*item)

    def _send(self, slot: _Slot, part: slice) -> None:
        call, workspace = self._call, self._workspace
        up, compute, down = self._streams.up, self._streams.compute, self._streams.down
        count = part.stop - part.start
        np.copyto(slot.pinned_src[:count], call.src[part])
        size = call.src[part].nbytes
        streams.upload(slot.src.address, slot.source, size, up)
        weights = slot.weights.put(call.weights[part], up)
        if up is not compute:
            slot.uploaded.record(up)
            slot.uploaded.wait(compute)
        with turn(compute):
            if self._recorded:
                call.recorded(workspace, slot, count, weights, compute)
            else:
                call.rounds(workspace, slot.src.first(count), slot.dst.first(count), weights, compute)
        if down is not compute:
            slot.computed.record(compute)
            slot.computed.wait(down)
        streams.download(slot.target, slot.dst.address, size, down)
        slot.downloaded.record(down)

    def _take(self, slot: _Slot, part: slice) -> None:
        slot.downloaded.synchronize()
        np.copyto(self._call.dst[part], slot.pinned_dst[: part.stop - part.start])

    def wait(self) -> None:
        """Wait for all that was sent, so that nothing is under way in buffers that others may get."""
        for stream in {self._streams.up, self._streams.compute, self._streams.down}:
            stream.synchronize()
