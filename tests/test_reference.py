"""Rounds of the reference: shares, clipping, colour, white levels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sdie_fast import FilterParams, reference
from sdie_fast.filters import TABLE

cv2 = pytest.importorskip("cv2")

BILATERAL = {"window": 7, "sigma_space": 1.5, "sigma_range": 0.1, "footprint": "square"}
SHARPEN = {"window": 7, "amount": 0.8, "radius": 1.5, "threshold": 0.0}


def of(name, g, **parameters):
    """Apply a filter's reference."""
    return TABLE[name](**parameters).reference(g)


def test_rounds_mix_clip_and_feed_back(plane):
    params = FilterParams(wls_solver="fast", sharpen_amount=10.0)
    weights = [[1, 0, 0, 1, 0, 0], [0, 0, 2, 0, 1, 0]]
    first = 0.5 * plane + 0.5 * of("sharpen", plane, **{**SHARPEN, "amount": 10.0})
    assert first.min() < 0 < 1 < first.max()
    first = np.clip(first, 0, 1)
    second = of("bilateral", first, **BILATERAL) * 2 + of("guided", first, window=7, eps=0.01)
    assert np.allclose(reference.enhance_plane(plane, weights, params), second / 3, atol=1e-12)


def test_weights_count_by_their_shares(plane, rng):
    params = FilterParams(wls_solver="fast")
    weights = rng.random((2, 6))
    scaled = weights * [[5.0], [0.01]]
    once = reference.enhance_plane(plane, weights, params)
    assert np.allclose(once, reference.enhance_plane(plane, scaled, params), atol=1e-12)


PUBLISHED = FilterParams.published_code()
OWN_WINDOWS = FilterParams(window=11, bilateral_window=5, sharpen_window=3, guided_window=9, sharpen_threshold=0.02)


@pytest.mark.parametrize("params", [FilterParams(), PUBLISHED, OWN_WINDOWS], ids=["defaults", "published", "windows"])
@pytest.mark.parametrize("name", TABLE)
def test_each_filter_has_its_place_and_its_parameters(plane, name, params):
    own = {f.name: getattr(params, f"{name}_{f.name.rstrip('_')}") for f in dataclasses.fields(TABLE[name])}
    if "window" in own:
        own["window"] = own["window"] or params.window
    weights = [[float(f == name) for f in TABLE]]
    got = reference.enhance_plane(plane, weights, params)
    assert np.abs(got - np.clip(TABLE[name](**own).reference(plane), 0, 1)).max() < 1e-12


def test_filters_without_weight_are_not_computed(plane, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("computed")

    for name in ("wls", "bilateral", "guided", "spatiogram"):
        monkeypatch.setattr(TABLE[name], "reference", fail)
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
    change = of("bilateral", of("bilateral", luma, **BILATERAL), **BILATERAL) - luma
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
