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
