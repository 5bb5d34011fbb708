"""What the commands share: options, opening what they name, errors told, progress shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import InvalidArgumentError, ModelError, SdieError

stdout = Console()
stderr = Console(stderr=True)

SegmenterPath = Annotated[
    Path | None,
    typer.Option(
        "--segmenter",
        help="Directory that export-sam wrote, or, run by torch, a SAM checkpoint.",
        show_default="the small SAM that ships",
    ),
]
Provider = Annotated[str, typer.Option(help="auto, tensorrt, cuda or cpu.")]
SegmenterBackend = Annotated[
    str,
    typer.Option(
        "--segmenter-backend",
        help="What runs the segmenter: onnx (quickest on a CPU), torch (a GPU's images stay there), or auto: torch for a "
        "checkpoint, onnx for a directory.",
    ),
]
SegmenterDtype = Annotated[
    str,
    typer.Option(
        "--segmenter-dtype",
        help="With torch: float32, or bfloat16 for the encoder, quicker on a GPU and a little less exact.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads at most.", show_default="every CPU this process may use", min=1, max=1024),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
DataPath = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A data set: FSSD-12, Defects-4i, or images and masks."),
]
DataKind = Annotated[str, typer.Option("--data", help="auto, fssd12, defect4i or folder.")]
Fold = Annotated[int | None, typer.Option(help="Of FSSD-12 and Defects-4i: 0, 1 or 2.")]


def fail(message: str) -> typer.Exit:
    """Print an error; what is returned is to be raised: exit code 2."""
    stderr.print(f"error: {message}", markup=False, highlight=False, style="red", soft_wrap=True)
    return typer.Exit(2)


@contextmanager
def failing() -> Iterator[None]:
    """Turn the package's errors into a message and exit code 2."""
    try:
        yield
    except SdieError as error:
        raise fail(str(error)) from error


def open_segmenter(
    source: Path | None,
    provider: str,
    threads: int | None,
    backend: str = "auto",
    dtype: str = "float32",
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
    try:
        import torch

        from ..segment.torch_sam import TorchSam
    except ImportError as error:
        raise ModelError(f'{error.name} is missing: pip install "sdie-fast[sam]"') from error
    if provider not in ("auto", "cpu") and not provider.startswith("cuda"):
        raise InvalidArgumentError(
            f"--provider: received {provider!r} with a segmenter in torch; accepted: auto, cuda, cpu"
        )
    there = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchSam(source, device=there if provider == "auto" else provider, dtype=dtype)


@contextmanager
def progress(what: str, total: int, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar; what is given is called for each step done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, disable=not show) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def open_data(path: Path, kind: str, fold: int | None, size: int | None) -> Any:
    """Open a data set by its kind, or by what it looks like."""
    from ..data.defect4i import open_defect4i
    from ..data.folder import open_folder
    from ..data.fssd12 import FOLDS, open_fssd12

    if kind == "auto":
        names = {p.name for p in path.iterdir()} if path.is_dir() else set()
        if "FSSD-12" in names or {n for group in FOLDS for n in group} <= names:
            kind = "fssd12"
        elif "data_list" in names or "all_defective.txt" in names:
            kind = "defect4i"
        else:
            kind = "folder"
    if kind == "fssd12":
        return open_fssd12(path, fold=fold, size=size)
    if kind == "defect4i":
        return open_defect4i(path, fold=fold, size=size)
    if kind != "folder" or fold is not None:
        raise InvalidArgumentError(
            f"--data, --fold: {kind!r}, {fold}; accepted: auto, fssd12, defect4i or folder, which has no folds"
        )
    return open_folder(path, size=size)
