"""`sdie-fast line SOURCE`: frames in, frames out, and what became of them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table

from .._bench.timing import samples_needed
from ..errors import ImageFileError, SdieError
from ..files import created
from ..line import Plan, Stats, Stream
from ..recipe import Recipe, default_recipe
from .common import complain, show_whole, stderr
from .line_sources import Frame, Source, opened

__all__ = ["Job", "milliseconds", "recipe_of", "run"]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
_SHOWN = {"p50 ms": "p50", "p99": "p99", "p99.9": "p999", "max": "max"}

Write = Callable[[Any], object]
Step = Callable[[Frame, float | None], tuple[float, int]]  # seconds of work and lines that came of it


class Job(NamedTuple):
    """What the command was asked for. Times are in seconds."""

    source: str
    recipe: Path | None = None
    size: tuple[int, int] | None = None
    input: str | None = None
    output: str | None = None
    out: str | None = None
    threads: int = 1
    deadline: float | None = None
    pace: float | None = None
    loop: int | None = None
    seconds: float | None = None
    strip: int | None = None


class _Tally:
    """Figures of a run under way: what the plan counts, and what it cannot know."""

    def __init__(self, what: str, width: int, stats: Callable[[], Stats]) -> None:
        self.begin = time.monotonic()
        self.end: float | None = None
        self.busy = 0.0
        self.lines = 0
        self._what, self._width, self._stats = what, width, stats

    def facts(self) -> dict[str, Any]:
        """Figures so far; a percentile for which there are too few frames is None."""
        stats = self._stats()
        took = max((self.end or time.monotonic()) - self.begin, 1e-9)
        latency: dict[str, float | None] = {}
        for name in ("min", "mean", *_QUANTILES, "max"):
            enough = stats.frames >= samples_needed(_QUANTILES[name]) if name in _QUANTILES else stats.frames > 0
            latency[name] = getattr(stats, name) * 1e3 if enough else None
        return {
            "seconds": took,
            "frames": stats.frames,
            "frames_per_s": stats.frames / took,
            "mpx_per_s": self.lines * self._width / took / 1e6,
            "load": self.busy / took,
            "latency_ms": latency,
            "late": stats.late,
            "shortened": stats.shortened,
            "unenhanced": stats.unenhanced,
            "rounds": stats.rounds,
            "refused": stats.refused,
        }

    def __rich__(self) -> _Figures:
        return _figures(self._what, self.facts())


class _Figures(dict[str, str]):
    """Figures below their names: in one line, or in as many as the terminal is too narrow for."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line: list[str] = []
        for name in self:
            if line and sum(self._width(other) for other in (*line, name)) > options.max_width:
                yield self.table(line)
                line = []
            line.append(name)
        yield self.table(line)

    def _width(self, name: str) -> int:
        return max(len(name), len(self[name])) + 1

    def table(self, names: Iterable[str]) -> Table:
        """Lay those out in one line."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row(*(self[name] for name in names))
        return table


def _figures(what: str, facts: dict[str, Any]) -> _Figures:
    cells = {  # 80 columns
        what: f"{facts['frames']:,}",
        "per s": f"{facts['frames_per_s']:,.1f}",
        "Mpx/s": f"{facts['mpx_per_s']:,.1f}",
        "load": f"{facts['load']:.0%}",
        **{name: milliseconds(facts["latency_ms"][key]) for name, key in _SHOWN.items()},
        "rounds": f"{facts['rounds'] / max(facts['frames'], 1):.2g}",
        **{name: f"{facts[name]:,}" for name in ("late", "shortened", "refused")},
    }
    return _Figures(cells)


def milliseconds(value: float | None) -> str:
    """Write milliseconds with three digits."""
    return "-" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def recipe_of(path: Path | None) -> Recipe | Path:
    """Open what --recipe names; a file of export-line stays a path."""
    if path is None:
        return default_recipe()
    return path if path.is_file() and path.suffix != ".json" else Recipe.load(path)


def run(job: Job, *, show: bool, live: bool = True) -> dict[str, Any]:
    """Run a recipe on what a source gives, until it ends, the time is over or Ctrl-C.

    Parameters
    ----------
    job : Job
        What was asked for.
    show, live : bool
        Whether to print the figures, and whether to show them on a terminal while it runs.

    Returns
    -------
    dict
        What was asked for, and the figures.
    """
    recipe = recipe_of(job.recipe)
    what = "frames" if job.strip is None else "strips"
    with ExitStack() as stack:
        source = opened(
            stack, job.source, job.size, job.input, strip=job.strip, loop=job.loop, endless=job.seconds is not None,
            pace=job.pace,
        )  # fmt: skip
        width, height = source.size
        options: dict[str, Any] = {"threads": job.threads, "deadline": job.deadline}
        made: Plan | Stream
        if job.strip is None:
            made = Plan(recipe, width, height, source.format, job.output, **options)
        else:
            made = Stream(recipe, width, source.format, job.output, strip=job.strip, **options)
        stack.enter_context(made)
        write = stack.enter_context(_written(job.out))
        tally = _Tally(what, width, made.stats)
        with _shown(tally, show and live):
            if isinstance(made, Plan):
                interrupted = _loop(source, _plan_step(made, write), job, tally)
            else:
                interrupted = _loop(source, _stream_step(made, write), job, tally)
                tally.lines += _finish(made, write)
            tally.end = time.monotonic()
        facts = tally.facts()
    if show:
        figures = _figures(what, facts)
        if stderr.is_terminal:
            stderr.print(figures)
        else:
            show_whole(figures.table(figures), stderr)
        if facts["unenhanced"]:
            complain(
                f"{facts['unenhanced']:,} {what} had no round: what came out is what went in; the deadline is too short",
                style="yellow",
            )
        if source.note is not None and (note := source.note()):
            complain(note, style="yellow")
    asked = {
        "source": job.source, "recipe": recipe.name if isinstance(recipe, Recipe) else str(recipe), "width": width,
        "height": height, "input": source.format, "output": job.output or source.format, "threads": job.threads,
        "strip": job.strip, "pace_hz": job.pace, "deadline_ms": None if job.deadline is None else job.deadline * 1e3,
    }  # fmt: skip
    return {**asked, **facts, "interrupted": interrupted}


class _Interrupts:
    """Ctrl-C and SIGTERM: heard at once while the run waits for a frame, and after the frame that is in work."""

    def __init__(self) -> None:
        self.heard = self.working = False

    def __enter__(self) -> _Interrupts:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as of a job in a shell's background
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.heard = True
        if not self.working:
            raise KeyboardInterrupt


def _loop(source: Source, step: Step, job: Job, tally: _Tally) -> bool:
    """Take frames, each when it is due, until there are no more; whether it was interrupted."""
    with _Interrupts() as interrupts, suppress(KeyboardInterrupt):
        for k, frame in enumerate(source.frames):
            if k == 0:
                tally.begin = time.monotonic()  # a pipe's or a camera's first frame may be long in coming
            since = None
            if job.pace is not None:
                since = tally.begin + k / job.pace
                time.sleep(max(0.0, since - time.monotonic()))
            if job.seconds is not None and time.monotonic() - tally.begin >= job.seconds:
                break
            interrupts.working = True
            busy, lines = step(frame, since)
            tally.busy += busy
            tally.lines += lines
            interrupts.working = False
            if interrupts.heard:
                break
    return interrupts.heard


def _plan_step(plan: Plan, write: Write) -> Step:
    out = np.empty(*plan.output)

    def step(frame: Frame, since: float | None) -> tuple[float, int]:
        report = plan.run(frame, out, since)[1]
        write(out)
        return report.busy, len(out)

    return step


def _stream_step(stream: Stream, write: Write) -> Step:
    def step(block: Frame, _since: float | None) -> tuple[float, int]:
        taken = lines = 0
        busy = 0.0
        while taken < len(block):
            begin = time.monotonic()
            taken += stream.push(block[taken:])
            done = stream.pull()
            busy += time.monotonic() - begin
            write(done)
            lines += len(done)
        return busy, lines

    return step


def _finish(stream: Stream, write: Write) -> int:
    """End the web, and write what is left of it."""
    lines, ended = 0, False
    while not ended:
        ended = stream.finish()
        while len(done := stream.pull()):
            write(done)
            lines += len(done)
    return lines


def _to_stdout(lines: Any) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()  # who reads them may be waiting


@contextmanager
def _written(out: str | None) -> Iterator[Write]:
    """Give what writes lines: to nowhere, standard output, or a file that appears whole at the end."""
    if out is None:
        yield lambda _: None
        return
    path = Path(out)
    try:
        if out == "-":
            yield _to_stdout
        elif path.exists() and not path.is_file():  # a device, or a pipe
            with path.open("wb") as file:
                yield file.write
        else:
            with created(path) as file:
                yield file.write
    except SdieError:  # some of which are OSErrors
        raise
    except OSError as error:
        raise ImageFileError(f"--out: {out} cannot be written: {error.strerror or error}") from error


@contextmanager
def _shown(tally: _Tally, show: bool) -> Iterator[None]:
    """Show the figures on a terminal while the block runs.

    They are drawn by another thread, which the interpreter takes the lock from sooner than it usually would: the
    frames are not to wait for a table.
    """
    if not show or not stderr.is_terminal:
        yield
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with Live(tally, console=stderr, refresh_per_second=4, transient=True):
            yield
    finally:
        sys.setswitchinterval(interval)
