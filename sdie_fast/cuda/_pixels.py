"""Callers' pixels to float32 planes, and back.

Images are (N, H, W, C) of uint8, uint16 or float32, with any strides; a kernel is compiled once for
each of these types. A thread takes `ROWS` pixels of a column, whose loads are in flight together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, int64, types

from ._device import F32, HALF, ONE, PLACE, ZERO, exact_part

THREADS = 256  # most of a block, along x
ROWS = 8

RED, GREEN, BLUE = F32(0.299), F32(0.587), F32(0.114)  # ITU-R BT.601


@cuda.jit
def load_channels(src, planes, scale, channels, first_row, first_plane):
    """Planes n * channels + c from channel c of image n; `scale` is 1 / white level."""
    x = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
    top = (cuda.blockIdx.y + first_row) * ROWS
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    n = (plane // channels) & PLACE
    c = (plane - n * channels) & PLACE
    if x < planes.shape[2]:
        for j in range(ROWS):
            y = (top + j) & PLACE
            if y < planes.shape[1]:
                value = F32(src[n, y, x, c]) * scale
                planes[plane, y, x] = min(max(value, ZERO), ONE)


@cuda.jit
def load_luma(src, planes, scale, channels, first_row, first_plane):
    """Plane n from the luma of RGB image n; `channels` is not used."""
    x = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
    top = (cuda.blockIdx.y + first_row) * ROWS
    n = (cuda.blockIdx.z + first_plane) & PLACE
    if x < planes.shape[2]:
        for j in range(ROWS):
            y = (top + j) & PLACE
            if y < planes.shape[1]:
                planes[n, y, x] = min(max(_luma(src, n, y, x, scale), ZERO), ONE)


@exact_part
def _luma(src, n, y, x, scale):
    red = F32(src[n, y, x, 0]) * scale
    green = F32(src[n, y, x, 1]) * scale
    blue = F32(src[n, y, x, 2]) * scale
    return RED * red + GREEN * green + BLUE * blue


@cuda.jit
def spread_weights(weights, turn, channels, smooth, equalised):
    """Weights of wls and of the spatiogram filter in a round, plane by plane."""
    plane = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
    if plane < smooth.shape[0]:
        image = (plane // channels) & PLACE
        if image < weights.shape[0]:
            smooth[plane] = weights[image, turn & PLACE, 1]
            equalised[plane] = weights[image, turn & PLACE, 5]


def _store_kernels(quantise: Any) -> tuple[Any, Any]:
    @cuda.jit
    def store_channels(planes, src, dst, white, channels, first_row, first_plane):
        """Write plane n * channels + c to channel c of image n; `src` is not used."""
        x = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
        top = (cuda.blockIdx.y + first_row) * ROWS
        plane = (cuda.blockIdx.z + first_plane) & PLACE
        n = (plane // channels) & PLACE
        c = (plane - n * channels) & PLACE
        if x < planes.shape[2]:
            for j in range(ROWS):
                y = (top + j) & PLACE
                if y < planes.shape[1]:
                    dst[n, y, x, c] = quantise(planes[plane, y, x], white)

    @cuda.jit
    def store_luma(planes, src, dst, white, channels, first_row, first_plane):
        """Add the change of luma to the source's three channels: chroma is carried over.

        `dst` may be `src`; `channels` is not used.
        """
        x = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
        top = (cuda.blockIdx.y + first_row) * ROWS
        n = (cuda.blockIdx.z + first_plane) & PLACE
        scale = ONE / white
        if x < planes.shape[2]:
            for j in range(ROWS):
                y = (top + j) & PLACE
                if y < planes.shape[1]:
                    change = planes[n, y, x] - _luma(src, n, y, x, scale)
                    for c in range(3):
                        value = F32(src[n, y, x, c]) * scale + change
                        dst[n, y, x, c] = quantise(min(max(value, ZERO), ONE), white)

    return store_channels, store_luma


@exact_part
def _rounded(value, white):
    """Half up, as the compiled core: intensities are in [0, 1]."""
    return np.int32(value * white + HALF)


@exact_part
def _as_is(value, white):
    return value


_store_integers = _store_kernels(_rounded)
_store_floats = _store_kernels(_as_is)


def loader(luma: bool) -> Any:
    """The kernel that fills planes from images."""
    return load_luma if luma else load_channels


def storer(dtype: np.dtype[Any], luma: bool) -> Any:
    """The kernel that writes planes to images of that type."""
    return (_store_floats if dtype == np.float32 else _store_integers)[luma]


def _catalogue() -> tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...]:
    planes = float32[:, :, ::1]
    last = (float32, *(int64,) * 3)
    found: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    for name in ("uint8", "uint16", "float32"):
        images = getattr(types, name)[:, :, :, :]
        for luma in (False, True):
            load, store = loader(luma), storer(np.dtype(name), luma)
            found.append((f"{load.__name__} {name}", load, (images, planes, *last)))
            found.append((f"{store.__name__} {name}", store, (planes, images, images, *last)))
    one = float32[::1]
    found.append(("spread_weights", spread_weights, (float32[:, :, ::1], int64, int64, one, one)))
    return tuple(found)


KERNELS = _catalogue()
