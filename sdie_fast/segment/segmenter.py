"""What a segmenter is: images in, embeddings, masks with their quality out."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Geometry

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


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

    def numpy(self) -> Floats:
        """Give the maps as an array, copied where they are on a GPU."""
        if isinstance(self.features, np.ndarray):
            return self.features
        host = self.features.cpu() if hasattr(self.features, "cpu") else self.features
        return np.asarray(host.numpy(), np.float32)

    def __getitem__(self, at: int) -> Embeddings:
        """One image's embedding, kept as a batch of one."""
        at = range(len(self))[at]
        return Embeddings(self.features[at : at + 1], (self.geometries[at],))


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

    def checked(self, geometry: Geometry) -> Prompt:
        """Check against an image, and bring to float32.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            No prompt, shapes that do not fit, a label other than 0 and 1, a point outside of the
            image, a box without area or outside of it.
        """
        height, width = geometry.height, geometry.width
        points = _array("points", self.points, "(K, P, 2)")
        labels = _array("labels", self.labels, "(K, P)")
        boxes = _array("boxes", self.boxes, "(K, 4)")
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
            outside = ~((points >= 0).all(2) & (points[..., 0] <= width) & (points[..., 1] <= height))
            if outside.any():
                k, p = np.argwhere(outside)[0]
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
            bad = ~((low >= 0).all(1) & (low < high).all(1) & (high <= (width, height)).all(1))
            if bad.any():
                k = int(np.argmax(bad))
                raise InvalidArgumentError(
                    f"boxes: received {boxes[k].tolist()} at [{k}]; accepted: 0 <= x0 < x1 <= {width}, "
                    f"0 <= y0 < y1 <= {height}"
                )
        masks = _array("masks", self.masks, "(K, h, w)")
        if masks is not None and (masks.ndim != 3 or len(masks) != len(self)):
            raise InvalidArgumentError(f"masks: received shape {masks.shape}; accepted: ({len(self)}, h, w)")
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


class Segmenter(abc.ABC):
    """A frozen model that embeds images once and decodes prompts from the embedding many times.

    Attributes
    ----------
    takes_tensors : bool
        Whether images may be tensors, or arrays on a GPU.
    """

    takes_tensors: bool = False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Which model, for reports."""

    @property
    def fingerprint(self) -> str:
        """What answers depend on beside image and prompt: equal models have equal ones."""
        return f"{self.name} {self.size} {self.thresholds}"

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Side of the model's square input in pixels."""

    @property
    def thresholds(self) -> tuple[float, float]:
        """Lowest predicted IoU and stability that "auto" keeps unless told: segment-anything's own."""
        return 0.88, 0.95

    def take(self, images: Any) -> list[Any]:
        """Split what a caller calls images into (H, W, C) views, checked: see `as_images`."""
        return list(as_images(images))

    @abc.abstractmethod
    def encode(self, images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]]) -> Embeddings:
        """Embed images.

        Parameters
        ----------
        images : ndarray or sequence of ndarray
            (N, H, W), (N, H, W, 3), or a sequence of (H, W) and (H, W, 3) of any sizes; uint8,
            uint16 or float32 in [0, 1].
        """

    @abc.abstractmethod
    def decode(self, embedding: Embeddings, prompt: Prompt) -> tuple[Floats, Floats]:
        """Decode K prompts on one image's embedding.

        Returns
        -------
        logits : ndarray, float32, (K, 4, h, w)
            Over the model's input: the mask for an unambiguous prompt, then three for an ambiguous
            one. Positive inside.
        quality : ndarray, float32, (K, 4)
            Predicted IoU.
        """

    def answers(self, views: Sequence[Any], prompts: Sequence[Any]) -> list[Any]:
        """Answer each image's prompt.

        Parameters
        ----------
        views : sequence
            As `take` gives them, N.
        prompts : sequence of Auto, Support or Prompt, N

        Returns
        -------
        list of prompts.Answer
        """
        from . import prompts as module

        return module.answer_each(self, views, prompts)

    def __call__(
        self,
        images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        prompt: Any = "auto",
        **options: Any,
    ) -> tuple[Any, Floats]:
        """Segment images.

        Parameters
        ----------
        images
            As for `encode`; a single (H, W) or (H, W, 3) image counts as one.
        prompt : {"auto"}, Support, Prompt or sequence of Prompt
            What to segment: see `sdie_fast.segment.prompts`. A `Prompt` for each image gives the
            union of its K masks.
        **options
            Fields of `prompts.Auto`, with "auto".

        Returns
        -------
        masks : ndarray, bool, (N, H, W), or a list of (H, W) where sizes differ
            Foreground.
        quality : ndarray, float32, (N,)
            Mean predicted IoU of the masks used; 0 where there was none.
        """
        from . import prompts

        return prompts.segment(self, images, prompt, options)


def geometries_of(views: Sequence[Any], size: int) -> list[Geometry]:
    """How each of (H, W, C) views lies in a model's input."""
    return [Geometry(int(view.shape[0]), int(view.shape[1]), size) for view in views]


def as_images(images: Any) -> list[npt.NDArray[Any]]:
    """Split what a caller calls images into (H, W, C) views, checked.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        As for `sdie_fast.enhance`, or none given.
    """
    if isinstance(images, np.ndarray):
        batch = list(_validate.image(images))
    elif isinstance(images, Sequence) and not isinstance(images, (str, bytes)):
        batch = []
        for image in images:
            planes = _validate.image(image)
            if len(planes) != 1:
                raise InvalidArgumentError(
                    f"images: received an array of shape {image.shape} in a sequence; accepted: (H, W), (H, W, 3)"
                )
            batch.append(planes[0])
    else:
        raise InvalidTypeError(
            f"images: received {type(images).__name__}; accepted: a numpy array or a sequence of them"
        )
    if not batch:
        raise InvalidArgumentError("images: received none")
    for image in batch:
        _validate.intensities(image[None], float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0)
    return batch
