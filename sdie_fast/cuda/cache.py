"""Compiled kernels, kept on disk: compiling one takes up to tens of seconds, loading it milliseconds.

A file holds one kernel for one set of argument types: a line of JSON, the machine code, and the code it was made of (for a
second GPU of another kind). The line says what the kernel depends on: the package's source, what the kernel's functions
take from around them, options and types, the versions of Python, Numba and NVIDIA's libraries, the compute capability. The file is named by
a hash of that; one whose line says otherwise, or that is damaged, is as good as none, and is written anew. Nothing in a file
runs on the host: there is no pickle in it. The machine code runs on the GPU, and so only files are read that are the user's
or root's, and that nobody else can write.

The folder is `$SDIE_FAST_KERNEL_CACHE`, else sdie_fast/kernels in `$XDG_CACHE_HOME` or ~/.cache (on Windows in
%LOCALAPPDATA%). Where the variable is empty, or the folder cannot be written, nothing is kept. Beyond `MOST_BYTES` the
files that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KernelCache", "folder"]

MOST_BYTES = 64 * 2**20
_SUFFIX = ".kernel"


def folder() -> Path | None:
    """Where kernels are kept; None: nowhere."""
    told = os.environ.get("SDIE_FAST_KERNEL_CACHE")
    if told is not None:
        return Path(told) if told else None
    if base := os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"):
        return Path(base) / "sdie_fast" / "kernels"
    with contextlib.suppress(RuntimeError):  # nobody's home
        return Path.home() / ".cache" / "sdie_fast" / "kernels"
    return None


@functools.cache
def _surroundings() -> list[str]:
    """What every kernel depends on."""
    from cuda import pathfinder

    source = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted([*here.glob("**/*.py"), *here.parent.glob("filters/*.py")]):
        source.update(file.read_bytes())
    found = [source.hexdigest(), sys.version]
    found += [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "numba-cuda", "cuda-core")]
    for name in ("nvvm", "nvJitLink"):
        library = os.stat(pathfinder.load_nvidia_dynamic_lib(name).abs_path)
        found.append(f"{name} {library.st_size} {library.st_mtime_ns}")
    return found


def _described(value: Any, known: dict[Any, int]) -> Any:
    """A constant; or a function's name and what its globals and closures hold, which its source does not say.

    `known` are the functions described before. Raises TypeError at what can be neither.
    """
    function = getattr(value, "py_func", value)
    if isinstance(function, types.FunctionType):
        if function in known:
            return known[function]
        known[function] = len(known)
        held = {
            name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__
        }
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held |= {name: cell.cell_contents for name, cell in cells}
        parts = {name: _described(item, known) for name, item in held.items()}
        return [f"{function.__module__}.{function.__qualname__}", parts]
    if isinstance(value, tuple):
        return [_described(item, known) for item in value]
    if isinstance(value, (types.ModuleType, type)):
        return value.__name__
    numbas_type = type(value).__module__.startswith("numba.")
    if value is None or numbas_type or isinstance(value, (bool, int, float, str, np.generic)):
        return f"{type(value).__name__} {value!r}"
    raise TypeError(f"{value!r} is no constant")


class KernelCache:
    """One kernel's files, in the place of Numba's own cache of a dispatcher (`CUDACache`).

    Parameters
    ----------
    dispatcher
        The kernel, as `numba.cuda.jit` made it.
    """

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    @property
    def cache_path(self) -> str | None:
        """The folder."""
        found = folder()
        return str(found) if found else None

    def _what(self, signature: Any) -> dict[str, Any]:
        from numba.cuda import get_current_device

        return {
            "kernel": _described(self._dispatcher, {}),
            "types": [str(argument) for argument in signature],
            "options": [f"{name} {value!r}" for name, value in sorted(self._dispatcher.targetoptions.items())],
            "capability": list(get_current_device().compute_capability),
            "with": _surroundings(),
        }

    @staticmethod
    def _place(where: Path, what: dict[str, Any]) -> Path:
        name = what["kernel"][0].rpartition(".")[2]
        return where / f"{name}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}{_SUFFIX}"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Read the kernel for these types, None where there is none; called by Numba."""
        del target_context
        where = folder()
        if where is None:
            return None
        try:
            what = self._what(signature)
            place = self._place(where, what)
            with place.open("rb") as file:
                _belongs_to_user(file.fileno())
                line, _, rest = file.read().partition(b"\n")
            header = json.loads(line)
            if header["what"] != what or header["sha256"] != hashlib.sha256(rest).hexdigest():
                return None
            kernel = _rebuilt(header, rest[: header["bytes"]], rest[header["bytes"] :], signature)
            with contextlib.suppress(OSError):
                os.utime(place)  # used last
        except Exception:  # none, not ours, damaged, or of a Numba that has changed: compiled anew
            return None
        return kernel

    def save_overload(self, signature: Any, kernel: Any) -> None:
        """Keep a kernel that was just compiled; called by Numba."""
        where, library = folder(), kernel.library
        plain = not (library._linking_files or library.referenced_objects or library.use_cooperative or kernel.debug)
        if where is None or not plain or kernel.launch_config_sensitive or len(library._cubin_cache) != 1:
            return
        with contextlib.suppress(Exception):  # a cache that cannot be written is none
            ((target, code),) = library._cubin_cache.items()
            source = zlib.compress(json.dumps(library.llvm_strs).encode())
            what, machine_code = self._what(signature), bytes(code.code)
            header = {
                "what": what,
                "entry": kernel.entry_name,
                "name": library.name,
                "target": list(target),
                "registers": library._max_registers,
                "nvvm": library._nvvm_options,
                "lto": library._lto,
                "carveout": kernel.shared_memory_carveout,
                "bytes": len(machine_code),
                "sha256": hashlib.sha256(machine_code + source).hexdigest(),
            }
            _write(self._place(where, what), json.dumps(header).encode() + b"\n" + machine_code + source)

    def flush(self) -> None:
        """Do nothing, as what was compiled stays true; called by Numba."""


def _belongs_to_user(descriptor: int) -> None:
    if hasattr(os, "getuid"):
        status = os.fstat(descriptor)
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            raise PermissionError("others could have written it")


def _rebuilt(header: dict[str, Any], machine_code: bytes, source: bytes, signature: Any) -> Any:
    from cuda.core import ObjectCode
    from numba.cuda import types, typing
    from numba.cuda.codegen import CUDACodeLibrary
    from numba.cuda.dispatcher import _Kernel

    target = tuple(header["target"])
    library = CUDACodeLibrary._rebuild(
        codegen=None,
        name=header["name"],
        entry_name=header["entry"],
        llvm_strs=json.loads(zlib.decompress(source)),
        ptx_cache={},
        cubin_cache={target: ObjectCode.from_cubin(machine_code, name=header["name"])},
        linkerinfo_cache={target: ""},
        max_registers=header["registers"],
        nvvm_options=header["nvvm"],
        needs_cudadevrt=False,
        nrt=False,
        use_cooperative=False,
        lto=header["lto"],
    )
    return _Kernel._rebuild(
        cooperative=False,
        name=header["entry"],
        signature=typing.signature(types.void, *signature),
        codelibrary=library,
        debug=False,
        lineinfo=False,
        call_helper=None,
        extensions=[],
        shared_memory_carveout=header["carveout"],
        launch_config_sensitive=False,
    )


def _write(place: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and remove those not used for longest beyond `MOST_BYTES`."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(made).replace(place)
    except BaseException:
        Path(made).unlink()
        raise
    kept = [(file, file.stat()) for file in place.parent.glob(f"*{_SUFFIX}")]
    excess = sum(status.st_size for _, status in kept) - MOST_BYTES
    for old, status in sorted(kept, key=lambda item: item[1].st_mtime_ns):
        if excess <= 0:
            break
        old.unlink(missing_ok=True)
        excess -= status.st_size
