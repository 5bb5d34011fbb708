import ctypes
import importlib.util
import sys
import types
from importlib import metadata

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import BackendUnavailableError, _backends
from sdie_fast.cuda import driver


class Driver:
    """What `_ask` calls of a driver's library, answering what a test wants."""

    def __init__(self, version=13000, init=0, count=1, name=b"NVIDIA H200", capability=(9, 0)):
        self._version, self._init, self._count = version, init, count
        self._name, self._capability = name, capability

    @staticmethod
    def _set(reference, value):
        reference._obj.value = value
        return 0

    def cuDriverGetVersion(self, value):
        return self._set(value, self._version)

    def cuInit(self, flags):
        assert flags == 0
        return self._init

    def cuDeviceGetCount(self, value):
        return self._set(value, self._count)

    def cuDeviceGet(self, value, ordinal):
        return self._set(value, ordinal)

    def cuDeviceGetName(self, buffer, size, device):
        buffer.value = self._name
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        return self._set(value, self._capability[{75: 0, 76: 1}[attribute]])

    def cuGetErrorName(self, code, text):
        return self._set(text, b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH") if code == 803 else 1


def test_a_gpu_is_named():
    found = driver._ask(Driver(), 13)
    assert found == driver.Availability(True, note="NVIDIA H200, compute capability 9.0, driver for CUDA 13.0")


@pytest.mark.parametrize(
    ("library", "toolkit", "reason", "fix"),
    [
        (
            Driver(version=12040),
            13,
            "the NVIDIA driver is too old: it runs CUDA 12.4, and the installed packages are for CUDA 13",
            "numba-cuda[cu12]",
        ),
        (Driver(init=100), 13, "the NVIDIA driver finds no GPU", "--gpus all"),
        (Driver(count=0), 13, "the NVIDIA driver finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (Driver(init=803), 13, "does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "restart the machine"),
        (Driver(init=999), 13, "does not start: error 999", "nvidia-smi"),
        (
            Driver(name=b"Tesla V100", capability=(7, 0)),
            13,
            "Tesla V100 is too old: compute capability 7.0, and CUDA 13 begins at 7.5",
            "numba-cuda[cu12]",
        ),
    ],
)
def test_what_keeps_a_driver_from_running(library, toolkit, reason, fix):
    found = driver._ask(library, toolkit)
    assert not found.available
    assert reason in found.reason
    assert fix in found.fix


def test_a_newer_driver_and_an_older_chip_run_older_packages():
    assert driver._ask(Driver(version=13010), 12).available
    assert driver._ask(Driver(capability=(7, 0)), 12).available


def test_a_hidden_gpu_is_told(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES is '')" in driver._ask(Driver(init=100), 13).reason


@pytest.mark.parametrize("gone", ["numba", "numba_cuda"])
def test_a_missing_package(monkeypatch, gone):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == gone else real(name))
    found = driver.state()
    assert found.reason == gone.replace("_", "-") + " is missing"
    assert found.fix == 'pip install "sdie-fast[gpu]"'
    with pytest.raises(BackendUnavailableError, match=r"is missing; to fix: pip install"):
        sdie.enhance(np.zeros((9, 9), np.uint8), np.ones(6), backend="cuda")


def test_missing_bindings(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert driver.state().reason == "cuda-bindings is missing"


def test_a_missing_driver(monkeypatch):
    def load(name):
        assert "cuda" in name
        raise OSError(name)

    monkeypatch.setattr(driver, "simulated", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", load)
    found = driver.state()
    assert "no NVIDIA driver is installed" in found.reason
    assert "--gpus all" in found.fix
    backend = _backends.get("cuda")
    assert (backend.available, backend.reason) == (False, found.reason)


def test_the_simulator_must_be_asked_for_twice(simulated, monkeypatch, forget):
    assert driver.state().available
    assert "simulator" in _backends.get("cuda").note
    monkeypatch.delenv("SDIE_FAST_CUDA_SIMULATOR")
    forget()
    found = driver.state()
    assert "simulator is active (NUMBA_ENABLE_CUDASIM)" in found.reason
    assert "unset NUMBA_ENABLE_CUDASIM" in found.fix
    with pytest.raises(BackendUnavailableError, match="simulator is active"):
        driver.cuda()


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_the_simulator_before_numba_is_imported(monkeypatch, value, expected):
    monkeypatch.delitem(sys.modules, "numba.cuda.core.config", raising=False)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    if value is not None:
        monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", value)
    assert driver.simulated() == expected


def test_numba_that_does_not_start(monkeypatch, forget):
    monkeypatch.setattr(driver, "simulated", lambda: False)
    monkeypatch.setattr(driver, "_missing_package", lambda: "")
    monkeypatch.setattr(driver, "_load_driver", Driver)
    broken = types.SimpleNamespace(is_available=lambda: False, cuda_error=lambda: "\nno\nluck\n")
    monkeypatch.setattr(driver.importlib, "import_module", lambda name: broken)
    with pytest.raises(BackendUnavailableError, match=r"does not start: no luck; to fix: pip"):
        driver.cuda()
    broken.cuda_error = lambda: None
    forget()
    assert "libnvvm" in driver.start().reason

    def fail(name):
        raise ImportError("a library is damaged")

    monkeypatch.setattr(driver.importlib, "import_module", fail)
    forget()
    assert "numba.cuda does not load: a library is damaged" in driver.start().reason


def test_out_of_memory_is_known_by_its_name(cuda):
    assert driver.is_out_of_memory(MemoryError())
    assert driver.is_out_of_memory(RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"))
    assert not driver.is_out_of_memory(RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS"))
    assert driver.free_memory() > 0


def test_doctor_tells(monkeypatch):
    from sdie_fast._cli.doctor import examine

    found = examine()["backends"][0]
    assert found["name"] == "cuda"
    assert found["available"]
    assert found["note"]
    monkeypatch.setattr(driver, "start", lambda: driver.Availability(False, "it broke", "mend it"))
    facts = examine()
    assert (facts["backends"][0]["reason"], facts["auto_on_device"]) == ("it broke", None)


def test_real_driver_is_asked(python):
    """In a fresh process, whatever this machine has."""
    code = (
        "from sdie_fast.cuda import driver as d; s = d.state();print(s.available == (not s.reason) == (not s.fix), s)"
    )
    assert python(code, NUMBA_ENABLE_CUDASIM="0").startswith("True Availability(available=")
