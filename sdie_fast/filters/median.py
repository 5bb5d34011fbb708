"""The median filter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._filter import Operations, Plane, Windowed, shifts, window

__all__ = ["Median"]


@dataclass(frozen=True)
class Median(Windowed):
    """Smooth by the median of a square window (Tukey 1977): specks go, edges stay."""

    name = "median"
    colour = "#56b4e9"
    turn = 4

    window: int = window()

    def operations(self) -> Operations:
        """Minima and maxima of the compiled core's network of comparisons, whose sorted columns neighbours share."""
        return Operations(1.4 * self.window**2 * math.log2(self.window))

    def reference(self, g: Plane) -> Plane:
        """Take the middle one of the window's values, whose number is odd."""
        taps = np.stack([q for _, _, q in shifts(g, self.window // 2)])
        return np.asarray(np.partition(taps, len(taps) // 2, axis=0)[len(taps) // 2])
