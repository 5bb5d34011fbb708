"""The tile of a plane that a block of the fused kernel holds: its layout, its reading, its writing."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, float32, int64

from ._device import INDEX, ONE, PIXEL, PLACE, ZERO, part, reflect

COLUMNS = 32  # of a tile: one warp
RUN = 8  # pixels a thread computes
AHEAD = 4  # rows a thread reads before it stores them
SHARED_BYTES = 48 * 1024  # static shared memory of a block
MAX_ROWS = 32


class Layout(NamedTuple):
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


def lay_out(bilateral: int, sharpen: int, guided: int) -> Layout:
    """The most rows, up to `MAX_ROWS`, that fit a block's shared memory."""
    halo = max(bilateral, sharpen, 2 * guided)
    for rows in range(MAX_ROWS, 0, -RUN):
        found = Layout(
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


def loader(at: Layout) -> tuple[Any, Any]:
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
