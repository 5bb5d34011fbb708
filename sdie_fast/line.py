"""On the line: plans for frames and streams for endless webs, in the camera's own pixel formats.

>>> from sdie_fast import line
>>> with line.Plan("recipe/", 2048, 1024, "Mono12p", "Mono8", threads=2, deadline=0.020) as plan:  # doctest: +SKIP
...     out, report = plan.run(frame)

The functions are those of the C library (`include/sdie_fast.h`), which a line without Python links. A plan takes its
memory and starts its threads when it is made; a run reads and writes arrays where they lie, allocates nothing and lets
other Python threads run. Times are in seconds; `since` counts as `time.monotonic()` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from . import _backends, _validate, _weights
from .enhance import Weights
from .errors import InvalidArgumentError, RecipeError
from .files import replace_file
from .filters import DEFAULTS, TABLE, FilterParams, toolkit
from .recipe import Recipe

_backends.resolve("cpu")  # raises where the compiled module is missing, with the fix

from . import _core  # noqa: E402

__all__ = ["FORMATS", "MOST_ROUNDS", "Plan", "Report", "Stats", "Stream", "export", "layout"]

# Names of GenICam's Pixel Format Naming Convention, whatever the case of their letters.
FORMATS: tuple[str, ...] = _core.line_formats()
MOST_ROUNDS = 32

_MAGIC = b"sdie-fast-line "
_MOST_NAME = 200
_STATISTICS = {"strip": 0, "rolling": 1, "frozen": 2}
_Self = TypeVar("_Self", bound="_Line")

_size = _validate.integer(1, 2**30)
_lines = _validate.integer(0, 2**30)
_priority = _validate.integer(0, 99)
_cpu = _validate.integer(0, 2**20)
_runs = _validate.integer(0, 1_000_000)
_white = _validate.real(0.0, 65535.0, above_low=True)
_deadline = _validate.real(0.0, 1e9, above_low=True)
_time = _validate.real(0.0, 1e10)
_share = _validate.real(0.0, 100.0)
_statistics = _validate.choice(*_STATISTICS)


class Report(NamedTuple):
    """What became of one frame. Times are in seconds."""

    rounds: int
    """Rounds done, of those `wanted`."""
    wanted: int
    reason: str
    """Why there are fewer: "no time" before the deadline for one more; "" for all rounds."""
    late: bool
    """Whether the call ended after the deadline."""
    latency: float
    """From the frame's start, `since` or the call, to the end of the call."""
    busy: float
    """From the call to its end."""
    next: float
    """What the plan expects of one round more."""


class Stats(NamedTuple):
    """What became of all frames, or strips, so far. Times are latencies in seconds.

    Percentiles are at most 0.8% too high; `min`, `max` and `mean` are exact.
    """

    frames: int
    late: int
    shortened: int
    refused: int
    min: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float


class Layout(NamedTuple):
    """Shape and dtype of an array that holds lines of a format."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def layout(format: str, width: int, lines: int) -> Layout:
    """Tell the array for so many lines of a format.

    uint8 for Mono8, RGB8 and BGR8 (..., 3); uint16 for Mono10, 12, 14 and 16; float32 for Float32; for packed formats
    the bytes of the lines as they are, uint8.
    """
    dtype, row = _core.line_layout(_validate.text("format", format), _size("width", width))
    return Layout((lines, *row), np.dtype(dtype))


def _fixed(recipe: Recipe, what: str) -> npt.NDArray[np.float32]:
    """Weights of a recipe's first pass, (T, F)."""
    if recipe.weights is None:
        raise InvalidArgumentError(
            f"recipe: received {recipe.name!r} of kind {recipe.kind!r}, whose network chooses the weights for each image; "
            f"accepted: kind 'fixed' ({what})"
        )
    rows = recipe.weights[: recipe.rounds // recipe.passes]
    if len(rows) > MOST_ROUNDS:
        raise InvalidArgumentError(f"recipe: received {len(rows)} rounds; accepted: 1 to {MOST_ROUNDS} on the line")
    return rows


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)


def _parameters(params: FilterParams, names: Sequence[str]) -> dict[str, str]:
    """Parameters of those filters, each as `sdie_config_set` takes it."""
    return {name: _text(value) for name, value in params.resolved(names).items()}


def export(recipe: Recipe | str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write a fixed recipe as the small text file that `sdie_config_load` of the C library reads.

    Of a recipe of several passes the first is written, which is what `Enhancer` makes.

    Returns
    -------
    Path
        Of the file, which appears whole or not at all.

    Raises
    ------
    InvalidArgumentError
        A recipe with a network, or of more than 32 rounds.
    RecipeError
        The recipe cannot be read, or the file not be written.
    """
    source = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    rows = _fixed(source, "on a line run the network outside and hand its weights to sdie_plan_set_weights")
    used = [name for name, most in zip(source.filters, rows.max(axis=0), strict=True) if most > 0]
    name = "".join(c if " " <= c <= "~" else "?" for c in source.name[:_MOST_NAME])
    lines = ["sdie-fast-line 1", f"name {name}", f"recipe {source.to_dict()['sha256']}"]
    for row in rows:
        mix = (f"{name}={w}" for name, w in zip(source.filters, row, strict=True) if w > 0)
        lines.append(" ".join(("round", *mix)))  # the shortest decimal that is this float32
    lines += [f"set {name} {value}" for name, value in _parameters(source.params, used).items()]
    content = "".join(line + "\n" for line in lines).encode("ascii")
    content += f"check {_fnv1a(content):016x}\n".encode("ascii")
    file = _validate.path("path", path)
    try:
        replace_file(file, lambda stream: stream.write(content), durable=True)
    except OSError as error:
        raise RecipeError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file


def _fnv1a(data: bytes) -> int:
    """FNV-1a of 64 bits: it tells a damaged file, not a forged one."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _is_line_file(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:  # a folder, or missing: Recipe.load tells
        return False


class _Line:
    """What plans and streams share."""

    _handle: _core.LinePlan | _core.LineStream
    filters: tuple[str, ...]
    """Names of the filters that an array of weights is for."""

    def _configured(
        self,
        recipe: Any,
        width: int,
        height: int,
        input: str,
        output: str | None,
        params: FilterParams | None,
        filters: Sequence[str],
        threads: int,
        cpus: Sequence[int] | None,
        priority: int,
        deadline: float | None,
        white_level: float | None,
        warm_up: int,
    ) -> _core.LineConfig:
        self.input = layout(input, width, height)
        self.output = layout(input if output is None else output, width, height)
        config = _core.LineConfig(
            width=_size("width", width),
            height=_size("height", height),
            input=input,
            output=output,
            white=0.0 if white_level is None else _white("white_level", white_level),
            threads=_validate.threads(threads),
            cpus=[_cpu("cpus", cpu) for cpu in cpus or ()],
            priority=_priority("priority", priority),
            deadline_ns=0 if deadline is None else max(1, round(_deadline("deadline", deadline) * 1e9)),
            warm_up=_runs("warm_up", warm_up),
        )
        allowed = _validate.filters(filters, TABLE) if filters else ()
        if isinstance(recipe, (str, os.PathLike)):
            path = _validate.path("recipe", recipe)
            if _is_line_file(path):
                _validate.equal("params", params, None)
                config.load(str(path))
                config.allow(_bits(allowed))
                self.filters = tuple(TABLE)
                return config
            recipe = Recipe.load(path)
        if isinstance(recipe, Recipe):
            _validate.equal("params", params, None)
        else:
            recipe = Recipe(recipe, DEFAULTS if params is None else params)
        rows = _fixed(recipe, "or weights, as of an image like those to come, and set_weights for each that follows")
        self.filters = recipe.filters
        table = _in_table(rows, self.filters)
        names = [name for name, most in zip(TABLE, table.max(axis=0), strict=True) if most > 0 or name in allowed]
        config.set_recipe(table, _parameters(recipe.params, names))
        config.allow(_bits(allowed))
        return config

    def set_weights(self, weights: Weights) -> None:
        """Change the weights from the next frame on, from any thread, also while another one is in `run`.

        Parameters
        ----------
        weights
            As for `sdie_fast.enhance`, of one image: by name, or in the order of `filters`. At most the rounds that the
            recipe has, and filters to which it gives weight or that were allowed by `filters=`.
        """
        names = toolkit(weights) if _weights.is_named(weights) else self.filters
        self._handle.set_weights(_in_table(_weights.shared_weights(weights, names), names))

    def stats(self) -> Stats:
        """Tell the counts and latencies so far, from any thread."""
        *counts, low, p50, p90, p99, p999, high, mean = self._handle.stats()
        return Stats(*counts[:4], *(t * 1e-9 for t in (low, p50, p90, p99, p999, high, mean)))  # type: ignore[arg-type]

    def close(self) -> None:
        """End the threads and free the memory. While another thread is in it, that is refused with a BusyError."""
        self._handle.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bits(names: Iterable[str]) -> int:
    return sum(1 << tuple(TABLE).index(name) for name in names)


def _in_table(rows: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.float32]:
    table = np.zeros((len(rows), len(TABLE)), np.float32)
    table[:, [tuple(TABLE).index(name) for name in names]] = rows
    return table


class Plan(_Line):
    """A recipe made ready for frames of one size and format.

    Parameters
    ----------
    recipe : Recipe, path or weights
        A fixed recipe, or its folder or file, or a file that `export` wrote; or weights as `sdie_fast.enhance` takes
        them for one image, with `params`. Of several passes the first is made.
    width, height : int
        Pixels of a frame.
    input, output : str
        Of `FORMATS`; None means the input's. Colour to grey gives luma.
    params : FilterParams, optional
        With weights.
    filters : sequence of str
        Filters to which `set_weights` may give weight besides those that have some.
    threads : int
        At most, the caller's among them. Small frames take one.
    cpus : sequence of int, optional
        A CPU for each thread but the caller's, on which that alone runs.
    priority : int
        1 to 99: SCHED_FIFO for the plan's threads, not for the caller's; 0: as the caller.
    deadline : float, optional
        Seconds from a frame's start to the end of its call. Before each round the plan compares what is left with what
        rounds have taken, and makes no more where it would not suffice. The output is always written.
    white_level : float, optional
        The input's value that counts as 1; None means the format's largest.
    warm_up : int
        Runs on an artificial picture, which measure the rounds and touch the memory.

    Attributes
    ----------
    input, output : Layout
        Shape and dtype of the arrays that `run` takes and gives.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, RecipeError
        What cannot be used.
    LineError, MemoryError
        Threads cannot be started, pinned or given their priority, or the memory does not suffice.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str] | Weights,
        width: int,
        height: int,
        input: str = "Mono8",
        output: str | None = None,
        *,
        params: FilterParams | None = None,
        filters: Sequence[str] = (),
        threads: int = 1,
        cpus: Sequence[int] | None = None,
        priority: int = 0,
        deadline: float | None = None,
        white_level: float | None = None,
        warm_up: int = 2,
    ) -> None:
        config = self._configured(
            recipe, width, height, input, output, params, filters, threads, cpus, priority, deadline, white_level, warm_up
        )  # fmt: skip
        self._handle: _core.LinePlan = _core.LinePlan(config)

    def run(
        self, frame: npt.NDArray[Any], out: npt.NDArray[Any] | None = None, since: float | None = None
    ) -> tuple[npt.NDArray[Any], Report]:
        """Enhance a frame.

        Parameters
        ----------
        frame : ndarray
            As `input` says. Lines may lie any distance apart and in any order; the pixels of a line lie side by side.
        out : ndarray, optional
            Where to write, as `output` says, apart from the frame; None makes a new one.
        since : float, optional
            When the frame started, as `time.monotonic()` counts: when it was due, or when its last line was exposed.
            Deadline and latency count from there; None means from the call.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            An array that cannot be used.
        BusyError
            Another thread is in the plan.
        """
        if out is None:
            out = np.empty(*self.output)
        start = None if since is None else round(_time("since", since) * 1e9)
        rounds, wanted, reason, late, latency, busy, more = self._handle.run(frame, out, start)
        told = "no time" if reason else ""
        return out, Report(rounds, wanted, told, late, latency * 1e-9, busy * 1e-9, more * 1e-9)

    def percentile(self, percentile: float) -> float:
        """Give any percentile, in [0, 100], of the latency in seconds; 0 without frames."""
        return self._handle.percentile(_share("percentile", percentile)) * 1e-9

    def reset_stats(self) -> None:
        """Start the counts anew; a frame in flight may be in the old or the new ones."""
        self._handle.reset_stats()


class Stream(_Line):
    """A recipe made ready for the lines of an endless web, which are enhanced strip by strip without a seam.

    Parameters
    ----------
    recipe, width, input, output, params, filters, threads, cpus, priority, deadline, white_level, warm_up
        As for `Plan`; the deadline is each strip's.
    strip : int
        Lines that are enhanced at once.
    context : int, optional
        Lines above and below that they are enhanced with; None means what the recipe needs.
    statistics : {"rolling", "strip", "frozen"}
        Where the spatiogram's statistics come from: all lines so far, older ones fading by half in every `half_life`
        lines; each strip with its context; or what `learn` was given.
    half_life : int
        In lines.
    capacity : int, optional
        Finished lines that are held until they are pulled; None means two strips.

    Attributes
    ----------
    input, output : Layout
        Shape and dtype of a strip's arrays; `push` and `pull` take any number of such lines.
    latency : int
        Lines that have to be pushed after a line, at most, until it can be pulled.
    context : int
        Lines of context in force.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str] | Weights,
        width: int,
        input: str = "Mono8",
        output: str | None = None,
        *,
        strip: int = 256,
        context: int | None = None,
        statistics: Literal["rolling", "strip", "frozen"] = "rolling",
        half_life: int = 4096,
        capacity: int | None = None,
        params: FilterParams | None = None,
        filters: Sequence[str] = (),
        threads: int = 1,
        cpus: Sequence[int] | None = None,
        priority: int = 0,
        deadline: float | None = None,
        white_level: float | None = None,
        warm_up: int = 2,
    ) -> None:
        height = _size("strip", strip)
        config = self._configured(
            recipe, width, height, input, output, params, filters, threads, cpus, priority, deadline, white_level, warm_up
        )  # fmt: skip
        self._handle: _core.LineStream = _core.LineStream(
            config,
            strip=height,
            context=-1 if context is None else _lines("context", context),
            statistics=_STATISTICS[_statistics("statistics", statistics)],
            half_life=_size("half_life", half_life),
            capacity=0 if capacity is None else _size("capacity", capacity),
        )
        self.latency = self._handle.latency
        self.context = self._handle.context
        self._most = 2 * height if capacity is None else capacity

    def push(self, lines: npt.NDArray[Any]) -> int:
        """Take lines and enhance the strips that they complete.

        Returns
        -------
        int
            How many were taken: fewer than given where finished lines have to be pulled first.
        """
        return self._handle.push(lines)

    def pull(self, most: int | None = None, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Give the oldest finished lines, at most so many (None: all); none where none is finished.

        With `out` they are written there, as many as it holds; what is returned is a view of it.
        """
        if out is None:
            count = self._most if most is None else min(_lines("most", most), self._most)
            out = np.empty((count, *self.output.shape[1:]), self.output.dtype)
        elif most is not None:
            out = out[: _lines("most", most)]
        return out[: self._handle.pull(out) if len(out) else 0]

    def finish(self) -> bool:
        """End the web: enhance the lines that are left, for `pull`. The stream is then ready for another web.

        Returns
        -------
        bool
            False where finished lines have to be pulled first; then call it again.
        """
        return self._handle.finish()

    def learn(self, lines: npt.NDArray[Any]) -> None:
        """Take the spatiogram's statistics from lines of reference material, for statistics="frozen"."""
        self._handle.learn(lines)

    def web(self, chunks: Iterable[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
        """Enhance a whole web: give finished lines while it takes lines, and the rest after the last."""
        for lines in chunks:
            while len(lines):
                lines = lines[self.push(lines) :]
                if len(done := self.pull()):
                    yield done
        ended = False
        while not ended:
            ended = self.finish()
            if len(done := self.pull()):
                yield done
