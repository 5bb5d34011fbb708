"""The command `sdie-fast`: arguments in, tables, files and exit codes out.

Exit codes: 0 done, 1 some files failed (or, for `doctor`, nothing can run), 2 wrong usage.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated

import typer

from ._cli import learn_commands, segment_commands
from ._cli.common import Json, Threads, bars, complain, failing, say, show_table, stderr, stdout
from .errors import InvalidArgumentError, ModelError
from .files import IMAGE_SUFFIXES
from .filters import TABLE

__all__ = ["app", "main"]

app = typer.Typer(
    name="sdie-fast",
    help="Enhance industrial surface photographs so that defects segment better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: twice as much on a screen
    context_settings={"max_content_width": 100},
)


def _pairs(option: str, text: str) -> dict[str, str]:
    """Read 'wls=2,sharpen=1'."""
    pairs = [part.partition("=") for part in text.split(",")]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if not all(found.values()) or len(found) < len(pairs):
        raise InvalidArgumentError(f"{option}: received {text!r}; accepted: name=value,..., each name once")
    return found


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{option}: received {text!r}; accepted: a number") from error


def _weights(text: str) -> dict[str, float] | list[float]:
    """Read 'wls=2,identity=1', or numbers in the order of the default toolkit."""
    if "=" not in text and "," not in text:
        raise InvalidArgumentError(
            f"--weights: received {text!r}; accepted: name=number,... or a number for each filter"
        )
    if "=" in text:
        return {name: _number("--weights", value) for name, value in _pairs("--weights", text).items()}
    return [_number("--weights", value) for value in text.split(",")]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


@app.command()
def enhance(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image, or a folder with its subfolders.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A file or a folder; its layout is IN's.")],
    recipe: Annotated[Path | None, typer.Option(help="A recipe.", show_default="the one that ships")] = None,
    weights: Annotated[
        str | None, typer.Option(help=f"Instead: identity=1,wls=2 and so on, of {', '.join(TABLE)}.")
    ] = None,
    params: Annotated[
        str | None, typer.Option(help="With --weights: wls_solver=fast,gamma_exponent=0.7 and so on.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="With --weights: rounds of them.", min=1, max=100)] = 1,
    threads: Threads = None,
    backend: Annotated[str, typer.Option(help="auto, cuda, cpu or reference.")] = "auto",
    per_channel: Annotated[bool, typer.Option("--per-channel", help="Colour: every channel, not luma alone.")] = False,
    image_format: Annotated[
        str | None, typer.Option("--format", help="png, jpg, bmp or tiff.", show_default="as the input")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what this recipe has done.")] = False,
    as_json: Json = False,
) -> None:
    """Enhance an image file, or every image in a folder.

    PNG, JPEG, BMP and TIFF; 8 and 16 bit grey, 8 bit colour. A file that fails is reported, the rest go on (exit code 1).

    Example: `sdie-fast enhance photos/ out/ --weights identity=1,wls=2 --resume`
    """
    from . import FilterParams, Recipe, default_recipe
    from .batch import _old as batch

    with failing():
        if weights is None and params is not None:
            raise InvalidArgumentError("--params: accepted only with --weights")
        if weights is None:
            chosen = default_recipe() if recipe is None else Recipe.load(recipe)
        elif recipe is None:
            given = {} if params is None else {k: _value(v) for k, v in _pairs("--params", params).items()}
            chosen = Recipe([_weights(weights)] * rounds, FilterParams.from_dict(given))  # type: ignore[arg-type]
        else:
            raise InvalidArgumentError("--weights, --recipe: both were given; one is accepted")
        suffix = None if image_format is None else "." + image_format.lower().lstrip(".")
        if suffix not in (None, *IMAGE_SUFFIXES):
            raise InvalidArgumentError(f"--format: received {image_format!r}; accepted: png, jpg, bmp or tiff")
        pairs = batch.plan(source, target, suffix)
        journal = None
        if source.is_dir():
            journal = batch.Journal(target, batch.recipe_key(chosen, per_channel), resume=resume)
        with bars(not as_json) as bar:
            task = bar.add_task("enhancing", total=len(pairs), told="")

            def watch(so_far: batch.Summary) -> None:
                seconds = bar.tasks[0].elapsed or 1e-9
                told = f"{so_far.done / seconds:.0f} images/s, {so_far.pixels / seconds / 1e6:.1f} Mpx/s"
                bar.update(task, completed=so_far.done + so_far.skipped + len(so_far.failed), told=told)

            summary = batch.run(
                pairs, chosen, threads=threads, backend=backend, per_channel=per_channel, journal=journal, watch=watch
            )
    for message in summary.failed.values():
        complain(f"failed: {message}")
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
    else:
        say(str(summary))
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def bench(
    sizes: Annotated[
        list[str] | None, typer.Option("--size", help="HEIGHTxWIDTH or a side; repeatable.", show_default="200, 1024")
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", help="round, rounds, exact-round, batch, or a filter; repeatable.", show_default="all"),
    ] = None,
    threads: Annotated[int, typer.Option(help="Of every candidate.", min=1)] = 1,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="OpenCV, SciPy, scikit-image, pyamg beside us.")
    ] = True,
    repeats: Annotated[int, typer.Option(help="Timed calls of each candidate.", min=3)] = 50,
    footprint: Annotated[str, typer.Option(help="Our bilateral's: disk (OpenCV's) or square.")] = "disk",
    backend: Annotated[str, typer.Option(help="cpu, cuda (copies included) or reference.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Measure latency: filters, one round, five rounds, side by side with what users compose today.

    Candidates take turns in shuffled order on the same image; answers are compared first. Median, interquartile range
    and 99th percentile in milliseconds, megapixels per second, and the peer's median over ours.

    Example: `sdie-fast bench --size 200 --case round`
    """
    from ._bench import latency

    with failing():
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
    if as_json:
        print(json.dumps(report, indent=2))
        return
    machine = report["machine"]
    say(", ".join(f"{k} {v}" for k, v in machine.items() if v))
    for (case, size), group in itertools.groupby(report["rows"], key=lambda row: (row["case"], row["size"])):
        rows = list(group)
        stdout.print(f"\n[bold]{case}[/bold], {size}", highlight=False)
        show_table(
            ("candidate", "median ms", "IQR", "p99", "Mpx/s", "ratio"),
            (
                (
                    row["candidate"],
                    *(f"{row[name]:.3f}" for name in ("median_ms", "iqr_ms", "p99_ms")),
                    f"{row['mpx_per_s']:.1f}",
                    f"{row['ratio']:.2f}x",
                )
                for row in rows
            ),
        )
        for row in rows[1:]:
            say(f"  {row['candidate']} differs by {row['difference']}")
    for words in report["missing"]:
        say(words)
    say("\nratio: the candidate's median over ours, above 1 where we are faster")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what is installed, which backends and instruction sets run here, and how to fix what does not.

    Example: `sdie-fast doctor --json`
    """
    from ._cli.doctor import examine, table

    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        stdout.print(table(facts))
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
    table and an HTML report, for which `pip install "sdie-fast[demo]"` is needed.

    Example: `sdie-fast demo --out here --seed 3`
    """
    from ._cli import demo as demo_run

    with failing():
        result = demo_run.run(out, seed, threads)
        try:
            result["segmentation"] = demo_run.segment(out, seed, threads, show=not as_json)
        except ModelError as error:
            result |= {"segmentation": None, "missing": str(error)}
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        demo_run.tell(result)


segment_commands.register(app)
app.command()(learn_commands.train)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
