"""The command `sdie-fast`: arguments in, tables, files and exit codes out.

Exit codes: 0 done, 1 some files failed (or, for `doctor`, nothing can run), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated

import typer

from ._cli import enhance_command, learn_commands, segment_commands
from ._cli.common import Json, Threads, failing, say, show_table, stderr, stdout
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
