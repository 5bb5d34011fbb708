# Written by tools/filter_stub.py from the table of filters.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ._filter import Filter as Filter
from ._filter import Operations as Operations
from ._filter import Parameter as Parameter

Array = TypeVar("Array")

DEFAULTS: FilterParams
FILTERS: tuple[str, ...]
PARAMETERS: Mapping[str, Parameter]
TABLE: Mapping[str, type[Filter]]

def toolkit(weights: Any, filters: Sequence[str] | None = ...) -> tuple[str, ...]: ...

@dataclass(frozen=True)
class FilterParams:
    window: int = ...
    wls_lambda: float = ...
    wls_alpha: float = ...
    wls_solver: Literal["exact", "fast"] = ...
    wls_tol: float = ...
    wls_domain: Literal["intensity", "lightness"] = ...
    bilateral_window: int | None = ...
    bilateral_sigma_space: float = ...
    bilateral_sigma_range: float = ...
    bilateral_footprint: Literal["square", "disk"] = ...
    sharpen_window: int | None = ...
    sharpen_amount: float = ...
    sharpen_radius: float = ...
    sharpen_threshold: float = ...
    guided_window: int | None = ...
    guided_eps: float = ...
    spatiogram_method: Literal["spatiogram", "clahe", "global"] = ...
    spatiogram_bins: int = ...
    spatiogram_clip_limit: float = ...
    spatiogram_tiles: int = ...
    gamma_exponent: float = ...
    median_window: int | None = ...
    gaussian_window: int | None = ...
    gaussian_sigma: float = ...

    @classmethod
    def published_code(cls) -> FilterParams: ...
    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FilterParams: ...
    def to_dict(self, filters: tuple[str, ...] = ...) -> dict[str, Any]: ...
    def windows(self) -> tuple[int, ...]: ...
    def of(self, name: str) -> Any: ...
    def resolved(self, filters: Sequence[str] = ...) -> dict[str, Any]: ...

def identity(
    image: Array,
    *,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Leave the image as it is: the share of it that a round keeps."""

def wls(
    image: Array,
    *,
    lambda_: float = ...,
    alpha: float = ...,
    solver: Literal["exact", "fast"] = ...,
    tol: float = ...,
    domain: Literal["intensity", "lightness"] = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Smooth by weighted least squares, keeping strong edges (Farbman et al. 2008)."""

def bilateral(
    image: Array,
    *,
    window: int = ...,
    sigma_space: float = ...,
    sigma_range: float = ...,
    footprint: Literal["square", "disk"] = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Smooth by a bilateral filter, Gaussian in space and intensity (Tomasi & Manduchi 1998)."""

def sharpen(
    image: Array,
    *,
    window: int = ...,
    amount: float = ...,
    radius: float = ...,
    threshold: float = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Sharpen by unsharp masking: I + amount * (I - G*I), as MATLAB"s imsharpen."""

def guided(
    image: Array,
    *,
    window: int = ...,
    eps: float = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Smooth by the guided filter with the image as its own guide (He et al. 2013), as MATLAB"s imguidedfilter."""

def spatiogram(
    image: Array,
    *,
    method: Literal["spatiogram", "clahe", "global"] = ...,
    bins: int = ...,
    clip_limit: float = ...,
    tiles: int = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Equalise contrast by a spatially weighted histogram."""

def gamma(
    image: Array,
    *,
    exponent: float = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Brighten or darken by a power of the intensity: I ** exponent."""

def median(
    image: Array,
    *,
    window: int = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Smooth by the median of a square window (Tukey 1977): specks go, edges stay."""

def gaussian(
    image: Array,
    *,
    window: int = ...,
    sigma: float = ...,
    out: Array | None = ...,
    backend: str = ...,
    threads: int | None = ...,
    white_level: float | None = ...,
    per_channel: bool = ...,
    max_pixels: int | None = ...,
    axes: str | None = ...,
) -> Array:
    """Smooth by a Gaussian that is cut to the window and scaled to sum 1."""
