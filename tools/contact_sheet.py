"""Draw synthetic surfaces of every kind, masks outlined, on one sheet: python tools/contact_sheet.py OUT.png"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from sdie_fast.data import synthetic


def outlined(sample: synthetic.Sample) -> np.ndarray:
    """RGB picture with the mask's border in orange."""
    m = np.pad(sample.mask, 1, mode="edge")
    inner = m[1:-1, 1:-1] & m[:-2, 1:-1] & m[2:, 1:-1] & m[1:-1, :-2] & m[1:-1, 2:]
    rgb = np.repeat(sample.image[..., None], 3, axis=2)
    rgb[sample.mask & ~inner] = (255, 140, 0)
    return rgb


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--per-kind", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    columns = []
    for kind in synthetic.KINDS:
        samples = list(synthetic.dataset([kind], per_kind=args.per_kind, seed=args.seed))
        cells = []
        for sample in samples:
            cells += [np.repeat(sample.image[..., None], 3, axis=2), outlined(sample)]
        columns.append(np.vstack([np.pad(c, ((2, 2), (2, 2), (0, 0))) for c in cells]))
    half = len(columns) // 2
    sheet = np.hstack(columns) if args.per_kind < 3 else np.vstack([np.hstack(columns[:half]), np.hstack(columns[half:])])
    Image.fromarray(sheet).save(args.out)


if __name__ == "__main__":
    main()
