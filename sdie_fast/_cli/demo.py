"""`sdie-fast demo`: synthetic surfaces enhanced, before and after; and segmented, the segmenter alone beside SDIE."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .. import Enhancer, _validate, default_recipe
from ..data import synthetic
from ..errors import ImageFileError
from ..files import replace_file
from .common import bars, needing, remark, say, show_table

# The recipe of tools/train_recipe.py, its selection rule, and the points of its prompt: see the card beside it.
RECIPE = Path(__file__).parents[1] / "models" / "sdie_small"
RULE, AUTO = "verifier", {"grid": 6}
_EACH = 3
_APART = 2000  # from the seeds of the surfaces that it was trained on
_ZOOM = 1.25
_BATCH = 96
_REPEATS = 5
_WAYS = ("alone", "sdie", "oracle")


def _sheet(samples: list[synthetic.Photograph], after: npt.NDArray[Any]) -> Image.Image:
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
        draw.text((left, top - title + 6), f"{sample.kind.replace('_', ' ')}: before, after", fill=235)
    return sheet


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def run(out: Path, seed: int, threads: int | None) -> dict[str, Any]:
    """Make, enhance, measure and draw; returns what `--json` prints.

    Raises
    ------
    ImageFileError
        The folder cannot be written to.
    """
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
    median = float(np.median([_seconds(lambda: enhancer(batch, out=results)) for _ in range(_REPEATS)]))
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


def segment(out: Path, seed: int, threads: int | None, *, show: bool) -> dict[str, Any]:
    """Segment surfaces that the recipe was not trained on, alone and with SDIE, and write the report.

    Raises
    ------
    MissingPackageError
        onnxruntime or matplotlib is missing.
    ImageFileError
        The folder cannot be written to.
    """
    with needing("demo"):
        for name in ("matplotlib", "onnxruntime"):
            importlib.import_module(name)
    from ..data.releases import open_defect4i
    from ..evaluate.judge import ALONE, SDIE, evaluate_run
    from ..evaluate.report import write_report
    from ..evaluate.tables import gain
    from ..segment import Options, Sam

    path = out / "report.html"
    bar = bars(show)
    task = bar.add_task("segmenting", total=None, told="")
    with bar, tempfile.TemporaryDirectory() as folder:
        written = synthetic.write_dataset(Path(folder) / "surfaces", per_kind=_EACH, seed=_APART + seed)
        data = replace(open_defect4i(written), name="synthetic surfaces")
        result = evaluate_run(
            Sam(None, Options("cpu", threads)), data, RECIPE, baselines=False, auto=AUTO, rule=RULE,
            threads=threads, pictures=2,
            watch=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    try:
        write_report(path, "Segmentation-driven image enhancement", [result])
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error}") from error
    kinds = {f"Steel_{c}": k.replace("_", " ") for k, c in synthetic.FSSD_CODES.items()}
    scores = dict(
        zip(_WAYS, (result.headline(ALONE), result.headline(SDIE), result.scores[SDIE]["oracle"]), strict=True)
    )
    return {
        "report": str(path),
        "images": len(result.cases),
        "rule": result.rule,
        "classes": [
            {"kind": kinds[label], "label": label, **{way: round(100 * s.iou[label], 1) for way, s in scores.items()}}
            for label in scores["alone"].iou
        ],
        "miou": {way: s.miou for way, s in scores.items()},
        "fb_iou": {way: s.fb_iou for way, s in scores.items()},
        "gain": gain([result]).mean,
    }


def tell(result: dict[str, Any]) -> None:
    """Print what `run` and `segment` returned."""
    show_table(
        ("kind of defect", "ms an image"),
        ((row["kind"].replace("_", " "), f"{row['ms']:.2f}") for row in result["surfaces"]),
    )
    batch = result["batch"]
    say(
        f"batch of {batch['images']}: {batch['ms_per_image']:.3f} ms an image, {batch['mpx_per_s']:.0f} Mpx/s on "
        f"{batch['threads']} threads, {result['rounds']} rounds each"
    )
    remark(f"before and after: {result['sheet']}")
    found = result["segmentation"]
    if found is None:
        say(f"not segmented: {result['missing']}")
        return
    rows = [(f"{row['kind']} ({row['label']})", [row[k] for k in _WAYS]) for row in found["classes"]]
    rows += [(name, [100 * found[key][k] for k in _WAYS]) for name, key in (("MIoU", "miou"), ("FB-IoU", "fb_iou"))]
    show_table(
        ("IoU, %", "segmenter alone", "SDIE", "oracle"),
        ((name, *(f"{value:.1f}" for value in values)) for name, values in rows),
    )
    say(
        "oracle: of each picture the round that the truth rewards most, and never the picture as it came; over a class's "
        "sums SDIE, which may keep that picture, can come out higher"
    )
    say(
        f"{found['images']} surfaces; SDIE {found['gain']:+.1f} MIoU against the segmenter alone, before rounding; rule "
        f"of SDIE: {found['rule']}; report: {found['report']}"
    )
    say(
        "photographs and a large segmenter that others trained: ISNet, MIoU 11 alone, 27 with five shots; get it by "
        "`sdie-fast fetch-segmenter isnet isnet/`"
    )
