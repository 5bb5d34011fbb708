"""Defects that cover the strip: scale, rust, powder, and what dripped on it.

Each function draws one kind on a canvas. Sizes are in units of a 200th of the image's side.
"""

from __future__ import annotations

import numpy as np

from ._shapes import Canvas, Defect, cover, ellipse, merge, ragged, relief, spindle, traced, turned
from ._texture import Plane, Rng, blur, chance, log_uniform, noise


def iron_sheet_ash(rng: Rng, canvas: Canvas) -> Defect:
    """Iron-oxide powder that settled on the strip: grainy clouds drawn out by the movement."""
    u = canvas.unit
    cloud = canvas.empty()
    for _ in range(rng.integers(1, 5)):
        width = log_uniform(rng, 6, 26) * u
        radii = (width * rng.uniform(1.2, 5), width)
        cloud = merge(cloud, ellipse(canvas, canvas.place(rng), radii, rng.normal(0, 0.12)), 8 * u)
    cloud = ragged(rng, cloud, (24 * u, 6 * u), rng.uniform(3, 6) * u, slope=1.3)
    envelope = cover(cloud, rng.uniform(4, 8) * u)
    # Powder lies in grains, thinner towards the rim.
    grains = noise(rng, canvas.shape, rng.uniform(1.3, 2.4), rng.uniform(1.1, 1.6), slope=1.5)
    grains = np.clip(grains * 0.5 + envelope * 1.2 - 0.35, 0, 1.4)
    wisps = 1 + 0.3 * noise(rng, canvas.shape, 40 * u, 5 * u, slope=1.5)
    powder = blur(envelope * (0.5 + 0.7 * grains) * np.clip(wisps, 0.4, 1.6), 0.6)
    strength = canvas.contrast(rng, 0.12, 0.45)
    gain = 1 + strength * powder if chance(rng, 0.6) else 1 - 0.8 * np.tanh(strength * powder)
    return Defect(gain, traced(envelope, u), damping=0.3 * envelope)


def liquid(rng: Rng, canvas: Canvas) -> Defect:
    """Water or emulsion that stands on the strip: dark pools and runs with glints."""
    u = canvas.unit
    pool = canvas.empty()
    for _ in range(rng.integers(1, 4)):
        centre = canvas.place(rng)
        size = log_uniform(rng, 9, 26) * u
        for _ in range(rng.integers(1, 5)):
            shift = rng.normal(0, 0.9, 2) * size
            radii = (size * rng.uniform(0.5, 1.3), size * rng.uniform(0.5, 1.1))
            near = (centre[0] + shift[0], centre[1] + shift[1])
            pool = merge(pool, ellipse(canvas, near, radii, rng.uniform(-1, 1)), 12 * u)
        if chance(rng, 0.6):
            run = canvas.empty()
            length = log_uniform(rng, 30, 140) * u
            start = (centre[0] + length / 2, centre[1] + rng.normal(0, 0.4) * size)
            spindle(rng, run, start, (length, rng.uniform(4, 12) * u), lean=rng.normal(0, 0.08), calm=True)
            pool = merge(pool, run, 8 * u)
    for _ in range(rng.integers(0, 9)):
        drop = log_uniform(rng, 1.5, 5) * u
        pool = merge(pool, ellipse(canvas, canvas.place(rng), (drop * 1.2, drop)), 3 * u)
    pool = ragged(rng, pool, (16 * u, 16 * u), 1.6 * u, slope=None)
    film = cover(pool, 1.2 * u)
    strength = min(canvas.contrast(rng, 0.1, 0.5), 0.6)
    # Deeper in the middle; its surface mirrors the surroundings in slow waves.
    deep = np.clip(0.7 + pool / (30 * u), 0.7, 1.1)
    waves = noise(rng, canvas.shape, 20 * u, 14 * u)
    gain = 1 - strength * film * deep * (1 + 0.12 * waves)
    rim = np.exp(-(((pool - 1.5 * u) / (1.6 * u + 0.5)) ** 2))
    azimuth = rng.uniform(0, 2 * np.pi)
    glint = np.clip(relief(film, azimuth, 1.3 * u), 0, None) ** 2
    broken = np.clip(noise(rng, canvas.shape, 9 * u, 9 * u) + 0.3, 0, 1.5)
    shine = log_uniform(rng, 0.15, 2.0) * glint * broken
    return Defect(gain - 0.35 * strength * rim, film > 0.5, shine, 0.7 * film)


def oxide_scale(rng: Rng, canvas: Canvas) -> Defect:
    """Scale rolled into the strip: crowds of dark flakes, drawn out, with sharp torn edges."""
    u = canvas.unit
    field = canvas.empty()
    for _ in range(rng.integers(1, 4)):
        width = log_uniform(rng, 7, 34) * u
        radii = (width * rng.uniform(1.5, 6), width)
        centre = canvas.place(rng, 0.05)
        field = merge(field, ellipse(canvas, centre, radii, rng.normal(0, 0.08)), 5 * u)
    field = ragged(rng, field, (30 * u, 9 * u), 4 * u)
    crowd = np.clip(0.5 + field / (14 * u), 0, 1)
    size = log_uniform(rng, 1.6, 4.5) * u + 0.4
    flakes = noise(rng, canvas.shape, size * rng.uniform(2, 4.5), size, slope=1.9)
    density = rng.uniform(0.1, 0.8)
    # In pixels: the slope of the noise turns its value into a distance.
    distance = (flakes - density - 4.0 * (1 - crowd) ** 2) * size
    scale = cover(distance, 0.5)
    strength = min(canvas.contrast(rng, 0.13, 0.6), 0.75)
    uneven = 1 + 0.25 * noise(rng, canvas.shape, 3 * size, 2 * size)
    gain = 1 - strength * scale * np.clip(uneven, 0.5, 1.3) - 0.1 * strength * crowd
    shine = 0.35 * strength * relief(scale, rng.uniform(-1.9, -1.2), 0.8)
    return Defect(gain, blur(scale, 0.7) > 0.45, shine, 0.4 * scale)


def oil_spot(rng: Rng, canvas: Canvas) -> Defect:
    """Oil that dripped and was dragged along: smooth dark drops, some with a tail or a halo."""
    u = canvas.unit
    spots = canvas.empty()
    count = int(rng.integers(1, 4)) if chance(rng, 0.55) else int(rng.integers(4, 13))
    size = log_uniform(rng, 4, 20 if count > 3 else 34)
    drag = rng.uniform(1.0, 2.6)
    for _ in range(count):
        r = max(size * log_uniform(rng, 0.4, 1.2), 2.5) * u
        centre = canvas.place(rng, 0.03)
        lean = rng.normal(0, 0.1)
        spots = merge(spots, ellipse(canvas, centre, (r * drag, r), lean), 3 * u)
        if chance(rng, 0.35):
            tail = canvas.empty()
            length = r * drag * rng.uniform(2, 5)
            spindle(rng, tail, (centre[0] + 0.4 * length, centre[1]), (length, 0.9 * r), lean=lean, calm=True)
            spots = merge(spots, tail, 4 * u)
    spots = ragged(rng, spots, (14 * u, 9 * u), 1.3 * u, slope=2.2)
    soft = rng.uniform(0.8, 3.0) * u
    film = cover(spots, soft)
    strength = min(canvas.contrast(rng, 0.11, 0.5), 0.65)
    thick = np.clip(0.75 + spots / (40 * u), 0.75, 1.1)
    halo = np.exp(-np.clip(-spots, 0, None) / (5 * u)) * rng.uniform(0, 0.2)
    gain = 1 - strength * np.maximum(film * thick, halo)
    return Defect(gain, film > 0.5, damping=rng.uniform(0.3, 0.7) * film)


def water_spot(rng: Rng, canvas: Canvas) -> Defect:
    """Dried water: lobed stains with a dark outline, paler or darker inside, often faint."""
    u = canvas.unit
    gain = np.ones(canvas.shape)
    mask = np.zeros(canvas.shape, dtype=np.bool_)
    strength = min(canvas.contrast(rng, 0.12, 0.40), 0.55)
    pale = chance(rng, 0.35)
    for _ in range(rng.integers(1, 4)):
        centre = canvas.place(rng)
        size = log_uniform(rng, 12, 40) * u
        stain = canvas.empty()
        for _ in range(rng.integers(1, 5)):
            shift = rng.normal(0, 0.6, 2) * size
            radii = (size * rng.uniform(0.4, 1.1), size * rng.uniform(0.4, 0.9))
            near = (centre[0] + 1.3 * shift[0], centre[1] + shift[1])
            stain = merge(stain, ellipse(canvas, near, radii, rng.uniform(-0.7, 0.7)), 6 * u)
        stain = ragged(rng, stain, (12 * u, 9 * u), rng.uniform(1, 2.6) * u, slope=2.0)
        inside = cover(stain, 1.5 * u)
        width = rng.uniform(1.2, 3.2) * u + 0.4
        rim = np.exp(-(((stain - width) / width) ** 2)) * rng.uniform(0.4, 1.0)
        # Water dries from the rim inwards and leaves weaker rings.
        ring = np.exp(-(((stain - rng.uniform(4, 9) * u) / (0.8 * width)) ** 2))
        cloudy = 1 + 0.25 * noise(rng, canvas.shape, 18 * u, 12 * u, slope=1.8)
        body = (0.75 if pale else -rng.uniform(0.3, 0.9)) * cloudy
        rim = rim + rng.uniform(0, 0.3) * ring
        gain = gain * (1 + strength * (body * inside - (0.35 if pale else 0.9) * rim))
        mask |= stain > -0.6 * width if not pale else stain > 0
    return Defect(np.clip(gain, 0.1, None), mask, damping=np.where(mask, 0.2, 0.0))


def patch(rng: Rng, canvas: Canvas) -> Defect:
    """Patches of scale: large dark areas with frayed edges, on a bright rough finish."""
    u = canvas.unit
    area = canvas.empty()
    for _ in range(rng.integers(1, 5)):
        width = log_uniform(rng, 13, 36) * u
        radii = (width * log_uniform(rng, 0.9, 4.0), width)
        centre = canvas.place(rng, -0.02)
        lean = rng.normal(0, 0.2) if chance(rng, 0.85) else rng.uniform(1.1, 1.9)
        area = merge(area, ellipse(canvas, centre, radii, lean), 10 * u)
    area = ragged(rng, area, (34 * u, 18 * u), rng.uniform(2.5, 5) * u, slope=1.7)
    area = ragged(rng, area, (7 * u, 5 * u), rng.uniform(0.6, 1.6) * u, slope=1.2)
    soft = rng.uniform(2.5, 7) * u
    scale = cover(area, soft)
    strength = float(np.clip(canvas.contrast(rng, 0.32, 0.75), 0.2, 0.8))
    uneven = 1 + rng.uniform(0.04, 0.14) * noise(rng, canvas.shape, 22 * u, 12 * u, slope=1.5)
    rim = np.exp(-(((area - soft) / (3 * u)) ** 2)) * rng.uniform(0, 0.18)
    gain = 1 - strength * scale * np.clip(uneven + rim - 0.05, 0.6, 1.2)
    # A thin stain around the patch.
    stain = np.clip(1 + area / (rng.uniform(8, 20) * u), 0, 1) * (1 - scale)
    gain = gain * (1 - rng.uniform(0, 0.12) * stain)
    if chance(rng, 0.35):
        gain = gain * _pits(rng, canvas)
    return Defect(gain, traced(scale, u), damping=rng.uniform(0.1, 0.5) * scale)


def _pits(rng: Rng, canvas: Canvas) -> Plane:
    """Scattered black specks, as patches often have them in their neighbourhood."""
    u = canvas.unit
    near = canvas.empty()
    for _ in range(rng.integers(1, 5)):
        r = rng.uniform(5, 14) * u
        near = np.maximum(near, ellipse(canvas, canvas.place(rng, 0.0), (1.6 * r, r)))
    crowd = np.clip(0.3 + near / (12 * u), 0, 1)
    field = noise(rng, canvas.shape, 2.4 * u, 2.0 * u, slope=2.2)
    return np.asarray(1 - 0.75 * cover((field - 1.7 - 2.5 * (1 - crowd)) * 2, 0.8))


def red_iron_sheet(rng: Rng, canvas: Canvas) -> Defect:
    """Red scale: broad dull tongues along the strip that fray into streaks at their ends."""
    u = canvas.unit
    tongue = canvas.empty()
    for _ in range(rng.integers(1, 4)):
        width = log_uniform(rng, 6, 26) * u
        length = log_uniform(rng, 35, 160) * u
        centre = canvas.place(rng, 0.0)
        along, across = turned(canvas, *centre, rng.normal(0, 0.05))
        # Flat flanks, long ends: more a tongue than an ellipse.
        body = (1 - (np.abs(along / length) ** 3 + np.abs(across / width) ** 2) ** 0.5) * width
        tongue = merge(tongue, np.maximum(body, -6 * width), 6 * u)
    depth = rng.uniform(3, 7) * u
    tongue = ragged(rng, tongue, (rng.uniform(30, 70) * u, 3.5 * u), depth, slope=1.6)
    tongue = ragged(rng, tongue, (8 * u, 4 * u), 1.5 * u, slope=1.3)
    scale = cover(tongue, rng.uniform(1.5, 5) * u)
    strength = min(canvas.contrast(rng, 0.11, 0.42), 0.6)
    streaks = noise(rng, canvas.shape, 50 * u, 1.6 * u + 0.3, slope=1.4)
    mottle = noise(rng, canvas.shape, 7 * u, 4 * u, slope=1.3)
    uneven = np.clip(1 + 0.18 * streaks + 0.15 * mottle, 0.4, 1.6)
    return Defect(1 - strength * scale * uneven, traced(scale, u), damping=0.2 * scale)
