"""Noise fields and the defect-free strip: what a hot-rolled surface looks like under an inspection camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]


def coordinates(height: int, width: int) -> tuple[Field, Field]:
    """Pixel coordinates (y, x) as two (H, W) arrays."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return y, x


def noise(
    rng: np.random.Generator, height: int, width: int, *, scale: tuple[float, float], slope: float = 0.0
) -> Field:
    """Gaussian noise of zero mean and unit deviation.

    scale: correlation lengths in pixels down and across; slope: extra 1/f^slope fall of the spectrum, which makes
    clouds of all sizes out of blobs of one.
    """
    white = rng.standard_normal((height, width))
    fy = np.fft.fftfreq(height)[:, None] * scale[0]
    fx = np.fft.rfftfreq(width)[None, :] * scale[1]
    radius = np.hypot(fy, fx)
    gain = np.exp(-0.5 * (2.0 * radius) ** 2)
    if slope:
        gain = 1.0 / (0.05 + radius) ** slope * np.exp(-0.5 * radius**2)
    field = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(height, width))
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12))


def smoothstep(t: Field) -> Field:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def strip(rng: np.random.Generator, height: int, width: int) -> tuple[Field, float]:
    """Return a defect-free surface in [0, 1] and the strength of its grain.

    Rolled along y: streaks that run down the strip, clouds of scale, a lamp that is brighter on one side.
    """
    y, x = coordinates(height, width)
    level = rng.uniform(0.22, 0.68)
    grain = level * rng.uniform(0.025, 0.07)
    surface = np.full((height, width), level)
    surface += level * rng.uniform(0.01, 0.035) * noise(rng, height, width, scale=(160.0, 2.0))
    surface += level * rng.uniform(0.01, 0.03) * noise(rng, height, width, scale=(90.0, 14.0))
    surface += level * rng.uniform(0.01, 0.05) * noise(rng, height, width, scale=(40.0, 40.0), slope=1.2)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across = ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)) * 2.0
    surface *= 1.0 + rng.uniform(0.0, 0.18) * across - rng.uniform(0.0, 0.06) * across**2
    return surface, grain


def photograph(rng: np.random.Generator, surface: Field, grain: float) -> Field:
    """Add what the surface's roughness, the optics and the sensor add: grain, slight blur, shot and read noise."""
    height, width = surface.shape
    rough = noise(rng, height, width, scale=(1.6, 1.2))
    streaked = noise(rng, height, width, scale=(9.0, 1.0))
    image = surface * (1.0 + grain / max(float(surface.mean()), 0.05) * (0.8 * rough + 0.45 * streaked))
    image = np.clip(image, 0.0, None)
    shot = rng.uniform(0.004, 0.012)
    image = image + rng.standard_normal(image.shape) * np.sqrt(shot**2 * image + 0.003**2)
    return np.clip(image, 0.0, 1.0)
