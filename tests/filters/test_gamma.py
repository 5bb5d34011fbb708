"""Gamma against scikit-image, and its ends."""

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast.filters.gamma import Gamma


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 2.2, 10.0])
def test_reference_is_scikit_images(plane, exponent):
    exposure = pytest.importorskip("skimage.exposure")
    np.testing.assert_allclose(Gamma(exponent).reference(plane), exposure.adjust_gamma(plane, exponent), atol=1e-15)


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 2.2, 10.0])
def test_every_intensity(backend, exponent):
    """All 8-bit values, and those next to black: the ends stay where they are."""
    values = np.concatenate([np.arange(256) / 255, [1e-30, 1e-10, 1e-6, 1 - 2**-24]]).astype(np.float32)
    out = sdie.filters.gamma(np.tile(values, (3, 1)), exponent=exponent, backend=backend)
    np.testing.assert_allclose(out, np.tile(values.astype(np.float64) ** exponent, (3, 1)), rtol=0, atol=1e-5)
    assert out[0, 0] == 0
    assert out[0, 255] == pytest.approx(1, abs=1e-6)
