"""The reference against independent code, where there is any; agreed differences are stated at each test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, ndimage, stats

from sdie_fast import FilterParams, reference

cv2 = pytest.importorskip("cv2")
exposure = pytest.importorskip("skimage.exposure")


@pytest.fixture
def plane(rng):
    y, x = np.mgrid[:60, :75]
    g = 0.45 + 0.2 * np.sin(x / 9) * np.cos(y / 7) + 0.08 * rng.standard_normal(x.shape)
    g[20:30, 30:50] = 0.1
    return np.clip(g, 0.0, 1.0)


@pytest.fixture
def grey(plane):
    return np.round(plane * 255).astype(np.uint8)


def test_bilateral_disk_is_opencvs(plane):
    """OpenCV on float32 reads range weights from a table: 1e-4 is its own error."""
    got = reference.bilateral(plane, window=7, sigma_space=1.5, sigma_range=0.1, footprint="disk")
    theirs = cv2.bilateralFilter(
        plane.astype(np.float32), 7, 0.1, 1.5, borderType=cv2.BORDER_REFLECT_101
    )
    assert np.abs(got - theirs).max() < 2e-4


def test_bilateral_square_by_definition(rng):
    g = rng.random((9, 8))
    got = reference.bilateral(g, window=5, sigma_space=1.1, sigma_range=0.2, footprint="square")
    padded = np.pad(g, 2, mode="reflect")
    for y in range(9):
        for x in range(8):
            q = padded[y : y + 5, x : x + 5]
            d = np.arange(-2, 3)
            w = np.exp(-(d[:, None] ** 2 + d**2) / (2 * 1.1**2) - (q - g[y, x]) ** 2 / (2 * 0.2**2))
            assert got[y, x] == pytest.approx((w * q).sum() / w.sum(), abs=1e-12)


def test_sharpen_is_scipys_gaussian(plane):
    got = reference.sharpen(plane, window=7, amount=0.8, radius=1.5, threshold=0.0)
    blurred = ndimage.gaussian_filter(plane, 1.5, mode="mirror", truncate=2.0)  # 2 * 1.5 = 3 pixels
    assert np.abs(got - (plane + 0.8 * (plane - blurred))).max() < 1e-12


def test_sharpen_threshold_leaves_small_steps(plane):
    soft = reference.sharpen(plane, window=7, amount=0.8, radius=1.5, threshold=0.0)
    hard = reference.sharpen(plane, window=7, amount=0.8, radius=1.5, threshold=0.05)
    kept = np.abs(soft - plane) / 0.8 >= 0.05
    assert kept.any()
    assert not kept.all()
    assert np.array_equal(hard[~kept], plane[~kept])
    assert np.allclose(hard[kept], soft[kept])


def test_guided_is_opencvs(plane):
    """OpenCV computes in float32 and reflects with the edge pixel: the two agree inside."""
    got = reference.guided(plane, window=7, eps=0.01)
    f = plane.astype(np.float32)
    inside = np.s_[6:-6, 6:-6]
    assert np.abs(got - cv2.ximgproc.guidedFilter(f, f, 3, 0.01))[inside].max() < 1e-4


def dense_laplacian(g, alpha, lambda_):
    """I + lambda L, entry by entry."""
    h, w = g.shape
    matrix = np.eye(h * w)
    log = np.log(g + 1e-4)
    for y in range(h):
        for x in range(w):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < h and x + dx < w:
                    a = lambda_ / (abs(log[y, x] - log[y + dy, x + dx]) ** alpha + 1e-4)
                    i, j = y * w + x, (y + dy) * w + x + dx
                    matrix[[i, j], [i, j]] += a
                    matrix[[i, j], [j, i]] -= a
    return matrix


def test_exact_wls_solves_the_dense_system(rng):
    g = rng.random((8, 9))
    g[2:5, 3:6] = 0.0
    got = reference.wls(g, lambda_=0.7, alpha=1.3, solver="exact", domain="intensity")
    theirs = np.linalg.solve(dense_laplacian(g, 1.3, 0.7), g.ravel()).reshape(g.shape)
    assert np.abs(got - theirs).max() < 1e-9


def test_exact_wls_minimises(plane, rng):
    """Farbman's energy does not fall in any direction from the solution."""
    g = plane[:20, :20]
    ax, ay = reference.wls_weights(g, 1.2)
    u = reference.wls(g, lambda_=1.0, alpha=1.2, solver="exact", domain="intensity")

    def energy(v):
        return (
            ((v - g) ** 2).sum()
            + (ax * np.diff(v, axis=1) ** 2).sum()
            + (ay * np.diff(v, axis=0) ** 2).sum()
        )

    for _ in range(10):
        assert energy(u) <= energy(u + 1e-4 * rng.standard_normal(u.shape))


def test_fast_wls_alternates_dense_solves(rng):
    g = rng.random((7, 6))
    got = reference.wls(g, lambda_=2.0, alpha=1.2, solver="fast", domain="intensity")
    ax, ay = reference.wls_weights(g, 1.2)

    def path(a, step):
        n = len(a) + 1
        d = np.zeros((n - 1, n))
        d[np.arange(n - 1), np.arange(n - 1)] = -1
        d[np.arange(n - 1), np.arange(1, n)] = 1
        return np.eye(n) + step * d.T @ np.diag(a) @ d

    u = g.copy()
    for t in (1, 2, 3):
        step = 1.5 * 4.0 ** (3 - t) / 63.0 * 2.0
        u = np.stack([linalg.solve(path(ax[y], step), u[y]) for y in range(7)])
        u = np.stack([linalg.solve(path(ay[:, x], step), u[:, x]) for x in range(6)], axis=1)
    assert np.abs(got - u).max() < 1e-10


@pytest.mark.parametrize("solver", ["exact", "fast"])
@pytest.mark.parametrize("domain", ["intensity", "lightness"])
def test_wls_keeps_constants_and_range(solver, domain, plane):
    flat = np.full((9, 11), 0.37)
    assert (
        np.abs(
            reference.wls(flat, lambda_=1.0, alpha=1.2, solver=solver, domain=domain) - 0.37
        ).max()
        < 1e-9
    )
    u = reference.wls(plane, lambda_=1.0, alpha=1.2, solver=solver, domain=domain)
    assert plane.min() - 1e-9 <= u.min() <= u.max() <= plane.max() + 1e-9


def test_lightness_is_opencvs(rng):
    v = rng.random((20, 30))
    rgb = np.repeat(v[..., None], 3, axis=2).astype(np.float32)
    theirs = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[..., 0]  # from tables
    assert np.abs(reference.to_lightness(v) - theirs).max() < 0.3
    assert np.abs(reference.from_lightness(reference.to_lightness(v)) - v).max() < 1e-12


def test_spatiogram_by_scipys_normal(rng):
    g = rng.random((10, 12))
    bins = 5
    got = reference.spatiogram(g, method="spatiogram", bins=bins, clip_limit=1.0, tiles=1)
    mass, mean, covariance = reference.spatiogram_statistics(g, bins)
    assert mass.sum() == pytest.approx(g.size)
    for y, x in ((0, 0), (4, 7), (9, 11)):
        p = np.array(
            [
                n * stats.multivariate_normal(m, s).pdf([x, y])
                for n, m, s in zip(mass, mean, covariance, strict=True)
            ]
        )
        p /= p.sum()
        k = min(int(g[y, x] * bins), bins - 1)
        assert got[y, x] == pytest.approx(p[:k].sum() + p[k] * (g[y, x] * bins - k), abs=1e-12)


def test_spatiogram_statistics_by_numpys_weighted_covariance(rng):
    g = rng.random((15, 11))
    shares = reference.bin_shares(g, 4)
    assert np.allclose(shares.sum(axis=0), 1.0)
    mass, mean, covariance = reference.spatiogram_statistics(g, 4)
    y, x = np.mgrid[:15, :11]
    for b in range(4):
        points, weight = np.stack([x.ravel(), y.ravel()]), shares[b].ravel()
        assert mass[b] == pytest.approx(weight.sum())
        assert np.allclose(mean[b], np.average(points, axis=1, weights=weight))
        assert np.allclose(covariance[b] - np.eye(2), np.cov(points, aweights=weight, ddof=0))


def test_spatiogram_of_one_level_is_the_place_in_its_bin():
    g = np.full((9, 11), 0.4)
    out = reference.spatiogram(g, method="spatiogram", bins=4, clip_limit=1.0, tiles=1)
    # Level 1.6 of 4: 0.9 of the mass in bin 1, a tenth in bin 2, at one place; 0.6 of bin 1 lies below.
    assert np.allclose(out, 0.9 * 0.6)


def test_global_is_scikit_images(grey):
    got = reference.spatiogram(grey / 255.0, method="global", bins=32, clip_limit=1.0, tiles=1)
    assert np.abs(got - exposure.equalize_hist(grey)).max() < 1e-9


@pytest.mark.parametrize(("height", "width"), [(60, 75), (61, 77), (60, 77), (128, 96)])
@pytest.mark.parametrize("clip_limit", [1.0, 4.0, 40.0])
def test_clahe_is_opencvs(height, width, clip_limit, rng):
    """OpenCV rounds tables and result to 8 bits: one level at the most."""
    noise = ndimage.gaussian_filter(rng.random((height, width)), 3)
    grey = np.round(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    got = reference.spatiogram(
        grey / 255.0, method="clahe", bins=32, clip_limit=clip_limit, tiles=5
    )
    theirs = cv2.createCLAHE(clip_limit, (5, 5)).apply(grey)
    assert np.abs(got * 255 - theirs).max() <= 1.01


def test_rounds_feed_back_and_clip(plane):
    params = FilterParams(wls_solver="fast")
    weights = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 2, 0, 1, 0]], float)
    one = np.clip(
        0.5 * plane + 0.5 * reference.sharpen(plane, window=7, amount=0.8, radius=1.5, threshold=0),
        0,
        1,
    )
    two = (
        2 * reference.bilateral(one, window=7, sigma_space=1.5, sigma_range=0.1, footprint="square")
        + reference.guided(one, window=7, eps=0.01)
    ) / 3
    assert np.abs(reference.enhance_plane(plane, weights, params) - two).max() < 1e-12


def test_colour_carries_chroma(rng):
    rgb = rng.integers(60, 180, (1, 20, 24, 3)).astype(np.uint8)
    weights = np.array([[[0, 0, 1, 0, 0, 0]]], np.float32)
    out = reference.enhance(rgb, weights, FilterParams(), white_level=255, per_channel=False)
    change = out - rgb / 255.0
    assert np.allclose(change, change[..., :1])  # one change for all three channels
    luma = cv2.cvtColor((rgb[0] / 255.0).astype(np.float32), cv2.COLOR_RGB2GRAY)
    smooth = reference.bilateral(
        luma.astype(float), window=7, sigma_space=1.5, sigma_range=0.1, footprint="square"
    )
    assert np.abs(out[0] @ reference.LUMA - smooth).max() < 1e-4
    each = reference.enhance(rgb, weights, FilterParams(), white_level=255, per_channel=True)
    red = reference.bilateral(
        rgb[0, ..., 0] / 255.0, window=7, sigma_space=1.5, sigma_range=0.1, footprint="square"
    )
    assert np.allclose(each[0, ..., 0], red)
