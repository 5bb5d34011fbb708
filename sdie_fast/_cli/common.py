"""What the commands share: options, opening what they name, errors told, progress shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import InvalidArgumentError, ModelError, SdieError

stdout = Console()
stderr = Console(stderr=True)

SegmenterPath = Annotated[
    Path | None,
    typer.Option("--segmenter", help="What export-sam wrote, or a SAM checkpoint.", show_default="small SAM"),
]
Provider = Annotated[str, typer.Option(help="auto, tensorrt, cuda or cpu.")]
SegmenterBackend = Annotated[
    str, typer.Option("--segmenter-backend", help="onnx, torch, or auto: torch for a checkpoint.")
]
SegmenterDtype = Annotated[
    str, typer.Option("--segmenter-dtype", help="With torch: float32 or, quicker on a GPU, bfloat16.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads at most.", show_default="every usable CPU", min=1, max=1024)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataPath = Annotated[Path, typer.Argument(metavar="DATA", help="FSSD-12, Defects-4i, or images and masks.")]
DataKind = Annotated[str, typer.Option("--data", help="auto, fssd12, defect4i or folder.")]
Fold = Annotated[int | None, typer.Option(help="Of FSSD-12 and Defects-4i: 0, 1 or 2.")]


def say(text: str) -> None:
    """Print a line on standard output, of whatever length."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str, style: str = "red") -> None:
    """Print a line on standard error."""
    stderr.print(text, markup=False, highlight=False, style=style, soft_wrap=True)


def fail(message: str) -> typer.Exit:
    """Print an error; what is returned is to be raised: exit code 2."""
    complain(f"error: {message}")
    return typer.Exit(2)


@contextmanager
def failing() -> Iterator[None]:
    """Turn the package's errors into a message and exit code 2."""
    try:
        yield
    except SdieError as error:
        raise fail(str(error)) from error


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Tell what an import lacks, and the extra that brings it."""
    try:
        yield
    except ImportError as error:
        raise ModelError(f'{error.name} is missing: pip install "sdie-fast[{extra}]"') from error


def open_segmenter(
    source: Path | None, provider: str, threads: int | None, backend: str = "auto", dtype: str = "float32"
) -> Any:
    """Open what export-sam wrote, a checkpoint, or the small SAM that ships.

    Raises
    ------
    InvalidArgumentError
        Options that exclude one another.
    ModelError
        A file or a device that cannot be used, or torch or segment-anything missing.
    """
    if backend not in ("auto", "onnx", "torch"):
        raise InvalidArgumentError(f"--segmenter-backend: received {backend!r}; accepted: auto, onnx, torch")
    checkpoint = source is not None and source.is_file()
    if backend == "torch" or (backend == "auto" and checkpoint):
        return _open_torch(source, provider, dtype)
    if checkpoint:
        raise InvalidArgumentError(
            f"--segmenter-backend: received 'onnx' with the file {source}; accepted: with a directory that "
            f"`sdie-fast export-sam {source} DIR` writes"
        )
    if dtype != "float32":
        raise InvalidArgumentError(
            f"--segmenter-dtype: received {dtype!r} with ONNX; accepted: with --segmenter-backend torch "
            "(an ONNX model has its own: export-sam --precision)"
        )
    from ..segment import Options, Sam

    return Sam(source, Options(provider, threads))


def _open_torch(source: Path | None, provider: str, dtype: str) -> Any:
    with needing("sam"):
        import torch

        from ..segment.torch_sam import TorchSam
    if provider not in ("auto", "cpu") and not provider.startswith("cuda"):
        raise InvalidArgumentError(
            f"--provider: received {provider!r} with a segmenter in torch; accepted: auto, cuda, cpu"
        )
    there = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchSam(source, device=there if provider == "auto" else provider, dtype=dtype)


def show_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    first, *others = columns
    table = Table(first, box=None, pad_edge=False)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stdout.print(table)


def bars(show: bool = True) -> Any:
    """Make a context in which tasks are shown with what is told of them: `add_task(what, total=n, told="")`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=stderr, disable=not show)


@contextmanager
def progress(what: str, total: int, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar; what is given is called for each step done."""
    with bars(show) as bar:
        task = bar.add_task(what, total=total, told="")
        yield lambda: bar.advance(task)
