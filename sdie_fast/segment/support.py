"""What a few labelled images show, as a direction in a model's embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Geometry
from .segmenter import Embeddings, Floats, Masks, Segmenter, as_images


class Support:
    """What a few labelled images show, to be found in others (PerSAM; Zhang et al. 2023).

    The mean embedding inside the masks, against the one outside, gives a map of similarity over another image; its
    highest and lowest places become points, decoded once, then with the mask found, then with its box.

    Parameters
    ----------
    images : ndarray or sequence of ndarray
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

    def __init__(self, images: Any, masks: Sequence[Masks], places: int = 3) -> None:
        self._images = as_images(images)
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
        if not isinstance(places, int) or not 1 <= places <= 16:
            raise InvalidArgumentError(f"places: received {places!r}; accepted: an integer from 1 to 16")
        self.places = places
        self._known: dict[int, tuple[Floats, float]] = {}

    @property
    def fingerprint(self) -> bytes:
        """Hash of what it shows."""
        digest = hashlib.blake2b(str(self.places).encode(), digest_size=16)
        for image, mask in zip(self._images, self._masks, strict=True):
            digest.update(f"{image.dtype.str}{image.shape}".encode())
            digest.update(np.ascontiguousarray(image).tobytes() + np.packbits(mask).tobytes())
        return digest.digest()

    def direction(self, segmenter: Segmenter) -> tuple[Floats, float]:
        """The direction from the support's background to its foreground in the embedding, and the level between.

        Returns
        -------
        direction : ndarray, float32, (C,)
            Of unit length.
        level : float
            Projection half-way between the two means.
        """
        if id(segmenter) not in self._known:
            embeddings = segmenter.encode([i if i.shape[2] == 3 else i[..., 0] for i in self._images])
            inside, outside = [], []
            maps = embeddings.numpy()
            for k, mask in enumerate(self._masks):
                features = _normalised(maps[k])
                share = _share(mask, embeddings.geometries[k], features.shape[-1])
                covered = _share(np.ones_like(mask), embeddings.geometries[k], features.shape[-1])
                inside.append((features * share).sum((1, 2)) / share.sum())
                rest = np.maximum(covered - share, 0.0)
                outside.append((features * rest).sum((1, 2)) / max(float(rest.sum()), 1e-6))
            fore, back = np.mean(inside, 0), np.mean(outside, 0)
            step = fore - back
            step /= max(float(np.linalg.norm(step)), 1e-6)
            self._known[id(segmenter)] = (step.astype(np.float32), float(step @ (fore + back) / 2))
        return self._known[id(segmenter)]

    def similarity(self, segmenter: Segmenter, embedding: Embeddings) -> Floats:
        """Map (height, width) over an image: positive where it is nearer to the support's foreground."""
        direction, level = self.direction(segmenter)
        features = _normalised(embedding.numpy()[0])
        flat = np.tensordot(direction, features, 1) - np.float32(level)
        return np.asarray(embedding.geometries[0].from_model(flat[None])[0])


def _normalised(features: Floats) -> Floats:
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=0, keepdims=True), 1e-6), np.float32)


def _share(mask: Masks, geometry: Geometry, cells: int) -> Floats:
    """Share of each cell of an embedding that a mask covers, (cells, cells)."""
    plane = np.zeros((geometry.size, geometry.size), np.float32)
    geometry.fill(mask.astype(np.float32), plane, np.empty(geometry.size * max(mask.shape[1], 1), np.float32))
    side = geometry.size // cells
    return np.asarray(plane.reshape(cells, side, cells, side).mean((1, 3)), np.float32)
