"""The round composed in torch that the GPU benchmark compares with, on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast import FILTERS, FilterParams, InvalidArgumentError, enhance

torch = pytest.importorskip("torch")
composed = pytest.importorskip("composed")

TOLERANCE = {"identity": 1e-6, "wls": 5e-6, "bilateral": 1e-5, "sharpen": 1e-5, "guided": 1e-5, "spatiogram": 1 / 510}
PARAMS = {
    "disk": FilterParams(wls_solver="fast", bilateral_footprint="disk"),
    "window5": FilterParams(wls_solver="fast", window=5, wls_lambda=4.0, spatiogram_bins=16, guided_eps=0.1),
    "exact": FilterParams(),
    "threshold": FilterParams(sharpen_threshold=0.05),
}
CASES = [(name, key) for name in FILTERS for key in ("disk", "window5")] + [("wls", "exact"), ("sharpen", "threshold")]


@pytest.fixture
def batch(rng, picture):
    # Sizes on both sides of a power of two: the reduction of lines takes as many steps as they need.
    images = picture(rng, (3, 33, 31), np.uint8)
    images[1] = rng.integers(0, 256, images[1].shape)
    images[2, :, 10:] = 0  # empty bins, equal neighbours, the largest edge weights
    return images


@pytest.mark.parametrize(("name", "key"), CASES)
def test_filter(batch, name, key):
    params = PARAMS[key]
    planes = batch.astype(np.float32) / np.float32(255)
    got = composed.filters(params)[name](torch.from_numpy(planes))
    assert got.dtype == torch.float32
    true = np.stack([params.of(name).reference(g / 255.0) for g in batch])
    tolerance = params.wls_tol if key == "exact" else TOLERANCE[name]
    np.testing.assert_allclose(got.numpy(), true, rtol=0, atol=tolerance)


@pytest.mark.parametrize("names", [FILTERS, ("guided", "identity", "bilateral")], ids="-".join)
def test_rounds(rng, batch, names):
    weights = rng.random((3, 2, len(names))).astype(np.float32)
    weights /= weights.sum(axis=-1, keepdims=True)
    got = composed.round_of(PARAMS["disk"], names, rounds=2)(torch.from_numpy(batch), torch.from_numpy(weights))
    assert got.dtype == torch.uint8
    planes = batch.astype(np.float32) / np.float32(255)
    true = enhance(planes, weights, filters=names, params=PARAMS["disk"], backend="reference")
    # Half a level of rounding, and the tolerance of a round.
    np.testing.assert_allclose(got.numpy(), true * 255.0, rtol=0, atol=0.5 + 255 / 510)


def test_what_is_not_composed():
    with pytest.raises(InvalidArgumentError, match=r"received .*'clahe'.*the spatiogram only"):
        composed.filters(FilterParams(spatiogram_method="clahe"))
