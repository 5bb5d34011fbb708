"""The kernels that the GPU benchmark takes its floors from do the work that is counted."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def floor(cuda):
    import floor

    return floor


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
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    from clock import Runner

    found = floor.measure(Runner(torch, "cuda"), megabytes=256, repeats=3)
    assert 1e10 < found.bytes < 1e14
    assert 1e11 < found.special < found.lanes < 1e15
