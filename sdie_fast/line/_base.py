"""What plans and streams share: formats, configuration, weights and counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _core, _validate, _weights
from ..enhance import Weights
from ..filters import DEFAULTS, TABLE, FilterParams, toolkit
from ..recipe import Recipe
from .export import MAGIC, fixed_rows, parameters

__all__ = ["FORMATS", "Layout", "Line", "Source", "Stats", "layout", "size"]

# Names of GenICam's Pixel Format Naming Convention, taken whatever the case of their letters.
FORMATS: tuple[str, ...] = _core.line_formats()
Source = Recipe | str | os.PathLike[str] | Weights

_Self = TypeVar("_Self", bound="Line")
size = _validate.integer(1, 2**30)
_priority = _validate.integer(0, 99)
_cpu = _validate.integer(0, 2**20)
_runs = _validate.integer(0, 1_000_000)
_white = _validate.real(0.0, 65535.0, above_low=True)
_deadline = _validate.real(0.0, 1e9, above_low=True)


class Stats(NamedTuple):
    """What became of all frames, or strips, so far. Times are latencies in seconds.

    Percentiles are at most 0.8% too high; `min`, `max` and `mean` are exact.
    """

    frames: int
    late: int
    shortened: int
    unenhanced: int
    """Of the shortened, those without any round: the output is the input."""
    rounds: int
    """Done, in all frames."""
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
    dtype, row = _core.line_layout(_validate.text("format", format), size("width", width))
    return Layout((lines, *row), np.dtype(dtype))


def _is_line_file(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:  # a folder, or missing: Recipe.load tells
        return False


class Line:
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
        self.input = layout(_validate.text("input", input), width, height)
        self.output = self.input if output is None else layout(_validate.text("output", output), width, height)
        config = _core.LineConfig(
            width=size("width", width),
            height=size("height", height),
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
        rows = fixed_rows(
            recipe, "or weights, as of an image like those to come, and set_weights for each that follows"
        )
        self.filters = recipe.filters
        table = _in_table(rows, self.filters)
        names = [name for name, most in zip(TABLE, table.max(axis=0), strict=True) if most > 0 or name in allowed]
        config.set_recipe(table, parameters(recipe.params, names))
        config.allow(_bits(allowed))
        return config

    def set_weights(self, weights: Weights) -> None:
        """Change the weights from the next frame on, from any thread, also while another one is in `run`.

        Parameters
        ----------
        weights
            As for `sdie_fast.enhance`, of one image: by name, or in the order of `filters`. At most the rounds that
            the recipe has, and filters to which it gives weight or that were allowed by `filters=`.
        """
        names = toolkit(weights) if _weights.is_named(weights) else self.filters
        self._handle.set_weights(_in_table(_weights.shared_weights(weights, names), names))

    def stats(self) -> Stats:
        """Tell the counts and latencies so far, from any thread."""
        *counts, low, p50, p90, p99, p999, high, mean = self._handle.stats()
        return Stats(*counts, *(t * 1e-9 for t in (low, p50, p90, p99, p999, high, mean)))

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
