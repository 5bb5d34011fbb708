"""The fused kernel of a round: the local filters, the other terms, their mix.

A block of threads holds a tile of one plane in shared memory, with as large a halo as the filters in
use need, reflected at the image's border, and writes 32 x `rows` pixels. Windows are separable where the
filter is: `parts` says what each does, in up to three steps with barriers between, along rows or down
columns. Two more arrays of shared memory, `first` and `second`, hold what one step leaves for a later one.

Each thread works on a run of `RUN` pixels, so that a running sum or a column of values in registers
serves all of them. Threads side by side take columns side by side where they walk down, and rows
one below the other where they walk along (rows have an odd pitch): either way no two of a warp meet
in one bank of shared memory.

Arithmetic is float32. The special function unit's exponential, 48 a pixel for a bilateral window of 7, is
the scarcest resource: 16 results a cycle of a multiprocessor against 128 of anything else.

Not measured on a GPU: none was at hand. Counted from the machine code for compute capability 9.0, the
toolkit's filters at a window of 7 take about 520 instructions a pixel, of which the bilateral filter
has 300; nothing is spilled from registers, of which a thread takes 72. The median takes some 60 for each
of its window's pixels.

A kernel is compiled for its parts' windows and choices alone; a filter without weight has no part.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda, float32, int32, int64

from ..filters import FILTERS, PARAMETERS, TABLE, FilterParams
from . import LOCAL
from .kernels import INDEX, ONE, PIXEL, PLACE, POSITION, ZERO, ceil_div, listed, part, reflect
from .parts import COLUMNS, RUN, Part, Places, Tile

__all__ = ["LocalMix", "local_mix", "numbers", "parts_of"]

PARTS: dict[str, type[Part]] = {
    name: getattr(importlib.import_module(f".parts.{name}", __package__), name.capitalize()) for name in LOCAL
}

AHEAD = 4  # rows a thread reads before it stores them
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
    first, second = (sum(size) for size in zip(*(p.shared(at.rows) for p in parts), strict=True))
    return at.height * at.pitch, first or 1, second or 1


def shared_bytes(parts: Sequence[Part], at: Tile) -> int:
    """Bytes of a block's shared memory."""
    return 4 * (sum(shared_floats(parts, at)) + at.height + at.width)


def lay_out(parts: Sequence[Part]) -> Tile:
    """The most rows, up to `MAX_ROWS`, that fit a block's shared memory."""
    halo = max(p.halo for p in parts)
    tiles = (Tile(rows, halo) for rows in range(MAX_ROWS, 0, -RUN))
    return next(tile for tile in tiles if shared_bytes(parts, tile) <= SHARED_BYTES)


def _loader(at: Tile) -> tuple[Any, Any]:
    tile_rows, tile_columns, pitch, halo = at.height, at.width, at.pitch, at.halo
    step, threads = at.rows // RUN, at.threads
    places = ceil_div(max(tile_rows, tile_columns), threads)
    across = ceil_div(tile_columns, COLUMNS)
    groups = ceil_div(tile_rows, step * AHEAD)
    flight = AHEAD * across

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
        x = cuda.local.array(across, int64)
        for k in range(across):
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
                    for k in range(across):
                        values[i * across + k] = state[(start + x[k]) & PIXEL]
            for i in range(AHEAD):
                row = top + i * step
                if row < tile_rows:
                    for k in range(across):
                        column = (cuda.threadIdx.x + k * COLUMNS) & INDEX
                        if column < tile_columns:
                            tile[row * pitch + column] = values[i * across + k]

    return find_tile, load_tile


@part
def _add_term(source, first, width, count, weight, mixed):
    """Add weight * source to a column's run of `count` pixels, `width` apart."""
    if weight > ZERO:
        if count >= RUN:
            for j in range(RUN):
                mixed[j] += weight * source[(first + j * width) & PIXEL]
        else:
            for j in range(RUN):
                if j < count:
                    mixed[j] += weight * source[(first + j * width) & PIXEL]


@part
def _store_column(mixed, first, width, count, out):
    """Write a column's run, clipped to [0, 1]."""
    if count >= RUN:
        for j in range(RUN):
            out[(first + j * width) & PIXEL] = min(max(mixed[j], ZERO), ONE)
    else:
        for j in range(RUN):
            if j < count:
                out[(first + j * width) & PIXEL] = min(max(mixed[j], ZERO), ONE)


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
    """A compiled choice of filters; its block has (32, rows / RUN) threads."""

    kernel: Any
    rows: int

    @property
    def block(self) -> tuple[int, int]:
        """Threads along x and y."""
        return COLUMNS, self.rows // RUN


@functools.lru_cache(maxsize=64)
def local_mix(parts: tuple[Part, ...]) -> LocalMix:
    """The fused kernel of these parts.

    Its arguments: ``state, smooth, equalised, out``, planes one after another, (n * H * W,), of
    ``height`` and ``width``; ``weights`` (N, T, filters of the table) and ``turn`` < T; ``channels``,
    planes of one image; the `numbers` of the parameters; ``first_row`` and ``first_plane`` of the launch.
    `smooth` (of wls) and `equalised` (of spatiogram) are read where their weight is not zero; `out`
    may be either of them, but not `state`.
    """
    at = lay_out(parts)
    rows, tile_rows, tile_columns, count = at.rows, at.height, at.width, len(parts)
    tile_size, first_size, second_size = shared_floats(parts, at)
    find_tile, load_tile = _loader(at)
    weighted, first, second = [], 0, 0
    for k, made in enumerate(parts):
        weighted.append(_weighted(made, k, at, Places(first, second, _number_at[made.name])))
        own_first, own_second = made.shared(rows)
        first, second = first + own_first, second + own_second
    weigh, prepare, complete, column_of = (
        functools.reduce(_both, filter(None, steps), _nothing) for steps in zip(*weighted, strict=True)
    )
    prepares, completes = (any(step[k] for step in weighted) for k in (1, 2))
    smooth_at, equalised_at = POSITION["wls"], POSITION["spatiogram"]

    @cuda.jit(fastmath=True)
    def mix_local(
        state, smooth, equalised, out, height, width, weights, turn, channels, numbers, first_row, first_plane
    ):  # fmt: skip
        tile_y = cuda.shared.array(tile_rows, int32)
        tile_x = cuda.shared.array(tile_columns, int32)
        tile = cuda.shared.array(tile_size, float32)
        first = cuda.shared.array(first_size, float32)
        second = cuda.shared.array(second_size, float32)
        mixed = cuda.local.array(RUN, float32)
        shares = cuda.local.array(count, float32)

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
        weigh(weights, image, turn, shares)

        find_tile(height, width, left, top, thread, tile_y, tile_x)
        cuda.syncthreads()
        load_tile(state, pixels, width, tile_y, tile_x, tile)
        cuda.syncthreads()
        if prepares:
            prepare(tile, numbers, thread, first, shares)
            cuda.syncthreads()
        if completes:
            complete(first, numbers, thread, second, shares)
            cuda.syncthreads()

        row = group * RUN
        x = (left + column) & PLACE
        y = (top + row) & PLACE
        if x < width and y < height:
            begin = pixels + y * width + x
            left_down = height - y
            for j in range(RUN):
                mixed[j] = ZERO
            column_of(tile, first, second, numbers, column, row, shares, mixed)
            _add_term(smooth, begin, width, left_down, weights[image, turn, smooth_at], mixed)
            _add_term(equalised, begin, width, left_down, weights[image, turn, equalised_at], mixed)
            _store_column(mixed, begin, width, left_down, out)

    return LocalMix(mix_local, rows)


def _list_kernels() -> None:
    """Those of the default parameters (the toolkit's filters, and each local one alone) and of the published code's."""
    small, large = FilterParams(), FilterParams.from_dict({n: 15 for n in PARAMETERS if n.endswith("_window")})
    disk = FilterParams(bilateral_footprint="disk")
    toolkit = {"toolkit": FILTERS}
    for params, note, choices in (
        (small, "windows of 7", {**toolkit, **{name: (name,) for name in PARTS}}),
        (disk, "disk of 7", toolkit),
        (FilterParams.published_code(), "published code", toolkit),
        (large, "windows of 15", {**toolkit, "median": ("median",)}),
    ):
        for choice, names in choices.items():
            made = local_mix(parts_of(params, [name in names for name in TABLE]))
            listed(made.kernel, *_SIGNATURE, note=f"{choice}, {note}")


_SIGNATURE = (
    *(float32[::1],) * 4, int64, int64, float32[:, :, ::1], int64, int64, float32[::1], int64, int64,
)  # fmt: skip
_list_kernels()
