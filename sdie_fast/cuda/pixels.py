"""Callers' pixels to float32 planes, and back; and the small picture that a recipe's network sees.

Images are (N, H, W, C) of uint8, uint16 or float32, with any strides; a kernel is compiled once for
each of these types. A thread takes `ROWS` pixels of a column, whose loads are in flight together.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64, types, uint8, uint64

from .._resize import FRACTION
from .kernels import F32, HALF, ONE, PLACE, PLANES, ZERO, ceil_div, exact_part, kernel, launch, listed, quotient

__all__ = ["load", "read_channel", "read_luma", "read_plane", "shrink", "spread_weights", "store", "writer"]

THREADS = 256  # most of a block, along x
ROWS = 16

RED, GREEN, BLUE = F32(0.299), F32(0.587), F32(0.114)  # ITU-R BT.601


@exact_part
def _luma(src, n, y, x, scale):
    red = F32(src[n, y, x, 0]) * scale
    green = F32(src[n, y, x, 1]) * scale
    blue = F32(src[n, y, x, 2]) * scale
    return RED * red + GREEN * green + BLUE * blue


@exact_part
def read_channel(planes, plane, src, n, y, x, c, scale):
    """Intensity of a channel, clipped to [0, 1]."""
    return min(max(F32(src[n, y, x, c]) * scale, ZERO), ONE)


@exact_part
def read_luma(planes, plane, src, n, y, x, c, scale):
    """Luma of an image, clipped to [0, 1]."""
    return min(max(_luma(src, n, y, x, scale), ZERO), ONE)


@exact_part
def read_plane(planes, plane, src, n, y, x, c, scale):
    """What a plane holds."""
    return planes[plane, y, x]


@exact_part
def _write_plane(value, planes, plane, src, dst, n, y, x, c, scale, white):
    planes[plane, y, x] = value


@exact_part
def _rounded(value, white):
    """Half up, as the compiled core: intensities are in [0, 1]."""
    return np.int32(value * white + HALF)


@exact_part
def _as_is(value, white):
    return value


@functools.cache
def writer(luma: bool, integers: bool) -> Any:
    """Make ``write(value, src, dst, n, y, x, c, scale, white)``: a plane's intensity to pixels of integers or float32.

    Of luma, its change is added to the source's three channels: chroma is carried over.
    """
    quantise = _rounded if integers else _as_is

    @exact_part
    def write_channel(value, src, dst, n, y, x, c, scale, white):
        dst[n, y, x, c] = quantise(value, white)

    @exact_part
    def write_luma(value, src, dst, n, y, x, c, scale, white):
        change = value - _luma(src, n, y, x, scale)
        for k in range(3):
            channel = F32(src[n, y, x, k]) * scale + change
            dst[n, y, x, k] = quantise(min(max(channel, ZERO), ONE), white)

    return write_luma if luma else write_channel


def _stored(luma: bool, integers: bool) -> Any:
    write_pixel = writer(luma, integers)

    @exact_part
    def write(value, planes, plane, src, dst, n, y, x, c, scale, white):
        write_pixel(value, src, dst, n, y, x, c, scale, white)

    return write


def _over_pixels(read: Any, write: Any) -> Any:
    @cuda.jit
    def convert(planes, src, dst, scale, white, channels, first_row, first_plane):
        """Read and write every pixel of plane n * channels + c, which is channel c of image n.

        `scale` is 1 / `white`, what counts as intensity 1. `dst` may be `src`; loading does not use it.
        """
        value = cuda.local.array(ROWS, float32)
        column = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        top = int32((cuda.blockIdx.y + first_row) * ROWS)
        plane = int32(cuda.blockIdx.z + first_plane)
        image = quotient(plane, int32(channels))
        c = uint64(int32(plane - image * int32(channels)))
        left = int32(planes.shape[1] - top)
        place, n, x, y = uint64(plane), uint64(image), uint64(column), uint64(top)
        if column >= planes.shape[2]:
            return
        if left >= ROWS:
            for j in range(ROWS):
                value[j] = read(planes, place, src, n, y + uint64(j), x, c, scale)
            for j in range(ROWS):
                write(value[j], planes, place, src, dst, n, y + uint64(j), x, c, scale, white)
        else:
            for j in range(left):
                own = read(planes, place, src, n, y + uint64(j), x, c, scale)
                write(own, planes, place, src, dst, n, y + uint64(j), x, c, scale, white)

    return convert


_load = _over_pixels(read_channel, _write_plane), _over_pixels(read_luma, _write_plane)
_store_integers, _store_floats = (
    tuple(_over_pixels(read_plane, _stored(luma, integers)) for luma in (False, True)) for integers in (True, False)
)

for _name in ("uint8", "uint16", "float32"):
    _images = getattr(types, _name)[:, :, :, :]
    for _way, _pair in (("load", _load), ("store", _store_floats if _name == "float32" else _store_integers)):
        for _what, _one in zip(("channels", "luma"), _pair, strict=True):
            listed(_one, PLANES, *(_images,) * 2, *(float32,) * 2, *(int64,) * 3, note=f"{_way} {_what} {_name}")


def _convert(kernels: Any, luma: bool, planes: Any, src: Any, dst: Any, white: float, stream: Any) -> None:
    images, height, width, channels = src.shape
    count = 1 if luma else channels
    block = min(THREADS, 32 * ceil_div(width, 32))
    grid = ceil_div(width, block), ceil_div(height, ROWS), images * count
    launch(kernels[luma], grid, block, stream, planes, src, dst, F32(1.0 / white), F32(white), count)


def load(src: Any, planes: Any, *, luma: bool, white: float, stream: Any) -> None:
    """Fill planes (at least N * C, or N of luma) from images (N, H, W, C); enqueues only."""
    _convert(_load, luma, planes, src, src, white, stream)


def store(planes: Any, src: Any, dst: Any, *, luma: bool, white: float, stream: Any) -> None:
    """Write planes to the images `dst`; of luma, its change against `src`. Enqueues only."""
    kernels = _store_floats if np.dtype(dst.dtype) == np.float32 else _store_integers
    _convert(kernels, luma, planes, src, dst, white, stream)


@kernel(float32[:, :, ::1], int64, int64, float32[:, ::1])
def spread_weights(weights, turn, channels, out):
    """Every filter's weights in a round, plane by plane: (n, T, filters) to (filters, planes)."""
    plane = (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) & PLACE
    image = (plane // channels) & PLACE
    if plane < out.shape[1] and image < weights.shape[0]:
        for k in range(weights.shape[2]):
            out[k, plane] = weights[image, turn & PLACE, k]


# What a network sees is what `sdie_fast.actor.observe` makes: 8 bits, means of areas, exactly as
# Pillow's box filter computes them: first along rows, then along columns, rounded after each.
SHRINK_THREADS = 32  # along x: a network sees some 64 pixels
_HALF = 1 << (FRACTION - 1)
# Added to a float32 in [0, 255] and taken away again, it leaves the nearest integer, ties to even.
_ROUND = F32(1.5 * 2**23)
_WHITE = F32(255.0)
_AREAS = (int32[:, ::1], int32[::1], uint8[:, :, ::1], int64, int64)


@kernel(float32[:, :, ::1], *_AREAS)
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
        out[n, y, x] = uint8(min((total * share[x] + _HALF) >> FRACTION, 255))


@kernel(uint8[:, :, ::1], *_AREAS)
def shrink_columns(image, bounds, share, out, first_row, first_plane):
    """Mean of each column's areas: (n, H, side) uint8 to (n, side, side)."""
    x = cuda.grid(1)
    y = cuda.blockIdx.y + first_row
    n = cuda.blockIdx.z + first_plane
    if x < out.shape[2]:
        total = 0
        for k in range(bounds[y, 0], bounds[y, 1]):
            total += int32(image[n, k, x])
        out[n, y, x] = uint8(min((total * share[y] + _HALF) >> FRACTION, 255))


def shrink(planes: Any, rows: Any, columns: Any, half: Any, seen: Any, stream: Any) -> None:
    """Shrink planes (n, H, W) to `seen` (n, side, side) by way of `half` (n, H, side); enqueues only.

    `rows` and `columns` are the bounds and shares of each axis' areas on the device.
    """
    for made, source, areas, out in ((shrink_rows, planes, rows, half), (shrink_columns, half, columns, seen)):
        n, height, side = out.shape
        launch(made, (ceil_div(side, SHRINK_THREADS), height, n), SHRINK_THREADS, stream, source, *areas, out)
