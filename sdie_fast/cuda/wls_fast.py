"""Fast weighted least squares on the device: the edges' weights, then rows and columns in turn (Min et al. 2014)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int64

from .kernels import ACTIVE, F32, INDEX, ONE, PLACE, PLANES, ZERO, ceil_div, exact_part, exp2, kernel, launch, log2
from .tridiagonal import Lines

__all__ = ["FastWls", "edge_weight", "from_lightness", "lightness"]

SMALL = 1e-4  # of the definition: keeps log(0) and flat neighbours finite
ITERATIONS = 3
COLUMNS, ROWS = 32, 8  # of a block of pixels
_TILE = COLUMNS + 1
_LOGS = (ROWS + 1) * _TILE


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
def edge_weight(difference, alpha):
    """1 / (difference^alpha + 1e-4), of the difference of two logarithms, not negative."""
    power = ZERO
    if difference > ZERO:
        power = exp2(alpha * log2(difference))
    return ONE / (power + F32(SMALL))


@kernel(*(PLANES,) * 4, float32, float32, int64, ACTIVE, int64, int64)
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
    top = (cuda.blockIdx.y + first_row) * ROWS
    for row in range(cuda.threadIdx.y, ROWS + 1, ROWS):
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
            sideways = edge_weight(abs(own - logs[at - 1]), alpha)
        if y > 0:
            upwards = edge_weight(abs(own - logs[at - _TILE]), alpha)
        across[plane, y, x] = sideways
        down[plane, y, x] = upwards


@kernel(PLANES, ACTIVE, int64, int64)
def to_intensity(u, active, first_row, first_plane):
    """Map lightness back to intensity, in place. Block: (32, 8); grid: tiles, planes."""
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    x = (cuda.blockIdx.x * COLUMNS + cuda.threadIdx.x) & PLACE
    y = ((cuda.blockIdx.y + first_row) * ROWS + cuda.threadIdx.y) & PLACE
    if y < u.shape[1] and x < u.shape[2] and active[plane] != ZERO:
        u[plane, y, x] = from_lightness(max(u[plane, y, x], ZERO))


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
        self._along_rows = Lines(*shape, rows=True)
        self._along_columns = Lines(*shape, rows=False)
        self._all = cuda.to_device(np.ones(planes, np.float32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int) -> int:
        """Bytes of device memory an instance holds."""
        lines = Lines.workspace_bytes(planes, width, height) + Lines.workspace_bytes(planes, height, width)
        return 8 * planes * height * width + lines + 4 * planes

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
        active : device (n,) float32, C-contiguous, or None
            A plane whose entry is 0 is not computed. None: all.
        stream : Numba stream
            0 is the default stream.
        """
        planes, height, width = out.shape
        if active is None:
            active = self._all
        # On L* / 100 the definition's small constant is a hundredth, too.
        offset = F32(SMALL / 100 if on_lightness else SMALL)
        grid, block = (ceil_div(width, COLUMNS), ceil_div(height, ROWS), planes), (COLUMNS, ROWS)
        edges = self._across, self._down
        launch(
            edge_weights, grid, block, stream, guide, out, *edges, F32(alpha), offset, int(on_lightness), active
        )  # fmt: skip
        for t in range(1, ITERATIONS + 1):
            power = 4.0 ** (ITERATIONS - t) / (4.0**ITERATIONS - 1.0)
            strength = 1.5 * power * lambda_
            self._along_rows(out, self._across, strength, active, stream)
            self._along_columns(out, self._down, strength, active, stream)
        if on_lightness:
            launch(to_intensity, grid, block, stream, out, active)
