"""The reference against independent code; what the other code does differently is said at each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import sdie_fast
from sdie_fast import FilterParams, reference

cv2 = pytest.importorskip("cv2")
filters = pytest.importorskip("skimage.filters")

BILATERAL = {"window": 7, "sigma_space": 1.5, "sigma_range": 0.1, "footprint": "square"}
SHARPEN = {"window": 7, "amount": 0.8, "radius": 1.5, "threshold": 0.0}


@pytest.fixture
def plane(rng):
    """A wavy, noisy surface with a dark patch."""
    y, x = np.mgrid[:60, :75]
    g = 0.45 + 0.2 * np.sin(x / 9) * np.cos(y / 7) + 0.08 * rng.standard_normal(x.shape)
    g[20:30, 30:50] = 0.1
    return np.clip(g, 0.0, 1.0)


# ---- bilateral, sharpen, guided ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "sigma_space", "sigma_range"),
    [(7, 1.5, 0.1), (3, 0.8, 0.05), (9, 2.5, 0.3), (15, 75.0, 75 / 255)],
)
def test_bilateral_disk_is_opencvs(plane, window, sigma_space, sigma_range):
    """OpenCV reads the range weights of float images from a table of 4096 steps."""
    got = reference.bilateral(
        plane,
        window=window,
        sigma_space=sigma_space,
        sigma_range=sigma_range,
        footprint="disk",
    )
    theirs = cv2.bilateralFilter(
        plane.astype(np.float32),
        window,
        sigma_range,
        sigma_space,
        borderType=cv2.BORDER_REFLECT_101,
    )
    assert np.abs(got - theirs).max() < 1e-5


@pytest.mark.parametrize(("window", "sigma_space", "sigma_range"), [(7, 1.5, 0.1), (5, 1.1, 0.2)])
def test_bilateral_square_by_scipys_windows(plane, window, sigma_space, sigma_range):
    """The definition on windows cut by SciPy (scikit-image's spatial table is off by one pixel)."""
    d = np.arange(window) - window // 2
    distance = (d[:, None] ** 2 + d**2).ravel() / (2 * sigma_space**2)

    def at(q):
        weight = np.exp(-distance - (q - q[len(q) // 2]) ** 2 / (2 * sigma_range**2))
        return np.average(q, weights=weight)

    theirs = ndimage.generic_filter(plane, at, size=window, mode="mirror")
    got = reference.bilateral(
        plane,
        window=window,
        sigma_space=sigma_space,
        sigma_range=sigma_range,
        footprint="square",
    )
    assert np.abs(got - theirs).max() < 1e-12


@pytest.mark.parametrize(("footprint", "taps"), [("square", 49), ("disk", 29)])
def test_bilateral_counts_every_tap(footprint, taps):
    """With both sigmas wide open a single bright pixel is shared out among all taps."""
    g = np.zeros((15, 15))
    g[7, 7] = 1.0
    out = reference.bilateral(g, window=7, sigma_space=1e6, sigma_range=1e6, footprint=footprint)
    assert np.count_nonzero(out) == taps
    assert np.allclose(out[out > 0], 1 / taps)


@pytest.mark.parametrize(("window", "radius", "truncate"), [(7, 1.5, 2.0), (5, 1.1, 2.0), (9, 3.0, 1.4)])
def test_sharpen_is_scipys_gaussian(plane, window, radius, truncate):
    blurred = ndimage.gaussian_filter(plane, radius, mode="mirror", truncate=truncate)
    got = reference.sharpen(plane, window=window, amount=1.3, radius=radius, threshold=0.0)
    assert np.abs(got - (plane + 1.3 * (plane - blurred))).max() < 1e-12


def test_sharpen_is_scikit_images_inside(plane):
    """scikit-image cuts the Gaussian at 4 sigma = 3 pixels here, and repeats the edge pixel."""
    theirs = filters.unsharp_mask(plane, radius=0.75, amount=0.8, preserve_range=True)
    got = reference.sharpen(plane, window=7, amount=0.8, radius=0.75, threshold=0.0)
    inside = np.s_[3:-3, 3:-3]
    assert np.abs(got - theirs)[inside].max() < 1e-12


def test_sharpen_may_leave_the_range():
    g = np.zeros((9, 12))
    g[:, 6:] = 1.0
    out = reference.sharpen(g, **SHARPEN)
    assert out.min() < -0.1
    assert out.max() > 1.1


def test_sharpen_threshold_leaves_small_steps(plane):
    detail = plane - ndimage.gaussian_filter(plane, 1.5, mode="mirror", truncate=2.0)
    kept = np.abs(detail) >= 0.05
    assert 0 < kept.sum() < kept.size
    out = reference.sharpen(plane, **{**SHARPEN, "threshold": 0.05})
    assert np.array_equal(out[~kept], plane[~kept])
    assert np.allclose(out[kept], (plane + 0.8 * detail)[kept])


def test_sharpen_adds_a_detail_as_large_as_the_threshold():
    """The centre of an impulse, whose detail is one less the square of the middle tap."""
    g = np.zeros((9, 9))
    g[4, 4] = 1.0
    tap = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    detail = (g - ndimage.convolve(g, np.outer(tap, tap) / tap.sum() ** 2, mode="mirror"))[4, 4]
    at = reference.sharpen(g, **{**SHARPEN, "threshold": detail - 1e-9})
    above = reference.sharpen(g, **{**SHARPEN, "threshold": detail + 1e-9})
    assert at[4, 4] == pytest.approx(1.0 + 0.8 * detail)
    assert np.array_equal(above, g)


@pytest.mark.parametrize(("window", "eps"), [(7, 0.01), (11, 0.1), (3, 1e-3)])
def test_guided_is_opencvs(plane, window, eps):
    """OpenCV repeats the edge pixel, so it is given a mirrored margin; it computes in float32."""
    margin = window  # both box means reach window - 1 pixels together
    padded = np.pad(plane, margin, mode="reflect").astype(np.float32)
    theirs = cv2.ximgproc.guidedFilter(padded, padded, window // 2, eps)
    got = reference.guided(plane, window=window, eps=eps)
    assert np.abs(got - theirs[margin:-margin, margin:-margin]).max() < 5e-5


@pytest.mark.parametrize("size", [(7, 7), (7, 40), (8, 9)])
def test_windows_as_large_as_the_image(rng, size):
    """Each filter of a corner pixel by hand, on the mirrored window cut from the plane."""
    g = rng.random(size)
    rows = [3, 2, 1, 0, 1, 2, 3]
    q = g[np.ix_(rows, rows)]
    d = np.arange(-3, 4)
    near = np.exp(-(d[:, None] ** 2 + d**2) / (2 * 1.5**2))
    alike = near * np.exp(-((q - g[0, 0]) ** 2) / (2 * 0.1**2))
    assert reference.bilateral(g, **BILATERAL)[0, 0] == pytest.approx((alike * q).sum() / alike.sum())
    blurred = (near * q).sum() / near.sum()
    assert reference.sharpen(g, **SHARPEN)[0, 0] == pytest.approx(1.8 * g[0, 0] - 0.8 * blurred)


def test_constant_images_stay():
    g = np.full((12, 15), 0.37)
    assert np.allclose(reference.bilateral(g, **BILATERAL), g)
    assert np.allclose(reference.sharpen(g, **SHARPEN), g)
    assert np.allclose(reference.guided(g, window=7, eps=0.01), g)


# ---- the round -----------------------------------------------------------------------------------


def test_rounds_mix_clip_and_feed_back(plane):
    params = FilterParams(wls_solver="fast", sharpen_amount=10.0)
    weights = [[1, 0, 0, 1, 0, 0], [0, 0, 2, 0, 1, 0]]
    first = 0.5 * plane + 0.5 * reference.sharpen(plane, **{**SHARPEN, "amount": 10.0})
    assert first.min() < 0 < 1 < first.max()
    first = np.clip(first, 0, 1)
    second = reference.bilateral(first, **BILATERAL) * 2 + reference.guided(first, window=7, eps=0.01)
    assert np.allclose(reference.enhance_plane(plane, weights, params), second / 3, atol=1e-12)


def test_weights_count_by_their_shares(plane, rng):
    params = FilterParams(wls_solver="fast")
    weights = rng.random((2, 6))
    scaled = weights * [[5.0], [0.01]]
    once = reference.enhance_plane(plane, weights, params)
    assert np.allclose(once, reference.enhance_plane(plane, scaled, params), atol=1e-12)


PUBLISHED = FilterParams.published_code()
OWN_WINDOWS = FilterParams(window=11, bilateral_window=5, sharpen_window=3, guided_window=9, sharpen_threshold=0.02)


@pytest.mark.parametrize("params", [FilterParams(), PUBLISHED, OWN_WINDOWS])
@pytest.mark.parametrize("name", sdie_fast.FILTERS)
def test_each_filter_has_its_place_and_its_parameters(plane, name, params):
    p = params
    expected = {
        "identity": lambda: plane,
        "wls": lambda: reference.wls(
            plane,
            lambda_=p.wls_lambda,
            alpha=p.wls_alpha,
            solver=p.wls_solver,
            domain=p.wls_domain,
        ),
        "bilateral": lambda: reference.bilateral(
            plane,
            window=p.bilateral_window or p.window,
            sigma_space=p.bilateral_sigma_space,
            sigma_range=p.bilateral_sigma_range,
            footprint=p.bilateral_footprint,
        ),
        "sharpen": lambda: reference.sharpen(
            plane,
            window=p.sharpen_window or p.window,
            amount=p.sharpen_amount,
            radius=p.sharpen_radius,
            threshold=p.sharpen_threshold,
        ),
        "guided": lambda: reference.guided(plane, window=p.guided_window or p.window, eps=p.guided_eps),
        "spatiogram": lambda: reference.spatiogram(
            plane,
            method=p.spatiogram_method,
            bins=p.spatiogram_bins,
            clip_limit=p.spatiogram_clip_limit,
            tiles=p.spatiogram_tiles,
        ),
    }[name]()
    weights = [[float(f == name) for f in sdie_fast.FILTERS]]
    got = reference.enhance_plane(plane, weights, params)
    assert np.abs(got - np.clip(expected, 0, 1)).max() < 1e-12


def test_filters_without_weight_are_not_computed(plane, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("computed")

    for name in ("wls", "bilateral", "guided", "spatiogram"):
        monkeypatch.setattr(reference, name, fail)
    reference.enhance_plane(plane, [[1, 0, 0, 1, 0, 0]], FilterParams())


@pytest.mark.parametrize(("dtype", "white_level"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
def test_white_level_is_one(rng, dtype, white_level):
    images = rng.integers(0, white_level + 1, (1, 12, 15, 1)).astype(dtype)
    weights = np.array([[[1, 0, 1, 0, 1, 0]]], np.float32)
    how = {"params": FilterParams(), "per_channel": False}
    got = reference.enhance(images, weights, white_level=white_level, **how)
    theirs = reference.enhance(images / white_level, weights, white_level=1.0, **how)
    assert got.dtype == np.float64
    assert np.abs(got - theirs).max() < 1e-12


def test_each_image_has_its_weights(rng):
    images = rng.random((3, 12, 15, 1))
    weights = rng.random((3, 2, 6))
    params = FilterParams(wls_solver="fast")
    got = reference.enhance(images, weights, params, white_level=1.0, per_channel=False)
    for image, row, out in zip(images, weights, got, strict=True):
        assert np.array_equal(out[..., 0], reference.enhance_plane(image[..., 0], row, params))


def test_colour_carries_chroma(rng):
    """Luma by OpenCV, in float32; the change of luma is added to all three channels."""
    rgb = rng.integers(60, 180, (1, 20, 24, 3)).astype(np.uint8)
    weights = np.array([[[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]], np.float32)
    got = reference.enhance(rgb, weights, FilterParams(), white_level=255, per_channel=False)
    luma = cv2.cvtColor(rgb[0].astype(np.float32) / 255, cv2.COLOR_RGB2GRAY).astype(np.float64)
    change = reference.bilateral(reference.bilateral(luma, **BILATERAL), **BILATERAL) - luma
    assert np.abs(got[0] - (rgb[0] / 255 + change[..., None])).max() < 1e-5


def test_colour_is_clipped(rng):
    rgb = rng.random((1, 20, 24, 3))
    weights = np.array([[[0, 0, 0, 1, 0, 0]]])
    how = {"white_level": 1.0, "per_channel": False}
    got = reference.enhance(rgb, weights, FilterParams(sharpen_amount=5.0), **how)
    assert (got == 0).any()
    assert (got == 1).any()
    assert got.min() == 0
    assert got.max() == 1


def test_per_channel_filters_each_as_a_grey_image(rng):
    rgb = rng.random((1, 20, 24, 3))
    weights = rng.random((1, 2, 6))
    params = FilterParams(wls_solver="fast")
    got = reference.enhance(rgb, weights, params, white_level=1.0, per_channel=True)
    for c in range(3):
        grey = reference.enhance(rgb[..., c : c + 1], weights, params, white_level=1.0, per_channel=False)
        assert np.array_equal(got[..., c : c + 1], grey)
