"""The bilateral filter's share of the fused kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, uint32

from ..kernels import F32, ONE, ZERO, exp2, part
from . import RUN, Part, Places, Steps, Tile

__all__ = ["Bilateral"]


@dataclass(frozen=True)
class Bilateral(Part):
    """A mean of the window, weighted by distance in space and in intensity.

    The exponents are of base 2: -(range_scale * difference)^2 and space_scale * distance^2.
    What is summed are the differences from the centre, which keeps more digits than intensities.
    """

    name = "bilateral"
    count = 2
    disk: bool = False

    @classmethod
    def of(cls, own: Any) -> Part:
        """Make the part for a filter's own parameters."""
        return cls(own.window // 2, own.footprint == "disk")

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """What differences and squared distances are multiplied by to be exponents of 2."""
        log2_e = math.log2(math.e)
        return math.sqrt(log2_e / 2.0) / own.sigma_range, -log2_e / (2.0 * own.sigma_space**2)

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        radius, disk, number = self.radius, self.disk, places.number
        window, column_rows = 2 * radius + 1, RUN + 2 * radius
        pitch, corner, half = at.pitch, at.halo - radius, F32(radius)

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            range_scale, space_scale = numbers[number], numbers[number + 1]
            values = cuda.local.array(column_rows, float32)
            centre = cuda.local.array(RUN, float32)
            total = cuda.local.array(RUN, float32)
            norm = cuda.local.array(RUN, float32)
            base = uint32((row + corner) * pitch + column + corner)
            for j in range(RUN):
                centre[j] = tile[base + (j + radius) * pitch + radius] * range_scale
                total[j] = ZERO
                norm[j] = ONE
            across = -half
            for dx in range(window):
                start = uint32(base + dx)
                for i in range(column_rows):
                    values[i] = tile[start + i * pitch] * range_scale
                down = -half
                for dy in range(window):
                    distance = across * across + down * down
                    centre_tap = dx == radius and dy == radius  # weighs 1 and is counted already
                    if not centre_tap and (not disk or distance <= half * half):
                        space = space_scale * distance
                        for j in range(RUN):
                            d = values[j + dy] - centre[j]
                            w = exp2(cuda.fma(-d, d, space))
                            total[j] += w * d
                            norm[j] += w
                    down += ONE
                across += ONE
            back = weight / range_scale
            for j in range(RUN):
                mixed[j] += back * (centre[j] + total[j] / norm[j])

        return Steps(column)
