"""Contact sheet of synthetic surfaces: for each kind a row of photographs, and their outlines.

python tools/contact_sheet.py OUT.png [--kinds patch scratch] [--columns 8] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sdie_fast.data import synthetic

GAP = 4
LABEL = 22
GROUND = (24, 24, 28)
RED = (255, 60, 40)


def outlined(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Photograph in RGB with its mask's inner outline in red."""
    inside = np.asarray(mask) > 0
    wide = np.pad(inside, 1, mode="edge")
    core = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    out = np.array(image.convert("RGB"))
    out[inside & ~core] = RED
    return Image.fromarray(out)


def block(kind: str, columns: int, seed: int, size: tuple[int, int], *, scale: float, outlines: bool) -> Image.Image:
    """One kind's samples side by side under its name (and their outlines in a second row)."""
    if kind == "clean":
        samples = [synthetic.clean(seed=seed + i, size=size) for i in range(columns)]
    else:
        samples = list(synthetic.dataset([kind], per_kind=columns, seed=seed, size=size))
    height, width = (round(side * scale) for side in size)
    rows = 2 if outlines else 1
    shape = (GAP + columns * (width + GAP), LABEL + rows * (height + GAP))
    page = Image.new("RGB", shape, GROUND)
    code = synthetic.FSSD_CODES.get(kind)
    title = kind.replace("_", " ") + (f" ({code})" if code else "")
    ImageDraw.Draw(page).text((GAP, 2), title, fill=(230, 230, 230))
    for i, sample in enumerate(samples):
        image = Image.fromarray(sample.image).resize((width, height), Image.Resampling.LANCZOS)
        mask = Image.fromarray(sample.mask).resize((width, height), Image.Resampling.NEAREST)
        at = (GAP + i * (width + GAP), LABEL)
        page.paste(image, at)
        if outlines:
            page.paste(outlined(image, mask), (at[0], at[1] + height + GAP))
    return page


def sheet(blocks: list[Image.Image], abreast: int) -> Image.Image:
    """Lay blocks of the same size out, some of them side by side."""
    width, height = blocks[0].size
    rows = -(-len(blocks) // abreast)
    page = Image.new("RGB", (width * min(abreast, len(blocks)), height * rows), GROUND)
    for k, one in enumerate(blocks):
        page.paste(one, (k % abreast * width, k // abreast * height))
    return page


def reduced(page: Image.Image, greys: int) -> Image.Image:
    """Page with a palette of evenly spaced greys and the outlines' red: a smaller file."""
    levels = np.linspace(0, 255, greys).round().astype(int)
    palette = Image.new("P", (1, 1))
    palette.putpalette([int(c) for v in levels for c in (v, v, v)] + list(RED))
    return page.quantize(palette=palette, dither=Image.Dither.NONE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    names = [*synthetic.KINDS, "clean"]
    parser.add_argument("--kinds", nargs="+", choices=names, default=list(synthetic.KINDS))
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--abreast", type=int, default=1, help="kinds side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(200, 200), metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=1.0, help="shrink the photographs")
    parser.add_argument("--no-outlines", action="store_true")
    parser.add_argument("--greys", type=int, help="grey levels kept, for a smaller file (2 to 255)")
    given = parser.parse_args()
    blocks = [
        block(
            kind,
            given.columns,
            given.seed,
            tuple(given.size),
            scale=given.scale,
            outlines=not given.no_outlines,
        )
        for kind in given.kinds
    ]
    page = sheet(blocks, given.abreast)
    if given.greys:
        page = reduced(page, given.greys)
    page.save(given.out, optimize=True)


if __name__ == "__main__":
    main()
