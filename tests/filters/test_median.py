"""The median against OpenCV and SciPy, to the bit."""

import numpy as np
import pytest
from scipy import ndimage

import sdie_fast as sdie
from sdie_fast.filters.median import Median


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 13, 15])
def test_reference_is_scipys(plane, window):
    np.testing.assert_array_equal(Median(window).reference(plane), ndimage.median_filter(plane, window, mode="mirror"))


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 13, 15])
@pytest.mark.parametrize("shape", [(15, 15), (31, 16), (17, 33), (65, 70), (20, 517)], ids=str)
def test_exact(backend, window, shape, rng):
    image = rng.random(shape, np.float32)
    out = sdie.filters.median(image, window=window, backend=backend)
    np.testing.assert_array_equal(out, ndimage.median_filter(image, window, mode="mirror"))


@pytest.mark.parametrize("window", [3, 7, 15])
def test_is_opencvs_inside(backend, window, rng):
    """OpenCV repeats the edge pixel."""
    cv2 = pytest.importorskip("cv2")
    image = rng.integers(0, 256, (60, 75), np.uint8)
    inside = np.s_[window // 2 : -(window // 2), window // 2 : -(window // 2)]
    out = sdie.filters.median(image, window=window, backend=backend)
    np.testing.assert_array_equal(out[inside], cv2.medianBlur(image, window)[inside])


@pytest.mark.parametrize("kind", ["equal", "two values", "ramp", "falling"])
def test_ties_and_order(backend, kind):
    y, x = np.mgrid[:24, :40]
    image = {
        "equal": np.full((24, 40), 7),
        "two values": (x + 3 * y) % 2 * 200,
        "ramp": 4 * x + y,
        "falling": 250 - 4 * x - y,
    }[kind].astype(np.uint8)
    out = sdie.filters.median(image, backend=backend)
    np.testing.assert_array_equal(out, ndimage.median_filter(image, 7, mode="mirror"))
