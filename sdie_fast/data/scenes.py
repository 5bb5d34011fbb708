"""Procedural scenes for training and judging a promptable segmenter: generic shapes on generic textures, with masks.

Nothing here imitates a defect: the shapes are blobs, polygons, rings, strokes, branching curves and scatters, the surfaces
noise of many kinds, and contrasts go down to what is barely there. A segmenter trained on them has seen neither the
synthetic surfaces of `sdie_fast.data.synthetic` nor any photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._scene_shapes import SHAPE_SHARES, SHAPES, blob, moved, polygon, star, stroke
from ._scene_textures import Field, Random, smooth_noise, texture

Mask = npt.NDArray[np.bool_]

SIZE = 256
MAX_TARGETS = 10
MAX_SHARE = 0.4  # more, and figure and ground are a matter of opinion
MIN_SHARE = 0.003  # of the picture that a target covers: much less cannot be judged at half the resolution


CROSSING = 0.1  # share of things laid down wherever they fall
MAX_HIDDEN = 0.25  # of a target under others: more, and its mask is not what one would point at


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
        make = SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)]
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
