"""pytest-benchmark cases: each filter, one round and five rounds, beside their peers, answers asserted.

    pip install ".[bench]" && pytest bench --benchmark-group-by=group

`sdie-fast bench` prints the same with candidates interleaved, which is what RESULTS.md quotes.
"""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast._bench import run

SIZES = [(200, 200), (1024, 1024)]
CASES = ("round", "rounds", "wls", "bilateral", "sharpen", "guided", "spatiogram")


def candidates():
    """(case, size, candidate) of everything that can be measured here."""
    for case in CASES:
        for size in SIZES:
            for name in run.candidates(case, run.sample(*size), 1, "disk", peers=True)[0]:
                yield pytest.param(case, size, name, id=f"{case}-{size[0]}-{name}")


@pytest.mark.parametrize(("case", "size", "name"), candidates())
def test_case(benchmark, case, size, name):
    calls, kinds = run.candidates(case, run.sample(*size), 1, "disk", peers=True)
    benchmark.group = f"{case} {size[0]} x {size[1]}"
    ours = np.array(next(iter(calls.values()))())
    answer = np.array(benchmark(calls[name]))
    if name in kinds:
        run.check(case, name, kinds[name], ours, answer)
