"""A training run's folder: who may write to it, what it holds, and checkpoints that are whole or not there."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from .._files import replace_file
from ..errors import InvalidArgumentError, InvalidTypeError, RunError
from .config import Config, Job, read_toml, settings, to_toml

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.toml"
SPLIT = "split.json"
RESULT = "result.json"
SEARCHED = "searched.json"
VERIFIER = "verifier.npz"
LOG = "log.jsonl"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, to this process.

    Raises
    ------
    RunError
        Another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "run.lock", "a", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{folder}: cannot be used: {error.strerror or error}") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no locks on this system
            pass
        except OSError as error:
            raise RunError(f"{folder}: another run is using it") from error
        yield


def runs_in(path: Path) -> list[Path]:
    """The runs of a folder, one for each class; the path itself where it is a run, or a recipe."""
    if not (path / CONFIG).exists():
        found = sorted(p.parent for p in path.glob(f"*/{CONFIG}"))
        if found:
            return found
    return [path]


def write_json(path: Path, content: Any) -> None:
    """Write JSON by atomic rename.

    Raises
    ------
    RunError
        It cannot be written.
    """
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file by atomic rename.

    Raises
    ------
    RunError
        It cannot be written: the older file is still there.
    """
    try:
        replace_file(path, lambda stream: stream.write(data), durable=durable)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    RunError
        It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error


def save_config(folder: Path, config: Config, data: str, segmenter: str, job: Job | None = None) -> None:
    """Write a new run's settings, or see that an older run has the same.

    Raises
    ------
    RunError
        The folder holds a run of other settings.
    """
    path = folder / CONFIG
    if path.exists():
        before, found = load_config(folder)
        new = {**config.to_dict(), "data": data, "segmenter": segmenter}
        old = {**before.to_dict(), **found}
        for name, value in new.items():
            if old.get(name) != value:
                raise RunError(
                    f"{path}: holds a run of other settings: {name} {old.get(name)!r}, received {value!r}; go on with the "
                    "same, or take another folder"
                )
        return
    write_bytes(path, to_toml(config, job, data=data, segmenter=segmenter).encode())
    write_json(folder / "environment.json", environment())


def load_config(folder: Path) -> tuple[Config, dict[str, Any]]:
    """A run's settings, and what its data set and segmenter call themselves.

    Raises
    ------
    RunError
        Not a run's folder, or a damaged one.
    """
    path = folder / CONFIG
    try:
        content = read_toml(path)
        return settings(content)[0], content["found"]
    except KeyError as error:
        raise RunError(f"{path}: not a run's settings: {error!r}") from error
    except (InvalidArgumentError, InvalidTypeError) as error:
        raise RunError(f"{path}: {error}") from error


def environment() -> dict[str, Any]:
    """What a run was made with."""
    found = {
        "sdie_fast": __version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    for name in ("torch", "torchvision", "numpy", "onnxruntime", "segment-anything"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, "cpus": os.cpu_count()}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    Raises
    ------
    RunError
        The disk is full, or the folder is gone; an older checkpoint is still there.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue(), durable=True)


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; no code in it is run.

    Raises
    ------
    RunError
        It cannot be read.
    """
    import torch

    try:
        found: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever unpickling does
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())[:300]}") from error
    return found
