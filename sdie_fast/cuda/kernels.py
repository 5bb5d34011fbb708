"""The fused kernel of a round: the local filters, the other terms, their mix.

A block of threads holds a tile of one plane in shared memory, with a halo of
``max(radius of bilateral, radius of sharpen, 2 * radius of guided)`` pixels reflected at the image's
border, and writes 32 x `rows` pixels. Windows are separable where the filter is:

1. down the columns: sums of v and v^2 for the guided filter's first box; along the rows of the same
   tile: the Gaussian of sharpen;
2. along the rows: the first box completed, the guided filter's coefficients, and half of the
   second box;
3. down the columns: the other halves, the bilateral filter, and the mix.

Each thread works on a run of `RUN` pixels, so that a running sum or a column of values in registers
serves all of them. Threads side by side take columns side by side where they walk down, and rows
one below the other where they walk along (rows have an odd pitch): either way no two of a warp meet
in one bank of shared memory.

Arithmetic is float32. The special function unit's exponential, 48 a pixel for a window of 7, is the
scarcest resource: 16 results a cycle of a multiprocessor against 128 of anything else.

A kernel is compiled for the radii and the footprint alone, which `FilterParams` fixes; radius 0
leaves a filter out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import cuda, float32, int32, int64

from ._device import F32, HALF, INDEX, ONE, PIXEL, PLACE, ZERO, exp2, part, reflect

COLUMNS = 32  # of a tile: one warp
RUN = 8  # pixels a thread computes
AHEAD = 4  # rows a thread reads before it stores them
SHARED_BYTES = 48 * 1024  # static shared memory of a block
MAX_ROWS = 32


class LocalMix(NamedTuple):
    """A compiled choice of filters; its block has (32, rows / RUN) threads."""

    kernel: Any
    rows: int


class _Layout(NamedTuple):
    """Sizes in pixels of what a block keeps in shared memory; pitches are odd."""

    rows: int
    halo: int
    tile_pitch: int
    tile_rows: int
    box_rows: int  # of the guided filter's intermediate results
    box_columns: int
    box_pitch: int
    half_pitch: int
    blur_rows: int

    def bytes(self, sharpen: int, guided: int) -> int:
        tile = self.tile_rows * self.tile_pitch
        blur = self.blur_rows * self.half_pitch if sharpen else 1
        box = self.box_rows * (self.box_pitch + self.half_pitch) if guided else 2
        places = self.tile_rows + COLUMNS + 2 * self.halo
        return 4 * (places + tile + blur + 2 * box)


def _layout(bilateral: int, sharpen: int, guided: int) -> _Layout:
    """The most rows, up to `MAX_ROWS`, that fit a block's shared memory."""
    halo = max(bilateral, sharpen, 2 * guided)
    for rows in range(MAX_ROWS, 0, -RUN):
        found = _Layout(
            rows=rows,
            halo=halo,
            tile_pitch=(COLUMNS + 2 * halo) | 1,
            tile_rows=rows + 2 * halo,
            box_rows=rows + 2 * guided,
            box_columns=COLUMNS + 4 * guided,
            box_pitch=(COLUMNS + 4 * guided) | 1,
            half_pitch=COLUMNS | 1,
            blur_rows=rows + 2 * sharpen,
        )
        if found.bytes(sharpen, guided) <= SHARED_BYTES:
            return found
    raise AssertionError("windows of at most 15 fit")


def _loader(at: _Layout) -> tuple[Any, Any]:
    tile_rows, tile_columns, pitch = at.tile_rows, COLUMNS + 2 * at.halo, at.tile_pitch
    halo, step = at.halo, at.rows // RUN
    threads = COLUMNS * step
    places = -(-max(tile_rows, tile_columns) // threads)
    parts = -(-tile_columns // COLUMNS)
    groups = -(-tile_rows // (step * AHEAD))
    flight = AHEAD * parts

    @part
    def find_tile(height, width, left, top, thread, rows, columns):
        """Reflect each row and column of the tile once, for all the pixels that lie there."""
        for k in range(places):
            i = (thread + k * threads) & INDEX
            if i < tile_rows:
                rows[i] = reflect(top + i - halo, height)
            if i < tile_columns:
                columns[i] = reflect(left + i - halo, width)

    @part
    def load_tile(state, first, width, rows, columns, tile):
        """Fill the tile with pixels of the plane that begins at state[first].

        Each thread has the pixels of `AHEAD` rows in flight together.
        """
        values = cuda.local.array(flight, float32)
        x = cuda.local.array(parts, int64)
        for k in range(parts):
            column = (cuda.threadIdx.x + k * COLUMNS) & INDEX
            x[k] = first
            if column < tile_columns:
                x[k] += columns[column]
        for group in range(groups):
            top = (group * AHEAD * step + cuda.threadIdx.y) & INDEX
            for i in range(AHEAD):
                row = top + i * step
                if row < tile_rows:
                    start = (rows[row] & PLACE) * width
                    for k in range(parts):
                        values[i * parts + k] = state[(start + x[k]) & PIXEL]
            for i in range(AHEAD):
                row = top + i * step
                if row < tile_rows:
                    for k in range(parts):
                        column = (cuda.threadIdx.x + k * COLUMNS) & INDEX
                        if column < tile_columns:
                            tile[row * pitch + column] = values[i * parts + k]

    return find_tile, load_tile


def _bilateral(at: _Layout, radius: int, disk: bool) -> Any:
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


def _gaussian(at: _Layout, radius: int) -> tuple[Any, Any]:
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


def _guided(at: _Layout, radius: int) -> tuple[Any, Any, Any]:
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


@part
def add_column(source, first, width, count, weight, mixed):
    """Add weight * source to a column's run of `count` pixels, `width` apart."""
    if count >= RUN:
        for j in range(RUN):
            mixed[j] += weight * source[(first + j * width) & PIXEL]
    else:
        for j in range(RUN):
            if j < count:
                mixed[j] += weight * source[(first + j * width) & PIXEL]


@part
def store_column(mixed, first, width, count, out):
    """Write a column's run, clipped to [0, 1]."""
    if count >= RUN:
        for j in range(RUN):
            out[(first + j * width) & PIXEL] = min(max(mixed[j], ZERO), ONE)
    else:
        for j in range(RUN):
            if j < count:
                out[(first + j * width) & PIXEL] = min(max(mixed[j], ZERO), ONE)


@functools.lru_cache(maxsize=64)
def local_mix(bilateral: int, disk: bool, sharpen: int, guided: int) -> LocalMix:
    """The fused kernel for these radii in pixels, 0 to 7; 0 leaves that filter out.

    Its arguments: ``state, smooth, equalised, out``, planes one after another, (n * H * W,), of
    ``height`` and ``width``; ``weights`` (N, T, 6) and
    ``turn`` < T; ``channels``, planes of one image; ``first_row`` and ``first_plane`` of the launch;
    ``range_scale`` and ``space_scale`` of the bilateral filter, ``gauss`` one side of sharpen's
    taps, ``amount``, ``threshold``, and ``eps`` of the guided filter. `smooth` (of wls) and
    `equalised` (of spatiogram) are read where their weight is not zero; `out` may be either of them,
    but not `state`.
    """
    at = _layout(bilateral, sharpen, guided)
    rows, pitch, halo = at.rows, at.tile_pitch, at.halo
    tile_rows, tile_columns = at.tile_rows, COLUMNS + 2 * at.halo
    tile_size = at.tile_rows * at.tile_pitch
    blur_size = at.blur_rows * at.half_pitch if sharpen else 1
    box_size = at.box_rows * at.box_pitch if guided else 1
    half_size = at.box_rows * at.half_pitch if guided else 1
    find_tile, load_tile = _loader(at)
    bilateral_column = _bilateral(at, bilateral, disk)
    blur_rows_of, sharpen_column = _gaussian(at, sharpen)
    sum_columns, fit_rows, guided_column = _guided(at, guided)

    @cuda.jit(fastmath=True)
    def mix_local(
        state, smooth, equalised, out, height, width, weights, turn, channels, first_row, first_plane,
        range_scale, space_scale, gauss, amount, threshold, eps,
    ):  # fmt: skip
        tile_y = cuda.shared.array(tile_rows, int32)
        tile_x = cuda.shared.array(tile_columns, int32)
        tile = cuda.shared.array(tile_size, float32)
        blur = cuda.shared.array(blur_size, float32)
        sums = cuda.shared.array(box_size, float32)
        squares = cuda.shared.array(box_size, float32)
        slope = cuda.shared.array(half_size, float32)
        offset = cuda.shared.array(half_size, float32)
        mixed = cuda.local.array(RUN, float32)

        height, width = height & PLACE, width & PLACE
        plane = (cuda.blockIdx.z + first_plane) & PLACE
        pixels = plane * (height * width)
        left = cuda.blockIdx.x * COLUMNS
        top = (cuda.blockIdx.y + first_row) * rows
        column = cuda.threadIdx.x & (COLUMNS - 1)
        group = cuda.threadIdx.y & 31
        thread = group * COLUMNS + column
        image = (plane // channels) & PLACE
        turn = turn & PLACE
        with_bilateral = weights[image, turn, 2]
        with_sharpen = weights[image, turn, 3]
        with_guided = weights[image, turn, 4]

        find_tile(height, width, left, top, thread, tile_y, tile_x)
        cuda.syncthreads()
        load_tile(state, pixels, width, tile_y, tile_x, tile)
        cuda.syncthreads()
        if sharpen > 0 and with_sharpen > ZERO:
            blur_rows_of(tile, gauss, thread, blur)
        if guided > 0 and with_guided > ZERO:
            sum_columns(tile, thread, sums, squares)
            cuda.syncthreads()
            fit_rows(sums, squares, thread, eps, slope, offset)
        if sharpen > 0 or guided > 0:
            cuda.syncthreads()

        row = group * RUN
        x = (left + column) & PLACE
        y = (top + row) & PLACE
        if x < width and y < height:
            first = pixels + y * width + x
            count = height - y
            centre = ((row + halo) * pitch + column + halo) & INDEX
            with_identity = weights[image, turn, 0]
            for j in range(RUN):
                mixed[j] = with_identity * tile[centre + j * pitch]
            if bilateral > 0 and with_bilateral > ZERO:
                bilateral_column(tile, column, row, range_scale, space_scale, with_bilateral, mixed)
            if sharpen > 0 and with_sharpen > ZERO:
                sharpen_column(
                    tile, blur, gauss, column, row, amount, threshold, with_sharpen, mixed
                )
            if guided > 0 and with_guided > ZERO:
                guided_column(tile, slope, offset, column, row, with_guided, mixed)
            with_smooth = weights[image, turn, 1]
            with_equalised = weights[image, turn, 5]
            if with_smooth > ZERO:
                add_column(smooth, first, width, count, with_smooth, mixed)
            if with_equalised > ZERO:
                add_column(equalised, first, width, count, with_equalised, mixed)
            store_column(mixed, first, width, count, out)

    return LocalMix(mix_local, rows)


LOCAL_SIGNATURE: tuple[Any, ...] = (
    *(float32[::1],) * 4, int64, int64, float32[:, :, ::1], *(int64,) * 4,
    float32, float32, float32[::1], float32, float32, float32,
)  # fmt: skip

# The kernels of the default parameters (all filters, and each local one alone), of both footprints
# and of the published code's; other windows give others of the same text.
_CHOICES = (
    (3, False, 3, 3), (3, True, 3, 3), (7, True, 2, 5), (7, False, 7, 7),
    (3, False, 0, 0), (0, False, 3, 0), (0, False, 0, 3), (0, False, 0, 0),
)  # fmt: skip
KERNELS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = tuple(
    (
        f"mix_local bilateral {b} {'disk' if disk else 'square'} sharpen {s} guided {g}",
        local_mix(b, disk, s, g).kernel,
        LOCAL_SIGNATURE,
    )
    for b, disk, s, g in _CHOICES
)
