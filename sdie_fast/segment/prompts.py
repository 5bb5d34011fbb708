"""What to segment: points and boxes of the caller's, everything in the picture, or what a few labelled images show.

None but the caller's points and boxes may know the truth of the image that is segmented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Geometry
from .segmenter import Embeddings, Floats, Masks, Prompt, Segmenter, as_images

RULES = ("union", "not-background")
OFFSET = 1.0  # logits above and below zero whose cuts `stability` compares


@dataclass(frozen=True)
class Auto:
    """How "auto" finds masks and what it calls foreground (Kirillov et al. 2023, section 6 and appendix B).

    Attributes
    ----------
    grid : int
        Points a side, 1 to 64, each decoded to three masks.
    quality : float, optional
        Lowest predicted IoU kept; None leaves it to the segmenter (`Segmenter.thresholds`).
    stability : float, optional
        Lowest IoU kept between the masks cut at logits `offset` above and below zero; None likewise.
    offset : float
        See `stability`.
    overlap : float
        Of two masks whose IoU is higher, the one of lower predicted IoU is dropped.
    rule : {"union", "not-background"}
        "union": foreground is every mask smaller than `largest`. "not-background": the masks are
        painted as labels, larger ones first; the most common label is background, and everything
        else, opened by 10 x 10 and without its outermost pixel, foreground, as the published code
        of SDIE has it.
    largest : float
        Share of the picture, for "union".
    """

    grid: int = 12
    quality: float | None = None
    stability: float | None = None
    offset: float = OFFSET
    overlap: float = 0.7
    rule: str = "union"
    largest: float = 0.4

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InvalidArgumentError(
                f"rule: received {self.rule!r}; accepted: {', '.join(RULES)}"
            )
        if not isinstance(self.grid, int) or not 1 <= self.grid <= 64:
            raise InvalidArgumentError(
                f"grid: received {self.grid!r}; accepted: an integer from 1 to 64"
            )
        for name in ("quality", "stability", "overlap", "largest"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise InvalidArgumentError(f"{name}: received {value}; accepted: 0 to 1")
        if not 0.0 <= self.offset <= 100.0:
            raise InvalidArgumentError(f"offset: received {self.offset}; accepted: 0 to 100")


@dataclass(frozen=True)
class Found:
    """Masks of one picture.

    Attributes
    ----------
    logits : ndarray, float32, (K, h, w)
        Over the model's input.
    quality, stability : ndarray, float32, (K,)
        Predicted IoU; IoU between cuts above and below zero.
    """

    logits: Floats
    quality: Floats
    stability: Floats


def stability(logits: Floats, offset: float) -> Floats:
    """IoU of the masks cut at offset above and below zero: 1 where the outline does not move."""
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return np.asarray(inner / np.maximum(outer, 1), np.float32)


def _valid(logits: Floats, geometry: Geometry) -> Floats:
    """The part of the logits that lies on the picture."""
    high, wide = geometry.inner
    rows = max(round(high * logits.shape[-2] / geometry.size), 1)
    columns = max(round(wide * logits.shape[-1] / geometry.size), 1)
    return logits[..., :rows, :columns]


def suppress(masks: Masks, quality: Floats, overlap: float) -> npt.NDArray[np.intp]:
    """Indices of the masks kept, best first: none overlaps a better one by more than that IoU."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(1)
    both = flat @ flat.T
    iou = both / np.maximum(area[:, None] + area[None] - both, 1.0)
    kept: list[int] = []
    for k in np.argsort(-quality, kind="stable"):
        if not kept or iou[k, kept].max() <= overlap:
            kept.append(int(k))
    return np.array(kept, np.intp)


def everything(segmenter: Segmenter, embedding: Embeddings, auto: Auto) -> Found:
    """Masks of a grid of points, filtered by quality and stability, without doubles."""
    geometry = embedding.geometries[0]
    at = (np.arange(auto.grid, dtype=np.float32) + 0.5) / auto.grid
    x, y = np.meshgrid(at * geometry.width, at * geometry.height)
    points = np.stack([x.ravel(), y.ravel()], 1)[:, None].astype(np.float32)
    logits, quality = segmenter.decode(
        embedding, Prompt(points, np.ones(points.shape[:2], np.float32))
    )
    ambiguous = _valid(logits[:, 1:], geometry).reshape(-1, *_valid(logits, geometry).shape[-2:])
    scores = quality[:, 1:].ravel()
    steady = stability(ambiguous, auto.offset)
    usual = segmenter.thresholds
    lowest = usual[0] if auto.quality is None else auto.quality
    loosest = usual[1] if auto.stability is None else auto.stability
    good = np.flatnonzero((scores >= lowest) & (steady >= loosest) & (ambiguous > 0).any((1, 2)))
    kept = good[suppress(ambiguous[good] > 0, scores[good], auto.overlap)] if len(good) else good
    whole = logits[:, 1:].reshape(-1, *logits.shape[-2:])
    return Found(whole[kept], scores[kept], steady[kept])


@dataclass(frozen=True)
class Answer:
    """One image's foreground, and how sure the model is.

    Attributes
    ----------
    mask : ndarray, bool, (H, W)
        Foreground.
    quality, stability : float
        Means over the masks used, 0 where there was none: predicted IoU; see `stability`.
    """

    mask: Masks
    quality: float = 0.0
    stability: float = 0.0


def _foreground(found: Found, geometry: Geometry, auto: Auto) -> Answer:
    shape = (geometry.height, geometry.width)
    if not len(found.logits):
        return Answer(np.zeros(shape, bool))
    masks = geometry.from_model(found.logits) > 0
    if auto.rule == "union":
        small = masks.mean((1, 2)) <= auto.largest
        if not small.any():
            return Answer(np.zeros(shape, bool))
        return Answer(
            masks[small].any(0),
            float(found.quality[small].mean()),
            float(found.stability[small].mean()),
        )
    painted = np.zeros(shape, np.int32)
    for label, k in enumerate(np.argsort(-masks.sum((1, 2)), kind="stable"), 1):
        painted[masks[k]] = label
    rest = painted != np.bincount(painted.ravel()).argmax()
    rest = ndimage.binary_opening(rest, np.ones((10, 10), bool))
    rest = np.asarray(ndimage.binary_erosion(rest), bool)
    return Answer(rest, float(found.quality.mean()), float(found.stability.mean()))


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
            raise InvalidArgumentError(
                f"masks: received {len(self._masks)} for {len(self._images)} image(s)"
            )
        for image, mask in zip(self._images, self._masks, strict=True):
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                raise InvalidTypeError(
                    f"masks: received {getattr(mask, 'dtype', type(mask).__name__)}; accepted: bool arrays"
                )
            if mask.shape != image.shape[:2]:
                raise InvalidArgumentError(
                    f"masks: received shape {mask.shape} for an image of {image.shape[:2]}"
                )
            if not mask.any():
                raise InvalidArgumentError("masks: received one without a pixel of foreground")
        if not isinstance(places, int) or not 1 <= places <= 16:
            raise InvalidArgumentError(
                f"places: received {places!r}; accepted: an integer from 1 to 16"
            )
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
            embeddings = segmenter.encode(
                [i if i.shape[2] == 3 else i[..., 0] for i in self._images]
            )
            inside, outside = [], []
            for k, mask in enumerate(self._masks):
                features = _normalised(embeddings.features[k])
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
        features = _normalised(embedding.features[0])
        flat = np.tensordot(direction, features, 1) - np.float32(level)
        return np.asarray(embedding.geometries[0].from_model(flat[None])[0])


def _normalised(features: Floats) -> Floats:
    return np.asarray(
        features / np.maximum(np.linalg.norm(features, axis=0, keepdims=True), 1e-6), np.float32
    )


def _share(mask: Masks, geometry: Geometry, cells: int) -> Floats:
    """Share of each cell of an embedding that a mask covers, (cells, cells)."""
    plane = np.zeros((geometry.size, geometry.size), np.float32)
    geometry.fill(
        mask.astype(np.float32), plane, np.empty(geometry.size * max(mask.shape[1], 1), np.float32)
    )
    side = geometry.size // cells
    return np.asarray(plane.reshape(cells, side, cells, side).mean((1, 3)), np.float32)


def _supported(segmenter: Segmenter, embedding: Embeddings, support: Support) -> Answer:
    geometry = embedding.geometries[0]
    shape = (geometry.height, geometry.width)
    similar = support.similarity(segmenter, embedding)
    lowest = np.unravel_index(similar.argmin(), shape)
    radius = max(2, round(0.1 * max(shape)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    remaining = similar.copy()
    result = np.zeros(shape, bool)
    scores: list[float] = []
    steady: list[float] = []
    for _ in range(support.places):
        peak = np.unravel_index(remaining.argmax(), shape)
        if remaining[peak] <= 0 and scores:
            break
        points = np.array([[[peak[1], peak[0]], [lowest[1], lowest[0]]]], np.float32) + 0.5
        labels = np.array([[1.0, 0.0]], np.float32)
        logits, quality = segmenter.decode(embedding, Prompt(points, labels))
        best = int(quality[0].argmax())
        for with_box in (False, True):
            rough = geometry.from_model(logits[:, best])[0] > 0
            rows, columns = np.flatnonzero(rough.any(1)), np.flatnonzero(rough.any(0))
            if not len(rows):
                break
            box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
            logits, quality = segmenter.decode(
                embedding, Prompt(points, labels, box if with_box else None, logits[:, best])
            )
            best = int(quality[0].argmax())
        mask = geometry.from_model(logits[:, best])[0] > 0
        result |= mask
        scores.append(float(quality[0, best]))
        steady.append(float(stability(_valid(logits[0, best], geometry), OFFSET)))
        remaining[mask | ((y - peak[0]) ** 2 + (x - peak[1]) ** 2 <= radius**2)] = -np.inf
    return Answer(result, float(np.mean(scores)), float(np.mean(steady)))


def _prompted(segmenter: Segmenter, embedding: Embeddings, prompt: Prompt) -> Answer:
    geometry = embedding.geometries[0]
    logits, quality = segmenter.decode(embedding, prompt)
    # A single point may mean a part or the whole: the best of three. More says which: the one mask.
    several = (
        prompt.boxes is not None
        or prompt.masks is not None
        or np.shape(np.asarray(prompt.points))[1] > 1
    )
    best = np.zeros(len(logits), int) if several else quality[:, 1:].argmax(1) + 1
    rows = np.arange(len(logits))
    chosen = logits[rows, best]
    masks = geometry.from_model(chosen) > 0
    return Answer(
        np.asarray(masks.any(0), bool),
        float(quality[rows, best].mean()),
        float(stability(_valid(chosen, geometry), OFFSET).mean()),
    )


def answer(segmenter: Segmenter, images: Any, prompt: Any, options: dict[str, Any]) -> list[Answer]:
    """Segment images by one kind of prompt: see `Segmenter.__call__`."""
    views = as_images(images)
    if isinstance(prompt, str):
        if prompt != "auto":
            raise InvalidArgumentError(
                f"prompt: received {prompt!r}; accepted: 'auto', a Support, a Prompt or one for each image"
            )
        try:
            auto = Auto(**options)
        except TypeError as error:
            raise InvalidArgumentError(
                f"options: {error}; accepted: {', '.join(Auto.__annotations__)}"
            ) from error
    elif options:
        raise InvalidArgumentError(
            f"options: received {sorted(options)}; accepted only with prompt='auto'"
        )
    each: list[Any] = [prompt] * len(views)
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        if len(prompt) != len(views):
            raise InvalidArgumentError(f"prompt: received {len(prompt)} for {len(views)} image(s)")
        each = list(prompt)
    embeddings = segmenter.encode([v if v.shape[2] == 3 else v[..., 0] for v in views])
    found = []
    for k, own in enumerate(each):
        embedding = embeddings[k]
        if isinstance(prompt, str):
            masks = everything(segmenter, embedding, auto)
            found.append(_foreground(masks, embedding.geometries[0], auto))
        elif isinstance(own, Support):
            found.append(_supported(segmenter, embedding, own))
        elif isinstance(own, Prompt):
            found.append(_prompted(segmenter, embedding, own))
        else:
            raise InvalidTypeError(
                f"prompt: received {type(own).__name__}; accepted: 'auto', a Support, a Prompt or one for each image"
            )
    return found


def segment(
    segmenter: Segmenter, images: Any, prompt: Any, options: dict[str, Any]
) -> tuple[Any, Floats]:
    """Segment images: see `Segmenter.__call__`."""
    found = answer(segmenter, images, prompt, options)
    masks = [a.mask for a in found]
    scores = np.array([a.quality for a in found], np.float32)
    if isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3)
    ):
        return masks[0], scores
    return (np.stack(masks) if len({m.shape for m in masks}) == 1 else masks), scores
