"""manifest.json: what a directory made by `sdie-fast export-sam` holds, with the hash of every file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .._files import replace_file
from ..errors import ModelError

FORMAT = "sdie_fast sam 1"
FILE_NAME = "manifest.json"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Manifest:
    """A model's facts.

    Attributes
    ----------
    name : str
        Architecture: "vit_b", "vit_l", "vit_h" or "small".
    precision : {"fp32", "fp16", "int8"}
        Of the encoder's weights and arithmetic; layer normalisation is always fp32. int8: of its
        linear layers.
    size : int
        Side of the square input in pixels.
    channels, embedding_size : int
        The embedding is (channels, embedding_size, embedding_size).
    pixel_mean, pixel_std : tuple of float
        Of the three channels, for intensities of 0 to 255.
    mask_threshold : float
        Logits above it are inside.
    files : dict of str to str
        SHA-256 of each file, by its name in the directory.
    parity : dict
        What the export measured against torch.
    made_with : dict of str to str
        Versions.
    """

    name: str
    precision: str
    size: int
    channels: int
    embedding_size: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    mask_threshold: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write it, by atomic rename."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        replace_file(directory / FILE_NAME, lambda file: file.write(text.encode()))


def load_manifest(directory: Path, *, verify: bool = True) -> Manifest:
    """Read a directory's manifest and check its files.

    Parameters
    ----------
    directory : Path
        As `sdie-fast export-sam` writes it.
    verify : bool
        Whether to hash the files (about a second a gigabyte).

    Raises
    ------
    ModelError
        No manifest, not a valid one, or a file that is missing or not the one it names.
    """
    path = directory / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; {directory} is not what `sdie-fast export-sam` writes") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    try:
        if content.pop("format") != FORMAT:
            raise ModelError(f"{path}: another format than {FORMAT!r}")
        content["pixel_mean"] = tuple(float(v) for v in content["pixel_mean"])
        content["pixel_std"] = tuple(float(v) for v in content["pixel_std"])
        manifest = Manifest(**content)
        numbers = (manifest.size, manifest.channels, manifest.embedding_size)
        if any(not isinstance(n, int) or n < 1 for n in numbers) or manifest.precision not in PRECISIONS:
            raise ModelError(f"{path}: sizes {numbers}, precision {manifest.precision!r}")
        files = dict(manifest.files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a valid manifest: {error!r}") from error
    for name in ("encoder.onnx", "decoder.onnx"):
        if name not in files:
            raise ModelError(f"{path}: names no {name}")
    strange = [name for name in files if Path(name).name != name]
    if strange:
        raise ModelError(f"{path}: names {strange[0]!r}, outside of its directory")
    for name, expected in files.items():
        file = directory / name
        if not file.is_file():
            raise ModelError(f"{file}: no such file, though {path} names it")
        if verify and file_hash(file) != expected:
            raise ModelError(f"{file}: not the file that {path} names: its SHA-256 differs")
    return manifest


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
