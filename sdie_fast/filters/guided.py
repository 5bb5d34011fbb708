"""The self-guided filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._filter import Operations, Plane, Windowed, real, shifts, window

__all__ = ["Guided"]


def _box(g: Plane, r: int) -> Plane:
    """Average over the square window of radius r."""
    total = np.zeros_like(g)
    for _, _, q in shifts(g, r):
        total += q
    return total / (2 * r + 1) ** 2


@dataclass(frozen=True)
class Guided(Windowed):
    """Smooth by the guided filter with the image as its own guide (He et al. 2013), as MATLAB's imguidedfilter."""

    name = "guided"
    colour = "#009e73"
    turn = 2

    window: int = window("Side of the square window of both box means", published=11)
    eps: float = real(
        0.01,
        1e-4,
        10.0,
        "Variance at which half of the contrast is kept",
        unit="squared intensity",
        choosable=True,
        published=0.1,
    )

    def operations(self) -> Operations:
        """Four box sums both ways, by running sums of two operations, and 13 with a reciprocal."""
        return Operations(4 * 2 * 2 + 13, 1)

    def reference(self, g: Plane) -> Plane:
        """Compute mean(a) g + mean(b), with a = var / (var + eps) and b = (1 - a) mean."""
        r = self.window // 2
        mean = _box(g, r)
        variance = _box(g * g, r) - mean * mean
        a = variance / (variance + self.eps)
        b = (1.0 - a) * mean
        return _box(a, r) * g + _box(b, r)
