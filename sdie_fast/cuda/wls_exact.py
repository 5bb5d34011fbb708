"""Exact weighted least squares on the device. Draft docstring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from . import _multigrid_levels as layout
from . import _wls_kernels as kernels
from ._device import F32, SIMULATED, ceil_div
from ._multigrid_team import TEAM
from ._multigrid_tiles import FIVE_TILES, SIDE
from .wls_fast import SMALL

THREADS = 128  # of a block: four warps load and store what two of them solve
BLOCKS = 4  # of a multiprocessor, what their shared memory lets run at once


def _room() -> int:
    """Blocks the device runs at once."""
    if SIMULATED:
        return BLOCKS
    return BLOCKS * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


class ExactWls:
    """Draft."""

    def __init__(self, planes: int, height: int, width: int) -> None:
        self._layout = layout.lay_out(height, width)
        teams = min(planes, _room())
        self._memory = cuda.device_array((teams, self._layout.floats), "float32")
        self._levels = cuda.to_device(self._layout.table)
        self._teams = cuda.device_array((teams, TEAM), "int32")
        self._all = cuda.to_device(np.ones(planes, np.float32))
        self._iterations = cuda.to_device(np.zeros(planes, np.int32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int) -> int:
        """Bytes of device memory an instance holds."""
        at = layout.lay_out(height, width)
        return min(planes, _room()) * 4 * (at.floats + TEAM) + at.table.nbytes + 8 * planes

    def __call__(
        self,
        guide: Any,
        out: Any,
        *,
        lambda_: float,
        alpha: float,
        tol: float,
        on_lightness: bool,
        active: Any = None,
        stream: Any = 0,
    ) -> None:
        """Draft."""
        planes, height, width = out.shape
        at = self._layout
        tiles = ceil_div(height, SIDE) * ceil_div(width, SIDE)
        blocks = max(1, min(_room() // planes, ceil_div(tiles, FIVE_TILES)))
        teams = min(planes, _room() // blocks)
        kernels.reset[1, THREADS, stream](self._teams)
        kernels.solve[teams * blocks, THREADS if not SIMULATED else 8, stream](
            guide.reshape(planes, height * width), out.reshape(planes, height * width),
            self._all if active is None else active, int(on_lightness), F32(lambda_), F32(alpha),
            F32(SMALL / 100 if on_lightness else SMALL), F32(tol), self._memory, self._levels,
            at.inverse, at.sums, at.other_sums, at.direction, at.image_of_direction, at.chunks,
            self._teams, blocks, self._iterations,
        )  # fmt: skip
