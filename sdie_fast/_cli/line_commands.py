"""The commands `line`, `export-line` and `config`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BackendUnavailableError, InvalidArgumentError
from .common import Json, Quiet, complain, failing, remark

_INTERRUPTED = 130


def line(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Raw frames: a file, - for a pipe, camera:ID; or an image."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="A fixed one; without --plan, export-line's file too.", show_default="built-in"),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of a frame; with --strip, of one block.")] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="FORMAT", help="Mono8, Mono12p, RGB8, ...", show_default="Mono8, or the image's"
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Of the result.", show_default="as the input")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Where results go, raw; - is stdout.")] = None,
    threads: Annotated[int, typer.Option(help="Threads at most.", min=1, max=1024, metavar="N")] = 1,
    deadline: Annotated[
        float | None, typer.Option(help="Of a frame; rounds that do not fit are left out.", metavar="MS")
    ] = None,
    pace: Annotated[float | None, typer.Option(help="Frames due each second.", metavar="HZ")] = None,
    loop: Annotated[
        int | None, typer.Option(help="Times a file is read.", min=1, metavar="N", show_default="1")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many; a file is repeated.", metavar="N")] = None,
    strip: Annotated[
        int | None, typer.Option(help="An endless web, in strips of N lines.", min=1, metavar="N")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="WxH", help="Run nothing; tell if this machine can do it.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="With --plan: lines a second.", metavar="HZ")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe on frames as a line does and watch its latency, or tell what a line would need.
    Latency counts from when a frame was due (--pace), or from its call. Ctrl-C stops and sums up.

    Example: `sdie-fast line frames.raw --size 2048x1024 --pace 40 --deadline 20 --threads 2`, or
    `sdie-fast line --plan 16384x1024 --rate 50000`
    """
    with failing():
        if plan is not None:
            if source is not None or rate is None:
                raise InvalidArgumentError("--plan: accepted with --rate, and without a SOURCE")
            from . import line_capacity

            report = line_capacity.measure(
                recipe, _size("--plan", plan), _above("--rate", rate), pixels or "Mono8", show=not as_json
            )
            if as_json:
                print(json.dumps(report, indent=2))
            else:
                line_capacity.tell(report)
            return
        if rate is not None:
            raise InvalidArgumentError("--rate: accepted with --plan alone; frames have --pace")
        if source is None:
            raise InvalidArgumentError("SOURCE: received none; accepted: a file, -, camera:ID, or --plan with --rate")
        if out is not None and Path(source).is_file() and Path(out).exists() and Path(source).samefile(out):
            raise InvalidArgumentError(f"--out: received SOURCE itself, {out}; accepted: another file")
        if as_json and out == "-":
            raise InvalidArgumentError("--json: accepted with --out FILE; --out - has standard output for itself")
        from . import line_run

        summary = line_run.run(
            line_run.Job(
                source, recipe, None if size is None else _size("--size", size), pixels, output, out, threads,
                None if deadline is None else _above("--deadline", deadline) / 1e3,
                None if pace is None else _above("--pace", pace),
                loop, None if seconds is None else _above("--seconds", seconds), strip,
            ),
            show=not as_json, live=not quiet,
        )  # fmt: skip
        if as_json:
            print(json.dumps(summary, indent=2))
    if summary["interrupted"]:
        raise typer.Exit(_INTERRUPTED)


def export_line(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A folder that train or Recipe.save wrote.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; replaced if it is there.")],
    quiet: Quiet = False,
) -> None:
    """Write a fixed recipe as the file that the C library reads: `sdie_config_load`.

    Recipes with a network are refused: on a line it runs outside, and its weights go to `sdie_plan_set_weights`.

    Example: `sdie-fast export-line runs/steel steel.line`
    """
    with failing():
        from ..line import export
        from ..line.export import fixed_rows
        from ..recipe import Recipe

        loaded = Recipe.load(recipe)
        export(loaded, file)
    rounds = loaded.rounds // loaded.passes
    shares = fixed_rows(loaded, "").max(axis=0)
    used = [name for name, share in zip(loaded.filters, shares, strict=True) if share > 0]
    remark(f"{file}: {loaded.name}, {rounds} round{'s' * (rounds > 1)} of {', '.join(used)}")
    if loaded.passes > 1:
        complain(
            f"note: of the recipe's {loaded.passes} passes this is the first, as Enhancer makes it", style="yellow"
        )


def config(
    cflags: Annotated[bool, typer.Option("--cflags", help="-I and the folder of sdie_fast.h.")] = False,
    libs: Annotated[bool, typer.Option("--libs", help="What links libsdie_fast, with its run path.")] = False,
    cmake_dir: Annotated[bool, typer.Option("--cmake-dir", help="For CMake's sdie_fast_DIR.")] = False,
    pkg_config_dir: Annotated[bool, typer.Option("--pkg-config-dir", help="For PKG_CONFIG_PATH.")] = False,
) -> None:
    """Tell where this installation has the C library, for compilers and build systems.

    Example: `cc line.c $(sdie-fast config --cflags --libs)`

    Example: `cmake -B build -Dsdie_fast_DIR=$(sdie-fast config --cmake-dir)`
    """
    with failing():
        if not (cflags or libs or cmake_dir or pkg_config_dir):
            raise InvalidArgumentError(
                "config: received no option; accepted: --cflags, --libs, --cmake-dir, --pkg-config-dir"
            )
        root = _installed()
        lib = root / "lib"
        words = [f"-I{root / 'include'}"] * cflags
        words += [f"-L{lib}", f"-Wl,-rpath,{lib}", "-lsdie_fast"] * libs
        words += [str(lib / "cmake" / "sdie_fast")] * cmake_dir + [str(lib / "pkgconfig")] * pkg_config_dir
    print(shlex.join(words))


def _installed() -> Path:
    """Folder of the package that has the C library's files."""
    from .. import __path__ as folders

    for folder in map(Path, folders):
        if (folder / "include" / "sdie_fast.h").is_file():
            return folder
    raise BackendUnavailableError(
        f"config: {folders[0]} has no include/sdie_fast.h: a source tree; to fix: pip install sdie-fast (in a "
        "checkout, pip install .), or build the library alone: cmake -B build -DSDIE_MODULE=OFF && cmake "
        "--install build"
    )


def _size(option: str, text: str) -> tuple[int, int]:
    """Read '2048x1024', the width first, as cameras tell it."""
    found = re.fullmatch(r"([1-9]\d{0,9})x([1-9]\d{0,9})", text.strip().lower())
    if found is None:
        raise InvalidArgumentError(f"{option}: received {text!r}; accepted: WIDTHxHEIGHT in pixels, as 2048x1024")
    return int(found[1]), int(found[2])


def _above(option: str, value: float) -> float:
    if not 0 < value < 1e9:
        raise InvalidArgumentError(f"{option}: received {value:g}; accepted: numbers above 0")
    return value


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Run a recipe at a line's pace; latency.")(line)
    app.command("export-line", short_help="A recipe as a file for the C library.")(export_line)
    app.command(short_help="Where the C library is installed.")(config)
