"""Which files a run takes, and where each goes: found while the run goes on, never all of them held."""

from __future__ import annotations

import itertools
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..files import IMAGE_SUFFIXES, Entry, Store, open_store

__all__ = ["Pair", "expand", "open_places", "targets"]

_MOST = 10_000_000  # names of a pattern
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class Pair(NamedTuple):
    """A file to be done.

    Attributes
    ----------
    source : Entry
        In IN.
    target : str
        Its name in OUT.
    error : str, optional
        Why it is not to be done.
    """

    source: Entry
    target: str
    error: str | None = None


def open_places(source: str, target: str, suffix: str | None = None) -> tuple[Store, Store, Pair | None]:
    """Open IN and OUT; where IN is a single file, its pair as well.

    A file goes to `target` itself, or into it if that is a directory or has no image suffix.

    Raises
    ------
    InvalidArgumentError
        No such source, a format that is not written here, or a source that would be overwritten.
    """
    folder, name = posixpath.split(source)
    root = open_store(folder or ".") if name and _is_image(name) else open_store(source)
    entry = root.entry(name) if name and _is_image(name) else None
    if entry is None:
        if root.local and os.path.isfile(source):
            raise InvalidArgumentError(f"IN: {source} has no image suffix ({', '.join(IMAGE_SUFFIXES)})")
        if root.local and not os.path.exists(source):
            raise InvalidArgumentError(f"IN: {source} does not exist")
        return open_store(source), open_store(target), None
    if _is_image(target) and not os.path.isdir(target):
        short = {".jpeg": ".jpg", ".tiff": ".tif"}
        ends = [short.get(end, end) for end in (suffix, posixpath.splitext(target)[1].lower()) if end]
        if len(set(ends)) > 1:
            raise InvalidArgumentError(f"--format: received {suffix!r} with OUT {target}; accepted: one of the two")
        parent, into = posixpath.split(target)
        out = open_store(parent or ".")
    else:
        out, into = open_store(target), _renamed(name, suffix)
    if root.local and out.local and os.path.realpath(source) == os.path.realpath(os.path.join(out.url, into)):
        raise InvalidArgumentError(f"OUT: {source} is the input; originals are never overwritten")
    return root, out, Pair(entry, into)


def targets(
    source: Store, target: Store, *, suffix: str | None = None, names: Iterable[str] | None = None
) -> Iterator[Pair]:
    """List the images of a folder and where each goes, as they are found.

    Names that begin with a dot are left out, masks (`GT` beside `Images`) are, and so is what lies in OUT. Folders that
    links lead to are followed.

    Parameters
    ----------
    source, target : Store
        IN and OUT.
    suffix : str, optional
        Of every target, such as ".png"; None keeps the source's.
    names : iterable of str, optional
        Names in IN: these files instead of all. Each is taken once. With a suffix they are all read before the first is
        done, since two of them may have one target.

    Raises
    ------
    InvalidArgumentError
        OUT is IN.
    """
    where = _Where(source, target)
    if where.same:
        raise InvalidArgumentError(f"OUT: {target.url} is IN itself; originals are never overwritten")
    found = _found(source, suffix, where.skip) if names is None else _named(source, suffix, names)
    return where.refuse(found)


def expand(pattern: str) -> list[str]:
    """Write out `{000..999}` and `{train,test}`, however many there are, as a shell does.

    Raises
    ------
    InvalidArgumentError
        What is between braces is neither, or no name or too many come of it.
    """
    ways: list[list[str]] = []
    for n, part in enumerate(_BRACES.split(pattern)):
        if n % 2 == 0:
            ways.append([part])
        elif limits := _RANGE.fullmatch(part):
            first, last = limits.groups()
            if int(last) - int(first) >= _MOST:
                raise InvalidArgumentError(f"{pattern}: more than {_MOST} shards")
            # Zeros in front are kept: {08..11} is 08, 09, 10, 11.
            ways.append([f"{value:0{len(first)}}" for value in range(int(first), int(last) + 1)])
        elif "," in part:
            ways.append(part.split(","))
        else:
            raise InvalidArgumentError(f"{pattern}: received {{{part}}}; accepted: {{000..999}} or {{train,test}}")
    count = math.prod(map(len, ways))
    if not 1 <= count <= _MOST:
        raise InvalidArgumentError(f"{pattern}: names {count} shards; accepted: 1 to {_MOST}")
    return ["".join(parts) for parts in itertools.product(*ways)]


def _identity(path: str | Path) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _renamed(name: str, suffix: str | None) -> str:
    return name if suffix is None else name[: name.rindex(".")] + suffix


class _Where:
    """How IN and OUT lie to each other. Links and mounts are seen through: folders are known by device and inode."""

    def __init__(self, source: Store, target: Store) -> None:
        self.source, self.target = source, target
        self.both_local = source.local and target.local
        try:
            self.same = source.url.rstrip("/") == target.url.rstrip("/") or (
                self.both_local and os.path.samefile(source.url, target.url)
            )
        except OSError:
            self.same = False  # no OUT yet

    def nearest(self, path: str) -> str | None:
        """The URL of IN or of OUT, whichever a local path lies in more closely; None where it is in neither."""
        keys: dict[object, str] = {}
        for url in (self.target.url, self.source.url):
            keys[os.path.realpath(url)] = url  # OUT need not be there yet
            with suppress(OSError):
                keys[_identity(url)] = url
        real = Path(os.path.realpath(path))
        for folder in (real, *real.parents):
            if str(folder) in keys:
                return keys[str(folder)]
            with suppress(OSError):
                if (key := _identity(folder)) in keys:
                    return keys[key]
        return None

    def skip(self, name: str) -> bool:
        """Whether a folder, or a file that is a link, is no input."""
        above, _, last = name.rpartition("/")
        if last.startswith("."):
            return True
        if last == "GT" and _holds_files(posixpath.join(self.source.url, above, "Images")):
            return True
        return self.both_local and self.nearest(os.path.join(self.source.url, name)) == self.target.url

    def refuse(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """Turn down targets that lie in IN: where OUT is above it, or links lead there."""
        known, inside = None, False
        for pair in pairs:
            if self.both_local and pair.error is None:
                folder = os.path.dirname(pair.target)
                if folder != known:
                    known = folder
                    inside = self.nearest(os.path.join(self.target.url, folder)) == self.source.url
                if inside:
                    told = f"{pair.source.name}: would be written to {pair.target}, within IN; originals are never overwritten"
                    pair = pair._replace(error=told)  # noqa: PLW2901
            yield pair


def _holds_files(url: str) -> bool:
    try:
        return next(iter(open_store(url).walk()), None) is not None
    except OSError:
        return False


def _found(source: Store, suffix: str | None, skip: Callable[[str], bool]) -> Iterator[Pair]:
    known: str | None = None
    twice: frozenset[int] = frozenset()
    for entry in source.walk(skip):
        folder, _, last = entry.name.rpartition("/")
        if last.startswith(".") or not _is_image(last):
            continue
        target = _renamed(entry.name, suffix)
        error = None
        if suffix is not None:
            if folder != known:
                known, twice = folder, _twice(source, folder)
            if hash(_renamed(last, "")) in twice:
                error = f"{entry.name}: another file of that folder would be written to {target}, too; neither is"
        yield Pair(entry, target, error)


def _twice(source: Store, folder: str) -> frozenset[int]:
    """Hashes of the names that several images of a folder share but for their suffixes.

    The folder is listed for it once more. A hash takes 8 bytes: ten million names fit, and that two of
    them share one by chance is less likely than one in a hundred thousand.
    """
    listed = open_store(posixpath.join(source.url, folder)).walk(lambda name: not _is_image(name))
    names = (e.name for e in listed if _is_image(e.name) and "/" not in e.name and not e.name.startswith("."))
    stems = (hash(_renamed(name, "")) for name in names)
    values, counts = np.unique(np.fromiter(stems, np.int64), return_counts=True)
    return frozenset(values[counts > 1].tolist())


def _named(source: Store, suffix: str | None, names: Iterable[str]) -> Iterator[Pair]:
    goals: Counter[str] = Counter()
    names = filter(None, names)
    if suffix is not None:
        names = list(dict.fromkeys(map(posixpath.normpath, names)))
        goals.update(_renamed(name, suffix) for name in names if _is_image(name))
    seen = set()
    for given in names:
        name = posixpath.normpath(given)
        if name in seen:
            continue
        seen.add(name)
        entry, error = None, None
        if name.startswith("/") or name.split("/")[0] == "..":
            error = "accepted are names in IN, without a leading / or .."
        elif not _is_image(name):
            error = f"no image suffix ({', '.join(IMAGE_SUFFIXES)})"
        else:
            try:
                entry = source.entry(name)
            except OSError as failure:
                error = failure.strerror or str(failure)
            except ValueError as failure:  # a zero byte
                error = str(failure)
            else:
                error = "no such file" if entry is None else None
        target = _renamed(name, suffix) if _is_image(name) else name
        if error is None and goals[target] > 1:
            error = f"another file of the list would be written to {target}, too; neither is"
        yield Pair(entry or Entry(name, 0, ""), target, error and f"{name}: {error}")
