"""The filters in plain float64 NumPy: the truth that every backend is tested against.

Written to be read beside the formulas, not to be fast. A plane is a float64 array of shape (H, W)
with intensities in [0, 1], and so is the result of a filter (that of `sharpen` may leave the
range). Borders are reflected without repeating the edge pixel (NumPy's ``mode="reflect"``, OpenCV's
``BORDER_REFLECT_101``). Parameters have the ranges that `sdie_fast.FilterParams` lists; nothing is
checked here, `sdie_fast.enhance` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .reference_spatiogram import spatiogram

if TYPE_CHECKING:
    from ._params import FilterParams

Plane = npt.NDArray[np.float64]

WLS_SMALL = 1e-4  # keeps log(0) and flat neighbours finite
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _shifts(g: Plane, radius: int) -> Iterator[tuple[int, int, Plane]]:
    """Yield (dy, dx, q) for every tap of the window, with q[y, x] = g[y + dy, x + dx]."""
    h, w = g.shape
    padded = np.pad(g, radius, mode="reflect")
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            yield dy, dx, padded[radius + dy : radius + dy + h, radius + dx : radius + dx + w]


# ---- weighted least squares (Farbman et al. 2008; Min et al. 2014) -------------------------------


def to_lightness(v: Plane) -> Plane:
    """CIE 1976 L* (0 to 100) of a grey sRGB intensity in [0, 1]."""
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return np.where(linear <= 216 / 24389, linear * 24389 / 27, 116.0 * np.cbrt(linear) - 16.0)


def from_lightness(lightness: Plane) -> Plane:
    """Inverse of `to_lightness`."""
    linear = np.where(lightness <= 8.0, lightness * 27 / 24389, ((lightness + 16.0) / 116.0) ** 3)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def wls_weights(g: Plane, alpha: float) -> tuple[Plane, Plane]:
    """Edge weights a_x (H, W-1) and a_y (H-1, W): 1 / (|d log(g + 1e-4)|^alpha + 1e-4)."""
    log = np.log(g + WLS_SMALL)
    ax = 1.0 / (np.abs(np.diff(log, axis=1)) ** alpha + WLS_SMALL)
    ay = 1.0 / (np.abs(np.diff(log, axis=0)) ** alpha + WLS_SMALL)
    return ax, ay


def wls_matrix(ax: Plane, ay: Plane, lambda_: float) -> Any:
    """Assemble I + lambda L as a sparse (HW, HW) matrix, pixels in row order.

    L is the Laplacian of the pixel grid with edge weights ax and ay: no flux leaves the border.
    """
    import scipy.sparse as sp

    h, w = ay.shape[0] + 1, ax.shape[1] + 1
    n = np.arange(h * w)
    pixel = n.reshape(h, w)
    i = np.concatenate([pixel[:, :-1].ravel(), pixel[:-1].ravel()])
    j = np.concatenate([pixel[:, 1:].ravel(), pixel[1:].ravel()])
    a = lambda_ * np.concatenate([ax.ravel(), ay.ravel()])
    # Entries at the same place add up: each edge gives a to both its ends' diagonals.
    values = np.concatenate([np.ones(h * w), a, a, -a, -a])
    places = np.concatenate([n, i, j, i, j]), np.concatenate([n, i, j, j, i])
    return sp.csr_array((values, places), shape=(h * w, h * w))


def _solve_rows(u: Plane, a: Plane, lambda_: float) -> Plane:
    """Solve (I + lambda L_x) v = u along every row; a holds the edge weights (H, W-1)."""
    from scipy.linalg import solveh_banded

    if u.shape[1] == 1:
        return u
    out = np.empty_like(u)
    for y in range(u.shape[0]):
        band = np.zeros((2, u.shape[1]))
        band[1] = 1.0
        band[1, :-1] += lambda_ * a[y]
        band[1, 1:] += lambda_ * a[y]
        band[0, 1:] = -lambda_ * a[y]
        out[y] = solveh_banded(band, u[y])
    return out


def wls(g: Plane, *, lambda_: float, alpha: float, solver: str, domain: str) -> Plane:
    """Smooth by weighted least squares (Farbman et al. 2008).

    Finds the u that minimises sum (u - g)^2 + lambda (a_x (du/dx)^2 + a_y (du/dy)^2), with a of
    `wls_weights`.

    Parameters
    ----------
    g : (H, W) float64
    lambda_, alpha : float
        Strength of smoothing, and exponent of the log-gradient.
    solver : {"exact", "fast"}
        "exact" solves the linear system; "fast" is its separable approximation (Min et al. 2014):
        three times rows, then columns, with lambda_t = 1.5 * 4^(3-t) / (4^3 - 1) * lambda, t = 1,
        2, 3, and a of the input throughout.
    domain : {"intensity", "lightness"}
        "lightness": g is mapped to CIE L* (0 to 100), smoothed there, and mapped back.
    """
    from scipy.sparse.linalg import spsolve

    u = to_lightness(g) if domain == "lightness" else g
    ax, ay = wls_weights(u, alpha)
    if solver == "exact":
        u = np.asarray(spsolve(wls_matrix(ax, ay, lambda_).tocsc(), u.ravel())).reshape(g.shape)
    else:
        for t in (1, 2, 3):
            step = 1.5 * 4.0 ** (3 - t) / (4.0**3 - 1.0) * lambda_
            u = _solve_rows(u, ax, step)
            u = _solve_rows(u.T, ay.T, step).T
    return from_lightness(u) if domain == "lightness" else u


# ---- local filters -------------------------------------------------------------------------------


def bilateral(g: Plane, *, window: int, sigma_space: float, sigma_range: float, footprint: str) -> Plane:
    """Average the window weighted by distance and by likeness (Tomasi & Manduchi 1998).

    Parameters
    ----------
    g : (H, W) float64
    window : int
        Odd side of the window in pixels.
    sigma_space, sigma_range : float
        Gaussian sigmas, in pixels and in intensity.
    footprint : {"square", "disk"}
        All taps, or those with dx^2 + dy^2 <= radius^2.
    """
    r = window // 2
    total = np.zeros_like(g)
    norm = np.zeros_like(g)
    for dy, dx, q in _shifts(g, r):
        if footprint == "disk" and dy * dy + dx * dx > r * r:
            continue
        weight = np.exp(-(dy * dy + dx * dx) / (2.0 * sigma_space**2)) * np.exp(
            -((q - g) ** 2) / (2.0 * sigma_range**2)
        )
        total += weight * q
        norm += weight
    return total / norm


def gaussian_kernel(window: int, sigma: float) -> Plane:
    """Sample a Gaussian of that sigma (pixels) at `window` taps, and scale it to sum 1."""
    k = np.arange(window) - window // 2
    tap = np.exp(-(k**2) / (2.0 * sigma**2))
    return np.asarray(tap / tap.sum())


def sharpen(g: Plane, *, window: int, amount: float, radius: float, threshold: float) -> Plane:
    """Sharpen by unsharp masking: g + amount * h, with h = g - Gaussian * g.

    The result is not clipped: it may leave [0, 1].

    Parameters
    ----------
    g : (H, W) float64
    window : int
        Odd side in pixels of the window that the Gaussian is cut to.
    amount : float
        Share of the detail h that is added.
    radius : float
        Sigma of the Gaussian in pixels.
    threshold : float
        h counts as 0 where |h| < threshold (intensity).
    """
    tap = gaussian_kernel(window, radius)
    r = window // 2
    blurred = np.zeros_like(g)
    for dy, dx, q in _shifts(g, r):
        blurred += tap[dy + r] * tap[dx + r] * q
    high = g - blurred
    return g + amount * np.where(np.abs(high) < threshold, 0.0, high)


def _box(g: Plane, r: int) -> Plane:
    """Average over the square window of radius r."""
    total = np.zeros_like(g)
    for _, _, q in _shifts(g, r):
        total += q
    return total / (2 * r + 1) ** 2


def guided(g: Plane, *, window: int, eps: float) -> Plane:
    """Smooth by the guided filter with the image as its own guide (He et al. 2013).

    Parameters
    ----------
    g : (H, W) float64
    window : int
        Odd side in pixels of both box means.
    eps : float
        Variance (squared intensity) at which half of the contrast is kept.
    """
    r = window // 2
    mean = _box(g, r)
    variance = _box(g * g, r) - mean * mean
    a = variance / (variance + eps)
    b = (1.0 - a) * mean
    return _box(a, r) * g + _box(b, r)


# ---- the round -----------------------------------------------------------------------------------


def filter_plane(index: int, g: Plane, params: FilterParams) -> Plane:
    """Apply one filter, by its index in `sdie_fast.FILTERS`, to a plane."""
    p = params
    _, _, bilateral_window, sharpen_window, guided_window, _ = p.windows()
    filters: tuple[Callable[[], Plane], ...] = (
        lambda: g,
        lambda: wls(g, lambda_=p.wls_lambda, alpha=p.wls_alpha, solver=p.wls_solver, domain=p.wls_domain),
        lambda: bilateral(
            g,
            window=bilateral_window,
            sigma_space=p.bilateral_sigma_space,
            sigma_range=p.bilateral_sigma_range,
            footprint=p.bilateral_footprint,
        ),
        lambda: sharpen(
            g,
            window=sharpen_window,
            amount=p.sharpen_amount,
            radius=p.sharpen_radius,
            threshold=p.sharpen_threshold,
        ),
        lambda: guided(g, window=guided_window, eps=p.guided_eps),
        lambda: spatiogram(
            g,
            method=p.spatiogram_method,
            bins=p.spatiogram_bins,
            clip_limit=p.spatiogram_clip_limit,
            tiles=p.spatiogram_tiles,
        ),
    )
    return filters[index]()


def enhance_plane(g: Plane, weights: npt.ArrayLike, params: FilterParams) -> Plane:
    """Run T rounds on one plane: M' = clip(sum_i w_i f_i(M), 0, 1) (SDIE, eq. 5).

    Parameters
    ----------
    g : (H, W) float64
    weights : (T, 6)
        Non-negative, in the order of `sdie_fast.FILTERS`, each row with a positive sum: w is the
        row over its sum. Filters of weight 0 are not computed.
    params : FilterParams
    """
    for row in np.asarray(weights, dtype=np.float64):
        mixed = np.zeros_like(g)
        for index in np.flatnonzero(row).tolist():
            mixed += row[index] / row.sum() * filter_plane(index, g, params)
        g = np.clip(mixed, 0.0, 1.0)
    return g


def enhance(
    images: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    params: FilterParams,
    *,
    white_level: float,
    per_channel: bool,
) -> npt.NDArray[np.float64]:
    """Enhance a batch of images.

    Parameters
    ----------
    images : (N, H, W, C) uint8, uint16 or float32
        C is 1 (grey) or 3 (RGB). Of RGB the rounds enhance the luma Y, and the result is
        RGB + (Y_T - Y_0), clipped to [0, 1].
    weights : (N, T, 6)
        As `enhance_plane` takes them, for each image.
    params : FilterParams
    white_level : float
        What counts as intensity 1.
    per_channel : bool
        Enhance every channel by itself, as a grey image.

    Returns
    -------
    (N, H, W, C) float64
        Intensities in [0, 1], not yet scaled back and rounded.
    """
    scaled = images.astype(np.float64) / white_level
    out = np.empty_like(scaled)
    for image, w, to in zip(scaled, weights, out, strict=True):
        if image.shape[2] == 1 or per_channel:
            for c in range(image.shape[2]):
                to[..., c] = enhance_plane(image[..., c], w, params)
        else:
            luma = image @ LUMA
            change = enhance_plane(luma, w, params) - luma
            to[...] = np.clip(image + change[..., None], 0.0, 1.0)
    return out
