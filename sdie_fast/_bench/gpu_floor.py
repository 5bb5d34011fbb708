"""The least time a GPU needs for a case: by the bytes that must move, and by the arithmetic of the definitions.

Bytes: every input byte read once and every output byte written once, whatever happens in between. Arithmetic: operations a
pixel, counted by hand as in `bench/instructions.py`; an addition, a multiplication and a fused multiply-add are one lane
operation each; exp2, log2 and a reciprocal are one special function each, which a multiprocessor computes at an eighth of the
rate. Both are divided by the rates that `gpu_rates` measures. The largest of the three times is the floor.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..filters import FilterParams


class HasRates(Protocol):
    """Bytes, lane operations and special functions a second."""

    @property
    def bytes(self) -> float: ...
    @property
    def lanes(self) -> float: ...
    @property
    def special(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Operations:
    """Of one pixel."""

    lanes: float
    special: float

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.lanes + other.lanes, self.special + other.special)


@dataclasses.dataclass(frozen=True)
class Floor:
    """Seconds, each as if the others took no time."""

    bytes: float
    lanes: float
    special: float

    @property
    def arithmetic(self) -> float:
        """Lanes and special functions work side by side: the slower one counts."""
        return max(self.lanes, self.special)

    @property
    def seconds(self) -> float:
        """Seconds that no version can go below."""
        return max(self.bytes, self.arithmetic)


# Two edge weights (a difference, its log2, a product, an exp2, an addition, a reciprocal) and a log2.
_EDGES = Operations(2 * 3 + 1, 2 * 3 + 1)
# Iterations of the CPU core's exact solver on photographs (bench/RESULTS.md) and what one takes: the matrix (8), lines
# smoothed in both directions (2 x 8), two scalar products and three updates (5), there and back between levels (12), a
# third more for the coarser levels. What this method needs, not what the problem does.
_EXACT_ITERATIONS = 10.8
_EXACT = Operations(4 / 3 * (8 + 16 + 5 + 12), 4 / 3 * 2)


def taps(window: int, footprint: str) -> int:
    """Taps of the bilateral filter beside the centre."""
    r = window // 2
    pairs = ((y, x) for y in range(-r, r + 1) for x in range(-r, r + 1))
    return sum(footprint == "square" or y * y + x * x <= r * r for y, x in pairs) - 1


def _bilateral(params: FilterParams) -> Operations:
    """Each weight (a difference, its square, scale and offset, exp2) serves two pixels, with two operations in each."""
    count = taps(params.windows()[2], params.bilateral_footprint)
    return Operations(count * (3 / 2 + 2) + 2, count / 2 + 1)


def _wls(params: FilterParams) -> Operations:
    """Six tridiagonal solves of 8 and a reciprocal; or so many iterations of the exact solver."""
    if params.wls_solver == "fast":
        return _EDGES + Operations(6 * 8, 6)
    return _EDGES + Operations(_EXACT_ITERATIONS * _EXACT.lanes, _EXACT_ITERATIONS * _EXACT.special)


def operations(params: FilterParams, active: tuple[bool, ...]) -> Operations:
    """Count a round's operations a pixel.

    Parameters
    ----------
    params : FilterParams
    active : six bool
        Which filters are computed.
    """
    sharp = params.windows()[3]
    each = (
        Operations(0, 0),
        _wls(params),
        _bilateral(params),
        # A symmetric kernel both ways: equal taps are added before they are multiplied.
        Operations(2 * (sharp // 2 + sharp // 2 + 1) + 3, 0),
        # Four box sums both ways, by running sums of two operations, and 13 with a reciprocal.
        Operations(4 * 2 * 2 + 13, 1),
        # Six moments in two bins, two readings of three points, twelve to blend.
        Operations(12 + 24, 0),
    )
    total = Operations(10, 0)  # load, mix, clip, convert
    for counted, used in zip(each, active, strict=True):
        total += counted if used else Operations(0, 0)
    return total


def floor_of(pixels: int, rounds: int, moved: int, each: Operations, rates: HasRates) -> Floor:
    """Compute the floor of a whole call.

    Parameters
    ----------
    pixels : int
        Of all images.
    rounds : int
        T: the arithmetic is repeated, the bytes are not.
    moved : int
        Bytes of input and output.
    each : Operations
        Of one pixel and round.
    rates : Rates
    """
    work = float(pixels) * rounds
    return Floor(
        bytes=moved / rates.bytes,
        lanes=work * each.lanes / rates.lanes,
        special=work * each.special / rates.special,
    )
