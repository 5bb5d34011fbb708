"""The Gaussian's share of the fused kernel, and the separable blur that sharpening has in common with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, uint32

from ..kernels import ceil_div, part
from . import RUN, Part, Places, Steps, Tile, odd

__all__ = ["TAPS", "Gaussian", "blur", "blur_floats", "taps"]

TAPS = 8  # one side of the largest Gaussian, its centre included


def taps(sigma: float, window: int) -> tuple[float, ...]:
    """One side of a sampled Gaussian, centre first, scaled so that both sides sum to 1."""
    k = np.arange(window // 2 + 1)
    tap = np.exp(-(k**2) / (2.0 * sigma**2))
    return tuple((tap / (2.0 * tap.sum() - 1.0)).tolist())


def blur_floats(at: Tile, radius: int) -> int:
    """Floats that rows blurred along themselves take."""
    return (at.rows + 2 * radius) * odd(at.columns)


def blur(at: Tile, radius: int, places: Places) -> tuple[Any, Any]:
    """Make `prepare`, which blurs along rows, and a function that completes a column's run of the blur.

    The taps are the first `numbers` of the part.
    """
    side, values_of_run = radius + 1, RUN + 2 * radius
    pitch, corner, to_first, number = at.pitch, at.halo - radius, places.first, places.number
    rows, blurred_pitch = at.rows + 2 * radius, odd(at.columns)
    items, threads = rows * ceil_div(at.columns, RUN), at.threads
    passes = ceil_div(items, threads)

    @part
    def blur_run(values, numbers, blurred):
        tap = cuda.local.array(side, float32)
        for k in range(side):
            tap[k] = numbers[number + k]
        for j in range(RUN):
            total = tap[0] * values[j + radius]
            for k in range(1, side):
                total += tap[k] * (values[j + radius - k] + values[j + radius + k])
            blurred[j] = total

    @part
    def prepare(tile, numbers, thread, first):
        values = cuda.local.array(values_of_run, float32)
        blurred = cuda.local.array(RUN, float32)
        for k in range(passes):
            item = uint32(thread + k * threads)
            if item < items:
                run = uint32(item // uint32(rows))
                row = uint32(item - run * rows)
                base = uint32((row + corner) * pitch + run * RUN + corner)
                to = uint32(to_first + row * blurred_pitch + run * RUN)
                for i in range(values_of_run):
                    values[i] = tile[base + i]
                blur_run(values, numbers, blurred)
                for j in range(RUN):
                    first[to + j] = blurred[j]

    @part
    def complete_run(first, numbers, column, row, blurred):
        values = cuda.local.array(values_of_run, float32)
        base = uint32(to_first + row * blurred_pitch + column)
        for i in range(values_of_run):
            values[i] = first[base + i * blurred_pitch]
        blur_run(values, numbers, blurred)

    return prepare, complete_run


class Gaussian(Part):
    """The plane convolved with a sampled Gaussian."""

    name = "gaussian"
    count = TAPS

    @staticmethod
    def numbers(own: Any) -> tuple[float, ...]:
        """The taps."""
        return taps(own.sigma, own.window)

    def shared(self, at: Tile) -> tuple[int, int]:
        """Floats of shared memory in `first` and in `second`."""
        return blur_floats(at, self.radius), 0

    def steps(self, at: Tile, places: Places) -> Steps:
        """Make its device functions."""
        prepare, complete_run = blur(at, self.radius, places)

        @part
        def column(tile, first, second, numbers, column, row, weight, mixed):
            blurred = cuda.local.array(RUN, float32)
            complete_run(first, numbers, column, row, blurred)
            for j in range(RUN):
                mixed[j] += weight * blurred[j]

        return Steps(column, prepare)
