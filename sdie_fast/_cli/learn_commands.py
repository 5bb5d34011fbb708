"""The command `train`, and `evaluate` of what it made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..errors import InvalidArgumentError, ModelError
from .common import (
    DataKind,
    DataPath,
    Fold,
    SegmenterBackend,
    SegmenterDtype,
    SegmenterPath,
    Threads,
    failing,
    open_data,
    open_segmenter,
    stderr,
    stdout,
)


def _import_learning() -> Any:
    try:
        from ..learn import train as module
    except ImportError as error:
        raise ModelError(f'{error.name} is missing: pip install "sdie-fast[train]"') from error
    return module


def train(
    data: DataPath,
    out: Annotated[Path, typer.Option(help="The run's folder; one that was interrupted is gone on with.")],
    shots: Annotated[int, typer.Option(help="Labelled images of each class.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of the shots, the networks and the noise.", min=0)] = 0,
    segmentations: Annotated[int, typer.Option(help="Budget: segmentations that may be spent.", min=1)] = 5000,
    prompt: Annotated[str, typer.Option(help="auto, support, or, from the truth, box and point.")] = "auto",
    reward: Annotated[str, typer.Option(help="miou or fb-iou.")] = "miou",
    credit: Annotated[
        str,
        typer.Option(
            help="What a round is rewarded for: own (the paper's), or the best or the vote of the masks so far."
        ),
    ] = "best",
    encoder: Annotated[str, typer.Option(help="small, resnet18 (the paper's), resnet18-imagenet.")] = "small",
    rounds: Annotated[int, typer.Option(help="T, of each pass; the paper: 5.", min=1, max=64)] = 2,
    passes: Annotated[
        int,
        typer.Option(
            help="Series of rounds, each beginning with the image as it came; the paper: 1. ROUNDS times PASSES is 64 at most.",
            min=1,
            max=64,
        ),
    ] = 5,
    each_class: Annotated[
        bool,
        typer.Option(
            "--each-class",
            help="A policy for each class, in OUT/CLASS, each with the whole budget: what helps one kind of defect harms another.",
        ),
    ] = False,
    views: Annotated[int, typer.Option(help="Ways each shot is turned and mirrored: 1, 2, 4 or 8.")] = 8,
    grid: Annotated[
        int | None,
        typer.Option(
            help="With --prompt auto: points a side; fewer are quicker.",
            min=1,
            max=64,
            show_default="12",
        ),
    ] = None,
    solver: Annotated[str, typer.Option(help="Of the WLS filter: exact or fast.")] = "fast",
    published: Annotated[
        bool, typer.Option("--published-code", help="The published code's filters and numbers.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(help="Afterwards search constant weights and a schedule by CMA-ES, with the same budget each."),
    ] = True,
    prior: Annotated[
        bool | None,
        typer.Option(
            "--prior/--no-prior",
            help="Whether the verifier that ships, learned on synthetic surfaces with the small SAM, has a say in the run's.",
            show_default="with the small SAM",
        ),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(help="A file that keeps the segmenter's answers; runs may share it."),
    ] = None,
    segmenter: SegmenterPath = None,
    backend: SegmenterBackend = "auto",
    dtype: SegmenterDtype = "float32",
    kind: DataKind = "auto",
    fold: Fold = None,
    size: Annotated[int, typer.Option(help="Pixels a side that images are resized to.", min=16)] = 200,
    device: Annotated[
        str,
        typer.Option(
            help="Of the networks and their memory of what was tried: cpu, cuda, cuda:1. Images and masks stay there too where "
            "torch runs the segmenter on it: --device cuda --segmenter-backend torch."
        ),
    ] = "cpu",
    provider: Annotated[
        str,
        typer.Option(help="Of the segmenter: auto, tensorrt, cuda or cpu; with torch, auto is --device."),
    ] = "auto",
    threads: Threads = None,
) -> None:
    """Learn how to mix the filters from a few labelled images of each class.

    Leaves in OUT: policy, schedule and fixed (recipes for `enhance --recipe`), verifier.npz (which chooses the final mask),
    split.json (which images were shots), checkpoint.pt, curve.png, result.json. `sdie-fast evaluate DATA --recipe OUT` then judges
    it on the other images.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with failing():
        module = _import_learning()
        from ..filters import FilterParams
        from ..data.shots import Split, draw
        from ..learn import folder as files
        from ..learn.cases import cases_of
        from ..learn.config import Config
        from ..learn.memory import Memory
        from ..learn.outcome import compare as compare_run
        from ..segment.tensors import usable_device

        place = usable_device(device)
        given: dict[str, Any] = {
            "shots": shots, "seed": seed, "prompt": prompt, "reward": reward, "views": views,
            "segmentations": segmentations, "auto": {} if grid is None else {"grid": grid},
            "prior": segmenter is None if prior is None else prior,
        }  # fmt: skip
        if grid is not None and prompt != "auto":
            raise InvalidArgumentError("--grid: accepted only with --prompt auto")
        if published:
            config = Config.published_code(**given)
        else:
            config = Config(
                **given,
                credit=credit,
                encoder=encoder,
                rounds=rounds * passes,
                passes=passes,
                params=FilterParams(wls_solver=solver),  # type: ignore[arg-type]
            )
        found = open_data(data, kind, fold, size)
        in_torch = backend == "torch" or (segmenter is not None and segmenter.is_file())
        where = str(place) if in_torch and provider == "auto" else provider
        model = open_segmenter(segmenter, where, threads, backend, dtype)
        # On a GPU nothing is gained unless the segmenter is there too.
        resident = getattr(model, "device", None) == place
        kept = None if memory is None else Memory(memory, model)
        parts = {"": found}
        if each_class:
            parts = {c: found.subset([s.name for s in found.of_class(c)]) for c in found.classes}
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=stderr) as bar:
            for label, part in parts.items():
                folder = out / label
                with files.locked(folder):
                    files.save_config(folder, config, found.name, model.name)
                    split_file = folder / files.SPLIT
                    if not split_file.exists():
                        draw(part, shots, seed).save(split_file)
                    split = Split.load(split_file)
                shown, _ = split.parts(part)
                cases = cases_of(shown, prompt, shown, own=True, views=views)
                named = f" {label}" if label else ""
                task = bar.add_task(f"training{named}", total=segmentations, told="")

                def watch(p: Any, task: Any = task) -> None:
                    bar.update(
                        task,
                        completed=min(p.segmentations, segmentations),
                        told=f"return {p.mean_return:+.3f}, greedy {p.greedy:+.3f}, {p.steps_per_second:.1f} steps/s",
                    )

                run = module.Training(
                    model,
                    cases,
                    config,
                    folder,
                    device=str(place),
                    amp=place.type != "cpu",
                    resident=resident,
                    threads=threads,
                    watch=watch,
                    memory=kept,
                )
                run.run()
                if compare and not (folder / files.SEARCHED).exists():
                    bar.update(task, description=f"searching{named}", completed=0)
                    compare_run(run)
    for label in parts:
        result = files.read_json(out / label / files.RESULT)
        stdout.print(
            f"{out / label}: on the shots, reward {100 * result['alone']:.1f} alone, "
            f"{100 * result['rules_on_shots'][result['rule']]['reward']:.1f} with SDIE (rule: {result['rule']})",
            highlight=False,
            soft_wrap=True,
        )
    stdout.print(
        f"judge it on the other images: sdie-fast evaluate {data} --recipe {out}",
        highlight=False,
        soft_wrap=True,
    )


def evaluate_recipes(
    data: Any,
    model: Any,
    recipes: list[Path],
    *,
    limit: int | None,
    baselines: bool,
    prompt: str | None,
    auto: dict[str, Any] | None,
    rule: str | None,
    memory: Path | None,
    threads: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """`sdie-fast evaluate DATA --recipe R`: the tables of the paper, and the report."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from ..evaluate.learned import evaluate_run
    from ..evaluate.tables import by_shots, class_table, gain, main_table, rule_table
    from ..learn.memory import Memory

    kept = None if memory is None else Memory(memory, model)
    results, curves = [], []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=stderr, disable=as_json) as bar:
        for path in recipes:
            task = bar.add_task(path.name)
            results.append(
                evaluate_run(
                    model, data, path, limit=limit, baselines=baselines, prompt=prompt, auto=auto, rule=rule,
                    threads=threads, memory=kept,
                    watch=lambda done, total, task=task: bar.update(task, completed=done, total=total),  # type: ignore[misc]
                )
            )  # fmt: skip
            if (path / "curve.png").exists():
                curves.append((path / "curve.png").read_bytes())
    if len({r.rule for r in results}) > 1:
        stderr.print(
            f"the runs fixed different rules on their shots: {', '.join(r.rule for r in results)}",
            style="dim",
        )
    if out is not None:
        try:
            from ..evaluate.learned_report import write_report
        except ImportError as error:
            raise ModelError(f'{error.name} is missing: pip install "sdie-fast[train]"') from error
        write_report(out, f"SDIE on {data.name}", results, curves)
    groups = by_shots(results)
    if as_json:

        def plain(rows: Any) -> Any:
            return {row.name: {k: dataclasses.asdict(v) for k, v in row.figures.items()} for row in rows}

        told = {
            "facts": [r.facts for r in results],
            "rule": [r.rule for r in results],
            "classes": plain(class_table(results)),
            "by shots": {
                name or "recipe": {
                    "main": plain(main_table(runs)),
                    "rules": plain(rule_table(runs)),
                    "gain": dataclasses.asdict(gain(runs)),
                }
                for name, runs in groups.items()
            },
        }
        print(json.dumps(told, indent=1))
        return
    stdout.print(", ".join(f"{k} {v}" for k, v in results[0].facts.items()), highlight=False, soft_wrap=True)
    _print("class", class_table(results))
    for name, runs in groups.items():
        stdout.print(f"[bold]{name}[/bold]" + f", {len(runs)} runs" * (len(runs) > 1), highlight=False)
        _print("", main_table(runs))
        _print("rule", rule_table(runs))
        stdout.print(
            f"SDIE {gain(runs).mean:+.1f} MIoU against the segmenter alone (rule: {runs[0].rule}, fixed on the shots)\n",
            highlight=False,
            soft_wrap=True,
        )


def _print(title: str, rows: Any) -> None:
    table = Table(title, box=None, pad_edge=False)
    for name in rows[0].figures:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.name, *(str(v) for v in row.figures.values()))
    stdout.print(table)
    stdout.print()


def checked(recipes: list[Path]) -> list[Path]:
    """Paths that exist.

    Raises
    ------
    InvalidArgumentError
        One that does not.
    """
    for path in recipes:
        if not path.exists():
            raise InvalidArgumentError(f"--recipe: {path}: no such file or folder")
    return recipes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)
