"""The median's share of the fused kernel."""

from __future__ import annotations

from numba import cuda, int32, uint32

from ..kernels import bits_of, float_of, part
from . import RUN, Part, Places, Steps, Tile

__all__ = ["TOP_BIT", "Median"]

TOP_BIT = 29  # of those that tell numbers in [0, 1] apart


class Median(Part):
    """The exact median of the window, bit by bit.

    The bits of floats that are not negative are in the order of the floats. From the highest bit on, a
    bit of the median is 1 if with it no more than half of the window is below: the same work whatever
    the pixels, two registers for each of a run's, any window.
    """

    name = "median"

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        radius = self.radius
        window, column_rows = 2 * radius + 1, RUN + 2 * radius
        most_below = window * window // 2
        pitch, corner = at.pitch, at.halo - radius

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            found = cuda.local.array(RUN, int32)
            below = cuda.local.array(RUN, int32)
            base = uint32((row + corner) * pitch + column + corner)
            for j in range(RUN):
                found[j] = 0
            for step in range(TOP_BIT + 1):
                bit = int32(1) << int32(TOP_BIT - step)
                for j in range(RUN):
                    found[j] += bit
                    below[j] = 0
                for dx in range(window):
                    start = uint32(base + dx)
                    for i in range(column_rows):
                        value = bits_of(tile[start + i * pitch])
                        for j in range(RUN):
                            if 0 <= i - j < window and value < found[j]:
                                below[j] += 1
                for j in range(RUN):
                    if below[j] > most_below:
                        found[j] -= bit
            for j in range(RUN):
                mixed[j] += weight * float_of(found[j])

        return Steps(column)
