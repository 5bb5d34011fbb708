"""What a segmenter is: images in, embeddings, masks with their quality out."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidTypeError
from .geometry import Embeddings, Floats, Geometry, Prompt, as_images
from .prompts import Answer, answer

__all__ = ["Segmenter", "geometries_of", "geometry_of_one"]


class Segmenter(abc.ABC):
    """A frozen model that embeds images once and decodes prompts from the embedding many times.

    Attributes
    ----------
    takes_tensors : bool
        Whether images may be tensors, or arrays on a GPU.
    takes_prompts : bool
        Whether it can be pointed at something; what cannot answers "auto" without options alone.
    at_once : int
        Prompts whose logits fit in memory together; those of one image always do.
    """

    takes_tensors: bool = False
    takes_prompts: bool = True
    at_once: int = 1

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
    def providers(self) -> tuple[str, ...]:
        """What its parts really run on."""
        return ()

    @property
    def thresholds(self) -> tuple[float, float]:
        """Lowest predicted IoU and stability that "auto" keeps unless told: segment-anything's own."""
        return 0.88, 0.95

    def take(self, images: Any, axes: str | None = None) -> list[Any]:
        """Split what a caller calls images into (H, W, C) views, checked: see `as_images`."""
        return list(as_images(images, axes))

    @abc.abstractmethod
    def encode(self, images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]], axes: str | None = None) -> Embeddings:
        """Embed images.

        Parameters
        ----------
        images : ndarray or sequence of ndarray
            (N, H, W), (N, H, W, 1), (N, H, W, 3), or a sequence of (H, W), (H, W, 1) and (H, W, 3) of any sizes; a
            single image counts as one. uint8, uint16 or float32 in [0, 1].
        axes : None or {"HW", "HWC", "NHW", "NHWC"}
            What the axes of the array, or of each in the sequence, are; None tells by the shape: `sdie_fast.enhance`.
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

    def predict(self, embeddings: Embeddings, prompts: Sequence[Prompt], masks: Any = None) -> tuple[Any, Any]:
        """Decode prompts on the embeddings of one or several images: by `decode`, unless a model knows a quicker way.

        Parameters
        ----------
        embeddings : Embeddings
            Of N images.
        prompts : sequence of Prompt
            One for each, of K_1 to K_N prompts; all with as many points, and all or none with boxes, and with masks.
        masks : ndarray or Tensor, float32, (K_1 + ... + K_N, h, w), optional
            Logits of an earlier decoding, where the model computes, instead of the prompts' own.

        Returns
        -------
        logits : ndarray or Tensor, float32, (K_1 + ... + K_N, 4, h, w)
        quality : ndarray or Tensor, float32, (K_1 + ... + K_N, 4)
            In the order of the images, where the model computes.
        """
        found, begin = [], 0
        for k, prompt in enumerate(prompts):
            own = prompt if masks is None else dataclasses.replace(prompt, masks=masks[begin : begin + len(prompt)])
            begin += len(prompt)
            found.append(self.decode(embeddings[k], own))
        if len(found) == 1:
            return found[0]
        logits, quality = (np.concatenate(part) for part in zip(*found, strict=True))
        return logits, quality

    def answer(self, images: Any, prompt: Any, options: Any = None, axes: str | None = None) -> list[Answer]:
        """Segment images, as `__call__` does; gives the answer of each, with all that is known of it."""
        return answer(self, images, prompt, options or {}, axes)

    def __call__(
        self,
        images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        prompt: Any = "auto",
        *,
        axes: str | None = None,
        **options: Any,
    ) -> tuple[Any, Floats]:
        """Segment images.

        Parameters
        ----------
        images, axes
            As for `encode`.
        prompt : {"auto"}, Support, Prompt or sequence of Prompt
            What to segment: see `sdie_fast.segment.prompts`. A `Prompt` for each image gives the
            union of its K masks.
        **options
            Fields of `prompts.Auto`, with "auto".

        Returns
        -------
        masks : ndarray, bool, (N, H, W), or a list of (H, W) where sizes differ
            Foreground; of a single image (H, W).
        quality : ndarray, float32, (N,)
            Mean predicted IoU of the masks used; 0 where there was none.
        """
        found = self.answer(images, prompt, options, axes)
        masks = [a.mask for a in found]
        quality = np.array([a.quality for a in found], np.float32)
        if not isinstance(images, Sequence) and _validate.axes_of(images, axes)[0] != "N":
            return masks[0], quality
        return (np.stack(masks) if len({m.shape for m in masks}) == 1 else masks), quality


def geometries_of(views: Sequence[Any], size: int) -> list[Geometry]:
    """How each of (H, W, C) views lies in a model's input."""
    return [Geometry(int(view.shape[0]), int(view.shape[1]), size) for view in views]


def geometry_of_one(embedding: Any) -> Geometry:
    """The geometry of one image's embedding.

    Raises
    ------
    InvalidTypeError
        Not that of one image.
    """
    if isinstance(embedding, Embeddings) and len(embedding) == 1:
        return embedding.geometries[0]
    received = len(embedding) if isinstance(embedding, Embeddings) else type(embedding).__name__
    raise InvalidTypeError(f"embedding: received {received}; accepted: Embeddings of one image")
