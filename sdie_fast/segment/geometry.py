"""Between a caller's image and a model's square input: the one place where coordinates change.

As SAM has it: the longest side is resized to the model's, keeping the shape of the picture, which stands at the upper left
of a square padded with zeros (after normalisation). Coordinates are in pixels, x before y, pixel k covering [k, k + 1).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@functools.lru_cache(maxsize=64)
def _resampling(source: int, target: int) -> Floats:
    """Matrix (target, source) of linear interpolation, over a wider triangle where it shrinks (as Pillow's BILINEAR)."""
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    position = np.arange(source) + 0.5
    weights = np.maximum(1.0 - np.abs(position[None] - centre[:, None]) / support, 0.0)
    matrix: Floats = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


@dataclass(frozen=True)
class Geometry:
    """How an image of height x width lies in a model's input of size x size.

    Attributes
    ----------
    height, width : int
        Of the image.
    size : int
        Side of the model's input.
    """

    height: int
    width: int
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width that the image has in the input."""
        longest = max(self.height, self.width)
        # Rounded half up, as SAM's ResizeLongestSide.
        return tuple(max(int(n * self.size / longest + 0.5), 1) for n in (self.height, self.width))  # type: ignore[return-value]

    def to_model(self, points: Floats) -> Floats:
        """Coordinates (..., 2) or boxes (..., 4) in the image to those in the input."""
        high, wide = self.inner
        scale = np.array([wide / self.width, high / self.height], np.float32)
        return np.asarray(points * np.tile(scale, points.shape[-1] // 2), np.float32)

    def to_image(self, points: Floats) -> Floats:
        """The way back."""
        high, wide = self.inner
        scale = np.array([self.width / wide, self.height / high], np.float32)
        return np.asarray(points * np.tile(scale, points.shape[-1] // 2), np.float32)

    def fill(self, plane: Floats, out: Floats, scratch: Floats) -> None:
        """Resize a plane (height, width) into the upper left of out (size, size); scratch: (size, width) or more."""
        high, wide = self.inner
        part = scratch.ravel()[: high * self.width].reshape(high, self.width)
        np.matmul(_resampling(self.height, high), plane, out=part)
        out[:high, wide:] = 0.0
        out[high:] = 0.0
        out[:high, :wide] = part @ _resampling(self.width, wide).T

    def from_model(self, logits: Floats) -> Floats:
        """Logits (N, h, w) over the input, at any resolution, to (N, height, width) over the image."""
        high, wide = self.inner
        rows = max(round(high * logits.shape[1] / self.size), 1)
        columns = max(round(wide * logits.shape[2] / self.size), 1)
        inner = logits[:, :rows, :columns]
        down, across = _resampling(rows, self.height), _resampling(columns, self.width)
        return np.asarray(np.matmul(np.matmul(down, inner), across.T), np.float32)
