"""The identity's share of the fused kernel."""

from __future__ import annotations

from numba import uint32

from ..kernels import part
from . import RUN, Part, Places, Steps, Tile

__all__ = ["Identity"]


class Identity(Part):
    """The pixel itself."""

    name = "identity"

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        halo, pitch = at.halo, at.pitch

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            centre = uint32((row + halo) * pitch + column + halo)
            for j in range(RUN):
                mixed[j] += weight * tile[centre + j * pitch]

        return Steps(column)
