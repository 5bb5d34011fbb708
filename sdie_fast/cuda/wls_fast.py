"""Fast weighted least squares on the device: separable tridiagonal solves (Min et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, int64

from . import _fast_kernels as kernels
from ._device import F32, INDEX, ONE, PLACE, ZERO, ceil_div, exact_part, exp2, log2, pieces
from ._fast_lines import CHUNK, COLUMNS, NODE_FIELDS, ROW_THREADS, SLOTS

SMALL = 1e-4  # of the definition: keeps log(0) and flat neighbours finite
ITERATIONS = 3
MOST_CHUNKS = SLOTS  # of a segment
_ROWS = 8  # of a block of `edge_weights`
_TILE = COLUMNS + 1
_LOGS = (_ROWS + 1) * _TILE


@exact_part
def lightness(v):
    """CIE 1976 L* / 100 of a grey sRGB intensity in [0, 1]."""
    linear = v / F32(12.92)
    if v > F32(0.04045):
        linear = F32(math.pow((v + F32(0.055)) / F32(1.055), F32(2.4)))
    if linear <= F32(216 / 24389):
        return linear * F32(24389 / 2700)
    return F32(1.16) * F32(math.pow(linear, F32(1 / 3))) - F32(0.16)


@exact_part
def from_lightness(light):
    """Inverse of `lightness`."""
    if light <= F32(0.08):
        linear = light * F32(2700 / 24389)
    else:
        root = (light + F32(0.16)) / F32(1.16)
        linear = root * root * root
    if linear <= F32(0.0031308):
        return linear * F32(12.92)
    return F32(1.055) * F32(math.pow(linear, F32(1 / 2.4))) - F32(0.055)


@exact_part
def _weight(log_p, log_q, alpha):
    """1 / (|log p - log q|^alpha + 1e-4)."""
    difference = abs(log_p - log_q)
    power = ZERO
    if difference > ZERO:
        power = exp2(alpha * log2(difference))
    return ONE / (power + F32(SMALL))


@cuda.jit
def edge_weights(guide, u, across, down, alpha, offset, light, active, first_row, first_plane):
    """Copy the guide (as lightness, if `light`) to u, and weigh its edges (Farbman et al. 2008).

    across[y, x] joins (y, x - 1) and (y, x), down[y, x] joins (y - 1, x) and (y, x); 0 where there is
    no such pixel. The logarithms are rounded correctly to the last place or two, since what counts
    is their difference. Block: (32, 8); grid: tiles, planes.
    """
    logs = cuda.shared.array(_LOGS, float32)
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    if active[plane] == ZERO:
        return
    height, width = u.shape[1], u.shape[2]
    left = cuda.blockIdx.x * COLUMNS
    top = (cuda.blockIdx.y + first_row) * _ROWS
    for row in range(cuda.threadIdx.y, _ROWS + 1, _ROWS):
        for column in range(cuda.threadIdx.x, _TILE, COLUMNS):
            y, x = top + row - 1, left + column - 1
            if y < height and x < width:
                value = guide[plane, max(y, 0) & PLACE, max(x, 0) & PLACE]
                if light:
                    value = lightness(value)
                logs[(row * _TILE + column) & INDEX] = F32(math.log(value + offset))
                if row > 0 and column > 0:
                    u[plane, y & PLACE, x & PLACE] = value
    cuda.syncthreads()
    y, x = (top + cuda.threadIdx.y) & PLACE, (left + cuda.threadIdx.x) & PLACE
    if y < height and x < width:
        at = ((cuda.threadIdx.y + 1) * _TILE + cuda.threadIdx.x + 1) & INDEX
        own = logs[at]
        sideways, upwards = ZERO, ZERO
        if x > 0:
            sideways = _weight(own, logs[at - 1], alpha)
        if y > 0:
            upwards = _weight(own, logs[at - _TILE], alpha)
        across[plane, y, x] = sideways
        down[plane, y, x] = upwards


@cuda.jit
def to_intensity(u, active, first_row, first_plane):
    """Map lightness back to intensity, in place. Block: (32, 8); grid: tiles, planes."""
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    x = (cuda.blockIdx.x * COLUMNS + cuda.threadIdx.x) & PLACE
    y = ((cuda.blockIdx.y + first_row) * _ROWS + cuda.threadIdx.y) & PLACE
    if y < u.shape[1] and x < u.shape[2] and active[plane] != ZERO:
        u[plane, y, x] = from_lightness(max(u[plane, y, x], ZERO))


_PLANES = float32[:, :, ::1]
KERNELS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    (
        "edge_weights",
        edge_weights,
        (*(_PLANES,) * 4, float32, float32, int64, float32[::1], int64, int64),
    ),
    ("to_intensity", to_intensity, (_PLANES, float32[::1], int64, int64)),
)


def _segments(length: int) -> tuple[int, int]:
    """How many segments a line is cut into, and how many chunks each has."""
    chunks = ceil_div(length, CHUNK)
    each = ceil_div(chunks, ceil_div(chunks, MOST_CHUNKS))
    return ceil_div(chunks, each), each


class _Lines:
    """The launches that solve the rows, or the columns, of planes of one size."""

    def __init__(self, planes: int, height: int, width: int, *, rows: bool) -> None:
        self._rows = rows
        self._length, self._lines = (width, height) if rows else (height, width)
        self._segments, chunks = _segments(self._length)
        group = min(ROW_THREADS // chunks if rows else COLUMNS, self._lines)
        self._block = (chunks, group) if rows else (group, chunks)
        self._groups = ceil_div(self._lines, group)
        shape = (planes, self._segments, self._lines)
        if self._segments > 1:
            self._nodes = cuda.device_array((NODE_FIELDS, *shape), "float32")
            self._ends = cuda.device_array(shape, "float32")
        else:  # not read
            self._ends = cuda.device_array((1, 1, 1), "float32")

    @staticmethod
    def workspace_bytes(planes: int, length: int, lines: int) -> int:
        segments, _ = _segments(length)
        count = planes * segments * lines if segments > 1 else 0
        return 4 * ((NODE_FIELDS + 1) * count or 1)

    def __call__(self, u: Any, edges: Any, strength: float, active: Any, stream: Any) -> None:
        if self._length == 1:
            return  # the system is u = g
        scale = F32(strength)
        planes = u.shape[0]
        grid = (self._segments, self._groups) if self._rows else (self._groups, self._segments)
        if self._segments > 1:
            reduce = kernels.reduce_rows if self._rows else kernels.reduce_columns
            for y, z, count, depth in pieces(grid[1], planes):
                reduce[(grid[0], count, depth), self._block, stream](u, edges, scale, active, self._nodes, y, z)
            threads = 64
            for y, z, count, depth in pieces(1, planes):
                kernels.solve_ends[(ceil_div(self._lines, threads), count, depth), threads, stream](
                    self._nodes, active, self._ends, y, z
                )
        solve = kernels.solve_rows if self._rows else kernels.solve_columns
        for y, z, count, depth in pieces(grid[1], planes):
            solve[(grid[0], count, depth), self._block, stream](
                u, edges, scale, active, self._segments, self._ends, y, z
            )


class FastWls:
    """Weighted least squares by `ITERATIONS` of row and column solves; memory for one size.

    Parameters
    ----------
    planes, height, width : int
        The most planes of a call, and their size.
    """

    def __init__(self, planes: int, height: int, width: int) -> None:
        shape = (planes, height, width)
        self._across = cuda.device_array(shape, "float32")
        self._down = cuda.device_array(shape, "float32")
        self._along_rows = _Lines(*shape, rows=True)
        self._along_columns = _Lines(*shape, rows=False)
        self._all = cuda.to_device(np.ones(planes, np.float32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int) -> int:
        """Bytes of device memory an instance holds."""
        return (
            8 * planes * height * width
            + _Lines.workspace_bytes(planes, width, height)
            + _Lines.workspace_bytes(planes, height, width)
            + 4 * planes
        )

    def __call__(
        self,
        guide: Any,
        out: Any,
        *,
        lambda_: float,
        alpha: float,
        on_lightness: bool,
        active: Any = None,
        stream: Any = 0,
    ) -> None:
        """Smooth planes; enqueues only.

        Parameters
        ----------
        guide, out : device (n, H, W) float32, C-contiguous
            Intensities in [0, 1]; not aliased; n at most the planes of the workspace.
        lambda_, alpha : float
            As `sdie_fast.FilterParams` has them.
        on_lightness : bool
            Smooth CIE L* instead of intensity.
        active : device (n,) float32 or None
            A plane whose entry is 0 is not computed. None: all.
        stream : Numba stream
            0 is the default stream.
        """
        planes, height, width = out.shape
        if active is None:
            active = self._all
        # On L* / 100 the definition's small constant is a hundredth, too.
        offset = F32(SMALL / 100 if on_lightness else SMALL)
        tiles = ceil_div(width, COLUMNS), ceil_div(height, _ROWS)
        block = (COLUMNS, _ROWS)
        for y, z, count, depth in pieces(tiles[1], planes):
            edge_weights[(tiles[0], count, depth), block, stream](
                guide, out, self._across, self._down, F32(alpha), offset, int(on_lightness),
                active, y, z,
            )  # fmt: skip
        for t in range(1, ITERATIONS + 1):
            power = 4.0 ** (ITERATIONS - t) / (4.0**ITERATIONS - 1.0)
            strength = 1.5 * power * lambda_
            self._along_rows(out, self._across, strength, active, stream)
            self._along_columns(out, self._down, strength, active, stream)
        if on_lightness:
            for y, z, count, depth in pieces(tiles[1], planes):
                to_intensity[(tiles[0], count, depth), block, stream](out, active, y, z)
