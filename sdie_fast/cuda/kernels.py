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

Not measured on a GPU: none was at hand. Counted from the machine code for compute capability 9.0,
all filters at a window of 7 take about 520 instructions a pixel, of which the bilateral filter has
300; nothing is spilled from registers, of which a thread takes 72.

A kernel is compiled for the radii and the footprint alone, which `FilterParams` fixes; radius 0
leaves a filter out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import cuda, float32, int32, int64

from ._device import INDEX, PLACE, ZERO
from ._local_parts import bilateral_part, guided_parts, sharpen_parts
from ._tile import COLUMNS, RUN, add_column, lay_out, loader, store_column


class LocalMix(NamedTuple):
    """A compiled choice of filters; its block has (32, rows / RUN) threads."""

    kernel: Any
    rows: int


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
    at = lay_out(bilateral, sharpen, guided)
    rows, pitch, halo = at.rows, at.tile_pitch, at.halo
    tile_rows, tile_columns = at.tile_rows, COLUMNS + 2 * at.halo
    tile_size = at.tile_rows * at.tile_pitch
    blur_size = at.blur_rows * at.half_pitch if sharpen else 1
    box_size = at.box_rows * at.box_pitch if guided else 1
    half_size = at.box_rows * at.half_pitch if guided else 1
    find_tile, load_tile = loader(at)
    bilateral_column = bilateral_part(at, bilateral, disk)
    blur_rows_of, sharpen_column = sharpen_parts(at, sharpen)
    sum_columns, fit_rows, guided_column = guided_parts(at, guided)

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
                sharpen_column(tile, blur, gauss, column, row, amount, threshold, with_sharpen, mixed)
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
