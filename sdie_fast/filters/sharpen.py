"""Unsharp masking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._filter import Operations, Plane, Windowed, real, window
from .gaussian import blur, blur_operations

__all__ = ["Sharpen"]


@dataclass(frozen=True)
class Sharpen(Windowed):
    """Sharpen by unsharp masking: I + amount * (I - G*I), as MATLAB's imsharpen."""

    name = "sharpen"
    colour = "#d55e00"
    turn = 6

    window: int = window("Side of the square window that the Gaussian is cut to", published=5)
    amount: float = real(0.8, 0.0, 10.0, "Share of the detail layer that is added", choosable=True, published=1.5)
    radius: float = real(1.5, 0.1, 100.0, "Sigma of the Gaussian", unit="pixels", choosable=True, published=1.1)
    threshold: float = real(0.0, 0.0, 1.0, "Detail that is smaller is not added", unit="intensity")

    def operations(self) -> Operations:
        """A blur, the difference, the threshold, the sum."""
        return Operations(blur_operations(self.window) + 3)

    def reference(self, g: Plane) -> Plane:
        """Add the detail layer h = g - G*g where |h| reaches the threshold; the result may leave [0, 1]."""
        high = g - blur(g, self.window, self.radius)
        return g + self.amount * np.where(np.abs(high) < self.threshold, 0.0, high)
