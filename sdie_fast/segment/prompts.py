"""What to segment: points and boxes of the caller's, everything in the picture, or what a few labelled images show.

None but the caller's points and boxes may know the truth of the image that is segmented. Arrays are NumPy's or
tensors, as the segmenter's are: logits never leave a device. What does: how much the masks of a grid overlap (K x K
numbers), a support's next place, and an answer's mask and two numbers when somebody asks for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError
from .geometry import Embeddings, Floats, Masks, Prompt, cast, namespace, on_host, placed
from .support import Model, Support

__all__ = [
    "Answer", "Auto", "DeviceAnswer", "Found", "agreements", "answer", "distinct", "everything", "meant", "stability",
]  # fmt: skip

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
        _validate.integer(1, 64)("grid", self.grid)
        _validate.choice("union", "not-background")("rule", self.rule)
        _validate.real(0.0, 100.0)("offset", self.offset)
        for name in ("quality", "stability", "overlap", "largest"):
            value = getattr(self, name)
            if value is not None or name in ("overlap", "largest"):
                _validate.real(0.0, 1.0)(name, value)

    def lowest(self, model: Model) -> tuple[float, float]:
        """Lowest predicted IoU and stability kept, as float32 has them: what they are compared with is float32."""
        own = self.quality, self.stability
        found = (usual if given is None else given for given, usual in zip(own, model.thresholds, strict=True))
        return tuple(float(np.float32(value)) for value in found)  # type: ignore[return-value]


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


class DeviceAnswer(Answer):
    """An answer that is copied to the host, with those it was found with, when it is asked for its fields."""

    def __init__(self, batch: _Answers, at: int) -> None:
        object.__setattr__(self, "_batch", batch)
        object.__setattr__(self, "_at", at)

    _batch: _Answers
    _at: int

    @property
    def tensor(self) -> Any:
        """The mask where it was found, bool (H, W)."""
        return self._batch.masks[self._at]

    @property
    def mask(self) -> Masks:
        """The mask, bool (H, W)."""
        return np.asarray(self._batch.host_masks[self._at])

    @property
    def quality(self) -> float:
        """Mean predicted IoU."""
        return float(self._batch.host_numbers[self._at, 0])

    @property
    def stability(self) -> float:
        """Mean stability."""
        return float(self._batch.host_numbers[self._at, 1])


class _Answers:
    """Answers of N images: masks (N, H, W), quality and stability (N, 2); copied to the host once, for all."""

    def __init__(self, masks: Any, numbers: Any) -> None:
        self.masks, self.numbers = masks, numbers

    @functools.cached_property
    def host_masks(self) -> Masks:
        return on_host(self.masks)

    @functools.cached_property
    def host_numbers(self) -> npt.NDArray[np.float64]:
        return on_host(self.numbers)

    def each(self) -> list[Answer]:
        if namespace(self.masks) is not np:
            return [DeviceAnswer(self, k) for k in range(len(self.masks))]
        return [Answer(mask, *map(float, own)) for mask, own in zip(self.masks, self.numbers, strict=True)]


@dataclass(frozen=True)
class Found:
    """Masks of pictures of one shape, picture after picture.

    Attributes
    ----------
    logits : ndarray or Tensor, float32, (K, h, w)
        Over the model's input.
    quality, stability : ndarray or Tensor, float32, (K,)
        Predicted IoU; IoU between cuts above and below zero.
    counts : sequence of int
        Masks of each picture.
    """

    logits: Any
    quality: Any
    stability: Any
    counts: Sequence[int]


def stability(logits: Any, offset: float) -> Any:
    """IoU of the masks (..., h, w) cut at offset above and below zero: 1 where the outline does not move; float32."""
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return cast(inner / outer.clip(min=1), "float32")


def _overlaps(masks: Any) -> Any:
    """IoU of each two of the masks (K, h, w) of at most 2^24 pixels: (K, K), float64; 1 where both are empty."""
    flat = cast(masks.reshape(-1, masks.shape[1] * masks.shape[2]), "float32")
    both = cast(flat @ flat.T, "float64")  # whole numbers up to 2^24: exact, with TF32 too
    area = both.diagonal()
    either = area[:, None] + area[None] - both
    return (both + (either == 0)) / either.clip(min=1.0)


def agreements(masks: Sequence[Masks]) -> Floats:
    """Mean IoU of each of N masks (H, W) with the others, float32 (N,); 1 where it is the only one."""
    others = _overlaps(np.stack(masks)).sum(1) - 1.0
    return np.asarray(others / (len(masks) - 1) if len(masks) > 1 else others + 1.0, np.float32)


def distinct(masks: Any, quality: Any, sizes: npt.NDArray[np.intp], overlap: float) -> tuple[Any, list[int]]:
    """Of the masks (K, h, w) of several pictures, those none of which overlaps a better one by more than that IoU.

    Parameters
    ----------
    masks : ndarray or Tensor, bool, (K, h, w)
    quality : ndarray or Tensor, float32, (K,)
    sizes : ndarray of int, (N,)
        How many of them each picture has, one after the other.
    overlap : float

    Returns
    -------
    kept : ndarray or Tensor of int
        Indices of those kept, picture after picture, the best first.
    counts : list of int
        How many each picture keeps.
    """
    first = np.cumsum(sizes) - sizes
    shared = [_overlaps(masks[a : a + n]).reshape(-1) for a, n in zip(first, sizes, strict=True)]
    flat = on_host(namespace(masks).concatenate([*shared, cast(quality, "float64")]))  # copied at once
    *ious, judged = np.split(flat, np.cumsum(sizes**2))
    kept = []
    for a, n, iou in zip(first, sizes, ious, strict=True):
        own: list[int] = []
        for k in np.argsort(-judged[a : a + n], kind="stable"):
            if not own or iou.reshape(n, n)[k, own].max() <= overlap:
                own.append(int(k))
        kept.append(a + np.array(own, np.intp))
    return placed(np.concatenate(kept), masks), [len(k) for k in kept]


def everything(model: Model, embeddings: Embeddings, auto: Auto) -> Found:
    """Masks of a grid of points over pictures of one shape, filtered by quality and stability, without doubles."""
    geometry = embeddings.geometries[0]
    at = (np.arange(auto.grid, dtype=np.float32) + 0.5) / auto.grid
    x, y = np.meshgrid(at * geometry.width, at * geometry.height)
    grid = Prompt(np.stack([x.ravel(), y.ravel()], 1)[:, None].astype(np.float32), np.ones((x.size, 1), np.float32))
    logits, quality = model.predict(embeddings, [grid] * len(embeddings))
    logits, scores = logits[:, 1:].reshape(-1, *logits.shape[-2:]), quality[:, 1:].reshape(-1)
    inside = geometry.valid(logits)
    steady, masks = stability(inside, auto.offset), inside > 0
    lowest, loosest = auto.lowest(model)
    xp = namespace(logits)
    good = (scores >= lowest) & (steady >= loosest) & masks.reshape(len(masks), -1).any(1)
    rows = xp.where(good)[0]
    sizes = on_host(xp.bincount(rows // (3 * len(grid)), minlength=len(embeddings)))
    kept, counts = distinct(masks[rows], scores[rows], sizes, auto.overlap)
    rows = rows[kept]
    return Found(logits[rows], scores[rows], steady[rows], counts)


def _parts(counts: Sequence[int]) -> list[slice]:
    """Where each picture's masks are."""
    ends = np.cumsum(counts)
    return [slice(end - n, end) for end, n in zip(ends, counts, strict=True)]


def _united(masks: Any, found: Found, used: Any = None) -> _Answers:
    """Unions of each picture's masks (K, H, W), or of those used (K,); means of their quality and stability."""
    xp = namespace(masks)
    used = cast(xp.ones_like(found.quality), "bool") if used is None else used
    numbers = cast(xp.stack([found.quality, found.stability], 1), "float64") * used[:, None]
    parts = _parts(found.counts)
    unions = [(masks[p] & used[p, None, None]).any(0) for p in parts]
    means = [numbers[p].sum(0) / used[p].sum().clip(min=1) for p in parts]
    return _Answers(xp.stack(unions), xp.stack(means))


def _automatic(model: Model, embeddings: Embeddings, autos: Sequence[Auto]) -> _Answers:
    """What stands out: foreground by the rule, which is the same for all images."""
    geometry, auto = embeddings.geometries[0], autos[0]
    found = everything(model, embeddings, auto)
    masks = geometry.from_model(found.logits) > 0
    share = cast(masks.sum((1, 2)), "float64") / (geometry.height * geometry.width)
    if auto.rule == "union":
        return _united(masks, found, share <= auto.largest)
    rest = [_not_background(masks[p]) for p in _parts(found.counts)]
    return _Answers(namespace(masks).stack(rest), _united(masks, found).numbers)


def _not_background(masks: Any) -> Any:
    """The rule "not-background" of one picture's masks (K, H, W): see `Auto`."""
    painted = namespace(masks).zeros_like(masks.sum(0))
    for label, k in enumerate(np.argsort(-on_host(masks.sum((1, 2))), kind="stable"), 1):
        painted[masks[k]] = label
    rest = painted != int(on_host(namespace(masks).bincount(painted.reshape(-1))).argmax())
    # An even window reaches one pixel farther up and left when it erodes, down and right when it dilates.
    eroded = _set_around(rest, ((5, 4), (5, 4))) == 100
    opened = _set_around(eroded, ((4, 5), (4, 5))) > 0
    return (_set_around(opened, ((1, 1), (0, 0))) == 3) & (_set_around(opened, ((0, 0), (1, 1))) == 3)


def _set_around(mask: Any, window: Sequence[tuple[int, int]]) -> Any:
    """Pixels set from so many before to so many after each, by rows and by columns; none is outside."""
    found = cast(mask, "int64")
    for before, after in window:
        at = np.arange(len(found))
        sums = found.cumsum(0)
        found = (sums[np.minimum(at + after, at[-1])] - (sums - found)[np.maximum(at - before, 0)]).T
    return found


def _supported(model: Model, embeddings: Embeddings, supports: Sequence[Support]) -> _Answers:
    """What the supports show: one image after the other, since places follow from one another."""
    found = [_places(model, embeddings[k], support) for k, support in enumerate(supports)]
    return _Answers(*(namespace(part[0]).stack(part) for part in zip(*found, strict=True)))


def _places(model: Model, embedding: Embeddings, support: Support) -> tuple[Any, Any]:
    """Mask of one image, and its quality and stability (2,)."""
    geometry = embedding.geometries[0]
    shape = geometry.height, geometry.width
    remaining = support.similarity(model, embedding)
    xp = namespace(remaining)
    lowest = np.unravel_index(int(remaining.argmin()), shape)
    radius = max(2, round(0.1 * max(shape)))
    y, x = (placed(along, remaining) for along in np.ogrid[: shape[0], : shape[1]])
    result = remaining > np.inf  # nothing yet
    numbers: list[Any] = []
    for _ in range(support.places):
        peak = np.unravel_index(int(remaining.argmax()), shape)
        if numbers and remaining[peak] <= 0:
            break
        points = np.array([[peak[::-1], lowest[::-1]]], np.float32) + 0.5
        labels = np.array([[1.0, 0.0]], np.float32)
        logits, quality = model.predict(embedding, [Prompt(points, labels)])
        best = int(quality[0].argmax())
        for with_box in (False, True):
            rough = geometry.from_model(logits[:, best])[0] > 0
            rows, columns = (np.flatnonzero(on_host(rough.any(axis))) for axis in (1, 0))
            if not len(rows):
                break
            box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
            prompt = Prompt(points, labels, box if with_box else None)
            logits, quality = model.predict(embedding, [prompt], logits[:, best])
            best = int(quality[0].argmax())
        mask = geometry.from_model(logits[:, best])[0] > 0
        result |= mask
        steady = stability(geometry.valid(logits[:, best]), OFFSET)
        numbers.append(cast(xp.concatenate([quality[0, best : best + 1], steady]), "float64"))
        remaining[mask | ((y - peak[0]) ** 2 + (x - peak[1]) ** 2 <= radius**2)] = -np.inf
    return result, xp.stack(numbers).mean(0)


def _prompted(model: Model, embeddings: Embeddings, prompts: Sequence[Prompt]) -> _Answers:
    """Unions of each image's masks; a single point may mean a part or the whole: the best of three is taken."""
    geometry = embeddings.geometries[0]
    logits, quality = model.predict(embeddings, prompts)
    first = prompts[0]
    if first.boxes is not None or first.masks is not None or np.asarray(first.points).shape[1] > 1:
        chosen, judged = logits[:, 0], quality[:, 0]
    else:
        rows, best = placed(np.arange(len(logits)), logits), quality[:, 1:].argmax(1) + 1
        chosen, judged = logits[rows, best], quality[rows, best]
    found = Found(chosen, judged, stability(geometry.valid(chosen), OFFSET), [len(p) for p in prompts])
    return _united(geometry.from_model(chosen) > 0, found)


# How each kind is answered, and as how many prompts.
_WAYS: dict[type, tuple[Any, Callable[[Any], int]]] = {
    Auto: (_automatic, lambda auto: auto.grid**2),
    Support: (_supported, lambda _: 1),
    Prompt: (_prompted, len),
}


def meant(prompt: Any, options: dict[str, Any], count: int) -> list[Auto | Support | Prompt]:
    """What was asked for each of `count` images, checked."""
    accepted = "'auto', a Support, a Prompt or one for each image"
    if isinstance(prompt, str):
        if prompt != "auto":
            raise InvalidArgumentError(f"prompt: received {prompt!r}; accepted: {accepted}")
        _validate.known_keys("options", options, Auto.__annotations__)
        prompt = Auto(**options)
    elif options:
        raise InvalidArgumentError(f"options: received {sorted(options)}; accepted only with prompt='auto'")
    each = list(prompt) if isinstance(prompt, Sequence) else [prompt] * count
    if len(each) != count:
        raise InvalidArgumentError(f"prompt: received {len(each)} for {count} image(s)")
    for own in each:
        if not isinstance(own, tuple(_WAYS)):
            raise InvalidTypeError(f"prompt: received {type(own).__name__}; accepted: {accepted}")
    return each


def answer(model: Model, images: Any, prompt: Any, options: dict[str, Any], axes: str | None = None) -> list[Answer]:
    """Segment images by one kind of prompt: see `Segmenter.__call__`.

    Images of one shape whose prompts are alike are taken together, as far as `Segmenter.at_once` goes.
    """
    views = model.take(images, axes)
    each = meant(prompt, options, len(views))
    embeddings = model.encode(views)
    groups: dict[Any, list[int]] = {}
    for k, geometry in enumerate(embeddings.geometries):
        own = each[k]
        kind: Any = own if isinstance(own, Auto) else None
        if isinstance(own, Prompt):
            each[k] = checked = own.checked(geometry)
            given = checked.points, checked.boxes, checked.masks
            kind = tuple(None if array is None else array.shape[1:] for array in given)
        groups.setdefault((kind, geometry), []).append(k)
    found: dict[int, Answer] = {}
    for rows in groups.values():
        first: Any = each[rows[0]]
        way, prompts = next(known for kind, known in _WAYS.items() if isinstance(first, kind))
        step = max(model.at_once // prompts(first), 1)
        for part in (rows[start : start + step] for start in range(0, len(rows), step)):
            answers = way(model, embeddings[part], [each[k] for k in part])
            found.update(zip(part, answers.each(), strict=True))
    return [found[k] for k in range(len(views))]
