"""The command `sdie-fast`: arguments in, tables, files and exit codes out.

Exit codes: 0 done, 1 some files failed (`doctor`: nothing can run; `bench --compare`: slower), 2 wrong usage, 130
interrupted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ._cli import bench_command, enhance_command, learn_commands, line_commands, segment_commands, tune_command
from ._cli.common import Json, Threads, failing, stdout
from .errors import ModelError

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


app.command()(enhance_command.enhance)
app.command()(bench_command.bench)


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
line_commands.register(app)
app.command()(tune_command.tune)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
