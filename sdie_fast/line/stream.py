"""Streams: the lines of an endless web."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core, _validate
from ..filters import FilterParams
from ._base import Line, Source, size

__all__ = ["Stream"]

_STATISTICS = {"strip": 0, "rolling": 1, "frozen": 2}
_lines = _validate.integer(0, 2**30)
_statistics = _validate.choice(*_STATISTICS)


class Stream(Line):
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
        recipe: Source,
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
        height = size("strip", strip)
        config = self._configured(
            recipe, width, height, input, output, params, filters, threads, cpus, priority, deadline, white_level,
            warm_up,
        )  # fmt: skip
        self._handle: _core.LineStream = _core.LineStream(
            config,
            strip=height,
            context=-1 if context is None else _lines("context", context),
            statistics=_STATISTICS[_statistics("statistics", statistics)],
            half_life=size("half_life", half_life),
            capacity=0 if capacity is None else size("capacity", capacity),
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
        for chunk in chunks:
            taken = 0
            while taken < len(chunk):
                taken += self.push(chunk[taken:])
                if len(done := self.pull()):
                    yield done
        ended = False
        while not ended:
            ended = self.finish()
            if len(done := self.pull()):
                yield done
