"""Which of several masks of one image is the best: a regression that training pays for anyway.

Every segmentation of a training run is a mask whose truth is known. A forest of extremely randomised trees (Geurts, Ernst, Wehenkel
2006; scikit-learn's) learns from them to tell what a mask is worth (`Evidence.fit`) from what a line can see: the image as it came, the mask, the
segmenter's own opinion, the other rounds' masks, and how the mask compares with those of the shots of its class. What is
kept of it are arrays, which NumPy evaluates: using a verifier needs neither scikit-learn nor torch, and loading one runs no code.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import RunError
from ..segment.prompts import Answer, agreements
from .cases import Case
from .env import Rollout
from .forest import Forest
from .places import Floats, Images, Masks

__all__ = [
    "COMPARED", "FEATURES", "FOLDS", "LOOKS", "OPINIONS", "REFERRED", "SHIPPED", "SIGNALS", "Evidence", "Looks", "Reference",
    "References", "Verifier", "describe", "group_of",
]  # fmt: skip

LOOKS = (
    "log share of the picture",
    "contrast to the rest, in deviations of the image",
    "deviation within, likewise",
    "log number of parts",
    "log compactness, 0 for a disk",
    "contrast to the ring around it",
    "mean gradient along the outline over the image's mean",
    "share of the picture's border that it covers",
)
COMPARED = 6  # the first so many of LOOKS are compared with those of the shots' masks
OPINIONS = ("predicted IoU", "stability", "mean IoU with the other rounds' masks")
FEATURES = (*LOOKS, "absolute contrast to the ring", *OPINIONS)
REFERRED = (
    *(f"distance from the shots: {name}" for name in LOOKS[:COMPARED]),
    "larger or smaller",
    "mean square",
)
# Where rules that need no verifier find what they go by.
SIGNALS = {
    rule: FEATURES.index(name)
    for rule, name in zip(("predicted-iou", "stability", "agreement"), OPINIONS, strict=True)
}
FOLDS = 5
SHIPPED = Path(__file__).parents[1] / "models" / "sdie_small" / "verifier.npz"
_RING = 6  # pixels; images are 200 x 200


@dataclass(frozen=True)
class Reference:
    """What masks of a class look like: means and spreads, float64 (COMPARED,), of the shots' own."""

    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


class Looks:
    """An image, ready for its masks to be looked at.

    Parameters
    ----------
    image : ndarray, uint8, (H, W)
        As it came, whatever a mask was found in.
    """

    def __init__(self, image: Images) -> None:
        plane = image.astype(np.float32) / np.float32(255.0)
        self._deviation = float(plane.std()) + 1e-3
        self._smooth = ndimage.gaussian_filter(plane, 2.0)
        self._gradient = ndimage.gaussian_gradient_magnitude(plane, 1.5)
        self._steep = float(self._gradient.mean()) + 1e-4

    def of(self, mask: Masks) -> Floats:
        """Look at a mask: float32 (len(LOOKS),); zeros, and the least share, where it is empty."""
        found = np.zeros(len(LOOKS), np.float32)
        share = float(mask.mean())
        found[0] = np.log(share + 1e-3)
        if share == 0.0:
            return found
        padded = np.pad(mask, 1)
        inner = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        edge = mask & ~inner
        near = ndimage.maximum_filter(mask.view(np.uint8), 2 * _RING + 1).view(bool) & ~mask
        inside = float(self._smooth[mask].mean())
        outside = float(self._smooth[~mask].mean()) if share < 1.0 else inside
        around = float(self._smooth[near].mean()) if near.any() else inside
        parts = ndimage.label(mask)[1]
        found[1:] = (
            (inside - outside) / self._deviation,
            float(self._smooth[mask].std()) / self._deviation,
            np.log(parts),
            np.log(np.count_nonzero(edge) ** 2 / (4.0 * np.pi * np.count_nonzero(mask))),
            (inside - around) / self._deviation,
            float(self._gradient[edge].mean()) / self._steep,
            float(np.mean([mask[0].mean(), mask[-1].mean(), mask[:, 0].mean(), mask[:, -1].mean()])),
        )
        return found


def describe(image: Images, answers: Sequence[Answer], reference: Reference | None = None) -> Floats:
    """Describe an episode's answers.

    Parameters
    ----------
    image : ndarray, uint8, (H, W)
        As it came.
    answers : sequence of Answer, T + 1
    reference : Reference, optional
        Of its class.

    Returns
    -------
    ndarray, float32, (T + 1, len(FEATURES)), and len(REFERRED) more with a reference
    """
    looks = Looks(image)
    agreed = agreements([a.mask for a in answers])
    rows = []
    for answer, agreement in zip(answers, agreed, strict=True):
        look = looks.of(answer.mask)
        rows.append([*look, abs(look[5]), answer.quality, answer.stability, agreement])
    described = np.asarray(rows, np.float32)
    return described if reference is None else _referred(described, reference)


def _referred(described: Floats, reference: Reference) -> Floats:
    """Add how the masks compare with those of a class's shots."""
    distance = (described[:, :COMPARED] - reference.mean) / reference.spread
    added = [np.abs(distance), distance[:, :1], np.mean(distance**2, 1, keepdims=True)]
    return np.concatenate([described, *added], 1, dtype=np.float32)


class References:
    """What the shots' masks look like, by class.

    Parameters
    ----------
    cases : sequence of Case
        The shots; of several views of one the first counts. Where no mask of a class has foreground, all classes stand for it.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self._seen: dict[str, dict[str, Floats]] = {}
        for case in cases:
            own = self._seen.setdefault(case.label, {})
            if case.name not in own and case.truth.any():
                own[case.name] = Looks(case.image).of(case.truth)[:COMPARED]
        self._rows = [look for own in self._seen.values() for look in own.values()]
        # A class of few shots seems narrower than it is: half of the spread over all classes is added.
        self._floor = 0.5 * np.std(self._rows, 0) + 0.05 if self._rows else 0.05

    def of(self, label: str, without: str = "") -> Reference | None:
        """Refer to a class, without one of its shots where there are others; None where no shot has foreground."""
        own = self._seen.get(label, {})
        rows = [look for name, look in own.items() if name != without]
        rows = rows or list(own.values()) or self._rows
        if not rows:
            return None
        return Reference(
            np.mean(rows, 0, dtype=np.float64),
            np.sqrt(np.var(rows, 0, dtype=np.float64) + self._floor**2),
        )

    def all(self) -> dict[str, Reference]:
        """The reference of each class."""
        found = {label: self.of(label) for label in self._seen}
        return {label: reference for label, reference in found.items() if reference is not None}


@dataclass(frozen=True)
class Verifier:
    """Tells what masks are worth.

    Attributes
    ----------
    forest : Forest
    references : dict of str to Reference
        By class; empty where it was made for classes without shots.
    """

    forest: Forest
    references: Mapping[str, Reference] = field(default_factory=dict)

    def scores(self, image: Images, answers: Sequence[Answer], label: str | None) -> list[float]:
        """Tell the worth of each answer of an episode: the highest is the best, and only the order means anything.

        Parameters
        ----------
        image, answers
            As for `describe`.
        label : str or None
            The image's class; None where it is not known: a mask is then worth what it is to the class it suits best.

        Raises
        ------
        RunError
            A class whose shots it has not seen.
        """
        described = describe(image, answers)
        meant = list(self.references) if label is None else [label]
        rows = [_referred(described, self.references[c]) for c in meant if c in self.references]
        rows = rows or [described]
        if rows[0].shape[1] != self.forest.width:
            raise RunError(
                f"verifier: knows the classes {', '.join(self.references) or 'of no shots'}; received {label!r}"
            )
        return [float(v) for v in np.max([self.forest.predict(r) for r in rows], 0)]

    def score(self, rollouts: Sequence[Rollout], cases: Sequence[Case]) -> None:
        """Give episodes of those cases their scores."""
        for r in rollouts:
            case = cases[r.case]
            r.scores = self.scores(case.image, r.answers, case.label)

    def to_bytes(self) -> bytes:
        """As a file, for `load`."""
        f = self.forest
        buffer = io.BytesIO()
        named = self.references
        np.savez_compressed(
            buffer,
            **{k: getattr(f, k) for k in ("roots", "feature", "threshold", "left", "right", "value")},
            width=np.int32(f.width),
            labels=np.array(list(named), dtype=np.str_),
            mean=np.array([r.mean for r in named.values()]).reshape(-1, COMPARED),
            spread=np.array([r.spread for r in named.values()]).reshape(-1, COMPARED),
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> Verifier:
        """Read a file.

        Raises
        ------
        RunError
            It cannot be read, or is no verifier.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            width = int(parts.pop("width"))
            labels, means, spreads = (parts.pop(k) for k in ("labels", "mean", "spread"))
            references = {
                str(label): Reference(mean, spread) for label, mean, spread in zip(labels, means, spreads, strict=True)
            }
            return cls(Forest(**parts, width=width), references)
        except RunError as error:
            raise RunError(f"{path}: {error}") from error
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: cannot be read: {error}") from error


class Evidence:
    """Masks that are known, episode by episode.

    Attributes
    ----------
    features : list of ndarray, float32, (T + 1, width)
    overlaps : list of ndarray, float32, (T + 1, 2)
        Each mask's intersection and union with the truth, as shares of the picture.
    groups : list of str
        The shot that each episode's image is: its class, a tab, its name.
    """

    def __init__(self) -> None:
        self.features: list[Floats] = []
        self.overlaps: list[Floats] = []
        self.groups: list[str] = []

    def add(self, features: Floats, answers: Sequence[Answer], case: Case) -> None:
        """Keep an episode, with what `describe` gave of it."""
        masks = np.stack([a.mask for a in answers])
        both = (masks & case.truth).mean((1, 2)), (masks | case.truth).mean((1, 2))
        self.features.append(features)
        self.overlaps.append(np.stack(both, 1).astype(np.float32))
        self.groups.append(group_of(case))

    def level(self) -> float:
        """MIoU of everything known: intersections over unions, summed over each class, their mean."""
        sums: dict[str, Any] = {}
        for group, overlaps in zip(self.groups, self.overlaps, strict=True):
            label = group.split("\t")[0]
            sums[label] = sums.get(label, 0.0) + overlaps.sum(0, dtype=np.float64)
        return float(np.mean([inter / union for inter, union in sums.values() if union > 0] or [0.0]))

    def fit(self, seed: int, without: Sequence[str] = (), prior: Forest | None = None) -> Forest:
        """Learn from all of it but some shots.

        Parameters
        ----------
        seed : int
        without : sequence of str
            Shots left out, as `groups` has them.
        prior : Forest, optional
            Learned elsewhere; has as much to say as what is learned here (`Forest.blended`).

        What is learned is I - level * U, not I / U: the IoU of a class is a ratio of sums, and what one image adds to such a
        ratio is its intersection less the ratio times its union (Dinkelbach 1967). A false alarm over half of a picture costs a class
        far more than the one image's IoU tells.
        """
        used = [k for k, group in enumerate(self.groups) if group not in without]
        rows = np.concatenate([self.features[k] for k in used])
        overlaps = np.concatenate([self.overlaps[k] for k in used])
        level = np.float32(self.level())
        forest = Forest.fit(rows, overlaps[:, 0] - level * overlaps[:, 1], seed)
        return forest if prior is None else Forest.blended((forest, prior), rows)

    def folds(self, seed: int) -> list[list[str]]:
        """The shots in `FOLDS` parts, to be left out in turn: how a verifier does on images it has not seen."""
        names = sorted(set(self.groups))
        order = np.random.default_rng((seed, 6)).permutation(len(names))
        count = min(FOLDS, len(names))
        return [[names[n] for n in order[k::count]] for k in range(count)]

    def unseen(self, seed: int, prior: Forest | None = None) -> dict[str, Forest]:
        """For each shot a forest (`fit`) that has not seen it, one a fold; none where there is but one shot."""
        folds = self.folds(seed)
        if len(folds) < 2:
            return {}
        return {shot: forest for fold in folds for forest in [self.fit(seed, fold, prior)] for shot in fold}

    def worths(self, unseen: Mapping[str, Forest]) -> dict[str, dict[str, float]]:
        """What rules make of episodes of some shots: the mean of I - level * U (`fit`), by rule, then by shot.

        Parameters
        ----------
        unseen : mapping of str to Forest
            For each of these shots, as `groups` has them, one that has not seen it.
        """
        level = self.level()
        found: dict[str, dict[str, list[float]]] = {}
        for group, features, overlaps in zip(self.groups, self.features, self.overlaps, strict=True):
            if group not in unseen:
                continue
            worth = overlaps[:, 0] - level * overlaps[:, 1]
            chosen = {rule: 1 + int(features[1:, at].argmax()) for rule, at in SIGNALS.items()}
            chosen["verifier"] = int(unseen[group].predict(features).argmax())
            for rule, at in chosen.items():
                found.setdefault(rule, {}).setdefault(group, []).append(float(worth[at]))
        return {rule: {g: float(np.mean(v)) for g, v in own.items()} for rule, own in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        import torch

        stacked = {"features": self.features, "overlaps": self.overlaps}
        tensors = {k: torch.from_numpy(np.stack(v)) for k, v in stacked.items() if v}
        return {**tensors, "groups": self.groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.groups = list(state["groups"])
        if self.groups:
            self.features = list(state["features"].numpy())
            self.overlaps = list(state["overlaps"].numpy())


def group_of(case: Case) -> str:
    """The shot that a case is a view of."""
    return f"{case.label}\t{case.name}"
