"""`sdie-fast demo`: synthetic surfaces of every kind, enhanced by the recipe that ships, before and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from rich.console import Console

from .. import Enhancer, _validate, default_recipe
from .._files import replace_file
from ..data import synthetic
from ..errors import ImageFileError

_ZOOM = 1.25
_BATCH = 96
_REPEATS = 5


def _sheet(samples: list[synthetic.Sample], after: npt.NDArray[Any]) -> Image.Image:
    """Draw pairs of before and after with the kind's name above, four pairs to a row."""
    h, w = (round(s * _ZOOM) for s in samples[0].image.shape)
    gap, title, per_row = 10, 22, 3
    rows = -(-len(samples) // per_row)
    sheet = Image.new("L", (per_row * (2 * w + 3 * gap), rows * (h + title + gap) + gap), 24)
    draw = ImageDraw.Draw(sheet)
    for k, (sample, result) in enumerate(zip(samples, after, strict=True)):
        left = (k % per_row) * (2 * w + 3 * gap) + gap
        top = (k // per_row) * (h + title + gap) + title + gap // 2
        for x, pixels in ((left, sample.image), (left + w + gap // 2, result)):
            sheet.paste(Image.fromarray(pixels).resize((w, h), Image.Resampling.LANCZOS), (x, top))
        draw.text(
            (left, top - title + 6), f"{sample.kind.replace('_', ' ')}: before, after", fill=235
        )
    return sheet


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def run(out: Path, seed: int, threads: int | None, console: Console | None) -> dict[str, Any]:
    """Make, enhance, measure and draw; returns what `--json` prints.

    Raises
    ------
    ImageFileError
        The folder cannot be written to.
    """
    if console is not None:
        console.print(f"making {len(synthetic.KINDS)} synthetic surfaces", style="dim")
    samples = list(synthetic.dataset(per_kind=1, seed=seed))
    enhancer = Enhancer(default_recipe(), threads=threads)
    before = np.stack([s.image for s in samples])
    after, trace = enhancer(before)
    rows = []
    for sample in samples:
        single = [_seconds(lambda image=sample.image: enhancer(image)) for _ in range(_REPEATS)]  # type: ignore[misc]
        rows.append({"kind": sample.kind, "ms": round(float(np.median(single)) * 1e3, 3)})
    batch = np.concatenate([before] * (_BATCH // len(samples)))
    results = np.empty_like(batch)
    median = float(
        np.median([_seconds(lambda: enhancer(batch, out=results)) for _ in range(_REPEATS)])
    )
    path = out / "before_after.png"
    try:
        sheet = _sheet(samples, after)
        replace_file(path, lambda file: sheet.save(file, format="PNG"))
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error}") from error
    return {
        "sheet": str(path),
        "backend": enhancer.backend,
        "rounds": int(trace.shape[-2]),
        "surfaces": rows,
        "batch": {
            "images": len(batch),
            "threads": _validate.threads(threads),
            "ms_per_image": round(median / len(batch) * 1e3, 4),
            "mpx_per_s": round(batch.size / median / 1e6, 2),
        },
    }
