"""The composed rounds that the GPU benchmark compares with, on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from sdie_fast import FILTERS, FilterParams, InvalidArgumentError, reference
from sdie_fast._bench import gpu_cupy, gpu_torch

TOLERANCE = dict(zip(FILTERS, (1e-6, 5e-6, 1e-5, 1e-5, 1e-5, 1 / 510), strict=True))
PARAMS = [
    FilterParams(wls_solver="fast", bilateral_footprint="disk"),
    FilterParams(wls_solver="fast", window=5, wls_lambda=4.0, spatiogram_bins=16, guided_eps=0.1),
]


@pytest.fixture
def batch(rng, picture):
    # Sizes on both sides of a power of two: the reduction of lines takes as many steps as they need.
    images = picture(rng, (3, 33, 31), np.uint8)
    images[1] = rng.integers(0, 256, images[1].shape)
    images[2, :, 10:] = 0  # empty bins, equal neighbours, the largest edge weights
    return images


def truth(index, batch, params):
    return np.stack([reference.filter_plane(index, g / 255.0, params) for g in batch])


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("index", range(6), ids=FILTERS)
def test_torch_filters(batch, params, index):
    torch = pytest.importorskip("torch")
    planes = torch.from_numpy(batch.astype(np.float32) / np.float32(255))
    got = gpu_torch.filters(params)[index](planes)
    assert got.dtype == torch.float32
    error = np.abs(got.numpy() - truth(index, batch, params)).max()
    assert error <= TOLERANCE[FILTERS[index]]


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("name", FILTERS[1:])
def test_array_filters(batch, params, name):
    composed = gpu_cupy.ArrayRound(np, scipy.ndimage, params)
    got = getattr(composed, name)(batch.astype(np.float32) / np.float32(255))
    assert got.dtype == np.float32
    error = np.abs(got - truth(FILTERS.index(name), batch, params)).max()
    assert error <= TOLERANCE[name]


def test_torch_exact_wls(batch):
    torch = pytest.importorskip("torch")
    params = FilterParams()
    got = gpu_torch.filters(params)[1](torch.from_numpy(batch.astype(np.float32) / 255))
    assert np.abs(got.numpy() - truth(1, batch, params)).max() <= params.wls_tol


def test_torch_sharpen_threshold(batch):
    torch = pytest.importorskip("torch")
    params = FilterParams(sharpen_threshold=0.05)
    got = gpu_torch.filters(params)[3](torch.from_numpy(batch.astype(np.float32) / 255))
    np.testing.assert_allclose(got.numpy(), truth(3, batch, params), atol=1e-5)


@pytest.mark.parametrize("active", [(True,) * 6, (True, False, True, True, True, False)])
def test_rounds(rng, batch, active):
    torch = pytest.importorskip("torch")
    weights = rng.random((3, 3, 6)).astype(np.float32) * np.array(active, np.float32)
    weights /= weights.sum(axis=-1, keepdims=True)
    params = PARAMS[0]
    true = reference.enhance(batch[..., None], weights, params, white_level=255, per_channel=False)[..., 0]
    run = gpu_torch.round_of(params, active, rounds=3)
    composed = gpu_cupy.ArrayRound(np, scipy.ndimage, params)
    for got in (
        run(torch.from_numpy(batch), torch.from_numpy(weights)).numpy(),
        composed.run(batch, weights, active),
    ):
        assert got.dtype == np.uint8
        # Half a level of rounding, and the tolerance of a round.
        assert np.abs(got - true * 255).max() <= 0.5 + 255 / 510


def test_what_is_not_composed():
    pytest.importorskip("torch")
    with pytest.raises(InvalidArgumentError, match="spatiogram"):
        gpu_torch.filters(FilterParams(spatiogram_method="clahe"))
    with pytest.raises(InvalidArgumentError, match="fast WLS"):
        gpu_cupy.ArrayRound(np, scipy.ndimage, FilterParams())
    with pytest.raises(InvalidArgumentError, match="threshold"):
        gpu_cupy.ArrayRound(np, scipy.ndimage, FilterParams(wls_solver="fast", sharpen_threshold=0.1))
