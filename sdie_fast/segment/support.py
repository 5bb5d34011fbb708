"""What a few labelled images show, as a direction in a model's embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Embeddings, Floats, Geometry, Masks, Prompt, as_images, namespace, placed

__all__ = ["Model", "Support"]


class Model(Protocol):
    """What prompts need of a segmenter: see `Segmenter`."""

    @property
    def at_once(self) -> int:
        """Prompts whose logits fit in memory together."""

    @property
    def thresholds(self) -> tuple[float, float]:
        """Lowest predicted IoU and stability that "auto" keeps unless told."""

    def take(self, images: Any, axes: str | None = None) -> list[Any]:
        """Split images into views."""

    def encode(self, images: Any) -> Embeddings:
        """Embed images."""

    def predict(self, embeddings: Embeddings, prompts: Sequence[Prompt], masks: Any = None) -> tuple[Any, Any]:
        """Decode each image's prompts."""


class Support:
    """What a few labelled images show, to be found in others (PerSAM; Zhang et al. 2023).

    The mean embedding inside the masks, against the one outside, gives a map of similarity over another image; its
    highest and lowest places become points, decoded once, then with the mask found, then with its box.

    Parameters
    ----------
    images, axes
        As `Segmenter.encode` takes them, 1 or more.
    masks : sequence of ndarray, bool, (H, W)
        Each image's foreground, some pixel of it at least.
    places : int
        Separate places looked for in an image, 1 to 16: their masks are united.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        No image, a mask of another size or without foreground.
    """

    def __init__(self, images: Any, masks: Sequence[Masks], places: int = 3, *, axes: str | None = None) -> None:
        self._images = as_images(images, axes)
        self._masks = list(masks)
        if len(self._masks) != len(self._images):
            raise InvalidArgumentError(f"masks: received {len(self._masks)} for {len(self._images)} image(s)")
        for image, mask in zip(self._images, self._masks, strict=True):
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                raise InvalidTypeError(
                    f"masks: received {getattr(mask, 'dtype', type(mask).__name__)}; accepted: bool arrays"
                )
            if mask.shape != image.shape[:2]:
                raise InvalidArgumentError(f"masks: received shape {mask.shape} for an image of {image.shape[:2]}")
            if not mask.any():
                raise InvalidArgumentError("masks: received one without a pixel of foreground")
        self.places: int = _validate.integer(1, 16)("places", places)
        self._known: WeakKeyDictionary[Model, tuple[Floats, float]] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return type(self), (self._images, self._masks, self.places)  # what models made of it is made anew

    @property
    def fingerprint(self) -> bytes:
        """Hash of what it shows."""
        digest = hashlib.blake2b(str(self.places).encode(), digest_size=16)
        for image, mask in zip(self._images, self._masks, strict=True):
            digest.update(f"{image.dtype.str}{image.shape}".encode())
            digest.update(np.ascontiguousarray(image).tobytes() + np.packbits(mask).tobytes())
        return digest.digest()

    def direction(self, model: Model) -> tuple[Floats, float]:
        """The direction from the support's background to its foreground in the embedding, and the level between.

        Returns
        -------
        direction : ndarray, float32, (C,)
            Of unit length.
        level : float
            Projection half-way between the two means.
        """
        if model not in self._known:
            embeddings = model.encode(self._images)
            means = []
            for maps, geometry, mask in zip(embeddings.numpy(), embeddings.geometries, self._masks, strict=True):
                features = _unit(maps)
                inside, covered = (_shares(m, geometry, maps.shape[-1]) for m in (mask, np.ones_like(mask)))
                cells = inside, np.maximum(covered - inside, 0.0)
                means.append([(features * c).sum((1, 2)) / max(float(c.sum()), 1e-6) for c in cells])
            fore, back = np.mean(means, 0)
            step = fore - back
            step /= max(float(np.linalg.norm(step)), 1e-6)
            self._known[model] = (step.astype(np.float32), float(step @ (fore + back) / 2))
        return self._known[model]

    def similarity(self, model: Model, embedding: Embeddings) -> Any:
        """Map (height, width) over an image, where its embedding is: positive where it is nearer to the foreground."""
        direction, level = self.direction(model)
        maps = embedding.features if hasattr(embedding.features, "ndim") else embedding.numpy()
        features = _unit(maps[0])
        flat = namespace(features).tensordot(placed(direction, features), features, 1) - level
        return embedding.geometries[0].from_model(flat[None])[0]


def _unit(features: Any) -> Any:
    """Maps (C, h, w) with each cell's vector of unit length."""
    return features / ((features * features).sum(0) ** 0.5).clip(min=1e-6)


def _shares(mask: Masks, geometry: Geometry, cells: int) -> Floats:
    """Share of each cell of an embedding that a mask covers, (cells, cells)."""
    plane = np.empty((geometry.size, geometry.size), np.float32)
    geometry.fill(mask.astype(np.float32), plane)
    side = geometry.size // cells
    return np.asarray(plane.reshape(cells, side, cells, side).mean((1, 3)), np.float32)
