"""What is enhanced on the GPU, and how; the images; and what is true of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from sdie_fast import FILTERS, FilterParams, enhance
from sdie_fast.data import synthetic

__all__ = ["CROSSOVER", "WORKLOADS", "Workload", "draw", "sets_needed", "truth"]

Planes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Images of one size through so many rounds of some filters, all weighted alike."""

    name: str
    title: str
    images: int
    height: int
    width: int
    rounds: int = 1
    filters: tuple[str, ...] = FILTERS
    solver: str = "fast"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the batch, (N, H, W)."""
        return self.images, self.height, self.width

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.images * self.height * self.width

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """Of a batch, (N, T, filters), normalised."""
        count = len(self.filters)
        return np.full((self.images, self.rounds, count), 1 / count, np.float32)

    def params(self, footprint: str) -> FilterParams:
        """Parameters, the defaults but for solver and footprint."""
        return FilterParams(wls_solver=self.solver, bilateral_footprint=footprint)  # type: ignore[arg-type]

    def tiny(self) -> Workload:
        """The same at a size that Numba's simulator can run in seconds."""
        return dataclasses.replace(self, images=min(self.images, 2), height=19, width=34)


LOCAL = ("identity", "bilateral", "sharpen", "guided")
WORKLOADS = (
    Workload("round", "512 images of 200 x 200, one fast round", 512, 200, 200),
    Workload("local", "512 of 200 x 200, the local filters alone", 512, 200, 200, filters=LOCAL),
    Workload("exact", "512 of 200 x 200, exact WLS alone", 512, 200, 200, 1, ("wls",), "exact"),
    Workload("single", "one image of 200 x 200, five fast rounds", 1, 200, 200, rounds=5),
    Workload("square", "20 images of 1024 x 1024, one fast round", 20, 1024, 1024),
    Workload("line", "one frame of 16,384 x 1,024, one fast round", 1, 1024, 16384),
)

# From which size on a GPU pays for an image on the host, its copies included: one image through one round.
CROSSOVER = tuple(
    Workload("crossover", f"one image of {side} x {side}, one fast round", 1, side, side)
    for side in (64, 128, 200, 256, 512, 1024, 2048)
)


def draw(work: Workload, sets: int) -> Planes:
    """Draw (sets, N, H, W) images, no two alike: synthetic surfaces, shifted and tiled."""
    kinds = ("scratch", "patch", "inclusion")
    size = min(work.height, 512), min(work.width, 512)
    tiles = [synthetic.surface(kind, seed=seed, size=size).image for seed, kind in enumerate(kinds, 3)]
    out = np.empty((sets * work.images, work.height, work.width), np.uint8)
    repeats = -(-work.height // size[0]), -(-work.width // size[1])
    for k, plane in enumerate(out):
        moved = np.roll(tiles[k % len(tiles)], (7 * k, 11 * k + k // size[1]), (0, 1))
        plane[...] = np.tile(moved, repeats)[: work.height, : work.width]
    return out.reshape(sets, *work.shape)


def sets_needed(work: Workload, cache: int, most: int = 8 << 30) -> int:
    """How many sets of input and output exceed the cache (bytes) four times, within `most` bytes; at least 2."""
    each = 2 * work.pixels
    return max(2, min(-(-4 * cache // each), most // each))


def truth(work: Workload, footprint: str, images: Planes) -> npt.NDArray[np.float32]:
    """What (n, H, W) uint8 images become, in [0, 1], not rounded.

    By the float64 reference, or, from 256 x 256 pixels on, by the compiled core, which is tested against it.
    """
    backend = "reference" if work.height * work.width < 256 * 256 else "cpu"
    planes = images.astype(np.float32) / np.float32(255)
    weights = work.weights[0]
    return np.asarray(enhance(planes, weights, filters=work.filters, params=work.params(footprint), backend=backend))
