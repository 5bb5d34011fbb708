"""Gamma correction's share of the fused kernel."""

from __future__ import annotations

from typing import Any

from numba import uint32

from ..kernels import ZERO, exp2, log2, part
from . import RUN, Part, Places, Steps, Tile

__all__ = ["Gamma"]


class Gamma(Part):
    """A power of the pixel."""

    name = "gamma"
    count = 1

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """The exponent."""
        return (own.exponent,)

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        halo, pitch, number = at.halo, at.pitch, places.number

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            centre = uint32((row + halo) * pitch + column + halo)
            exponent = numbers[number]
            for j in range(RUN):
                value = tile[centre + j * pitch]
                if value > ZERO:
                    mixed[j] += weight * exp2(exponent * log2(value))

        return Steps(column)
