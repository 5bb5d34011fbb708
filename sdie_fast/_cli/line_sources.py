"""Where `sdie-fast line` takes frames from: a file of raw frames, an image, a pipe, a camera."""

from __future__ import annotations

import itertools
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ImageFileError, InvalidArgumentError
from ..files import IMAGE_SUFFIXES, read
from ..line import Layout, layout
from .line_camera import camera

__all__ = ["Frame", "Source", "opened"]

Frame = npt.NDArray[Any]
_IN_MEMORY = 2**30  # bytes of a file that are read at once, so that no frame waits for the disk


class Source(NamedTuple):
    """Frames of one size and format, or blocks of lines of an endless web, the last of which may be shorter."""

    size: tuple[int, int]
    format: str
    frames: Iterator[Frame]
    note: Callable[[], str] | None = None  # what is to be told at the end, or ""


def opened(
    stack: ExitStack,
    source: str,
    size: tuple[int, int] | None,
    format: str | None,
    *,
    strip: int | None,
    loop: int | None,
    endless: bool,
    pace: float | None,
) -> Source:
    """Open what SOURCE names; a file is read `loop` times, or `endless`ly where that is not said."""
    if source.startswith("camera:"):
        if loop is not None or pace is not None:
            raise InvalidArgumentError(
                "--loop, --pace: accepted with a file or a pipe; a camera has a pace of its own"
            )
        return Source(*camera(stack, source.removeprefix("camera:"), size, format or "Mono8"))
    path = Path(source)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _image(path, size, format, _times(loop, endless))
    if size is None:
        raise InvalidArgumentError("--size: received none; accepted: WIDTHxHEIGHT, which raw frames do not tell")
    format = format or "Mono8"
    lines = layout(format, *size)
    try:
        regular = source != "-" and stat.S_ISREG(path.stat().st_mode)
        if regular:
            blocks = _file(path, lines, strip is not None)
            times = _times(loop, endless)
            return Source(size, format, itertools.chain.from_iterable(map(blocks, times)))
        if loop is not None:
            raise InvalidArgumentError("--loop: accepted with a file; a pipe is read once")
        pipe = sys.stdin.buffer if source == "-" else stack.enter_context(path.open("rb"))
    except OSError as error:
        raise ImageFileError(f"SOURCE: {source} cannot be read: {error.strerror or error}") from error
    reader = _Pipe(pipe, lines, strip is not None)
    return Source(size, format, reader.blocks(), reader.note)


def _times(loop: int | None, endless: bool) -> Iterator[int]:
    return itertools.count() if endless and loop is None else iter(range(loop or 1))


def _file(path: Path, lines: Layout, web: bool) -> Callable[[int], Iterator[Frame]]:
    """Give what reads a file of raw frames from its beginning."""
    total, row = path.stat().st_size, _bytes(lines._replace(shape=(1, *lines.shape[1:])))
    unit = row * lines.shape[0]
    least = row if web else unit
    if total == 0 or total % least:
        what = "lines" if web else "frames"
        raise InvalidArgumentError(
            f"SOURCE: {path} has {total:,} bytes, {total / least:.2f} {what}; accepted: whole {what} of {least:,} "
            "bytes (--size, --input)"
        )
    data: npt.NDArray[np.uint8] = (
        np.fromfile(path, np.uint8) if total <= _IN_MEMORY else np.memmap(path, np.uint8, "r")
    )

    def frames(_turn: int) -> Iterator[Frame]:
        for at in range(0, total, unit):
            yield data[at : at + unit].view(lines.dtype).reshape(-1, *lines.shape[1:])

    return frames


def _image(path: Path, size: tuple[int, int] | None, format: str | None, times: Iterator[int]) -> Source:
    """A photograph as a frame: eight bits as they are, grey or colour, sixteen as Mono16."""
    pixels = read(path).pixels
    found = {("uint8", 2): "Mono8", ("uint16", 2): "Mono16", ("uint8", 3): "RGB8"}.get(
        (str(pixels.dtype), pixels.ndim)
    )
    height, width = pixels.shape[:2]
    if found is None:
        raise InvalidArgumentError(f"SOURCE: {path} has 16 bits in colour; accepted: 8 bits, or 16 in grey")
    if (size or (width, height)) != (width, height) or (format or found).lower() != found.lower():
        raise InvalidArgumentError(
            f"--size, --input: {path} is {width}x{height} {found}; accepted: that, or a file of raw frames"
        )
    return Source((width, height), found, (pixels for _ in times))


def _bytes(lines: Layout) -> int:
    return int(np.prod(lines.shape)) * lines.dtype.itemsize


class _Pipe:
    """Frames of a pipe, all in one array, one after the other."""

    def __init__(self, stream: BinaryIO, lines: Layout, web: bool) -> None:
        self._stream, self._lines, self._web = stream, lines, web
        self._left = 0

    def blocks(self) -> Iterator[Frame]:
        """Read until the other end closes it."""
        block = np.empty(*self._lines)
        data = memoryview(block).cast("B")  # type: ignore[arg-type]
        while True:
            filled = 0
            while filled < len(data) and (count := self._stream.readinto(data[filled:])):  # type: ignore[attr-defined]
                filled += count
            if filled < len(data):
                row = len(data) // len(block)
                whole = filled // row if self._web else 0
                self._left = filled - whole * row
                if whole:
                    yield block[:whole]
                return
            yield block

    def note(self) -> str:
        """What was left over, in words."""
        what = "line" if self._web else "frame"
        return f"the last {self._left:,} bytes were no whole {what}, and were left out" if self._left else ""
