"""The device's exact weighted least squares against the reference's."""

from __future__ import annotations

import itertools
import sys
import threading

import numpy as np
import pytest

from sdie_fast.errors import InvalidArgumentError
from sdie_fast.filters.wls import Wls

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import kernels, smoother, team, wls_exact
from sdie_fast.cuda.words import one_of, other_of, pair

TOL = 1 / 510


@pytest.fixture(autouse=True)
def _quick_switches():
    """The simulator's threads spin while they wait: let them give way at once."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def smooth(cuda):
    """Smooths float32 planes (n, H, W); what was not written is NaN."""

    def run(planes, *, lambda_=1.0, alpha=1.2, tol=TOL, on_lightness=False, active=None, planes_held=0):
        n, height, width = planes.shape
        run.filter = wls_exact.ExactWls(planes_held or n, height, width, on_lightness=on_lightness)
        out = cuda.to_device(np.full_like(planes, np.nan))
        run.filter(cuda.to_device(planes), out, lambda_=lambda_, alpha=alpha, tol=tol, active=active)
        return out.copy_to_host()

    return run


def expect(plane, *, lambda_=1.0, alpha=1.2, domain="intensity"):
    own = Wls(lambda_=lambda_, alpha=alpha, solver="exact", domain=domain)
    return own.reference(plane.astype(np.float64))


def picture(rng, *shape):
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    g = 0.5 + 0.3 * np.sin(x / 4.0 + y / 3.0) + 0.03 * rng.standard_normal(shape)
    return g.clip(0.0, 1.0).astype(np.float32)


@pytest.mark.parametrize(
    "size", [(3, 3), (1, 5), *(pytest.param(s, marks=pytest.mark.simulator) for s in ((9, 10), (3, 19)))], ids=str
)
def test_sizes(smooth, rng, size):
    planes = picture(rng, 1, *size)
    got = smooth(planes)
    assert np.abs(got[0] - expect(planes[0])).max() < TOL
    assert np.isfinite(got).all()


@pytest.mark.simulator
def test_several_tiles_and_levels(smooth, rng):
    planes = picture(rng, 1, 18, 20)
    planes[0, 5:12, 3:9] = 0.4
    got = smooth(planes)
    assert np.abs(got[0] - expect(planes[0])).max() < TOL


HARD = {
    "two values": lambda rng: rng.integers(0, 2, (8, 10)) * 1.0,
    "dark": lambda rng: rng.integers(0, 4, (8, 10)) / 255,
    "points": lambda rng: np.where(rng.random((8, 10)) < 0.05, 1.0, 0.5),
    "flat": lambda rng: np.full((8, 10), 0.4),
    "stripes": lambda rng: (np.add.outer(np.arange(8), np.arange(10)) % 4 < 2) * 0.9 + 0.05,
}


@pytest.mark.simulator
@pytest.mark.parametrize("lambda_", [0.1, 100.0])
@pytest.mark.parametrize("kind", HARD)
def test_hard_images(smooth, rng, kind, lambda_):
    planes = HARD[kind](rng).astype(np.float32).reshape(1, 8, 10)
    got = smooth(planes, lambda_=lambda_)
    assert np.abs(got[0] - expect(planes[0], lambda_=lambda_)).max() < TOL


@pytest.mark.simulator
@pytest.mark.parametrize("alpha", [0.2, 2.0])
def test_alpha(smooth, rng, alpha):
    planes = picture(rng, 1, 6, 8)
    planes[0, :4, :5] = 0.25
    got = smooth(planes, alpha=alpha)
    assert np.abs(got[0] - expect(planes[0], alpha=alpha)).max() < TOL


def test_tolerance_is_followed(smooth, rng):
    planes = picture(rng, 1, 7, 6)
    wanted = expect(planes[0])
    taken = []
    for tol in (0.05, 1e-5):
        assert np.abs(smooth(planes, tol=tol)[0] - wanted).max() < tol
        taken.append(smooth.filter.iterations.copy_to_host()[0])
    assert taken[0] < taken[1]


@pytest.mark.simulator
def test_on_lightness(smooth, rng):
    planes = picture(rng, 1, 6, 7)
    planes[0, :3] = rng.random((3, 7)) * 0.05  # where lightness is linear
    got = smooth(planes, lambda_=0.125, on_lightness=True)
    assert np.abs(got[0] - expect(planes[0], lambda_=0.125, domain="lightness")).max() < TOL


def test_active_planes_of_a_smaller_batch(smooth, rng, cuda):
    planes = picture(rng, 3, 5, 6)
    got = smooth(planes, active=cuda.to_device(np.array([0.5, 0.0, 0.1], np.float32)), planes_held=5)
    assert np.isnan(got[1]).all()
    for i in (0, 2):
        assert np.abs(got[i] - expect(planes[i])).max() < TOL


@pytest.mark.simulator
def test_results_do_not_depend_on_the_batch(smooth, rng, monkeypatch):
    planes = picture(rng, 2, 4, 5)
    together = smooth(planes)
    monkeypatch.setattr(wls_exact, "_room", lambda: 1)  # one team serves all
    np.testing.assert_array_equal(smooth(planes), together)
    np.testing.assert_array_equal(smooth(planes[1:2])[0], together[1])


def test_workspace_bytes(cuda, monkeypatch):
    taken = []

    def count(array):
        taken.append(array.nbytes)
        return array

    make, copy = cuda.device_array, cuda.to_device
    monkeypatch.setattr(wls_exact.cuda, "device_array", lambda *a, **k: count(make(*a, **k)))
    monkeypatch.setattr(wls_exact.cuda, "to_device", lambda *a, **k: count(copy(*a, **k)))
    for arguments in ((1, 3, 3), (7, 20, 33), (2000, 9, 8)):
        taken.clear()
        wls_exact.ExactWls(*arguments, on_lightness=False)
        assert sum(taken) == wls_exact.ExactWls.workspace_bytes(*arguments, on_lightness=False)


def test_memory_may_hold_anything_before(cuda, rng):
    planes = picture(rng, 1, 7, 9)
    filter_ = wls_exact.ExactWls(1, 7, 9, on_lightness=False)
    filter_._memory.copy_to_device(np.full(filter_._memory.shape, np.nan, np.float32))
    out = cuda.to_device(np.full_like(planes, np.nan))
    filter_(cuda.to_device(planes), out, lambda_=1.0, alpha=1.2, tol=TOL)
    assert np.abs(out.copy_to_host()[0] - expect(planes[0])).max() < TOL


def test_pairs_of_numbers_in_a_word(cuda, rng):
    @cuda.jit
    def there_and_back(a, b, words):
        for i in range(a.shape[0]):
            words[i] = pair(a[i], b[i])
            a[i], b[i] = one_of(words[i]), other_of(words[i])

    given = (rng.standard_normal((2, 50)) * 10.0 ** rng.integers(-20, 20, (2, 50))).astype(np.float32)
    given[:, :4] = [[0, 1, -1, 256], [1e4, 0, -3, 0.5]]
    a, b = (cuda.to_device(row) for row in given)
    there_and_back[1, 1](a, b, cuda.to_device(np.zeros(50, np.float32)))
    for row, got in zip(given, (a.copy_to_host(), b.copy_to_host()), strict=True):
        assert (np.abs(got - row) <= np.abs(row) * 2.0**-8).all()
        assert (got.view(np.uint32) & 0xFFFF == 0).all()
    np.testing.assert_array_equal(a.copy_to_host()[:4], given[0, :4])


def test_levels_do_not_overlap():
    for size in ((1, 1), (3, 3), (1, 100), (37, 20)):
        levels = team.lay_out(*size)
        pixels = size[0] * size[1]
        spans = [(levels.direction, pixels), (levels.image_of_direction, pixels)]
        spans += [(levels.sums, levels.chunks), (levels.other_sums, levels.chunks)]
        spans += [(levels.inverse, team.COARSEST**2)]
        last = len(levels.table) - 1
        for k, row in enumerate(levels.table):
            margin = row[team.WIDTH] + 1
            for field in range(team.EAST, team.TO):
                if k > 0 or field not in team.ABSENT:
                    spans.append((row[field] - margin, row[team.PIXELS] + 2 * margin))
            if k < last:
                spans += [(row[team.TO], team.WEIGHTS * levels.table[k + 1][team.PIXELS])]
        spans.sort()
        assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(spans))
        assert spans[-1][0] + spans[-1][1] <= levels.floats
        assert levels.table[last, team.PIXELS] <= team.COARSEST


def test_an_image_too_large_for_places_of_32_bits_is_refused():
    assert team.lay_out(10_000, 16_000).floats < 2**31
    with pytest.raises(InvalidArgumentError, match=r"received 20000 x 20000 pixels; accepted .* 17\d million"):
        team.lay_out(20_000, 20_000)


@pytest.fixture
def side_by_side(monkeypatch, simulated):
    """Let the simulator run the blocks of a grid at the same time, each with its own shared memory."""
    from numba.cuda.simulator import kernel, kernelapi

    class Shared(kernelapi.FakeCUDAShared):
        def array(self, shape, dtype, alignment=None):
            frame = sys._getframe(1)
            block = threading.current_thread().blockIdx
            key = (block.x, frame.f_code.co_filename, frame.f_lineno)
            with lock:
                if key not in self._allocations:
                    self._allocations[key] = np.empty(shape, str(dtype))
                return self._allocations[key]

    lock = threading.Lock()
    run_block = kernel.BlockManager.run
    running, failed = [], []

    def run(self, place, *arguments):
        def one():
            try:
                run_block(self, place, *arguments)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=one)
        thread.start()
        running.append(thread)
        if place == tuple(n - 1 for n in self._grid_dim):
            for thread in running:
                thread.join()
            running.clear()
            if failed:
                raise failed.pop()

    monkeypatch.setattr(kernelapi, "FakeCUDAShared", Shared)
    monkeypatch.setattr(kernel.BlockManager, "run", run)


def solve_by(cuda, planes, blocks, sizes=None):
    """Solve, beginning with the planes themselves, with teams of several blocks.

    Returns the result and the teams' table.
    """
    n, height, width = planes.shape
    filter_ = wls_exact.ExactWls(n, height, width, on_lightness=False)
    at = filter_._layout
    filter_._teams = cuda.to_device(np.zeros((n, team.TEAM), np.int32))
    out = cuda.to_device(planes.reshape(n, -1))
    wls_exact.solve[n * blocks, team.THREADS](
        cuda.to_device(planes.reshape(n, -1)), out, filter_._all, 0, np.float32(1), np.float32(1.2),
        np.float32(1e-4), np.float32(TOL), filter_._memory, filter_._levels, at.inverse, at.sums,
        at.other_sums, at.direction, at.image_of_direction, at.chunks, filter_._teams, blocks,
        filter_.iterations,
    )  # fmt: skip
    return out.copy_to_host().reshape(planes.shape), filter_._teams.copy_to_host()


@pytest.mark.simulator
def test_team_of_blocks_that_run_together(cuda, side_by_side, rng, monkeypatch):
    # Groups of one tile, so that both blocks have some; and time, which a busy machine may take.
    planes = picture(rng, 1, 5, 18)
    monkeypatch.setattr(team, "PATIENCE", 10**9)
    monkeypatch.setattr(smoother, "FIVE_TILES", 1)
    alone, _ = solve_by(cuda, planes, 1)
    got, teams = solve_by(cuda, planes, 2)
    assert teams[0, team.SIZE] == 2
    np.testing.assert_array_equal(got, alone)
    assert np.abs(got[0] - expect(planes[0])).max() < TOL


def test_blocks_that_come_too_late(cuda, simulated, rng):
    """The simulator runs one block after the other: a team must not wait for those to come."""
    planes = picture(rng, 2, 4, 5)
    got, teams = solve_by(cuda, planes, 3)
    assert list(teams[:, team.SIZE]) == [1, 1]
    for plane, result in zip(planes, got, strict=True):
        assert np.abs(result - expect(plane)).max() < TOL


def test_large_plane_by_many_blocks(smooth, rng, monkeypatch):
    if kernels.SIMULATED:
        pytest.skip("needs blocks that run together on a GPU; the simulator would take an hour")
    planes = picture(rng, 1, 310, 257)
    planes[0, 100:200, 50:220] = np.round(planes[0, 100:200, 50:220] * 20) / 255
    got = smooth(planes)
    assert np.abs(got[0] - expect(planes[0])).max() < TOL
    monkeypatch.setattr(wls_exact, "_room", lambda: 1)
    np.testing.assert_array_equal(smooth(planes), got)


@pytest.mark.simulator
def test_sure_preconditioner_alone(smooth, rng, monkeypatch):
    if not kernels.SIMULATED:
        pytest.skip("compiled kernels do not see the change")
    planes = picture(rng, 1, 6, 18)
    planes[0, 2:5, 3:12] = 0.5
    monkeypatch.setattr(wls_exact, "SURE_AFTER", 0)
    assert np.abs(smooth(planes)[0] - expect(planes[0])).max() < TOL
