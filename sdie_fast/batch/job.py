"""What is done to one image file, wherever that is: decoded, enhanced, encoded."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
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

    One image is enhanced at a time, so that what comes out does not depend on its neighbours.

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
    """

    def __init__(
        self,
        recipe: Recipe,
        backend: str = "auto",
        *,
        per_channel: bool = False,
        white_level: float | None = None,
        png_level: int = 1,
    ) -> None:
        self._enhancer = Enhancer(recipe, backend, 1, white_level=None, per_channel=per_channel)
        self.white_level = white_level
        self.png_level = png_level

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
        picture = files.decode(data, name)
        times.append(time.perf_counter())
        pixels = self._at(picture, threads if isinstance(threads, int) else threads())(picture.pixels)[0]
        times.append(time.perf_counter())
        parts = files.encode(dataclasses.replace(picture, pixels=pixels), suffix, name, png_level=self.png_level)
        times.append(time.perf_counter())
        height, width = pixels.shape[:2]
        return Done(parts, height * width, *np.diff(times).tolist())

    def _at(self, picture: files.Picture, threads: int) -> Any:
        """Make the enhancer for a picture's white level and a number of threads; its network is shared."""
        enhancer = copy.copy(self._enhancer)
        enhancer.threads = threads
        if picture.pixels.dtype == np.uint16:
            enhancer.white_level = picture.white_level if self.white_level is None else self.white_level
        return enhancer
