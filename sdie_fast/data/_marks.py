"""Defects cut or pressed into the strip, and what was rolled into it.

Each function draws one kind on a canvas. Sizes are in units of a 200th of the image's side.
"""

from __future__ import annotations

import numpy as np

from ._shapes import Canvas, Defect, Mask, cover, ellipse, merge, ragged, relief, spindle, traced, turned
from ._texture import Plane, Rng, blur, chance, log_uniform, noise, profile


def abrasion_mask(rng: Rng, canvas: Canvas) -> Defect:
    """Abraded area: a field of fine parallel scuffs, brighter than the strip, with soft ends."""
    u = canvas.unit
    angle = rng.normal(0, 0.12) if chance(rng, 0.7) else rng.uniform(-1.4, 1.4)
    area = canvas.empty()
    for _ in range(rng.integers(1, 4)):
        width = log_uniform(rng, 5, 24) * u
        centre = canvas.place(rng)
        along, across = turned(canvas, *centre, angle)
        length = width * log_uniform(rng, 1.5, 6)
        body = (1 - (np.abs(along / length) ** 3 + np.abs(across / width) ** 3) ** 0.4) * width
        area = merge(area, np.maximum(body, -5 * width), 4 * u)
    # The scuffs end one by one, not along a line.
    ends = noise(rng, canvas.shape, 25 * u, 1.5 * u + 0.4, slope=1.5, angle=angle)
    area = area + rng.uniform(2, 4) * u * ends
    envelope = cover(area, rng.uniform(1.5, 3.5) * u)
    lines = noise(rng, canvas.shape, rng.uniform(30, 70) * u, 0.8, slope=1.6, angle=angle)
    coarse = noise(rng, canvas.shape, 60 * u, 2.5 * u + 0.4, slope=1.8, angle=angle)
    scuffs = np.clip(0.55 + 0.5 * lines + 0.35 * coarse, 0, 2.2)
    patchy = np.clip(1 + 0.25 * noise(rng, canvas.shape, 12 * u, 12 * u), 0.4, 1.6)
    strength = canvas.contrast(rng, 0.17, 0.65)
    change = strength * envelope * (0.25 + 0.75 * scuffs) * patchy
    gain = 1 + change if chance(rng, 0.8) else 1 - 0.75 * np.tanh(change)
    return Defect(gain, traced(envelope, u), damping=0.4 * envelope)


def punching(rng: Rng, canvas: Canvas) -> Defect:
    """Punched hole: round, dark or lit from behind, with a burr that shines on one side."""
    u = canvas.unit
    hole = canvas.empty()
    radius = log_uniform(rng, 9, 42) * u
    flat = rng.uniform(0.75, 1.0)
    turn = rng.uniform(0, np.pi)
    centre = canvas.place(rng, 0.12)
    hole = ellipse(canvas, centre, (radius, radius * flat), turn)
    other = canvas.place(rng, 0.1)
    if chance(rng, 0.25) and np.hypot(other[0] - centre[0], other[1] - centre[1]) > 2.6 * radius:
        hole = np.maximum(hole, ellipse(canvas, other, (radius, radius * flat), turn))
    hole = ragged(rng, hole, (0.5 * radius, 0.5 * radius), 0.02 * radius, slope=2.0)
    opening = cover(hole, 0.8)
    azimuth = rng.uniform(0, 2 * np.pi)
    burr = rng.uniform(1.0, 2.6) * u
    # The strip is bent around the hole: a soft bright and dark collar.
    collar = relief(cover(hole + 3 * burr, 3 * burr), azimuth, 2 * burr)
    edge = np.exp(-(((hole + 0.6 * burr) / (0.7 * burr + 0.4)) ** 2))
    lit = relief(opening, azimuth, burr)
    rough = np.clip(1 + 0.4 * noise(rng, canvas.shape, 3 * u, 3 * u), 0.2, 2)
    shine = edge * rough * (rng.uniform(0.1, 0.5) + rng.uniform(0.4, 1.6) * np.clip(lit, 0, None))
    shine = (shine + rng.uniform(0.15, 0.45) * collar) * (1 - opening)
    if chance(rng, 0.7):
        # Through a dark hole a little of what lies behind is seen.
        behind = rng.uniform(0.03, 0.35) * (1 + 0.15 * noise(rng, canvas.shape, 30 * u, 30 * u))
        behind = behind * (1 - rng.uniform(0, 0.5) * np.clip(lit, -1, 1))
    else:
        behind = np.full(canvas.shape, rng.uniform(3.0, 7.0))
        # The light behind it drowns the burr and blooms over the rim.
        shine = 0.25 * shine + rng.uniform(0.1, 0.4) * np.exp(np.clip(hole, None, 0) / (3 * u + 0.5))
    gain = 1 - opening + opening * np.clip(behind, 0.02, None)
    return Defect(gain, opening > 0.5, shine, opening)


def roll_printing(rng: Rng, canvas: Canvas) -> Defect:
    """Print of a damaged roll: one small embossed mark, repeated once a turn of the roll."""
    u = canvas.unit
    size = log_uniform(rng, 4, 15) * u
    pitch = max(log_uniform(rng, 34, 95) * u, 2.6 * size)
    row, column = rng.uniform(0, pitch), canvas.place(rng, 0.12)[1]
    outline = _print(rng, canvas, size)
    marks = canvas.empty()
    weight = np.zeros(canvas.shape)
    while row < canvas.shape[0] + size:
        shift = (round(row), round(column + rng.normal(0, 0.3) * u))
        one = _moved(outline, shift, canvas.shape)
        one = ragged(rng, one, (4 * u, 4 * u), 0.35 * u)
        # Each print takes a little differently.
        weight = np.where(one > marks, rng.uniform(0.75, 1.1), weight)
        marks = np.maximum(marks, one)
        row += pitch
    print_ = cover(marks, rng.uniform(0.6, 1.5) * u)
    strength = canvas.contrast(rng, 0.13, 0.45)
    shade = relief(print_, rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 2.0) * u)
    uneven = np.clip(1 + 0.2 * noise(rng, canvas.shape, 5 * u, 4 * u, slope=1.5), 0.5, 1.5)
    body = (-0.8 if chance(rng, 0.75) else 0.9) * print_ * uneven
    gain = 1 + strength * weight * (body + rng.uniform(0.3, 1.0) * shade)
    return Defect(np.clip(gain, 0.15, None), print_ > 0.5, damping=0.5 * print_)


def _print(rng: Rng, canvas: Canvas, size: float) -> Plane:
    """Outline of one mark about the middle of a plane wide enough to be moved over the canvas."""
    side = int(np.ceil(4 * size)) * 2 + 1
    local = Canvas((side, side), canvas.roughness)
    middle = (side // 2, side // 2)
    mark = local.empty()
    for _ in range(rng.integers(1, 5)):
        shift = rng.normal(0, 0.45, 2) * size
        radii = (size * rng.uniform(0.25, 0.9), size * rng.uniform(0.15, 0.5))
        near = (middle[0] + shift[0], middle[1] + shift[1])
        mark = merge(mark, ellipse(local, near, radii, rng.uniform(0, np.pi)), 0.4 * size)
    if chance(rng, 0.3):
        # A crescent: the rim of a spalled roll.
        bite = (middle[0] + rng.normal(0, 0.4) * size, middle[1] + rng.normal(0, 0.4) * size)
        mark = np.minimum(mark, -ellipse(local, bite, (0.45 * size, 0.35 * size)))
    return ragged(rng, mark, (0.5 * size, 0.5 * size), 0.06 * size, slope=1.8)


def _moved(local: Plane, centre: tuple[int, int], shape: tuple[int, int]) -> Plane:
    """Put a square of distances down with its middle on a point of a larger plane."""
    out = Canvas(shape, 0.0).empty()
    half = local.shape[0] // 2
    target, source = [], []
    for middle, side in zip(centre, shape, strict=True):
        first, last = max(0, middle - half), min(side, middle + half + 1)
        target.append(slice(first, max(first, last)))
        source.append(slice(first - middle + half, max(first, last) - middle + half))
    out[target[0], target[1]] = local[source[0], source[1]]
    return out


def scratch(rng: Rng, canvas: Canvas) -> Defect:
    """Scratches: bright lines along or across the strip, alone, in bundles, or swung."""
    kind = rng.choice(["lines", "bundle", "both", "band", "swung"], p=[0.36, 0.2, 0.16, 0.1, 0.18])
    angle = rng.normal(0, 0.035)
    u = canvas.unit
    bright = np.zeros(canvas.shape)
    mask = np.zeros(canvas.shape, dtype=np.bool_)
    if kind in ("lines", "both"):
        for _ in range(rng.integers(1, 8)):
            width = log_uniform(rng, 1.0, 4.5) * u
            one = _line(rng, canvas, angle + rng.normal(0, 0.012), width, 0.0)
            bright, mask = np.maximum(bright, one), mask | (blur(one, 0.7) > 0.18)
    if kind in ("bundle", "both", "band"):
        one, where = _bundle(rng, canvas, angle, soft=kind == "band")
        bright, mask = np.maximum(bright, one), mask | where
    if kind == "swung":
        for _ in range(rng.integers(1, 4)):
            width = log_uniform(rng, 1.3, 4.0) * u
            lean = angle + rng.normal(0, 0.3)
            one = _line(rng, canvas, lean, width, rng.normal(0, 0.0025) / u)
            bright, mask = np.maximum(bright, one), mask | (blur(one, 0.7) > 0.18)
    strength = canvas.contrast(rng, 0.3, 1.9)
    return Defect(1 + strength * bright, mask, damping=0.3 * np.clip(bright, 0, 1))


def _line(rng: Rng, canvas: Canvas, angle: float, width: float, bend: float) -> Plane:
    """One scratch: brightness 0 to about 1.2 along a line that wanders, fades and breaks."""
    u = canvas.unit
    along, across = turned(canvas, *canvas.place(rng, 0.06), angle)
    span = int(np.hypot(*canvas.shape)) + 2
    s = np.arange(-span, span + 1, dtype=np.float64)
    n = s.size
    wander = rng.uniform(0.1, 0.9) * u * profile(rng, n, 30 * u + 2)
    depth = 0.8 + 0.3 * profile(rng, n, 14 * u + 1) + 0.18 * profile(rng, n, 1.5 * u + 0.5)
    breaks = profile(rng, n, 25 * u + 1) + rng.uniform(0.6, 3.0)
    depth = np.clip(depth, 0.15, 1.3) * np.clip(breaks * 2, 0, 1)
    half = 0.5 * width * np.clip(1 + 0.25 * profile(rng, n, 10 * u + 1), 0.4, 2)
    if chance(rng, 0.45):
        length = rng.uniform(35, 130) * u
        depth = depth * np.clip((length / 2 - np.abs(s)) / (8 * u + 1), 0, 1)
    off = np.abs(across - bend * along**2 - np.interp(along, s, wander))
    return np.asarray(cover(np.interp(along, s, half) - off, 0.5) * np.interp(along, s, depth))


def _bundle(rng: Rng, canvas: Canvas, angle: float, *, soft: bool) -> tuple[Plane, Mask]:
    """Band of scratches side by side, and its area; soft: a burnished band with a hot edge."""
    u = canvas.unit
    width = log_uniform(rng, 6, 28) * u
    along, across = turned(canvas, *canvas.place(rng, 0.08), angle)
    edge = ragged(rng, 0.5 * width - np.abs(across), (50 * u, 3 * u), 0.5 * u, slope=1.5)
    span = int(np.hypot(*canvas.shape)) + 2
    s = np.arange(-span, span + 1, dtype=np.float64)
    band = cover(edge, (2.0 if soft else 0.8) * u)
    if chance(rng, 0.3):
        # Its lines end one by one, each running out.
        ends = rng.uniform(20, 90) * u + 9 * u * profile(rng, s.size, 1.2 * u + 0.4)
        band = band * cover(np.interp(across, s, ends) - along, 7 * u)
    grooves = profile(rng, s.size, rng.uniform(0.6, 1.6) * u + 0.5)
    lines = np.clip(0.55 + 0.45 * np.interp(across, s, grooves), 0.22, 1.3)
    fade = np.clip(1 + 0.2 * noise(rng, canvas.shape, 30 * u, 2 * u + 0.4, slope=1.5), 0.3, 1.6)
    if soft:
        across_band = np.clip(across / width + 0.5, 0, 1)
        lines = 0.3 + 0.8 * np.exp(-(((across_band - rng.uniform(0.1, 0.5)) / 0.2) ** 2))
    return band * lines * fade, traced(band, u)


def inclusion(rng: Rng, canvas: Canvas) -> Defect:
    """Slag rolled in: dark willow leaves along the strip, alone or in a cluster."""
    u = canvas.unit
    marks = canvas.empty()
    middle = canvas.place(rng, 0.12)
    lean = rng.normal(0, 0.025)
    big = int(rng.integers(1, 5))
    for _ in range(big):
        centre = (middle[0] + rng.normal(0, 38) * u, middle[1] + rng.normal(0, 24) * u)
        length = log_uniform(rng, 22, 150) * u
        width = min(length * log_uniform(rng, 0.09, 0.25), 24 * u)
        # A wide one is torn lengthwise into several leaves.
        for _ in range(rng.integers(1, 5)):
            shift = (centre[0] + rng.normal(0, 0.2) * length, centre[1] + rng.normal(0, 0.4) * width)
            part = length * rng.uniform(0.4, 1.0)
            spindle(rng, marks, shift, (part, max(width * rng.uniform(0.4, 0.9), 1.4)), lean=lean)
    for _ in range(rng.integers(0, 9)):
        centre = (middle[0] + rng.normal(0, 60) * u, middle[1] + rng.normal(0, 30) * u)
        length = log_uniform(rng, 8, 26) * u
        spindle(rng, marks, centre, (length, max(0.2 * length, 1.8)), lean=lean)
    marks = ragged(rng, marks, (4 * u, 1.3 * u + 0.4), rng.uniform(0.1, 0.4) * u, slope=1.3)
    slag = cover(marks, rng.uniform(0.5, 1.4) * u)
    strength = min(canvas.contrast(rng, 0.1, 0.42), 0.6)
    uneven = np.clip(1 + 0.2 * noise(rng, canvas.shape, 9 * u, 3 * u, slope=1.4), 0.5, 1.5)
    stain = np.exp(-np.clip(-marks, 0, None) / (6 * u)) * rng.uniform(0, 0.15)
    gain = 1 - strength * np.maximum(slag * uneven, stain)
    return Defect(gain, slag > 0.5, damping=0.3 * slag)
