"""The local filters' shares of the fused kernel (`local`), one module each; here what they have in common."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

__all__ = ["RUN", "Part", "Places", "Steps", "Tile"]

RUN = 8  # pixels of a column that a thread computes


def odd(width: int) -> int:
    """The least pitch of rows that keeps threads one below the other in banks of their own: 1 more than a multiple of 4.

    Where a warp's threads go on in the next run of rows, they too are in other banks than the first.
    """
    return -(-(width - 1) // 4) * 4 + 1


class Tile(NamedTuple):
    """The pixels that a block computes, `columns` x `rows`, and what of the plane it holds for them.

    The tile lies in shared memory, row by row, with a halo of pixels around; its pitch is odd.
    """

    columns: int
    rows: int
    halo: int

    @property
    def height(self) -> int:
        """Rows of the tile, halo included."""
        return self.rows + 2 * self.halo

    @property
    def width(self) -> int:
        """Columns of the tile, halo included."""
        return self.columns + 2 * self.halo

    @property
    def pitch(self) -> int:
        """Pixels from one row of the tile to the next."""
        return odd(self.width)

    @property
    def threads(self) -> int:
        """Threads of the block."""
        return self.columns * self.rows // RUN


class Places(NamedTuple):
    """Where a part's memory and parameters begin in those that all parts share."""

    first: int
    second: int
    number: int


class Steps(NamedTuple):
    """A part's device functions, in the order in which a block calls them; barriers lie between.

    ``prepare(tile, numbers, thread, first)`` fills its part of `first` from the tile.
    ``complete(first, numbers, thread, second)`` fills its part of `second` from `first`.
    ``column(tile, first, second, numbers, column, row, weight, mixed)`` adds weight * the filter's
    value to the thread's run of pixels, mixed[RUN]; (column, row) is the first of them in the block.

    No step reads and writes one array: the compiler may then have loads in flight across stores.
    """

    column: Any
    prepare: Any = None
    complete: Any = None


@dataclass(frozen=True)
class Part(abc.ABC):
    """What the kernel is compiled for: fields are a filter's windows and choices, never its real numbers."""

    name: ClassVar[str]
    count: ClassVar[int] = 0  # of `numbers`, at most
    reach: ClassVar[int] = 1  # radii of plane that it needs around its pixels
    radius: int = 0

    @classmethod
    def of(cls, own: Any) -> Part:
        """Make the part for a filter's own parameters."""
        return cls(getattr(own, "window", 1) // 2)

    @property
    def halo(self) -> int:
        """Pixels of plane that it needs around its own."""
        return self.reach * self.radius

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """What the steps read at run time, of a filter's own parameters."""
        del own
        return ()

    def shared(self, at: Tile) -> tuple[int, int]:
        """Floats of shared memory in `first` and in `second`."""
        del at
        return 0, 0

    @abc.abstractmethod
    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
