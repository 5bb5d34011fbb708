"""The compiled core; arguments are checked by `sdie_fast._validate` before they come here."""

from typing import Any

import numpy as np
import numpy.typing as npt

class Params:
    """`sdie_fast.FilterParams` with every window resolved."""

    def __init__(
        self,
        *,
        bilateral_window: int,
        sharpen_window: int,
        guided_window: int,
        wls_lambda: float,
        wls_alpha: float,
        wls_solver: str,
        wls_tol: float,
        wls_domain: str,
        bilateral_sigma_space: float,
        bilateral_sigma_range: float,
        bilateral_footprint: str,
        sharpen_amount: float,
        sharpen_radius: float,
        sharpen_threshold: float,
        guided_eps: float,
        spatiogram_method: str,
        spatiogram_bins: int,
        spatiogram_clip_limit: float,
        spatiogram_tiles: int,
    ) -> None: ...

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
    """Enhance (N, H, W, C) `src` into `dst` with normalised weights (N, T, 6)."""

def wls_info(image: npt.NDArray[np.float32], params: Params, isa: str = "") -> dict[str, Any]:
    """What the exact WLS solver does for one plane: {"iterations": int, "residual": float}.

    "residual" is its own estimate of the largest error when it stopped, in intensity.
    """

def workspace_bytes(height: int, width: int, params: Params, weights: npt.NDArray[np.float32]) -> int:
    """Bytes of working memory for one image of that size, one thread and weights (1, T, 6)."""

def isas() -> list[str]:
    """Instruction sets that were built and that this processor has, slowest first."""

def active_isa() -> str:
    """The one in force: the fastest, or what SDIE_FAST_ISA names."""

def build_info() -> dict[str, str]:
    """Version, compiler, build type and instruction sets."""
