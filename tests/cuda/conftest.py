"""The CUDA backend's tests: on a GPU where there is one (marked gpu there), else in Numba's simulator."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from sdie_fast import _backends
from sdie_fast.cuda import driver

HERE = Path(__file__).parent
# Asked before Numba is imported anywhere: its simulator is chosen by the environment at that time.
ON_GPU = driver.state().available and not driver.simulated()
if not ON_GPU and "numba" not in sys.modules:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def _why_not() -> str:
    missing = driver._missing_package()
    if missing:
        return f"{missing} is missing: {driver.INSTALL}"
    if not ON_GPU and not driver.simulated():
        return "no GPU, and Numba was imported without NUMBA_ENABLE_CUDASIM=1"
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    reason = _why_not()
    for item in items:
        if HERE in item.path.parents:
            if ON_GPU:
                item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


_KNOWN = (driver.state, driver.start, driver.cuda, driver.proved, driver.prepare, _backends.get)


@pytest.fixture
def forget():
    """Lets the package find out anew what can run."""

    def clear():
        for known in _KNOWN:
            known.cache_clear()

    return clear


@pytest.fixture(autouse=True)
def accepted(monkeypatch, forget):
    """The simulator counts as a GPU, in these tests alone."""
    monkeypatch.setenv("SDIE_FAST_CUDA_SIMULATOR", "1")
    forget()
    yield
    forget()


@pytest.fixture
def simulated():
    """For tests whose fakes are made of the host's memory."""
    if not driver.simulated():
        pytest.skip("made of the simulator's arrays")


@pytest.fixture
def cuda():
    """numba.cuda, of the GPU or of the simulator."""
    return driver.cuda()


@pytest.fixture
def allocated(cuda, monkeypatch):
    """A list that gets the bytes of every device array made from now on."""
    taken = []

    def counting(make):
        def made(*arguments, **settings):
            array = make(*arguments, **settings)
            taken.append(int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize)
            return array

        return made

    for name in ("device_array", "to_device"):
        monkeypatch.setattr(cuda, name, counting(getattr(cuda, name)))
    return taken
