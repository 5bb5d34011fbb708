"""Images as columns of arrays, as Ray Data and its like hand them to what they call."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ..enhance import Enhancer
from ..errors import InvalidArgumentError
from ..recipe import Recipe
from .job import Job

__all__ = ["EnhanceColumns"]


class EnhanceColumns:
    """Enhances the images of a batch of rows: `dataset.map_batches(EnhanceColumns(recipe))`. It can be pickled.

    Parameters
    ----------
    recipe : Recipe or path
        How images are enhanced.
    backend, threads, per_channel, white_level
        As for `enhance`. One thread, since such engines run many of these beside each other.
    columns : sequence of str
        Those of them that are there hold images: an array (N, H, W) or (N, H, W, 3), or an object array of images of
        several sizes or of the bytes of image files. Other columns are passed through.
    suffix : str
        Of what comes of the bytes of a file, such as ".png" or ".jpg".
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
        backend: str = "auto",
        *,
        threads: int = 1,
        per_channel: bool = False,
        white_level: float | None = None,
        columns: tuple[str, ...] = ("image", "bytes"),
        suffix: str = ".png",
    ) -> None:
        self._enhancer = Enhancer(recipe, backend, threads, white_level=white_level, per_channel=per_channel)
        self._job = Job(self._enhancer.recipe, backend, per_channel=per_channel, white_level=white_level)
        self.threads, self.columns, self.suffix = threads, tuple(columns), suffix

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the batch with its images enhanced.

        Raises
        ------
        InvalidArgumentError
            None of the columns is there, or an image cannot be used.
        ImageFileError
            The bytes of a file cannot be read; the message says which row's.
        """
        found = [name for name in self.columns if name in batch]
        if not found:
            accepted = " or ".join(self.columns)
            raise InvalidArgumentError(
                f"batch: received the columns {', '.join(batch) or 'none'}; accepted: {accepted}"
            )
        return {**batch, **{name: self._column(name, batch[name]) for name in found}}

    def _column(self, name: str, values: Any) -> npt.NDArray[Any]:
        if isinstance(values, np.ndarray) and values.dtype != object:
            return np.asarray(self._enhancer(values)[0]) if len(values) else values
        out = np.empty(len(values), object)
        for n, value in enumerate(values):
            if isinstance(value, bytes):
                out[n] = b"".join(self._job(value, f"{name}[{n}]", self.suffix, self.threads).parts)
            else:
                out[n] = self._enhancer(np.asarray(value))[0]
        return out
