"""The command `train`, and `evaluate` of what it made."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidArgumentError
from .common import Quiet, bars, complain, failing, needing, remark, say, show_table, stderr, stdout


def _path(text: str | None) -> str | None:
    return None if text is None else str(Path(text).resolve())


def _placed(job: Any) -> tuple[Any, Any]:
    """A job whose device, backend and paths are settled, and its segmenter."""
    import torch

    from ..segment.opening import is_checkpoint, open_segmenter
    from ..segment.tensors import usable_device

    device = job.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = usable_device(device)
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    source, backend = job.segmenter, job.backend
    if backend == "auto":
        checkpoint = source is not None and is_checkpoint(Path(source))
        rebuilt = source is None and place.type == "cuda" and importlib.util.find_spec("segment_anything")
        backend = "torch" if checkpoint or rebuilt else "onnx"
    if backend != "torch" and place.index:
        raise InvalidArgumentError(
            f"device: received {device!r} with a segmenter in ONNX Runtime; accepted: auto, cpu, cuda, or another with "
            'backend = "torch"'
        )
    # "auto" may fall back; a device that was named may not.
    usual = "auto" if job.device == "auto" else place.type
    provider = {"onnx": usual, "tensorrt": "tensorrt", "torch": str(place)}[backend]
    model = open_segmenter(
        None if source is None else Path(source),
        provider,
        job.threads,
        "torch" if backend == "torch" else "onnx",
        job.dtype,
    )
    paths = {name: _path(getattr(job, name)) for name in ("data", "segmenter", "memory")}
    return dataclasses.replace(job, device=str(place), backend=backend, **paths), model


def train(
    out: Annotated[Path, typer.Option(help="Where to; an interrupted run goes on.")],
    data: Annotated[Path | None, typer.Argument(help="FSSD-12, Defects-4i, or images and masks.")] = None,
    shots: Annotated[int | None, typer.Option(help="Labelled images a class.", show_default="5")] = None,
    seed: Annotated[int | None, typer.Option(help="Of shots, networks and noise.", show_default="0")] = None,
    budget: Annotated[int | None, typer.Option(help="Segmentations to spend.", show_default="5000")] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="export-sam's, .pth or .onnx.", show_default="small SAM")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="auto, support, box or point.", show_default="auto")] = None,
    filters: Annotated[str | None, typer.Option(help="The toolkit, such as identity,wls,median.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.", show_default="auto")] = None,
    preset: Annotated[str, typer.Option(help="default, paper or published-code.")] = "default",
    config: Annotated[Path | None, typer.Option(help="TOML with these and any other settings.")] = None,
    quiet: Quiet = False,
) -> None:
    """Learn from a few labelled images how to mix the filters.

    Options override --config, which overrides --preset; OUT/config.toml has all.

    Example: sdie-fast train photos/ --out run --shots 5
    """
    with failing():
        with needing("train"):
            from ..learn.train import Training
        from .. import _validate
        from ..data.releases import open_dataset
        from ..data.shots import Split, draw
        from ..learn import runs as files
        from ..learn.cases import cases_of
        from ..learn.config import PRESETS
        from ..learn.memory import Memory
        from ..learn.settings import read_toml, settings

        typed = {
            "data": data and str(data), "shots": shots, "seed": seed, "segmentations": budget,
            "segmenter": segmenter and str(segmenter), "prompt": prompt, "device": device,
            "filters": None if filters is None else [name.strip() for name in filters.split(",")],
        }  # fmt: skip
        basis = PRESETS[_validate.choice(*PRESETS)("--preset", preset)]
        stored = {} if config is None else read_toml(config)
        chosen, job = settings(basis, stored, {k: v for k, v in typed.items() if v is not None})
        if "prior" not in {**basis, **stored}:
            chosen = dataclasses.replace(chosen, prior=chosen.refer and job.segmenter is None)
        if job.data is None:
            raise InvalidArgumentError("DATA: received none; accepted: a data set's folder, or --config with `data`")
        found = open_dataset(job.data, job.kind, fold=job.fold, size=job.size)
        job, model = _placed(job)
        if not model.takes_prompts and (chosen.prompt != "auto" or chosen.auto):
            raise InvalidArgumentError(
                f"prompt: received {chosen.prompt!r}{' with [auto]' * bool(chosen.auto)}; accepted with {model.name}, "
                "which cannot be pointed at anything: 'auto' alone"
            )
        kept = None if job.memory is None else Memory(Path(job.memory), model)
        parts = {"": found}
        if job.each_class:
            parts = {c: found.subset([s.name for s in found.of_class(c)]) for c in found.classes}
        with bars() as bar:
            for label, part in parts.items():
                folder = out / label
                with files.locked(folder):
                    file = folder / files.SPLIT
                    split = Split.load(file) if file.exists() else draw(part, chosen.shots, chosen.seed)
                    files.save_config(folder, chosen, found.name, model.name, job)
                    split.save(file)
                shown, _ = split.parts(part)
                task = bar.add_task(f"training {label}".rstrip(), total=chosen.segmentations, told="")

                def watch(p: Any, task: Any = task) -> None:
                    bar.update(
                        task,
                        completed=min(p.segmentations, chosen.segmentations),
                        told=p.doing
                        or f"return {p.mean_return:+.3f}, greedy {p.greedy:+.3f}, {p.steps_per_second:.1f} steps/s",
                    )

                run = Training(
                    model, cases_of(shown, chosen.prompt, shown, own=True, views=chosen.views), chosen, folder,
                    device=job.device, amp=job.device != "cpu", threads=job.threads, watch=watch, memory=kept,
                    # On a GPU nothing is gained unless the segmenter is there too.
                    resident=str(getattr(model, "device", None)) == job.device,
                )  # fmt: skip
                run.run()
                if job.compare and not (folder / files.SEARCHED).exists():
                    bar.update(task, description=f"searching {label}".rstrip(), completed=0)
                    run.compare()
    for label in parts:
        result = files.read_json(out / label / files.RESULT)
        remark(
            f"{out / label}: on the shots, reward {100 * result['alone']:.1f} alone, "
            f"{100 * result['rules_on_shots'][result['rule']]['reward']:.1f} with SDIE (rule: {result['rule']})"
        )
    remark(f"judge it on the other images: sdie-fast evaluate {job.data} --recipe {out}")


def _model_of(name: str) -> str:
    """A segmenter's name without its precision and what runs it."""
    return re.sub(r",? (fp32|fp16|int8|float32|bfloat16|torch)\b", "", name)


def warn_of_another(recipe: Path, model: Any) -> None:
    """Tell where a run was trained with another segmenter than it is used with."""
    from ..learn.runs import CONFIG, load_config, runs_in

    for run in runs_in(recipe):
        if (run / CONFIG).exists():
            name = load_config(run)[1]["segmenter"]
            if _model_of(name) != _model_of(model.name):
                complain(
                    f"{run} was trained with the segmenter {name}, and is used with {model.name}: see --segmenter"
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
    from ..evaluate.judge import evaluate_run
    from ..evaluate.tables import by_shots, class_table, gain, main_table, rule_table
    from ..learn.memory import Memory
    from ..learn.runs import strict_json

    for path in recipes:
        if not path.exists():
            raise InvalidArgumentError(f"--recipe: {path}: no such file or folder")
        warn_of_another(path, model)
    kept = None if memory is None else Memory(memory, model)
    results, curves = [], []
    with bars(not as_json) as bar:
        for path in recipes:
            task = bar.add_task(path.name, told="")
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
            f"the runs fixed different rules on their shots: {', '.join(r.rule for r in results)}", style="dim"
        )
    if out is not None:
        with needing("train"):
            from ..evaluate.report import write_report
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
        print(strict_json(told))
        return
    say(", ".join(f"{k} {v}" for k, v in results[0].facts.items()))
    _print("class", class_table(results))
    for name, runs in groups.items():
        stdout.print(f"[bold]{name}[/bold]" + f", {len(runs)} runs" * (len(runs) > 1), highlight=False)
        _print("", main_table(runs))
        _print("rule", rule_table(runs))
        say(
            f"SDIE {gain(runs).mean:+.1f} MIoU against the segmenter alone (rule: {runs[0].rule}, fixed on the shots)\n"
        )


def _print(title: str, rows: Any) -> None:
    show_table((title, *rows[0].figures), ((row.name, *map(str, row.figures.values())) for row in rows))
    stdout.print()
