"""Recipes with a network, for images on the device: the images stay there, and only what the network sees comes down.

The network itself runs on the host, through ONNX Runtime. What it sees is what `sdie_fast.actor.observe` makes: 8 bits,
means of areas, exactly as Pillow's box filter computes them (first along rows, then along columns, rounded after each, in
fixed point with 22 fractional bits). A look costs side * side bytes for each image, and a wait for the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda, float32, int32, int64, uint8

from .._device_array import DeviceArray
from ..filters import FILTERS, FilterParams
from ..actor import Actions
from . import _driver, _pixels
from ._device import F32, ceil_div, pieces
from ._workspace import allocate
from .exchange import describe, ordered
from .run import run

Floats = npt.NDArray[np.float32]
Act = Callable[[npt.NDArray[np.uint8], int], Floats]

_THREADS = 32  # along x: what a network sees is some 64 pixels wide
_FRACTION = 22  # bits; Pillow's PRECISION_BITS
_HALF = 1 << (_FRACTION - 1)
# Added to a float32 in [0, 255] and taken away again, it leaves the nearest integer, ties to even.
_ROUND = F32(1.5 * 2**23)
_WHITE = F32(255.0)


@cuda.jit
def shrink_rows(image, bounds, share, out, first_row, first_plane):
    """Mean of each row's areas: (n, H, W) float32 in [0, 1] to (n, H, side) uint8.

    `bounds` (side, 2) are the areas' first and last pixel, `share` (side,) one over their lengths
    in fixed point.
    """
    x = cuda.grid(1)
    y = cuda.blockIdx.y + first_row
    n = cuda.blockIdx.z + first_plane
    if x < out.shape[2]:
        total = 0
        for k in range(bounds[x, 0], bounds[x, 1]):
            # Clipping stands between product and sum, which would be fused, and rounded once.
            value = min(max(image[n, y, k] * _WHITE, F32(0.0)), _WHITE)
            total += int32((value + _ROUND) - _ROUND)
        out[n, y, x] = uint8(min((total * share[x] + _HALF) >> _FRACTION, 255))


@cuda.jit
def shrink_columns(image, bounds, share, out, first_row, first_plane):
    """Mean of each column's areas: (n, H, side) uint8 to (n, side, side)."""
    x = cuda.grid(1)
    y = cuda.blockIdx.y + first_row
    n = cuda.blockIdx.z + first_plane
    if x < out.shape[2]:
        total = 0
        for k in range(bounds[y, 0], bounds[y, 1]):
            total += int32(image[n, k, x])
        out[n, y, x] = uint8(min((total * share[y] + _HALF) >> _FRACTION, 255))


_ARGUMENTS = (int32[:, ::1], int32[::1], uint8[:, :, ::1], int64, int64)
KERNELS = (
    ("shrink_rows", shrink_rows, (float32[:, :, ::1], *_ARGUMENTS)),
    ("shrink_columns", shrink_columns, (uint8[:, :, ::1], *_ARGUMENTS)),
)


@functools.lru_cache(maxsize=16)
def areas(length: int, side: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Bounds of the areas of a box filter, and their shares in fixed point, as Pillow has them."""
    scale = length / side
    support = 0.5 * max(scale, 1.0)
    bounds = np.empty((side, 2), np.int32)
    for k in range(side):
        centre = (k + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        # The filter is open on its left and closed on its right.
        inside = [i for i in range(first, last) if -0.5 < (i - centre + 0.5) / max(scale, 1.0) <= 0.5]
        bounds[k] = inside[0], inside[-1] + 1
    lengths = (bounds[:, 1] - bounds[:, 0]).astype(np.float64)
    return bounds, (0.5 + (1.0 / lengths) * (1 << _FRACTION)).astype(np.int32)


class Eye:
    """Looks at float32 planes of one size; what it sees is on the host.

    Parameters
    ----------
    images, height, width : int
        Of the planes.
    side : int
        Of what is seen, in pixels.
    """

    def __init__(self, images: int, height: int, width: int, side: int) -> None:
        self._rows = self._across(width, side)
        self._columns = self._across(height, side)
        self._half = allocate((images, height, side), np.uint8)
        self._seen = allocate((images, side, side), np.uint8)
        self._pinned = _driver.cuda().pinned_array((images, side, side), np.uint8)

    @staticmethod
    def _across(length: int, side: int) -> tuple[Any, Any]:
        return tuple(_driver.cuda().to_device(values) for values in areas(length, side))

    def __call__(self, planes: Any, stream: Any) -> npt.NDArray[np.uint8]:
        """Look at (n, H, W) planes in [0, 1]; waits for them. Returns uint8 (n, side, side)."""
        _launch(shrink_rows, planes, *self._rows, self._half, stream)
        _launch(shrink_columns, self._half, *self._columns, self._seen, stream)
        self._seen.copy_to_host(self._pinned, stream=stream)
        if stream:
            stream.synchronize()
        return np.array(self._pinned)


def _launch(kernel: Any, image: Any, bounds: Any, share: Any, out: Any, stream: Any) -> None:
    for y, z, rows, depth in pieces(out.shape[1], out.shape[0]):
        grid = ceil_div(out.shape[2], _THREADS), rows, depth
        kernel[grid, _THREADS, stream](image, bounds, share, out, y, z)


def _load(luma: bool, source: Any, planes: Any, white: float, channels: int, stream: Any) -> None:
    grid = ceil_div(planes.shape[2], _pixels.THREADS), ceil_div(planes.shape[1], _pixels.ROWS)
    for y, z, rows, depth in pieces(grid[1], planes.shape[0]):
        _pixels.loader(luma)[(grid[0], rows, depth), _pixels.THREADS, stream](
            source, planes, F32(1.0 / white), channels, y, z
        )


def _save(luma: bool, planes: Any, source: Any, target: Any, white: float, channels: int, stream: Any) -> None:
    store = _pixels.storer(np.dtype(target.dtype), luma)
    grid = ceil_div(planes.shape[2], _pixels.THREADS), ceil_div(planes.shape[1], _pixels.ROWS)
    for y, z, rows, depth in pieces(grid[1], planes.shape[0]):
        store[(grid[0], rows, depth), _pixels.THREADS, stream](planes, source, target, F32(white), channels, y, z)


def look(src: DeviceArray, white: float, side: int) -> npt.NDArray[np.uint8]:
    """What a network sees of (N, H, W, C) images: uint8 (N, side, side)."""
    images, height, width, channels = src.shape
    stream = _driver.stream(src.stream)
    grey = allocate((images, height, width), np.float32)
    _load(channels == 3, _driver.numba_array(src), grey, white, 1, stream)
    return Eye(images, height, width, side)(grey, stream)


@dataclass(frozen=True)
class Rules:
    """What the rounds of a recipe with a network depend on besides the network."""

    params: FilterParams
    meaning: Actions
    rounds: int
    side: int
    per_channel: bool


def follow(src: DeviceArray, dst: DeviceArray, rules: Rules, white: float, act: Act) -> npt.NDArray[np.float32]:
    """Enhance images on the device round by round, each as a network says that saw the last.

    Parameters
    ----------
    src, dst : DeviceArray, (N, H, W, C)
        Of one dtype, not overlapping.
    rules : Rules
    white : float
        What counts as 1.0.
    act : callable
        Gets what is seen (N, side, side) and the round's number; gives actions (N, size).

    Returns
    -------
    ndarray, float32, (N, T, 6)
        The weights used.

    Raises
    ------
    DeviceMemoryError
        The images' float32 states do not fit.
    """
    images, height, width, channels = src.shape
    # Colour: the change of luma, over all rounds, is added to the three channels.
    carried = channels == 3 and not rules.per_channel
    kept = 1 if carried else channels
    trace = np.empty((images, rules.rounds, len(FILTERS)), np.float32)
    planes = [allocate((images * kept, height, width), np.float32) for _ in range(2)]
    states = [_as_images(p, images, kept, src.stream) for p in planes]
    grey = allocate((images, height, width), np.float32) if kept == 3 else None
    eye = Eye(images, height, width, rules.side)
    with ordered(src, dst) as stream:
        source, target = _driver.numba_array(src), _driver.numba_array(dst)
        _load(carried, source, planes[0], white, kept, stream)
        for at in range(rules.rounds):
            seen = planes[0]
            if grey is not None:
                seen = grey
                _load(True, _driver.numba_array(states[0]), grey, 1.0, 1, stream)
            actions = act(eye(seen, stream), at)
            trace[:, at] = rules.meaning.weights(actions)
            _one_round(states[0], states[1], trace[:, at], actions, rules)
            planes.reverse()
            states.reverse()
        _save(carried, planes[0], source, target, white, kept, stream)
        if stream:
            # What was allocated here goes when this returns.
            stream.synchronize()
    return trace


def _as_images(planes: Any, images: int, channels: int, stream: int) -> DeviceArray:
    """View planes n * channels + c as images (N, H, W, C), on the caller's stream."""
    array = describe("image", planes)
    _, height, width = array.shape
    row, pixel = array.strides[1:]
    plane = array.strides[0]
    return replace(
        array,
        shape=(images, height, width, channels),
        strides=(channels * plane, row, pixel, plane),
        stream=stream,
    )


def _one_round(src: DeviceArray, dst: DeviceArray, weights: Floats, actions: Floats, rules: Rules) -> None:
    """One round of all images, or, where actions choose parameters, of one after the other."""
    options: dict[str, Any] = {"white_level": 1.0, "per_channel": rules.per_channel, "threads": 1}
    if not rules.meaning.parameters:
        run(src, dst, weights[:, None], rules.params, **options)
        return
    for k, action in enumerate(actions):
        own = rules.meaning.params(action, rules.params)
        part = slice(k, k + 1)
        run(src[part], dst[part], weights[part, None], own, **options)
