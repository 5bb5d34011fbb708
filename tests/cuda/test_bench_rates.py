"""The kernels that the GPU benchmark takes its floors from do the work that is counted."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast.cuda import driver


@pytest.fixture
def rates(cuda):
    from sdie_fast._bench import gpu_rates

    return gpu_rates


def test_copy(cuda, rates, rng):
    span = rates.THREADS * rates.UNROLL
    given = rng.integers(0, 1 << 63, span, dtype=np.uint64)
    dst = cuda.to_device(np.zeros(span, np.uint64))
    rates.copy[1, rates.THREADS](cuda.to_device(given), dst, np.int32(span))
    np.testing.assert_array_equal(dst.copy_to_host(), given)


def starts(rates, kind):
    x = np.arange(rates.THREADS, dtype=np.float64)
    if kind == "multiply_add":
        a, b = 0.75, 0.25
        return [x, x + a, x + b, x - a, x - b, x * a, x * b, np.full_like(x, a)]
    a, x = 1 / 256, x / 256
    return [x, x + a, x - a, np.full_like(x, a), -x, a - x, -x - a, x + x]


@pytest.mark.parametrize("kind", ["multiply_add", "exponentials"])
def test_every_chain_takes_every_step(cuda, rates, kind):
    steps = 3
    out = cuda.to_device(np.zeros(rates.THREADS, np.float32))
    a, b = np.float32(0.75), np.float32(0.25)
    if kind == "multiply_add":
        rates.multiply_add[1, rates.THREADS](out, a, b, np.int32(steps))
    else:
        rates.exponentials[1, rates.THREADS](out, np.float32(1 / 256), np.int32(steps))
    chains = starts(rates, kind)
    assert len(chains) == rates.CHAINS
    for _ in range(steps):
        if kind == "multiply_add":
            chains = [v * 0.75 + 0.25 for v in chains]
        else:
            chains = [np.exp2(-v) for v in chains]
    np.testing.assert_allclose(out.copy_to_host(), np.sum(chains, axis=0), rtol=1e-4)


def test_rates_of_a_gpu(rates):
    if driver.simulated():
        pytest.skip("the simulator has no rates")
    found = rates.measure(megabytes=256, repeats=3)
    assert 1e10 < found.bytes < 1e14
    assert 1e11 < found.special < found.lanes < 1e15
