"""Prompts answered on a device: what `prompts` does with arrays, for all images at once.

Logits never leave the device. What does: which masks pass a grid's thresholds (their number), how much each two of them
overlap (K x K), and an answer's mask and two numbers when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from .geometry import Geometry
from .prompts import OFFSET, Answer, Auto, answer_each, grid_of, is_plain, keep_best
from .segmenter import Embeddings, Masks, Prompt
from .tensors import from_model, valid

if TYPE_CHECKING:
    from .torch_sam import TorchSam

LOGITS = 2**28  # decoded at once, 1 GiB in float32: images of a grid are taken together up to so many


class Answers:
    """Answers of N images on a device.

    Parameters
    ----------
    masks : Tensor, bool, (N, H, W)
    quality, stability : Tensor, float64, (N,)
        As `Answer` has them.
    """

    def __init__(
        self, masks: torch.Tensor, quality: torch.Tensor, stability: torch.Tensor
    ) -> None:
        self.masks, self.quality, self.stability = masks, quality, stability
        self._host: tuple[Masks, Any] | None = None

    def host(self) -> tuple[Masks, Any]:
        """Masks (N, H, W) and the two numbers of each (2, N) as arrays: copied once, for all."""
        if self._host is None:
            numbers = torch.stack([self.quality, self.stability]).cpu().numpy()
            self._host = self.masks.cpu().numpy(), numbers
        return self._host

    def __iter__(self) -> Any:
        return (DeviceAnswer(self, k) for k in range(len(self.masks)))


class DeviceAnswer(Answer):
    """An answer that is copied to the host, with those it was found with, when it is asked for its fields."""

    def __init__(self, batch: Answers, at: int) -> None:
        object.__setattr__(self, "_batch", batch)
        object.__setattr__(self, "_at", at)

    _batch: Answers
    _at: int

    @property
    def tensor(self) -> torch.Tensor:
        """The mask where it was found, bool (H, W)."""
        return self._batch.masks[self._at]

    @property
    def mask(self) -> Masks:  # type: ignore[override]
        """The mask, bool (H, W)."""
        return self._batch.host()[0][self._at]

    @property
    def quality(self) -> float:  # type: ignore[override]
        """Mean predicted IoU."""
        return float(self._batch.host()[1][0, self._at])

    @property
    def stability(self) -> float:  # type: ignore[override]
        """Mean stability."""
        return float(self._batch.host()[1][1, self._at])


def stability(logits: torch.Tensor, offset: float) -> torch.Tensor:
    """IoU of the masks cut at offset above and below zero, as `prompts.stability`."""
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return (inner.double() / outer.clamp(min=1)).float()


def overlaps(masks: torch.Tensor) -> torch.Tensor:
    """IoU of each two of the masks (K, h, w), (K, K)."""
    flat = masks.flatten(1).float()
    area = flat.sum(1)
    both = flat @ flat.T  # whole numbers below 2^24: exact, with TF32 too
    return both / (area[:, None] + area[None] - both).clamp(min=1.0)


def answer_on_device(sam: TorchSam, views: Sequence[Any], prompts: Sequence[Any]) -> list[Answer]:
    """Answer each image's prompt: see `Segmenter.answers`.

    A Support's places follow from one another, one image at a time: those are answered by `prompts.answer_each`.
    """
    found: list[Answer | None] = [None] * len(views)
    groups: dict[Any, list[int]] = {}
    prompts = list(prompts)
    for k, (view, own) in enumerate(zip(views, prompts, strict=True)):
        shape = int(view.shape[0]), int(view.shape[1])
        if isinstance(own, Prompt):
            prompts[k] = own.checked(Geometry(*shape, sam.size))
        groups.setdefault((_kind(prompts[k]), shape), []).append(k)
    for (kind, _), rows in groups.items():
        some, given = [views[k] for k in rows], [prompts[k] for k in rows]
        if kind is None:
            answers: Any = answer_each(sam, some, given)
        elif isinstance(given[0], Auto):
            answers = _automatic(sam, some, given[0])
        else:
            answers = _prompted(sam, sam.encode(_flat(some)), given)
        for k, one in zip(rows, answers, strict=True):
            found[k] = one
    return [one for one in found if one is not None]


def _kind(prompt: Any) -> Any:
    """Equal for prompts that are decoded together; None for those that are not."""
    if isinstance(prompt, Auto):
        return prompt
    if not isinstance(prompt, Prompt):
        return None
    points = 0 if prompt.points is None else prompt.points.shape[1]
    return points, prompt.boxes is not None, prompt.masks is not None


def _flat(views: Sequence[Any]) -> list[Any]:
    """Views (H, W, C) as a caller has them: (H, W) where they are grey."""
    return [v if v.shape[2] == 3 else v[..., 0] for v in views]


def _prompted(sam: TorchSam, embeddings: Embeddings, prompts: Sequence[Prompt]) -> Answers:
    """Unions of each image's masks; all images of one shape."""
    geometry, count = embeddings.geometries[0], len(prompts)
    logits, quality = sam.predict(embeddings, prompts)
    rows = torch.arange(len(logits), device=logits.device)
    plain = is_plain(prompts[0])
    best = torch.zeros_like(rows) if plain else quality[:, 1:].argmax(1) + 1
    chosen, judged = logits[rows, best], quality[rows, best]
    image = torch.repeat_interleave(
        torch.arange(count), torch.tensor([len(p) for p in prompts])
    ).to(logits.device)
    every = torch.ones_like(image, dtype=torch.bool)
    steady = stability(valid(chosen, geometry), OFFSET)
    return _united(from_model(chosen, geometry) > 0, judged, steady, image, every, count)


def _united(
    masks: torch.Tensor,
    quality: torch.Tensor,
    steady: torch.Tensor,
    image: torch.Tensor,
    used: torch.Tensor,
    count: int,
) -> Answers:
    """Unions of the masks (K, H, W) that are used (K,), for each of `count` images; `image` (K,) says whose they are."""

    def total(values: torch.Tensor) -> torch.Tensor:
        found = values.new_zeros(count, *values.shape[1:])
        return found.index_add_(0, image, values)

    # Sums of whole numbers: exact in any order.
    union = total((masks & used[:, None, None]).float()) > 0
    number = total(used.double()).clamp(min=1.0)
    means = (total(v.double() * used) / number for v in (quality, steady))
    return Answers(union, *means)


def _automatic(sam: TorchSam, views: Sequence[Any], auto: Auto) -> list[Answer]:
    """Everything in images of one shape, as `prompts.everything` and the rule find it."""
    embeddings = sam.encode(_flat(views))
    each = max(LOGITS // (4 * auto.grid**2 * sam.low**2), 1)
    found: list[Answer] = []
    for start in range(0, len(views), each):
        part = slice(start, start + each)
        some = Embeddings(embeddings.features[part], embeddings.geometries[part])
        found += _everything(sam, some, auto)
    return found


def _everything(sam: TorchSam, embeddings: Embeddings, auto: Auto) -> Answers:
    geometry, count = embeddings.geometries[0], len(embeddings)
    points = grid_of(geometry, auto.grid)
    logits, quality = sam.predict(embeddings, [points] * count)
    ambiguous, scores = logits[:, 1:].flatten(0, 1), quality[:, 1:].flatten()
    inside = valid(ambiguous, geometry)
    steady = stability(inside, auto.offset)
    lowest, loosest = auto.lowest(sam)
    # As NumPy compares float32 with a Python number: in float32.
    good = (scores >= torch.tensor(lowest, dtype=torch.float32)) & (
        steady >= torch.tensor(loosest, dtype=torch.float32)
    )
    rows = torch.nonzero(good & (inside > 0).flatten(1).any(1))[:, 0]
    image = rows // (3 * len(points))
    rows, image = _without_doubles(inside, scores, rows, image, count, auto.overlap)
    masks = from_model(ambiguous[rows], geometry) > 0
    judged, steady = scores[rows], steady[rows]
    if auto.rule == "union":
        share = masks.sum((1, 2)).double() / (geometry.height * geometry.width)
        return _united(masks, judged, steady, image, share <= auto.largest, count)
    every = torch.ones_like(image, dtype=torch.bool)
    found = _united(masks, judged, steady, image, every, count)
    owner = image.cpu().numpy()
    rest = [_not_background(masks[torch.from_numpy(owner == k)], geometry) for k in range(count)]
    return Answers(torch.stack(rest), found.quality, found.stability)


def _without_doubles(
    inside: torch.Tensor,
    scores: torch.Tensor,
    rows: torch.Tensor,
    image: torch.Tensor,
    count: int,
    overlap: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the rows (R,) of masks and their images (R,), sorted by image, those that `prompts.suppress` keeps, best first."""
    numbers = torch.bincount(image, minlength=count).cpu().tolist()
    parts = torch.split(rows, numbers)
    shared = [overlaps(inside[part] > 0) for part in parts]
    flat = torch.cat([s.flatten() for s in shared] + [scores[rows]]).cpu().numpy()
    judged = flat[len(flat) - len(rows) :]
    kept, begin, first = [], 0, 0
    for n in numbers:
        iou = flat[begin : begin + n * n].reshape(n, n)
        kept.append(first + keep_best(iou, judged[first : first + n], overlap))
        begin, first = begin + n * n, first + n
    chosen = torch.from_numpy(np.concatenate(kept)).to(rows.device)
    return rows[chosen], image[chosen]


def _not_background(masks: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The rule "not-background" of one image's masks (K, H, W), as `prompts.Auto` has it."""
    if not len(masks):
        return masks.new_zeros(geometry.height, geometry.width)
    order = torch.argsort(-masks.sum((1, 2)), stable=True)
    labels = torch.arange(1, len(masks) + 1, device=masks.device)[:, None, None]
    painted = (masks[order] * labels).amax(0)  # later ones lie on top
    counts = torch.bincount(painted.flatten(), minlength=len(masks) + 1).cpu().numpy()
    rest = (painted != int(counts.argmax())).float()[None, None]
    # Opened by 10 x 10 as scipy.ndimage has it: an even window reaches one pixel farther up and left when it erodes, down
    # and right when it dilates; outside of the picture nothing is set.
    eroded = -functional.max_pool2d(functional.pad(-rest, (5, 4, 5, 4)), 10, 1)
    opened = functional.max_pool2d(functional.pad(eroded, (4, 5, 4, 5)), 10, 1)
    padded = functional.pad(opened, (1, 1, 1, 1))[0, 0] > 0
    inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1]
    return inner & padded[1:-1, :-2] & padded[1:-1, 2:]
