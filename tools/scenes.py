"""Procedural scenes for training and judging a promptable segmenter: generic shapes on generic textures, with masks.

Nothing here imitates a defect: the shapes are blobs, polygons, rings, strokes, branching curves and scatters, the surfaces
noise of many kinds, and contrasts go down to what is barely there. A segmenter trained on them has seen neither the
synthetic surfaces of `sdie_fast.data.synthetic` nor any photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_SHARE", "MAX_TARGETS", "MIN_SHARE", "SIZE", "Scene", "scene"]

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Random = np.random.Generator

SIZE = 256
MAX_TARGETS = 10
MAX_SHARE = 0.4  # more, and figure and ground are a matter of opinion
MIN_SHARE = 0.003  # of the picture that a target covers: much less cannot be judged at half the resolution
CROSSING = 0.1  # share of things laid down wherever they fall
MAX_HIDDEN = 0.25  # of a target under others: more, and its mask is not what one would point at


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


# Shapes: signed fields in pixels, about the distance to the outline, positive inside.


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


_SHAPES: tuple[Callable[[Random, int], Field], ...] = (
    blob, star, polygon, _ring, stroke, _branches, _scatter,
)  # fmt: skip
_SHAPE_SHARES = (0.28, 0.1, 0.13, 0.04, 0.25, 0.08, 0.12)


@dataclass(frozen=True)
class Scene:
    """An image and what may be segmented in it.

    Attributes
    ----------
    image : ndarray, uint8, (size, size)
        The picture.
    masks : ndarray, bool, (K, size, size)
        Targets, visible parts only; they may nest or overlap. 1 <= K <= MAX_TARGETS.
    background : ndarray, bool, (size, size)
        What belongs to nothing laid onto the surface, visible or not.
    """

    image: npt.NDArray[np.uint8]
    masks: Mask
    background: Mask


def _paint(rng: Random, image: Field, field: Field, noise: float, ease: float) -> Field:
    """Lay a shape onto the picture: lighter, darker, of another texture, with a hard or a soft edge."""
    soft = float(rng.uniform(0.5, 1.5) if rng.random() < 0.75 else np.exp(rng.uniform(0.5, 3.0)))
    alpha = 1.0 / (1.0 + np.exp(-np.clip(field / soft * 2.0, -20, 20)))
    inside = field > 0
    step = float(np.exp(rng.uniform(np.log(0.035 + 0.2 * ease), np.log(0.45))))
    # Visible over what is around it, if only just.
    around = float(image[inside].std()) if inside.any() else 0.0
    step = max(step, float(rng.uniform(0.7 + ease, 2.0 + 2.0 * ease)) * np.hypot(around, noise))
    middle = float(image[inside].mean()) if inside.any() else 0.5
    sign = 1.0 if rng.random() < (0.8 if middle < 0.35 else 0.2 if middle > 0.65 else 0.5) else -1.0
    kind = rng.random()
    if kind < 0.6:  # the surface shows through
        gain = float(rng.uniform(0.5, 1.2))
        painted = middle + sign * step + gain * (image - middle)
    else:
        painted = middle + sign * step + float(rng.uniform(0.0, 0.12)) * texture(rng, image.shape[0])
    if kind > 0.9:  # shaded across
        painted = painted + 0.5 * step * smooth_noise(rng, image.shape[0], 2, 2)
    return np.asarray(image + alpha * (painted - image), np.float32)


def _soften(image: Field, times: int) -> Field:
    """Binomial blur, 1 2 1 down and across."""
    for _ in range(times):
        for axis in (0, 1):
            image = (np.roll(image, 1, axis) + 2.0 * image + np.roll(image, -1, axis)) / np.float32(4.0)
    return image


def _visible(image: Field, mask: Mask) -> bool:
    """Whether a mask differs from the ring around it in its mean or in its texture."""
    near = mask
    for _ in range(6):
        wide = near.copy()
        wide[1:] |= near[:-1]
        wide[:-1] |= near[1:]
        wide[:, 1:] |= near[:, :-1]
        wide[:, :-1] |= near[:, 1:]
        near = wide
    inside, around = image[mask], image[near & ~mask]
    if around.size == 0:
        return False
    step, spread = abs(float(inside.mean() - around.mean())), float(around.std())
    if step > max(0.015, 0.45 * spread):
        return True
    ratio = (float(inside.std()) + 0.004) / (spread + 0.004)
    return mask.sum() > 400 and max(ratio, 1 / ratio) > 1.8


def scene(seed: int | tuple[int, ...], size: int = SIZE, ease: float | None = None) -> Scene:
    """Make the scene of a seed: the same for the same NumPy, its matrix library included.

    Parameters
    ----------
    seed : int or tuple of int
        What everything random follows from.
    size : int
        Pixels a side, 64 or more.
    ease : float, optional
        From 0, contrasts down to the barely visible, to 1, strong contrasts on quiet surfaces: what
        a training begins with. None draws it evenly.
    """
    rng = np.random.default_rng(seed)
    drawn = float(rng.random())
    ease = drawn if ease is None else ease
    base = float(rng.uniform(0.15, 0.85))
    image = base + float(np.exp(rng.uniform(np.log(0.004), np.log(0.12 - 0.1 * ease)))) * texture(rng, size)
    if rng.random() < 0.6:  # uneven light
        image = image * (1.0 + float(rng.uniform(0.0, 0.35)) * smooth_noise(rng, size, 1, 1))
    noise = float(np.exp(rng.uniform(np.log(0.003), np.log(0.06 - 0.05 * ease))))
    masks: list[Mask] = []
    areas: list[int] = []  # before anything was laid over them
    groups: list[list[int]] = []
    for _ in range(int(rng.integers(1, 5))):
        make = _SHAPES[rng.choice(len(_SHAPES), p=_SHAPE_SHARES)]
        fields = [make(rng, size)]
        style = rng.bit_generator.state
        kind = rng.random()
        crossing = rng.random() < CROSSING
        together = kind < 0.25 and make in (blob, stroke, star)
        nested = 0.25 <= kind < 0.4 and make in (blob, polygon, star)
        if together:  # several of a kind, which are one target together too
            alike = rng.integers(2)
            for _ in range(int(rng.integers(1, 5))):
                move = rng.integers(-size // 3, size // 3, 2)
                fields.append(moved(fields[0], *move) if alike else make(rng, size))
        elif nested:  # a part within the whole
            fields.append(np.minimum(fields[0] - 2.0, make(rng, size)))
        later = rng.bit_generator.state
        members: list[int] = []
        for field in fields:
            mask = field > 0
            if not MIN_SHARE <= float(mask.mean()) <= MAX_SHARE:
                continue
            part = nested and len(members) > 0
            hidden = sum(int((m & mask).sum()) for m in masks)
            if not (part or crossing) and hidden > MAX_HIDDEN * int(mask.sum()):
                continue
            if together:  # alike: painted from the same state
                rng.bit_generator.state = style
            image = _paint(rng, image, field, noise, ease)
            for k, other in enumerate(masks):
                if not (part and k in members):  # a part leaves its whole as it is
                    masks[k] = other & ~mask
            members.append(len(masks))
            masks.append(mask)
            areas.append(int(mask.sum()))
        if together:
            rng.bit_generator.state = later
            if len(members) > 1:
                groups.append(members)
    if not masks:
        return scene((*np.atleast_1d(seed), 1), size, ease)
    background = ~np.logical_or.reduce(masks)
    whole = [int(m.sum()) > (1.0 - MAX_HIDDEN) * area for m, area in zip(masks, areas, strict=True)]
    targets = [m for m, seen in zip(masks, whole, strict=True) if seen]
    targets.extend(
        np.logical_or.reduce([masks[k] for k in members]) for members in groups if all(whole[k] for k in members)
    )
    if rng.random() < 0.3:  # out of focus
        image = _soften(image, int(rng.integers(1, 3)))
    image = image + noise * rng.standard_normal((size, size)).astype(np.float32)
    image = np.clip(image, 0.0, 1.0) ** float(np.exp(rng.uniform(-0.3, 0.3)))
    kept = [m for m in targets if float(m.mean()) >= MIN_SHARE and _visible(image, m)]
    if not kept:
        return scene((*np.atleast_1d(seed), 1), size, ease)
    return Scene(np.asarray(np.round(image * 255), np.uint8), np.stack(kept[:MAX_TARGETS]), background)
