"""Labelled images, and what a mask of one is worth (Liu et al. 2024, eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidArgumentError, InvalidTypeError
from ..segment.prompts import Answer

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]

REWARDS = ("fb-iou", "miou")


@dataclass(frozen=True)
class Case:
    """A labelled image and how the segmenter is prompted on it.

    Attributes
    ----------
    image : ndarray, uint8, (H, W)
    truth : ndarray, bool, (H, W)
    prompt : "auto", Support, Prompt or None
        As `Segmenter.__call__` takes it; None where there is nothing to point at: its mask is empty.
    label, name : str
        Its class; what splits call it.
    """

    image: npt.NDArray[np.uint8]
    truth: Masks
    prompt: Any = "auto"
    label: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.image, np.ndarray) or self.image.dtype != np.uint8:
            received = getattr(self.image, "dtype", type(self.image).__name__)
            raise InvalidTypeError(f"image: received {received}; accepted: uint8 (H, W)")
        if not isinstance(self.truth, np.ndarray) or self.truth.dtype != np.bool_:
            received = getattr(self.truth, "dtype", type(self.truth).__name__)
            raise InvalidTypeError(f"truth: received {received}; accepted: bool (H, W)")
        if self.image.ndim != 2 or self.image.shape != self.truth.shape:
            raise InvalidArgumentError(
                f"truth: received shape {self.truth.shape} for an image of {self.image.shape}; "
                "accepted: one and the same (H, W)"
            )


def iou(a: Masks, b: Masks) -> float:
    """Intersection over union; 1 where both are empty."""
    return _ratio(int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b)))


def reward_of(mask: Masks, truth: Masks, kind: str) -> float:
    """Reward of one mask (eq. 7), in [0, 1]: the foreground's IoU ("miou"), or its mean with the background's ("fb-iou")."""
    both, either = np.count_nonzero(mask & truth), np.count_nonzero(mask | truth)
    return reward_from(int(both), int(either), truth.size, kind)


def reward_from(both: int, either: int, size: int, kind: str) -> float:
    """`reward_of` a mask whose pixels in common with the truth, in either, and in all are counted."""
    foreground = _ratio(both, either)
    # The background's intersection is what neither has, its union what not both have.
    return foreground if kind == "miou" else (foreground + _ratio(size - either, size - both)) / 2.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def vote_weights(answers: Sequence[Answer]) -> npt.NDArray[np.float64]:
    """Each answer's share of a vote, by predicted IoU: they sum to one."""
    weights = np.maximum(np.array([a.quality for a in answers], np.float64), 0.0)
    if not weights.any():  # none found anything, or none is sure of it
        weights = np.ones(len(answers))
    return np.asarray(weights / weights.sum())


def vote(answers: Sequence[Answer]) -> Masks:
    """Pixels that more than half of the answers, weighted by predicted IoU, call foreground; bool (H, W)."""
    share = np.tensordot(vote_weights(answers), np.stack([a.mask for a in answers]), 1)
    return np.asarray(share > 0.5, bool)
