"""Fast weighted least squares on the device: solves of rows and columns in turn (Min et al. 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, int64

from .edges import SMALL, edge_weight, from_lightness, lightness
from .kernels import ACTIVE, F32, PLACE, PLANES, ZERO, ceil_div, kernel, launch
from .tridiagonal import Lines

__all__ = ["SMALL", "FastWls", "edge_weight", "from_lightness", "lightness"]

ITERATIONS = 3
COLUMNS, ROWS = 32, 8  # of a block of pixels


@kernel(PLANES, PLANES, ACTIVE, int64, int64)
def to_lightness(image, light, active, first_row, first_plane):
    """Map intensity to lightness. Block: (32, 8); grid: tiles, planes."""
    plane = (cuda.blockIdx.z + first_plane) & PLACE
    x = (cuda.blockIdx.x * COLUMNS + cuda.threadIdx.x) & PLACE
    y = ((cuda.blockIdx.y + first_row) * ROWS + cuda.threadIdx.y) & PLACE
    if y < image.shape[1] and x < image.shape[2] and active[plane] != ZERO:
        light[plane, y, x] = lightness(image[plane, y, x])


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
    on_lightness : bool
        Smooth CIE L* instead of intensity, which takes a plane of memory each.
    """

    def __init__(self, planes: int, height: int, width: int, *, on_lightness: bool) -> None:
        shape = (planes, height, width)
        self._light: Any = cuda.device_array(shape, "float32") if on_lightness else None
        self._along_rows = Lines(*shape, rows=True)
        self._along_columns = Lines(*shape, rows=False)
        self._all = cuda.to_device(np.ones(planes, np.float32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int, *, on_lightness: bool) -> int:
        """Bytes of device memory an instance holds."""
        lines = Lines.workspace_bytes(planes, width, height) + Lines.workspace_bytes(planes, height, width)
        return 4 * planes * height * width * on_lightness + lines + 4 * planes

    def __call__(
        self,
        guide: Any,
        out: Any,
        *,
        lambda_: float,
        alpha: float,
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
        active : device (n,) float32, C-contiguous, or None
            A plane whose entry is 0 is not computed. None: all.
        stream : Numba stream
            0 is the default stream.
        """
        planes, height, width = out.shape
        if active is None:
            active = self._all
        grid, block = (ceil_div(width, COLUMNS), ceil_div(height, ROWS), planes), (COLUMNS, ROWS)
        small = SMALL
        if self._light is not None:
            light, small = self._light[:planes], SMALL / 100  # of L* / 100
            launch(to_lightness, grid, block, stream, guide, light, active)
            guide = light
        edges = F32(alpha), F32(small)
        source = guide
        for t in range(1, ITERATIONS + 1):
            power = 4.0 ** (ITERATIONS - t) / (4.0**ITERATIONS - 1.0)
            strength = 1.5 * power * lambda_
            self._along_rows(source, guide, out, strength, edges, active, stream)
            source = out
            self._along_columns(source, guide, out, strength, edges, active, stream)
        if self._light is not None:
            launch(to_intensity, grid, block, stream, out, active)
