"""The least time a GPU needs for a workload: by the bytes that must move, and by the arithmetic of the definitions.

Bytes: every input byte read once and every output byte written once, whatever happens in between. Arithmetic: operations a
pixel, counted by hand; an addition, a multiplication and a fused multiply-add are one lane operation each; exp2, log2 and a
reciprocal are one special function each, which a multiprocessor computes at an eighth of the rate. All are divided by the
rates that `rates` measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sdie_fast import FilterParams

if TYPE_CHECKING:
    from rates import Rates

__all__ = ["Floor", "Operations", "floor_of", "operations", "taps"]


class Operations(NamedTuple):
    """Of one pixel."""

    lanes: float
    special: float


class Floor(NamedTuple):
    """Seconds, each as if the other took no time."""

    bytes: float
    arithmetic: float

    @property
    def seconds(self) -> float:
        """Seconds that no version can go below."""
        return max(self)


def taps(window: int, footprint: str) -> int:
    """Taps of the bilateral filter beside the centre."""
    r = window // 2
    pairs = ((y, x) for y in range(-r, r + 1) for x in range(-r, r + 1))
    return sum(footprint == "square" or y * y + x * x <= r * r for y, x in pairs) - 1


def _bilateral(params: FilterParams) -> Operations:
    """Each weight (a difference, its square, scale and offset, exp2) serves two pixels, with two operations in each."""
    p = params.of("bilateral")
    count = taps(p.window, p.footprint)
    return Operations(count * (3 / 2 + 2) + 2, count / 2 + 1)


def _wls(params: FilterParams) -> Operations:
    """Two edge weights (a difference, its log2, a product, an exp2, an addition, a reciprocal) and a log2, and the solver.

    Fast: six tridiagonal solves of 8 and a reciprocal. Exact: 10.8 iterations, as the CPU core takes on photographs
    (bench/RESULTS.md), each the matrix (8), lines smoothed in both directions (2 x 8), two scalar products and three
    updates (5), there and back between levels (12) and a third more for the coarser levels: what this method needs, not
    what the problem does.
    """
    lanes, special = (6 * 8, 6) if params.wls_solver == "fast" else (10.8 * 4 / 3 * 41, 10.8 * 4 / 3 * 2)
    return Operations(7 + lanes, 7 + special)


def operations(params: FilterParams, filters: Iterable[str]) -> Operations:
    """Count a round's operations a pixel."""
    each = {
        "identity": Operations(0, 0),
        "wls": _wls(params),
        "bilateral": _bilateral(params),
        # A symmetric kernel both ways: equal taps are added before they are multiplied.
        "sharpen": Operations(2 * (2 * (params.of("sharpen").window // 2) + 1) + 3, 0),
        # Four box sums both ways, by running sums of two operations, and 13 with a reciprocal.
        "guided": Operations(4 * 2 * 2 + 13, 1),
        # Six moments in two bins, two readings of three points, twelve to blend.
        "spatiogram": Operations(12 + 24, 0),
    }
    used = [each[name] for name in filters]
    # Ten to load, mix, clip and convert.
    return Operations(10 + sum(o.lanes for o in used), sum(o.special for o in used))


def floor_of(pixels: int, rounds: int, each: Operations, rates: Rates) -> Floor:
    """Compute the floor of a call on so many uint8 pixels in all: arithmetic is repeated each round, bytes are not.

    Lanes and special functions work side by side: the slower one counts.
    """
    work = float(pixels) * rounds
    return Floor(2 * pixels / rates.bytes, work * max(each.lanes / rates.lanes, each.special / rates.special))
