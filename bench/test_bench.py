"""pytest-benchmark cases: each filter, one round and five rounds, beside their peers, answers asserted.

    pip install ".[bench]" && pytest bench --benchmark-group-by=group

`sdie-fast bench` prints the same with candidates interleaved, which is what RESULTS.md quotes.
"""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast._bench import cases
from sdie_fast._bench.setting import Setting

SIZES = [(200, 200), (1024, 1024)]
CASES = [case for case in cases.CASES if case not in ("exact-round", "batch", "shares")]


def prepared(case, size):
    return cases.candidates(case, cases.sample(*size), Setting(size), "disk", peers=True)[0]


def points():
    """(case, size, candidate's number) of everything that can be measured here."""
    for case in CASES:
        for size in SIZES:
            for number, candidate in enumerate(prepared(case, size)):
                yield pytest.param(case, size, number, id=f"{case}-{size[0]}-{candidate.name}")


@pytest.mark.parametrize(("case", "size", "number"), points())
def test_case(benchmark, case, size, number):
    candidates = prepared(case, size)
    name, call, bound, *_ = candidates[number]
    benchmark.group = f"{case} {size[0]} x {size[1]}"
    ours = np.array(candidates[0].call())
    answer = np.array(benchmark(call))
    if bound is not None:
        cases.check(case, name, bound, ours, answer)
