"""Whether CUDA can be used here, and if not, why not and what to do; numba.cuda, loaded when it is first used.

Four layers. `state` asks the packages' metadata and, through ctypes, the driver: it imports neither Numba nor any part
of CUDA, creates no context, and takes a few milliseconds where there is no GPU. `start` imports numba.cuda, and `cuda`
gives it. `proved` compiles and runs a kernel: for `doctor`, and for a call that has failed. The functions below them are
the few calls that differ between a GPU and Numba's simulator.

The simulator runs kernels as Python, one thread after another, some 100,000 times slower than a GPU. It is for tests. A
left-over NUMBA_ENABLE_CUDASIM must not turn a line's GPU into that silently: the backend is available in the simulator
only where SDIE_FAST_CUDA_SIMULATOR=1 is set too.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendUnavailableError

__all__ = [
    "INSTALL",
    "Availability",
    "binding",
    "cuda",
    "current_device",
    "device_of",
    "free_memory",
    "is_out_of_memory",
    "prepare",
    "proved",
    "refusal",
    "simulated",
    "start",
    "state",
]

INSTALL = 'pip install "sdie-fast[gpu]"'
_UPGRADE = INSTALL.replace("install", "install --upgrade")

# CUDA 13's compilers know no older chips (Turing: 7.5); those of CUDA 12 begin at Maxwell.
_LEAST_CAPABILITY = {13: (7, 5)}
_OLDEST_CAPABILITY = (5, 0)

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Availability:
    """Whether kernels can run here; `reason` and `fix` say why not, `note` on what they run."""

    available: bool
    reason: str = ""
    fix: str = ""
    note: str = ""


def simulated() -> bool:
    """Whether numba.cuda is, or will be when it is imported, the simulator."""
    loaded = sys.modules.get("numba.cuda.core.config")
    if loaded is not None:
        return bool(loaded.ENABLE_CUDASIM)
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0").strip() not in ("", "0")


def _version(package: str) -> str:
    """Version of a package; "" where it is missing."""
    from importlib import metadata  # takes longer than all the rest of `import sdie_fast`

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _missing_package() -> str:
    for module, name in (("numba", "numba"), ("numba_cuda", "numba-cuda")):
        if importlib.util.find_spec(module) is None:
            return name
    return "" if _version("cuda-bindings") else "cuda-bindings"


def _load_driver() -> ctypes.CDLL | None:
    if sys.platform == "win32":
        names = ["nvcuda.dll"]
    else:
        names = ["libcuda.so.1", "libcuda.so", "/usr/lib64/libcuda.so.1", "/usr/lib/libcuda.so.1"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _error_name(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    if library.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value:
        return f"{text.value.decode()} ({code})"
    return f"error {code}"


def _integer(function: Any, *arguments: Any) -> int:
    value = ctypes.c_int(0)
    function(ctypes.byref(value), *arguments)
    return value.value


def _ask(library: Any, toolkit: int) -> Availability:
    """What a loaded driver says of itself and its first device.

    Parameters
    ----------
    library
        The driver's C functions.
    toolkit : int
        Major version of the CUDA that the installed packages compile for: a driver runs what was
        compiled for its own major version or an older one.
    """
    driver = _integer(library.cuDriverGetVersion)
    if driver and driver // 1000 < toolkit:
        return Availability(
            False,
            f"the NVIDIA driver is too old: it runs CUDA {driver // 1000}.{driver % 1000 // 10}, "
            f"and the installed packages are for CUDA {toolkit}",
            f'update the driver, or install packages for its CUDA: pip install "numba-cuda[cu{driver // 1000}]"',
        )
    code = library.cuInit(0)
    if code == _NO_DEVICE or (code == 0 and _integer(library.cuDeviceGetCount) < 1):
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        seen = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
        return Availability(
            False,
            f"the NVIDIA driver finds no GPU{seen}",
            "look at nvidia-smi; in a container, pass the GPU in (docker run --gpus all); "
            "CUDA_VISIBLE_DEVICES must name a GPU or be unset",
        )
    if code != 0:
        return Availability(
            False,
            f"the NVIDIA driver does not start: {_error_name(library, code)}",
            "look at nvidia-smi; after a driver update, restart the machine",
        )
    device = _integer(library.cuDeviceGet, 0)
    raw = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(raw, 255, device)
    name = raw.value.decode(errors="replace")
    capability = (
        _integer(library.cuDeviceGetAttribute, _CAPABILITY_MAJOR, device),
        _integer(library.cuDeviceGetAttribute, _CAPABILITY_MINOR, device),
    )
    least = _LEAST_CAPABILITY.get(toolkit, _OLDEST_CAPABILITY)
    words = f"compute capability {capability[0]}.{capability[1]}"
    if capability < least:
        return Availability(
            False,
            f"the GPU {name} is too old: {words}, and CUDA {toolkit} begins at {least[0]}.{least[1]}",
            'pip install "numba-cuda[cu12]", or another GPU' if toolkit > 12 else "another GPU is needed",
        )
    return Availability(True, note=f"{name}, {words}, driver for CUDA {driver // 1000}.{driver % 1000 // 10}")


@functools.cache
def state() -> Availability:
    """Find out, once per process, whether kernels can run here."""
    package = _missing_package()
    if package:
        return Availability(False, f"{package} is missing", INSTALL)
    if simulated():
        if os.environ.get("SDIE_FAST_CUDA_SIMULATOR") == "1":
            return Availability(True, note="Numba's simulator: for tests, some 100,000 times slower")
        return Availability(
            False,
            "Numba's CUDA simulator is active (NUMBA_ENABLE_CUDASIM): kernels would run as Python, "
            "some 100,000 times slower",
            "unset NUMBA_ENABLE_CUDASIM and start anew; for tests, SDIE_FAST_CUDA_SIMULATOR=1 accepts the simulator",
        )
    library = _load_driver()
    if library is None:
        return Availability(
            False,
            "no NVIDIA driver is installed (libcuda is missing)",
            "install the NVIDIA driver; in a container, pass the GPU in (docker run --gpus all)",
        )
    return _ask(library, int(_version("cuda-bindings").split(".")[0]))


_COMPILERS = ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12")  # the wheels that bring libnvvm, of CUDA 13 and 12


def _toolkits(named: list[str]) -> Iterator[Path]:
    """Where a CUDA toolkit may lie: as the environment says, beside nvcc, in the usual places."""
    nvcc = shutil.which("nvcc")
    beside = [] if nvcc is None else [Path(nvcc).resolve().parent.parent]
    versions = sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    places: list[str | Path] = [*named, *beside, "/usr/local/cuda", *versions, "/opt/cuda", "/usr/lib/cuda"]
    return map(Path, places)


def _point_at_toolkit() -> None:
    """Let CUDA_PATH and CUDA_HOME name a toolkit that has libnvvm, unless a wheel brings it.

    numba-cuda asks cuda-pathfinder for it, which remembers these variables when it first looks.
    """
    if any(map(_version, _COMPILERS)):
        return
    named = [os.environ[name] for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    for root in _toolkits(named):
        found = sorted(root.glob("nvvm/lib*/libnvvm.so*")) or sorted(root.glob("nvvm/bin/**/nvvm*.dll"))
        if found:
            if not named or Path(named[0]) != root:
                os.environ["CUDA_PATH"] = os.environ["CUDA_HOME"] = str(root)
            return


@functools.cache
def prepare() -> None:
    """Mend what keeps numba-cuda from compiling; for whoever compiles a kernel, before the first one."""
    if not hasattr(np, "row_stack"):
        # NumPy 2.5 removed it. numba-cuda 0.30.4 names it whenever it compiles, and makes of it what it makes of vstack.
        np.row_stack = np.vstack  # noqa: NPY201
    _point_at_toolkit()


def _no_start(told: object, fix: str = INSTALL) -> Availability:
    return Availability(False, f"numba.cuda does not start: {' '.join(str(told).split())}", fix)


@functools.cache
def start() -> Availability:
    """Import numba.cuda and let it look for its driver and compiler; once per process."""
    found = state()
    if not found.available:
        return found
    prepare()
    try:
        module: Any = importlib.import_module("numba.cuda")
    except Exception as error:  # versions that do not go together show here, too
        return Availability(False, f"numba.cuda does not load: {error}", _UPGRADE)
    if not simulated():
        compiler = "the compiler of CUDA kernels (libnvvm) is missing"
        try:
            available = module.is_available()
        except Exception as error:  # it raises what its packages raise, of classes of their own
            return _no_start(f"{compiler}: {error}", f"{INSTALL}, or set CUDA_HOME to a CUDA toolkit that has nvvm")
        if not available:
            return _no_start(module.cuda_error() or compiler)
    # A small image fills no GPU; that is no news to who sends one.
    warnings.filterwarnings("ignore", message="Grid size .* low occupancy")
    return found


def _run_a_kernel() -> None:
    module = cuda()

    @module.jit
    def one_line(out: Any) -> None:
        out[module.threadIdx.x] = 7

    out = module.to_device(np.zeros(32, np.int32))
    one_line[1, 32](out)
    if not (out.copy_to_host() == 7).all():
        raise RuntimeError("its result is wrong")


@functools.cache
def proved() -> Availability:
    """`start`, and compile and run a kernel of one line.

    What breaks where versions of packages do not go together shows there. It takes half a second, nearly all of which
    the first kernel of a process takes in any case.
    """
    found = start()
    if not found.available or simulated():
        return found
    try:
        _run_a_kernel()
    except Exception as error:  # of NVVM, of the linker, of the driver, of Numba
        told = f"a kernel of one line does not run: {type(error).__name__}: {' '.join(str(error).split())}"
        return Availability(False, told, _UPGRADE)
    return found


@functools.cache
def cuda() -> Any:
    """Get numba.cuda, imported and started.

    Raises
    ------
    BackendUnavailableError
        Kernels cannot run here.
    """
    found = start()
    if not found.available:
        raise refusal(found)
    return importlib.import_module("numba.cuda")


def refusal(found: Availability) -> BackendUnavailableError:
    """Make the error for what is not available."""
    return BackendUnavailableError(f"backend: 'cuda' cannot run here: {found.reason}; to fix: {found.fix}")


@functools.cache
def binding() -> Any:
    """Get the driver's functions, as cuda.bindings.driver has them; Numba's wrappers of them are slow, and log."""
    cuda()
    return importlib.import_module("cuda.bindings.driver")


def current_device() -> int:
    """Number of the device whose context is current in this thread; device 0 where none is, which then is current."""
    if simulated():
        return 0
    code, device = binding().cuCtxGetDevice()
    return int(device if code == 0 else cuda().get_current_device().id)


def device_of(pointer: int) -> int:
    """Number of the device on which an address lies."""
    if simulated() or pointer == 0:
        return 0
    attribute = binding().CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    code, ordinal = binding().cuPointerGetAttribute(attribute, pointer)
    return int(ordinal) if code == 0 else -1


def free_memory() -> float:
    """Bytes free on the current device; infinite in the simulator, or where nobody can say.

    Numba puts off giving memory back; here it does so first.
    """
    context = cuda().current_context()
    manager = getattr(context, "memory_manager", None)
    put_off = getattr(manager, "deallocations", None)
    if put_off is not None:
        put_off.clear()
    try:
        return float(context.get_memory_info().free)
    except NotImplementedError:  # a memory manager of the caller's, such as a pool
        return math.inf


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whichever library, is the device's lack of memory (or, in the simulator, the host's)."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower().replace("_", " ")
