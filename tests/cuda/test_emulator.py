"""The emulated driver (tools/ptx_emulator) fails launches that it has found something wrong with."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif("EMULATOR_CACHE" not in os.environ, reason="not on the emulated driver")


@pytest.fixture
def kernels(cuda, monkeypatch):
    monkeypatch.setenv("EMULATOR_RACE", "1")
    monkeypatch.setenv("EMULATOR_GO", "1")  # an access out of bounds does not end the process

    @cuda.jit
    def turn_round(a, wait, most):
        shared = cuda.shared.array(64, "float32")
        i = cuda.threadIdx.x
        if i < most:
            shared[i] = a[i]
        if wait:
            cuda.syncthreads()
        a[i] = shared[63 - i]

    @cuda.jit
    def add_one(a, first):
        a[first + cuda.threadIdx.x] += 1

    return turn_round, add_one


def test_what_is_right_runs_and_what_is_wrong_fails(cuda, kernels, capfd):
    turn_round, add_one = kernels
    a = cuda.to_device(np.arange(64, dtype=np.float32))
    turn_round[1, 64](a, True, 64)
    add_one[1, 64](a, 0)
    np.testing.assert_array_equal(a.copy_to_host(), np.arange(64, 0, -1))
    for kernel, blocks, arguments, told in (
        (turn_round, 1, (True, 32), "shared memory read before it is written"),
        (turn_round, 1, (False, 64), "race, shared"),
        (add_one, 3, (0,), "race, global"),
        (add_one, 1, (1,), "read out of bounds"),
    ):
        with pytest.raises(Exception, match=r"719|EMULATED_ERROR"):
            kernel[blocks, 64](a, *arguments)
        assert told in capfd.readouterr().err


def test_counts_what_the_busiest_thread_of_each_warp_executes(cuda):
    script = """
import numpy as np
from sdie_fast.cuda import driver
cuda = driver.cuda()

@cuda.jit
def powers(a, out, turns):
    i = cuda.threadIdx.x
    shared = cuda.shared.array(64, "float32")
    shared[i] = a[i]
    cuda.syncthreads()
    value = shared[i]
    for _ in range(turns[i]):
        value *= value
    cuda.syncthreads()
    out[i] = value + a[i] + a[63 - i]  # which is moved once

turns = np.zeros(64, np.int32)
turns[40] = 5  # of the second warp
out = cuda.device_array(64, "float32")
powers[1, 64](cuda.to_device(np.ones(64, np.float32)), out, cuda.to_device(turns))
"""
    environment = os.environ | {"EMULATOR_COUNT": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stderr.splitlines() if "powers" in line)
    found = {key: int(value) for key, _, value in (pair.partition("=") for pair in line.split(" ")[1:])}
    assert found["float"] == 5 + 4  # the products of one warp, two sums in each
    assert (found["barrier"], found["load"], found["store"]) == (4, 8, 2)
    assert (found["load_shared"], found["store_shared"]) == (2, 2)
    assert (found["launches"], found["blocks"], found["warps"]) == (1, 1, 2)
    assert (found["read"], found["written"]) == (3 * 256, 256)
