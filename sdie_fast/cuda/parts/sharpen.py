"""Unsharp masking's share of the fused kernel."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint32

from ..kernels import ZERO, part
from . import RUN, Places, Steps, Tile
from .gaussian import TAPS, Gaussian, blur, taps

__all__ = ["Sharpen"]


class Sharpen(Gaussian):
    """The pixel and `amount` of what the Gaussian takes from it."""

    name = "sharpen"
    count = TAPS + 2

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """The taps; amount and threshold behind the room for the most of them."""
        side = taps(own.radius, own.window)
        return (*side, *(0.0,) * (TAPS - len(side)), own.amount, own.threshold)

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        halo, pitch, last = at.halo, at.pitch, places.number + TAPS
        prepare, complete_run = blur(at, self.radius, places)

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            blurred = cuda.local.array(RUN, float32)
            complete_run(first, numbers, column, row, blurred)
            amount, threshold = numbers[last], numbers[last + 1]
            centre = uint32((row + halo) * pitch + column + halo)
            for j in range(RUN):
                value = tile[centre + j * pitch]
                high = value - blurred[j]
                if abs(high) < threshold:
                    high = ZERO
                mixed[j] += weight * (value + amount * high)

        return Steps(column, prepare)
