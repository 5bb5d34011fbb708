"""The twelve kinds of defect: each paints on a surface and says which pixels it owns.

A painter takes (rng, surface, grain) and returns (surface, mask). Shapes vary in number, place, size, direction and
contrast; a mask is where the paint is at least half as strong as it gets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ._texture import Field, coordinates, noise, smoothstep

Mask = npt.NDArray[np.bool_]
Painter = Callable[[np.random.Generator, Field, float], tuple[Field, Mask]]


def _contrast(rng: np.random.Generator, grain: float, low: float, high: float) -> float:
    """A step of some multiples of the grain, as a share of the surface's brightness."""
    return float(rng.uniform(low, high) * grain)


def _blob(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    centre: tuple[float, float],
    radii: tuple[float, float],
    ragged: float,
    angle: float = 0.0,
    detail: float = 6.0,
) -> Field:
    """Signed distance, in units of the radii, from an ellipse with a ragged outline: negative inside."""
    y, x = coordinates(*shape)
    dy, dx = y - centre[0], x - centre[1]
    u = (dy * np.cos(angle) + dx * np.sin(angle)) / radii[0]
    v = (-dy * np.sin(angle) + dx * np.cos(angle)) / radii[1]
    outline = noise(rng, *shape, scale=(detail, detail)) * 0.5
    outline += noise(rng, *shape, scale=(4 * detail, 4 * detail))
    return np.hypot(u, v) - 1.0 + ragged * outline


def _place(rng: np.random.Generator, shape: tuple[int, int], margin: float = 0.12) -> tuple[float, float]:
    h, w = shape
    return (
        float(rng.uniform(margin * h, (1 - margin) * h)),
        float(rng.uniform(margin * w, (1 - margin) * w)),
    )


def _size(shape: tuple[int, int]) -> float:
    return float(min(shape))


def _ink(strength: Field) -> Mask:
    peak = float(strength.max())
    return strength >= 0.5 * peak if peak > 0 else np.zeros(strength.shape, bool)


def _line(
    shape: tuple[int, int], start: tuple[float, float], end: tuple[float, float], wobble: Field
) -> tuple[Field, Field]:
    """Distance from a segment, and the place along it from 0 to 1 (unclipped)."""
    y, x = coordinates(*shape)
    dy, dx = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(dy, dx)), 1e-6)
    along = ((y - start[0]) * dy + (x - start[1]) * dx) / length**2
    across = ((x - start[1]) * dy - (y - start[0]) * dx) / length + wobble
    return np.abs(across), along


def scratch(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Bright thin lines, mostly along or across the strip, of uneven depth; some are broad scores."""
    shape = surface.shape
    size = _size(shape)
    total = np.zeros(shape)
    upright = rng.random() < 0.65
    for _ in range(int(rng.integers(1, 5))):
        y, x = _place(rng, shape)
        length = size * rng.uniform(0.35, 1.6)
        angle = rng.normal(0.0, 0.06) + (0.0 if upright else np.pi / 2)
        half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        wobble = noise(rng, *shape, scale=(size / 4, size / 4)) * rng.uniform(0.2, 1.2)
        distance, along = _line(shape, (y - half[0], x - half[1]), (y + half[0], x + half[1]), wobble)
        width = rng.uniform(0.9, 2.2) if rng.random() < 0.8 else rng.uniform(3.0, 7.0)
        ends = smoothstep((0.5 - np.abs(along - 0.5)) * 8.0)
        depth = 0.75 + 0.25 * noise(rng, *shape, scale=(14.0, 14.0))
        total = np.maximum(total, smoothstep(1.5 - distance / width) * ends * np.clip(depth, 0.35, 1.0))
    step = _contrast(rng, grain, 5.0, 14.0)
    return surface + step * total, total >= 0.4


def inclusion(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Dark spindles drawn out along the rolling direction, alone or in strings."""
    shape = surface.shape
    size = _size(shape)
    total = np.zeros(shape)
    y0, x0 = _place(rng, shape)
    for _ in range(int(rng.integers(1, 7))):
        centre = (y0 + rng.normal(0.0, size / 5), x0 + rng.normal(0.0, size / 14))
        radii = (size * rng.uniform(0.05, 0.22), max(size * rng.uniform(0.007, 0.022), 1.2))
        d = _blob(rng, shape, centre=centre, radii=radii, ragged=0.16, angle=rng.normal(0, 0.04), detail=3.0)
        total = np.maximum(total, smoothstep(-d * 1.6 + 0.5))
    step = _contrast(rng, grain, 3.0, 7.0)
    return surface * (1.0 - np.clip(step / np.maximum(surface, 0.1), 0.0, 0.7) * total), total >= 0.5


def _patches(
    rng: np.random.Generator,
    surface: Field,
    *,
    count: tuple[int, int],
    share: tuple[float, float],
    ragged: float,
    edge: float,
    aspect: tuple[float, float] = (0.7, 1.6),
    detail: float = 6.0,
) -> Field:
    shape = surface.shape
    size = _size(shape)
    total = np.zeros(shape)
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        radius = size * rng.uniform(*share)
        ratio = rng.uniform(*aspect)
        d = _blob(
            rng,
            shape,
            centre=_place(rng, shape),
            radii=(radius * ratio, radius / ratio),
            ragged=ragged,
            angle=rng.uniform(-0.3, 0.3),
            detail=detail,
        )
        total = np.maximum(total, smoothstep(0.5 - d / edge))
    return total


def patch(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Large dark patches with ragged outlines and a mottled inside."""
    total = _patches(rng, surface, count=(1, 4), share=(0.07, 0.2), ragged=0.16, edge=0.22, aspect=(0.8, 1.9))
    mottled = 1.0 + 0.15 * noise(rng, *surface.shape, scale=(8.0, 8.0))
    step = np.clip(_contrast(rng, grain, 5.0, 10.0) / np.maximum(surface, 0.1), 0.0, 0.75)
    return surface * (1.0 - step * total * mottled), _ink(total)


def oil_spot(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Smooth dark spots with soft edges, drawn out a little."""
    total = _patches(
        rng, surface, count=(1, 5), share=(0.035, 0.12), ragged=0.05, edge=0.5, aspect=(0.9, 1.8), detail=12.0
    )
    step = np.clip(_contrast(rng, grain, 3.0, 7.0) / np.maximum(surface, 0.1), 0.0, 0.6)
    return surface * (1.0 - step * total), _ink(total)


def water_spot(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Pale dried drops: a faint inside and a brighter rim."""
    shape = surface.shape
    size = _size(shape)
    filled = np.zeros(shape)
    rim = np.zeros(shape)
    for _ in range(int(rng.integers(2, 8))):
        radius = size * rng.uniform(0.03, 0.11)
        d = _blob(rng, shape, centre=_place(rng, shape), radii=(radius, radius * rng.uniform(0.8, 1.2)), ragged=0.05)
        filled = np.maximum(filled, smoothstep(0.5 - d / 0.15))
        rim = np.maximum(rim, np.exp(-0.5 * ((d + 0.1) / 0.12) ** 2))
    step = _contrast(rng, grain, 1.8, 4.0)
    return surface + step * (0.55 * filled + 0.8 * rim * filled), filled >= 0.5


def liquid(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """A spill that ran down the strip: dark runs from a pool, darkest at the edge."""
    shape = surface.shape
    size = _size(shape)
    y, x = _place(rng, shape, 0.2)
    radius = size * rng.uniform(0.06, 0.13)
    d = _blob(rng, shape, centre=(y, x), radii=(radius, radius * rng.uniform(0.8, 1.6)), ragged=0.12)
    yy, xx = coordinates(*shape)
    for _ in range(int(rng.integers(1, 4))):
        length = size * rng.uniform(0.15, 0.6)
        width = max(size * rng.uniform(0.012, 0.035), 1.5)
        column = x + rng.normal(0.0, radius * 0.6) + rng.normal(0.0, 1.0) * (yy - y) / size * 6.0
        column = column + 2.0 * noise(rng, *shape, scale=(size / 5, size))
        run = np.maximum(np.abs(xx - column) / width - 1.0, np.abs(yy - y - length / 2) / (length / 2) - 1.0)
        d = np.minimum(d, run)
    filled = smoothstep(0.5 - d / 0.3)
    rim = np.exp(-0.5 * ((d + 0.12) / 0.14) ** 2)
    step = np.clip(_contrast(rng, grain, 3.0, 6.0) / np.maximum(surface, 0.1), 0.0, 0.55)
    return surface * (1.0 - step * filled * (0.7 + 0.5 * rim)), filled >= 0.5


def oxide_scale(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Rolled-in scale: swarms of dark flakes with hard edges, drawn out along the strip."""
    shape = surface.shape
    size = _size(shape)
    flakes = noise(rng, *shape, scale=(11.0, 5.0)) + 0.5 * noise(rng, *shape, scale=(4.0, 2.5))
    d = _blob(
        rng,
        shape,
        centre=_place(rng, shape, 0.25),
        radii=(size * rng.uniform(0.2, 0.55), size * rng.uniform(0.08, 0.25)),
        ragged=0.25,
    )
    strength = smoothstep((flakes - rng.uniform(0.55, 0.95)) * 3.0) * smoothstep(0.5 - d / 0.5)
    step = np.clip(_contrast(rng, grain, 4.0, 8.0) / np.maximum(surface, 0.1), 0.0, 0.7)
    return surface * (1.0 - step * strength), _ink(strength)


def iron_sheet_ash(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Ash: a dusting of small dark grains, dense in the middle of a cloud."""
    shape = surface.shape
    size = _size(shape)
    d = _blob(
        rng,
        shape,
        centre=_place(rng, shape, 0.25),
        radii=(size * rng.uniform(0.12, 0.35), size * rng.uniform(0.12, 0.35)),
        ragged=0.3,
    )
    cloud = smoothstep(0.6 - d / 1.2)
    grains = noise(rng, *shape, scale=(2.6, 2.6))
    strength = smoothstep((grains + 1.1 * cloud - rng.uniform(1.5, 1.9)) * 2.5) * (cloud > 0.05)
    step = np.clip(_contrast(rng, grain, 5.0, 9.0) / np.maximum(surface, 0.1), 0.0, 0.75)
    return surface * (1.0 - step * strength), _ink(strength)


def red_iron_sheet(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Red rust: a broad cloudy band along the strip, darker and rougher than its surroundings."""
    shape = surface.shape
    _, x = coordinates(*shape)
    width = shape[1] * rng.uniform(0.06, 0.17)
    centre = rng.uniform(0.2, 0.8) * shape[1] + 6.0 * noise(rng, *shape, scale=(60.0, 400.0))
    clouds = noise(rng, *shape, scale=(18.0, 9.0), slope=0.8)
    d = np.abs(x - centre) / width - 1.0 + 0.22 * clouds
    strength = smoothstep(0.5 - d / 0.5)
    rough = 1.0 + 0.25 * noise(rng, *shape, scale=(3.0, 2.0))
    step = np.clip(_contrast(rng, grain, 2.5, 5.5) / np.maximum(surface, 0.1), 0.0, 0.5)
    return surface * (1.0 - step * strength * rough), strength >= 0.5


def roll_printing(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Marks that a damaged roll prints again and again at one distance down the strip."""
    shape = surface.shape
    size = _size(shape)
    radius = max(size * rng.uniform(0.012, 0.035), 2.0)
    ratio = rng.uniform(0.6, 1.6)
    pitch = max(size * rng.uniform(0.16, 0.36), 3.5 * radius)
    columns = rng.uniform(0.15, 0.85, int(rng.integers(1, 4))) * shape[1]
    first = rng.uniform(0.0, pitch)
    stamp_seed = int(rng.integers(2**31))
    strength = np.zeros(shape)
    for column in columns:
        for k in range(int(np.ceil(shape[0] / pitch)) + 1):
            d = _blob(
                np.random.default_rng(stamp_seed),
                shape,
                centre=(first + k * pitch, float(column) + rng.normal(0.0, 0.5)),
                radii=(radius * ratio, radius / ratio),
                ragged=0.12,
                detail=4.0,
            )
            strength = np.maximum(strength, smoothstep(0.5 - d / 0.6) * rng.uniform(0.7, 1.0))
    step = _contrast(rng, grain, 3.5, 7.0) * (1.0 if rng.random() < 0.4 else -1.0)
    return np.clip(surface + step * strength, 0.02, 1.0), strength >= 0.4


def punching(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """Dents: small round pits, dark on the side away from the lamp and bright on the other."""
    shape = surface.shape
    size = _size(shape)
    y, x = coordinates(*shape)
    light = rng.uniform(0.0, 2.0 * np.pi)
    relief = np.zeros(shape)
    mask = np.zeros(shape, bool)
    for _ in range(int(rng.integers(1, 6))):
        cy, cx = _place(rng, shape)
        radius = max(size * rng.uniform(0.02, 0.07), 2.5)
        dy, dx = (y - cy) / radius, (x - cx) / (radius * rng.uniform(0.8, 1.25))
        r2 = dy * dy + dx * dx
        shade = (dy * np.sin(light) + dx * np.cos(light)) * np.exp(-0.5 * r2 * 1.6)
        relief += 1.5 * shade - 0.9 * np.exp(-r2 * 1.3)
        mask |= r2 <= 1.0
    step = _contrast(rng, grain, 3.5, 7.0)
    return np.clip(surface + step * relief, 0.02, 1.0), mask


def abrasion_mask(rng: np.random.Generator, surface: Field, grain: float) -> tuple[Field, Mask]:
    """A scuffed area: a bundle of fine parallel scores that fade out at its edges."""
    shape = surface.shape
    size = _size(shape)
    angle = rng.normal(0.0, 0.5)
    y, x = coordinates(*shape)
    d = _blob(
        rng,
        shape,
        centre=_place(rng, shape, 0.25),
        radii=(size * rng.uniform(0.15, 0.4), size * rng.uniform(0.06, 0.16)),
        ragged=0.15,
        angle=angle,
    )
    area = smoothstep(0.5 - d / 0.4)
    across = x * np.cos(angle) - y * np.sin(angle)
    profile = noise(rng, 1, 4096, scale=(1.0, 2.2))[0]
    place = (across - across.min()) * 2.0
    scores = np.interp(place.ravel(), np.arange(4096), profile, period=4096).reshape(shape)
    step = _contrast(rng, grain, 2.5, 5.0)
    return np.clip(surface + step * area * (0.9 + 0.6 * scores), 0.02, 1.0), area >= 0.5
