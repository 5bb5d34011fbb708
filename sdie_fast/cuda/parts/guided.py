"""The guided filter's share of the fused kernel."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32

from ..kernels import F32, HALF, INDEX, ONE, ZERO, ceil_div, part
from . import COLUMNS, RUN, Part, Places, Steps, Tile

__all__ = ["PITCH", "Guided"]

PITCH = COLUMNS | 1


class Guided(Part):
    """Two boxes one after the other, each summed down columns and along rows.

    Down the columns of the tile, sums of v and v^2; along the rows these completed, the coefficients
    fitted and summed; down the columns the second box completed.
    """

    name = "guided"
    count = 1
    reach = 2

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """The least variance."""
        return (own.eps,)

    def shared(self, rows: int) -> tuple[int, int]:
        """Floats of shared memory in `first` and in `second`, for a block of so many rows."""
        box_rows = rows + 2 * self.radius
        return 2 * box_rows * ((COLUMNS + 4 * self.radius) | 1), 2 * box_rows * PITCH

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        radius, number = self.radius, places.number
        reach, area = 2 * radius, F32(1.0 / (2 * radius + 1) ** 2)
        pitch, halo, corner = at.pitch, at.halo, at.halo - 2 * radius
        box_rows, box_columns = at.rows + 2 * radius, COLUMNS + 4 * radius
        box_pitch = box_columns | 1
        sums, squares = places.first, places.first + box_rows * box_pitch
        slopes, offsets = places.second, places.second + box_rows * PITCH
        threads = at.threads
        down_items = box_columns * ceil_div(box_rows, RUN)
        along_items = box_rows * (COLUMNS // RUN)
        coefficients = RUN + 2 * radius

        @part
        def prepare(tile, numbers, thread, first):
            """Sum v and v^2 over 2 radius + 1 rows; v is taken from the middle, to cancel less later."""
            for item in range(thread, down_items, threads):
                run = item // box_columns
                column = item - run * box_columns
                row = run * RUN
                base = ((row + corner) * pitch + column + corner) & INDEX
                to = (row * box_pitch + column) & INDEX
                s, q = ZERO, ZERO
                for i in range(reach):
                    v = tile[base + i * pitch] - HALF
                    s += v
                    q += v * v
                for j in range(RUN):
                    if row + j < box_rows:
                        v = tile[base + (j + reach) * pitch] - HALF
                        s += v
                        q += v * v
                        first[sums + to + j * box_pitch] = s
                        first[squares + to + j * box_pitch] = q
                        v = tile[base + j * pitch] - HALF
                        s -= v
                        q -= v * v

        @part
        def complete(first, numbers, thread, second):
            """Complete the first box along the rows, fit a and b, and sum them over 2 radius + 1 columns."""
            eps = numbers[number]
            a = cuda.local.array(coefficients, float32)
            b = cuda.local.array(coefficients, float32)
            for item in range(thread, along_items, threads):
                run = item // box_rows
                row = item - run * box_rows
                base = (row * box_pitch + run * RUN) & INDEX
                to = (row * PITCH + run * RUN) & INDEX
                s, q = ZERO, ZERO
                for i in range(reach):
                    s += first[sums + base + i]
                    q += first[squares + base + i]
                for i in range(coefficients):
                    s += first[sums + base + i + reach]
                    q += first[squares + base + i + reach]
                    mean = s * area
                    variance = max(q * area - mean * mean, ZERO)
                    a[i] = variance / (variance + eps)
                    b[i] = (ONE - a[i]) * (mean + HALF)
                    s -= first[sums + base + i]
                    q -= first[squares + base + i]
                s, q = ZERO, ZERO
                for i in range(reach):
                    s += a[i]
                    q += b[i]
                for j in range(RUN):
                    s += a[j + reach]
                    q += b[j + reach]
                    second[slopes + to + j] = s
                    second[offsets + to + j] = q
                    s -= a[j]
                    q -= b[j]

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            """The second box completed down the column."""
            base = (row * PITCH + column) & INDEX
            centre = ((row + halo) * pitch + column + halo) & INDEX
            s, q = ZERO, ZERO
            for i in range(reach):
                s += second[slopes + base + i * PITCH]
                q += second[offsets + base + i * PITCH]
            scale = weight * area
            for j in range(RUN):
                s += second[slopes + base + (j + reach) * PITCH]
                q += second[offsets + base + (j + reach) * PITCH]
                mixed[j] += scale * (s * tile[centre + j * pitch] + q)
                s -= second[slopes + base + j * PITCH]
                q -= second[offsets + base + j * PITCH]

        return Steps(column, prepare, complete)
