"""The local filters' references against independent code; what the other code does differently is said at each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sdie_fast.filters import TABLE

cv2 = pytest.importorskip("cv2")
filters = pytest.importorskip("skimage.filters")

BILATERAL = {"window": 7, "sigma_space": 1.5, "sigma_range": 0.1, "footprint": "square"}
SHARPEN = {"window": 7, "amount": 0.8, "radius": 1.5, "threshold": 0.0}


def of(name, g, **parameters):
    """Apply a filter's reference."""
    return TABLE[name](**parameters).reference(g)


@pytest.mark.parametrize(
    ("window", "sigma_space", "sigma_range"),
    [(7, 1.5, 0.1), (3, 0.8, 0.05), (9, 2.5, 0.3), (15, 75.0, 75 / 255)],
)
def test_bilateral_disk_is_opencvs(plane, window, sigma_space, sigma_range):
    """OpenCV reads the range weights of float images from a table of 4096 steps."""
    got = of(
        "bilateral",
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
    got = of(
        "bilateral",
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
    out = of("bilateral", g, window=7, sigma_space=1e6, sigma_range=1e6, footprint=footprint)
    assert np.count_nonzero(out) == taps
    assert np.allclose(out[out > 0], 1 / taps)


@pytest.mark.parametrize(("window", "radius", "truncate"), [(7, 1.5, 2.0), (5, 1.1, 2.0), (9, 3.0, 1.4)])
def test_sharpen_is_scipys_gaussian(plane, window, radius, truncate):
    blurred = ndimage.gaussian_filter(plane, radius, mode="mirror", truncate=truncate)
    got = of("sharpen", plane, window=window, amount=1.3, radius=radius, threshold=0.0)
    assert np.abs(got - (plane + 1.3 * (plane - blurred))).max() < 1e-12


def test_sharpen_is_scikit_images_inside(plane):
    """scikit-image cuts the Gaussian at 4 sigma = 3 pixels here, and repeats the edge pixel."""
    theirs = filters.unsharp_mask(plane, radius=0.75, amount=0.8, preserve_range=True)
    got = of("sharpen", plane, window=7, amount=0.8, radius=0.75, threshold=0.0)
    inside = np.s_[3:-3, 3:-3]
    assert np.abs(got - theirs)[inside].max() < 1e-12


def test_sharpen_may_leave_the_range():
    g = np.zeros((9, 12))
    g[:, 6:] = 1.0
    out = of("sharpen", g, **SHARPEN)
    assert out.min() < -0.1
    assert out.max() > 1.1


def test_sharpen_threshold_leaves_small_steps(plane):
    detail = plane - ndimage.gaussian_filter(plane, 1.5, mode="mirror", truncate=2.0)
    kept = np.abs(detail) >= 0.05
    assert 0 < kept.sum() < kept.size
    out = of("sharpen", plane, **{**SHARPEN, "threshold": 0.05})
    assert np.array_equal(out[~kept], plane[~kept])
    assert np.allclose(out[kept], (plane + 0.8 * detail)[kept])


def test_sharpen_adds_a_detail_as_large_as_the_threshold():
    """The centre of an impulse, whose detail is one less the square of the middle tap."""
    g = np.zeros((9, 9))
    g[4, 4] = 1.0
    tap = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    detail = (g - ndimage.convolve(g, np.outer(tap, tap) / tap.sum() ** 2, mode="mirror"))[4, 4]
    at = of("sharpen", g, **{**SHARPEN, "threshold": detail - 1e-9})
    above = of("sharpen", g, **{**SHARPEN, "threshold": detail + 1e-9})
    assert at[4, 4] == pytest.approx(1.0 + 0.8 * detail)
    assert np.array_equal(above, g)


@pytest.mark.parametrize(("window", "eps"), [(7, 0.01), (11, 0.1), (3, 1e-3)])
def test_guided_is_opencvs(plane, window, eps):
    """OpenCV repeats the edge pixel, so it is given a mirrored margin; it computes in float32."""
    margin = window  # both box means reach window - 1 pixels together
    padded = np.pad(plane, margin, mode="reflect").astype(np.float32)
    theirs = cv2.ximgproc.guidedFilter(padded, padded, window // 2, eps)
    got = of("guided", plane, window=window, eps=eps)
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
    assert of("bilateral", g, **BILATERAL)[0, 0] == pytest.approx((alike * q).sum() / alike.sum())
    blurred = (near * q).sum() / near.sum()
    assert of("sharpen", g, **SHARPEN)[0, 0] == pytest.approx(1.8 * g[0, 0] - 0.8 * blurred)


def test_constant_images_stay():
    g = np.full((12, 15), 0.37)
    assert np.allclose(of("bilateral", g, **BILATERAL), g)
    assert np.allclose(of("sharpen", g, **SHARPEN), g)
    assert np.allclose(of("guided", g, window=7, eps=0.01), g)
