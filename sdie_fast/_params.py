"""The names of the six filters, in their fixed order, and their parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from . import _validate

FILTERS = ("identity", "wls", "bilateral", "sharpen", "guided", "spatiogram")

_RULES: dict[str, _validate.Rule] = {
    "window": _validate.integer(3, 11, odd=True),
    "wls_lambda": _validate.real(0.0, 100.0, above_low=True),
    "wls_alpha": _validate.real(0.2, 2.0),
    "wls_solver": _validate.choice("exact", "fast"),
    "wls_tol": _validate.real(1e-6, 0.1),
    "wls_domain": _validate.choice("intensity", "lightness"),
    "bilateral_window": _validate.integer(3, 15, odd=True, optional=True),
    "bilateral_sigma_space": _validate.real(0.1, 100.0),
    "bilateral_sigma_range": _validate.real(0.005, 10.0),
    "bilateral_footprint": _validate.choice("square", "disk"),
    "sharpen_window": _validate.integer(3, 15, odd=True, optional=True),
    "sharpen_amount": _validate.real(0.0, 10.0),
    "sharpen_radius": _validate.real(0.1, 100.0),
    "sharpen_threshold": _validate.real(0.0, 1.0),
    "guided_window": _validate.integer(3, 15, odd=True, optional=True),
    "guided_eps": _validate.real(1e-4, 10.0),
    "spatiogram_method": _validate.choice("spatiogram", "clahe", "global"),
    "spatiogram_bins": _validate.integer(2, 64),
    "spatiogram_clip_limit": _validate.real(0.0, 100.0, above_low=True),
    "spatiogram_tiles": _validate.integer(1, 64),
}


@dataclasses.dataclass(frozen=True)
class FilterParams:
    """Parameters of the six filters. Immutable, hashable, checked when made.

    Attributes
    ----------
    window : int
        Side in pixels of the square window of the local filters: odd, 3 to 11.
    wls_lambda : float
        Weighted least squares (Farbman et al. 2008): strength of smoothing, in (0, 100].
    wls_alpha : float
        Exponent of the log-gradient in the smoothness weight, in [0.2, 2].
    wls_solver : {"exact", "fast"}
        "exact" solves the system to `wls_tol`; "fast" is three separable passes (Min et al. 2014).
    wls_tol : float
        Largest error of the exact solver, in intensity, in [1e-6, 0.1].
    wls_domain : {"intensity", "lightness"}
        Smooth intensities, or CIE L* of the image taken as sRGB grey.
    bilateral_window, sharpen_window, guided_window : int or None
        Window of that filter alone: odd, 3 to 15; None means `window`.
    bilateral_sigma_space : float
        Spatial Gaussian sigma in pixels, in [0.1, 100].
    bilateral_sigma_range : float
        Range Gaussian sigma in intensity, in [0.005, 10].
    bilateral_footprint : {"square", "disk"}
        Every tap of the window, or those within its radius.
    sharpen_amount : float
        Share of the detail layer that is added, in [0, 10].
    sharpen_radius : float
        Gaussian sigma in pixels, in [0.1, 100].
    sharpen_threshold : float
        Details smaller than this (in intensity) are not added, in [0, 1].
    guided_eps : float
        Regularisation of the self-guided filter (He et al. 2013), in squared intensity, in [1e-4,
        10].
    spatiogram_method : {"spatiogram", "clahe", "global"}
        Spatially weighted equalisation by spatiogram, contrast-limited by tiles, or by one
        histogram.
    spatiogram_bins : int
        Intensity bins of "spatiogram", 2 to 64.
    spatiogram_clip_limit : float
        Contrast limit of "clahe", in (0, 100].
    spatiogram_tiles : int
        Tiles a side of "clahe", 1 to 64.
    """

    window: int = 7
    wls_lambda: float = 1.0
    wls_alpha: float = 1.2
    wls_solver: Literal["exact", "fast"] = "exact"
    wls_tol: float = 1 / 510
    wls_domain: Literal["intensity", "lightness"] = "intensity"
    bilateral_window: int | None = None
    bilateral_sigma_space: float = 1.5
    bilateral_sigma_range: float = 0.1
    bilateral_footprint: Literal["square", "disk"] = "square"
    sharpen_window: int | None = None
    sharpen_amount: float = 0.8
    sharpen_radius: float = 1.5
    sharpen_threshold: float = 0.0
    guided_window: int | None = None
    guided_eps: float = 0.01
    spatiogram_method: Literal["spatiogram", "clahe", "global"] = "spatiogram"
    spatiogram_bins: int = 32
    spatiogram_clip_limit: float = 1.0
    spatiogram_tiles: int = 5

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            # The checked value replaces the given one: numpy scalars become plain numbers, which
            # JSON can hold.
            object.__setattr__(self, name, rule(name, getattr(self, name)))

    @classmethod
    def published_code(cls) -> FilterParams:
        """Parameters of the code published under the SDIE paper's first author's name.

        Its recipes run four rounds. Values: WLS lambda 0.125 on CIE L*; bilateral disk of diameter
        15 with both sigmas 75 of 255; sharpening by 1.5 with a 5 x 5 Gaussian of sigma 1.1; guided
        radius 5 and eps 0.1; CLAHE with clip limit 1.0 and 5 x 5 tiles.
        """
        return cls(
            wls_lambda=0.125,
            wls_alpha=1.2,
            wls_domain="lightness",
            bilateral_window=15,
            bilateral_sigma_space=75.0,
            bilateral_sigma_range=75 / 255,
            bilateral_footprint="disk",
            sharpen_window=5,
            sharpen_amount=1.5,
            sharpen_radius=1.1,
            guided_window=11,
            guided_eps=0.1,
            spatiogram_method="clahe",
            spatiogram_clip_limit=1.0,
            spatiogram_tiles=5,
        )

    def windows(self) -> tuple[int, int, int, int, int, int]:
        """Window in pixels of each filter, in the order of `FILTERS`; 1 for those without."""
        own = (self.bilateral_window, self.sharpen_window, self.guided_window)
        bilateral, sharpen, guided = (window or self.window for window in own)
        return (1, 1, bilateral, sharpen, guided, 1)

    def to_dict(self) -> dict[str, Any]:
        """Every parameter by name, as JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FilterParams:
        """Make parameters from a dictionary; what it leaves out keeps its default.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            An unknown name, or a value out of range.
        """
        _validate.mapping("params", values)
        _validate.known_keys("params", values, _RULES)
        return cls(**values)


DEFAULTS = FilterParams()
