"""Whole rounds on the device against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdie_fast import FilterParams, reference
from sdie_fast.filters import FILTERS, TABLE

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import driver, kernels, pixels, views
from sdie_fast.cuda.rounds import Rounds

FAST = FilterParams(wls_solver="fast")
SMALL = replace(FAST, window=3)


def active(*names):
    """Which filters are used, in the table's order."""
    return tuple(name in names for name in TABLE)


LOCAL = active("identity", "bilateral", "sharpen", "guided")
FEW = active("identity", "sharpen")  # where it does not matter which
# The design allows 1/510 for a whole round. The local filters and fast wls are far more exact, and
# what they are tested by is this.
TOLERANCE = 2e-5
WHOLE = 1 / 510


def picture(rng, *shape):
    """Values in [0, 1] of shape (N, H, W, C): waves and noise, different in each channel."""
    _, height, width, channels = shape
    y, x = np.mgrid[:height, :width][..., None] + np.zeros(channels)
    g = 0.5 + 0.3 * np.sin(x / 4.0 + y / 6.0 + np.arange(channels)) + 0.1 * rng.standard_normal(shape)
    return g.clip(0.0, 1.0)


def some_weights(rng, images, rounds, used):
    weights = rng.random((images, rounds, len(TABLE))) * np.asarray(used)
    return weights / weights.sum(-1, keepdims=True)


@pytest.fixture
def enhance(cuda):
    """Runs rounds; returns the result as the host sees it."""

    def run(images, weights, params, *, white=1.0, per_channel=False, memory=None):
        used = tuple(weights.any((0, 1)).tolist())
        made = Rounds(memory or images.shape, params, per_channel=per_channel, active=used)
        dst = cuda.to_device(np.zeros_like(images))
        made(
            cuda.to_device(images), dst, cuda.to_device(weights.astype(np.float32)), used,
            white_level=white,
        )  # fmt: skip
        return dst.copy_to_host()

    return run


def expect(images, weights, params, *, white=1.0, per_channel=False):
    result = reference.enhance(images, weights, params, white_level=white, per_channel=per_channel)
    return result if images.dtype == np.float32 else result * white


_QUICK = [("uint8", 1, False), ("float32", 3, False), ("uint16", 3, True)]
_KINDS = [
    (dtype, *colour) for dtype in ("uint8", "uint16", "float32") for colour in ((1, False), (3, False), (3, True))
]


@pytest.mark.parametrize(
    ("dtype", "channels", "per_channel"),
    [pytest.param(*kind, marks=() if kind in _QUICK else pytest.mark.simulator) for kind in _KINDS],
)
def test_types_and_colours(enhance, rng, dtype, channels, per_channel):
    white = {"uint8": 255, "uint16": 4095, "float32": 1}[dtype]
    images = (picture(rng, 1, 8, 9, channels) * white).astype(dtype)
    weights = some_weights(rng, 1, 1, LOCAL)
    got = enhance(images, weights, SMALL, white=white, per_channel=per_channel)
    want = expect(images, weights, SMALL, white=white, per_channel=per_channel)
    if dtype == "float32":
        assert np.abs(got - want).max() < TOLERANCE
    else:  # rounded half up, but for what float32 does not tell from a half
        assert np.abs(got - want).max() <= 0.5 + TOLERANCE * white


def test_all_fast_filters_together(enhance, rng):
    images = picture(rng, 2, 4, 5, 1).astype(np.float32)
    weights = some_weights(rng, 2, 2, active(*(n for n in TABLE if n != "spatiogram")))
    weights[1, 1] = np.eye(len(TABLE))[4]  # one image without wls in one round
    got = enhance(images, weights, SMALL)
    assert np.abs(got - expect(images, weights, SMALL)).max() < TOLERANCE


def test_two_rounds_of_colour_in_place(cuda, rng):
    """Every image is loaded and chroma carried over, also where the first round has no spatiogram."""
    host = (picture(rng, 2, 9, 10, 3) * 255).astype(np.uint8)
    used = active(*FILTERS)
    weights = some_weights(rng, 2, 2, used).astype(np.float32)
    weights[0, 0] = np.eye(len(TABLE))[0]
    images = cuda.to_device(host)
    Rounds(host.shape, SMALL, active=used)(images, images, cuda.to_device(weights), used, white_level=255.0)
    want = expect(host, weights, SMALL, white=255.0)
    assert np.abs(images.copy_to_host() - want).max() <= 0.5 + WHOLE * 255


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_identity_returns_what_came(enhance, rng, dtype):
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    images = (rng.random((1, 16, 16, 1)) * white).astype(dtype)
    if dtype == "uint8":
        images[0, :, :, 0] = np.arange(256).reshape(16, 16)
    weights = np.eye(len(TABLE))[None, :1]
    np.testing.assert_array_equal(enhance(images, weights, SMALL, white=white), images)


def test_integers_are_rounded_half_up(cuda):
    planes = (np.array([0.0, 0.49, 0.5, 1.49, 1.5, 254.49, 254.5, 255.0], np.float32) / 255).reshape(1, 1, 8)
    dst = cuda.to_device(np.zeros((1, 1, 8, 1), np.uint8))
    pixels.store(cuda.to_device(planes), dst, dst, luma=False, white=255.0, stream=0)
    assert dst.copy_to_host().ravel().tolist() == [0, 0, 1, 1, 2, 254, 255, 255]


def view(array, index):
    """A part of a device array by NumPy's rules, negative steps included."""
    if driver.simulated():
        return array[index]
    given = array.__cuda_array_interface__
    place = given["data"][0], array.shape, array.strides, array.dtype
    return views.numba_array(views.DeviceArray(*place, True, 0, 1, "numba", array)[index])


@pytest.mark.parametrize("channels", [1, 3])
def test_strides_of_any_sign_in_place(cuda, rng, channels):
    index = (slice(None), slice(None, None, -1), slice(1, None, 2), slice(None, None, -1))
    host = (picture(rng, 1, 7, 15, channels) * 255).astype(np.uint8)
    around = host.copy()
    weights = some_weights(rng, 1, 1, FEW)
    device = cuda.to_device(host)
    part = view(device, index)
    Rounds(part.shape, SMALL, active=FEW)(
        part, part, cuda.to_device(weights.astype(np.float32)), FEW, white_level=255.0
    )
    result = device.copy_to_host()
    want = expect(host[index], weights, SMALL, white=255.0)
    assert np.abs(result[index] - want).max() <= 0.51
    around[index] = result[index]
    np.testing.assert_array_equal(result, around)  # what is not of the view is as it was


@pytest.mark.simulator
def test_fewer_images_than_memory_and_again(cuda, rng):
    images = picture(rng, 3, 4, 5, 1).astype(np.float32)
    weights = some_weights(rng, 3, 2, FEW)
    made = Rounds(images.shape, SMALL, active=FEW)
    for count in (3, 1, 2):
        dst = cuda.to_device(np.zeros_like(images[:count]))
        made(
            cuda.to_device(images[:count]), dst,
            cuda.to_device(weights[:count].astype(np.float32)), FEW, white_level=1.0,
        )  # fmt: skip
        want = expect(images[:count], weights[:count], SMALL)
        assert np.abs(dst.copy_to_host() - want).max() < TOLERANCE


def test_launches_of_part_of_a_grid(enhance, rng, monkeypatch):
    monkeypatch.setattr(kernels, "GRID_LIMIT", 1)
    images = picture(rng, 2, 33, 7, 1).astype(np.float32)
    weights = some_weights(rng, 2, 1, FEW)
    got = enhance(images, weights, SMALL)
    assert np.abs(got - expect(images, weights, SMALL)).max() < TOLERANCE


def test_values_outside_the_range_count_as_its_ends(enhance, rng):
    images = picture(rng, 1, 8, 8, 1).astype(np.float32)
    images[0, 2, 3], images[0, 5, 5] = -0.5, 1.5
    weights = some_weights(rng, 1, 1, FEW)
    got = enhance(images, weights, SMALL)
    assert np.abs(got - expect(images.clip(0, 1), weights, SMALL)).max() < TOLERANCE


@pytest.mark.parametrize(
    "params",
    [
        replace(SMALL, spatiogram_method="global"),
        *(
            pytest.param(params, marks=pytest.mark.simulator)
            for params in (
                FAST,
                replace(FilterParams.published_code(), wls_solver="fast"),
                FilterParams(),
                FilterParams.published_code(),
            )
        ),
    ],
    ids=["global", "fast", "published, fast", "default", "published"],
)
def test_all_six_filters(enhance, rng, params):
    images = picture(rng, 1, 15, 16, 1).astype(np.float32)
    weights = some_weights(rng, 1, 1, active(*FILTERS))
    got = enhance(images, weights, params)
    assert np.abs(got - expect(images, weights, params)).max() < WHOLE


@pytest.mark.parametrize("params", [FAST, FilterParams.published_code()], ids=["fast", "published"])
@pytest.mark.parametrize(
    ("shape", "per_channel", "active"),
    [
        ((2, 20, 31, 1), False, (True,) * len(TABLE)),
        ((2, 20, 31, 3), False, LOCAL),
        ((1, 20, 31, 3), True, (True,) * len(TABLE)),
    ],
)
def test_workspace_bytes_are_what_is_allocated(cuda, allocated, params, shape, per_channel, active):
    Rounds(shape, params, per_channel=per_channel, active=active)
    assert sum(allocated) == Rounds.workspace_bytes(shape, params, per_channel=per_channel, active=active)


def test_what_does_not_fit_the_memory_is_refused(cuda):
    made = Rounds((1, 8, 8, 1), FAST, active=LOCAL)

    def call(shape, used=LOCAL):
        images = cuda.to_device(np.zeros(shape, np.float32))
        weights = cuda.to_device(np.ones((shape[0], 1, len(TABLE)), np.float32))
        made(images, images, weights, used, white_level=1.0)

    for shape in ((2, 8, 8, 1), (1, 9, 8, 1), (1, 8, 8, 3)):
        with pytest.raises(ValueError, match=r"at most 1 images of \(H, W, C\) \(8, 8, 1\)"):
            call(shape)
    with pytest.raises(ValueError, match="without memory for the filter 'wls'"):
        call((1, 8, 8, 1), active("identity", "wls"))
