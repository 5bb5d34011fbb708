"""The bilateral filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ._filter import Operations, Plane, Windowed, choice, real, shifts, window

__all__ = ["Bilateral"]


@dataclass(frozen=True)
class Bilateral(Windowed):
    """Smooth by a bilateral filter, Gaussian in space and intensity (Tomasi & Manduchi 1998)."""

    name = "bilateral"
    colour = "#e69f00"
    turn = 1

    window: int = window(published=15)
    sigma_space: float = real(1.5, 0.1, 100.0, "Spatial sigma", unit="pixels", choosable=True, published=75.0)
    sigma_range: float = real(0.1, 0.005, 10.0, "Range sigma", unit="intensity", choosable=True, published=75 / 255)
    footprint: Literal["square", "disk"] = choice(
        ("square", "disk"),
        "Every tap of the window (MATLAB's imbilatfilt), or those within its radius (OpenCV).",
        published="disk",
    )

    def taps(self) -> int:
        """Count the taps beside the centre."""
        r = self.window // 2
        pairs = ((y, x) for y in range(-r, r + 1) for x in range(-r, r + 1))
        return sum(self.footprint == "square" or y * y + x * x <= r * r for y, x in pairs) - 1

    def operations(self) -> Operations:
        """Each weight (a difference, its square, an offset, exp2) serves two pixels, with two operations in each."""
        return Operations(self.taps() * (3 / 2 + 2) + 2, self.taps() / 2 + 1)

    def reference(self, g: Plane) -> Plane:
        """Average the taps weighted by distance and by likeness; "disk" has those with dx^2 + dy^2 <= radius^2."""
        r = self.window // 2
        total = np.zeros_like(g)
        norm = np.zeros_like(g)
        for dy, dx, q in shifts(g, r):
            if self.footprint == "disk" and dy * dy + dx * dx > r * r:
                continue
            weight = np.exp(-(dy * dy + dx * dx) / (2.0 * self.sigma_space**2)) * np.exp(
                -((q - g) ** 2) / (2.0 * self.sigma_range**2)
            )
            total += weight * q
            norm += weight
        return total / norm
