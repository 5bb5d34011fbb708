"""What a call of `enhance` costs the host's thread before it returns: microseconds of its CPU time.

    python bench/gpu/host.py

On a GPU, or on the emulated driver (tools/ptx_emulator/run), whose launches are made empty here: it would run the kernels
in this thread. The median over repeats of 100 calls is printed; of several machines, compare the rows of one.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from sdie_fast import FilterParams, enhance
from sdie_fast.cuda import driver

PARAMS = FilterParams(wls_solver="fast")
EVERY, LOCAL = [1] * 6, [1, 0, 1, 1, 1, 0]
CALLS, REPEATS = 100, 15
BUFFERS = 90  # more than the views of callers' arrays that are kept


def launch_nothing() -> None:
    """Give the emulated driver kernels that are none of its own: it takes their launches and does nothing."""
    from cuda.core import ObjectCode
    from numba.cuda.codegen import CUDACodeLibrary

    CUDACodeLibrary.get_cubin = lambda library, cc=None: ObjectCode.from_cubin(bytes(64), name="none")


def microseconds(call: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Thread time of a call, warm."""
    spent = []
    for _ in range(REPEATS + 1):
        begin = time.thread_time()
        for _ in range(CALLS):
            call()
        spent.append(time.thread_time() - begin)
        wait()
    return statistics.median(spent[1:]) / CALLS * 1e6


def main() -> None:
    """Print the table."""
    cuda = driver.cuda()
    if "EMULATOR_CACHE" in os.environ:
        launch_nothing()

    def on_device(shape: tuple[int, ...], rounds: Any, buffers: int = 1) -> Callable[[], Any]:
        src, dst = ([cuda.to_device(np.zeros(shape, np.uint8)) for _ in range(buffers)] for _ in range(2))
        turns, weights = cycle(zip(src, dst, strict=True)), np.array(rounds, float)

        def call() -> Any:
            image, out = next(turns)
            return enhance(image, weights, params=PARAMS, out=out, backend="cuda")

        return call

    image, result, five = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8), np.ones((5, 6))
    batch = (128, 200, 200)  # too large to be replayed
    cases = {
        "replayed: five rounds of one 200 x 200, on the device": on_device((200, 200), [EVERY] * 5),
        "the same, other buffers at each call": on_device((200, 200), [EVERY] * 5, BUFFERS),
        "the same, from NumPy to NumPy": lambda: enhance(image, five, params=PARAMS, out=result, backend="cuda"),
        "three launches: the local filters of 128 images": on_device(batch, LOCAL),
        "one round of 128 images, every filter": on_device(batch, EVERY),
    }
    for name, call in cases.items():
        print(f"{name:56}{microseconds(call, cuda.synchronize):6.0f} us", flush=True)


if __name__ == "__main__":
    main()
