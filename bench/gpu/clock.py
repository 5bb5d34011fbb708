"""Timing on a GPU: a sample is a run of calls between two events on a stream, or by the host's clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Method", "Runner", "runs"]


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of doing a job.

    `call(k)` does it on the k-th set of images and gives the result, an array or a tensor; where the time
    `includes` the "device" alone, it enqueues on the stream and does not wait. `images` is how many of a set a call
    computes, and `same` says whether its definitions are ours.
    """

    call: Callable[[int], Any]
    images: int
    includes: str = "device"
    same: bool = True

    @property
    def on_device(self) -> bool:
        """Whether nothing of the host is in its time."""
        return self.includes.startswith("device")


class Runner:
    """Runs work on a device of torch's ("cuda", or "cpu" in a dry run), all on one stream, and times it."""

    def __init__(self, torch: Any, name: str) -> None:
        self.torch, self.name = torch, name
        self.stream: Any = torch.cuda.Stream() if name == "cuda" else None

    def on_stream(self, call: Callable[[int], Any]) -> Callable[[int], Any]:
        """Wrap a call so that torch's current stream is this one."""

        def run(k: int) -> Any:
            with self.torch.no_grad(), self.torch.cuda.stream(self.stream):
                return call(k)

        return run

    def wait(self) -> None:
        """Until all that was enqueued is done."""
        if self.stream:
            self.torch.cuda.synchronize()

    def read(self, result: Any) -> npt.NDArray[Any]:
        """Copy a method's result to the host."""
        self.wait()
        if isinstance(result, np.ndarray):
            return np.array(result)
        return np.asarray((result.float() if result.is_floating_point() else result).cpu().numpy())

    def seconds(self, method: Method, first: int, calls: int) -> float:
        """Seconds a call takes when made `calls` times in a row, with the sets `first`, `first` + 1 and so on."""
        events = self.stream is not None and method.on_device
        if events:
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(self.stream)
        else:
            started = time.perf_counter()
        for k in range(first, first + calls):
            method.call(k)
        if not events:
            return (time.perf_counter() - started) / calls
        end.record(self.stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls


def runs(runner: Runner, method: Method, least: float = 0.02) -> Callable[[], float]:
    """Make samples for `interleave`: of as many calls as take `least` seconds, each on the next set.

    Together the sets should exceed the cache, so that it cannot hold what a call reads. The first sample also
    compiles, allocates and finds how many calls to make.
    """
    at = calls = 0

    def take(count: int) -> float:
        nonlocal at
        at += count
        return runner.seconds(method, at - count, count)

    def sample() -> float:
        nonlocal calls
        if not calls:
            take(2)
            calls = max(1, min(500, round(least / max(take(1), 1e-6))))
        return take(calls)

    return sample
