"""The spatiogram filter of planes on the device: its three methods, their memory and launches."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import cuda

from . import _spatiogram_levels as levels
from . import _spatiogram_place as place
from . import _spatiogram_statistics as statistics
from ._device import ceil_div

Method = Literal["spatiogram", "clahe", "global"]

# Blocks that keep a large GPU busy: 16 for each of the 132 multiprocessors of an H100 or H200.
FULL_GRID = 2112
READ_THREADS = (32, 8)


class _Buffer(NamedTuple):
    """Shape and dtype of one device array of the workspace."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)

    def allocate(self) -> Any:
        return cuda.device_array(self.shape, self.dtype)


class _Layout(NamedTuple):
    """What does not depend on the images: the cut of a plane, and the workspace."""

    rows: int  # of a cell or a tile
    columns: int
    parts: int  # blocks per plane (spatiogram) or per tile (clahe, global)
    buffers: dict[str, _Buffer]


def _layout(planes: int, height: int, width: int, method: str, bins: int, tiles: int) -> _Layout:
    buffers = {"everywhere": _Buffer((planes, 2), np.float32)}
    if method == "spatiogram":
        rows, columns = statistics.cell_side(height), statistics.cell_side(width)
        cells = ceil_div(height, rows) * ceil_div(width, columns)
        share = ceil_div(cells, ceil_div(FULL_GRID, planes))  # cells of a part
        parts = ceil_div(cells, share)
        buffers["moments"] = _Buffer((planes, parts, statistics.MOMENTS, bins), np.float64)
        buffers["records"] = _Buffer((planes, bins, statistics.RECORD), np.float32)
        buffers["used"] = _Buffer((planes,), np.int32)
        return _Layout(rows, columns, parts, buffers)
    if method == "global":
        tiles = 1
    even = height % tiles == 0 and width % tiles == 0
    rows, columns = (levels.tile_size(n, tiles, even) for n in (height, width))
    parts = levels.tile_parts(rows * columns)
    buffers["counts"] = _Buffer((planes, tiles * tiles, parts, levels.LEVELS), np.int32)
    buffers["tables"] = _Buffer((planes, tiles * tiles, levels.LEVELS), np.float32)
    return _Layout(rows, columns, parts, buffers)


class Spatiogram:
    """The sixth filter of `sdie_fast.reference` for batches of planes of one size.

    Memory is allocated here, once; a call enqueues three kernels and waits for nothing. Calls of one
    object must follow each other on one stream, since they share that memory. Results repeat to the
    bit, and an image's do not depend on the others of its batch.

    Parameters
    ----------
    planes : int
        The most planes of a call.
    height, width : int
        Of every plane, in pixels.
    method : {"spatiogram", "clahe", "global"}
    bins : int
        Intensity bins of "spatiogram", 2 to 64.
    tiles : int
        Tiles a side of "clahe", 1 to 64.

    Notes
    -----
    Errors against the reference are those of float32: at most 2e-5 on the tests' images in Numba's
    simulator, whose exponentials are NumPy's. Where the definition is not continuous they can be
    larger: a bin whose mass is around 1e-6 of a pixel may count as empty here and not there.
    """

    def __init__(self, planes: int, height: int, width: int, *, method: Method, bins: int, tiles: int) -> None:
        self.shape = (planes, height, width)
        self.method = method
        self.bins = bins
        self.tiles = 1 if method == "global" else tiles
        self._layout = _layout(planes, height, width, method, bins, tiles)
        self._memory = {name: b.allocate() for name, b in self._layout.buffers.items()}
        # Every other element: the type of a column of weights, which spares a second compilation.
        self._everywhere = self._memory["everywhere"][:, 0]
        self._memory["everywhere"].copy_to_device(np.ones((planes, 2), np.float32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int, *, method: Method, bins: int, tiles: int) -> int:
        """Bytes of device memory that an object of these arguments holds."""
        buffers = _layout(planes, height, width, method, bins, tiles).buffers
        return sum(buffer.nbytes for buffer in buffers.values())

    def __call__(self, image: Any, out: Any, *, clip_limit: float, active: Any = None, stream: Any = 0) -> None:
        """Equalise planes; enqueued on the stream.

        Parameters
        ----------
        image, out : (n, H, W) float32 device arrays, C-contiguous
            Intensities in [0, 1]; n at most the planes of this object. They may be the same array.
        clip_limit : float
            Of "clahe": the most counts of a level, over the mean.
        active : (n,) float32 device array, optional
            A plane whose entry is 0 is not computed: its part of `out` stays as it was.
        stream : numba stream, optional
            0 is the default stream.
        """
        n = image.shape[0]
        if n == 0:
            return
        weights = self._everywhere if active is None else active
        if self.method == "spatiogram":
            self._by_place(n, image, out, weights, stream)
        else:
            self._by_level(n, image, out, clip_limit, weights, stream)

    def _by_place(self, n: int, image: Any, out: Any, active: Any, stream: Any) -> None:
        _, height, width = self.shape
        rows, columns, parts, _ = self._layout
        moments, records, used = (self._memory[k] for k in ("moments", "records", "used"))
        bin_bits = (self.bins - 1).bit_length()
        # No more threads than there are pairs of a bin and a row.
        pairs = max(32, (rows << bin_bits) - 1)
        threads = min(statistics.THREADS, 1 << pairs.bit_length())
        sizes = np.array([self.bins, bin_bits, rows, columns, parts], np.int32)
        statistics.gather_moments[n * parts, threads, stream](image, active, *sizes, moments)
        statistics.finish_bins[n, statistics.THREADS, stream](moments, active, *sizes[[0, 1, 4]], records, used)
        across, down = place.patch_threads(height, width)
        blocks = n * ceil_div(width, across) * ceil_div(height, down * place.RUN)
        place.equalise_by_place[blocks, (across, down), stream](image, active, sizes[0], records, used, out)

    def _by_level(self, n: int, image: Any, out: Any, clip_limit: float, active: Any, stream: Any) -> None:
        _, height, width = self.shape
        rows, columns, parts, _ = self._layout
        counts, tables = self._memory["counts"], self._memory["tables"]
        area = rows * columns
        limit = area if self.method == "global" else levels.count_limit(clip_limit, rows, columns)
        sizes = np.array([self.tiles, rows, columns, parts, limit], np.int32)
        blocks = n * self.tiles * self.tiles
        threads = min(levels.COUNT_THREADS, 32 * ceil_div(area, 32))
        levels.count_levels[blocks * parts, threads, stream](image, active, *sizes[:4], counts)
        levels.make_tables[blocks, levels.TABLE_THREADS, stream](
            counts, active, sizes[4], sizes[3], np.float32(area), tables
        )
        across, down = READ_THREADS
        blocks = n * ceil_div(width, across) * ceil_div(height, down)
        levels.read_tables[blocks, READ_THREADS, stream](image, active, *sizes[:3], tables, out)
