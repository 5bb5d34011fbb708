"""Shapes of scenes: signed fields in pixels, about the distance to the outline, positive inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._scene_textures import Field, Random, fractal_noise, fractal_noise_line, grid


def _frame(rng: Random, size: int) -> tuple[Field, Field]:
    """Coordinates around a random middle, turned by a random angle (often upright, as much on a line is)."""
    y, x = grid(size)
    cy, cx = rng.uniform(0.05 * size, 0.95 * size, 2)
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.06) if rng.random() < 0.5 else rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s


def _radius(rng: Random, size: int) -> float:
    return float(np.exp(rng.uniform(np.log(0.04 * size), np.log(0.33 * size))))


def blob(rng: Random, size: int) -> Field:
    u, v = _frame(rng, size)
    r, stretch = _radius(rng, size), np.exp(rng.uniform(-1.0, 1.0))
    rough = float(rng.uniform(0.0, 0.5)) * r * fractal_noise(rng, size, max(2, int(size / (2 * r))), 4, 0.5)
    return np.asarray(r - np.hypot(u / stretch, v * stretch) + rough, np.float32)


def star(rng: Random, size: int) -> Field:
    u, v = _frame(rng, size)
    r, angle = _radius(rng, size), np.arctan2(v, u)
    outline = np.full_like(u, r)
    for k in range(2, 7):
        outline += np.float32(r * rng.normal(0, 0.35 / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 6.3)))
    return np.asarray(outline - np.hypot(u, v), np.float32)


def moved(field: Field, down: int, across: int) -> Field:
    """Move a field; what comes in at the edges is outside."""
    height, width = field.shape
    out = np.full_like(field, field.min())
    out[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] = field[
        max(-down, 0) : height + min(-down, 0), max(-across, 0) : width + min(-across, 0)
    ]
    return out


def polygon(rng: Random, size: int) -> Field:
    u, v = _frame(rng, size)
    r, stretch = _radius(rng, size), np.exp(rng.uniform(-0.9, 0.9))
    sides = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, sides)) if sides > 4 else np.arange(sides) * 2 * np.pi / sides
    field = np.full_like(u, np.inf)
    for a in angles:
        np.minimum(field, r - (u / stretch * np.float32(np.cos(a)) + v * stretch * np.float32(np.sin(a))), out=field)
    return np.asarray(np.minimum(field, 2 * r - np.hypot(u, v)), np.float32)


def _ring(rng: Random, size: int) -> Field:
    u, v = _frame(rng, size)
    r = max(_radius(rng, size), 0.05 * size)
    return np.asarray(
        rng.uniform(0.1, 0.4) * r - np.abs(np.hypot(u, v * np.exp(rng.uniform(-0.4, 0.4))) - r), np.float32
    )


def stroke(rng: Random, size: int, frame: tuple[Field, Field] | None = None) -> Field:
    """A long thin thing: straight or wandering, of varying width, sometimes interrupted."""
    u, v = _frame(rng, size) if frame is None else frame
    length = float(np.exp(rng.uniform(np.log(0.25 * size), np.log(1.6 * size))))
    width = float(np.exp(rng.uniform(np.log(1.2), np.log(0.03 * size))))
    at = np.clip(((u / size) + 1.0) / 2.0 * size, 0, size - 1).astype(np.int32)  # the profile's sample
    profile = fractal_noise_line(rng, size, int(rng.integers(2, 7)), 5, float(rng.uniform(0.3, 0.75)))
    bend = float(rng.choice([0.0, 0.01, 0.03, 0.06])) * size * profile
    half = width * (1.0 + float(rng.uniform(0, 0.6)) * fractal_noise_line(rng, size, 8, 3, 0.6))
    if rng.random() < 0.25:
        half = half - width * np.maximum(fractal_noise_line(rng, size, 12, 2, 0.6) - 0.4, 0.0) * 3.0
    taper = np.minimum((length / 2 - np.abs(u)) / max(0.1 * length, 1.0), 1.0)
    return np.asarray(half[at] * taper - np.abs(v - bend[at]), np.float32)


def _branches(rng: Random, size: int) -> Field:
    return np.asarray(np.maximum.reduce([stroke(rng, size) for _ in range(int(rng.integers(2, 4)))]), np.float32)


def _scatter(rng: Random, size: int) -> Field:
    """Many small things in a region of their own."""
    u, v = _frame(rng, size)
    r, stretch = max(_radius(rng, size), 0.12 * size), np.exp(rng.uniform(-0.9, 0.9))
    cells = int(rng.uniform(8, 40))
    envelope = 1.0 - np.hypot(u / stretch, v * stretch) / r
    noise = fractal_noise(rng, size, cells, 2, 0.5)
    return np.asarray((noise + np.minimum(3.0 * envelope, 0.8) - rng.uniform(0.6, 1.4)) * size / cells / 3, np.float32)


SHAPES: tuple[Callable[[Random, int], Field], ...] = (
    blob, star, polygon, _ring, stroke, _branches, _scatter,
)  # fmt: skip
SHAPE_SHARES = (0.28, 0.1, 0.13, 0.04, 0.25, 0.08, 0.12)
