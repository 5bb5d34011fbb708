"""The reference's weighted least squares against dense matrices and scikit-image's CIE L*."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from sdie_fast.filters.wls import Wls, from_lightness, to_lightness

color = pytest.importorskip("skimage.color")

WLS = {"lambda_": 1.0, "alpha": 1.2, "solver": "exact", "domain": "intensity"}


def wls(g, **parameters):
    """Apply the reference."""
    return Wls(**parameters).reference(g)


def dense_matrix(g, alpha, lambda_):
    """I + lambda L, entry by entry."""
    h, w = g.shape
    matrix = np.eye(h * w)
    log = np.log(g + 1e-4)
    for y in range(h):
        for x in range(w):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < h and x + dx < w:
                    a = lambda_ / (abs(log[y, x] - log[y + dy, x + dx]) ** alpha + 1e-4)
                    i, j = y * w + x, (y + dy) * w + x + dx
                    matrix[[i, j], [i, j]] += a
                    matrix[[i, j], [j, i]] -= a
    return matrix


@pytest.fixture
def plane(rng):
    """A noisy ramp with a dark patch."""
    g = np.linspace(0.3, 0.9, 40) + 0.05 * rng.standard_normal((30, 40))
    g[10:20, 15:25] = 0.1
    return g


@pytest.fixture
def small(rng):
    """A plane small enough for dense matrices, with zeros and a flat patch."""
    g = rng.random((8, 9))
    g[2:5, 3:6] = 0.0
    g[5:, 6:] = 0.8
    return g


@pytest.mark.parametrize(("alpha", "lambda_"), [(1.2, 1.0), (1.3, 0.7), (2.0, 20.0), (0.2, 1.0)])
def test_exact_wls_solves_the_dense_system(small, alpha, lambda_):
    got = wls(small, **{**WLS, "lambda_": lambda_, "alpha": alpha})
    theirs = np.linalg.solve(dense_matrix(small, alpha, lambda_), small.ravel())
    assert np.abs(got.ravel() - theirs).max() < 1e-9


def test_exact_wls_minimises(plane, rng):
    """Farbman's energy, by its own sums, rises in every direction from the solution."""
    g = plane[5:25, 10:30]
    u = wls(g, **WLS)
    log = np.log(g + 1e-4)

    def energy(v):
        smoothness = sum(
            (np.diff(v, axis=k) ** 2 / (np.abs(np.diff(log, axis=k)) ** 1.2 + 1e-4)).sum() for k in (0, 1)
        )
        return ((v - g) ** 2).sum() + smoothness

    for _ in range(20):
        step = 1e-3 * rng.standard_normal(u.shape)
        assert energy(u + step) > energy(u)
        # Second-order: the slope itself is zero.
        assert energy(u + step) == pytest.approx(energy(u - step), rel=1e-9)


def fast_by_dense_solves(g, alpha, lambda_):
    """Rows, then columns, three times, each line by its own dense matrix."""

    def line(values, log, step):
        d = np.diff(np.eye(len(values)), axis=0)
        a = 1 / (np.abs(d @ log) ** alpha + 1e-4)
        return linalg.solve(np.eye(len(values)) + step * d.T @ (a[:, None] * d), values)

    log, u = np.log(g + 1e-4), g
    for share in (16, 4, 1):
        step = 1.5 * share / 63 * lambda_
        u = np.array([line(v, k, step) for v, k in zip(u, log, strict=True)])
        u = np.array([line(v, k, step) for v, k in zip(u.T, log.T, strict=True)]).T
    return u


@pytest.mark.parametrize(("alpha", "lambda_"), [(1.2, 1.0), (1.8, 30.0)])
def test_fast_wls_alternates_dense_solves(small, alpha, lambda_):
    got = wls(small, lambda_=lambda_, alpha=alpha, solver="fast", domain="intensity")
    assert np.abs(got - fast_by_dense_solves(small, alpha, lambda_)).max() < 1e-10


def lightness_by_scikit_image(g):
    return color.rgb2lab(np.repeat(g[..., None], 3, axis=2))[..., 0]


def test_lightness_is_scikit_images():
    """scikit-image writes the constants of the CIE curve with four digits."""
    v = np.linspace(0.0, 1.0, 2001).reshape(3, 667)
    lightness = to_lightness(v)
    assert np.abs(lightness - lightness_by_scikit_image(v)).max() < 1e-3
    assert np.abs(from_lightness(lightness) - v).max() < 1e-7  # sRGB's own joint: 3e-8
    assert to_lightness(np.ones((1, 1)))[0, 0] == pytest.approx(100.0)


@pytest.mark.parametrize("solver", ["exact", "fast"])
def test_wls_on_lightness_is_scikit_images_way_round(small, solver):
    """To L* and back by scikit-image, with dense solves between."""
    lightness = lightness_by_scikit_image(small)
    if solver == "exact":
        matrix = dense_matrix(lightness, 1.2, 0.125)
        smooth = np.linalg.solve(matrix, lightness.ravel()).reshape(small.shape)
    else:
        smooth = fast_by_dense_solves(lightness, 1.2, 0.125)
    lab = np.stack([smooth, np.zeros_like(smooth), np.zeros_like(smooth)], axis=-1)
    theirs = color.lab2rgb(lab)[..., 1]
    got = wls(small, lambda_=0.125, alpha=1.2, solver=solver, domain="lightness")
    assert np.abs(got - theirs).max() < 1e-4


@pytest.mark.parametrize("solver", ["exact", "fast"])
@pytest.mark.parametrize("domain", ["intensity", "lightness"])
@pytest.mark.parametrize("lambda_", [0.1, 100.0])
def test_wls_keeps_constants_and_range(plane, solver, domain, lambda_):
    how = {"lambda_": lambda_, "alpha": 1.2, "solver": solver, "domain": domain}
    flat = np.full((9, 11), 0.37)
    assert np.allclose(wls(flat, **how), flat, atol=1e-9)
    u = wls(plane, **how)
    assert plane.min() - 1e-9 <= u.min() <= u.max() <= plane.max() + 1e-9
    assert u.std() < plane.std()


def test_wls_of_a_step_by_hand():
    """Each flat half moves as a whole towards the other: n (moved) = lambda a (jump - 2 moved)."""
    g = np.repeat([[0.2, 0.8]], 5, axis=1)
    a = 100.0 / (abs(np.log(0.8001) - np.log(0.2001)) ** 1.2 + 1e-4)
    moved = 0.6 * a / (5 + 2 * a)
    u = wls(g, **{**WLS, "lambda_": 100.0})
    # Inside a half the weights are 10^4, not infinite.
    assert np.abs(u - np.where(g < 0.5, 0.2 + moved, 0.8 - moved)).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("solver", ["exact", "fast"])
def test_wls_of_lines(rng, shape, solver):
    g = rng.random(shape)
    got = wls(g, **{**WLS, "solver": solver})
    if solver == "exact":
        theirs = np.linalg.solve(dense_matrix(g, 1.2, 1.0), g.ravel()).reshape(shape)
    else:
        theirs = fast_by_dense_solves(g, 1.2, 1.0)
    assert np.abs(got - theirs).max() < 1e-9
