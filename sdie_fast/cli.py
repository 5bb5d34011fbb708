"""The command `sdie-fast`: arguments in, tables, files and exit codes out.

Exit codes: 0 done, 1 some files failed (`doctor`: nothing can run; `bench --compare`: slower), 2 wrong usage, 130
interrupted (`tune`, which only Ctrl+C ends, gives 0).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ._cli import (
    bench_command,
    enhance_command,
    fetch_command,
    learn_commands,
    line_commands,
    segment_commands,
    tune_command,
)
from ._cli.common import Json, Quiet, Threads, failing, show_whole, stdout
from .errors import MissingPackageError, ModelError

__all__ = ["app", "main"]

app = typer.Typer(
    name="sdie-fast",
    help="Enhance industrial surface photographs so that defects segment better.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: twice as much on a screen
    context_settings={"max_content_width": 100},
)


def _version(value: bool) -> None:
    if value:
        from . import __version__

        print(f"sdie-fast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command(short_help="Enhance an image, or a folder of them.")(enhance_command.enhance)
app.command(short_help="Measure latency, beside other libraries.")(bench_command.bench)


@app.command(short_help="What runs here, and how to mend the rest.")
def doctor(as_json: Json = False) -> None:
    """Tell what is installed, which backends and instruction sets run here, and how to fix what does not.

    Example: `sdie-fast doctor --json`
    """
    from ._cli.doctor import examine, table

    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        laid = table(facts)
        if stdout.is_terminal:  # long words are wrapped
            stdout.print(laid)
        else:
            show_whole(laid, stdout)
    if not facts["usable"]:
        raise typer.Exit(1)


@app.command(short_help="Synthetic surfaces, before and after.")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("sdie-fast-demo"),
    seed: Annotated[int, typer.Option(help="Which surfaces are made.", min=0)] = 7,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make synthetic strip-steel surfaces, enhance and segment them with what is built in, and show the difference.

    Before and after as a picture; surfaces that the recipe was not trained on segmented, alone and with SDIE, as a
    table and an HTML report, for which `pip install "sdie-fast[demo]"` is needed.

    Example: `sdie-fast demo --out here --seed 3`
    """
    from ._cli import demo as demo_run

    with failing():
        result = demo_run.run(out, seed, threads)
        try:
            result["segmentation"] = demo_run.segment(out, seed, threads, show=not as_json)
        except (MissingPackageError, ModelError) as error:
            result |= {"segmentation": None, "missing": str(error)}
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        demo_run.tell(result)


segment_commands.register(app)
app.command("fetch-segmenter", short_help="A segmenter that others made.")(fetch_command.fetch_segmenter)
app.command(short_help="Learn a recipe from labelled images.")(learn_commands.train)
line_commands.register(app)
app.command(short_help="Tune a recipe by eye, in the browser.")(tune_command.tune)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
