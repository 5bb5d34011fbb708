"""The decision process of SDIE (Liu et al. 2024, eqs. 4 to 7): episodes whose masks are judged by the truth.

States are images, actions mix filters, rewards judge masks; `follow` runs whole episodes of either kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..segment import Segmenter
from ..segment.prompts import Answer
from .cases import Case
from .episode import Episode, Observation, Step
from .places import Floats, Images, Masks, vote

__all__ = [
    "CREDITS", "REWARDS", "Act", "RewardedStep", "Rollout", "SdieEnv", "follow", "reward_from", "reward_of",
]  # fmt: skip

REWARDS = ("fb-iou", "miou")
CREDITS = ("own", "vote", "best")
Act = Callable[[Observation], Floats]  # actions (n, size) of a state


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


@dataclass(frozen=True)
class RewardedStep(Step):
    """What a round led to, and what it was worth.

    Attributes
    ----------
    reward : ndarray, float32, (n,)
    """

    reward: Floats


class SdieEnv(Episode):
    """An episode of labelled images, each round rewarded for the mask that it led to.

    Parameters
    ----------
    segmenter : Segmenter
        The frozen model.
    cases : sequence of Case
        All of one shape, 1 or more.
    reward : {"fb-iou", "miou"}
        Of the segmented new image (eq. 7).
    relative : bool
        Whether the reward of the image as it came is taken off: what remains says what enhancement
        did, and participants with hard images do not drown the others.
    credit : {"own", "vote", "best"}
        What a round is rewarded for: its own mask, as the paper has it; the vote of all answers so far, the unenhanced image's
        among them; or the best of them. With the last two, what it adds to the others counts, and rounds may differ.
    **options
        Of `Episode`.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, ModelError
        As `Episode`.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cases: Sequence[Case],
        *,
        reward: str = "fb-iou",
        relative: bool = False,
        credit: str = "own",
        **options: Any,
    ) -> None:
        self.reward = _validate.choice(*REWARDS)("reward", reward)
        self.credit = _validate.choice(*CREDITS)("credit", credit)
        self.relative = _validate.flag("relative", relative)
        super().__init__(segmenter, [c.image for c in cases], [c.prompt for c in cases], **options)
        self.cases = tuple(cases)
        self._truths = self.place.take(np.stack([c.truth for c in cases]))
        self._base: Any = np.float32(0.0)
        self._best: Any = np.float32(0.0)  # reward of each participant's best answer so far
        self._answers: list[list[Answer]] = []  # of each participant so far

    def judge(self, which: Sequence[int], images: Any) -> tuple[list[Answer], Floats]:
        """Segment images of those cases (`Episode.segment`): the answers, and the reward of each without `relative`."""
        answers = self.segment(which, images)
        return answers, self._rewards(self.place.masks(answers), which)

    def _rewards(self, masks: Any, which: Sequence[int]) -> Floats:
        """Rewards of masks (n, H, W), counted where they are."""
        truths = self._truths[list(which)]
        size = truths[0].shape[0] * truths[0].shape[1]
        both, either = (pixels.sum((1, 2)).tolist() for pixels in (masks & truths, masks | truths))
        return np.array([reward_from(*pair, size, self.reward) for pair in zip(both, either, strict=True)], np.float32)

    def reset(self, which: Sequence[int] | None = None) -> Observation:
        """Begin an episode of those cases; None means each once."""
        state = super().reset(which)
        self._base = np.float32(0.0)
        if self.relative or self.credit != "own":
            answers, rewards = self.judge(self._which, self._images[self._which])
            self._answers, self._best = [[a] for a in answers], rewards
            self._base = rewards if self.relative else self._base
        return state

    def step(self, actions: npt.ArrayLike) -> RewardedStep:
        """Take a round: see `Episode.step`."""
        step = super().step(actions)
        reward = self._rewards(self.place.masks(step.answers), self._which)
        if self.credit == "best":
            reward = self._best = np.maximum(self._best, reward)
        elif self.credit == "vote":
            for own, a in zip(self._answers, step.answers, strict=True):
                own.append(a)
            reward = self._rewards(self.place.votes(self._answers), self._which)
        return RewardedStep(**vars(step), reward=reward - np.asarray(self._base, np.float32))


@dataclass
class Rollout:
    """One image's episode: what a way of acting made of it, round by round.

    Attributes
    ----------
    case : int
        Which of the environment's.
    answers : list of Answer, T + 1
        The segmenter's: of the image as it came, then after each round.
    rewards : list of float, T + 1
        Of each answer by itself: without `relative`, whatever the `credit`; empty without a truth.
    actions : list of ndarray, float32, (size,), T
    values : list of float, T
        A critic's value of each round's state and action; empty without a critic.
    scores : list of float, T + 1
        A verifier's of each answer; empty without a verifier.
    images : list of ndarray, uint8, (H, W), T + 1
    vote : ndarray, bool, (H, W)
        See `episode.vote`.
    vote_reward : float
        Without `relative`; NaN without a truth.
    gained : float
        The return: the environment's own rewards, summed.
    """

    case: int
    answers: list[Answer] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    actions: list[Floats] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)
    vote: Masks = field(default_factory=lambda: np.zeros((0, 0), bool))
    vote_reward: float = float("nan")
    gained: float = 0.0


def follow(
    episode: Episode,
    act: Act,
    which: Sequence[int] | None = None,
    value: Callable[[Observation, Floats], Any] | None = None,
) -> list[Rollout]:
    """Run an episode of each image.

    Parameters
    ----------
    episode : Episode
        Of an `SdieEnv`, rewards are told too.
    act : callable
        Gives the actions of a state.
    which : sequence of int, optional
        The participants; None means all.
    value : callable, optional
        Gives the values (n,) of a state and its actions.
    """
    state = episode.reset(which)
    chosen = list(range(len(episode))) if which is None else list(which)
    rollouts = [Rollout(k, images=[episode.pictures[k]]) for k in chosen]
    for r, answer in zip(rollouts, episode.segment(chosen, np.stack([r.images[0] for r in rollouts])), strict=True):
        r.answers.append(answer)
    for _ in range(episode.rounds):
        actions = act(state)
        values = None if value is None else value(state, actions)
        step = episode.step(actions)
        for n, r in enumerate(rollouts):
            r.answers.append(step.answers[n])
            r.actions.append(actions[n])
            r.images.append(step.images[n])
            if isinstance(step, RewardedStep):
                r.gained += float(step.reward[n])
            if values is not None:
                r.values.append(float(values[n]))
        state = step.state
    for r in rollouts:
        r.vote = vote(r.answers)
        if isinstance(episode, SdieEnv):
            truth = episode.cases[r.case].truth
            r.rewards = [reward_of(a.mask, truth, episode.reward) for a in r.answers]
            r.vote_reward = reward_of(r.vote, truth, episode.reward)
    return rollouts
