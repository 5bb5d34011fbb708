"""Multigrid: where each level's arrays lie in a team's memory.

Level 0 is the image; each further one keeps every other row and column, down to `COARSEST` unknowns.
A level's arrays are planes of its own height * width, row-major and without padding; a coupling that
would leave the image is zero, so that a pixel's neighbour may be read wherever it exists in memory.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from ._device import ceil_div

COARSEST = 16  # most unknowns of the last level, which is solved by its inverse
CHUNK = 2048  # pixels whose products are summed by one block: what a sum's rounding depends on
ALIGN = 32  # floats: 128 bytes, a cache line

# Columns of the levels' table: size, then the places of the arrays.
#   EAST, SOUTH, SOUTH_EAST, SOUTH_WEST: coupling of a pixel with the one in that direction (the
#     diagonals from level 1 on); GROUND: its coupling with ground (1 on level 0)
#   RESIDUAL: right-hand side; FIRST, SECOND: corrections, in turn
#   TO: six planes of the next level's size, the weights of the interpolation from it, see
#     `_multigrid_coarsen`
(
    HEIGHT, WIDTH, PIXELS, EAST, SOUTH, SOUTH_EAST, SOUTH_WEST, GROUND, RESIDUAL, FIRST, SECOND, TO,
) = range(12)  # fmt: skip
COLUMNS = 12
WEIGHTS = 6

# What lies before the levels' arrays: two lists of sums, one value a chunk, and the last level's
# inverse.
_HEAD = COARSEST * COARSEST


@dataclasses.dataclass(frozen=True)
class Levels:
    """The layout of a team's memory for images of one size; places count float32 values.

    Attributes
    ----------
    table : (levels, COLUMNS) int64
        See the columns' names.
    inverse, sums, other_sums, direction, image_of_direction : int
        Places of what the solver needs beside the levels.
    chunks : int
        Length of a list of sums.
    floats : int
        Size of the memory.
    """

    table: npt.NDArray[np.int64]
    inverse: int
    sums: int
    other_sums: int
    direction: int
    image_of_direction: int
    chunks: int
    floats: int


def lay_out(height: int, width: int) -> Levels:
    """Lay out the memory of one team for images of height x width, both at least 1."""
    used = 0

    def take(floats: int) -> int:
        nonlocal used
        at = used
        used += ceil_div(floats, ALIGN) * ALIGN
        return at

    pixels = height * width
    chunks = ceil_div(pixels, CHUNK)
    inverse, sums, other_sums = take(_HEAD), take(chunks), take(chunks)
    direction, image_of_direction = take(pixels), take(pixels)
    rows: list[list[int]] = []
    while True:
        n = height * width
        last = bool(rows) and n <= COARSEST
        row = [height, width, n, take(n), take(n)]
        row += [take(n), take(n), take(n)] if rows else [0, 0, 0]
        row += [take(n), take(n), take(n)]
        height, width = ceil_div(height, 2), ceil_div(width, 2)
        row.append(0 if last else take(WEIGHTS * height * width))
        rows.append(row)
        if last:
            break
    return Levels(
        np.array(rows, np.int64),
        inverse,
        sums,
        other_sums,
        direction,
        image_of_direction,
        chunks,
        used,
    )
