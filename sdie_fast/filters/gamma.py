"""Gamma correction."""

from __future__ import annotations

from dataclasses import dataclass

from ._filter import Filter, Operations, Plane, real

__all__ = ["Gamma"]


@dataclass(frozen=True)
class Gamma(Filter):
    """Brighten or darken by a power of the intensity: I ** exponent."""

    name = "gamma"
    colour = "#f0e442"
    turn = 8

    exponent: float = real(0.5, 0.1, 10.0, "Exponent: below 1 brightens, above 1 darkens", choosable=True)

    def operations(self) -> Operations:
        """A logarithm, a product, an exponential."""
        return Operations(1, 2)

    def reference(self, g: Plane) -> Plane:
        """Raise every intensity to the power."""
        return g**self.exponent
