"""The cases of `bench/bench_cuda.py`: what is enhanced, how, and what it should reach; their images; what is true of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import FILTERS, FilterParams, enhance, reference
from ..data import synthetic
from ..errors import SdieError

Planes = npt.NDArray[np.uint8]
ALL = (True,) * 6
LOCAL = tuple(name in ("identity", "bilateral", "sharpen", "guided") for name in FILTERS)
WLS_ONLY = tuple(name == "wls" for name in FILTERS)


@dataclasses.dataclass(frozen=True)
class Case:
    """Images of one size through T rounds, all active filters weighted alike."""

    name: str
    title: str
    images: int
    height: int
    width: int
    rounds: int = 1
    active: tuple[bool, ...] = ALL
    solver: str = "fast"

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.images * self.height * self.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the batch, (N, H, W)."""
        return self.images, self.height, self.width

    def params(self, footprint: str) -> FilterParams:
        """Parameters, the defaults but for solver and footprint."""
        return FilterParams(wls_solver=self.solver, bilateral_footprint=footprint)  # type: ignore[arg-type]

    def weights(self) -> npt.NDArray[np.float32]:
        """(N, T, 6), normalised."""
        row = np.array(self.active, np.float32)
        return np.tile(row / row.sum(), (self.images, self.rounds, 1))

    def tiny(self) -> Case:
        """The same at a size that the simulator can run in seconds."""
        return dataclasses.replace(self, images=min(self.images, 2), height=19, width=34)


CASES = (
    Case("round", "512 images of 200 x 200, one fast round", 512, 200, 200),
    Case("local", "512 of 200 x 200, the local filters alone", 512, 200, 200, active=LOCAL),
    Case("exact", "512 of 200 x 200, exact WLS alone", 512, 200, 200, 1, WLS_ONLY, "exact"),
    Case("single", "one image of 200 x 200, five fast rounds", 1, 200, 200, rounds=5),
    Case("square", "20 images of 1024 x 1024, one fast round", 20, 1024, 1024),
    Case("line", "one frame of 16,384 x 1,024, one fast round", 1, 1024, 16384),
)

# From which size on a GPU pays for an image on the host, its copies included: one image through one round.
CROSSOVER = tuple(
    Case("crossover", f"one image of {side} x {side}, one fast round", 1, side, side)
    for side in (64, 128, 200, 256, 512, 1024, 2048)
)


def draw(case: Case, sets: int) -> Planes:
    """Draw (sets, N, H, W) images, no two alike: synthetic surfaces, shifted and tiled."""
    kinds = ("scratch", "patch", "inclusion")
    size = min(case.height, 512), min(case.width, 512)
    tiles = [synthetic.surface(kind, seed=seed, size=size).image for seed, kind in enumerate(kinds, 3)]
    out = np.empty((sets * case.images, case.height, case.width), np.uint8)
    repeats = -(-case.height // size[0]), -(-case.width // size[1])
    for k, plane in enumerate(out):
        moved = np.roll(tiles[k % len(tiles)], (7 * k, 11 * k + k // size[1]), (0, 1))
        plane[...] = np.tile(moved, repeats)[: case.height, : case.width]
    return out.reshape(sets, *case.shape)


def sets_needed(case: Case, cache: int, most: int = 8 << 30) -> int:
    """How many sets of input and output exceed the cache four times, within `most` bytes; at least 2."""
    each = 2 * case.pixels
    return max(2, min(-(-4 * cache // each), most // each))


def truth(case: Case, footprint: str, images: Planes) -> npt.NDArray[np.float64]:
    """What (n, H, W) images become, in grey levels of 255.

    By the float64 reference, or, from 256 x 256 pixels on, by the compiled core, which is tested against it and
    gives whole levels.
    """
    params = case.params(footprint)
    weights = np.tile(case.weights()[:1], (len(images), 1, 1))
    if case.height * case.width < 256 * 256:
        result = reference.enhance(images[..., None], weights, params, white_level=255.0, per_channel=False)
        return result[..., 0] * 255.0
    return np.asarray(enhance(images, weights, params=params, backend="cpu"), np.float64)


# Grey levels that an answer may lie from the truth or from another answer of the same definition: half a level of
# rounding each, and half a level (1/510) for each round.
def bound(case: Case, *, rounded: bool) -> float:
    """Allowed difference in grey levels; rounded: both sides are whole levels."""
    return 0.5 * case.rounds + (1.0 if rounded else 0.5)


# OpenCV's fast global smoother and its equalisation are other filters than the ones they stand for: its answer, (largest,
# mean), is only looked at for being an image of the same thing.
OTHER_DEFINITION = (255.0, 64.0)


def difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float]:
    """Largest and mean difference in grey levels."""
    apart = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return float(apart.max()), float(apart.mean())


def compare(name: str, answer: npt.NDArray[Any], other: npt.NDArray[Any], allowed: float) -> str:
    """Say how far two answers are apart.

    Raises
    ------
    SdieError
        Further than allowed, or of different shapes.
    """
    if answer.shape != other.shape:
        raise SdieError(f"{name}: the answer has shape {answer.shape}; {other.shape} expected")
    most, mean = difference(answer, other)
    if not most <= allowed:
        raise SdieError(f"{name}: differs by {most:.2f} (mean {mean:.3f}) of 255; at most {allowed:g} expected")
    return f"{most:.2f} (mean {mean:.3f}) of 255"
