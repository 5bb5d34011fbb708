"""Plans: frames of one size and format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core, _validate
from ..filters import FilterParams
from ._base import Line, Source

__all__ = ["Plan", "Report"]

_time = _validate.real(0.0, 1e10)
_share = _validate.real(0.0, 100.0)


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


class Plan(Line):
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
        recipe: Source,
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
            recipe, width, height, input, output, params, filters, threads, cpus, priority, deadline, white_level,
            warm_up,
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
