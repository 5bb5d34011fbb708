"""Exact WLS of images larger than a tile of the core's solver (256 pixels), against SciPy's direct solve."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast import FilterParams, filters

TOL = 1 / 510
core = pytest.importorskip("sdie_fast._core")


def noise(rng, h, w):
    """8-bit noise around a ramp: neighbours of equal value, whose edges are strong, lie across the tiles' borders."""
    ramp = np.linspace(80, 160, w) + np.linspace(0, 30, h)[:, None]
    return np.round(ramp + 6 * rng.standard_normal((h, w)))


def nearly_flat(rng, h, w):
    """Two levels with rare specks: values travel as far as they can."""
    g = np.full((h, w), 100.0)
    g[:, w // 3 :] = 101.0
    g[rng.random((h, w)) < 0.002] = 140.0
    return g


def stripes(_rng, h, w):
    """Lines of one value from edge to edge, each tied to itself 1e4 times as strongly as to the next."""
    return np.repeat(np.where(np.arange(h) % 7 < 3, 40.0, 200.0)[:, None], w, axis=1)


def black(rng, h, w):
    """Clipped blacks: clusters of zeros, whose surroundings hold them loosely."""
    return np.clip(np.round(10 + 25 * rng.standard_normal((h, w))), 0, 255)


def even_region(rng, h, w):
    """Coarse noise around an even ellipse that four tiles share: its level is what they agree on last."""
    y, x = np.mgrid[:h, :w]
    inside = ((y / h - 0.6) ** 2 + (x / w - 0.6) ** 2) < 0.3**2
    around = np.clip(np.round(120 + 25 * rng.standard_normal((h, w))), 0, 255)
    return np.where(inside, np.round(90 + 0.4 * rng.standard_normal((h, w))), around)


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("picture", [noise, nearly_flat, stripes, black])
@pytest.mark.parametrize("size", [(300, 270), (41, 700), (530, 33)])
def test_tiles_give_the_solution_of_the_whole(isa, picture, size, rng):
    g = (picture(rng, *size) / 255).astype(np.float32)
    got = np.empty_like(g)
    params = FilterParams(wls_solver="exact")
    call(g, got, params, isa, threads=1)
    wanted = solution(picture, size, g)
    worst = np.unravel_index(np.abs(got - wanted).argmax(), g.shape)
    assert abs(got[worst] - wanted[worst]) <= TOL, f"at {worst}: {got[worst]}, should be {wanted[worst]}"


@pytest.mark.parametrize("lambda_", [0.05, 4.0, 5.0])  # above 4 the image is one tile
def test_weak_and_strong_smoothing(lambda_, rng):
    g = (noise(rng, 290, 310) / 255).astype(np.float32)
    got = filters.wls(g, lambda_=lambda_, backend="cpu")
    assert np.abs(got - filters.wls(g, lambda_=lambda_, backend="reference")).max() <= TOL


@pytest.mark.parametrize("lambda_", [1.0, 4.0])
def test_even_regions_that_tiles_share(lambda_, rng):
    g = (even_region(rng, 300, 420) / 255).astype(np.float32)
    got = filters.wls(g, lambda_=lambda_, backend="cpu")
    assert np.abs(got - filters.wls(g, lambda_=lambda_, backend="reference")).max() <= TOL


def test_threads_change_nothing(rng):
    g = (noise(rng, 530, 560) / 255).astype(np.float32)
    one = filters.wls(g, backend="cpu", threads=1)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(filters.wls(g, backend="cpu", threads=threads), one)


def test_a_tighter_tolerance_is_kept_across_tiles(rng):
    g = (noise(rng, 280, 520) / 255).astype(np.float32)
    wanted = filters.wls(g, backend="reference")
    for tol in (1e-2, 1e-3, 1e-4):
        assert np.abs(filters.wls(g, tol=tol, backend="cpu") - wanted).max() <= tol


def test_memory_does_not_grow_with_the_image():
    from sdie_fast import _backends

    params = _backends.core_params(FilterParams())
    weights = np.ones((1, 1, len(core.filters())), np.float32)
    small, large = (core.workspace_bytes(side, 2048, params, weights) for side in (1024, 4096))
    assert (large - small) / (4 * 3072 * 2048) < 4.5  # float32 planes: u, two weights and the state


SOLUTIONS = {}  # one for all instruction sets


def solution(picture, size, g):
    """SciPy's, computed once: the generator of random numbers starts anew for each test."""
    if (picture, size) not in SOLUTIONS:
        SOLUTIONS[picture, size] = g, filters.wls(g, backend="reference")
    known, wanted = SOLUTIONS[picture, size]
    np.testing.assert_array_equal(known, g)
    return wanted


def call(image, out, params, isa, threads):
    """Apply WLS alone, by one instruction set."""
    from sdie_fast import _backends

    weights = np.zeros((1, 1, len(core.filters())), np.float32)
    weights[..., core.filters().index("wls")] = 1.0
    core.enhance(
        image[None, ..., None], out[None, ..., None], weights, _backends.core_params(params), 1.0, False, threads, isa
    )
