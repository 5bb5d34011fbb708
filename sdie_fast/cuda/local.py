"""The fused kernel of a round: the local filters, the other terms, their mix.

A block of threads holds a tile of one plane in shared memory, with as large a halo as the filters in
use need, reflected at the image's border, and writes `columns` x `rows` pixels. Windows are separable where the
filter is: `parts` says what each does, in up to three steps with barriers between, along rows or down
columns. Two more arrays of shared memory, `first` and `second`, hold what one step leaves for a later one.
The spatiogram's values are made here too (`spatiogram.by_place`), and the last round's results go straight
to the caller's images: neither is ever written as a plane.

Each thread works on a run of `RUN` pixels, so that a running sum or a column of values in registers
serves all of them. Threads side by side take columns side by side where they walk down, and rows
one below the other where they walk along (rows have an odd pitch): either way no two of a warp meet
in one bank of shared memory.

Arithmetic is float32. The special function unit's exponential, 48 a pixel for a bilateral window of 7, is
the scarcest resource: 16 results a cycle of a multiprocessor against 128 of anything else. Counted on the
emulated driver, the toolkit's local filters at a window of 7 take about 540 instructions a pixel, of which the
bilateral filter has 290. The median takes some 60 for each of its window's pixels.

A kernel is compiled for its parts' windows and choices, and for `Ends`; a filter without weight has no part.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda, float32, int32, int64, uint8, uint32, uint64

from ..filters import FILTERS, PARAMETERS, TABLE, FilterParams
from . import LOCAL, pixels
from .kernels import F32, ONE, POSITION, ZERO, ceil_div, kept, listed, part, quotient
from .moments import ALIGNMENT, MAX_BINS
from .parts import RUN, Part, Places, Tile
from .spatiogram import ENTRIES, NO_FLOOR, by_place

__all__ = ["Ends", "LocalMix", "local_mix", "numbers", "parts_of"]

PARTS: dict[str, type[Part]] = {
    name: getattr(importlib.import_module(f".parts.{name}", __package__), name.capitalize()) for name in LOCAL
}

COLUMNS = 32, 40  # of the pixels that a block computes: it is compiled for one of them
WARP = 32
MOST_AHEAD = 4  # rows a thread reads before it stores them
SHARED_BYTES = 48 * 1024  # static shared memory of a block
MAX_ROWS = 32

_number_at: dict[str, int] = {}
NUMBERS = 0  # of all parts
for _name, _kind in PARTS.items():
    _number_at[_name], NUMBERS = NUMBERS, NUMBERS + _kind.count


def numbers(params: FilterParams) -> npt.NDArray[np.float32]:
    """Every part's numbers, which the kernel reads at run time: (NUMBERS,)."""
    found = np.zeros(NUMBERS, np.float32)
    for name, kind in PARTS.items():
        own = kind.numbers(params.of(name))
        found[_number_at[name] :][: len(own)] = own
    return found


def parts_of(params: FilterParams, active: Sequence[bool]) -> tuple[Part, ...]:
    """The parts of the filters that have weight, by position in the table; the identity is always there."""
    used = [name for name in PARTS if name == "identity" or active[POSITION[name]]]
    return tuple(PARTS[name].of(params.of(name)) for name in used)


def shared_floats(parts: Sequence[Part], at: Tile) -> tuple[int, int, int]:
    """Floats of the tile, of `first` and of `second`; an array of shared memory has at least one."""
    first, second = (sum(size) for size in zip(*(p.shared(at) for p in parts), strict=True))
    return at.height * at.pitch, first or 1, second or 1


def shared_bytes(parts: Sequence[Part], at: Tile) -> int:
    """Bytes of a block's shared memory."""
    return 4 * (sum(shared_floats(parts, at)) + ENTRIES + MAX_BINS + 1)


def lay_out(parts: Sequence[Part], columns: int = COLUMNS[0]) -> Tile:
    """The most rows, up to `MAX_ROWS`, that fit a block's shared memory."""
    halo = max(p.halo for p in parts)
    tiles = (Tile(columns, rows, halo) for rows in range(MAX_ROWS, 0, -RUN))
    return next(tile for tile in tiles if shared_bytes(parts, tile) <= SHARED_BYTES)


def columns_of(width: int) -> int:
    """The columns of a block that leave the fewest threads past the right border of such planes."""
    return min(COLUMNS, key=lambda columns: ceil_div(width, columns) * columns)


@part
def _reflect(i, n):
    """Reflect a coordinate into [0, n) without repeating the edge, in int32; farther ones end at an edge."""
    i = abs(i)
    if i >= n:
        i = int32(2 * (n - 1) - i)
    return max(i, int32(0))


def _loader(at: Tile) -> Any:
    tile_rows, tile_columns, pitch, halo = at.height, at.width, at.pitch, at.halo
    across, warps = ceil_div(tile_columns, WARP), at.threads // WARP
    rows_of_warp = ceil_div(tile_rows, warps)
    groups = ceil_div(rows_of_warp, MOST_AHEAD)
    ahead = ceil_div(rows_of_warp, groups)
    flight, whole_groups = ahead * across, tile_rows // (warps * ahead)

    @part
    def load_tile(state, first, height, width, left, top, thread, tile):
        """Fill the tile with pixels of the plane that begins at state[first], a row of it to a warp.

        Each thread has the pixels of `ahead` rows in flight together.
        """
        values = cuda.local.array(flight, float32)
        x = cuda.local.array(across, uint64)
        warp, lane = int32(thread >> 5), int32(thread & (WARP - 1))
        if warp >= warps:
            return
        # What would lie past the tile is its last column, or row, once more, and not stored.
        for k in range(across):
            place = min(int32(lane + k * WARP), int32(tile_columns - 1))
            x[k] = first + uint64(_reflect(int32(left - halo + place), width))
        top = int32(top - halo)
        for group in range(groups):
            for i in range(ahead):
                row = min(int32((group * ahead + i) * warps + warp), int32(tile_rows - 1))
                start = uint64(uint32(_reflect(int32(top + row), height) * width))
                for k in range(across):
                    values[i * across + k] = state[start + x[k]]
            for i in range(ahead):
                row = int32((group * ahead + i) * warps + warp)
                to = uint32(row * pitch + lane)
                if group < whole_groups or row < tile_rows:
                    for k in range(across):
                        if k * WARP + WARP <= tile_columns or lane < tile_columns - k * WARP:
                            tile[to + k * WARP] = values[i * across + k]

    return load_tile


@part
def _add_term(source, first, width, count, weight, mixed):
    """Add weight * source to a column's run of `count` pixels, `width` apart."""
    if weight > ZERO:
        if count >= RUN:
            for j in range(RUN):
                mixed[j] += weight * source[first + uint64(j) * width]
        else:
            for j in range(RUN):
                if j < count:
                    mixed[j] += weight * source[first + uint64(j) * width]


@part
def _store_column(mixed, first, width, count, out):
    """Write a column's run."""
    if count >= RUN:
        for j in range(RUN):
            out[first + uint64(j) * width] = mixed[j]
    else:
        for j in range(RUN):
            if j < count:
                out[first + uint64(j) * width] = mixed[j]


class _Weighted(NamedTuple):
    """A part's steps as they are called: with the parts' shares, and only where its own is not zero."""

    weigh: Any
    prepare: Any
    complete: Any
    column: Any


def _weighted(made: Part, k: int, at: Tile, places: Places) -> _Weighted:
    column_step, prepare_step, complete_step = made.steps(at, places)
    position = POSITION[made.name]

    @part
    def weigh(weights, image, turn, shares):
        shares[k] = weights[image, turn, position]

    @part
    def prepare(tile, numbers, thread, first, shares):
        if shares[k] > ZERO:
            prepare_step(tile, numbers, thread, first)

    @part
    def complete(first, numbers, thread, second, shares):
        if shares[k] > ZERO:
            complete_step(first, numbers, thread, second)

    @part
    def column(tile, first, second, numbers, column, row, shares, mixed):
        if shares[k] > ZERO:
            column_step(tile, first, second, numbers, column, row, shares[k], mixed)

    return _Weighted(weigh, prepare_step and prepare, complete_step and complete, column)


@part
def _nothing(*arguments):
    pass


def _both(one: Any, other: Any) -> Any:
    @part
    def both(*arguments):
        one(*arguments)
        other(*arguments)

    return both


class LocalMix(NamedTuple):
    """A compiled choice of filters."""

    kernel: Any
    columns: int
    rows: int

    @property
    def block(self) -> tuple[int, int]:
        """Threads along x and y."""
        return self.columns, self.rows // RUN

    def grid(self, height: int, width: int, planes: int) -> tuple[int, int, int]:
        """Blocks of planes of one size."""
        return ceil_div(width, self.columns), ceil_div(height, self.rows), planes


class Ends(NamedTuple):
    """What the fused kernel is compiled for besides its parts."""

    columns: int  # of a block, see `columns_of`
    equalised: bool  # by place; otherwise the spatiogram's term is read, as that of wls
    luma: bool  # planes are the luma of colour images
    integers: bool  # pixels are integers


def _pixel_store(ends: Ends) -> Any:
    write = pixels.writer(ends.luma, ends.integers)

    @part
    def store_pixels(mixed, src, dst, image, y, x, c, count, white):
        """Write a column's run to the image."""
        scale = ONE / white
        if count >= RUN:
            for j in range(RUN):
                write(mixed[j], src, dst, image, y + uint64(j), x, c, scale, white)
        else:
            for j in range(RUN):
                if j < count:
                    write(mixed[j], src, dst, image, y + uint64(j), x, c, scale, white)

    return store_pixels


@functools.lru_cache(maxsize=64)
def local_mix(parts: tuple[Part, ...], ends: Ends) -> LocalMix:
    """The fused kernel of these parts.

    Its arguments: ``state, smooth, equalised``, planes one after another, (n * H * W,), of ``height`` and ``width``;
    ``used``; ``weights`` (N, T, filters of the table) and ``turn`` < T; ``channels``, planes of one image; the
    `numbers` of the parameters; ``out``, planes; the images ``src`` and ``dst`` (N, H, W, C), ``white`` as
    `pixels.store` has it, and ``last``: whether the result goes to `dst` instead of `out`; ``first_row`` and
    ``first_plane`` of the launch. `smooth` (of wls) and `equalised` (of spatiogram) are read where their weight is
    not zero; `out` may be either of them, but not `state`. By place, `equalised` and `used` are the records of
    `spatiogram.Spatiogram`.
    """
    columns, in_place = ends.columns, ends.equalised
    at = lay_out(parts, columns)
    rows, count = at.rows, len(parts)
    tile_size, first_size, second_size = shared_floats(parts, at)
    entries_size, bins_size = (ENTRIES, MAX_BINS) if in_place else (1, 1)
    load_tile = _loader(at)
    centre_bins, add_equalised = by_place(at)
    store_pixels = _pixel_store(ends)
    weighted, first, second = [], 0, 0
    for k, made in enumerate(parts):
        weighted.append(_weighted(made, k, at, Places(first, second, _number_at[made.name])))
        own_first, own_second = made.shared(at)
        first, second = first + own_first, second + own_second
    weigh, prepare, complete, column_of = (
        functools.reduce(_both, filter(None, steps), _nothing) for steps in zip(*weighted, strict=True)
    )
    prepares, completes = (any(step[k] for step in weighted) for k in (1, 2))
    smooth_at, equalised_at = POSITION["wls"], POSITION["spatiogram"]

    @cuda.jit(fastmath=True)
    def mix_local(
        state, smooth, equalised, used, height, width, weights, turn, channels, numbers, out, src, dst, white, last,
        first_row, first_plane,
    ):  # fmt: skip
        tile = cuda.shared.array(tile_size, float32)
        first = cuda.shared.array(first_size, float32)
        second = cuda.shared.array(second_size, float32)
        entries = cuda.shared.array(entries_size, float32, alignment=ALIGNMENT)
        highest = cuda.shared.array(bins_size, float32)
        floor = cuda.shared.array(1, int32)
        mixed = cuda.local.array(RUN, float32)
        shares = cuda.local.array(count, float32)

        height, width = int32(height), int32(width)
        plane = int32(cuda.blockIdx.z + first_plane)
        begin = uint64(plane) * uint64(uint32(height * width))
        left = int32(cuda.blockIdx.x * columns)
        top = int32((cuda.blockIdx.y + first_row) * rows)
        column = int32(cuda.threadIdx.x)
        group = int32(cuda.threadIdx.y)
        thread = int32(group * columns + column)
        whole = quotient(plane, int32(channels))
        image = uint64(whole)
        turn = uint64(turn)
        weigh(weights, image, turn, shares)
        share = weights[image, turn, equalised_at]

        if in_place and thread == 0:
            floor[0] = NO_FLOOR
        load_tile(state, begin, height, width, left, top, thread, tile)
        cuda.syncthreads()
        if in_place and share > ZERO:
            centre_bins(equalised, used, uint64(plane), left, top, thread, entries, highest, floor)
        if prepares:
            prepare(tile, numbers, thread, first, shares)
        if prepares or in_place:
            cuda.syncthreads()
        if completes:
            complete(first, numbers, thread, second, shares)
            cuda.syncthreads()

        row = int32(group * RUN)
        x = int32(left + column)
        y = int32(top + row)
        if x < width and y < height:
            begin += uint64(uint32(y * width + x))
            left_down = int32(height - y)
            step = uint64(width)
            for j in range(RUN):
                mixed[j] = ZERO
            column_of(tile, first, second, numbers, column, row, shares, mixed)
            _add_term(smooth, begin, step, left_down, weights[image, turn, smooth_at], mixed)
            if in_place:
                if share > ZERO:
                    bins, found = F32(int32(equalised.shape[1])), uint32(used[uint64(plane)])
                    add_equalised(tile, column, row, bins, found, entries, highest, floor, share, mixed)
            else:
                _add_term(equalised, begin, step, left_down, share, mixed)
            for j in range(RUN):
                mixed[j] = min(max(mixed[j], ZERO), ONE)
            if last:
                c = uint64(int32(plane - whole * int32(channels)))
                store_pixels(mixed, src, dst, image, uint64(y), uint64(x), c, left_down, white)
            else:
                _store_column(mixed, begin, step, left_down, out)

    return LocalMix(kept(mix_local), columns, rows)


def _list_kernels() -> None:
    """Those of the default parameters (the toolkit's filters, and each local one alone) and of the published code's."""
    small, large = FilterParams(), FilterParams.from_dict({n: 15 for n in PARAMETERS if n.endswith("_window")})
    disk = FilterParams(bilateral_footprint="disk")
    toolkit, local_ones = {"toolkit": FILTERS}, [name for name in FILTERS if name in PARTS]
    narrow, wide = COLUMNS
    for params, note, columns, choices in (
        (small, "windows of 7", narrow, {**toolkit, **{name: (name,) for name in PARTS}}),
        (small, f"windows of 7, {wide} columns", wide, {**toolkit, "local filters": local_ones}),
        (disk, "disk of 7", narrow, toolkit),
        (FilterParams.published_code(), "published code", narrow, toolkit),
        (large, "windows of 15", narrow, {**toolkit, "median": ("median",)}),
    ):
        for choice, names in choices.items():
            by_place = "spatiogram" in names and params.spatiogram_method == "spatiogram"
            parts = parts_of(params, [name in names for name in TABLE])
            made = local_mix(parts, Ends(columns, by_place, luma=False, integers=True))
            terms = (float32[:, :, ::1], int32[::1]) if by_place else (float32[::1], float32[::1])
            listed(made.kernel, *(float32[::1],) * 2, *terms, *_SIGNATURE, note=f"{choice}, {note}")


_SIGNATURE = (
    int64, int64, float32[:, :, ::1], int64, int64, float32[::1], float32[::1], *(uint8[:, :, :, :],) * 2, float32,
    int64, int64, int64,
)  # fmt: skip
_list_kernels()
