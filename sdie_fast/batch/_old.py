"""`sdie-fast enhance`: files in, enhanced files out, with decoding and encoding beside the core's work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import Enhancer, Recipe, __version__
from .. import files as images
from ..errors import ImageFileError, InvalidArgumentError, SdieError
from ..files import IMAGE_SUFFIXES, replace_file

JOURNAL = ".sdie-fast.json"

_CHUNK = 64  # files read ahead; those of one shape and dtype are enhanced in one call
_IO_THREADS = 4


@dataclass
class Summary:
    """What a run did."""

    done: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    pixels: int = 0
    seconds: float = 0.0
    enhance_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        done, pixels = self.done, self.pixels / 1e6
        return {
            **dataclasses.asdict(self),
            "seconds": round(self.seconds, 4),
            "enhance_seconds": round(self.enhance_seconds, 4),
            "images_per_second": round(done / self.seconds, 2) if self.seconds else None,
            "megapixels_per_second": round(pixels / self.seconds, 3) if self.seconds else None,
        }

    def __str__(self) -> str:
        told = f"{self.done} enhanced, {self.skipped} skipped, {len(self.failed)} failed in {self.seconds:.2f} s"
        if not self.done:
            return told
        return told + f" ({self.done / self.seconds:.0f} images/s, {self.pixels / self.seconds / 1e6:.1f} Mpx/s)"


def find(source: Path, target: Path) -> list[Path]:
    """List the images under a folder, but for masks beside their images and what lies under target.

    Raises
    ------
    InvalidArgumentError
        There is none.
    """
    inside = target.resolve()  # OUT may lie in IN; its files are not input
    found = sorted(
        p
        for p in source.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES
        and not p.name.startswith(".")
        and p.is_file()
        and not _is_mask(p)
        and not p.resolve().is_relative_to(inside)
    )
    if not found:
        raise InvalidArgumentError(f"IN: no image files ({', '.join(IMAGE_SUFFIXES)}) under {source}")
    return found


def plan(source: Path, target: Path, suffix: str | None) -> dict[Path, Path]:
    """Pair every image under `source` with where it goes; `suffix` (".png") changes the format.

    A file goes to `target` itself, or into it if that is a directory or has no image suffix. In a data set laid
    out as .../Images and .../GT the masks in GT are left alone.

    Raises
    ------
    InvalidArgumentError
        No such source, nothing in it, two files that would get one name, or a source that would be
        overwritten.
    """
    if not source.exists():
        raise InvalidArgumentError(f"IN: {source} does not exist")
    if source.is_file():
        if target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir():
            pairs = {source: target}
        else:
            pairs = {source: target / (source.with_suffix(suffix).name if suffix else source.name)}
    else:
        if source.resolve() == target.resolve():
            raise InvalidArgumentError(f"OUT: {target} is IN itself; originals are never overwritten")
        found = find(source, target)
        pairs = {
            p: target / (p.relative_to(source).with_suffix(suffix) if suffix else p.relative_to(source)) for p in found
        }
    taken: dict[Path, Path] = {}
    for a, b in pairs.items():
        if b.suffix.lower() not in IMAGE_SUFFIXES:
            raise InvalidArgumentError(f"OUT: {b} has no image suffix ({', '.join(IMAGE_SUFFIXES)})")
        if a.resolve() == b.resolve():
            raise InvalidArgumentError(f"OUT: {b} is an input; originals are never overwritten")
        if b in taken:
            raise InvalidArgumentError(f"IN: {taken[b]} and {a} would both be written to {b}")
        taken[b] = a
    return pairs


def _is_mask(path: Path) -> bool:
    """Whether a file is a ground-truth mask of a data set laid out as .../Images and .../GT."""
    return path.parent.name == "GT" and (path.parent.parent / "Images").is_dir()


class Journal:
    """What was made from what, kept in OUT: lets `--resume` skip what is done and unchanged."""

    def __init__(self, directory: Path, key: str, *, resume: bool) -> None:
        self._path = directory / JOURNAL
        self._key = key
        self._entries: dict[str, list[int]] = {}
        if not resume:
            return
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if stored["key"] == key:
                self._entries = {str(k): list(v) for k, v in stored["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or another recipe's, or damaged: everything is to be done

    @staticmethod
    def _state(source: Path, target: Path) -> list[int]:
        a, b = source.stat(), target.stat()
        return [a.st_size, a.st_mtime_ns, b.st_size, b.st_mtime_ns]

    def is_done(self, source: Path, target: Path) -> bool:
        """Whether target was made from source as both are now."""
        try:
            return self._entries.get(str(source.resolve())) == self._state(source, target)
        except OSError:
            return False

    def add(self, source: Path, target: Path) -> None:
        """Record that target has been made from source."""
        self._entries[str(source.resolve())] = self._state(source, target)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps({"key": self._key, "files": self._entries})
        replace_file(self._path, lambda file: file.write(text.encode()))


def recipe_key(recipe: Recipe, per_channel: bool) -> str:
    """Return what identifies the work: the recipe, the options and the version that did it."""
    content = json.dumps([recipe.to_dict(), per_channel, __version__], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def run(
    pairs: dict[Path, Path],
    recipe: Recipe,
    *,
    threads: int | None,
    backend: str,
    per_channel: bool,
    journal: Journal | None,
    watch: Callable[[Summary], None],
) -> Summary:
    """Enhance every pair; a file that fails is noted and the rest go on.

    `watch` is told the summary so far as files are finished.
    """
    enhancer = Enhancer(recipe, backend, threads, per_channel=per_channel)
    summary = Summary()
    start = time.perf_counter()
    todo = []
    for source, target in pairs.items():
        if journal is not None and journal.is_done(source, target):
            summary.skipped += 1
            watch(summary)
        else:
            todo.append((source, target))

    def fail(source: Path, error: Exception) -> None:
        summary.failed[str(source)] = str(error)
        watch(summary)

    with ThreadPoolExecutor(_IO_THREADS) as io:
        rest = iter(todo)

        def read_ahead() -> list[tuple[Path, Path, Future[images.Picture]]]:
            return [(a, b, io.submit(images.read, a)) for a, b in islice(rest, _CHUNK)]

        reading = read_ahead()
        while reading:
            ahead = read_ahead()  # the next chunk is decoded while this one is enhanced
            groups: dict[tuple[Any, ...], list[tuple[Path, Path, images.Picture]]] = {}
            for source, target, future in reading:
                try:
                    picture = future.result()
                except ImageFileError as error:
                    fail(source, error)
                else:
                    key = (picture.pixels.shape, picture.pixels.dtype.str)
                    groups.setdefault(key, []).append((source, target, picture))
            writing: list[tuple[Path, Path, int, Future[None]]] = []
            for group in groups.values():
                begin = time.perf_counter()
                try:
                    out, _ = enhancer(np.stack([picture.pixels for _, _, picture in group]))
                except SdieError as error:
                    for source, _, _ in group:
                        fail(source, error)
                    continue
                summary.enhance_seconds += time.perf_counter() - begin
                for (source, target, picture), pixels in zip(group, out, strict=True):
                    written = io.submit(images.write, target, dataclasses.replace(picture, pixels=pixels))
                    writing.append((source, target, pixels.shape[0] * pixels.shape[1], written))
            for source, target, count, written in writing:
                try:
                    written.result()
                except SdieError as error:
                    fail(source, error)
                    continue
                if journal is not None:
                    journal.add(source, target)
                summary.done += 1
                summary.pixels += count
                watch(summary)
            if journal is not None:
                journal.save()
            reading = ahead
    summary.seconds = time.perf_counter() - start
    return summary
