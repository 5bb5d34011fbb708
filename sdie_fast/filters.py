"""The six filters, by name, and their parameters.

Each function applies one filter to a whole image or batch; a weighted round of all of them is
`sdie_fast.enhance`. The definitions are stated, formula by formula, in `sdie_fast.reference`. What
the functions share:

image : ndarray or array on a CUDA device, uint8, uint16 or float32
    Shape (H, W), (N, H, W), (H, W, 3) or (N, H, W, 3): a last axis of exactly 3 is colour wherever
    there are three axes or more. Any strides. Intensities are value / 255, value / white_level, or
    float32 in [0, 1]. Arrays on a CUDA device are those `sdie_fast.enhance` takes.
out : ndarray or array on a CUDA device, optional
    Where to write: same shape and dtype, in the same place as the image, sharing no memory with
    it; any strides. It is what is returned.
backend : str
    "cuda", "cpu", "reference", or "auto": the GPU for arrays on it, else the fastest that can run
    here (see `sdie_fast.enhance`).
threads : int, optional
    Threads to use at most; None means every CPU this process may run on. Results do not depend on
    it.
white_level : float, optional
    The uint16 value that counts as 1.0 (None: 65535; 4095 for a 12-bit camera).
per_channel : bool
    Colour images: False filters luma (ITU-R BT.601) and carries chroma over, True filters every
    channel.
max_pixels : int, optional
    Largest H * W accepted; None means 2**28.

They raise `InvalidArgumentError` or `InvalidTypeError` for arguments they cannot use (parameters by
the names of `FilterParams`' fields, with their ranges), `BackendUnavailableError`, and
`DeviceMemoryError` where a GPU's memory does not suffice.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _backends
from ._backends import Array
from ._params import FILTERS, FilterParams

__all__ = ["FILTERS", "FilterParams", "bilateral", "guided", "sharpen", "spatiogram", "wls"]


def wls(
    image: Array,
    *,
    lambda_: float = 1.0,
    alpha: float = 1.2,
    solver: Literal["exact", "fast"] = "exact",
    tol: float = 1 / 510,
    domain: Literal["intensity", "lightness"] = "intensity",
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> Array:
    """Smooth by weighted least squares, keeping strong edges (Farbman et al. 2008).

    Parameters
    ----------
    lambda_ : float
        Strength, in (0, 100].
    alpha : float
        Exponent of the log-gradient in the smoothness weight, in [0.2, 2].
    solver : {"exact", "fast"}
        "exact" solves the linear system to `tol`; "fast" is three separable passes (Min et al.
        2014).
    tol : float
        Largest error of the exact solver, in intensity, in [1e-6, 0.1].
    domain : {"intensity", "lightness"}
        Smooth intensities, or CIE L* of the image taken as sRGB grey.

    The other parameters, and the errors, are the module's.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given.
    """
    params = FilterParams(wls_lambda=lambda_, wls_alpha=alpha, wls_solver=solver, wls_tol=tol, wls_domain=domain)
    return _backends.run(
        image,
        _only("wls"),
        params,
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


def bilateral(
    image: Array,
    *,
    window: int = 7,
    sigma_space: float = 1.5,
    sigma_range: float = 0.1,
    footprint: Literal["square", "disk"] = "square",
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> Array:
    """Smooth by a bilateral filter, Gaussian in space and intensity (Tomasi, Manduchi 1998).

    Parameters
    ----------
    window : int
        Side in pixels, odd, 3 to 15; the image must be at least as large.
    sigma_space : float
        Spatial sigma in pixels, in [0.1, 100].
    sigma_range : float
        Range sigma in intensity, in [0.005, 10].
    footprint : {"square", "disk"}
        Every tap of the window (MATLAB's imbilatfilt), or those within its radius (OpenCV).

    The other parameters, and the errors, are the module's.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given.
    """
    params = FilterParams(
        bilateral_window=window,
        bilateral_sigma_space=sigma_space,
        bilateral_sigma_range=sigma_range,
        bilateral_footprint=footprint,
    )
    return _backends.run(
        image,
        _only("bilateral"),
        params,
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


def sharpen(
    image: Array,
    *,
    window: int = 7,
    amount: float = 0.8,
    radius: float = 1.5,
    threshold: float = 0.0,
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> Array:
    """Sharpen by unsharp masking: I + amount * (I - G*I), as MATLAB's imsharpen, clipped to [0, 1].

    Parameters
    ----------
    window : int
        Side in pixels to which the Gaussian is truncated, odd, 3 to 15; the image must be at least
        as large.
    amount : float
        Share of the detail layer that is added, in [0, 10].
    radius : float
        Gaussian sigma in pixels, in [0.1, 100].
    threshold : float
        Details smaller than this (in intensity) are not added, in [0, 1].

    The other parameters, and the errors, are the module's.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given.
    """
    params = FilterParams(
        sharpen_window=window,
        sharpen_amount=amount,
        sharpen_radius=radius,
        sharpen_threshold=threshold,
    )
    return _backends.run(
        image,
        _only("sharpen"),
        params,
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


def guided(
    image: Array,
    *,
    window: int = 7,
    eps: float = 0.01,
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> Array:
    """Smooth by the self-guided filter (He et al. 2013), as MATLAB's imguidedfilter.

    Parameters
    ----------
    window : int
        Side in pixels of the box, odd, 3 to 15; the image must be at least as large.
    eps : float
        Regularisation in squared intensity, in [1e-4, 10].

    The other parameters, and the errors, are the module's.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given.
    """
    params = FilterParams(guided_window=window, guided_eps=eps)
    return _backends.run(
        image,
        _only("guided"),
        params,
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


def spatiogram(
    image: Array,
    *,
    method: Literal["spatiogram", "clahe", "global"] = "spatiogram",
    bins: int = 32,
    clip_limit: float = 1.0,
    tiles: int = 5,
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> Array:
    """Equalise contrast by a spatially weighted histogram.

    Parameters
    ----------
    method : {"spatiogram", "clahe", "global"}
        "spatiogram" weights each intensity bin by a Gaussian over its pixels' positions, which are
        described as in Birchfield and Rangarajan 2005 (the filter is this project's own
        definition); "clahe" is contrast-limited adaptive equalisation by tiles, as OpenCV's;
        "global" is plain histogram equalisation.
    bins : int
        Intensity bins of "spatiogram", 2 to 64.
    clip_limit : float
        Contrast limit of "clahe", in (0, 100].
    tiles : int
        Tiles a side of "clahe", 1 to 64.

    The other parameters, and the errors, are the module's.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given.
    """
    params = FilterParams(
        spatiogram_method=method,
        spatiogram_bins=bins,
        spatiogram_clip_limit=clip_limit,
        spatiogram_tiles=tiles,
    )
    return _backends.run(
        image,
        _only("spatiogram"),
        params,
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


def _only(name: str) -> npt.NDArray[np.float32]:
    return np.array([name == other for other in FILTERS], np.float32)
