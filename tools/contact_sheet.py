"""Contact sheet of synthetic surfaces: for each kind a row of photographs, and their outlines.

python tools/contact_sheet.py OUT.png [--kinds patch scratch] [--columns 8] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sdie_fast.data import synthetic

GAP = 4
LABEL = 14


def outlined(sample: synthetic.Sample) -> npt.NDArray[np.uint8]:
    """Photograph in RGB with its mask's inner outline in red."""
    mask = np.pad(sample.mask, 1, mode="edge")
    inner = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    out = np.repeat(sample.image[..., None], 3, axis=2)
    out[sample.mask & ~inner] = (255, 60, 40)
    return out


def sheet(
    kinds: list[str], columns: int, seed: int, size: tuple[int, int], *, outlines: bool = True
) -> Image.Image:
    """Lay samples out, one kind a row (and its outlines in a second)."""
    rows = 2 if outlines else 1
    height = LABEL + rows * (size[0] + GAP)
    page = Image.new("RGB", (GAP + columns * (size[1] + GAP), len(kinds) * height), (24, 24, 28))
    pen = ImageDraw.Draw(page)
    for top, kind in zip(range(0, page.height, height), kinds, strict=True):
        code = synthetic.FSSD_CODES.get(kind)
        title = kind.replace("_", " ") + (f" ({code})" if code else "")
        pen.text((GAP, top + 1), title, fill=(220, 220, 220))
        if kind == "clean":
            samples = [synthetic.clean(seed=seed + i, size=size) for i in range(columns)]
        else:
            samples = list(synthetic.dataset([kind], per_kind=columns, seed=seed, size=size))
        for i, sample in enumerate(samples):
            at = (GAP + i * (size[1] + GAP), top + LABEL)
            page.paste(Image.fromarray(sample.image), at)
            if outlines:
                page.paste(Image.fromarray(outlined(sample)), (at[0], at[1] + size[0] + GAP))
    return page


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    names = [*synthetic.KINDS, "clean"]
    parser.add_argument("--kinds", nargs="+", choices=names, default=list(synthetic.KINDS))
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(200, 200), metavar=("H", "W"))
    parser.add_argument("--no-outlines", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="shrink the finished sheet")
    parser.add_argument("--colours", type=int, default=0, help="palette size, for a smaller file")
    given = parser.parse_args()
    page = sheet(
        given.kinds, given.columns, given.seed, tuple(given.size), outlines=not given.no_outlines
    )
    if given.scale != 1.0:
        wanted = (round(page.width * given.scale), round(page.height * given.scale))
        page = page.resize(wanted, Image.Resampling.LANCZOS)
    if given.colours:
        page = page.quantize(given.colours)
    page.save(given.out, optimize=True)


if __name__ == "__main__":
    main()
