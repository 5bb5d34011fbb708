"""Which mask is final: a round's, by the truth (the paper's oracle) or by what a line can know, or the rounds' vote.

Also what a few shots tell of rules and policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import _validate
from ..errors import InvalidArgumentError
from ..segment.prompts import agreements
from .env import Rollout
from .places import Floats, Masks

__all__ = [
    "BLIND", "RULES", "Judgement", "best_rule", "choose", "final_mask", "final_reward", "holds_up",
    "judge_rule", "signal", "usable",
]  # fmt: skip

RULES = ("oracle", "last", "predicted-iou", "stability", "critic", "agreement", "vote", "verifier")
BLIND = RULES[1:]  # those that never see the truth


def signal(rule: str, rollout: Rollout, gamma: float = 0.99) -> Floats:
    """What a rule goes by, for each of the T rounds: the highest is chosen.

    Parameters
    ----------
    rule : str
        One of `RULES` but "vote", which combines rounds.
    rollout : Rollout
    gamma : float
        The critic's discount: a round's own reward is Q_t - gamma * Q_(t+1).

    Returns
    -------
    ndarray, float32, (T,)

    Raises
    ------
    InvalidArgumentError
        No such rule, "critic" without values, or "verifier" without scores.
    """
    _validate.choice(*RULES)("rule", rule)
    if not usable(rule, rollout):
        needed = "a critic's values" if rule == "critic" else "a verifier's scores"
        raise InvalidArgumentError(f"rule: {rule!r} needs {needed}, and there are none")
    answers = rollout.answers[1:]
    if rule == "critic":
        after = [*rollout.values[1:], 0.0]
        return np.asarray([q - gamma * later for q, later in zip(rollout.values, after, strict=True)], np.float32)
    if rule == "agreement":  # the image as it came has a say, but is no candidate
        return agreements([a.mask for a in rollout.answers])[1:]
    found: dict[str, Sequence[float]] = {
        "oracle": rollout.rewards[1:],
        "last": range(len(answers)),
        "predicted-iou": [a.quality for a in answers],
        "stability": [a.stability for a in answers],
        "verifier": rollout.scores[1:],
    }
    return np.asarray(found[rule], np.float32)


def usable(rule: str, rollout: Rollout) -> bool:
    """Whether what a rule goes by is there."""
    needed = {"critic": rollout.values, "verifier": rollout.scores}
    return bool(needed.get(rule, True))


def choose(rule: str, rollout: Rollout) -> int:
    """Number of the round that a rule makes final, 1 to T; of equals the earliest.

    "verifier" may choose 0, the image as it came: a line would rather not enhance than spoil. "vote" chooses none: the last
    stands for it where a picture is to be shown.
    """
    if rule == "vote":
        return len(rollout.answers) - 1
    best = int(signal(rule, rollout).argmax()) + 1
    if rule == "verifier":
        scores = np.asarray(rollout.scores, np.float32)
        return best if scores[best] > scores[0] else 0
    return best


def final_mask(rule: str, rollout: Rollout) -> Masks:
    """The mask that a rule makes final, bool (H, W)."""
    return rollout.vote if rule == "vote" else rollout.answers[choose(rule, rollout)].mask


def final_reward(rule: str, rollout: Rollout) -> float:
    """Its reward."""
    return rollout.vote_reward if rule == "vote" else rollout.rewards[choose(rule, rollout)]


@dataclass(frozen=True)
class Judgement:
    """How good a rule is.

    Attributes
    ----------
    reward : float
        Mean reward of the rounds it chose.
    regret : float
        How much less that is than the oracle's.
    correlation : float
        Spearman's between its signal and the reward over all images and rounds; NaN where either does not vary.
    """

    reward: float
    regret: float
    correlation: float


def judge_rule(rule: str, rollouts: Sequence[Rollout]) -> Judgement:
    """Compare a rule with the truth."""
    from scipy.stats import rankdata

    got = float(np.mean([final_reward(rule, r) for r in rollouts]))
    best = float(np.mean([max(r.rewards[1:]) for r in rollouts]))
    correlation = float("nan")
    if rule != "vote":  # which has no signal
        signals = np.concatenate([signal(rule, r) for r in rollouts])
        ranks = rankdata(signals), rankdata(np.concatenate([r.rewards[1:] for r in rollouts]))
        if min(np.ptp(r) for r in ranks) > 0:
            correlation = float(np.corrcoef(*ranks)[0, 1])
    return Judgement(got, best - got, correlation)


def best_rule(worths: Mapping[str, Mapping[str, float]]) -> str:
    """The rule without truth that is fixed on the shots: the verifier, unless they say that another is better.

    A few images cannot tell rules apart that are alike: another must be better by more than the standard error of the
    difference.

    Parameters
    ----------
    worths : mapping of str to mapping of str to float
        What each rule's choices are worth on each shot: see `verifier.Evidence.worths`. Where there is none, the
        verifier stands.
    """
    best, most = "verifier", 0.0
    for rule, own in worths.items():
        gained = np.array([worth - worths["verifier"][shot] for shot, worth in own.items()])
        error = gained.std(ddof=1) / np.sqrt(len(gained)) if len(gained) > 1 else np.inf
        if gained.mean() > max(error, most):
            best, most = rule, float(gained.mean())
    return best


def holds_up(begun: Sequence[float], ended: Sequence[float], *, searched: bool = False) -> bool:
    """Whether the last policy is kept: it is, unless the shots say that it is worse than what learning began with.

    A few shots cannot tell the better of two policies that are alike, so that picking the best of many would pick luck. They
    do tell a policy that went astray: one whose mean return fell by more than a standard error. A policy that was searched on
    these shots goes only for one whose mean return is more than two standard errors above its own: the returns are those of the
    pictures that the last policy learned from, and partly chance. A single shot does not tell how large chance is.

    Parameters
    ----------
    begun, ended : sequence of float, (n,)
        Each shot's return without exploration, at first and last; with `ended` empty the last policy is not kept.
    searched : bool
        Whether the first policy was searched (`warmstart`).
    """
    if not ended:
        return False
    change = np.subtract(ended, begun)
    if len(change) == 1:
        return not searched and bool(change[0] >= 0.0)
    error = change.std(ddof=1) / np.sqrt(len(change))
    return bool(change.mean() > 2.0 * error) if searched else bool(change.mean() >= -error)
