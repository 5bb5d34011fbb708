"""What is done to one image file, wherever that is: decoded, enhanced, encoded."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__, files
from ..enhance import Enhancer
from ..recipe import Recipe

__all__ = ["Done", "Job"]


@dataclass
class Done:
    """An image enhanced: its file's content, its size, and the seconds spent."""

    parts: Sequence[bytes]
    pixels: int
    decode: float
    enhance: float
    encode: float


class Job:
    """What a run does to every file: picklable, and the same on every machine.

    What comes out does not depend on an image's neighbours. On a GPU, those that several threads have ready at the same
    time are enhanced in one call.

    Parameters
    ----------
    recipe : Recipe
        How images are enhanced.
    backend, per_channel
        As for `enhance`.
    white_level : float, optional
        The value that counts as 1.0 in 16-bit files; None means what each file says, else 65535.
    png_level : int
        0 to 9, as `files.encode`.
    limits : files.Limits, optional
        What is refused as too large.
    """

    def __init__(
        self,
        recipe: Recipe,
        backend: str = "auto",
        *,
        per_channel: bool = False,
        white_level: float | None = None,
        png_level: int = 1,
        limits: files.Limits | None = None,
    ) -> None:
        self.limits = limits or files.Limits()
        self._enhancer = Enhancer(recipe, backend, 1, per_channel=per_channel, max_pixels=self.limits.pixels)
        self.white_level = white_level
        self.png_level = png_level
        self._together = _Together() if self._enhancer.backend == "cuda" else None

    @property
    def key(self) -> str:
        """What identifies the work: the recipe, the options and the version that did it."""
        e = self._enhancer
        content = [e.recipe.to_dict(), e.per_channel, self.white_level, self.png_level, __version__]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __call__(self, data: bytes, name: str, suffix: str, threads: int | Callable[[], int] = 1) -> Done:
        """Enhance one file's content.

        Parameters
        ----------
        data : bytes
            The file.
        name : str
            What messages call it.
        suffix : str
            Of what is to come out, such as ".png".
        threads : int or callable
            Threads at most; what is called is asked for them once the file has been decoded.

        Raises
        ------
        SdieError
            It cannot be read, enhanced, or written in that format.
        MemoryError
            There is not enough.
        """
        times = [time.perf_counter()]
        picture = files.decode(data, name, self.limits)
        times.append(time.perf_counter())
        if self.white_level is not None and picture.pixels.dtype == np.uint16 and picture.white_level != files.FULL:
            picture = dataclasses.replace(picture, white_level=self.white_level)
        enhancer = self._at(picture, threads if isinstance(threads, int) else threads())
        pixels = self._together(enhancer, picture.pixels) if self._together else enhancer(picture.pixels)[0]
        times.append(time.perf_counter())
        parts = files.encode(dataclasses.replace(picture, pixels=pixels), suffix, name, png_level=self.png_level)
        times.append(time.perf_counter())
        height, width = pixels.shape[:2]
        return Done(parts, height * width, *(b - a for a, b in itertools.pairwise(times)))

    def _at(self, picture: files.Picture, threads: int) -> Any:
        """Make the enhancer for a picture's white level and a number of threads; its network is shared."""
        enhancer = copy.copy(self._enhancer)
        enhancer.threads = threads
        enhancer.white_level = picture.white_level
        return enhancer


_MOST = 64  # images in a call


class _Together:
    """Images of several threads enhanced in one call: whose turn it is takes along what else has come by then."""

    def __init__(self) -> None:
        self._come, self._turn = threading.Lock(), threading.Lock()
        self._asked: list[tuple[tuple[Any, ...], Any, Future[Any]]] = []

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Together, ()

    def __call__(self, enhancer: Any, pixels: Any) -> Any:
        kind = (pixels.shape, pixels.dtype, enhancer.white_level)
        mine: Future[Any] = Future()
        with self._come:
            self._asked.append((kind, pixels, mine))
        with self._turn:
            while not mine.done():
                with self._come:
                    some = [asked for asked in self._asked if asked[0] == kind][:_MOST]
                    taken = {id(asked) for asked in some}
                    self._asked = [asked for asked in self._asked if id(asked) not in taken]
                _answer(enhancer, some)
        return mine.result()


def _answer(enhancer: Any, asked: Sequence[tuple[Any, Any, Future[Any]]]) -> None:
    """Enhance images of one kind; if that fails, each of them alone, since one may be at fault."""
    try:
        found, _ = enhancer(np.stack([pixels for _, pixels, _ in asked]))
    except Exception as error:
        if len(asked) == 1:
            asked[0][2].set_exception(error)
            return
        for one in asked:
            _answer(enhancer, [one])
        return
    for (_, _, future), pixels in zip(asked, found, strict=True):
        future.set_result(pixels)
