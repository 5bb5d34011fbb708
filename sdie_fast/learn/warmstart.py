"""Where learning begins with `start = "searched"`: passes that a beam search finds on the shots, cloned by the actor.

A few shots tell classes apart better than they tell policies apart: which filter opens a segmenter's eyes depends on the
class of defect, and holds within it. So each class's shots are first asked what serves them, filter by filter, and the
actor is taught to answer so when it sees such a surface. TD3 goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..actor import Actions
from ..segment.prompts import Answer
from .distill import BATCH, RATE, demonstrations
from .env import SdieEnv
from .episode import Observation
from .networks import Texture, random_shift
from .places import Floats

__all__ = [
    "BEAM", "BY_BEAM", "STEPS", "Tried", "clone", "portfolio", "schedule_of", "search_goals", "search_passes", "search_together",
]  # fmt: skip

BY_BEAM = "beam search, schedule"  # the baseline that `search_together` makes
BEAM = 2  # passes that each level of the search goes on with
STEPS = 1500  # of cloning
_OTHERS = 0.1  # what the other classes say of a pass, beside a class's own shots
_WEIGHT_DECAY = 0.02  # of cloning: a hundred numbers of five shots are soon learned by heart
_DECAY = 0.5  # what a shot's second best picture counts, beside its best


@dataclass(frozen=True)
class Tried:
    """The beginning of a pass, tried on the shots of a class.

    Attributes
    ----------
    filters : tuple of int
        One filter a round, by its place in the toolkit.
    answers : list of Answer
        Each shot's, after the last of these rounds.
    rewards : ndarray, float32, (n,)
        Theirs, without `SdieEnv.relative`.
    general : float
        Mean reward over all classes that tried it.
    """

    filters: tuple[int, ...]
    answers: list[Answer]
    rewards: Floats
    general: float = 0.0

    @property
    def worth(self) -> Floats:
        """Each shot's reward and a little of the general one: where a class's shots show nothing, the other classes tell."""
        return self.rewards + np.float32(_OTHERS * self.general)


def search_passes(
    env: SdieEnv,
    groups: Sequence[Sequence[int]],
    length: int,
    watch: Callable[[], None] = lambda: None,
    beam: int = BEAM,
) -> list[list[Tried]]:
    """Search passes for the shots of each class: of the passes of each length the best `beam` are made longer.

    Parameters
    ----------
    env : SdieEnv
        Its `calls` count what is segmented.
    groups : sequence of sequence of int
        The shots of each class.
    length : int
        Rounds of a pass.
    watch : callable
        Called after each pass tried.
    beam : int
        Passes kept of each length.

    Returns
    -------
    list of list of Tried
        All that were tried for each class: F' filters beside the identity make F' + (length - 1) * beam * F'.
    """
    moves = [k for k, name in enumerate(env.actions.filters) if name != "identity"]
    fronts: list[list[tuple[tuple[int, ...], Any]]] = [
        [((), env.place.begin(env.place.take(np.stack([env.pictures[k] for k in own]))))] for own in groups
    ]
    found: list[list[Tried]] = [[] for _ in groups]
    for _ in range(length):
        states: list[dict[tuple[int, ...], Any]] = [{} for _ in groups]
        grown: list[list[Tried]] = [[] for _ in groups]
        for g, own in enumerate(groups):
            for before, state in fronts[g]:
                for move in moves:
                    longer = (*before, move)
                    after = env.place.round(state, np.repeat(_alone(move, env.actions)[None], len(own), 0))
                    answers, rewards = env.judge(own, env.place.levels(after))
                    env.calls += len(own)
                    grown[g].append(Tried(longer, answers, rewards))
                    states[g][longer] = after
                    watch()
        means: dict[tuple[int, ...], list[float]] = {}
        for tried in (t for some in grown for t in some):
            means.setdefault(tried.filters, []).append(float(tried.rewards.mean()))
        for g, some in enumerate(grown):
            told = [replace(t, general=float(np.mean(means[t.filters]))) for t in some]
            found[g] += told
            best = sorted(told, key=lambda t: -float(t.worth.mean()))[:beam]
            fronts[g] = [(t.filters, states[g][t.filters]) for t in best]
    return found


def _alone(move: int, actions: Actions) -> Floats:
    """The action of one filter alone."""
    action = np.zeros(actions.size, np.float32)
    action[: len(actions.filters)] = -1.0
    action[move] = 1.0
    return action


def portfolio(tried: Sequence[Tried], count: int) -> list[Tried]:
    """Choose passes that serve the shots together: one of the masks they lead to is chosen in the end.

    Greedy: each choice adds most to the sum over the shots of their best reward, half of their second best, a quarter
    of their third and so on, so that a pass that is good where the others are not comes before one like the best.
    """
    chosen: list[Tried] = []

    def worth(some: Sequence[Tried]) -> float:
        ordered = -np.sort(-np.stack([t.worth for t in some]), 0)
        return float((_DECAY ** np.arange(len(some)) @ ordered).sum())

    rest = list(tried)
    while rest and len(chosen) < count:
        best = max(rest, key=lambda t: worth([*chosen, t]))
        rest.remove(best)
        chosen.append(best)
    return chosen


def schedule_of(passes: Sequence[Tried], rounds: int, count: int, actions: Actions) -> Floats:
    """The schedule (rounds, size) of `count` passes: a shorter one ends with the identity, or goes on with its last filter."""
    found = np.zeros((rounds, actions.size), np.float32)
    length = rounds // count
    rest = actions.filters.index("identity") if "identity" in actions.filters else None
    for at in range(rounds):
        own = passes[at // length % len(passes)].filters
        k = at % length
        move = own[k] if k < len(own) else own[-1] if rest is None else rest
        found[at] = _alone(move, actions)
    return found


def search_goals(
    env: SdieEnv,
    which: Sequence[int],
    seed: int,
    witness: Callable[[int, Sequence[Answer]], None],
    watch: Callable[[], None] = lambda: None,
) -> Floats:
    """Search a schedule for the shots of each class.

    Parameters
    ----------
    env : SdieEnv
        Its `rounds` and `passes` are the schedules'; its `calls` count what is segmented.
    which : sequence of int, (n,)
        The shots.
    seed : int
    witness : callable
        Given a case and an episode's answers, the first of the picture as it came: all that was tried, mixed by chance
        into episodes, since what a verifier judges later stands beside T others.
    watch : callable
        Called after each pass tried.

    Returns
    -------
    ndarray, float32, (n, T, size)
        Each shot's class's.
    """
    goals = np.zeros((len(which), env.rounds, env.actions.size), np.float32)
    labels = [env.cases[k].label for k in which]
    places = [[n for n, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)]
    groups = [[which[n] for n in own] for own in places]
    found = search_passes(env, groups, env.rounds // env.passes, watch)
    for own, shots, tried in zip(places, groups, found, strict=True):
        goals[own] = schedule_of(portfolio(tried, env.passes), env.rounds, env.passes, env.actions)
        raw = env.judge(shots, env.place.take(np.stack([env.pictures[k] for k in shots])))[0]
        for k, first, *answers in zip(shots, raw, *(t.answers for t in tried), strict=True):
            rng = np.random.default_rng((seed, 9, k))
            for _ in range(-(-2 * len(tried) // env.rounds)):  # each is told about twice
                drawn = np.resize(rng.permutation(len(answers)), env.rounds)
                witness(k, [first, *(answers[n] for n in drawn)])
    return goals


def search_together(env: SdieEnv, which: Sequence[int], watch: Callable[[int], None]) -> Floats:
    """Search one schedule (T, size) for all shots, as `search_goals` does for those of each class; `watch` is told its cost so far."""
    before = env.calls
    tried = search_passes(env, [which], env.rounds // env.passes, lambda: watch(env.calls - before))[0]
    return schedule_of(portfolio(tried, env.passes), env.rounds, env.passes, env.actions)


def clone(actor: nn.Module, env: SdieEnv, which: Sequence[int], goals: Floats, seed: int) -> float:
    """Teach an actor to follow each shot's schedule, on the shots turned, mirrored, lighter and darker.

    Parameters
    ----------
    actor : Module
        `networks.ActorNet`.
    env : SdieEnv
    which : sequence of int, (n,)
        The shots.
    goals : ndarray, float32, (n, T, size)
        Their schedules.
    seed : int

    Returns
    -------
    float
        The last mean squared difference of an action.
    """
    device = next(actor.parameters()).device

    def act(state: Observation) -> Floats:
        return np.asarray(goals[np.arange(len(state.seen)) % len(which), state.at])

    seen, actions = demonstrations(env, act, seed, [env.pictures[k] for k in which])
    inputs, wanted = torch.from_numpy(seen).to(device), torch.from_numpy(actions).to(device)
    rounds, count = seen.shape[:2]
    fixed: torch.Tensor | None = None
    if isinstance(actor.encoder, Texture):  # what does not learn is asked once
        actor.encoder.settle(inputs.flatten(0, 1))
        with torch.no_grad():
            fixed = torch.stack([actor.encoder(own[:, None].float() / 255.0) for own in inputs])
    optimizer = torch.optim.AdamW(actor.parameters(), RATE, weight_decay=_WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    rng = np.random.default_rng((seed, 8))
    loss = torch.zeros(())
    for _ in range(STEPS):
        rows, at = (torch.from_numpy(rng.integers(n, size=BATCH)).to(device) for n in (count, rounds))
        hot = functional.one_hot(at, rounds).float()
        if fixed is None:
            offsets = torch.from_numpy(rng.integers(0, 5, (BATCH, 2))).to(device)
            given = actor(random_shift(inputs[at, rows], offsets, 2), hot)
        else:
            given = actor.of(fixed[at, rows], hot)
        loss = functional.mse_loss(given, wanted[rows, at])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return float(loss.detach())
