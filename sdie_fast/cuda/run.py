"""The backend "cuda": images on the host or on the device through T rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .._device_array import DeviceArray
from ..filters import FilterParams
from . import _driver, host
from ._workspace import Buffers, Job, Workspace, turn, with_workspace
from .exchange import contiguous_strides, ordered
from .graph import worth_recording

Weights = npt.NDArray[np.float32]

_DEVICE_SLOT = -1  # of the buffers whose addresses recordings hold; the host's begin at 0


def run(
    src: Any,
    dst: Any,
    weights: Weights,
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
        work is enqueued (see `exchange`); nobody waits, and the values of `src` are not looked at:
        kernels clip what lies outside [0, 1], and what they make of NaN is not defined.
    weights : ndarray, float32, (N, T, 6)
        Normalised, on the host.
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
        numba.cuda does not start.
    DeviceMemoryError
        Not even one image fits in the memory that is free. What was cached has been dropped, and
        the next call works as ever.
    """
    del threads
    _driver.cuda()
    active = tuple(bool(weights[..., k].any()) for k in range(weights.shape[2]))
    job = Job(src.shape, params, per_channel, active)
    if isinstance(src, DeviceArray):
        _on_device(job, src, dst, weights, white_level)
    else:
        host.enhance(job, src, dst, weights, white_level)


def _on_device(job: Job, src: DeviceArray, dst: DeviceArray, weights: Weights, white: float) -> None:
    total, rounds = weights.shape[:2]
    size = src.size * src.itemsize
    recorded = worth_recording(size) and _is_contiguous(src) and _is_contiguous(dst)

    def more(images: int) -> int:
        return int(images * rounds * 24 + (2 * size if recorded else 0))

    def use(workspace: Workspace, images: int) -> None:
        with ordered(src, dst) as stream, turn(stream):
            if recorded and images == total:
                _recorded(workspace, job, src, dst, weights, white, stream)
            else:
                _plain(workspace, images, job, src, dst, weights, white, stream)

    with_workspace(total, job, more, use)


def _plain(
    workspace: Workspace,
    images: int,
    job: Job,
    src: DeviceArray,
    dst: DeviceArray,
    weights: Weights,
    white: float,
    stream: Any,
) -> None:
    """Launch after launch, from the caller's array into the caller's array."""
    buffer = workspace.weights(weights.shape[1])
    for start in range(0, len(src), images):
        part = slice(start, start + images)
        held = buffer.put(weights[part], stream)
        workspace.rounds(
            _driver.numba_array(src[part]),
            _driver.numba_array(dst[part]),
            held,
            job.active,
            white_level=white,
            stream=stream,
        )


def _recorded(
    workspace: Workspace,
    job: Job,
    src: DeviceArray,
    dst: DeviceArray,
    weights: Weights,
    white: float,
    stream: Any,
) -> None:
    """One launch of what was recorded, between copies into and out of the buffers it holds."""
    count, rounds = weights.shape[:2]
    buffers: Buffers = workspace.buffers(_DEVICE_SLOT, count, src.dtype, rounds, Buffers)
    held = buffers.weights.put(weights, stream)
    inside, outside = buffers.src[:count], buffers.dst[:count]
    inside.copy_to_device(_driver.numba_array(_plainly_laid(src)), stream=stream)

    def enqueue(on: Any) -> None:
        workspace.rounds(inside, outside, held, job.active, white_level=white, stream=on)

    buffers.replay((count, job.active, white), enqueue, stream)
    _driver.numba_array(_plainly_laid(dst)).copy_to_device(outside, stream=stream)


def _is_contiguous(array: DeviceArray) -> bool:
    return bool(array.flags.c_contiguous)


def _plainly_laid(array: DeviceArray) -> DeviceArray:
    """The same contiguous array: axes of one element may come with any stride, which Numba minds."""
    return replace(array, strides=contiguous_strides(array.shape, array.itemsize))
