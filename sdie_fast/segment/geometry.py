"""Between a caller's image and a model's square input: the one place where coordinates change.

As SAM has it: the longest side is resized to the model's, keeping the shape of the picture, which stands at the upper
left of a square padded with zeros (after normalisation). Coordinates are in pixels, x before y; pixel k
covers [k, k + 1).

Arrays are NumPy's or torch's: NumPy and torch share most names, and what they do not share is here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError

__all__ = [
    "Embeddings",
    "Floats",
    "Geometry",
    "Masks",
    "Prompt",
    "Stretched",
    "as_images",
    "cast",
    "namespace",
    "on_host",
    "placed",
    "resized",
]

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]

IN_SEQUENCE = "(H, W), (H, W, 1), (H, W, 3)"


def namespace(array: Any) -> Any:
    """NumPy or torch: the module whose functions take this array."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    import torch

    return torch


def cast(array: Any, dtype: str) -> Any:
    """An array of another type of numbers, where it is."""
    xp = namespace(array)
    return array.astype(dtype) if xp is np else array.to(getattr(xp, dtype))


def placed(values: npt.NDArray[Any], like: Any) -> Any:
    """A host's array as what `like` is, and where that is."""
    xp = namespace(like)
    return values if xp is np else xp.from_numpy(values).to(like.device)


def on_host(array: Any) -> npt.NDArray[Any]:
    """An array on the host, copied where it is elsewhere."""
    return np.asarray(array if namespace(array) is np else array.cpu().numpy())


@functools.lru_cache(maxsize=64)
def _resampling(source: int, target: int, device: Any = None) -> Any:
    """Matrix (target, source) of linear interpolation, wider where it shrinks (as Pillow's BILINEAR)."""
    if device is not None:
        import torch

        with torch.inference_mode(False):  # it is kept, for callers with a gradient too
            return torch.from_numpy(_resampling(source, target).copy()).to(device)
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    position = np.arange(source) + 0.5
    weights = np.maximum(1.0 - np.abs(position[None] - centre[:, None]) / support, 0.0)
    matrix: Floats = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resized(planes: Any, height: int, width: int) -> Any:
    """Planes (..., h, w) resized to (..., height, width), float32."""
    device = None if namespace(planes) is np else planes.device
    down = _resampling(planes.shape[-2], height, device)
    across = _resampling(planes.shape[-1], width, device)
    return (down @ planes) @ across.T


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
        high, wide = (max(int(n * self.size / longest + 0.5), 1) for n in (self.height, self.width))
        return high, wide

    def to_model(self, points: Floats) -> Floats:
        """Coordinates (..., 2) or boxes (..., 4) in the image to those in the input."""
        high, wide = self.inner
        scale = np.array([wide / self.width, high / self.height], np.float32)
        return np.asarray(points * np.tile(scale, points.shape[-1] // 2), np.float32)

    def fill(self, planes: Any, out: Any, mean: Any = None, std: Any = None) -> None:
        """Resize planes into a model's input.

        Parameters
        ----------
        planes : ndarray or Tensor, float32, (..., C, height, width)
        out : ndarray or Tensor, float32, (..., C or 3, size, size)
            Zero outside of the picture afterwards; one plane fills all three.
        mean, std : ndarray or Tensor, float32, (C,), optional
            Taken off, then divided by.
        """
        high, wide = self.inner
        out[..., :high, wide:] = 0.0
        out[..., high:, :] = 0.0
        inner = out[..., :high, :wide]
        inner[...] = resized(planes, high, wide)
        if mean is not None:
            inner -= mean[:, None, None]
            inner /= std[:, None, None]

    def valid(self, logits: Any) -> Any:
        """The part of logits (..., h, w) over the input, at any resolution, that lies on the image."""
        rows, columns = (
            max(round(part * side / self.size), 1) for part, side in zip(self.inner, logits.shape[-2:], strict=True)
        )
        return logits[..., :rows, :columns]

    def from_model(self, logits: Any) -> Any:
        """Logits (..., h, w) over the input to (..., height, width) over the image."""
        return resized(self.valid(logits), self.height, self.width)


class Stretched(Geometry):
    """How an image lies in the input of a model that wants it to fill the square, as SAM 2 does."""

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width that the image has in the input."""
        return self.size, self.size


@dataclass(frozen=True)
class Embeddings:
    """What an encoder makes of images.

    Attributes
    ----------
    features : ndarray, Tensor or Held, float32, (N, C, h, w)
        One map an image, where the model computes: see `numpy`.
    geometries : tuple of Geometry
        How each image lies in the model's input.
    """

    features: Any
    geometries: tuple[Geometry, ...]

    def __len__(self) -> int:
        return len(self.geometries)

    def __getitem__(self, at: int | Sequence[int]) -> Embeddings:
        """Some images' embeddings; one image's is kept as a batch of one."""
        rows = [range(len(self))[k] for k in ([at] if isinstance(at, int) else at)]
        return Embeddings(self.features[rows], tuple(self.geometries[k] for k in rows))

    def numpy(self) -> Floats:
        """Give the maps as an array, copied where they are on a GPU."""
        if isinstance(self.features, np.ndarray):
            return self.features
        host = self.features.cpu() if hasattr(self.features, "cpu") else self.features
        return np.asarray(host.numpy(), np.float32)


@dataclass(frozen=True)
class Prompt:
    """What points at the wanted masks: K prompts for one image, each decoded on its own.

    Attributes
    ----------
    points : ndarray, float32, (K, P, 2), optional
        x, y in the image's pixels.
    labels : ndarray, float32, (K, P), optional
        1 inside, 0 outside; with points.
    boxes : ndarray, float32, (K, 4), optional
        x0, y0, x1, y1 in the image's pixels.
    masks : ndarray, float32, (K, h, w), optional
        Logits of an earlier decoding.
    """

    points: Floats | None = None
    labels: Floats | None = None
    boxes: Floats | None = None
    masks: Floats | None = None

    def __len__(self) -> int:
        given = self.points if self.points is not None else self.boxes
        return 0 if given is None else len(given)

    def checked(self, geometry: Geometry, side: int | None = None) -> Prompt:
        """Check against an image, and bring to float32; side: of what a model takes as masks.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            No prompt, shapes that do not fit, a label other than 0 and 1, a point outside of the
            image, a box without area or outside of it.
        """
        width, height = geometry.width, geometry.height
        points = _array("points", self.points, "(K, P, 2)")
        labels = _array("labels", self.labels, "(K, P)")
        boxes = _array("boxes", self.boxes, "(K, 4)")
        masks = _array("masks", self.masks, "(K, h, w)")
        if points is None and boxes is None:
            raise InvalidArgumentError("prompt: received neither points nor boxes")
        for name, given in (("points", points), ("boxes", boxes)):
            if given is not None and given.size == 0:
                raise InvalidArgumentError(f"{name}: received none, shape {given.shape}")
        if points is not None:
            if points.ndim != 3 or points.shape[2] != 2:
                raise InvalidArgumentError(f"points: received shape {points.shape}; accepted: (K, P, 2)")
            if labels is None or labels.shape != points.shape[:2]:
                received = None if labels is None else labels.shape
                raise InvalidArgumentError(
                    f"labels: received shape {received}; accepted: {points.shape[:2]}, as points"
                )
            if not np.isin(labels, (0.0, 1.0)).all():
                raise InvalidArgumentError("labels: received other values; accepted: 0 (outside) and 1 (inside)")
            for k, p in np.argwhere(~((points >= 0) & (points <= (width, height))).all(2)):
                raise InvalidArgumentError(
                    f"points: received {points[k, p].tolist()} at [{k}, {p}], outside of the image, "
                    f"{width} x {height} pixels"
                )
        if boxes is not None:
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise InvalidArgumentError(f"boxes: received shape {boxes.shape}; accepted: (K, 4)")
            if points is not None and len(points) != len(boxes):
                raise InvalidArgumentError(f"boxes: received {len(boxes)} with {len(points)} sets of points")
            low, high = boxes[:, :2], boxes[:, 2:]
            for k in np.flatnonzero(~((low >= 0) & (low < high) & (high <= (width, height))).all(1)):
                raise InvalidArgumentError(
                    f"boxes: received {boxes[k].tolist()} at [{k}]; accepted: 0 <= x0 < x1 <= {width}, "
                    f"0 <= y0 < y1 <= {height}"
                )
        accepted = (len(self), side or "h", side or "w")
        if masks is not None and (masks.ndim != 3 or len(masks) != len(self) or (side and masks.shape != accepted)):
            raise InvalidArgumentError(
                f"masks: received shape {masks.shape}; accepted: ({', '.join(map(str, accepted))})"
            )
        return Prompt(points, labels, boxes, masks)


def _array(name: str, value: Any, shape: str) -> Floats | None:
    if value is None:
        return None
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"{name}: received {type(value).__name__}; accepted: numbers of shape {shape}"
        ) from error
    if not np.isfinite(array).all():
        raise InvalidArgumentError(f"{name}: received NaN or an infinite number")
    return array


def as_images(images: Any, axes: Any = None) -> list[npt.NDArray[Any]]:
    """Split what a caller calls images, whose axes are `axes`, into (H, W, C) views, checked.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        As for `sdie_fast.enhance`, or none given.
    """
    if isinstance(images, np.ndarray):
        batch = list(_validate.image(images, axes=axes))
    elif isinstance(images, Sequence) and not isinstance(images, (str, bytes)):
        batch = []
        for image in images:
            planes = _validate.image(image, axes=axes)
            if len(planes) != 1:
                raise InvalidArgumentError(
                    f"images: received an array of shape {image.shape} in a sequence; accepted: {IN_SEQUENCE}"
                )
            batch.append(planes[0])
    else:
        raise InvalidTypeError(
            f"images: received {type(images).__name__}; accepted: a numpy array or a sequence of them"
        )
    if not batch:
        raise InvalidArgumentError("images: received none")
    for image in batch:
        _validate.intensities(image[None], _validate.white_level(None, image.dtype))
    return batch
