"""Find the thresholds of "auto" for a segmenter on procedural scenes: `python tools/tune_prompts.py [DIR]`.

Needs `pip install ".[cpu]"`. The scenes are neither those of training nor those that judge it. Prints the best
settings by the mean IoU of the union of masks with the union of a scene's targets.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
from rich.progress import track
from scenes import SIZE, scene

from sdie_fast.segment import Auto, Sam
from sdie_fast.segment.prompts import everything

FIRST = 2_000_000
QUALITY = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
STABILITY = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LARGEST = (0.2, 0.3, 0.4, 0.6)


def candidates(segmenter: Any, number: int, auto: Auto) -> tuple[Any, ...]:
    """Masks of a scene's grid with quality, stability and area, and the truth, at the masks' resolution."""
    s = scene((SIZE, 0, number))
    found = everything(segmenter, segmenter.encode([s.image]), auto)
    masks = found.logits > 0
    step = SIZE // masks.shape[-1] if len(masks) else 2
    truth = s.masks.any(0).reshape(SIZE // step, step, SIZE // step, step).mean((1, 3)) > 0.5
    return masks, found.quality, found.stability, masks.mean((1, 2)), truth


def main() -> None:
    """Decode once, then try every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", help="of export-sam; default: the small SAM that ships")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--grid", type=int, default=16)
    args = parser.parse_args()
    segmenter = Sam(args.directory)
    # Doubles do not change a union: all are kept, so that dropping them does not depend on the thresholds.
    auto = Auto(grid=args.grid, quality=0.0, stability=0.0, overlap=1.0)
    known = [candidates(segmenter, FIRST + k, auto) for k in track(range(args.scenes))]
    results = []
    for quality, stability, largest in itertools.product(QUALITY, STABILITY, LARGEST):
        ious = []
        for masks, scores, steady, area, truth in known:
            kept = (scores >= quality) & (steady >= stability) & (area <= largest)
            union = masks[kept].any(0) if kept.any() else np.zeros_like(truth)
            ious.append((union & truth).sum() / max((union | truth).sum(), 1))
        results.append((float(np.mean(ious)), quality, stability, largest))
    print("mean IoU  quality  stability  largest")
    for iou, *settings in sorted(results, reverse=True)[:10]:
        print(f"{iou:8.3f}  " + "  ".join(f"{v:7.2f}" for v in settings))


if __name__ == "__main__":
    main()
