"""ONNX Runtime sessions: execution providers tried one by one, and what is kept between runs."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._needs import needing
from ..errors import InvalidArgumentError, MissingPackageError, ModelError

__all__ = [
    "PROVIDERS",
    "Held",
    "Options",
    "Running",
    "Span",
    "available",
    "import_runtime",
    "open_model",
    "open_session",
]

# Fastest first.
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True)
class Options:
    """How sessions run.

    Attributes
    ----------
    provider : {"auto", "tensorrt", "cuda", "cpu"}
        One named explicitly raises where it cannot run; "auto" is the first that can.
    threads : int, optional
        CPU threads; None means every CPU this process may run on.
    spinning : bool
        Whether idle threads wait by spinning: quicker answers, for a core kept busy.
    cache : path, optional
        Where TensorRT's engines and the CPU's optimised graphs are kept; None keeps nothing.
        Entries are keyed by the model's hash, the runtime's version, the device and the precision.
    """

    provider: str = "auto"
    threads: int | None = None
    spinning: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Span:
    """Contiguous float32 values somewhere in a device's memory, which an input is bound to without a copy.

    Attributes
    ----------
    pointer : int
        Address of the first value; whatever makes them has finished.
    shape : tuple of int
    device : {"cpu", "cuda"}
    index : int
        Which of the devices.
    owner : object
        Keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    device: str
    index: int
    owner: Any


@dataclass(frozen=True)
class Held:
    """Rows of a session's outputs, float32, that stay where they were computed.

    Attributes
    ----------
    rows : tuple of (OrtValue, int)
        Each row as a batch and its place in it.
    """

    rows: tuple[tuple[Any, int], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Sequence[int]) -> Held:
        return Held(tuple(self.rows[k] for k in at))

    @classmethod
    def of(cls, batches: list[Any]) -> Held:
        """All rows of some outputs."""
        return cls(tuple((batch, k) for batch in batches for k in range(batch.shape()[0])))

    def span(self, at: int = 0) -> Span:
        """One row, as a batch of one."""
        batch, k = self.rows[at]
        shape = (1, *batch.shape()[1:])
        return Span(batch.data_ptr() + 4 * k * math.prod(shape), shape, batch.device_name(), 0, batch)

    def numpy(self) -> npt.NDArray[np.float32]:
        """A copy on the host, (N, ...)."""
        host = {id(batch): batch.numpy() for batch, _ in self.rows}
        return np.stack([host[id(batch)][k] for batch, k in self.rows])


@dataclass(frozen=True)
class Running:
    """A session and the provider it really runs on ("tensorrt", "cuda", "cpu")."""

    session: Any
    provider: str

    @property
    def device(self) -> str:
        """Where it computes: "cpu" or "cuda"."""
        return "cpu" if self.provider == "cpu" else "cuda"

    def hold(self, array: npt.NDArray[Any]) -> Any:
        """Put an input where the session computes, for several runs."""
        return import_runtime().OrtValue.ortvalue_from_numpy(array, self.device, 0)

    def run(self, **inputs: Any) -> list[npt.NDArray[Any]]:
        """Run on arrays, spans and what `hold` returned; all outputs, as arrays."""
        found: list[npt.NDArray[Any]] = self._bound(inputs, "cpu").copy_outputs_to_cpu()
        return found

    def run_held(self, **inputs: Any) -> list[Any]:
        """Run as `run` does; all outputs as values where the session computes, for `Held`."""
        return list(self._bound(inputs, self.device).get_outputs())

    def _bound(self, inputs: dict[str, Any], where: str) -> Any:
        binding = self.session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            elif isinstance(value, Span):
                binding.bind_input(name, value.device, value.index, np.float32, value.shape, value.pointer)
            else:
                binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            binding.bind_output(output.name, where)
        # Returns when the outputs are there, on a GPU too.
        self.session.run_with_iobinding(binding)
        return binding


def import_runtime() -> Any:
    """Import onnxruntime.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    with needing('"sdie-fast[cpu]", or "sdie-fast[gpu]" with an NVIDIA GPU'):
        import onnxruntime
    return onnxruntime


def available() -> dict[str, str]:
    """List the providers: "" where this runtime was built with it, else the reason and the fix."""
    try:
        built = import_runtime().get_available_providers()
    except MissingPackageError as error:
        return dict.fromkeys(PROVIDERS, str(error))
    fix = 'this onnxruntime was built without it: pip install "sdie-fast[gpu]"'
    return {name: "" if full in built else fix for name, full in PROVIDERS.items()}


def _device(provider: str) -> str:
    if provider == "cpu":
        return platform.machine()
    try:
        import ctypes

        cuda = ctypes.CDLL("libcuda.so.1")
        name = ctypes.create_string_buffer(100)
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetName(name, 100, 0) == 0:
            return name.value.decode().replace(" ", "_")
    except OSError:
        pass
    return "gpu"


def _cache_folder(options: Options, provider: str, key: str, precision: str, version: str) -> Path | None:
    if options.cache is None:
        return None
    folder = options.cache / f"{key[:16]}-ort{version}-{provider}-{_device(provider)}-{precision}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a cache that cannot be written is none
    return folder


def _try(ort: Any, path: Path, options: Options, provider: str, key: str, precision: str) -> Any:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    threads = options.threads or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    folder = _cache_folder(options, provider, key, precision, ort.__version__)
    extra: dict[str, Any] = {}
    source = path
    if provider == "tensorrt":
        extra = {"trt_fp16_enable": precision == "fp16"}
        if folder is not None:
            extra |= {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_enable": True,
                "trt_timing_cache_path": str(folder),
            }
    elif folder is not None and provider == "cpu" and not path.with_name(path.name + ".data").exists():
        # Optimised for this very processor's instruction set; the key has the runtime's version, the folder the
        # machine.
        kept = folder / path.name
        if kept.is_file():
            source = kept
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        else:
            settings.optimized_model_filepath = str(folder / f".{path.name}.{os.getpid()}.part")
    session = ort.InferenceSession(str(source), settings, providers=[(PROVIDERS[provider], extra)])
    session.disable_fallback()
    part = settings.optimized_model_filepath
    if part and Path(part).is_file():
        os.replace(part, folder / path.name)  # type: ignore[operator]
    real = session.get_providers()[0]
    if real != PROVIDERS[provider]:
        raise RuntimeError(f"the session runs on {real}")
    return session


def open_session(path: Path, options: Options, *, key: str, precision: str) -> Running:
    """Open a model.

    Parameters
    ----------
    path : Path
        The ONNX file.
    options : Options
        How to run it.
    key : str
        The model's SHA-256.
    precision : {"fp32", "fp16", "int8"}
        For TensorRT and the cache's key; int8 runs on the CPU alone.

    Raises
    ------
    InvalidArgumentError
        No such provider.
    ModelError
        The provider named cannot run, or, with "auto", none can: with each one's reason.
    """
    if options.provider not in (*PROVIDERS, "auto"):
        raise InvalidArgumentError(f"provider: received {options.provider!r}; accepted: auto, {', '.join(PROVIDERS)}")
    ort = import_runtime()
    there = available()
    reasons = []
    for provider in PROVIDERS if options.provider == "auto" else (options.provider,):
        if precision == "int8" and provider != "cpu":
            reasons.append(f"{provider}: an int8 model runs on the CPU; export it as fp16")
            continue
        if there[provider]:
            reasons.append(f"{provider}: {there[provider]}")
            continue
        try:
            return Running(_try(ort, path, options, provider, key, precision), provider)
        except Exception as error:  # onnxruntime raises classes of its own for each status
            reasons.append(f"{provider}: {' '.join(str(error).split())[:400]}")
    raise ModelError(f"{path}: cannot be run; " + "; ".join(reasons))


def open_model(data: bytes, options: Options) -> Any:
    """Open a small model from memory, on the CPU.

    Raises
    ------
    ValueError
        Not a model that can be run.
    MissingPackageError
        onnxruntime is missing.
    """
    ort = import_runtime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = options.threads or 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    try:
        return ort.InferenceSession(data, settings, providers=[PROVIDERS["cpu"]])
    except Exception as error:  # onnxruntime raises classes of its own for each status
        raise ValueError(" ".join(str(error).split())[:400]) from error
