"""Prompts answered on a device: what `prompts` does with arrays, for all images at once.

Logits never leave the device. What does: which masks pass a grid's thresholds (their number), how much each two of them
overlap (K x K), and an answer's mask and two numbers when somebody asks for them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from .geometry import Geometry
from .prompts import OFFSET, Answer, Auto, grid_of, is_plain, keep_best
from .segmenter import Embeddings, Masks, Prompt
from .support import Support
from .tensors import from_model, valid

if TYPE_CHECKING:
    from .torch_sam import TorchSam

# Logits decoded at once, 1 GiB: images of a grid are taken together up to so many.
LOGITS = 2**28


class Answers:
    """Answers of N images on a device.

    Parameters
    ----------
    masks : Tensor, bool, (N, H, W)
    quality, stability : Tensor, float64, (N,)
        As `Answer` has them.
    """

    def __init__(self, masks: torch.Tensor, quality: torch.Tensor, stability: torch.Tensor) -> None:
        self.masks, self.quality, self.stability = masks, quality, stability

    @functools.cached_property
    def host_masks(self) -> Masks:
        """The masks as an array (N, H, W): copied once, for all."""
        return np.asarray(self.masks.cpu().numpy())

    @functools.cached_property
    def host_numbers(self) -> Any:
        """Quality and stability as an array (2, N): likewise."""
        return torch.stack([self.quality, self.stability]).cpu().numpy()

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
    def mask(self) -> Masks:
        """The mask, bool (H, W)."""
        return np.asarray(self._batch.host_masks[self._at])

    @property
    def quality(self) -> float:
        """Mean predicted IoU."""
        return float(self._batch.host_numbers[0, self._at])

    @property
    def stability(self) -> float:
        """Mean stability."""
        return float(self._batch.host_numbers[1, self._at])


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
    """Answer each image's prompt: see `Segmenter.answers`."""
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
            answers: Any = _supported(sam, sam.encode(_flat(some)), given)
        elif isinstance(given[0], Auto):
            answers = _automatic(sam, some, given[0])
        else:
            answers = _prompted(sam, sam.encode(_flat(some)), given)
        for k, one in zip(rows, answers, strict=True):
            found[k] = one
    return [one for one in found if one is not None]


def _kind(prompt: Any) -> Any:
    """Equal for prompts that are decoded together; None for a Support, whose places follow from one another."""
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
    image = torch.repeat_interleave(torch.arange(count), torch.tensor([len(p) for p in prompts])).to(logits.device)
    every = torch.ones_like(image, dtype=torch.bool)
    steady = stability(valid(chosen, geometry), OFFSET)
    return _united(from_model(chosen, geometry) > 0, judged, steady, image, every, count)


def _supported(sam: TorchSam, embeddings: Embeddings, supports: Sequence[Support]) -> Answers:
    """What the supports show, as `prompts._supported` finds it: one image after the other; all of one shape."""
    found = [_places(sam, embeddings[k], support) for k, support in enumerate(supports)]
    masks, quality, steady = (torch.stack(part) for part in zip(*found, strict=True))
    return Answers(masks, quality, steady)


def _places(sam: TorchSam, embedding: Embeddings, support: Support) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask, quality and stability of one image."""
    geometry = embedding.geometries[0]
    height, width = geometry.height, geometry.width
    direction, level = support.direction(sam)
    features = embedding.features[0]
    features = features / features.norm(dim=0).clamp(min=1e-6)
    similar = torch.tensordot(torch.from_numpy(direction).to(features.device), features, 1) - level
    remaining = from_model(similar[None], geometry)[0]
    lowest = divmod(int(remaining.argmin()), width)
    radius = max(2, round(0.1 * max(height, width)))
    y = torch.arange(height, device=features.device)[:, None]
    x = torch.arange(width, device=features.device)[None]
    result = torch.zeros_like(remaining, dtype=torch.bool)
    scores: list[torch.Tensor] = []
    steady: list[torch.Tensor] = []
    for _ in range(support.places):
        value, at = (float(v) for v in remaining.flatten().max(0))
        if value <= 0 and scores:
            break
        peak = divmod(int(at), width)
        points = np.array([[peak[::-1], lowest[::-1]]], np.float32) + 0.5
        labels = np.array([[1.0, 0.0]], np.float32)
        logits, quality = sam.predict(embedding, [Prompt(points, labels)])
        best = int(quality[0].argmax())
        for with_box in (False, True):
            rough = from_model(logits[:, best], geometry)[0] > 0
            rows, columns = (torch.nonzero(rough.any(axis))[:, 0] for axis in (1, 0))
            if not len(rows):
                break
            edges = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            box = edges.cpu().numpy()[None].astype(np.float32) if with_box else None
            logits, quality = sam.predict(embedding, [Prompt(points, labels, box)], logits[:, best])
            best = int(quality[0].argmax())
        mask = from_model(logits[:, best], geometry)[0] > 0
        result |= mask
        scores.append(quality[0, best].double())
        steady.append(stability(valid(logits[0, best], geometry), OFFSET).double())
        remaining[mask | ((y - peak[0]) ** 2 + (x - peak[1]) ** 2 <= radius**2)] = -torch.inf
    return result, torch.stack(scores).mean(), torch.stack(steady).mean()


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
