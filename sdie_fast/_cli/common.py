"""What the commands share: options, opening what they name, errors told, progress shown."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import _needs
from ..errors import SdieError

stdout = Console()
stderr = Console(stderr=True)


class _State:
    """What --quiet of the command that runs says."""

    quiet = False


def _hush(value: bool) -> bool:
    _State.quiet = value
    return value


SegmenterPath = Annotated[
    Path | None,
    typer.Option("--segmenter", help="export-sam's, a checkpoint, or an .onnx map model.", show_default="small SAM"),
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
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no closing words; errors and results.", callback=_hush)
]
DataPath = Annotated[Path, typer.Argument(metavar="DATA", help="FSSD-12, Defects-4i, or images and masks.")]
DataKind = Annotated[str, typer.Option("--data", help="auto, fssd12, defect4i or folder.")]
Fold = Annotated[int | None, typer.Option(help="Of FSSD-12 and Defects-4i: 0, 1 or 2.")]


def say(text: str) -> None:
    """Print a line on standard output, of whatever length."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)


def remark(text: str) -> None:
    """Print what `say` does, unless --quiet was given: words that are no result."""
    if not _State.quiet:
        say(text)


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


def needing(extra: str) -> AbstractContextManager[None]:
    """Tell what an import lacks, and the extra that brings it."""
    return _needs.needing(f'"sdie-fast[{extra}]"')


def show_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False)
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    show_whole(table, stdout)


def show_whole(table: Table, console: Console) -> None:
    """Print a table with no cell cut: a terminal that is narrower gets a paragraph for each row.

    What is no terminal has no width.
    """
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    if not console.is_terminal:
        laid = io.StringIO()
        Console(file=laid, width=needed).print(table, highlight=False)
        print("\n".join(line.rstrip() for line in laid.getvalue().splitlines()), file=console.file)
        return
    if needed <= console.width:
        console.print(table, highlight=False)
        return
    heads, *values = ([str(column.header), *map(str, column.cells)] for column in table.columns)
    for k, name in enumerate(heads[1:], 1):
        told = ", ".join(f"{value[0]} {value[k]}" for value in values)
        text = Text(f"{heads[0]} {name}: {told}" if name else told)
        console.print(text, highlight=False)


def bars(show: bool = True) -> Any:
    """Make a context in which tasks are shown with what is told of them: `add_task(what, total=n, told="")`.

    Without a terminal a line is written now and then instead: a log is no place for a bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    if not stderr.is_terminal:
        return _Log(show and not _State.quiet)
    bar = 20 if stderr.width >= 100 else 0  # below that words need the room

    class Told(ProgressColumn):
        """What is told of a task, as far as there is room for it."""

        def render(self, task: Any) -> Text:
            count = 2 * len(f"{int(task.total or task.completed)}") + 1
            text = Text(task.fields["told"])
            text.truncate(max(8, stderr.width - len(task.description) - count - bar - 11), overflow="ellipsis")
            return text

    columns = [TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn(), Told()]
    if bar:
        columns.insert(1, BarColumn(bar_width=bar))
    return Progress(*columns, console=stderr, disable=not show or _State.quiet)


@contextmanager
def progress(what: str, total: int, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar; what is given is called for each step done."""
    with bars(show) as bar:
        task = bar.add_task(what, total=total, told="")
        yield lambda: bar.advance(task)


class _LogTask:
    """One task of a `_Log`: what it is, how far it is, and what is told of it."""

    def __init__(self, description: str, total: float | None, told: str) -> None:
        self.description, self.total, self.told, self.completed = description, total, told, 0.0
        self.begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it was added."""
        return time.monotonic() - self.begin

    def __str__(self) -> str:
        done = f"{self.completed:,.0f}" + ("" if self.total is None else f" of {self.total:,.0f}")
        return f"{self.description}: {done}" + (f", {self.told}" if self.told else "")


class _Log:
    """What `bars` gives where there is no terminal: rich's Progress as far as it is used here, as lines."""

    EVERY = 30.0  # seconds

    def __init__(self, show: bool) -> None:
        self.tasks: list[_LogTask] = []
        self._show, self._next, self._last = show, time.monotonic() + self.EVERY, ""

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End what was begun: the last line says how far it came."""
        if kind is None and self._last:
            self._tell(self.tasks[-1])

    def _tell(self, task: _LogTask) -> None:
        if str(task) != self._last:
            self._last = str(task)
            complain(self._last, style="")

    def add_task(self, description: str, *, total: float | None = None, told: str = "") -> int:
        """Begin a task; its number is what the others take."""
        self.tasks.append(_LogTask(description, total, told))
        return len(self.tasks) - 1

    def advance(self, task: int) -> None:
        """Count a step."""
        self.update(task, completed=self.tasks[task].completed + 1)

    def update(self, task: int, **fields: Any) -> None:
        """Set completed, total, told or description."""
        found = self.tasks[task]
        for name, value in fields.items():
            setattr(found, name, value)
        if self._show and time.monotonic() >= self._next:
            self._next = time.monotonic() + self.EVERY
            self._tell(found)
