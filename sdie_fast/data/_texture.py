"""The sound strip: rolling texture, illumination, and the camera that photographs it.

Arrays are float64 of shape (H, W). Rows run along the rolling direction and columns across the
strip; the finished photograph is turned afterwards where the camera stood the other way. Grey
levels are shares of the sensor's full scale, textures are relative to the local grey level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]
Rng = np.random.Generator

# Longest distance, in correlation lengths, over which a periodic field still shows its seam.
_SEAM = 2.5


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw from [low, high], every ratio as likely as another of the same size."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def chance(rng: Rng, probability: float) -> bool:
    """Draw True with the given probability."""
    return bool(rng.random() < probability)


def _fast_length(n: int) -> int:
    """Smallest length >= n that has no prime factor above 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def noise(
    rng: Rng, shape: tuple[int, int], along: float, across: float, *, slope: float | None = None, angle: float = 0.0
) -> Plane:
    """Random field of zero mean and unit standard deviation, made in the Fourier plane.

    Parameters
    ----------
    rng : Generator
        Source of the white noise.
    shape : (int, int)
        Height and width in pixels.
    along, across : float
        Correlation lengths in pixels along an axis and across it.
    slope : float, optional
        None for a Gaussian spectrum (one scale, smooth). Otherwise the amplitude falls as
        frequency**-slope beyond the correlation length: all scales below it, rougher as the
        slope falls. 1.0 to 1.5 looks like scale or stains, 2 and above like clouds.
    angle : float
        Of the axis, in radians, from the rolling direction, as in `_shapes.turned`.

    Returns
    -------
    ndarray, float64, of the shape asked for
    """
    height, width = shape
    cos, sin = np.cos(angle), np.sin(angle)
    reach_y = max(abs(along * cos), abs(across * sin)) * _SEAM
    reach_x = max(abs(along * sin), abs(across * cos)) * _SEAM
    padded = (_fast_length(height + min(height, int(reach_y) + 1)), _fast_length(width + min(width, int(reach_x) + 1)))
    fy = np.fft.fftfreq(padded[0])[:, None]
    fx = np.fft.rfftfreq(padded[1])[None, :]
    q2 = (2 * np.pi) ** 2 * ((along * (fy * cos + fx * sin)) ** 2 + (across * (fx * cos - fy * sin)) ** 2)
    transfer = np.exp(-q2 / 4) if slope is None else (1 + q2) ** (-slope / 2)
    spectrum = np.fft.rfft2(rng.standard_normal(padded)) * transfer
    field: Plane = np.fft.irfft2(spectrum, s=padded)[:height, :width]
    field -= field.mean()
    field /= field.std() + 1e-12
    return field


def profile(rng: Rng, n: int, scale: float) -> Plane:
    """One-dimensional random profile of n samples: zero mean, unit standard deviation.

    Its correlation length is `scale` samples.
    """
    return noise(rng, (n, 1), scale, 1.0)[:, 0]


def blur(image: Plane, sigma: float) -> Plane:
    """Gaussian blur, sigma in pixels, the border reflected."""
    radius = min(int(np.ceil(3.5 * sigma)), *(side - 1 for side in image.shape))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    out = image
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        wide = np.pad(out, pad, mode="reflect")
        n = image.shape[axis]
        out = np.zeros_like(image)
        for k, tap in enumerate(taps):
            out += tap * (wide[k : k + n] if axis == 0 else wide[:, k : k + n])
    return out


def _deviation(level: Any) -> Any:
    """Give the deviation of the sensor's noise at a grey level, both as shares of full scale."""
    # Full well 9,000 electrons, read noise 0.3 % of full scale.
    return np.sqrt(level / 9000 + 0.003**2)


@dataclass(frozen=True)
class Surface:
    """A sound strip before the camera.

    Attributes
    ----------
    light : ndarray, (H, W)
        Grey level without fine texture.
    texture : ndarray, (H, W)
        Fine texture, relative to `light`, about zero.
    roughness : float
        Standard deviation of what hides a defect: the texture without its finest grain.
    focus : float
        Deviation of the lens's blur in pixels.
    grain : float
        Strength of the sensor's noise, 1 for a usual exposure.
    """

    light: Plane
    texture: Plane
    roughness: float
    focus: float
    grain: float


def _illumination(rng: Rng, shape: tuple[int, int], unit: float) -> Plane:
    """Lamp and lens: a gradient, mostly across the strip, vignetting, and a slow unevenness."""
    y = np.linspace(-1, 1, shape[0])[:, None]
    x = np.linspace(-1, 1, shape[1])[None, :]
    light = 1 + np.clip(rng.normal(0, 0.2), -0.36, 0.36) * x + rng.normal(0, 0.07) * y
    x0, y0 = rng.uniform(-0.6, 0.6, 2)
    light = light - abs(rng.normal(0, 0.10)) * (x - x0) ** 2
    light = light - abs(rng.normal(0, 0.04)) * (y - y0) ** 2
    slow = noise(rng, shape, 90 * unit, 45 * unit, slope=2.2)
    light = np.clip(light, 0.35, None)
    return np.asarray(light * (1 + abs(rng.normal(0.03, 0.03)) * slow))


def fine_surface(rng: Rng, shape: tuple[int, int], unit: float) -> Surface:
    """Evenly lit strip of low contrast: the finish on which most defects are photographed."""
    level = float(np.clip(0.39 * np.exp(rng.normal(0, 0.33)), 0.15, 0.72))
    if chance(rng, 0.06):
        level = rng.uniform(0.66, 0.76)
    light = level * _illumination(rng, shape, unit)
    # Reduced scale lies in long bands, a little darker or lighter than their surroundings.
    bands = noise(rng, shape, rng.uniform(150, 500) * unit, rng.uniform(4, 14) * unit, slope=1.6)
    light = light * (1 + abs(rng.normal(0, 0.02)) * bands)
    strength = log_uniform(rng, 0.75, 1.7)
    mottle = noise(rng, shape, rng.uniform(5, 14), rng.uniform(4, 8), slope=1.3)
    cloud = noise(rng, shape, 24 * unit, 14 * unit, slope=1.5)
    streaks = noise(rng, shape, rng.uniform(25, 120), rng.uniform(0.7, 1.3), slope=1.3)
    speckle = noise(rng, shape, rng.uniform(0.9, 1.6), rng.uniform(0.8, 1.2), slope=1.4)
    mid = 0.018 * mottle + abs(rng.normal(0.008, 0.014)) * cloud
    mid = mid + rng.uniform(0.002, 0.008) * streaks
    texture = strength * (mid + rng.uniform(0.012, 0.02) * speckle)
    if chance(rng, 0.3):
        # Flecks of bare metal, a pixel or two each.
        flecks = np.clip(noise(rng, shape, 2.0, 1.2) - 2.9, 0, None)
        texture = texture + rng.uniform(0.05, 0.3) * flecks
    if chance(rng, 0.2):
        # Chatter: faint cross bars of the roll, a few pixels apart.
        y = np.arange(shape[0])[:, None]
        patchy = np.clip(noise(rng, shape, 30 * unit, 18 * unit), 0, None)
        wave = np.sin(2 * np.pi * y / rng.uniform(3, 7) + rng.uniform(0, 6.3))
        texture = texture + rng.uniform(0.004, 0.012) * wave * patchy
    grain = log_uniform(rng, 0.75, 1.45)
    # What the blurs leave of the noise counts as well where the strip is dark.
    roughness = np.hypot(strength * mid.std(), 0.6 * grain * _deviation(level) / level)
    return Surface(light, texture, float(roughness), rng.uniform(0.5, 0.8), grain)


def coarse_surface(rng: Rng, shape: tuple[int, int], unit: float, brightest: float) -> Surface:
    """Brushed, strongly textured strip under hard light: the finish on which patches are found."""
    level = log_uniform(rng, 0.2, 0.42) if chance(rng, 0.28) else rng.uniform(0.45, brightest)
    slow = noise(rng, shape, 60 * unit, 30 * unit, slope=1.6)
    bands = noise(rng, shape, 300 * unit, 12 * unit, slope=1.2)
    light = level * _illumination(rng, shape, unit)
    light = light * (1 + rng.uniform(0.05, 0.14) * slow + rng.uniform(0.01, 0.05) * bands)
    streaks = noise(rng, shape, rng.uniform(2.5, 6), rng.uniform(0.5, 0.8), slope=0.95)
    # Brush marks lie almost across the strip.
    lean = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.45))
    brush = noise(rng, shape, 0.7, rng.uniform(2.5, 5), slope=1.0, angle=lean)
    speckle = noise(rng, shape, rng.uniform(0.8, 1.3), rng.uniform(0.6, 1.0), slope=1.0)
    mottle = noise(rng, shape, 12.0, 7.0, slope=1.15)
    strength = log_uniform(rng, 0.75, 1.2)
    texture = rng.uniform(0.05, 0.11) * streaks + rng.uniform(0.03, 0.09) * brush
    texture = strength * (texture + 0.09 * speckle + rng.uniform(0.05, 0.08) * mottle)
    return Surface(light, texture, strength * 0.075, rng.uniform(0.35, 0.55), log_uniform(rng, 0.9, 1.5))


def photograph(rng: Rng, radiance: Plane, focus: float, grain: float) -> Plane:
    """Photograph a scene: lens blur, shot noise, read noise, the sensor's crosstalk, clipping.

    Parameters
    ----------
    rng : Generator
        Source of the noise.
    radiance : ndarray, (H, W)
        Grey levels, 1 at the sensor's full scale; any negative value is dark.
    focus : float
        Deviation of the lens's blur in pixels.
    grain : float
        Strength of the noise, 1 for a usual exposure.

    Returns
    -------
    ndarray, (H, W), in [0, 1]
    """
    seen = blur(np.clip(radiance, 0.0, None), focus)
    noisy = seen + grain * _deviation(seen) * rng.standard_normal(seen.shape)
    return np.asarray(np.clip(blur(noisy, 0.4), 0.0, 1.0))
