"""The Gaussian against OpenCV and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

import sdie_fast as sdie
from sdie_fast.filters.gaussian import Gaussian
from sdie_fast.filters.sharpen import Sharpen


@pytest.mark.parametrize(("window", "sigma", "truncate"), [(7, 1.5, 2.0), (5, 1.1, 2.0), (9, 3.0, 1.4)])
def test_reference_is_scipys(plane, window, sigma, truncate):
    theirs = ndimage.gaussian_filter(plane, sigma, mode="mirror", truncate=truncate)
    np.testing.assert_allclose(Gaussian(window, sigma).reference(plane), theirs, atol=1e-12)


@pytest.mark.parametrize(("window", "sigma"), [(3, 0.5), (7, 1.5), (11, 2.0), (15, 100.0)])
def test_is_opencvs(backend, plane, window, sigma):
    cv2 = pytest.importorskip("cv2")
    image = plane.astype(np.float32)
    theirs = cv2.GaussianBlur(image, (window, window), sigma, borderType=cv2.BORDER_REFLECT_101)
    out = sdie.filters.gaussian(image, window=window, sigma=sigma, backend=backend)
    np.testing.assert_allclose(out, theirs, rtol=0, atol=2e-6)


def test_sharpen_adds_what_it_takes(plane):
    blurred = Gaussian(7, 1.5).reference(plane)
    np.testing.assert_allclose(Sharpen(amount=1.0).reference(plane), 2 * plane - blurred, atol=1e-15)
