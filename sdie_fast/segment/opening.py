"""A segmenter by path: which of the classes of this package a file or a directory is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import _needs, _validate
from ..errors import InvalidArgumentError
from .map_manifest import map_model_in
from .maps import OnnxSegmenter
from .onnx import Options
from .sam import FILE_NAME, Sam
from .segmenter import Segmenter

__all__ = ["is_checkpoint", "open_segmenter"]


def is_checkpoint(source: Path | None) -> bool:
    """Whether a path is a SAM checkpoint, which torch alone opens."""
    return source is not None and source.is_file() and source.suffix != ".onnx"


def open_segmenter(
    source: Path | None,
    provider: str = "auto",
    threads: int | None = None,
    backend: str = "auto",
    dtype: str = "float32",
) -> Segmenter:
    """Open a segmenter.

    Parameters
    ----------
    source : Path or None
        A directory that `sdie-fast export-sam` wrote, a SAM checkpoint, a map model (`map_manifest.map_model_in`), or
        None for the small SAM that ships.
    provider : str
        "auto", "cpu", "cuda", or "tensorrt" with ONNX Runtime; a device with torch.
    threads : int, optional
        Of what runs it; torch's are the whole process's.
    backend : {"auto", "onnx", "torch"}
        "auto": torch for a checkpoint, else ONNX Runtime.
    dtype : {"float32", "bfloat16"}
        In torch.

    Raises
    ------
    InvalidArgumentError
        Options that exclude one another.
    ModelError
        A file or a device that cannot be used.
    MissingPackageError
        torch, segment-anything or onnx2torch is missing.
    """
    _validate.choice("auto", "onnx", "torch")("--segmenter-backend", backend)
    _validate.integer(1, _validate.MAX_THREADS, optional=True)("threads", threads)
    checkpoint = is_checkpoint(source)
    if backend == "torch" or (backend == "auto" and checkpoint):
        return _in_torch(source, provider, dtype, threads)
    if checkpoint:
        raise InvalidArgumentError(
            f"--segmenter-backend: received 'onnx' with the file {source}; accepted: with a directory that "
            f"`sdie-fast export-sam {source} DIR` writes"
        )
    if dtype != "float32":
        raise InvalidArgumentError(
            f"--segmenter-dtype: received {dtype!r} with ONNX; accepted: with --segmenter-backend torch "
            "(an ONNX model has its own: export-sam --precision)"
        )
    options = Options(provider, threads)
    return OnnxSegmenter(source, options=options) if _is_map(source) else Sam(source, options)  # type: ignore[arg-type]


def _is_map(source: Path | None) -> bool:
    """Whether a path is for `OnnxSegmenter`, which tells what a folder of models lacks."""
    if source is None or (source / FILE_NAME).is_file():
        return False
    return map_model_in(source) is not None or (source.is_dir() and any(source.glob("*.onnx")))


def _in_torch(source: Path | None, provider: str, dtype: str, threads: int | None) -> Segmenter:
    with _needs.needing('"sdie-fast[sam]"'):
        import torch

        if _is_map(source):
            from . import torch_maps

            kind: Any = torch_maps.TorchMaps
        else:
            from . import torch_sam

            kind = torch_sam.TorchSam
    if provider not in ("auto", "cpu") and not provider.startswith("cuda"):
        raise InvalidArgumentError(
            f"--provider: received {provider!r} with a segmenter in torch; accepted: auto, cuda, cpu"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    found: Segmenter = kind(source, device=there if provider == "auto" else provider, dtype=dtype)
    return found
