"""Where an environment's images, masks and truths are: here as arrays on the host, in `device` as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..filters import FilterParams
from ..actor import Actions, observe
from ..enhance import one_round
from ..segment.prompts import Answer
from .rewards import Case, Floats, reward_of, vote

Images = npt.NDArray[np.uint8]


class Place(Protocol):
    """What an environment does with pixels.

    Images are uint8 (n, H, W), states what rounds work on, both of the place's own kind; `which` are indices of cases.
    """

    def images(self, which: Sequence[int]) -> Any:
        """Give the cases' images."""

    def take(self, images: Any) -> Any:
        """Bring images from anywhere."""

    def host(self, images: Any) -> Images:
        """Give images as an array."""

    def given(self, images: Any, tensors: bool) -> Any:
        """Give images as a segmenter takes them, which does or does not take tensors."""

    def begin(self, images: Any) -> Any:
        """Give the state that rounds begin with."""

    def round(self, state: Any, actions: Floats) -> Any:
        """Take a round of each image's action (n, size)."""

    def levels(self, state: Any) -> Any:
        """Give a state as images, rounded half up."""

    def observe(self, state: Any, side: int) -> Any:
        """Reduce a state to what an agent sees, uint8 (n, side, side): see `actor.observe`."""

    def keys(self, images: Any) -> list[bytes]:
        """Give hashes by which equal images are known."""

    def rewards(self, answers: Sequence[Answer], which: Sequence[int], kind: str) -> list[float]:
        """Give each answer's reward."""

    def votes(self, answers: Sequence[Sequence[Answer]], which: Sequence[int], kind: str) -> list[float]:
        """Give the reward of the vote of each case's answers."""


class Host:
    """Arrays, and filters on the CPU.

    Parameters
    ----------
    cases : sequence of Case
        All of one shape.
    params, actions, threads
        As of `SdieEnv`.
    """

    def __init__(self, cases: Sequence[Case], params: FilterParams, actions: Actions, threads: int | None) -> None:
        self._cases, self._params, self._actions, self._threads = cases, params, actions, threads

    def images(self, which: Sequence[int]) -> Images:
        """Give the cases' images."""
        return np.stack([self._cases[k].image for k in which])

    def take(self, images: Any) -> Images:
        """Give images as they are."""
        found: Images = images
        return found

    def host(self, images: Images) -> Images:
        """Give images as they are."""
        return images

    def given(self, images: Images, tensors: bool) -> Images:
        """Give images as they are: every segmenter takes arrays."""
        return images

    def begin(self, images: Images) -> Floats:
        """Give the state that rounds begin with, float32 (n, H, W, 1)."""
        return np.asarray(images.astype(np.float32)[..., None] / np.float32(255.0))

    def round(self, state: Floats, actions: Floats) -> Floats:
        """Take a round."""
        return one_round(state, actions, self._actions, self._params, backend="auto", threads=self._threads)

    def levels(self, state: Floats) -> Images:
        """Give a state as images."""
        return np.floor(state[..., 0] * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)

    def observe(self, state: Floats, side: int) -> Images:
        """Reduce a state."""
        return observe(state[..., 0], side)

    def keys(self, images: Images) -> list[bytes]:
        """Give hashes."""
        return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]

    def rewards(self, answers: Sequence[Answer], which: Sequence[int], kind: str) -> list[float]:
        """Give each answer's reward."""
        return [reward_of(a.mask, self._cases[k].truth, kind) for a, k in zip(answers, which, strict=True)]

    def votes(self, answers: Sequence[Sequence[Answer]], which: Sequence[int], kind: str) -> list[float]:
        """Give the rewards of votes."""
        return [reward_of(vote(a), self._cases[k].truth, kind) for a, k in zip(answers, which, strict=True)]


def on_host(values: Any) -> Any:
    """Give a tensor as an array, and an array as it is."""
    return values.cpu().numpy() if hasattr(values, "cpu") else values
