"""Noise, and the textures of scenes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Random = np.random.Generator


@lru_cache(maxsize=256)
def _spread(cells: int, size: int) -> Field:
    """Matrix (size, cells + 3) that interpolates a line of values by cubic B-splines."""
    t = np.linspace(0, cells, size, endpoint=False, dtype=np.float64)
    low = np.floor(t).astype(int)
    f = t - low
    matrix = np.zeros((size, cells + 3))
    rows = np.arange(size)
    for k, w in enumerate(
        ((1 - f) ** 3 / 6, (3 * f**3 - 6 * f**2 + 4) / 6, (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6, f**3 / 6)
    ):
        matrix[rows, low + k] = w
    return matrix.astype(np.float32)


def smooth_noise(rng: Random, size: int, down: int, across: int) -> Field:
    """Noise of unit variance with so many cells down and across."""
    grid = rng.standard_normal((down + 3, across + 3)).astype(np.float32)
    field: Field = _spread(down, size) @ grid @ _spread(across, size).T
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def fractal_noise(rng: Random, size: int, coarsest: int, octaves: int, persistence: float) -> Field:
    """Sum of noises, each of twice the cells and `persistence` times the weight of the one before; unit variance."""
    total = np.zeros((size, size), np.float32)
    for k in range(octaves):
        cells = min(coarsest * 2**k, size)
        total += persistence**k * smooth_noise(rng, size, cells, cells)
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def fractal_noise_line(rng: Random, size: int, coarsest: int, octaves: int, persistence: float) -> Field:
    """`fractal_noise` along a line."""
    total = np.zeros(size, np.float32)
    for k in range(octaves):
        cells = min(coarsest * 2**k, size)
        total += persistence**k * (_spread(cells, size) @ rng.standard_normal(cells + 3).astype(np.float32))
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def grid(size: int) -> tuple[Field, Field]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return y, x


# Textures: zero mean, about unit variance.


def _cloud(rng: Random, size: int) -> Field:
    return fractal_noise(rng, size, int(rng.integers(2, 9)), 5, float(rng.uniform(0.4, 0.9)))


def _grain(rng: Random, size: int) -> Field:
    cells = int(size / rng.uniform(1.2, 6.0))
    return smooth_noise(rng, size, cells, cells)


def _streaks(rng: Random, size: int) -> Field:
    along, across = int(rng.integers(1, 12)), int(rng.integers(40, size))
    field = smooth_noise(rng, size, along, across)
    if rng.random() < 0.5:
        field = field + float(rng.uniform(0.3, 1.0)) * smooth_noise(rng, size, along * 4, across // 2)
    return field.T if rng.random() < 0.5 else field


def _waves(rng: Random, size: int) -> Field:
    y, x = grid(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period * 2 * np.pi
    phase = phase + float(rng.uniform(0, 1.5)) * smooth_noise(rng, size, 4, 4)
    return np.asarray(np.sin(phase) * 1.4, np.float32)


def _cells(rng: Random, size: int) -> Field:
    field = np.abs(fractal_noise(rng, size, int(rng.integers(6, 24)), 2, 0.5))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


_TEXTURES: tuple[Callable[[Random, int], Field], ...] = (_cloud, _grain, _streaks, _waves, _cells)
_TEXTURE_SHARES = (0.3, 0.25, 0.25, 0.08, 0.12)


def texture(rng: Random, size: int) -> Field:
    """One or two textures added, zero mean, unit variance."""
    field = _TEXTURES[rng.choice(5, p=_TEXTURE_SHARES)](rng, size)
    if rng.random() < 0.5:
        field = field + float(rng.uniform(0.2, 1.0)) * _TEXTURES[rng.choice(5, p=_TEXTURE_SHARES)](rng, size)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)
