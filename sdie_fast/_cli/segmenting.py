"""What `segment` does to one image, plainly or with SDIE, and the files it leaves."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .._files import replace_file
from ..evaluate.report import overlay
from ..learn.inspector import Inspector
from ..learn.runs import runs_in

Plane = npt.NDArray[np.uint8]
Done = tuple[dict[str, npt.NDArray[np.uint8]], dict[str, Any]]  # pictures by suffix, and figures


def _grey(pixels: npt.NDArray[Any]) -> Plane:
    grey = pixels if pixels.ndim == 2 else pixels.mean(2)
    return np.asarray(grey / (257.0 if pixels.dtype == np.uint16 else 1.0)).astype(np.uint8)


def _done(pixels: npt.NDArray[Any], mask: npt.NDArray[np.bool_], quality: float) -> Done:
    pictures = {
        "mask": mask.astype(np.uint8) * np.uint8(255),
        "overlay": overlay(_grey(pixels), mask),
    }
    return pictures, {"predicted_iou": quality, "foreground": float(mask.mean())}


class Plain:
    """The segmenter alone."""

    def __init__(self, segmenter: Any, prompt: Any, options: dict[str, Any]) -> None:
        self._ask = functools.partial(segmenter, prompt=prompt, **(options if isinstance(prompt, str) else {}))
        self.facts: dict[str, Any] = {}

    def __call__(self, pixels: npt.NDArray[Any]) -> Done:
        """Segment one image, (H, W) or (H, W, 3)."""
        mask, score = self._ask(pixels)
        return _done(pixels, mask, float(score[0]))


class Sdie:
    """A recipe's pictures, and the mask that its rule chooses.

    With `train --each-class` the label says whose recipe is taken.
    """

    def __init__(
        self,
        recipe: Path,
        segmenter: Any,
        rule: str | None,
        label: str | None,
        size: int,
        grid: int | None,
        threads: int | None,
    ) -> None:
        runs = {path.name: path for path in runs_in(recipe)}
        if len(runs) > 1:
            from .. import _validate

            recipe = runs[_validate.choice(*runs)("label", label)]
        self._inspector = Inspector(
            recipe, segmenter, rule=rule, label=label, auto=None if grid is None else {"grid": grid}, threads=threads,
        )  # fmt: skip
        self._size = size
        self.facts = {"recipe": self._inspector.recipe.name, "rule": self._inspector.rule}

    def __call__(self, pixels: npt.NDArray[Any]) -> Done:
        """Inspect one image, (H, W) or (H, W, 3), by its grey values."""
        whole = Image.fromarray(_grey(pixels))
        side = self._size
        small = whole.resize((side, side), Image.Resampling.BILINEAR) if side else whole
        found = self._inspector(np.asarray(small))
        mask = Image.fromarray(found.mask.view(np.uint8)).resize(whole.size, Image.Resampling.NEAREST)
        pictures, figures = _done(pixels, np.asarray(mask) > 0, found.quality)
        told = {} if math.isnan(found.score) else {"score": found.score}
        return {**pictures, "enhanced": found.image}, {**figures, "round": found.round, **told}


def write(path: Path, pictures: dict[str, Plane], figures: dict[str, Any]) -> dict[str, Any]:
    """Write PATH.<suffix>.png for each picture, each whole or not at all; give the figures back."""
    for suffix, content in pictures.items():
        picture = Image.fromarray(content)
        replace_file(
            path.with_name(f"{path.name}.{suffix}.png"),
            functools.partial(picture.save, format="PNG"),
        )
    return figures
