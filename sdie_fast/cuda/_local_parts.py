"""The local filters' shares of the fused kernel, each made for its radius: see `kernels`."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32

from ._device import F32, HALF, INDEX, ONE, ZERO, exp2, part
from ._tile import COLUMNS, RUN, Layout


def bilateral_part(at: Layout, radius: int, disk: bool) -> Any:
    window, column_rows = 2 * radius + 1, RUN + 2 * radius
    pitch, corner = at.tile_pitch, at.halo - radius
    half = F32(radius)

    @part
    def bilateral_column(tile, column, row, range_scale, space_scale, weight, mixed):
        """Add weight * bilateral to a column's run.

        The exponents are of base 2: -(range_scale * difference)^2 and space_scale * distance^2.
        What is summed are the differences from the centre, which keeps more digits than intensities.
        """
        values = cuda.local.array(column_rows, float32)
        centre = cuda.local.array(RUN, float32)
        total = cuda.local.array(RUN, float32)
        norm = cuda.local.array(RUN, float32)
        base = ((row + corner) * pitch + column + corner) & INDEX
        for j in range(RUN):
            centre[j] = tile[base + (j + radius) * pitch + radius] * range_scale
            total[j] = ZERO
            norm[j] = ONE
        across = -half
        for dx in range(window):
            first = (base + dx) & INDEX
            for i in range(column_rows):
                values[i] = tile[first + i * pitch] * range_scale
            down = -half
            for dy in range(window):
                distance = across * across + down * down
                centre_tap = dx == radius and dy == radius  # weighs 1 and is counted already
                if not centre_tap and (not disk or distance <= half * half):
                    space = space_scale * distance
                    for j in range(RUN):
                        d = values[j + dy] - centre[j]
                        w = exp2(space - d * d)
                        total[j] += w * d
                        norm[j] += w
                down += ONE
            across += ONE
        back = weight / range_scale
        for j in range(RUN):
            mixed[j] += back * (centre[j] + total[j] / norm[j])

    return bilateral_column


def sharpen_parts(at: Layout, radius: int) -> tuple[Any, Any]:
    taps, run_values = radius + 1, RUN + 2 * radius
    pitch, to_pitch, corner = at.tile_pitch, at.half_pitch, at.halo - radius
    blur_rows, tile_halo = at.blur_rows, at.halo
    items, threads = at.blur_rows * (COLUMNS // RUN), COLUMNS * at.rows // RUN

    @part
    def blur_rows_of(tile, gauss, thread, blur):
        """Blur the tile along its rows."""
        tap = cuda.local.array(taps, float32)
        values = cuda.local.array(run_values, float32)
        for k in range(taps):
            tap[k] = gauss[k]
        for item in range(thread, items, threads):
            run = item // blur_rows
            row = item - run * blur_rows
            base = ((row + corner) * pitch + run * RUN + corner) & INDEX
            to = (row * to_pitch + run * RUN) & INDEX
            for i in range(run_values):
                values[i] = tile[base + i]
            for j in range(RUN):
                total = tap[0] * values[j + radius]
                for k in range(1, taps):
                    total += tap[k] * (values[j + radius - k] + values[j + radius + k])
                blur[to + j] = total

    @part
    def sharpen_column(tile, blur, gauss, column, row, amount, threshold, weight, mixed):
        """Add weight * sharpen to a column's run; blur has its rows blurred."""
        tap = cuda.local.array(taps, float32)
        values = cuda.local.array(run_values, float32)
        for k in range(taps):
            tap[k] = gauss[k]
        base = (row * to_pitch + column) & INDEX
        centre = ((row + tile_halo) * pitch + column + tile_halo) & INDEX
        for i in range(run_values):
            values[i] = blur[base + i * to_pitch]
        for j in range(RUN):
            total = tap[0] * values[j + radius]
            for k in range(1, taps):
                total += tap[k] * (values[j + radius - k] + values[j + radius + k])
            value = tile[centre + j * pitch]
            high = value - total
            if abs(high) < threshold:
                high = ZERO
            mixed[j] += weight * (value + amount * high)

    return blur_rows_of, sharpen_column


def guided_parts(at: Layout, radius: int) -> tuple[Any, Any, Any]:
    reach, area = 2 * radius, F32(1.0 / (2 * radius + 1) ** 2)
    pitch, box_pitch, half_pitch, halo = at.tile_pitch, at.box_pitch, at.half_pitch, at.halo
    corner = at.halo - 2 * radius
    box_rows, box_columns = at.box_rows, at.box_columns
    threads = COLUMNS * at.rows // RUN
    down_items = box_columns * -(-box_rows // RUN)
    along_items = box_rows * (COLUMNS // RUN)
    coefficients = RUN + 2 * radius

    @part
    def sum_columns(tile, thread, sums, squares):
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
                    sums[to + j * box_pitch] = s
                    squares[to + j * box_pitch] = q
                    v = tile[base + j * pitch] - HALF
                    s -= v
                    q -= v * v

    @part
    def fit_rows(sums, squares, thread, eps, slope, offset):
        """Complete the first box along the rows, fit a and b, and sum them over 2 radius + 1 columns."""
        a = cuda.local.array(coefficients, float32)
        b = cuda.local.array(coefficients, float32)
        for item in range(thread, along_items, threads):
            run = item // box_rows
            row = item - run * box_rows
            base = (row * box_pitch + run * RUN) & INDEX
            to = (row * half_pitch + run * RUN) & INDEX
            s, q = ZERO, ZERO
            for i in range(reach):
                s += sums[base + i]
                q += squares[base + i]
            for i in range(coefficients):
                s += sums[base + i + reach]
                q += squares[base + i + reach]
                mean = s * area
                variance = max(q * area - mean * mean, ZERO)
                a[i] = variance / (variance + eps)
                b[i] = (ONE - a[i]) * (mean + HALF)
                s -= sums[base + i]
                q -= squares[base + i]
            s, q = ZERO, ZERO
            for i in range(reach):
                s += a[i]
                q += b[i]
            for j in range(RUN):
                s += a[j + reach]
                q += b[j + reach]
                slope[to + j] = s
                offset[to + j] = q
                s -= a[j]
                q -= b[j]

    @part
    def guided_column(tile, slope, offset, column, row, weight, mixed):
        """Add weight * guided to a column's run: the second box completed down the column."""
        base = (row * half_pitch + column) & INDEX
        centre = ((row + halo) * pitch + column + halo) & INDEX
        s, q = ZERO, ZERO
        for i in range(reach):
            s += slope[base + i * half_pitch]
            q += offset[base + i * half_pitch]
        scale = weight * area
        for j in range(RUN):
            s += slope[base + (j + reach) * half_pitch]
            q += offset[base + (j + reach) * half_pitch]
            mixed[j] += scale * (s * tile[centre + j * pitch] + q)
            s -= slope[base + j * half_pitch]
            q -= offset[base + j * half_pitch]

    return sum_columns, fit_rows, guided_column
