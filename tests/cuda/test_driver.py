import ctypes
import importlib.util
import logging
import os
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import BackendUnavailableError, _backends
from sdie_fast.cuda import driver, streams


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

    def fail(*name):
        raise RuntimeError("a library is damaged")

    broken.is_available = fail  # as cuda-pathfinder does where it finds no libnvvm
    forget()
    found = driver.start()
    assert "(libnvvm) is missing: a library is damaged" in found.reason
    assert "set CUDA_HOME" in found.fix

    monkeypatch.setattr(driver.importlib, "import_module", fail)
    forget()
    found = driver.start()
    assert "numba.cuda does not load: a library is damaged" in found.reason
    assert "--upgrade" in found.fix


TOOLKITS = driver._toolkits


class TestToolkit:
    """Where libnvvm is looked for."""

    @pytest.fixture(autouse=True)
    def _nowhere(self, monkeypatch, tmp_path):
        monkeypatch.setattr(driver, "_version", lambda package: "")
        monkeypatch.setattr(driver.shutil, "which", lambda name: None)
        # None of this machine's own.
        monkeypatch.setattr(driver, "_toolkits", lambda named: (p for p in TOOLKITS(named) if tmp_path in p.parents))
        for name in ("CUDA_PATH", "CUDA_HOME"):
            monkeypatch.setenv(name, "")  # so that it is restored
            monkeypatch.delenv(name)

    @pytest.fixture
    def toolkit(self, tmp_path):
        root = tmp_path / "cuda"
        (root / "nvvm" / "lib64").mkdir(parents=True)
        (root / "nvvm" / "lib64" / "libnvvm.so").touch()
        return root

    def named(self):
        driver._point_at_toolkit()
        return os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME")

    def test_there_is_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "gone"))
        assert self.named() == (None, str(tmp_path / "gone"))

    def test_beside_nvcc(self, monkeypatch, toolkit):
        monkeypatch.setattr(driver.shutil, "which", lambda name: str(toolkit / "bin" / name))
        assert self.named() == (str(toolkit), str(toolkit))

    def test_what_is_named_stays_where_it_will_do(self, monkeypatch, toolkit):
        monkeypatch.setenv("CUDA_HOME", str(toolkit))
        assert self.named() == (None, str(toolkit))

    def test_the_second_name_counts_where_the_first_is_wrong(self, monkeypatch, toolkit, tmp_path):
        monkeypatch.setenv("CUDA_PATH", str(tmp_path / "gone"))
        monkeypatch.setenv("CUDA_HOME", str(toolkit))
        assert self.named() == (str(toolkit), str(toolkit))

    def test_a_wheel_is_enough(self, monkeypatch, toolkit):
        monkeypatch.setattr(driver, "_version", lambda package: "13.0")
        monkeypatch.setattr(driver.shutil, "which", lambda name: str(toolkit / "bin" / name))
        assert self.named() == (None, None)

    def test_the_usual_places(self):
        assert Path("/usr/local/cuda") in TOOLKITS([])


# NumPy 2.5 and newer, which older Pythons cannot have.
NEWEST_NUMPY = "import numpy as np; vars(np).pop('row_stack', None)\n"


def test_kernels_compile_without_row_stack(python):
    """To PTX: that takes NVVM, and no driver."""
    if not driver._version("nvidia-nvvm"):
        pytest.skip("nvidia-nvvm is missing")
    code = """
from sdie_fast.cuda import pixels
from numba import cuda, float32, int64
made = pixels.spread_weights
ptx, _ = cuda.compile_ptx(made.py_func, (float32[:, :, ::1], int64, int64, float32[:, ::1]), cc=(9, 0))
print(".entry" in ptx)
"""
    assert python(NEWEST_NUMPY + code, NUMBA_ENABLE_CUDASIM="0") == "True"


def test_kernels_run_without_row_stack(python):
    if driver.simulated():
        pytest.skip("the simulator compiles nothing")
    code = "from sdie_fast.cuda import driver; print(driver.proved())"
    root = Path(sdie.__file__).parents[1]
    told = python(NEWEST_NUMPY + code, f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert told.startswith("Availability(available=True")


def test_a_kernel_that_does_not_run(monkeypatch, forget):
    monkeypatch.setattr(driver, "simulated", lambda: False)
    monkeypatch.setattr(driver, "start", lambda: driver.Availability(True, note="a GPU"))

    def fail():
        raise AttributeError("module 'numpy' has no\n attribute 'row_stack'")

    monkeypatch.setattr(driver, "_run_a_kernel", fail)
    found = driver.proved()
    told = "a kernel of one line does not run: AttributeError: module 'numpy' has no attribute 'row_stack'"
    assert found == driver.Availability(False, told, 'pip install --upgrade "sdie-fast[gpu]"')
    forget()
    monkeypatch.setattr(driver, "_run_a_kernel", lambda: None)
    assert driver.proved().available


def test_nothing_is_compiled_to_import_or_to_ask(python):
    code = (
        "import sys, sdie_fast; from sdie_fast.cuda import driver; driver.state();"
        "print([name for name in sys.modules if name.split('.')[0] in ('numba', 'llvmlite', 'cuda')])"
    )
    assert python(code, NUMBA_ENABLE_CUDASIM="0") == "[]"


def test_out_of_memory_is_known_by_its_name(cuda):
    assert driver.is_out_of_memory(MemoryError())
    assert driver.is_out_of_memory(RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"))
    assert driver.is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."))  # torch
    assert driver.is_out_of_memory(RuntimeError("Out of memory allocating 512 bytes"))  # CuPy
    assert not driver.is_out_of_memory(RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS"))
    assert driver.free_memory() > 0


def test_doctor_tells(monkeypatch):
    from sdie_fast._cli.doctor import examine

    found = examine()["backends"][0]
    assert found["name"] == "cuda"
    assert found["available"]
    assert found["note"]
    monkeypatch.setattr(driver, "proved", lambda: driver.Availability(False, "it broke", "mend it"))
    facts = examine()
    assert (facts["backends"][0]["reason"], facts["auto_on_device"]) == ("it broke", None)


def test_real_driver_is_asked(python):
    """In a fresh process, whatever this machine has."""
    code = (
        "from sdie_fast.cuda import driver as d; s = d.state();print(s.available == (not s.reason) == (not s.fix), s)"
    )
    assert python(code, NUMBA_ENABLE_CUDASIM="0").startswith("True Availability(available=")


class Functions:
    """Functions of the driver that write down their calls and answer as a test wants."""

    def __init__(self, **answers):
        self.answers, self.calls = answers, []

    def __getattr__(self, name):
        def function(*arguments):
            self.calls.append((name, *arguments))
            return self.answers.get(name, (0, 5))

        return function


class Stream:
    """A stream of which nothing is asked."""


class TestStreams:
    @pytest.fixture
    def functions(self, monkeypatch):
        def make(**answers):
            found = Functions(**answers)
            monkeypatch.setattr(driver, "simulated", lambda: False)
            monkeypatch.setattr(driver, "binding", lambda: found)
            return found

        return make

    def test_our_own_wait_for_no_default_stream(self, monkeypatch, functions):
        found = functions()
        monkeypatch.setattr(driver, "cuda", lambda: types.SimpleNamespace(external_stream=lambda handle: Stream()))
        made = streams.own()
        assert found.calls == [("cuStreamCreate", 1)]  # CU_STREAM_NON_BLOCKING
        del made
        assert found.calls[1:] == [("cuStreamDestroy", 5)]

    def test_of_one_handle_there_is_one(self):
        if driver.simulated():
            pytest.skip("a stream of the simulator is a number")
        assert streams.stream(0) is streams.stream(streams.LEGACY)
        assert streams.stream(0) is not streams.stream(2)

    def test_pageable_copies_are_waited_for(self, functions):
        found = functions()
        streams.settle()
        assert found.calls == [("cuStreamSynchronize", streams.LEGACY)]

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [((0, 0), False), ((0, 1), True), ((0, 2), True), ((906, None), True), ((400, None), False)],
    )
    def test_what_is_captured(self, functions, answer, expected):
        functions(cuStreamIsCapturing=answer)
        assert streams.captured(7) == expected

    def test_errors_are_named(self, functions):
        functions(cuEventCreate=(types.SimpleNamespace(name="CUDA_ERROR_UNKNOWN"),))
        with pytest.raises(streams.DriverError, match="cuEventCreate answers CUDA_ERROR_UNKNOWN"):
            streams.event()

    def test_an_event_that_is_not_ready_is_no_error(self, cuda, functions, caplog):
        caplog.set_level(logging.DEBUG)
        functions(cuEventQuery=(600,))
        event = streams.event()
        assert not streams.finished(event)
        functions(cuEventQuery=(0,))
        assert streams.finished(event)
        assert not caplog.records
        functions(cuEventQuery=(types.SimpleNamespace(name="CUDA_ERROR_ILLEGAL_ADDRESS"),))
        with pytest.raises(streams.DriverError, match="ILLEGAL_ADDRESS"):
            streams.finished(event)

    def test_copies(self, cuda):
        shape = (5, 7)
        there, back = (cuda.pinned_array(shape, np.float32) for _ in range(2))
        there[:] = np.arange(35).reshape(shape)
        first, second = (cuda.device_array(shape, np.float32) for _ in range(2))
        stream = streams.own()
        at = [streams.address(array) for array in (there, first, second, back)]
        streams.upload(at[1], at[0], 4 * 35, stream)
        streams.exchange(at[2], at[1], 4 * 35, stream)
        streams.download(at[3], at[2], 4 * 35, stream)
        stream.synchronize()
        np.testing.assert_array_equal(back, there)
