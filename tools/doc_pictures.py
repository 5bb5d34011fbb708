"""Draw the pictures of the README and the docs from synthetic surfaces: python tools/doc_pictures.py.

It takes a quarter of a minute on an idle core, needs onnxruntime, and writes into docs/images. With a folder of
photographs and a fetched segmenter it draws what that makes of magnetic tiles instead, in masks and maps alone, since
the photographs are not ours to show: python tools/doc_pictures.py PHOTOGRAPHS SEGMENTER.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import sdie_fast as sdie
from sdie_fast.data import synthetic
from sdie_fast.data.releases import open_dataset
from sdie_fast.learn.inspector import Inspector
from sdie_fast.segment import Options, Sam
from sdie_fast.segment.torch_maps import TorchMaps

IMAGES = Path(__file__).parents[1] / "docs" / "images"
RECIPE = Path(sdie.__file__).parent / "models" / "sdie_small"
# Surfaces that its recipe was not trained on, on which it helps; the demo's table has the average of many.
SHOWN = (("iron_sheet_ash", 15668547501625502598), ("oxide_scale", 9506646866124033717))
# What served each class's shots best (docs/experiments.md).
TILES = {
    "MT_Break": ("guided", "spatiogram"),
    "MT_Crack": ("bilateral", "spatiogram"),
    "MT_Uneven": ("spatiogram", "guided"),
}
EACH_TILE = 3
GAP, TITLE, GROUND, INK = 6, 22, 255, 40


def row_of(pictures: Sequence[np.ndarray], titles: Sequence[str], zoom: int = 1) -> Image.Image:
    """Lay pictures of one size side by side, with their titles above where there are any."""
    height, width = (side * zoom for side in pictures[0].shape)
    top = TITLE if any(titles) else 0
    row = Image.new("L", (len(pictures) * (width + GAP) - GAP, top + height), GROUND)
    for k, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        row.paste(image, (k * (width + GAP), top))
        ImageDraw.Draw(row).text((k * (width + GAP), 2), title, fill=INK, font=ImageFont.load_default(15))
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Lay rows of one width below each other."""
    page = Image.new("L", (rows[0].width, sum(r.height + GAP for r in rows) - GAP), GROUND)
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + GAP
    return page


def readme() -> Image.Image:
    """Before, after and masks."""
    segmenter = Sam(None, Options("cpu", 1))
    inspect = Inspector(RECIPE, segmenter)
    rows = []
    for kind, seed in SHOWN:
        sample = synthetic.surface(kind, seed=seed)
        alone, _ = segmenter(sample.image, grid=6)
        found = inspect(sample.image)
        masks = [np.where(mask, 255, 0).astype(np.uint8) for mask in (alone, found.mask, sample.mask)]
        titles = ("before", "its mask", "after", "its mask", "the truth") if not rows else ("",) * 5
        rows.append(row_of((sample.image, masks[0], found.image, *masks[1:]), titles))
    return stacked(rows)


def one_filter(name: str) -> Image.Image:
    """Part of a surface with flakes of scale: as it came, filtered, and the difference, stretched."""
    image = synthetic.surface("oxide_scale", seed=11).image
    out = getattr(sdie.filters, name)(image)
    at = np.s_[10:110, 90:190]
    change = (out.astype(int) - image)[at]
    factor = max(1, int(100 / np.quantile(np.abs(change), 0.99)))
    difference = np.clip(128 + factor * change, 0, 255).astype(np.uint8)
    return row_of((image[at], out[at], difference), ("before", name, f"difference x {factor}"), zoom=2)


def tiles(photographs: str, segmenter: str) -> Image.Image:
    """Truth, the segmenter's stretched map of tiles as they are, and of tiles as two filters leave them."""
    model = TorchMaps(segmenter, dtype="bfloat16")
    data = open_dataset(photographs, size=200)
    rows = []
    for label, filters in TILES.items():
        weights = [[float(name == own) for name in sdie.FILTERS] for own in filters]
        drawn = data.subset([s.name for s in data.of_class(label)]).drawn(EACH_TILE)
        for k, (_, image, truth) in enumerate(drawn):
            maps = model.maps([image, sdie.enhance(image, weights)])
            shares = [(m - m.min()) / max(float(np.ptp(m)), 1e-12) for m in maps]
            shown = [np.asarray(Image.fromarray((255 * s).astype(np.uint8)).resize((200, 200))) for s in shares]
            titles = ("truth", "alone", " + ".join(filters)) if k == 0 else ("",) * 3
            rows.append(row_of((255 * truth.astype(np.uint8), *shown), titles))
    return stacked(rows)


def main() -> None:
    """Write them all, or the tiles."""
    if sys.argv[1:]:
        tiles(*sys.argv[1:]).save(IMAGES / "tiles.png", optimize=True)
        return
    (IMAGES / "filters").mkdir(parents=True, exist_ok=True)
    for name in sdie.filters.TABLE:
        if name != "identity":
            one_filter(name).save(IMAGES / "filters" / f"{name}.png", optimize=True)
    readme().save(IMAGES / "readme.png", optimize=True)


if __name__ == "__main__":
    main()
