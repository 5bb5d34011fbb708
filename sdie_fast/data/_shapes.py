"""Outlines that the defects are drawn from.

A shape is a plane of signed distances to its outline in pixels, positive inside: approximate away
from the outline, good enough near it to draw an edge of a given width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ._texture import Plane, Rng, blur, log_uniform, noise

Mask = npt.NDArray[np.bool_]

# Distance of what is nowhere near a shape, in pixels.
_FAR = -1e6


@dataclass(frozen=True)
class Canvas:
    """What a defect is drawn on.

    Attributes
    ----------
    shape : (int, int)
        Height (along the rolling direction) and width in pixels.
    roughness : float
        Relative standard deviation of the texture that hides a defect.
    """

    shape: tuple[int, int]
    roughness: float

    @property
    def unit(self) -> float:
        """Pixels to a 200th of the image's side: defects grow with the image, grain does not."""
        return float(np.sqrt(self.shape[0] * self.shape[1]) / 200)

    @cached_property
    def y(self) -> Plane:
        """Row numbers, (H, 1)."""
        return np.arange(self.shape[0], dtype=np.float64)[:, None]

    @cached_property
    def x(self) -> Plane:
        """Column numbers, (1, W)."""
        return np.arange(self.shape[1], dtype=np.float64)[None, :]

    def place(self, rng: Rng, margin: float = 0.1) -> tuple[float, float]:
        """Random row and column; a negative margin (a share of the side) lets it lie outside."""
        height, width = self.shape
        return (
            float(rng.uniform(margin, 1 - margin) * (height - 1)),
            float(rng.uniform(margin, 1 - margin) * (width - 1)),
        )

    def empty(self) -> Plane:
        """Distances to no shape at all."""
        return np.full(self.shape, _FAR)

    def contrast(self, rng: Rng, low: float, high: float) -> float:
        """Relative contrast, more often low than high, and never lost in the texture."""
        floor = 2.3 * self.roughness
        return log_uniform(rng, max(low, floor), max(high, 1.6 * floor))


@dataclass(frozen=True)
class Defect:
    """What a defect does to a sound strip, and where it is.

    Attributes
    ----------
    gain : ndarray, (H, W)
        Factor on the grey level.
    mask : ndarray, bool, (H, W)
        True on the defect.
    shine : ndarray, (H, W), optional
        Mirrored light, added as a share of the strip's mean grey level.
    damping : ndarray, (H, W), optional
        Share of the fine texture that the defect covers, 0 to 1.
    """

    gain: Plane
    mask: Mask
    shine: Plane | None = None
    damping: Plane | None = None


def _shape(plane: Plane) -> tuple[int, int]:
    return plane.shape[0], plane.shape[1]


def cover(distance: Plane, softness: float) -> Plane:
    """Coverage, 0 to 1, by a shape whose edge is 2 * softness pixels wide (at least 1.2)."""
    t = np.clip(0.5 + distance / (2 * max(softness, 0.6)), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def merge(first: Plane, second: Plane, reach: float) -> Plane:
    """Union of two shapes; where both outlines pass within `reach` pixels they flow together."""
    if reach <= 0:
        return np.maximum(first, second)
    near = np.clip(1 - np.abs(first - second) / reach, 0, None)
    return np.asarray(np.maximum(first, second) + 0.25 * reach * near**2)


def turned(canvas: Canvas, cy: float, cx: float, angle: float) -> tuple[Plane, Plane]:
    """Distances from a point along and across an axis, which for angle 0 is the rolling direction.

    Parameters
    ----------
    canvas : Canvas
        The image's grid.
    cy, cx : float
        Row and column of the point.
    angle : float
        Of the axis, in radians, from the rolling direction.

    Returns
    -------
    along, across : ndarray, (H, W)
        In pixels.
    """
    dy, dx = canvas.y - cy, canvas.x - cx
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(dy * cos + dx * sin), np.asarray(dx * cos - dy * sin)


def ellipse(canvas: Canvas, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Plane:
    """Ellipse with its radii (pixels) along and across an axis at an angle to the rolling."""
    along, across = turned(canvas, *centre, angle)
    return np.asarray((1 - np.hypot(along / radii[0], across / radii[1])) * min(radii))


def ragged(rng: Rng, distance: Plane, scale: tuple[float, float], depth: float, *, slope: float | None = 1.5) -> Plane:
    """Displace an outline by random `depth` pixels, correlated over `scale` along and across."""
    return distance + depth * noise(rng, _shape(distance), *scale, slope=slope)


def traced(coverage: Plane, unit: float) -> Mask:
    """Mask of a shape as one would trace it: what is mostly covered, without its finest fringe."""
    return np.asarray(blur(coverage, max(1.2 * unit, 0.5)) > 0.5)


def relief(height: Plane, azimuth: float, sigma: float) -> Plane:
    """Shading of a raised shape by a lamp: positive on the side that faces it.

    Parameters
    ----------
    height : ndarray, (H, W)
        Coverage of the shape, 0 to 1.
    azimuth : float
        Direction of the lamp, in radians, from the rolling direction.
    sigma : float
        Width of the flanks in pixels.

    Returns
    -------
    ndarray, (H, W), within about -1 and 1
    """
    soft = blur(height, max(sigma, 0.5))
    gy, gx = np.gradient(soft)
    return np.asarray(-(gy * np.cos(azimuth) + gx * np.sin(azimuth)) * 2.5 * max(sigma, 0.5))


def spindle(
    rng: Rng,
    into: Plane,
    centre: tuple[float, float],
    size: tuple[float, float],
    *,
    lean: float = 0.0,
    calm: bool = False,
) -> None:
    """Draw a willow-leaf shape drawn out along the rolling direction into a plane of distances.

    Only the rows and columns that it touches are computed, so that a hundred of them are cheap.

    Parameters
    ----------
    rng : Generator
        Source of its irregularities.
    into : ndarray, (H, W)
        Distances, raised in place.
    centre : (float, float)
        Row and column.
    size : (float, float)
        Length and width in pixels.
    lean : float
        Columns that it moves per row.
    calm : bool
        Even flanks, as a liquid's.
    """
    length, width = size
    rows = slice(max(0, int(centre[0] - length / 2)), max(0, int(np.ceil(centre[0] + length / 2)) + 1))
    y = np.arange(into.shape[0], dtype=np.float64)[rows] - centre[0]
    if not y.size:
        return
    s = y / (length / 2)
    # The blunt and the pointed end; ripples of the flanks; a wandering axis.
    taper = np.clip(1 - np.abs(s) ** rng.uniform(1.5, 3.0), 0, None) ** rng.uniform(0.6, 1.1)
    taper = taper * (1 + rng.uniform(-0.5, 0.5) * s)
    rough = rng.uniform(0.06, 0.26) * (0.3 if calm else 1.0)
    axis = centre[1] + lean * y + rough * width * _waves(rng, y, length)
    half = 0.5 * width * taper * np.clip(1 + rough * _waves(rng, y, length), 0.3, 1.8)
    reach = float(np.max(half) + np.max(np.abs(axis - centre[1])) + 3)
    columns = slice(max(0, int(centre[1] - reach)), max(0, int(np.ceil(centre[1] + reach)) + 1))
    window = into[rows, columns]
    x = np.arange(into.shape[1], dtype=np.float64)
    inside = half[:, None] - np.abs(x[columns] - axis[:, None])
    # Past its ends the shape has no width: keep it from leaving a hairline there.
    np.maximum(window, np.where(np.abs(s)[:, None] < 1, inside, _FAR), out=window)


def _waves(rng: Rng, y: Plane, length: float) -> Plane:
    """Sum of a few random waves of unit strength along a shape of a given length."""
    out = np.zeros_like(y)
    for k in (0.6, 1.4, 3.1, 6.7):
        phase = rng.uniform(0, 2 * np.pi)
        out += rng.normal(0, k**-0.7) * np.sin(2 * np.pi * k * y / length + phase)
    return out
