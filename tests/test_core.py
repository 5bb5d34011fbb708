"""Every instruction set of the compiled core against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdie_fast import FilterParams, _backends, reference
from sdie_fast.filters import FILTERS, PARAMETERS, TABLE

core = pytest.importorskip("sdie_fast._core", reason="the compiled module is not there")
ISAS = core.isas()
LANES = 16  # the longest vector
# Around the vector's length, the spatiogram's blocks (16 rows), the bands (128) and the strips (512).
SIZES = [
    (7, 7),
    (7, 9),
    (15, 16),
    (16, 17),
    (17, 15),
    (31, 33),
    (33, 64),
    (129, 31),
    (8, 130),
    (70, 7),
    (128, 65),
]
LOCAL = tuple(name for name, cls in TABLE.items() if not cls.whole_image)
WINDOWED = tuple(name for name in LOCAL if TABLE[name]().reach())
TOLERANCE = {"identity": 1e-6, "median": 0.0}  # of local filters, where it is not 1e-5
WHOLE = 1 / 510  # exact WLS, the spatiogram filter, a whole round


def at_sizes(*sizes):
    return pytest.mark.parametrize("size", [pytest.param(s, id=f"{s[0]}x{s[1]}") for s in sizes])


def weights(*rounds, **single):
    """Weights (T, F) of rounds given as dictionaries by name, or of one given by keywords."""
    return np.array([[w.get(name, 0.0) for name in TABLE] for w in rounds or (single,)], np.float32)


UNIFORM = weights(dict.fromkeys(FILTERS, 1))


def texture(rng, h, w, contrast=0.25):
    """A strip-like plane: texture along x, a gradient, a dark and a bright blob."""
    y, x = np.mgrid[:h, :w]
    g = 0.5 + 0.1 * np.sin(x / 5.0 + rng.random()) + contrast * (rng.random((h, w)) - 0.5)
    g += 0.15 * x / max(w, 1)
    g[(y - h / 3) ** 2 + (x - w / 2) ** 2 < (min(h, w) / 6) ** 2] *= 0.15
    return np.clip(g, 0.0, 1.0).astype(np.float32)


def call(src, dst, w, params, isa="", *, white=1.0, threads=1):
    """Hand planes (N, H, W) to the compiled core as they lie."""
    w = np.broadcast_to(w, (len(src), *np.shape(w)[-2:])).astype(np.float32)
    w = np.ascontiguousarray(w / w.sum(axis=-1, keepdims=True))
    core.enhance(src[..., None], dst[..., None], w, _backends.core_params(params), white, False, threads, isa)


def run(plane, w, params, isa, *, threads=1):
    """One float32 plane through the compiled core, into an array that tells what was not written."""
    dst = np.full(plane.shape, np.nan, np.float32)
    call(plane[None], dst[None], w, params, isa, threads=threads)
    return dst


def agree(got, wanted, tolerance, what=""):
    """Assert that no pixel is further off than the tolerance; say which is furthest, and both its values."""
    miss = np.abs(got.astype(np.float64) - wanted)
    worst = tuple(map(int, np.unravel_index(np.argmax(np.where(np.isnan(miss), np.inf, miss)), miss.shape)))
    assert miss[worst] <= tolerance, (
        f"{what} pixel {worst} of {got.shape}: got {got[worst]!r}, wanted {wanted[worst]!r}"
    )


def check(plane, w, params, isa, tolerance, what=""):
    """Compare the compiled core with the reference; returns what it gave."""
    got = run(plane, w, params, isa)
    agree(got, reference.enhance_plane(plane.astype(np.float64), w, params), tolerance, what)
    return got


def test_filters_and_parameters_are_the_table_s():
    assert core.filters() == tuple(TABLE)
    usual = FilterParams().resolved()
    theirs = [(n, p.kind, p.low, p.high, p.choices, p.above, p.odd, usual[n]) for n, p in PARAMETERS.items()]
    assert sorted(core.parameters()) == sorted(theirs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("median_window", 4),
        ("median_window", 17),
        ("bilateral_window", 7.5),
        ("wls_lambda", 0),
        ("gamma_exponent", 10.1),
        ("gamma_exponent", float("nan")),
        ("guided_eps", "much"),
        ("wls_solver", "quick"),
        ("spatiogram_method", 1),
        ("spatiogram_bins", None),
        ("hue", 1),
    ],
)
def test_parameters_that_are_not_accepted_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        core.Params({**FilterParams().resolved(), name: value})


def test_a_missing_parameter_is_named():
    values = FilterParams().resolved()
    del values["guided_eps"]
    with pytest.raises(ValueError, match="guided_eps"):
        core.Params(values)


@pytest.mark.parametrize("isa", ISAS)
@at_sizes(*SIZES)
@pytest.mark.parametrize("name", LOCAL)
def test_local_filters(isa, size, name, rng):
    params = FilterParams(bilateral_footprint="disk" if size[0] % 2 else "square")
    check(texture(rng, *size), weights(**{name: 1}), params, isa, TOLERANCE.get(name, 1e-5))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 13, 15])
@pytest.mark.parametrize("name", WINDOWED)
def test_windows(isa, window, name, rng):
    # Odd rows, and columns that neither a block of the median filter nor a strip ends with.
    for size in ((window, window), (37, 41), (9 + window, 530)):
        params = FilterParams(**{f"{name}_window": window})
        check(texture(rng, *size), weights(**{name: 1}), params, isa, TOLERANCE.get(name, 1e-5), f"{size}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", LOCAL)
def test_dtypes_and_strides(isa, dtype, name, rng):
    """A batch in place in a larger array, misaligned, upside down and mirrored, gives what its planes do."""
    white = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    room = np.zeros((3, 30, 2 * 45 + 1), dtype)
    src = room[:, 28:1:-1, -1:0:-2]
    src[...] = (
        np.round(np.stack([texture(rng, 27, 45) for _ in range(3)]) * white) if white > 1 else rng.random(src.shape)
    )
    out = np.zeros((3, 40, 60), dtype)
    dst = out[:, 3:30, 7:52]
    w = weights(**{name: 1})
    call(src, dst, w, FilterParams(), isa, white=white)
    for plane, got in zip(src, dst, strict=True):
        wanted = reference.enhance_plane(plane / np.float64(white), w, FilterParams()) * white
        agree(got, wanted, max(TOLERANCE.get(name, 1e-5), 1e-6) if white == 1 else 0.5 + white * 1e-5)
        alone = np.empty(plane.shape, dtype)
        call(np.ascontiguousarray(plane)[None], alone[None], w, FilterParams(), isa, white=white)
        assert np.array_equal(alone, got)
    out[:, 3:30, 7:52] = 0
    assert not out.any(), "written beside the output"


@pytest.mark.parametrize("isa", ISAS)
def test_local_parameters(isa, rng):
    plane = texture(rng, 33, 47, contrast=0.9)
    plane[5, 5:9] = 0.0, 1.0, 1e-7, 1e-35
    for name, values in (
        ("bilateral", {"sigma_range": 0.005, "sigma_space": 0.3}),  # weights down to 2^-126
        ("bilateral", {"sigma_range": 10.0, "sigma_space": 50.0}),
        ("guided", {"eps": 1e-4}),
        *(("gamma", {"exponent": e}) for e in (0.1, 0.5, 1.0, 2.2, 10.0)),
        *(("gaussian", {"sigma": s}) for s in (0.1, 0.7, 100.0)),
    ):
        params = FilterParams(**{f"{name}_{key}": value for key, value in values.items()})
        check(plane, weights(**{name: 1}), params, isa, 1e-5, f"{name} {values}")
    # The threshold is a step: pixels within rounding of it may fall on either side.
    params = FilterParams(sharpen_threshold=0.1, sharpen_amount=3.0, sharpen_radius=0.7)
    w = weights(sharpen=1)
    wrong = np.abs(run(plane, w, params, isa) - reference.enhance_plane(plane.astype(np.float64), w, params))
    assert np.count_nonzero(wrong > 1e-5) <= 1


@pytest.mark.parametrize("isa", ISAS)
def test_median_of_few_levels(isa, rng):
    """Equal values everywhere: the exact answer is an input value all the same."""
    for levels in (2, 3, 256):
        plane = (rng.integers(0, levels, (50, 71)) / (levels - 1)).astype(np.float32)
        got = check(plane, weights(median=1), FilterParams(), isa, 0.0, f"{levels} levels")
        assert np.isin(got, plane).all()


@pytest.mark.parametrize("isa", ISAS)
@at_sizes(*SIZES, (130, 200), (1, 7), (7, 1), (2, 3))
def test_fast_wls(isa, size, rng):
    params = FilterParams(wls_solver="fast", wls_domain="lightness" if size[1] % 2 else "intensity")
    check(texture(rng, *size), weights(wls=1), params, isa, 5e-6)


@pytest.mark.parametrize("isa", ISAS)
@at_sizes(*SIZES, (130, 200), (1, 130), (130, 1), (2, 3), (300, 9))
@pytest.mark.parametrize("contrast", [0.02, 0.25, 1.0])
def test_exact_wls(isa, size, contrast, rng):
    plane = np.round(texture(rng, *size, contrast=contrast) * 255) / np.float32(255)  # flat spots: weights of 1e4
    check(plane, weights(wls=1), FilterParams(wls_solver="exact"), isa, WHOLE)


@pytest.mark.parametrize("lambda_", [0.01, 0.125, 10.0, 100.0])
@pytest.mark.parametrize("alpha", [0.6, 1.2, 2.0])
def test_exact_wls_parameters(lambda_, alpha, rng):
    plane = np.round(texture(rng, 70, 90) * 255) / np.float32(255)
    params = FilterParams(wls_lambda=lambda_, wls_alpha=alpha, wls_domain="lightness")
    check(plane, weights(wls=1), params, "", WHOLE)


def test_exact_wls_tolerance(rng):
    plane = np.round(texture(rng, 90, 110) * 255) / np.float32(255)
    truth = reference.enhance_plane(plane.astype(np.float64), weights(wls=1), FilterParams())
    steps = []
    for tol in (1e-1, 1e-2, 1e-3, 1e-4):
        params = FilterParams(wls_tol=tol)
        agree(run(plane, weights(wls=1), params, ""), truth, tol, f"tol {tol}")
        steps.append(core.wls_info(plane, _backends.core_params(params))["iterations"])
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] <= 40


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("levels", [2, 3, 5])
def test_exact_wls_of_random_patches(isa, levels, rng):
    """Random clusters coupled 1e5-fold: what the quick phase of the solver cannot do."""
    plane = (rng.integers(0, levels, (60, 77)) / (levels - 1)).astype(np.float32)
    for params in (FilterParams(), FilterParams(wls_lambda=100.0)):
        check(plane, weights(wls=1), params, isa, WHOLE, str(params))


@pytest.mark.parametrize("isa", ISAS)
def test_small_alpha_keeps_equal_pixels_tied(isa, rng):
    plane = (rng.integers(0, 4, (40, 50)) / 3).astype(np.float32)
    for solver in ("fast", "exact"):
        params = FilterParams(wls_alpha=0.2, wls_solver=solver)
        check(plane, weights(wls=1), params, isa, WHOLE, str(params))


@pytest.mark.parametrize("kind", ["Steel_In", "Steel_Pa", "Steel_Sc", "MT_Crack"])
def test_exact_wls_on_real_images(kind, data):
    """Dark patches with clipped blacks are the hard case: clusters that no multigrid level sees."""
    for path in sorted((data / "defects-dev" / kind / "Images").iterdir())[::12]:
        plane = np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)
        plane = np.ascontiguousarray(plane[:256, :256])
        check(plane, weights(wls=1), FilterParams(), "", WHOLE, path.name)
        assert core.wls_info(plane, _backends.core_params(FilterParams()))["iterations"] <= 30


@pytest.mark.parametrize("isa", ISAS)
@at_sizes(*SIZES, (140, 530))
@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
def test_spatiogram(isa, size, method, rng):
    params = FilterParams(spatiogram_method=method, spatiogram_tiles=3)
    check(texture(rng, *size), weights(spatiogram=1), params, isa, WHOLE if method == "spatiogram" else 1e-5)


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
        check(plane, weights(spatiogram=1), params, isa, WHOLE, name)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("solver", ["fast", "exact"])
def test_whole_rounds(isa, solver, rng):
    params = FilterParams(wls_solver=solver)
    several = weights(
        {"identity": 2, "wls": 1, "sharpen": 3, "guided": 1, "median": 1},
        {"bilateral": 1, "spatiogram": 2},
        {"identity": 1, "wls": 4, "gamma": 1, "gaussian": 2, "guided": 1, "spatiogram": 1},
    )
    for w in (UNIFORM, weights(dict.fromkeys(TABLE, 1)), several):
        check(texture(rng, 67, 83), w, params, isa, WHOLE)


@pytest.mark.parametrize("isa", ISAS)
def test_published_code_parameters(isa, rng):
    params = FilterParams.published_code()
    plane = texture(rng, 75, 100)
    for rounds in (1, 4):
        check(plane, np.repeat(UNIFORM, rounds, axis=0), params, isa, WHOLE, f"{rounds} rounds")


@pytest.mark.parametrize("solver", ["fast", "exact"])
def test_threads_do_not_change_results(solver, rng):
    """Large planes are split into bands: sums, strips and colours must not depend on the cut."""
    plane = texture(rng, 300, 530)
    params = FilterParams(wls_solver=solver)
    w = weights(dict.fromkeys(TABLE, 1), {"wls": 2, "guided": 1, "spatiogram": 1, "median": 1})
    alone = run(plane, w, params, "")
    for threads in (2, 3, 7):
        agree(run(plane, w, params, "", threads=threads), alone, 0.0, f"{threads} threads")


def test_batches_are_their_images(rng):
    params = FilterParams(wls_solver="fast")
    planes = np.stack([texture(rng, 40, 50) for _ in range(7)])
    w = rng.random((7, 3, len(TABLE)))
    w[:, :, rng.integers(len(TABLE))] = 0
    for threads in (1, 2, 5):
        dst = np.empty_like(planes)
        call(planes, dst, w, params, threads=threads)
        for k, (plane, got) in enumerate(zip(planes, dst, strict=True)):
            agree(got, run(plane, w[k], params, ""), 0.0, f"image {k}, {threads} threads:")


def test_what_other_calls_left_in_memory_does_not_show(rng):
    """Memory is used again: what calls of other filters and sizes left there must not matter."""
    params = FilterParams()
    w = weights(dict.fromkeys(TABLE, 1), dict.fromkeys(TABLE, 1))
    small, large = texture(rng, 33, 41), texture(rng, 120, 150)
    first = run(small, w, params, "")
    run(large, w, params, "")
    for name in TABLE:
        run(np.ones((33, 41), np.float32), weights(**{name: 1}), params, "")
        assert np.array_equal(run(small, w, params, ""), first), name


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
    w = rng.random((rounds, len(TABLE))) * (rng.random((rounds, len(TABLE))) < 0.7)
    w[:, 0] += 1e-3
    check(plane, w, FilterParams(wls_solver=solver), isa, rounds * WHOLE)


def workspace(h, w, by_name, **parameters):
    params = _backends.core_params(FilterParams(**parameters))
    return core.workspace_bytes(h, w, params, np.ascontiguousarray(weights(by_name)[None]))


def test_memory_of_a_wide_frame():
    """float32 planes beside input and output for one round of a 16,384 x 1,024 frame."""

    def planes(solver):
        return workspace(1024, 16384, dict.fromkeys(TABLE, 1), wls_solver=solver) / (4 * 1024 * 16384)

    assert planes("fast") <= 4.2
    assert planes("exact") <= 13.2


@pytest.mark.parametrize("name", list(TABLE)[1:])
def test_a_filter_without_weight_takes_no_memory(name):
    least = workspace(64, 64, {"identity": 1})
    assert workspace(64, 64, {"identity": 1, name: 0}) == least
    assert (workspace(64, 64, {"identity": 1, name: 1}) > least) == (name != "gamma")


def test_instruction_sets():
    assert core.active_isa() in ISAS
    with pytest.raises(ValueError, match="x86-64-v9"):
        run(np.zeros((9, 9), np.float32), weights(identity=1), FilterParams(), "x86-64-v9")


def test_unknown_instruction_set_in_the_environment(python):
    said = python(
        "try:\n import sdie_fast._core\nexcept ImportError as e:\n print(e)\nexcept Exception as e:\n print(type(e), e)",
        SDIE_FAST_ISA="pentium",
    )
    assert "pentium" in said
    assert ISAS[0] in said
