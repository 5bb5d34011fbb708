"""Gaussian smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._filter import Operations, Plane, Windowed, real, shifts, window

__all__ = ["Gaussian", "blur", "blur_operations", "gaussian_kernel"]


def gaussian_kernel(window: int, sigma: float) -> Plane:
    """Sample a Gaussian of that sigma (pixels) at `window` taps, and scale it to sum 1."""
    k = np.arange(window) - window // 2
    tap = np.exp(-(k**2) / (2.0 * sigma**2))
    return np.asarray(tap / tap.sum())


def blur(g: Plane, window: int, sigma: float) -> Plane:
    """Convolve with that Gaussian along rows and columns."""
    tap = gaussian_kernel(window, sigma)
    r = window // 2
    blurred = np.zeros_like(g)
    for dy, dx, q in shifts(g, r):
        blurred += tap[dy + r] * tap[dx + r] * q
    return blurred


def blur_operations(window: int) -> int:
    """Count what a symmetric kernel costs both ways: equal taps are added before they are multiplied."""
    r = window // 2
    return 2 * (r + r + 1)


@dataclass(frozen=True)
class Gaussian(Windowed):
    """Smooth by a Gaussian that is cut to the window and scaled to sum 1."""

    name = "gaussian"
    colour = "#999933"
    turn = 5

    window: int = window("Side of the square window that the Gaussian is cut to")
    sigma: float = real(1.5, 0.1, 100.0, "Sigma", unit="pixels", choosable=True)

    def operations(self) -> Operations:
        """Both directions of a separable kernel."""
        return Operations(blur_operations(self.window))

    def reference(self, g: Plane) -> Plane:
        """Convolve."""
        return blur(g, self.window, self.sigma)
