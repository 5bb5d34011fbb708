"""NumPy arrays through the GPU: up and down in chunks, through pinned buffers, copies beside the kernels.

Three streams (up, compute, down) and two sets of buffers: while the kernels work on one chunk, the host fills the pinned
buffer of the next and takes the result of the one before out of its own. Events order the streams; the host waits only
for results. A batch of one chunk uses the compute stream alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _driver
from ._workspace import Buffers, Job, Shape, Workspace, turn, with_workspace
from .graph import worth_recording

# Bytes of a chunk: small enough that the first is soon on its way, large enough that a copy takes
# far longer than to start it. An estimate: NOT MEASURED on any GPU yet.
CHUNK_BYTES = 16 * 2**20
SLOTS = 2

Planes = npt.NDArray[Any]
Weights = npt.NDArray[np.float32]


class Slot(Buffers):
    """Buffers with their pinned twins on the host, and how far the chunk in them has come."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any], rounds: int) -> None:
        super().__init__(shape, dtype, rounds)
        cuda = _driver.cuda()
        self.pinned_src = cuda.pinned_array(shape, dtype)
        self.pinned_dst = cuda.pinned_array(shape, dtype)
        self.uploaded, self.computed, self.downloaded = (_driver.event() for _ in range(3))


class Streams:
    """The three streams of a device; a chunk on its own passes through the middle one."""

    def __init__(self, pipelined: bool) -> None:
        cuda = _driver.cuda()
        self.compute = cuda.stream()
        self.up = cuda.stream() if pipelined else self.compute
        self.down = cuda.stream() if pipelined else self.compute


def enhance(job: Job, src: Planes, dst: Planes, weights: Weights, white_level: float) -> None:
    """Enhance (N, H, W, C) images on the host; returns when `dst` holds the results.

    Parameters
    ----------
    job : Job
        Of the images' shape.
    src, dst : ndarray, uint8, uint16 or float32, (N, H, W, C)
        Any strides, not overlapping.
    weights : ndarray, float32, (N, T, 6)
        Normalised.
    white_level : float
        What counts as 1.0.

    Raises
    ------
    DeviceMemoryError
        Not even one image fits.
    """
    images = job.shape[0]
    per_image = src.dtype.itemsize * math.prod(job.shape[1:])
    at_a_time = min(images, max(1, CHUNK_BYTES // per_image))

    def more(count: int) -> int:
        sets = SLOTS if count < images else 1
        return sets * Buffers.bytes((count, *job.shape[1:]), src.dtype, weights.shape[1])

    def use(workspace: Workspace, count: int) -> None:
        pipeline = _Pipeline(workspace, count, job, src, dst, weights, white_level)
        try:
            pipeline.run()
        finally:
            pipeline.wait()

    with_workspace(at_a_time, job, more, use)


class _Pipeline:
    """One call's way through the streams."""

    def __init__(
        self,
        workspace: Workspace,
        images: int,
        job: Job,
        src: Planes,
        dst: Planes,
        weights: Weights,
        white_level: float,
    ) -> None:
        self._workspace = workspace
        self._src, self._dst, self._weights = src, dst, weights
        self._active, self._white = job.active, white_level
        # Chunks of nearly one size: a last small one would leave the streams idle.
        chunks = -(-len(src) // images)
        self._size = -(-len(src) // chunks)
        self._slots = [
            workspace.buffers(k, self._size, src.dtype, weights.shape[1], Slot) for k in range(min(SLOTS, chunks))
        ]
        self._streams = workspace.streams(Streams, chunks > 1)
        # A chunk, so that the recorded part is the whole of the work.
        self._recorded = chunks == 1 and worth_recording(src.nbytes)

    def run(self) -> None:
        """Send every chunk through."""
        under_way: list[tuple[Slot, slice]] = []
        for k, start in enumerate(range(0, len(self._src), self._size)):
            slot = self._slots[k % len(self._slots)]
            if len(under_way) == len(self._slots):
                self._take(*under_way.pop(0))
            part = slice(start, min(start + self._size, len(self._src)))
            self._send(slot, part)
            under_way.append((slot, part))
        for item in under_way:
            self._take(*item)

    def _send(self, slot: Slot, part: slice) -> None:
        streams = self._streams
        count = part.stop - part.start
        np.copyto(slot.pinned_src[:count], self._src[part])
        src, dst = slot.src[:count], slot.dst[:count]
        src.copy_to_device(slot.pinned_src[:count], stream=streams.up)
        weights = slot.weights.put(self._weights[part], streams.up)
        if streams.up is not streams.compute:
            slot.uploaded.record(streams.up)
            slot.uploaded.wait(streams.compute)

        def enqueue(stream: Any) -> None:
            self._workspace.rounds(src, dst, weights, self._active, white_level=self._white, stream=stream)

        with turn(streams.compute):
            if self._recorded:
                slot.replay((count, self._active, self._white), enqueue, streams.compute)
            else:
                enqueue(streams.compute)
        if streams.down is not streams.compute:
            slot.computed.record(streams.compute)
            slot.computed.wait(streams.down)
        dst.copy_to_host(slot.pinned_dst[:count], stream=streams.down)
        slot.downloaded.record(streams.down)

    def _take(self, slot: Slot, part: slice) -> None:
        slot.downloaded.synchronize()
        np.copyto(self._dst[part], slot.pinned_dst[: part.stop - part.start])

    def wait(self) -> None:
        """Wait for all that was sent, so that nothing is under way in buffers that others may get."""
        for stream in (self._streams.up, self._streams.compute, self._streams.down):
            stream.synchronize()
