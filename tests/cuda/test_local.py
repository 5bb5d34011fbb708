"""The fused kernel: each local filter, and the mix, against the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sdie_fast import FilterParams, filters, reference
from sdie_fast.cuda import LOCAL

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import local

TOLERANCE = 1e-5  # of the design, for every local filter
WINDOWED = [name for name in LOCAL if f"{name}_window" in filters.PARAMETERS]


def picture(rng, *shape):
    """Waves, noise and a step: values in [0, 1]."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    g = 0.5 + 0.25 * np.sin(x / 3.0 + y / 5.0) + 0.2 * (x > y) + 0.1 * rng.standard_normal(shape)
    return g.clip(0.0, 1.0).astype(np.float32)


def shares(*images, **weights):
    """Weights (n, 1, filters) of images, each by name; of one image as keywords."""
    rows = images or (weights,)
    return np.array([[[row.get(name, 0.0) for name in filters.TABLE]] for row in rows])


@pytest.fixture
def mix(cuda):
    """Runs the fused kernel alone on planes (n, H, W), one image each."""

    def run(planes, weights, params, smooth=None, equalised=None):
        count, height, width = planes.shape
        ends = local.Ends(local.columns_of(width), equalised=False, luma=False, integers=False)
        made = local.local_mix(local.parts_of(params, weights.any((0, 1))), ends)
        state = cuda.to_device(planes.ravel())
        out = cuda.to_device(np.full(planes.size, np.nan, np.float32))
        others = [state if v is None else cuda.to_device(v.astype(np.float32).ravel()) for v in (smooth, equalised)]
        images = cuda.to_device(np.zeros((1, 1, 1, 1), np.float32))
        made.kernel[made.grid(height, width, count), made.block](
            state, *others, state, height, width, cuda.to_device(weights.astype(np.float32)), 0, 1,
            cuda.to_device(local.numbers(params)), out, images, images, np.float32(1.0), 0, 0, 0,
        )  # fmt: skip
        return out.copy_to_host().reshape(planes.shape)

    return run


def assert_near(got, plane, weights, params, tolerance=TOLERANCE):
    want = reference.enhance_plane(plane.astype(np.float64), weights, params)
    error = np.abs(got - want)
    y, x = np.unravel_index(error.argmax(), error.shape)
    assert error.max() < tolerance, f"at row {y}, column {x}: {got[y, x]} instead of {want[y, x]}"


def simulator(*values, **options):
    """A case that the simulator takes long for."""
    return pytest.param(*values, marks=pytest.mark.simulator, **options)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(
    ("window", "height", "width"),
    [(3, 9, 33), simulator(3, 31, 33), simulator(7, 34, 32), simulator(15, 15, 40), simulator(11, 13, 17)],
)
def test_each_filter_at_each_kind_of_window(mix, rng, name, window, height, width):
    params = FilterParams(**({f"{name}_window": window} if name in WINDOWED else {}))
    planes = picture(rng, 1, height, width)
    weights = shares(**{name: 1.0})
    assert_near(mix(planes, weights, params)[0], planes[0], weights[0], params)


@pytest.mark.parametrize("window", [5, *(simulator(w) for w in (9, 13, 15))])
def test_all_filters_together(mix, rng, window):
    params = FilterParams(**{f"{name}_window": window for name in WINDOWED}, guided_eps=1e-3)
    planes = picture(rng, 1, 8, 9) if window == 5 else picture(rng, 1, 15, 17)
    weights = shares(**{name: 1 / len(LOCAL) for name in LOCAL})
    assert_near(mix(planes, weights, params)[0], planes[0], weights[0], params)


@pytest.mark.parametrize(
    "settings",
    [
        {"bilateral_footprint": "disk"},
        simulator({"bilateral_footprint": "disk", "bilateral_window": 15, "bilateral_sigma_space": 75.0}),
        simulator({"bilateral_sigma_range": 0.005, "bilateral_sigma_space": 0.1}),
        simulator({"bilateral_sigma_range": 10.0, "bilateral_sigma_space": 100.0}),
        {"gamma_exponent": 0.1},
        {"gamma_exponent": 10.0},
        {"gaussian_sigma": 0.1, "gaussian_window": 3},
        simulator({"gaussian_sigma": 100.0, "gaussian_window": 15}),
    ],
    ids=str,
)
def test_parameters(mix, rng, settings):
    params = FilterParams(**settings)
    planes = picture(rng, 1, 16, 18)
    planes[0, :3, :4] = 0.0, 1e-6, 0.5, 1.0
    weights = shares(**{next(iter(settings)).split("_")[0]: 1.0})
    assert_near(mix(planes, weights, params)[0], planes[0], weights[0], params)


def test_the_median_is_exact_and_one_of_the_pixels(mix, rng):
    """Also of few values, of tiny ones, and of black and white."""
    planes = picture(rng, 4, 8, 11)
    planes[1] = rng.integers(0, 3, (8, 11)) / 2
    planes[2] = rng.integers(0, 2, (8, 11))
    planes[3] *= 1e-30
    params = FilterParams(median_window=3)
    got = mix(planes, shares(*[{"median": 1.0}] * 4), params)
    for plane, result in zip(planes, got, strict=True):
        np.testing.assert_array_equal(result, params.of("median").reference(plane))


def test_sharpen_leaves_details_below_the_threshold(mix, rng):
    params = FilterParams(sharpen_threshold=0.05, sharpen_amount=2.0, sharpen_radius=0.7)
    planes = (0.3 + 0.4 * picture(rng, 1, 12, 14)).astype(np.float32)
    weights = shares(sharpen=1.0)
    got = mix(planes, weights, params)
    assert (got == planes).any()
    assert (got != planes).any()
    assert_near(got[0], planes[0], weights[0], params)


def test_guided_with_the_least_eps(mix, rng):
    params = FilterParams(guided_eps=1e-4)
    planes = (0.9 + 0.01 * rng.standard_normal((1, 14, 12))).clip(0, 1).astype(np.float32)
    weights = shares(guided=1.0)
    assert_near(mix(planes, weights, params)[0], planes[0], weights[0], params)


@pytest.mark.simulator
def test_a_flat_plane_stays_what_it_is(mix):
    planes = np.full((1, 9, 9), 0.7, np.float32)
    weights = shares(bilateral=0.2, sharpen=0.2, guided=0.2, median=0.2, gaussian=0.2)
    assert_near(mix(planes, weights, FilterParams())[0], planes[0], shares(identity=1.0)[0], FilterParams(), 1e-6)


def test_every_plane_has_its_own_weights(mix, rng):
    planes = picture(rng, 3, 9, 35)
    weights = shares(
        {"identity": 0.1, "bilateral": 0.2, "sharpen": 0.3, "guided": 0.4}, {"identity": 1.0}, {"sharpen": 1.0}
    )
    params = FilterParams(window=3)
    for plane, row, result in zip(planes, weights, mix(planes, weights, params), strict=True):
        assert_near(result, plane, row, params)


def test_terms_of_the_global_filters_are_added(mix, rng):
    planes, smooth, equalised = picture(rng, 1, 10, 33), rng.random((1, 10, 33)), rng.random((1, 10, 33))
    got = mix(planes, shares(identity=0.2, wls=0.5, spatiogram=0.3), FilterParams(), smooth, equalised)
    np.testing.assert_allclose(got, 0.2 * planes + 0.5 * smooth + 0.3 * equalised, atol=1e-6)


def test_terms_of_weight_zero_are_not_read(mix, rng):
    planes = picture(rng, 1, 9, 9)
    nothing = np.full((1, 9, 9), np.nan)
    np.testing.assert_array_equal(mix(planes, shares(identity=1.0), FilterParams(), nothing, nothing), planes)


def test_the_mix_is_clipped(mix):
    planes = np.zeros((1, 8, 8), np.float32)
    planes[0, 4:, :] = 1.0
    params = FilterParams(sharpen_amount=5.0, window=3)
    got = mix(planes, shares(sharpen=1.0), params)
    assert (got.min(), got.max()) == (0.0, 1.0)
    assert params.of("sharpen").reference(planes[0].astype(float)).max() > 1.1


def test_a_block_has_the_columns_that_fit_the_width():
    assert [local.columns_of(width) for width in (1, 32, 33, 40, 64, 80, 200, 256, 640, 1024)] == [
        32, 32, 40, 40, 32, 40, 40, 32, 32, 32,
    ]  # fmt: skip


@pytest.mark.parametrize("columns", local.COLUMNS)
def test_every_choice_of_windows_fits_shared_memory(columns):
    for chosen in itertools.product(range(8), repeat=len(WINDOWED)):
        if len(set(chosen)) > 3:
            continue  # as many as there are shapes of memory
        radii = zip(WINDOWED, chosen, strict=True)
        parts = (local.PARTS["identity"](), *(local.PARTS[name](radius) for name, radius in radii if radius))
        at = local.lay_out(parts, columns)
        assert local.shared_bytes(parts, at) <= local.SHARED_BYTES
        assert at.rows % local.RUN == 0
        assert at.threads >= local.WARP
        assert at.pitch % 4 == 1
