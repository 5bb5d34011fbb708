"""Every instruction set of the compiled core against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdie_fast import FILTERS, FilterParams, _backends, reference

core = pytest.importorskip("sdie_fast._core", reason="the compiled module is not there")

ISAS = core.isas()
LANES = 16  # the longest vector
# Around the vector's length, the cells of the spatiogram filter, the bands (64) and the strips (512).
SIZES = [
    (7, 7),
    (7, 9),
    (15, 16),
    (16, 17),
    (17, 15),
    (31, 33),
    (33, 64),
    (65, 31),
    (8, 130),
    (70, 7),
    (64, 65),
]
TOLERANCE = {"identity": 1e-6, "bilateral": 1e-5, "sharpen": 1e-5, "guided": 1e-5}
WHOLE = 1 / 510  # exact WLS, the spatiogram filter, a whole round


def one_hot(name):
    return np.eye(6, dtype=np.float32)[FILTERS.index(name)][None]


def texture(rng, h, w, contrast=0.25):
    """A strip-like plane: texture along x, a gradient, a dark and a bright blob."""
    y, x = np.mgrid[:h, :w]
    g = 0.5 + 0.1 * np.sin(x / 5.0 + rng.random()) + contrast * (rng.random((h, w)) - 0.5)
    g += 0.15 * x / max(w, 1)
    g[(y - h / 3) ** 2 + (x - w / 2) ** 2 < (min(h, w) / 6) ** 2] *= 0.15
    return np.clip(g, 0.0, 1.0).astype(np.float32)


def run(plane, weights, params, isa, *, threads=1):
    """One float32 plane through the compiled core, into an array that tells what was not written."""
    weights = np.asarray(weights, np.float32).reshape(1, -1, 6)
    weights = np.ascontiguousarray(weights / weights.sum(axis=-1, keepdims=True))
    src = plane[None, :, :, None]
    dst = np.full(src.shape, np.nan, np.float32)
    core.enhance(src, dst, weights, _backends.core_params(params), 1.0, False, threads, isa)
    return dst[0, :, :, 0]


def expect(plane, weights, params):
    return reference.enhance_plane(plane.astype(np.float64), np.atleast_2d(weights), params)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["identity", "bilateral", "sharpen", "guided"])
def test_local_filters(isa, size, name, rng):
    plane = texture(rng, *size)
    params = FilterParams(bilateral_footprint="disk" if size[0] % 2 else "square")
    got = run(plane, one_hot(name), params, isa)
    assert np.abs(got - expect(plane, one_hot(name), params)).max() <= TOLERANCE[name]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("window", [3, 5, 9, 11, 13, 15])
@pytest.mark.parametrize("name", ["bilateral", "sharpen", "guided"])
def test_windows(isa, window, name, rng):
    plane = texture(rng, 37, 41)
    params = FilterParams(**{f"{name}_window": window})
    got = run(plane, one_hot(name), params, isa)
    assert np.abs(got - expect(plane, one_hot(name), params)).max() <= TOLERANCE[name]


@pytest.mark.parametrize("isa", ISAS)
def test_local_parameters(isa, rng):
    plane = texture(rng, 33, 47, contrast=0.9)
    for params in (
        FilterParams(bilateral_sigma_range=0.005, bilateral_sigma_space=0.3),  # weights down to 2^-126
        FilterParams(bilateral_sigma_range=10.0, bilateral_sigma_space=50.0),
        FilterParams(sharpen_threshold=0.1, sharpen_amount=3.0, sharpen_radius=0.7),
        FilterParams(guided_eps=1e-4),
    ):
        for name in ("bilateral", "guided"):
            got = run(plane, one_hot(name), params, isa)
            assert np.abs(got - expect(plane, one_hot(name), params)).max() <= 1e-5
    # The threshold is a step: pixels within rounding of it may fall on either side.
    params = FilterParams(sharpen_threshold=0.1, sharpen_amount=3.0, sharpen_radius=0.7)
    wrong = np.abs(run(plane, one_hot("sharpen"), params, isa) - expect(plane, one_hot("sharpen"), params))
    assert np.count_nonzero(wrong > 1e-5) <= 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [*SIZES, (130, 200), (1, 7), (7, 1), (2, 3)])
def test_fast_wls(isa, size, rng):
    plane = texture(rng, *size)
    params = FilterParams(wls_solver="fast", wls_domain="lightness" if size[1] % 2 else "intensity")
    got = run(plane, one_hot("wls"), params, isa)
    assert np.abs(got - expect(plane, one_hot("wls"), params)).max() <= 5e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [*SIZES, (130, 200), (1, 130), (130, 1), (2, 3), (300, 9)])
@pytest.mark.parametrize("contrast", [0.02, 0.25, 1.0])
def test_exact_wls(isa, size, contrast, rng):
    plane = np.round(texture(rng, *size, contrast=contrast) * 255) / np.float32(255)  # flat spots: weights of 1e4
    params = FilterParams(wls_solver="exact")
    got = run(plane, one_hot("wls"), params, isa)
    assert np.abs(got - expect(plane, one_hot("wls"), params)).max() <= WHOLE


@pytest.mark.parametrize("lambda_", [0.01, 0.125, 10.0, 100.0])
@pytest.mark.parametrize("alpha", [0.6, 1.2, 2.0])
def test_exact_wls_parameters(lambda_, alpha, rng):
    plane = np.round(texture(rng, 70, 90) * 255) / np.float32(255)
    params = FilterParams(wls_lambda=lambda_, wls_alpha=alpha, wls_domain="lightness")
    got = run(plane, one_hot("wls"), params, "")
    assert np.abs(got - expect(plane, one_hot("wls"), params)).max() <= WHOLE


def test_exact_wls_tolerance(rng):
    plane = np.round(texture(rng, 90, 110) * 255) / np.float32(255)
    truth = expect(plane, one_hot("wls"), FilterParams())
    steps = []
    for tol in (1e-1, 1e-2, 1e-3, 1e-4):
        params = FilterParams(wls_tol=tol)
        assert np.abs(run(plane, one_hot("wls"), params, "") - truth).max() <= tol
        steps.append(core.wls_info(plane, _backends.core_params(params))["iterations"])
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] <= 40


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("levels", [2, 3, 5])
def test_exact_wls_of_random_patches(isa, levels, rng):
    """Random clusters coupled 1e5-fold: what the quick phase of the solver cannot do."""
    plane = (rng.integers(0, levels, (60, 77)) / (levels - 1)).astype(np.float32)
    for params in (FilterParams(), FilterParams(wls_lambda=100.0)):
        got = run(plane, one_hot("wls"), params, isa)
        assert np.abs(got - expect(plane, one_hot("wls"), params)).max() <= WHOLE


@pytest.mark.parametrize("isa", ISAS)
def test_small_alpha_keeps_equal_pixels_tied(isa, rng):
    plane = (rng.integers(0, 4, (40, 50)) / 3).astype(np.float32)
    for solver in ("fast", "exact"):
        params = FilterParams(wls_alpha=0.2, wls_solver=solver)
        got = run(plane, one_hot("wls"), params, isa)
        assert np.abs(got - expect(plane, one_hot("wls"), params)).max() <= WHOLE


@pytest.mark.parametrize("kind", ["Steel_In", "Steel_Pa", "Steel_Sc", "MT_Crack"])
def test_exact_wls_on_real_images(kind, data):
    """Dark patches with clipped blacks are the hard case: clusters that no multigrid level sees."""
    for path in sorted((data / "defects-dev" / kind / "Images").iterdir())[::12]:
        plane = np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)
        plane = np.ascontiguousarray(plane[:256, :256])
        got = run(plane, one_hot("wls"), FilterParams(), "")
        assert np.abs(got - expect(plane, one_hot("wls"), FilterParams())).max() <= WHOLE, path.name
        assert core.wls_info(plane, _backends.core_params(FilterParams()))["iterations"] <= 30


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [*SIZES, (140, 530)])
@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
def test_spatiogram(isa, size, method, rng):
    plane = texture(rng, *size)
    params = FilterParams(spatiogram_method=method, spatiogram_tiles=3)
    got = run(plane, one_hot("spatiogram"), params, isa)
    assert np.abs(got - expect(plane, one_hot("spatiogram"), params)).max() <= (
        WHOLE if method == "spatiogram" else 1e-5
    )


def scenes(rng):
    """Planes whose bins sit in hard places: halves, specks, stripes, ramps, a bright scratch."""
    y, x = np.mgrid[:96, :160]
    noise = 0.02 * rng.standard_normal((96, 160))
    speck = 0.4 + noise
    speck[50:52, 77:80] = 0.97
    scratch = 0.3 + noise
    scratch[np.abs(x - 60 - y / 3) < 1.5] = 0.9
    return {
        "halves": np.where(x < 80, 0.3, 0.7) + noise,
        "speck": speck,
        "stripes": 0.5 + 0.3 * np.sign(np.sin(x / 3)) + noise,
        "ramp": x / 160 + noise,
        "corner": np.where((x < 20) & (y < 20), 0.9, 0.35 + 0.2 * y / 96) + noise,
        "scratch": scratch,
        "constant": np.full((96, 160), 0.37),
        "black and white": np.where((x + y) % 2, 0.0, 1.0),
    }


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bins", [2, 7, 32, 64])
def test_spatiogram_of_hard_scenes(isa, bins, rng):
    params = FilterParams(spatiogram_bins=bins)
    for name, scene in scenes(rng).items():
        plane = np.clip(scene, 0, 1).astype(np.float32)
        got = run(plane, one_hot("spatiogram"), params, isa)
        assert np.abs(got - expect(plane, one_hot("spatiogram"), params)).max() <= WHOLE, name


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("solver", ["fast", "exact"])
def test_whole_rounds(isa, solver, rng):
    params = FilterParams(wls_solver=solver)
    for weights in (np.ones((1, 6)), [[2, 1, 0, 3, 1, 0], [0, 0, 1, 0, 0, 2], [1, 4, 0, 0, 1, 1]]):
        plane = texture(rng, 67, 83)
        assert np.abs(run(plane, weights, params, isa) - expect(plane, weights, params)).max() <= WHOLE


@pytest.mark.parametrize("isa", ISAS)
def test_published_code_parameters(isa, rng):
    params = FilterParams.published_code()
    plane = texture(rng, 75, 100)
    for weights in (np.ones((1, 6)), np.ones((4, 6))):
        assert np.abs(run(plane, weights, params, isa) - expect(plane, weights, params)).max() <= WHOLE


@pytest.mark.parametrize("solver", ["fast", "exact"])
def test_threads_do_not_change_results(solver, rng):
    """Large planes are split into bands: sums, strips and colours must not depend on the cut."""
    plane = texture(rng, 300, 530)
    params = FilterParams(wls_solver=solver)
    weights = [[1, 1, 1, 1, 1, 1], [0, 2, 0, 0, 1, 1]]
    alone = run(plane, weights, params, "")
    for threads in (2, 3, 7):
        assert np.array_equal(run(plane, weights, params, "", threads=threads), alone)


def test_batches_are_their_images(rng):
    params = FilterParams(wls_solver="fast")
    planes = np.stack([texture(rng, 40, 50) for _ in range(7)])
    weights = rng.random((7, 3, 6)).astype(np.float32)
    weights[:, :, rng.integers(6)] = 0
    weights /= weights.sum(axis=-1, keepdims=True)
    for threads in (1, 2, 5):
        dst = np.empty_like(planes)
        core.enhance(
            planes[..., None],
            dst[..., None],
            weights,
            _backends.core_params(params),
            1.0,
            False,
            threads,
        )
        for plane, w, got in zip(planes, weights, dst, strict=True):
            alone = np.empty_like(plane)
            core.enhance(
                plane[None, :, :, None],
                alone[None, :, :, None],
                w[None],
                _backends.core_params(params),
                1.0,
                False,
                1,
            )
            assert np.array_equal(got, alone)


def test_workspace_left_by_another_size_does_not_show(rng):
    """The calling thread keeps its workspace: what an earlier call left there must not matter."""
    params = FilterParams()
    weights = [[1, 1, 1, 1, 1, 1]] * 2
    small, large = texture(rng, 33, 41), texture(rng, 120, 150)
    first = run(small, weights, params, "")
    run(large, weights, params, "")
    run(np.ones((90, 91), np.float32), weights, params, "")
    assert np.array_equal(run(small, weights, params, ""), first)


@given(
    height=st.integers(7, 70),
    width=st.integers(7, 70),
    seed=st.integers(0, 2**32 - 1),
    isa=st.sampled_from(ISAS),
    levels=st.sampled_from([2, 5, 256, 65536]),
    solver=st.sampled_from(["fast", "exact"]),
    rounds=st.integers(1, 3),
)
def test_any_image(height, width, seed, isa, levels, solver, rounds):
    rng = np.random.default_rng(seed)
    plane = (rng.integers(0, levels, (height, width)) / (levels - 1)).astype(np.float32)
    weights = rng.random((rounds, 6)) * (rng.random((rounds, 6)) < 0.7)
    weights[:, 0] += 1e-3
    params = FilterParams(wls_solver=solver)
    got = run(plane, weights, params, isa)
    assert np.abs(got - expect(plane, weights, params)).max() <= rounds * WHOLE


def test_memory_of_a_wide_frame():
    """float32 planes beside input and output for one round of a 16,384 x 1,024 frame."""
    weights = np.full((1, 1, 6), 1 / 6, np.float32)

    def planes(solver):
        params = _backends.core_params(FilterParams(wls_solver=solver))
        return core.workspace_bytes(1024, 16384, params, weights) / (4 * 1024 * 16384)

    assert planes("fast") <= 4.2
    assert planes("exact") <= 13.2


def test_instruction_sets():
    assert core.active_isa() in ISAS
    with pytest.raises(ValueError, match="x86-64-v9"):
        run(np.zeros((9, 9), np.float32), one_hot("identity"), FilterParams(), "x86-64-v9")


def test_unknown_instruction_set_in_the_environment(python):
    said = python(
        "try:\n import sdie_fast._core\nexcept ImportError as e:\n print(e)\nexcept Exception as e:\n print(type(e), e)",
        SDIE_FAST_ISA="pentium",
    )
    assert "pentium" in said
    assert ISAS[0] in said
