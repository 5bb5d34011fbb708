"""The guided filter's share of the fused kernel."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint32

from ..kernels import F32, HALF, ZERO, ceil_div, part
from . import RUN, Part, Places, Steps, Tile, odd

__all__ = ["Guided"]


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

    def shared(self, at: Tile) -> tuple[int, int]:
        """Floats of shared memory in `first` and in `second`."""
        box_rows = at.rows + 2 * self.radius
        return 2 * box_rows * odd(at.columns + 4 * self.radius), 2 * box_rows * odd(at.columns)

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        radius, number = self.radius, places.number
        reach, area = 2 * radius, F32(1.0 / (2 * radius + 1) ** 2)
        pitch, halo, corner = at.pitch, at.halo, at.halo - 2 * radius
        box_rows, box_columns = at.rows + 2 * radius, at.columns + 4 * radius
        box_pitch, sum_pitch = odd(box_columns), odd(at.columns)
        sums, squares = places.first, places.first + box_rows * box_pitch
        slopes, offsets = places.second, places.second + box_rows * sum_pitch
        threads = at.threads
        down_items = box_columns * ceil_div(box_rows, RUN)
        along_items = box_rows * (at.columns // RUN)
        down_passes, along_passes = ceil_div(down_items, threads), ceil_div(along_items, threads)
        coefficients = RUN + 2 * radius

        @part
        def prepare(tile, numbers, thread, first):
            """Sum v and v^2 over 2 radius + 1 rows; v is taken from the middle, to cancel less later."""
            for k in range(down_passes):
                item = uint32(thread + k * threads)
                if item < down_items:
                    run = uint32(item // uint32(box_columns))
                    column = uint32(item - run * box_columns)
                    row = uint32(run * RUN)
                    base = uint32((row + corner) * pitch + column + corner)
                    to = uint32(row * box_pitch + column)
                    s, q = ZERO, ZERO
                    for i in range(reach):
                        v = tile[base + i * pitch] - HALF
                        s += v
                        q = cuda.fma(v, v, q)
                    for j in range(RUN):
                        if row + j < box_rows:
                            v = tile[base + (j + reach) * pitch] - HALF
                            s += v
                            q = cuda.fma(v, v, q)
                            first[sums + to + j * box_pitch] = s
                            first[squares + to + j * box_pitch] = q
                            v = tile[base + j * pitch] - HALF
                            s -= v
                            q = cuda.fma(-v, v, q)

        @part
        def complete(first, numbers, thread, second):
            """Complete the first box along the rows, fit a and b, and sum them over 2 radius + 1 columns."""
            eps = numbers[number]
            a = cuda.local.array(coefficients, float32)
            b = cuda.local.array(coefficients, float32)
            for k in range(along_passes):
                item = uint32(thread + k * threads)
                if item < along_items:
                    run = uint32(item // uint32(box_rows))
                    row = uint32(item - run * box_rows)
                    base = uint32(row * box_pitch + run * RUN)
                    to = uint32(row * sum_pitch + run * RUN)
                    s, q = ZERO, ZERO
                    for i in range(reach):
                        s += first[sums + base + i]
                        q += first[squares + base + i]
                    for i in range(coefficients):
                        s += first[sums + base + i + reach]
                        q += first[squares + base + i + reach]
                        mean = s * area
                        variance = max(cuda.fma(-mean, mean, q * area), ZERO)
                        a[i] = variance / (variance + eps)
                        mean += HALF
                        b[i] = cuda.fma(-a[i], mean, mean)
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
            base = uint32(row * sum_pitch + column)
            centre = uint32((row + halo) * pitch + column + halo)
            s, q = ZERO, ZERO
            for i in range(reach):
                s += second[slopes + base + i * sum_pitch]
                q += second[offsets + base + i * sum_pitch]
            scale = weight * area
            for j in range(RUN):
                s += second[slopes + base + (j + reach) * sum_pitch]
                q += second[offsets + base + (j + reach) * sum_pitch]
                mixed[j] += scale * cuda.fma(s, tile[centre + j * pitch], q)
                s -= second[slopes + base + j * sum_pitch]
                q -= second[offsets + base + j * sum_pitch]

        return Steps(column, prepare, complete)
