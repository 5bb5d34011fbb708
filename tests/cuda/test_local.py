"""The fused kernel: each local filter, and the mix, against the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sdie_fast import FilterParams, reference

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import _device, _tile, kernels, rounds

TOLERANCE = 1e-5  # of the design, for every local filter
BILATERAL, SHARPEN, GUIDED = 2, 3, 4


def picture(rng, *shape):
    """Waves, noise and a step: values in [0, 1]."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    g = 0.5 + 0.25 * np.sin(x / 3.0 + y / 5.0) + 0.2 * (x > y) + 0.1 * rng.standard_normal(shape)
    return g.clip(0.0, 1.0).astype(np.float32)


@pytest.fixture
def mix(cuda):
    """Runs the fused kernel alone on planes (n, H, W), one image each, with weights (n, 6)."""

    def run(planes, weights, params, smooth=None, equalised=None):
        weights = np.asarray(weights, np.float32).reshape(len(planes), 1, 6)
        used = weights.max((0, 1)) > 0
        radii = [w // 2 if on else 0 for w, on in zip(params.windows(), used, strict=True)]
        made = kernels.local_mix(radii[2], params.bilateral_footprint == "disk", radii[3], radii[4])
        count, height, width = planes.shape
        state = cuda.to_device(planes.ravel())
        out = cuda.to_device(np.full(planes.size, np.nan, np.float32))
        others = [state if v is None else cuda.to_device(v.astype(np.float32).ravel()) for v in (smooth, equalised)]
        f32 = np.float32
        scalars = rounds._bilateral_scales(params)
        gauss = cuda.to_device(rounds._gaussian(params))
        tiles = -(-width // _tile.COLUMNS), -(-height // made.rows), count
        made.kernel[tiles, (_tile.COLUMNS, made.rows // _tile.RUN)](
            state, *others, out, height, width, cuda.to_device(weights), 0, 1, 0, 0, *scalars,
            gauss, f32(params.sharpen_amount), f32(params.sharpen_threshold),
            f32(params.guided_eps),
        )  # fmt: skip
        return out.copy_to_host().reshape(planes.shape)

    return run


def only(index, count=1):
    weights = np.zeros((count, 6))
    weights[:, index] = 1.0
    return weights


def expect(plane, index, params):
    return reference.filter_plane(index, plane.astype(np.float64), params).clip(0.0, 1.0)


@pytest.mark.parametrize("index", [BILATERAL, SHARPEN, GUIDED])
@pytest.mark.parametrize(("window", "shape"), [(3, (1, 31, 33)), (7, (1, 34, 32)), (15, (1, 15, 40))])
def test_each_filter_at_each_kind_of_window(mix, rng, index, window, shape):
    name = ("bilateral", "sharpen", "guided")[index - 2]
    params = FilterParams(**{f"{name}_window": window})
    planes = picture(rng, *shape)
    got = mix(planes, only(index), params)
    assert np.abs(got[0] - expect(planes[0], index, params)).max() < TOLERANCE


@pytest.mark.parametrize("window", [5, 9, 11, 13])
def test_windows_between(mix, rng, window):
    params = FilterParams(bilateral_window=window, sharpen_window=window, guided_window=window, guided_eps=1e-3)
    planes = picture(rng, 1, 13, 17)
    weights = [[0.0, 0.0, 0.4, 0.3, 0.3, 0.0]]
    got = mix(planes, weights, params)
    want = reference.enhance_plane(planes[0].astype(np.float64), weights, params)
    assert np.abs(got[0] - want).max() < TOLERANCE


@pytest.mark.parametrize(
    "settings",
    [
        {"bilateral_footprint": "disk"},
        {"bilateral_footprint": "disk", "bilateral_window": 15, "bilateral_sigma_space": 75.0},
        {"bilateral_sigma_range": 0.005, "bilateral_sigma_space": 0.1},
        {"bilateral_sigma_range": 10.0, "bilateral_sigma_space": 100.0},
    ],
)
def test_bilateral_over_its_parameters(mix, rng, settings):
    params = FilterParams(**settings)
    planes = picture(rng, 1, 16, 18)
    got = mix(planes, only(BILATERAL), params)
    assert np.abs(got[0] - expect(planes[0], BILATERAL, params)).max() < TOLERANCE


def test_sharpen_leaves_details_below_the_threshold(mix, rng):
    params = FilterParams(sharpen_threshold=0.05, sharpen_amount=2.0, sharpen_radius=0.7)
    planes = (0.3 + 0.4 * picture(rng, 1, 12, 14)).astype(np.float32)
    got = mix(planes, only(SHARPEN), params)
    want = expect(planes[0], SHARPEN, params)
    assert (want == planes[0]).any()
    assert (want != planes[0]).any()
    assert np.abs(got[0] - want).max() < TOLERANCE


def test_guided_with_the_least_eps(mix, rng):
    params = FilterParams(guided_eps=1e-4)
    planes = (0.9 + 0.01 * rng.standard_normal((1, 14, 12))).clip(0, 1).astype(np.float32)
    got = mix(planes, only(GUIDED), params)
    assert np.abs(got[0] - expect(planes[0], GUIDED, params)).max() < TOLERANCE


def test_a_flat_plane_stays_what_it_is(mix):
    planes = np.full((1, 9, 9), 0.7, np.float32)
    got = mix(planes, [[0.0, 0.0, 0.3, 0.3, 0.4, 0.0]], FilterParams())
    assert np.abs(got - planes).max() < 1e-6


def test_every_plane_has_its_own_weights(mix, rng):
    planes = picture(rng, 3, 9, 35)
    weights = np.array(
        [
            [0.1, 0.0, 0.2, 0.3, 0.4, 0.0],
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        ]
    )
    got = mix(planes, weights, FilterParams())
    for plane, row, result in zip(planes, weights, got, strict=True):
        want = reference.enhance_plane(plane.astype(np.float64), row[None], FilterParams())
        assert np.abs(result - want).max() < TOLERANCE


def test_terms_of_the_global_filters_are_added(mix, rng):
    planes, smooth, equalised = (
        picture(rng, 1, 10, 33),
        rng.random((1, 10, 33)),
        rng.random((1, 10, 33)),
    )
    got = mix(planes, [[0.2, 0.5, 0.0, 0.0, 0.0, 0.3]], FilterParams(), smooth, equalised)
    assert np.abs(got - (0.2 * planes + 0.5 * smooth + 0.3 * equalised)).max() < 1e-6


def test_terms_of_weight_zero_are_not_read(mix, rng):
    planes = picture(rng, 1, 9, 9)
    nothing = np.full((1, 9, 9), np.nan)
    np.testing.assert_array_equal(mix(planes, [[1.0, 0, 0, 0, 0, 0]], FilterParams(), nothing, nothing), planes)


def test_the_mix_is_clipped(mix):
    planes = np.zeros((1, 8, 8), np.float32)
    planes[0, 4:, :] = 1.0
    params = FilterParams(sharpen_amount=5.0)
    got = mix(planes, only(SHARPEN), params)
    assert got.min() == 0.0
    assert got.max() == 1.0
    assert reference.sharpen(
        planes[0].astype(float), window=7, amount=5.0, radius=1.5, threshold=0.0
    ).max() > 1.1  # fmt: skip


def test_every_choice_of_windows_fits_shared_memory():
    for bilateral, sharpen, guided in itertools.product(range(8), repeat=3):
        at = _tile.lay_out(bilateral, sharpen, guided)
        assert at.bytes(sharpen, guided) <= _tile.SHARED_BYTES
        assert at.rows % _tile.RUN == 0
        assert at.tile_pitch % 2 == at.box_pitch % 2 == at.half_pitch % 2 == 1


def test_a_grid_is_cut_into_launches_that_cover_it(monkeypatch):
    monkeypatch.setattr(_device, "GRID_LIMIT", 3)
    covered = np.zeros((7, 5), int)
    for y, z, along_y, along_z in _device.pieces(7, 5):
        assert along_y <= 3 >= along_z
        covered[y : y + along_y, z : z + along_z] += 1
    assert (covered == 1).all()
