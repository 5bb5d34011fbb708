"""The filters in plain float64 NumPy: the truth that every backend is tested against.

Written to be read beside the formulas, not to be fast. Planes are float64 arrays of shape (H, W) with intensities in
[0, 1]; borders are reflected without repeating the edge pixel (NumPy's ``mode="reflect"``, OpenCV's
``BORDER_REFLECT_101``). Arguments are not checked here: ``sdie_fast.enhance`` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]

WLS_SMALL = 1e-4
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _shifts(g: Plane, radius: int) -> Any:
    """Yield (dy, dx, g shifted so that element (y, x) is g[y + dy, x + dx])."""
    h, w = g.shape
    padded = np.pad(g, radius, mode="reflect")
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            yield dy, dx, padded[radius + dy : radius + dy + h, radius + dx : radius + dx + w]


# ---- weighted least squares (Farbman et al. 2008; Min et al. 2014) ---------------------------------------


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
    """Sparse I + lambda L, L the graph Laplacian of the pixel grid with weights ax and ay (no flux at the border)."""
    import scipy.sparse as sp

    h, w = ay.shape[0] + 1, ax.shape[1] + 1
    index = np.arange(h * w).reshape(h, w)
    i = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    j = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    a = lambda_ * np.concatenate([ax.ravel(), ay.ravel()])
    couplings = sp.coo_array((a, (i, j)), shape=(h * w, h * w)).tocsr()
    couplings = couplings + couplings.T
    return sp.diags_array(1.0 + couplings.sum(axis=1)).tocsr() - couplings


def _solve_rows(u: Plane, a: Plane, lambda_: float) -> Plane:
    """Solve (I + lambda L_x) v = u along every row; a: weights (H, W-1)."""
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
    """Edge-preserving smoothing: the u minimising sum (u-g)^2 + lambda (a_x (du/dx)^2 + a_y (du/dy)^2).

    ``solver="fast"`` is the separable approximation of Min et al.: three times rows, then columns, with
    lambda_t = 1.5 * 4^(3-t) / (4^3 - 1) * lambda.
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


# ---- local filters -----------------------------------------------------------------------------------


def bilateral(
    g: Plane, *, window: int, sigma_space: float, sigma_range: float, footprint: str
) -> Plane:
    """Bilateral filter (Tomasi & Manduchi 1998) over a square window or the disk inside it."""
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
    """Sampled Gaussian of `window` taps, normalised to sum 1."""
    k = np.arange(window) - window // 2
    tap = np.exp(-(k**2) / (2.0 * sigma**2))
    return np.asarray(tap / tap.sum())


def sharpen(g: Plane, *, window: int, amount: float, radius: float, threshold: float) -> Plane:
    """Unsharp masking: g + amount * h with h = g - Gaussian * g, and h = 0 where |h| < threshold."""
    tap = gaussian_kernel(window, radius)
    r = window // 2
    blurred = np.zeros_like(g)
    for dy, dx, q in _shifts(g, r):
        blurred += tap[dy + r] * tap[dx + r] * q
    high = g - blurred
    return g + amount * np.where(np.abs(high) < threshold, 0.0, high)


def _box(g: Plane, r: int) -> Plane:
    total = np.zeros_like(g)
    for _, _, q in _shifts(g, r):
        total += q
    return total / (2 * r + 1) ** 2


def guided(g: Plane, *, window: int, eps: float) -> Plane:
    """Guided filter (He et al. 2013) with the image as its own guide."""
    r = window // 2
    mean = _box(g, r)
    variance = _box(g * g, r) - mean * mean
    a = variance / (variance + eps)
    b = (1.0 - a) * mean
    return _box(a, r) * g + _box(b, r)


# ---- spatiogram --------------------------------------------------------------------------------------


def bin_shares(g: Plane, bins: int) -> npt.NDArray[np.float64]:
    """Share of every pixel in every bin, (bins, H, W): linear between the centres of neighbouring bins."""
    t = g * bins - 0.5
    lower = np.floor(t)
    upper_share = t - lower
    shares = np.zeros((bins, *g.shape))
    for b in range(bins):
        shares[b] += np.where(np.clip(lower, 0, bins - 1) == b, 1.0 - upper_share, 0.0)
        shares[b] += np.where(np.clip(lower + 1, 0, bins - 1) == b, upper_share, 0.0)
    return shares


def spatiogram_statistics(g: Plane, bins: int) -> tuple[Plane, Plane, Plane]:
    """Mass (bins,), mean position (bins, 2) as (x, y), covariance (bins, 2, 2) plus one pixel squared."""
    h, w = g.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    mass = np.zeros(bins)
    mean = np.zeros((bins, 2))
    covariance = np.tile(np.eye(2), (bins, 1, 1))
    for b, share in enumerate(bin_shares(g, bins)):
        mass[b] = share.sum()
        if mass[b] <= 1e-6:
            mass[b] = 0.0
            continue
        mean[b] = (share * x).sum() / mass[b], (share * y).sum() / mass[b]
        dx, dy = x - mean[b, 0], y - mean[b, 1]
        cross = (share * dx * dy).sum()
        covariance[b] += (
            np.array([[(share * dx * dx).sum(), cross], [cross, (share * dy * dy).sum()]]) / mass[b]
        )
    return mass, mean, covariance


def _spatiogram(g: Plane, bins: int) -> Plane:
    """Spatially weighted equalisation: the cumulative sum of P(b|x) ~ n_b N(x; m_b, S_b) up to g(x)."""
    h, w = g.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    mass, mean, covariance = spatiogram_statistics(g, bins)
    log = np.full((bins, h, w), -np.inf)
    for b in np.flatnonzero(mass):
        d = np.stack([x - mean[b, 0], y - mean[b, 1]], axis=-1)
        distance = np.einsum("hwi,ij,hwj->hw", d, np.linalg.inv(covariance[b]), d)
        log[b] = np.log(mass[b]) - 0.5 * (distance + np.log(np.linalg.det(covariance[b])))
    p = np.exp(log - log.max(axis=0))
    p /= p.sum(axis=0)
    level = g * bins
    k = np.minimum(np.floor(level), bins - 1).astype(np.intp)[None]
    below = np.take_along_axis(np.cumsum(p, axis=0) - p, k, axis=0)[0]
    return np.asarray(below + np.take_along_axis(p, k, axis=0)[0] * (level - k[0]))


LEVELS = 256


def _level_counts(g: Plane) -> Plane:
    """Histogram of g over 256 levels, each pixel split between the two nearest."""
    t = np.clip(g, 0.0, 1.0).ravel() * (LEVELS - 1)
    lower = np.floor(t).astype(np.intp)
    share = t - lower
    counts = np.bincount(lower, 1.0 - share, LEVELS)
    return np.asarray(counts + np.bincount(np.minimum(lower + 1, LEVELS - 1), share, LEVELS))


def _spread(excess: float) -> Plane:
    """Give the clipped counts back to the levels, as OpenCV does: evenly, the remainder one by one.

    A fraction, which only images between 8-bit levels have, is spread evenly.
    """
    whole = int(np.floor(excess + 0.5))
    counts = np.full(LEVELS, whole // LEVELS + (excess - whole) / LEVELS)
    remainder = whole % LEVELS
    if remainder:
        step = max(LEVELS // remainder, 1)
        counts[: remainder * step : step] += 1.0
    return counts


def _equalise_tiles(g: Plane, tiles: int, clip_limit: float) -> Plane:
    """Contrast-limited adaptive equalisation, as OpenCV's CLAHE but without rounding to 8 bits."""
    h, w = g.shape
    if h % tiles == 0 and w % tiles == 0:
        padded = g
    else:
        padded = np.pad(g, ((0, tiles - h % tiles), (0, tiles - w % tiles)), mode="reflect")
    th, tw = padded.shape[0] // tiles, padded.shape[1] // tiles
    clip = max(1, int(clip_limit * th * tw / LEVELS))
    table = np.empty((tiles, tiles, LEVELS))
    for i in range(tiles):
        for j in range(tiles):
            counts = _level_counts(padded[i * th : (i + 1) * th, j * tw : (j + 1) * tw])
            excess = np.maximum(counts - clip, 0.0).sum()
            counts = np.minimum(counts, clip) + _spread(excess)
            table[i, j] = np.cumsum(counts) / (th * tw)

    def place(n: int, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Plane]:
        t = np.arange(n) / size - 0.5
        low = np.floor(t).astype(np.intp)
        return np.maximum(low, 0), np.minimum(low + 1, tiles - 1), t - low

    i0, i1, fy = place(h, th)
    j0, j1, fx = place(w, tw)
    t = np.clip(g, 0.0, 1.0) * (LEVELS - 1)
    low = np.floor(t).astype(np.intp)
    high = np.minimum(low + 1, LEVELS - 1)

    def read(i: npt.NDArray[np.intp], j: npt.NDArray[np.intp]) -> Plane:
        at = table[i[:, None], j[None, :]]
        a = np.take_along_axis(at, low[..., None], axis=2)[..., 0]
        b = np.take_along_axis(at, high[..., None], axis=2)[..., 0]
        return a + (t - low) * (b - a)

    top = read(i0, j0) * (1 - fx) + read(i0, j1) * fx
    bottom = read(i1, j0) * (1 - fx) + read(i1, j1) * fx
    return top * (1 - fy[:, None]) + bottom * fy[:, None]


def spatiogram(g: Plane, *, method: str, bins: int, clip_limit: float, tiles: int) -> Plane:
    """Equalise by the spatiogram (this project's definition), by tiles ("clahe") or by one histogram ("global")."""
    if method == "spatiogram":
        return _spatiogram(g, bins)
    if method == "clahe":
        return _equalise_tiles(g, tiles, clip_limit)
    cumulative = np.cumsum(_level_counts(g)) / g.size
    return np.interp(np.clip(g, 0.0, 1.0) * (LEVELS - 1), np.arange(LEVELS), cumulative)


# ---- the round ---------------------------------------------------------------------------------------


def filter_planes(g: Plane, params: Any, wanted: npt.NDArray[np.bool_]) -> list[Plane | None]:
    """The six filters of one plane in the order of `sdie_fast.FILTERS`; None where not wanted."""
    p = params

    def window(own: int | None) -> int:
        return int(p.window if own is None else own)

    makers: tuple[Callable[[], Plane], ...] = (
        lambda: g,
        lambda: wls(
            g, lambda_=p.wls_lambda, alpha=p.wls_alpha, solver=p.wls_solver, domain=p.wls_domain
        ),
        lambda: bilateral(
            g,
            window=window(p.bilateral_window),
            sigma_space=p.bilateral_sigma_space,
            sigma_range=p.bilateral_sigma_range,
            footprint=p.bilateral_footprint,
        ),
        lambda: sharpen(
            g,
            window=window(p.sharpen_window),
            amount=p.sharpen_amount,
            radius=p.sharpen_radius,
            threshold=p.sharpen_threshold,
        ),
        lambda: guided(g, window=window(p.guided_window), eps=p.guided_eps),
        lambda: spatiogram(
            g,
            method=p.spatiogram_method,
            bins=p.spatiogram_bins,
            clip_limit=p.spatiogram_clip_limit,
            tiles=p.spatiogram_tiles,
        ),
    )
    return [make() if use else None for make, use in zip(makers, wanted, strict=True)]


def enhance_plane(g: Plane, weights: npt.ArrayLike, params: Any) -> Plane:
    """T rounds on one plane: M' = clip(sum_i w_i f_i(M), 0, 1) with w = a / sum(a) (SDIE, eq. 5).

    weights: (T, 6), non-negative, each row with a positive sum.
    """
    for row in np.asarray(weights, dtype=np.float64):
        planes = filter_planes(g, params, row > 0)
        mixed = sum(a * f for a, f in zip(row / row.sum(), planes, strict=True) if f is not None)
        g = np.clip(mixed, 0.0, 1.0)
    return g


def enhance(
    images: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    params: Any,
    *,
    white_level: float,
    per_channel: bool,
) -> npt.NDArray[np.float64]:
    """Enhance a batch (N, H, W, C) with weights (N, T, 6); returns intensities, float64, not yet quantised.

    Colour (C = 3): the rounds act on luma Y, and RGB + (Y_T - Y_0), clipped, is returned; or on every channel by
    itself with per_channel.
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
