"""What to segment: points and boxes of the caller's, everything in the picture, or what a few labelled images show.

None but the caller's points and boxes may know the truth of the image that is segmented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Geometry
from .segmenter import Embeddings, Floats, Masks, Prompt, Segmenter
from .support import Support

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
            raise InvalidArgumentError(f"rule: received {self.rule!r}; accepted: {', '.join(RULES)}")
        if not isinstance(self.grid, int) or not 1 <= self.grid <= 64:
            raise InvalidArgumentError(f"grid: received {self.grid!r}; accepted: an integer from 1 to 64")
        for name in ("quality", "stability", "overlap", "largest"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise InvalidArgumentError(f"{name}: received {value}; accepted: 0 to 1")
        if not 0.0 <= self.offset <= 100.0:
            raise InvalidArgumentError(f"offset: received {self.offset}; accepted: 0 to 100")

    def lowest(self, segmenter: Segmenter) -> tuple[float, float]:
        """Lowest predicted IoU and stability kept."""
        usual = segmenter.thresholds
        return (
            usual[0] if self.quality is None else self.quality,
            usual[1] if self.stability is None else self.stability,
        )


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
    return keep_best(iou, quality, overlap)


def keep_best(iou: Floats, quality: Floats, overlap: float) -> npt.NDArray[np.intp]:
    """`suppress` of masks whose IoU (K, K) is known."""
    kept: list[int] = []
    for k in np.argsort(-quality, kind="stable"):
        if not kept or iou[k, kept].max() <= overlap:
            kept.append(int(k))
    return np.array(kept, np.intp)


def grid_of(geometry: Geometry, side: int) -> Prompt:
    """A grid of side x side points over an image, each a prompt."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(at * geometry.width, at * geometry.height)
    points = np.stack([x.ravel(), y.ravel()], 1)[:, None].astype(np.float32)
    return Prompt(points, np.ones(points.shape[:2], np.float32))


def everything(segmenter: Segmenter, embedding: Embeddings, auto: Auto) -> Found:
    """Masks of a grid of points, filtered by quality and stability, without doubles."""
    geometry = embedding.geometries[0]
    logits, quality = segmenter.decode(embedding, grid_of(geometry, auto.grid))
    ambiguous = _valid(logits[:, 1:], geometry).reshape(-1, *_valid(logits, geometry).shape[-2:])
    scores = quality[:, 1:].ravel()
    steady = stability(ambiguous, auto.offset)
    lowest, loosest = auto.lowest(segmenter)
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


def is_plain(prompt: Prompt) -> bool:
    """Whether a prompt says which mask it means; a single point may mean a part or the whole, and the best of three is taken."""
    return prompt.boxes is not None or prompt.masks is not None or np.shape(np.asarray(prompt.points))[1] > 1


def _prompted(segmenter: Segmenter, embedding: Embeddings, prompt: Prompt) -> Answer:
    geometry = embedding.geometries[0]
    logits, quality = segmenter.decode(embedding, prompt)
    best = np.zeros(len(logits), int) if is_plain(prompt) else quality[:, 1:].argmax(1) + 1
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
    views = segmenter.take(images)
    if isinstance(prompt, str):
        if prompt != "auto":
            raise InvalidArgumentError(
                f"prompt: received {prompt!r}; accepted: 'auto', a Support, a Prompt or one for each image"
            )
        try:
            given: Any = Auto(**options)
        except TypeError as error:
            raise InvalidArgumentError(f"options: {error}; accepted: {', '.join(Auto.__annotations__)}") from error
    elif options:
        raise InvalidArgumentError(f"options: received {sorted(options)}; accepted only with prompt='auto'")
    else:
        given = prompt
    each: list[Any] = [given] * len(views)
    if isinstance(given, Sequence):
        if len(given) != len(views):
            raise InvalidArgumentError(f"prompt: received {len(given)} for {len(views)} image(s)")
        each = list(given)
    for own in each:
        if not isinstance(own, (Auto, Support, Prompt)):
            raise InvalidTypeError(
                f"prompt: received {type(own).__name__}; accepted: 'auto', a Support, a Prompt or one for each image"
            )
    return segmenter.answers(views, each)


def answer_each(segmenter: Segmenter, views: Sequence[Any], prompts: Sequence[Any]) -> list[Answer]:
    """Answer by NumPy, one image after the other: see `Segmenter.answers`."""
    embeddings = segmenter.encode([v if v.shape[2] == 3 else v[..., 0] for v in views])
    found = []
    for k, own in enumerate(prompts):
        embedding = embeddings[k]
        if isinstance(own, Auto):
            masks = everything(segmenter, embedding, own)
            found.append(_foreground(masks, embedding.geometries[0], own))
        elif isinstance(own, Support):
            found.append(_supported(segmenter, embedding, own))
        else:
            found.append(_prompted(segmenter, embedding, own))
    return found


def segment(segmenter: Segmenter, images: Any, prompt: Any, options: dict[str, Any]) -> tuple[Any, Floats]:
    """Segment images: see `Segmenter.__call__`."""
    found = answer(segmenter, images, prompt, options)
    masks = [a.mask for a in found]
    scores = np.array([a.quality for a in found], np.float32)
    if not isinstance(images, Sequence) and (images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3)):
        return masks[0], scores
    return (np.stack(masks) if len({m.shape for m in masks}) == 1 else masks), scores
