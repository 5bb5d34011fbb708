"""Equalisation by spatiogram, by tiles or as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._filter import Filter, Operations, Plane, choice, integer, real

__all__ = ["EMPTY_MASS", "LEVELS", "Index", "Spatiogram", "bin_shares", "spatiogram_statistics"]

Index = npt.NDArray[np.intp]

EMPTY_MASS = 1e-6  # below what float32 resolves of one pixel's share: such a bin counts as empty
LEVELS = 256  # of "clahe" and "global"


def bin_shares(g: Plane, bins: int) -> npt.NDArray[np.float64]:
    """Share of every pixel in every bin, (bins, H, W): linear between neighbouring bin centres."""
    t = g * bins - 0.5
    lower = np.floor(t)
    upper_share = t - lower
    shares = np.zeros((bins, *g.shape))
    for b in range(bins):
        shares[b] += np.where(np.clip(lower, 0, bins - 1) == b, 1.0 - upper_share, 0.0)
        shares[b] += np.where(np.clip(lower + 1, 0, bins - 1) == b, upper_share, 0.0)
    return shares


def spatiogram_statistics(g: Plane, bins: int) -> tuple[Plane, Plane, Plane]:
    """Mass (bins,), mean position (x, y) (bins, 2) and covariance (bins, 2, 2), in pixels.

    The covariance has one pixel squared added to both its diagonal entries.
    """
    h, w = g.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    mass = np.zeros(bins)
    mean = np.zeros((bins, 2))
    covariance = np.tile(np.eye(2), (bins, 1, 1))
    for b, share in enumerate(bin_shares(g, bins)):
        mass[b] = share.sum()
        if mass[b] < EMPTY_MASS:
            mass[b] = 0.0
            continue
        mean[b] = (share * x).sum() / mass[b], (share * y).sum() / mass[b]
        dx, dy = x - mean[b, 0], y - mean[b, 1]
        cross = (share * dx * dy).sum()
        covariance[b] += np.array([[(share * dx * dx).sum(), cross], [cross, (share * dy * dy).sum()]]) / mass[b]
    return mass, mean, covariance


def _spatiogram(g: Plane, bins: int) -> Plane:
    """Equalise by place: the sum of P(b|x) ~ n_b N(x; m_b, S_b) over the bins up to g(x)."""
    h, w = g.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    mass, mean, covariance = spatiogram_statistics(g, bins)
    log = np.full((bins, h, w), -np.inf)
    for b in np.flatnonzero(mass):
        d = np.stack([x - mean[b, 0], y - mean[b, 1]], axis=-1)
        distance = np.einsum("hwi,ij,hwj->hw", d, np.linalg.inv(covariance[b]), d)
        log[b] = np.log(mass[b]) - 0.5 * (distance + np.log(np.linalg.det(covariance[b])))
    # Log-sum-exp: the largest term is 1, so that far from every bin nothing is divided by 0.
    p = np.exp(log - log.max(axis=0))
    p /= p.sum(axis=0)
    level = g * bins
    k = np.minimum(np.floor(level), bins - 1).astype(np.intp)[None]
    below = np.take_along_axis(np.cumsum(p, axis=0) - p, k, axis=0)[0]
    return np.asarray(below + np.take_along_axis(p, k, axis=0)[0] * (level - k[0]))


def _level_counts(g: Plane) -> Plane:
    """Histogram of g over 256 levels, each pixel split between the two nearest."""
    t = np.clip(g, 0.0, 1.0).ravel() * (LEVELS - 1)
    lower = np.floor(t).astype(np.intp)
    share = t - lower
    counts = np.bincount(lower, 1.0 - share, LEVELS)
    return np.asarray(counts + np.bincount(np.minimum(lower + 1, LEVELS - 1), share, LEVELS))


def _spread(excess: float) -> Plane:
    """Give the clipped counts back to the levels, as OpenCV does: evenly, the remainder one by one.

    Between whole counts, which only images between 8-bit levels have, linear: so that a rounding
    error of the image is not one of a whole count at up to 128 levels.
    """

    def whole(count: int) -> Plane:
        counts = np.full(LEVELS, float(count // LEVELS))
        remainder = count % LEVELS
        if remainder:
            step = LEVELS // remainder
            counts[: remainder * step : step] += 1.0
        return counts

    low = int(excess)
    share = excess - low
    return (1.0 - share) * whole(low) + share * whole(low + 1)


def _equalise_tiles(g: Plane, tiles: int, clip_limit: float) -> Plane:
    """Equalise by tiles, contrast-limited, as OpenCV's CLAHE of 8 bits but without rounding.

    All images have 256 levels, where OpenCV gives 16-bit ones 65,536: so few pixels share one that its limit, of a
    pixel at least, cuts off next to nothing.
    """
    h, w = g.shape
    if h % tiles == 0 and w % tiles == 0:
        padded = g
    else:
        padded = np.pad(g, ((0, tiles - h % tiles), (0, tiles - w % tiles)), mode="reflect")
    th, tw = padded.shape[0] // tiles, padded.shape[1] // tiles
    clip = max(1, int(clip_limit * th * tw / LEVELS))
    table = np.empty((tiles, tiles, LEVELS))
    for i in range(tiles):
        for j in range(tiles):
            counts = _level_counts(padded[i * th : (i + 1) * th, j * tw : (j + 1) * tw])
            excess = np.maximum(counts - clip, 0.0).sum()
            counts = np.minimum(counts, clip) + _spread(excess)
            table[i, j] = np.cumsum(counts) / (th * tw)

    def place(n: int, size: int) -> tuple[Index, Index, Plane]:
        """Both neighbouring tiles of n pixels, and how far each pixel is from the first."""
        t = np.arange(n) / size - 0.5
        low = np.floor(t).astype(np.intp)
        return np.maximum(low, 0), np.minimum(low + 1, tiles - 1), t - low

    i0, i1, fy = place(h, th)
    j0, j1, fx = place(w, tw)
    t = np.clip(g, 0.0, 1.0) * (LEVELS - 1)
    low = np.floor(t).astype(np.intp)
    high = np.minimum(low + 1, LEVELS - 1)

    def read(i: Index, j: Index) -> Plane:
        """Look every pixel up in the table of its tile (i[y], j[x]), linear between levels."""
        at = table[i[:, None], j[None, :]]
        a = np.take_along_axis(at, low[..., None], axis=2)[..., 0]
        b = np.take_along_axis(at, high[..., None], axis=2)[..., 0]
        value: Plane = a + (t - low) * (b - a)
        return value

    top = read(i0, j0) * (1 - fx) + read(i0, j1) * fx
    bottom = read(i1, j0) * (1 - fx) + read(i1, j1) * fx
    return top * (1 - fy[:, None]) + bottom * fy[:, None]


@dataclass(frozen=True)
class Spatiogram(Filter):
    """Equalise contrast by a spatially weighted histogram.

    The spatiogram is that of Birchfield & Rangarajan (2005), a histogram whose bins know where their pixels lie; they
    define no image filter, and this one is the project's own.
    """

    name = "spatiogram"
    colour = "#cc79a7"
    turn = 7
    whole_image = True

    method: Literal["spatiogram", "clahe", "global"] = choice(
        ("spatiogram", "clahe", "global"),
        '"spatiogram" weights each intensity bin by a Gaussian over its pixels\' positions; "clahe" is contrast-limited '
        'adaptive equalisation by tiles, on 256 levels, for 8-bit images OpenCV\'s; "global" is plain histogram '
        "equalisation.",
        published="clahe",
    )
    bins: int = integer(32, 2, 64, 'Intensity bins of "spatiogram"')
    clip_limit: float = real(
        1.0, 0.0, 100.0, 'Contrast limit of "clahe": most counts in a level over the mean', above=True, choosable=True
    )
    tiles: int = integer(5, 1, 64, 'Tiles a side of "clahe"')

    def operations(self) -> Operations:
        """Six moments in two bins, two readings of three points, twelve to blend."""
        return Operations(12 + 24)

    def reference(self, g: Plane) -> Plane:
        """Equalise the histogram, by place or as a whole.

        "spatiogram": at each place the bins weigh as much as their pixels lie near it. "clahe" is OpenCV's
        contrast-limited equalisation of 8-bit images, "global" scikit-image's ``equalize_hist``, both on 256 levels and
        made continuous: a value between two levels, of a 16-bit or a float image, counts for, and reads, both. OpenCV's
        of 16-bit images has 65,536 levels and gives other pictures.
        """
        if self.method == "spatiogram":
            return _spatiogram(g, self.bins)
        if self.method == "clahe":
            return _equalise_tiles(g, self.tiles, self.clip_limit)
        cumulative = np.cumsum(_level_counts(g)) / g.size
        return np.interp(np.clip(g, 0.0, 1.0) * (LEVELS - 1), np.arange(LEVELS), cumulative)
