"""The kernels that the GPU benchmark takes its floors from do the work that is counted."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast.cuda import _driver


@pytest.fixture
def floor(cuda):
    import floor

    return floor


def test_copy(cuda, floor, rng):
    span = floor.THREADS * floor.UNROLL
    given = rng.integers(0, 1 << 63, span, dtype=np.uint64)
    dst = cuda.to_device(np.zeros(span, np.uint64))
    floor.copy[1, floor.THREADS](cuda.to_device(given), dst, np.int32(span))
    np.testing.assert_array_equal(dst.copy_to_host(), given)


@pytest.mark.parametrize(
    ("kind", "step"), [("multiply_add", lambda v: v * 0.75 + 0.25), ("exponentials", lambda v: np.exp2(-v))]
)
def test_every_chain_takes_every_step(cuda, floor, kind, step):
    steps, a, b = 3, 0.75, 0.25
    out = cuda.to_device(np.zeros(floor.THREADS, np.float32))
    getattr(floor, kind)[1, floor.THREADS](out, np.float32(a), np.float32(b), np.int32(steps))
    x = np.arange(floor.THREADS) / floor.THREADS
    chains = [x, x + a, x + b, x - a, x - b, x * a, x * b, np.full_like(x, a)]
    assert len(chains) == floor.CHAINS
    for _ in range(steps):
        chains = [step(v) for v in chains]
    np.testing.assert_allclose(out.copy_to_host(), np.sum(chains, axis=0), rtol=1e-4)


def test_rates_of_a_gpu(floor):
    if _driver.simulated():
        pytest.skip("the simulator has no rates")
    found = floor.measure(megabytes=256, repeats=3)
    assert 1e10 < found.bytes < 1e14
    assert 1e11 < found.special < found.lanes < 1e15
