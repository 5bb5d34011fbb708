"""Whole episodes: what a way of acting made of images, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters import FILTERS
from ..segment.prompts import Answer
from .env import Floats, Masks, SdieEnv, State, reward_of, vote
from .verifier import Verifier

Act = Callable[[State], Floats]  # actions (n, size) of a state


@dataclass
class Rollout:
    """One image's episode.

    Attributes
    ----------
    case : int
        Which of the environment's.
    answers : list of Answer, T + 1
        The segmenter's: of the image as it came, then after each round.
    rewards : list of float, T + 1
        Of each answer by itself: without `relative`, whatever the `credit`.
    actions : list of ndarray, float32, (size,), T
    values : list of float, T
        A critic's value of each round's state and action; empty without a critic.
    scores : list of float, T + 1
        A verifier's of each answer; empty without a verifier.
    images : list of ndarray, uint8, (H, W), T + 1
    vote : ndarray, bool, (H, W)
        See `env.vote`.
    vote_reward : float
        Without `relative`.
    gained : float
        The return: the environment's own rewards, summed.
    """

    case: int
    answers: list[Answer] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    actions: list[Floats] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    images: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    vote: Masks = field(default_factory=lambda: np.zeros((0, 0), bool))
    vote_reward: float = float("nan")
    gained: float = 0.0


def follow(
    env: SdieEnv,
    act: Act,
    which: Sequence[int] | None = None,
    value: Callable[[State, Floats], Any] | None = None,
    verifier: Verifier | None = None,
) -> list[Rollout]:
    """Run an episode of each case.

    Parameters
    ----------
    env : SdieEnv
    act : callable
        Gives the actions of a state.
    which : sequence of int, optional
        The cases; None means all.
    value : callable, optional
        Gives the values (n,) of a state and its actions.
    verifier : Verifier, optional
    """
    state = env.reset(which)
    cases = list(range(len(env))) if which is None else list(which)
    rollouts = [Rollout(k, images=[env.cases[k].image]) for k in cases]
    answers, _ = env.judge(cases, np.stack([r.images[0] for r in rollouts]))
    for r, answer in zip(rollouts, answers, strict=True):
        r.answers.append(answer)
    for _ in range(env.rounds):
        actions = act(state)
        values = None if value is None else value(state, actions)
        step = env.step(actions)
        for n, r in enumerate(rollouts):
            r.answers.append(step.answers[n])
            r.gained += float(step.reward[n])
            r.actions.append(actions[n])
            r.images.append(step.images[n])
            if values is not None:
                r.values.append(float(values[n]))
        state = step.state
    for r in rollouts:
        case = env.cases[r.case]
        truth = case.truth
        if verifier is not None:
            r.scores = verifier.scores(case.image, r.answers, case.label)
        r.rewards = [reward_of(a.mask, truth, env.reward) for a in r.answers]
        r.vote = vote(r.answers)
        r.vote_reward = reward_of(r.vote, truth, env.reward)
    return rollouts


def action_of(weights: npt.ArrayLike, size: int = 6) -> Floats:
    """An action whose weights are these, and whose chosen parameters lie in the middle of their ranges.

    Parameters
    ----------
    weights : array_like, (..., 6)
        Non-negative, with a positive sum.
    size : int
        Numbers in an action.
    """
    w = np.asarray(weights, np.float64)
    found = np.zeros((*w.shape[:-1], size), np.float32)
    found[..., :6] = 2.0 * w / w.max(-1, keepdims=True) - 1.0
    return found


def start_action(identity: float, size: int = 6) -> Floats:
    """The action that the search of constant weights begins with: the identity's weight, the filters sharing the rest evenly.

    Parameters
    ----------
    identity : float
        1/6 to 1; 1/6 is the uniform mixture, the middle of every range.
    size : int
        Numbers in an action.

    Returns
    -------
    ndarray, float32, (size,)
        Within [-1, 0.8], where tanh still has a slope.
    """
    weights = np.full(6, (1.0 - identity) / 5.0)
    weights[0] = identity
    top = min(1.8, 6.0 * identity)
    found = np.zeros(size, np.float32)
    found[:6] = top * weights / identity - 1.0
    return found


# Smoothing first: what follows works on what it leaves.
ORDER = ("bilateral", "guided", "wls", "sharpen", "spatiogram")
STARTS = ("filters", "uniform")


def start_schedule(start: str, rounds: int, passes: int = 1, size: int = 6) -> Floats:
    """The schedule that learning and the search of one begin with.

    Parameters
    ----------
    start : {"filters", "uniform"}
        "filters": of several passes, each has one filter in every round, alone; of a single one, each round has one
        filter beside as much of the identity. In `ORDER`; past five, the order begins anew. "uniform": the uniform mixture.
    rounds, passes : int
        Of an episode.
    size : int
        Numbers in an action.

    Returns
    -------
    ndarray, float32, (rounds, size)
        Within [-1, 0.8].
    """
    found = np.zeros((rounds, size), np.float32)
    if start == "uniform":
        return found
    found[:, :6] = -1.0 if passes > 1 else -0.95
    for at in range(rounds):
        turn = at * passes // rounds if passes > 1 else at
        found[at, FILTERS.index(ORDER[turn % len(ORDER)])] = 0.8
    if passes == 1:
        found[:, 0] = 0.8
    return found


def constant(schedule: npt.ArrayLike) -> Act:
    """Act by a schedule of actions (T, size), the same for every image and, where it is shorter than an episode, every pass."""
    rows = np.asarray(schedule, np.float32)
    return lambda state: np.repeat(rows[state.at % len(rows)][None], len(state.seen), 0)


def random_policy(seed: int, size: int) -> Act:
    """Act at random: each number uniform in [-1, 1], for each participant and round anew."""
    rng = np.random.default_rng((seed, 5))
    return lambda state: rng.uniform(-1.0, 1.0, (len(state.seen), size)).astype(np.float32)
