"""The commands `segment`, `evaluate` and `export-sam`."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _validate
from ..data.releases import open_dataset
from ..errors import InvalidArgumentError, SdieError
from ..files import IMAGE_SUFFIXES, LocalStore, grey, read, replace_file
from .common import (
    DataKind,
    DataPath,
    Fold,
    Json,
    Provider,
    Quiet,
    SegmenterBackend,
    SegmenterDtype,
    SegmenterPath,
    Threads,
    bars,
    failing,
    needing,
    progress,
    remark,
    show_table,
    stderr,
    stdout,
)

_Grid = Annotated[
    int | None, typer.Option(help="With auto: points a side.", min=1, max=64, show_default="12, or the recipe's")
]
_Quality = Annotated[
    float | None, typer.Option(help="With auto: lowest predicted IoU.", min=0.0, max=1.0, show_default="the model's")
]
_Stability = Annotated[
    float | None, typer.Option(help="With auto: lowest stability.", min=0.0, max=1.0, show_default="the model's")
]
_Rule = Annotated[str, typer.Option(help="With auto: union or not-background.")]


def evaluate(
    data: DataPath,
    prompt: Annotated[
        str | None,
        typer.Option(help="auto, support, or, from the truth, box or point.", show_default="auto, or the recipe's"),
    ] = None,
    segmenter: SegmenterPath = None,
    backend: SegmenterBackend = "auto",
    dtype: SegmenterDtype = "float32",
    recipe: Annotated[
        list[Path] | None, typer.Option(help="A run of `train`, or a recipe; repeatable: mean and spread.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="With --recipe: what SDIE must beat, too.")] = True,
    kind: DataKind = "auto",
    fold: Fold = None,
    size: Annotated[int, typer.Option(help="Pixels a side; 0 keeps the images' own.", min=0)] = 200,
    limit: Annotated[int | None, typer.Option(help="Images of each class, drawn by name.", min=1)] = None,
    shots: Annotated[int, typer.Option(help="With support: images of each class.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="With support: of the split.")] = 0,
    select: Annotated[
        str | None, typer.Option(help="With --recipe: rule of the final mask.", show_default="the shots'")
    ] = None,
    memory: Annotated[
        Path | None, typer.Option(help="With --recipe: a file that keeps the segmenter's answers.")
    ] = None,
    grid: _Grid = None,
    quality: _Quality = None,
    stability: _Stability = None,
    rule: _Rule = "union",
    provider: Provider = "auto",
    threads: Threads = None,
    out: Annotated[Path | None, typer.Option(help="A page with pictures.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a segmenter, or what was learned for it: IoU of each class, their mean (MIoU), and FB-IoU.

    Example: sdie-fast evaluate photos/ --recipe run --out page.html
    """
    from ..evaluate.judge import evaluate_segmenter
    from ..evaluate.report import Report
    from ..segment.opening import open_segmenter

    with failing():
        found = open_dataset(data, kind, fold=fold, size=size or None)
        model = open_segmenter(segmenter, provider, threads, backend, dtype)
        if recipe:
            from . import learn_commands

            learn_commands.evaluate_recipes(
                found, model, recipe, limit=limit, baselines=baselines,
                prompt=prompt, auto=None if grid is None else {"grid": grid}, rule=select, memory=memory,
                threads=threads, out=out, as_json=as_json,
            )  # fmt: skip
            return
        prompt = prompt or "auto"
        if limit is not None:
            found = found.drawn(limit)
        report = Report()
        options = {"grid": grid or 12, "quality": quality, "stability": stability, "rule": rule}
        with progress("segmenting", len(found), not as_json) as advance:

            def watch(case: Any) -> None:
                advance()
                if out is not None:
                    report.add(case)

            result = evaluate_segmenter(model, found, prompt, shots=shots, seed=seed, options=options, watch=watch)
        scores = result.scores
        facts = {
            "data": found.name,
            "segmenter": model.name,
            "running on": ", ".join(dict.fromkeys(model.providers)),
            "prompt": f"{prompt}, from the truth" if prompt in ("box", "point") else prompt,
            "size": size or "as it is",
            **({"shots": shots, "seed": seed} if prompt == "support" else {}),
            **(options if prompt == "auto" and model.takes_prompts else {}),
        }
        given = {k: v for k, v in facts.items() if v is not None}
        if out is not None:
            report.write(out, f"{found.name}: {model.name}", given, result)
    if as_json:
        split = None if result.split is None else vars(result.split)
        print(json.dumps({**facts, "scores": scores.to_dict(), "split": split, "images": result.images}, indent=1))
        return
    stdout.print(", ".join(f"{k} {v}" for k, v in given.items()), highlight=False, soft_wrap=True)
    show_table(
        ("class", "images", "IoU"),
        (
            (name, str(scores.images[name]), "-" if math.isnan(value) else f"{100 * value:.1f}")
            for name, value in scores.iou.items()
        ),
    )
    stdout.print(
        f"MIoU {100 * scores.miou:.1f}, FB-IoU {100 * scores.fb_iou:.1f} "
        f"(foreground {100 * scores.foreground_iou:.1f}, background {100 * scores.background_iou:.1f})",
        highlight=False,
    )


def segment(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="An image file, or a folder searched with its subfolders.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder: X.mask.png, X.overlay.png, and quality.json.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="A run of `train`, or a recipe: the best mask of every picture that it makes.")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            help="With --recipe: last, predicted-iou, stability, agreement, vote, verifier.", show_default="the shots'"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="With --recipe: the class looked for.", show_default="the likeliest")
    ] = None,
    size: Annotated[
        int, typer.Option(help="With --recipe: pixels a side on the way; 0 keeps the image's.", min=0)
    ] = 200,
    segmenter: SegmenterPath = None,
    backend: SegmenterBackend = "auto",
    dtype: SegmenterDtype = "float32",
    box: Annotated[list[str] | None, typer.Option(help="x0,y0,x1,y1 in pixels; repeatable.")] = None,
    point: Annotated[list[str] | None, typer.Option(help="x,y inside; repeatable.")] = None,
    grid: _Grid = None,
    quality: _Quality = None,
    stability: _Stability = None,
    rule: _Rule = "union",
    provider: Provider = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Segment an image file, or every image in a folder; without --box or --point, everything that stands out.

    A file that cannot be read is reported and the rest go on (exit code 1). With --recipe, X.enhanced.png is the picture
    that the mask was found in.

    Example: sdie-fast segment photos/ masks/ --recipe run
    """
    import numpy as np

    from ..batch.listing import targets
    from ..segment import Prompt
    from ..segment.opening import open_segmenter

    failed = 0
    with failing():
        boxes, points = _numbers(box, 4, "box"), _numbers(point, 2, "point")
        if boxes is not None and points is not None:
            raise InvalidArgumentError("--box, --point: both were given; one is accepted")
        model = open_segmenter(segmenter, provider, threads, backend, dtype)
        if recipe is None:
            if select is not None or label is not None:
                raise InvalidArgumentError("--select, --label: accepted only with --recipe")
            facts: dict[str, Any] = {}
            ask = functools.partial(model, grid=grid or 12, quality=quality, stability=stability, rule=rule)
            if boxes is not None:
                ask = functools.partial(model, prompt=Prompt(boxes=boxes))
            elif points is not None:
                ask = functools.partial(model, prompt=Prompt(points[:, None], np.ones((len(points), 1), np.float32)))
            way: _Way = functools.partial(_plain, ask)
        else:
            if boxes is not None or points is not None:
                raise InvalidArgumentError("--box, --point: accepted only without --recipe")
            from .learn_commands import warn_of_another

            way, facts = _sdie(recipe, model, select, label, size, grid, threads)
            warn_of_another(recipe, model)
        if source.is_file():
            files = [source]
        elif not source.is_dir():
            raise InvalidArgumentError(f"IN: {source} does not exist")
        else:
            files = sorted(source / pair.source.name for pair in targets(LocalStore(source), LocalStore(target)))
            if not files:
                raise InvalidArgumentError(f"IN: no image files ({', '.join(IMAGE_SUFFIXES)}) under {source}")
        judged = {}
        with progress("segmenting", len(files), True) as advance:
            for file in files:
                name = file.name if source.is_file() else file.relative_to(source).as_posix()
                try:
                    pictures, judged[name] = way(read(file).pixels)
                    for suffix, picture in pictures.items():
                        save = functools.partial(picture.save, format="PNG")
                        replace_file(target / f"{name}.{suffix}.png", save)
                except SdieError as error:
                    failed += 1
                    told = f"failed: {error}"
                    stderr.print(told, markup=False, highlight=False, style="red", soft_wrap=True)
                advance()
        text = json.dumps({"segmenter": model.name, **facts, "images": judged}, indent=1)
        replace_file(target / "quality.json", lambda f: f.write(text.encode()))
    remark(f"{len(judged):,} segmented, {failed:,} failed")
    if failed:
        raise typer.Exit(1)


_Way = Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]  # an image's pictures by suffix, and figures


def _grey(pixels: Any) -> Any:
    """An image's luma as data sets read it (Pillow's, BT.601), 8 bits: what training saw."""
    from PIL import Image

    return Image.fromarray(grey(pixels))


def _done(image: Any, mask: Any, quality: float) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np
    from PIL import Image

    from ..evaluate.report import overlay

    painted = Image.fromarray(overlay(np.asarray(image), mask))
    pictures = {"mask": Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), "overlay": painted}
    return pictures, {"predicted_iou": quality, "foreground": float(mask.mean())}


def _plain(ask: Callable[[Any], Any], pixels: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The segmenter alone, on one image (H, W) or (H, W, 3)."""
    mask, score = ask(pixels)
    return _done(_grey(pixels), mask, float(score[0]))


def _sdie(
    recipe: Path, segmenter: Any, rule: str | None, label: str | None, size: int, grid: int | None, threads: int | None
) -> tuple[_Way, dict[str, Any]]:
    """A recipe's pictures, and the mask that its rule chooses; of a run for each class, that of the label."""
    import numpy as np
    from PIL import Image

    from ..learn.inspector import Inspector
    from ..learn.runs import runs_in

    runs = {path.name: path for path in runs_in(recipe)}
    if len(runs) > 1:
        recipe = runs[_validate.choice(*runs)("label", label)]
    auto = None if grid is None else {"grid": grid}
    inspect = Inspector(recipe, segmenter, rule=rule, label=label, auto=auto, threads=threads)

    def way(pixels: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        image = _grey(pixels)
        found = inspect(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR) if size else image))
        mask = Image.fromarray(found.mask.view(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
        pictures, figures = _done(image, np.asarray(mask) > 0, found.quality)
        told = {} if math.isnan(found.score) else {"score": found.score}
        return {**pictures, "enhanced": Image.fromarray(found.image)}, {**figures, "round": found.round, **told}

    return way, {"recipe": inspect.recipe.name, "rule": inspect.rule}


def _numbers(texts: list[str] | None, count: int, name: str) -> Any:
    """Points or boxes as they were typed: float32 (K, count), or None."""
    import numpy as np

    try:
        values = [[float(v) for v in text.split(",")] for text in texts or []]
    except ValueError as error:
        raise InvalidArgumentError(f"--{name}: {texts}; {count} numbers with commas are accepted") from error
    if any(len(v) != count for v in values):
        raise InvalidArgumentError(f"--{name}: {texts}; {count} numbers with commas are accepted")
    return np.array(values, np.float32) if values else None


def export_sam(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="An official SAM checkpoint, or one of tools/train_small_sam.py."),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; new or empty.")],
    architecture: Annotated[
        str | None, typer.Option(help="vit_b, vit_l, vit_h or small.", show_default="what the checkpoint is")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the encoder: fp32, fp16, or int8 (ViT on a CPU).")] = "fp32",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a SAM checkpoint to ONNX, compare it with torch, and keep it only if both agree.

    Needs `pip install "sdie-fast[sam]"`. The directory is what `--segmenter` takes.

    Example: sdie-fast export-sam sam_vit_b_01ec64.pth sam/
    """
    with failing():
        with needing("sam"):
            from ..segment.export import export_sam as export
        with bars() as bar:
            task = bar.add_task("exporting", total=None)
            manifest = export(
                checkpoint, directory, architecture=architecture, precision=precision,
                progress=lambda words: bar.update(task, told=words),
            )  # fmt: skip
    if as_json:
        print(json.dumps({"directory": str(directory), **vars(manifest)}, indent=1))
        return
    size = sum((directory / name).stat().st_size for name in manifest.files)
    remark(
        f"{directory}: {manifest.name} {manifest.precision}, {size / 1e6:.1f} MB; against torch: embedding within "
        f"{manifest.parity['embedding_error']:.1e} of its spread, masks' IoU "
        f"{manifest.parity['mask_iou']:.4f} or better"
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Masks of an image, or of a folder.")(segment)
    app.command(short_help="Judge a segmenter or a recipe: IoU.")(evaluate)
    app.command("export-sam", short_help="Convert a SAM checkpoint to ONNX.")(export_sam)
