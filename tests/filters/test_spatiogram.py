"""The reference's equalisation against independent code: SciPy, scikit-image and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

import sdie_fast as sdie
from sdie_fast import _backends
from sdie_fast.filters.spatiogram import Spatiogram, bin_shares, spatiogram_statistics

cv2 = pytest.importorskip("cv2")
exposure = pytest.importorskip("skimage.exposure")


def spatiogram(g, bins=32):
    return Spatiogram(bins=bins).reference(g)


def clahe(g, clip_limit=1.0, tiles=5):
    return Spatiogram(method="clahe", clip_limit=clip_limit, tiles=tiles).reference(g)


def equalise(g):
    return Spatiogram(method="global").reference(g)


def smooth_grey(rng, height, width):
    """A uint8 image of blobs that uses the full range."""
    noise = ndimage.gaussian_filter(rng.random((height, width)), 3)
    return np.round(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


# ---- spatiogram ----------------------------------------------------------------------------------


def hats(g, bins):
    """Bin shares as hat functions around the bin centres, flat beyond the outer centres."""
    t = np.clip(g * bins - 0.5, 0, bins - 1)
    return [np.maximum(0.0, 1.0 - np.abs(t - b)) for b in range(bins)]


def by_scipy(g, bins):
    """The definition, with NumPy's weighted covariance and SciPy's normal density."""
    h, w = g.shape
    y, x = np.mgrid[:h, :w]
    points = np.stack([x.ravel(), y.ravel()])
    joint = np.zeros((bins, h, w))
    for b, share in enumerate(hats(g, bins)):
        if share.sum() > 0:
            mean = np.average(points, axis=1, weights=share.ravel())
            covariance = np.cov(points, aweights=share.ravel(), ddof=0) + np.eye(2)
            density = stats.multivariate_normal(mean, covariance).pdf(points.T)
            joint[b] = share.sum() * density.reshape(h, w)
    p = joint / joint.sum(axis=0)
    out = np.empty_like(g)
    for (r, c), v in np.ndenumerate(g):
        k = min(int(v * bins), bins - 1)
        out[r, c] = p[:k, r, c].sum() + p[k, r, c] * (v * bins - k)
    return out


@pytest.mark.parametrize(("shape", "bins"), [((10, 12), 5), ((16, 9), 32), ((20, 20), 2), ((9, 30), 64)])
def test_spatiogram_by_scipys_normal(rng, shape, bins):
    g = rng.random(shape)
    g[0, :3] = 0.0, 1.0, 0.5  # both ends of the range, and the border between two bins
    assert np.abs(spatiogram(g, bins) - by_scipy(g, bins)).max() < 1e-12


def test_spatiogram_of_a_structured_image(rng):
    """Bins that live in one place, on a slope, and in a scratch."""
    y, x = np.mgrid[:30, :40]
    g = np.clip(np.where(x < 20, 0.3, 0.7) + 0.004 * y + 0.02 * rng.standard_normal((30, 40)), 0, 1)
    g[np.abs(x - y) < 2] = 0.95
    assert np.abs(spatiogram(g) - by_scipy(g, 32)).max() < 1e-12


def test_statistics_by_numpys_weighted_covariance(rng):
    g = 0.6 * rng.random((15, 11))
    mass, mean, covariance = spatiogram_statistics(g, 8)
    y, x = np.mgrid[:15, :11]
    points = np.stack([x.ravel(), y.ravel()])
    shares = hats(g, 8)
    assert np.abs(bin_shares(g, 8) - shares).max() < 1e-12
    assert (mass[6:] == 0).all()
    for b in range(5):
        weight = shares[b].ravel()
        assert mass[b] == pytest.approx(weight.sum())
        assert np.allclose(mean[b], np.average(points, axis=1, weights=weight))
        assert np.allclose(covariance[b] - np.eye(2), np.cov(points, aweights=weight, ddof=0))


def test_spatiogram_of_one_level_is_the_place_in_its_bin():
    """Level 1.6 of 4: 0.9 of the mass in bin 1, of which 0.6 lies below, and 0.1 in bin 2."""
    assert np.allclose(spatiogram(np.full((9, 11), 0.4), 4), 0.9 * 0.6)


def test_spatiogram_of_black_and_white():
    assert np.all(spatiogram(np.zeros((9, 11))) == 0.0)
    assert np.allclose(spatiogram(np.ones((9, 11))), 1.0)


def test_spatiogram_where_densities_underflow():
    """A speck at one end of a long image weighs exactly nothing at the other."""
    g = np.full((7, 300), 0.1)
    g[:, :150] = 0.9
    g[3, :2] = 0.5
    out = spatiogram(g, 32)
    assert np.isfinite(out).all()
    assert np.abs(out - by_scipy(g, 32)).max() < 1e-12


def test_spatiogram_follows_the_place():
    """The same grey is bright among dark pixels and dark among bright ones."""
    g = np.full((40, 80), 0.2)
    g[:, 40:] = 0.8
    g[20, [5, 75]] = 0.5
    out = spatiogram(g, 16)
    assert out[20, 5] > 0.9
    assert out[20, 75] < 0.1


# ---- one histogram -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 75), (7, 7)])
def test_global_is_scikit_images(rng, shape):
    grey = smooth_grey(rng, *shape)
    assert np.abs(equalise(grey / 255) - exposure.equalize_hist(grey)).max() < 1e-9


def cumulative_by_hats(g):
    """Counts up to each of the 256 levels, when a pixel counts for its two nearest ones."""
    t = g.ravel() * 255
    return np.array([np.clip(i + 1 - t, 0, 1).sum() for i in range(256)])


def test_global_is_continuous_between_levels(rng):
    g = rng.random((20, 21))
    g[0, :2] = 0.0, 1.0
    theirs = np.interp(g * 255, np.arange(256), cumulative_by_hats(g) / g.size)
    assert np.abs(equalise(g) - theirs).max() < 1e-12


# ---- by tiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(60, 75), (61, 77), (60, 77), (61, 75), (128, 96), (7, 9), (4, 20)])
@pytest.mark.parametrize("clip_limit", [0.01, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("tiles", [1, 5, 8])
def test_clahe_is_opencvs(rng, height, width, clip_limit, tiles):
    """OpenCV rounds the tables and the result to 8 bits: half a level each."""
    grey = smooth_grey(rng, height, width)
    theirs = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(grey)
    assert np.abs(clahe(grey / 255, clip_limit, tiles) * 255 - theirs).max() <= 1.01


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_clahe_of_16_bits_is_not_opencvs(backend):
    """The statement of docs/filters.md: 256 levels here, 65,536 there, which the limit hardly limits."""
    if not _backends.get(backend).available:
        pytest.skip(_backends.get(backend).reason)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((200, 200)), 6)
    share = (noise - noise.min()) / np.ptp(noise)
    found, made = {}, {}
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        image = np.round(white * share).astype(dtype)
        ours = sdie.filters.spatiogram(image, method="clahe", clip_limit=1.0, tiles=5, backend=backend)
        theirs = cv2.createCLAHE(1.0, (5, 5)).apply(image)
        found[dtype] = np.abs(ours.astype(float) - theirs) / white
        made[dtype] = ours / white, theirs / white
    assert found[np.uint8].max() <= 1.01 / 255
    assert 0.08 < found[np.uint16].mean() <= 0.09
    assert 0.26 < found[np.uint16].max() <= 0.275
    assert made[np.uint16][1].std() > 1.4 * made[np.uint16][0].std()
    assert np.abs(made[np.uint16][0] - made[np.uint8][1]).mean() < 0.004


def test_clahe_of_one_tile_without_clipping_is_global(rng):
    """Between levels too: no level of this image holds 100 times the mean."""
    g = rng.random((30, 31))
    assert np.abs(clahe(g, 100.0, 1) - equalise(g)).max() < 1e-12


def test_clahe_is_continuous(rng):
    """Rounding errors of a float image, as between two rounds, stay as small as they are."""
    for _ in range(40):
        g = ndimage.gaussian_filter(rng.random((50, 50)), 2)
        g = 0.05 + 0.9 * (g - g.min()) / np.ptp(g)
        error = 1e-6 * rng.standard_normal(g.shape)
        assert np.abs(clahe(g + error) - clahe(g)).max() < 2e-4
