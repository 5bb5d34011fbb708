"""What an episode does with pixels, and where: here with arrays on the host, in `resident` with tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..actor import Actions, observe
from ..enhance import one_round
from ..filters import FilterParams
from ..segment.geometry import Floats, Masks
from ..segment.prompts import Answer

__all__ = ["Floats", "Host", "Images", "Masks", "vote", "vote_weights"]

Images = npt.NDArray[np.uint8]


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


class Host:
    """What an episode does with pixels: here with arrays, and filters on the CPU; in `resident` with tensors.

    Images are uint8 (n, H, W), states what rounds work on, both of the place's own kind.

    Parameters
    ----------
    params, actions, threads
        As of `Episode`.
    """

    def __init__(self, params: FilterParams, actions: Actions, threads: int | None) -> None:
        self._params, self._actions, self._threads = params, actions, threads

    def take(self, images: Any) -> Any:
        """Bring images or masks from anywhere."""
        return images

    def given(self, images: Any, tensors: bool) -> Any:
        """Give images as a segmenter takes them, which does or does not take tensors."""
        return images

    def begin(self, images: Any) -> Any:
        """Give the state that rounds begin with: here float32 (n, H, W, 1)."""
        return images.astype(np.float32)[..., None] / np.float32(255.0)

    def round(self, state: Any, actions: Floats) -> Any:
        """Take a round of each image's action (n, size)."""
        return one_round(state, actions, self._actions, self._params, backend="auto", threads=self._threads)

    def levels(self, state: Any) -> Any:
        """Give a state as images, rounded half up."""
        return np.floor(state[..., 0] * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)

    def observe(self, state: Any, side: int) -> Any:
        """Reduce a state to what an agent sees, uint8 (n, side, side): see `actor.observe`."""
        return observe(state[..., 0], side)

    def keys(self, images: Any) -> list[bytes]:
        """Give hashes by which equal images are known."""
        return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]

    def masks(self, answers: Sequence[Answer]) -> Any:
        """Stack the answers' masks, bool (n, H, W)."""
        return np.stack([a.mask for a in answers])

    def votes(self, answers: Sequence[Sequence[Answer]]) -> Any:
        """Stack the votes of each image's answers, bool (n, H, W)."""
        return np.stack([vote(own) for own in answers])
