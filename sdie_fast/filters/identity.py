"""The image as it is."""

from __future__ import annotations

from dataclasses import dataclass

from ._filter import Filter, Operations, Plane

__all__ = ["Identity"]


@dataclass(frozen=True)
class Identity(Filter):
    """Leave the image as it is: the share of it that a round keeps."""

    name = "identity"
    colour = "#bbbbbb"
    turn = 0

    def operations(self) -> Operations:
        """None: mixing is counted apart."""
        return Operations(0)

    def reference(self, g: Plane) -> Plane:
        """Return g."""
        return g
