"""The command `sdie-fast`: arguments in, tables, files and exit codes out.

Exit codes: 0 done, 1 some files failed (or, for `doctor`, nothing can run), 2 wrong usage.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ._cli import learn_commands, segment_commands
from ._cli.common import Json, Threads, fail, stderr, stdout
from .errors import ModelError, SdieError

app = typer.Typer(
    name="sdie-fast",
    help="Enhance industrial surface photographs so that defects segment better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _weights(text: str, rounds: int) -> list[list[float]]:
    """Read '1,0,2,0,1,0' or 'identity=1,wls=2' as weights of `rounds` equal rounds."""
    from . import FILTERS
    from .errors import InvalidArgumentError

    parts = [p.strip() for p in text.split(",") if p.strip()]
    named = [p for p in parts if "=" in p]
    try:
        if named and len(named) == len(parts):
            pairs = [p.split("=", 1) for p in parts]
            values = {name.strip(): float(value) for name, value in pairs}
            unknown = sorted(set(values) - set(FILTERS))
            if unknown or len(values) < len(pairs):
                what = f"unknown filter {unknown[0]!r}" if unknown else "a filter named twice"
                raise InvalidArgumentError(f"--weights: {what}; the filters are {', '.join(FILTERS)}")
            row = [values.get(name, 0.0) for name in FILTERS]
        else:
            row = [float(p) for p in parts]
    except ValueError as error:
        if isinstance(error, SdieError):
            raise
        raise InvalidArgumentError(
            f"--weights: {text!r}; six numbers ({', '.join(FILTERS)}) or name=number pairs are accepted"
        ) from error
    return [row] * rounds


@app.command()
def enhance(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="An image file, or a folder searched with its subfolders."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A file or a folder; a folder's layout is IN's.")],
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe directory or recipe.json.", show_default="the recipe that ships"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Instead of a recipe: six numbers, or pairs such as 'identity=1,wls=2,sharpen=1' "
            "(filters: identity, wls, bilateral, sharpen, guided, spatiogram); they need not sum to 1."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="With --weights: how often the round is applied.", min=1, max=100)] = 1,
    solver: Annotated[str, typer.Option(help="With --weights: WLS solver, exact or fast.")] = "exact",
    threads: Threads = None,
    backend: Annotated[str, typer.Option(help="auto, cuda, cpu or reference.")] = "auto",
    per_channel: Annotated[
        bool,
        typer.Option("--per-channel", help="Colour: filter every channel instead of luma alone."),
    ] = False,
    image_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write every file as png, jpg, bmp or tiff.",
            show_default="as the input",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip files that this recipe has done and that have not changed since."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Enhance an image file, or every image in a folder.

    PNG, JPEG, BMP and TIFF; 8 and 16 bit grey, 8 bit colour. An output appears whole or not at all; a file that
    cannot be read is reported and the rest go on (exit code 1).
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from . import FilterParams, Recipe, default_recipe
    from ._cli import batch, images

    try:
        if weights is not None and recipe is not None:
            raise fail("--weights and --recipe exclude each other")
        if weights is not None:
            chosen = Recipe(_weights(weights, rounds), FilterParams(wls_solver=solver))  # type: ignore[arg-type]
        else:
            chosen = default_recipe() if recipe is None else Recipe.load(recipe)
        suffix = None
        if image_format is not None:
            suffix = "." + image_format.lower().lstrip(".")
            if suffix not in images.SUFFIXES:
                raise fail(f"--format: {image_format!r}; png, jpg, bmp or tiff are accepted")
        pairs = batch.plan(source, target, suffix)
        manifest = None
        if source.is_dir():
            manifest = batch.Manifest(target, batch.recipe_key(chosen, per_channel), resume=resume)
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=stderr,
            disable=as_json,
        )
        with bar:
            task = bar.add_task("enhancing", total=len(pairs), speed="")
            pixels = 0

            def progress(files: int, more: int) -> None:
                nonlocal pixels
                pixels += more
                state = bar.tasks[0]
                seconds = state.elapsed or 1e-9
                speed = f"{(state.completed + files) / seconds:.0f} images/s, {pixels / seconds / 1e6:.1f} Mpx/s"
                bar.update(task, advance=files, speed=speed)

            summary = batch.run(
                pairs,
                chosen,
                threads=threads,
                backend=backend,
                per_channel=per_channel,
                manifest=manifest,
                progress=progress,
            )
    except SdieError as error:
        raise fail(str(error)) from error
    for message in summary.failed.values():
        stderr.print(f"failed: {message}", markup=False, highlight=False, style="red", soft_wrap=True)
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
    else:
        rate = summary.to_dict()
        stdout.print(
            f"{summary.done} enhanced, {summary.skipped} skipped, {len(summary.failed)} failed in "
            f"{summary.seconds:.2f} s"
            + (
                f" ({rate['images_per_second']:.0f} images/s, {rate['megapixels_per_second']:.1f} Mpx/s)"
                if summary.done
                else ""
            ),
            highlight=False,
        )
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def bench(
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="HEIGHTxWIDTH, or one number for a square; may be repeated.",
            show_default="200, 1024",
        ),
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            help="round, rounds, exact-round, a filter's name, or batch; may be repeated.",
            show_default="all",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of every candidate, OpenCV's included.", min=1)] = 1,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers/--no-peers",
            help="Measure OpenCV, SciPy, scikit-image and pyamg beside us, where installed.",
        ),
    ] = True,
    repeats: Annotated[
        int, typer.Option(help="Timed calls of each candidate, interleaved with the others.", min=3)
    ] = 50,
    footprint: Annotated[
        str, typer.Option(help="Of our bilateral filter in a round: disk (as OpenCV) or square.")
    ] = "disk",
    backend: Annotated[
        str,
        typer.Option(help="Ours: cpu, cuda or reference. Images are on the host: cuda's times hold the copies."),
    ] = "cpu",
    as_json: Json = False,
) -> None:
    """Measure latency: filters, one round, five rounds, side by side with what users compose today.

    Candidates take turns in shuffled order on the same image; answers are compared first. Median, interquartile range
    and 99th percentile in milliseconds, megapixels per second, and the peer's median over ours.
    """
    from ._bench import latency

    try:
        report = latency.measure(
            sizes=[latency.parse_size(s) for s in (sizes or ["200", "1024"])],
            cases=cases,
            threads=threads,
            peers=peers,
            repeats=repeats,
            footprint=footprint,
            backend=backend,
            progress=None if as_json else lambda text: stderr.print(text, style="dim", highlight=False),
        )
    except SdieError as error:
        raise fail(str(error)) from error
    if as_json:
        print(json.dumps(report, indent=2))
        return
    machine = report["machine"]
    stdout.print(", ".join(f"{k} {v}" for k, v in machine.items() if v), highlight=False, soft_wrap=True)
    for (case, size), group in itertools.groupby(report["rows"], key=lambda row: (row["case"], row["size"])):
        rows = list(group)
        stdout.print(f"\n[bold]{case}[/bold], {size}", highlight=False)
        table = Table("candidate", box=None, pad_edge=False)
        for name in ("median ms", "IQR", "p99", "Mpx/s", "ratio"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(
                row["candidate"],
                f"{row['median_ms']:.3f}",
                f"{row['iqr_ms']:.3f}",
                f"{row['p99_ms']:.3f}",
                f"{row['mpx_per_s']:.1f}",
                f"{row['ratio']:.2f}x",
            )
        stdout.print(table)
        for row in rows[1:]:
            stdout.print(
                f"  {row['candidate']} differs by {row['difference']}",
                style="dim",
                highlight=False,
                soft_wrap=True,
            )
    for words in report["missing"]:
        stdout.print(words, style="dim", highlight=False, markup=False, soft_wrap=True)
    stdout.print("\nratio: the candidate's median over ours, above 1 where we are faster", style="dim")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what is installed, which backends and instruction sets run here, and how to fix what does not."""
    from ._cli.doctor import examine

    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        table = Table(show_header=False)

        def row(name: str, told: str) -> None:
            table.add_row(name, Text(told))  # as it is: what pip takes has brackets

        row("sdie_fast", str(facts["version"]))
        row("Python", f"{facts['python']} ({facts['executable']})")
        row("platform", str(facts["platform"]))
        core: dict[str, Any] | None = facts["core"]
        if core is not None:
            row("compiled core", f"{core['compiler']}, {core['build_type']}")
            row("instruction sets", f"{core['isas']}; in use: {core['active']}")
        row("SDIE_FAST_ISA", facts["SDIE_FAST_ISA"] or "not set")
        for b in facts["backends"]:
            state = "available" if b["available"] else f"missing: {b['reason']}. To fix: {b['fix']}"
            if b["note"]:
                state += f": {b['note']}"
            row(f"backend {b['name']}", state)
        host, device = facts["auto"] or "none can run", facts["auto_on_device"] or "none can run"
        row("backend auto", f"{host}; for arrays on a CUDA device: {device}")
        for p in facts["segmentation"]:
            row(
                f"segmentation on {p['provider']}",
                "available" if p["available"] else f"missing: {p['reason']}",
            )
        threads = facts["threads"]
        row("threads", f"{threads['default']} of {threads['cpu_count']} CPUs")
        for name, found in facts["packages"].items():
            row(name, found or "not installed")
        stdout.print(table)
    if not facts["usable"]:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("sdie-fast-demo"),
    seed: Annotated[int, typer.Option(help="Which surfaces are made.", min=0)] = 7,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Make synthetic strip-steel surfaces, enhance and segment them with what ships, and show the difference.

    Before and after as a picture; surfaces that the recipe was not trained on segmented, alone and with SDIE, as a
    table and an HTML report, for which pip install "sdie-fast[demo]" is needed.
    """
    from ._cli import demo as demo_run

    console = None if as_json else stderr
    try:
        result = demo_run.run(out, seed, threads, console)
        try:
            result["segmentation"] = demo_run.segment(out, seed, threads, console)
        except ModelError as error:
            result |= {"segmentation": None, "missing": str(error)}
    except SdieError as error:
        raise fail(str(error)) from error
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        demo_run.show(result, stdout)


segment_commands.register(app)
learn_commands.register(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
