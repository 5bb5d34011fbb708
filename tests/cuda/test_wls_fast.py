"""The device's fast weighted least squares against the reference's."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast.filters.wls import Wls, solve_rows

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import edges, kernels, tridiagonal, wls_fast

TOLERANCE = 1e-5


@pytest.fixture
def smooth(cuda):
    """Smooths float32 planes (n, H, W); what was not written is NaN."""

    def run(planes, *, lambda_=1.0, alpha=1.2, on_lightness=False, active=None, memory=None):
        filter_ = wls_fast.FastWls(*(memory or planes.shape), on_lightness=on_lightness)
        out = cuda.to_device(np.full_like(planes, np.nan))
        if active is not None:
            active = cuda.to_device(np.asarray(active, np.float32))
        filter_(
            cuda.to_device(planes), out, lambda_=lambda_, alpha=alpha,
            active=active,
        )  # fmt: skip
        return out.copy_to_host()

    return run


def expect(plane, *, lambda_=1.0, alpha=1.2, domain="intensity"):
    own = Wls(lambda_=lambda_, alpha=alpha, solver="fast", domain=domain)
    return own.reference(plane.astype(np.float64))


def picture(rng, *shape):
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    g = 0.5 + 0.3 * np.sin(x / 9.0 + y / 7.0) + 0.03 * rng.standard_normal(shape)
    return g.clip(0.0, 1.0).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (2, 8, 7), (1, 9, 17)])
def test_sizes(smooth, rng, shape):
    planes = picture(rng, *shape)
    got = smooth(planes)
    for plane, result in zip(planes, got, strict=True):
        assert np.abs(result - expect(plane)).max() < TOLERANCE


@pytest.mark.parametrize(("length", "segments"), [(17, 2), (39, 3), (48, 3)])
@pytest.mark.parametrize("rows", [True, False])
def test_lines_of_several_segments(cuda, rng, monkeypatch, length, segments, rows):
    monkeypatch.setattr(tridiagonal, "MOST_CHUNKS", 2)
    assert tridiagonal._segments(length)[0] == segments
    plane = picture(rng, 2, length)
    plane[:, 10:35] = 0.4  # flat over the borders of segments: it carries the solution across
    edges = 1.0 / (np.abs(np.diff(np.log(plane.astype(np.float64) + 0.01), axis=1)) ** 1.1 + 1e-4)
    source = picture(rng, 2, length)
    want = solve_rows(source.astype(np.float64), edges, 20.0)
    if not rows:
        plane, source = plane.T, source.T
    guide, u = (cuda.to_device(np.ascontiguousarray(a)[None]) for a in (plane, source))
    lines = tridiagonal.Lines(1, *plane.shape, rows=rows)
    active = cuda.to_device(np.ones(1, np.float32))
    lines(u, guide, u, 20.0, (np.float32(1.1), np.float32(0.01)), active, 0)
    got = u.copy_to_host()[0]
    assert np.abs((got if rows else got.T) - want).max() < TOLERANCE


@pytest.mark.parametrize("length", [1, 8, 256, 257, 300, 1024, 16384, 100000])
def test_segments_cover_a_line(length):
    segments, chunks = tridiagonal._segments(length)
    assert chunks <= tridiagonal.SLOTS
    segment = chunks * tridiagonal.CHUNK
    assert (segments - 1) * segment < length <= segments * segment


@pytest.mark.parametrize("settings", [{"lambda_": 100.0}, {"alpha": 0.2}, {"alpha": 2.0, "lambda_": 1e-3}])
def test_parameters(smooth, rng, settings):
    # Flat halves with edges of weight 1e4, a step down to 0, where the logarithm is steepest.
    planes = np.where(np.arange(12) < 5, 0.0, 0.8) * np.ones((1, 9, 1))
    planes[0, 5:, 8:] += 0.002 * rng.standard_normal((4, 4))
    planes = planes.clip(0, 1).astype(np.float32)
    got = smooth(planes, **settings)
    assert np.abs(got[0] - expect(planes[0], **settings)).max() < TOLERANCE


@pytest.mark.parametrize("alpha", [0.2, 1.2, 2.0])
def test_resistances_keep_their_digits(cuda, rng, alpha):
    """Of pixels that are the same, that differ in their last bit, of dark ones, and where the series ends."""
    small = np.float32(1e-4)

    @cuda.jit(fastmath=True)
    def resist(one, other, out):
        for i in range(out.size):
            logs = edges.log2(one[i] + small), edges.log2(other[i] + small)
            out[i] = edges.resistance(one[i], other[i], logs[0], logs[1], small + small, np.float32(alpha))

    ratio = (1.0 + edges.SERIES_UP_TO) / (1.0 - edges.SERIES_UP_TO)
    one = np.concatenate([[0.0, 0.5, 1.0, 1.0, 0.3, 0.3 * ratio], rng.random(9), 1e-4 * rng.random(9)])
    other = np.concatenate(
        [[0.0, np.nextafter(np.float32(0.5), 1), 0.0, 1.0, 0.3 * ratio * 1.0001, 0.3], rng.random(18)]
    )
    one, other = one.astype(np.float32), other.astype(np.float32)
    out = cuda.to_device(np.zeros(one.size, np.float32))
    resist[1, 1](cuda.to_device(one), cuda.to_device(other), out)
    logs = [np.log(v.astype(np.float64) + np.float64(small)) for v in (one, other)]
    np.testing.assert_allclose(out.copy_to_host(), np.abs(logs[0] - logs[1]) ** alpha + 1e-4, rtol=2e-5)


def test_on_lightness(smooth, rng):
    planes = picture(rng, 1, 7, 8)
    planes[0, :3, :4] = 0.001  # the straight part of both curves
    got = smooth(planes, lambda_=0.125, on_lightness=True)
    want = expect(planes[0], lambda_=0.125, domain="lightness")
    assert np.abs(got[0] - want).max() < TOLERANCE
    assert np.abs(want - expect(planes[0], lambda_=0.125)).max() > 10 * TOLERANCE


def test_planes_of_weight_zero_are_left_alone(smooth, rng):
    planes = picture(rng, 3, 4, 5)
    got = smooth(planes, active=[0.5, 0.0, 1e-30])
    assert np.isnan(got[1]).all()
    for k in (0, 2):
        assert np.abs(got[k] - expect(planes[k])).max() < TOLERANCE


@pytest.mark.simulator
def test_launches_of_part_of_a_grid(smooth, rng, monkeypatch):
    monkeypatch.setattr(kernels, "GRID_LIMIT", 1)
    planes = picture(rng, 2, 9, 4)
    got = smooth(planes)
    for plane, result in zip(planes, got, strict=True):
        assert np.abs(result - expect(plane)).max() < TOLERANCE


@pytest.mark.simulator
def test_fewer_planes_than_memory(smooth, rng):
    planes = picture(rng, 1, 4, 5)
    np.testing.assert_array_equal(smooth(planes, memory=(3, 4, 5)), smooth(planes))


@pytest.mark.parametrize("on_lightness", [False, True])
@pytest.mark.parametrize("size", [(2, 9, 40), (1, 3, 600), (1, 600, 3)])
def test_workspace_bytes_are_what_is_allocated(cuda, allocated, size, on_lightness):
    wls_fast.FastWls(*size, on_lightness=on_lightness)
    assert sum(allocated) == wls_fast.FastWls.workspace_bytes(*size, on_lightness=on_lightness)
