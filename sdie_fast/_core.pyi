"""The compiled core; arguments are checked by `sdie_fast._validate` before they come here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

class Params:
    """The parameters of every filter."""

    def __init__(self, values: dict[str, Any]) -> None:
        """Take `FilterParams.resolved()`; raises ValueError for a name unknown or missing and a value not accepted."""

def filters() -> tuple[str, ...]:
    """Names of the filters in the order of weights."""

def parameters() -> list[tuple[str, str, float, float, tuple[str, ...], bool, bool]]:
    """Name, kind ("integer", "real", "choice"), lowest and highest value, choices, `above` and `odd` of each parameter.

    `above`: the lowest value itself is not accepted.
    """

def enhance(
    src: npt.NDArray[Any],
    dst: npt.NDArray[Any],
    weights: npt.NDArray[np.float32],
    params: Params,
    white_level: float,
    per_channel: bool,
    threads: int,
    isa: str = "",
) -> None:
    """Enhance (N, H, W, C) `src` into `dst` with normalised weights (N, T, filters)."""

class Plan:
    """Memory and threads of an enhancement, made once and run many times; `enhance` keeps plans of its own."""

    def __init__(
        self,
        dtype: str,
        height: int,
        width: int,
        channels: int,
        white_level: float,
        params: Params,
        *,
        filters: Sequence[str],
        rounds: int = 1,
        images: int = 0,
        per_channel: bool = False,
        threads: int = 1,
        pin: bool = False,
        isa: str = "",
    ) -> None:
        """Take all memory and start all threads.

        `filters` may have weight, `rounds` and `images` are the most of a call (0: any number of images). `threads`
        counts the caller's; with `pin` the others each keep to one CPU of the process's affinity mask. Raises
        ValueError for what is not accepted, MemoryError, RuntimeError where the system starts no thread.
        """

    def run(self, src: npt.NDArray[Any], dst: npt.NDArray[Any], weights: npt.NDArray[np.float32]) -> float:
        """Enhance (N, H, W, C) `src` into `dst` with normalised weights (N, T, filters); seconds it took.

        Raises ValueError for arrays and weights of another plan, RuntimeError where another thread runs this one, or
        where its threads stayed behind in the process that forked this one.
        """

    @property
    def bytes(self) -> int:
        """Working memory."""

    @property
    def threads(self) -> int:
        """Threads that have work: small images are not split."""

class LineConfig:
    """What a plan or a stream of the line is made from: `sdie_config` of include/sdie_fast.h."""

    def __init__(
        self,
        *,
        width: int,
        height: int,
        input: str,
        output: str | None,
        white: float,
        threads: int,
        cpus: Sequence[int],
        priority: int,
        deadline_ns: int,
        warm_up: int,
    ) -> None:
        """Take the frame's format and the threads; raises InvalidArgumentError for an unknown format."""

    def load(self, path: str) -> None:
        """Take weights and parameters from a file of `line.export`; raises RecipeError."""

    def set_recipe(self, weights: npt.NDArray[np.float32], parameters: dict[str, str]) -> None:
        """Take weights (T, filters) and parameters by name."""

    def allow(self, filters: int) -> None:
        """Let `set_weights` give weight to filter k where bit k is set, besides those that have some."""

class LinePlan:
    """`sdie_plan`. Calls raise BusyError where another thread is in it, InvalidArgumentError where it was closed."""

    def __init__(self, config: LineConfig) -> None:
        """Take all memory and start all threads; raises MemoryError, LineError."""

    def run(
        self, frame: npt.NDArray[Any], out: npt.NDArray[Any], since_ns: int | None
    ) -> tuple[int, int, int, bool, int, int, int]:
        """Enhance a frame without the GIL: rounds, wanted, reason, late, and latency, busy and next in nanoseconds."""

    def set_weights(self, weights: npt.NDArray[np.float32]) -> None:
        """Change the weights (T, filters) between two frames."""

    def stats(self) -> tuple[int, int, int, int, int, int, int, int, int, int, float]:
        """Frames, late, shortened, unenhanced, rounds, refused; least, p50, p90, p99, p99.9, largest and mean latency in nanoseconds."""

    def percentile(self, percentile: float) -> int:
        """Any percentile of the latency in nanoseconds."""

    def reset_stats(self) -> None:
        """Start the counts anew."""

    def close(self) -> None:
        """End the threads and free the memory."""

class LineStream:
    """`sdie_stream`; errors as of `LinePlan`."""

    def __init__(
        self, config: LineConfig, strip: int, context: int, statistics: int, half_life: int, capacity: int
    ) -> None:
        """Take all memory and start all threads."""

    def push(self, lines: npt.NDArray[Any]) -> int:
        """Take lines without the GIL; how many were taken."""

    def pull(self, out: npt.NDArray[Any]) -> int:
        """Write finished lines; how many."""

    def finish(self) -> bool:
        """End the web; False where finished lines have to be pulled first."""

    def learn(self, lines: npt.NDArray[Any]) -> None:
        """Take the spatiogram's statistics from these lines."""

    def set_weights(self, weights: npt.NDArray[np.float32]) -> None:
        """As of `LinePlan`."""

    def stats(self) -> tuple[int, int, int, int, int, int, int, int, int, int, float]:
        """As of `LinePlan`, of strips."""

    def close(self) -> None:
        """As of `LinePlan`."""

    @property
    def latency(self) -> int:
        """Lines from a line to its result, at most."""

    @property
    def context(self) -> int:
        """Lines of context in force."""

def line_formats() -> tuple[str, ...]:
    """Names of the pixel formats."""

def line_layout(format: str, width: int) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a line's array."""

def clear_cache() -> None:
    """Free the plans that `enhance` keeps, and those in use as soon as they are done."""

def cache_info() -> dict[str, int]:
    """What `enhance` keeps: {"plans": int, "bytes": int}."""

def wls_info(image: npt.NDArray[np.float32], params: Params, isa: str = "") -> dict[str, Any]:
    """What the exact WLS solver does for one plane: {"iterations": int, "residual": float}.

    "residual" is its own estimate of the largest error when it stopped, in intensity.
    """

def workspace_bytes(height: int, width: int, params: Params, weights: npt.NDArray[np.float32]) -> int:
    """Bytes of working memory for one image of that size, one thread and weights (1, T, filters)."""

def isas() -> list[str]:
    """Instruction sets that were built and that this processor has, slowest first."""

def active_isa() -> str:
    """The one in force: the fastest, or what SDIE_FAST_ISA names."""

def build_info() -> dict[str, str]:
    """Version, compiler, build type and instruction sets."""
