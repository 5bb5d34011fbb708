"""The backend "cuda": images on the host or on the device through T rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .._device_array import DeviceArray
from .._params import FilterParams
from . import _driver, host
from ._workspace import Buffers, Job, Workspace, with_workspace
from .exchange import contiguous_strides, describe, ordered
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


def _on_device(
    job: Job, src: DeviceArray, dst: DeviceArray, weights: Weights, white: float
) -> None:
    total, rounds = weights.shape[:2]
    size = src.size * src.itemsize
    recorded = worth_recording(size) and _is_contiguous(src) and _is_contiguous(dst)

    def more(images: int) -> int:
        return int(images * rounds * 24 + (2 * size if recorded else 0))

    def use(workspace: Workspace, images: int) -> None:
        with ordered(src, dst) as stream:
            workspace.begin(stream)
            try:
                if recorded and images == total:
                    _recorded(workspace, job, src, dst, weights, white, stream)
                else:
                    _plain(workspace, images, job, src, dst, weights, white, stream)
            finally:
                workspace.end(stream)

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


def to_host(array: DeviceArray, params: FilterParams) -> npt.NDArray[Any]:
    """Copy (N, H, W, C) images to the host, and wait for them.

    `params` are those the images are enhanced with, so that one workspace serves both.
    """
    stream = _driver.stream(array.stream)
    source = _packed(array, params)
    values = np.empty(array.shape, array.dtype)
    source.copy_to_host(values, stream=stream)
    _wait(stream)
    return values


def from_host(values: npt.NDArray[Any], array: DeviceArray, params: FilterParams) -> None:
    """Copy images from the host into (N, H, W, C) images of the same shape and dtype."""
    stream = _driver.stream(array.stream)
    if _is_contiguous(array):
        target = _driver.numba_array(_plainly_laid(array))
        target.copy_to_device(np.ascontiguousarray(values), stream=stream)
    else:
        staged = _driver.cuda().to_device(np.ascontiguousarray(values), stream=stream)
        source = describe("image", staged)
        _identity(replace(source, stream=array.stream), array, params)
    # The host's array is the caller's again when this returns.
    _wait(stream)


def _packed(array: DeviceArray, params: FilterParams) -> Any:
    """A Numba array of the same images, C-contiguous: a copy where they are not."""
    if _is_contiguous(array):
        return _driver.numba_array(_plainly_laid(array))
    packed = _driver.cuda().device_array(array.shape, array.dtype)
    target = replace(describe("out", packed), stream=array.stream)
    _identity(array, target, params)
    return packed


def _identity(src: DeviceArray, dst: DeviceArray, params: FilterParams) -> None:
    """Copy between arrays of any strides by a round of the identity alone, which changes no value."""
    weights = np.zeros((len(src), 1, 6), np.float32)
    weights[..., 0] = 1.0
    white = {1: 255.0, 2: 65535.0, 4: 1.0}[src.itemsize]
    run(src, dst, weights, params, white_level=white, per_channel=False, threads=1)


def _wait(stream: Any) -> None:
    if stream:
        stream.synchronize()
