"""Ways of acting that learn nothing: where learning begins, what it must beat, and a search that sees no image.

It must beat no enhancement, uniform weights, one filter, where it began, chance, and the best constant weights and fixed schedule
that CMA-ES (Hansen's `cma`) finds on the same shots with the same number of segmentations as training spends; where the
segmenter is differentiable, the constant weights that gradient descent finds with as many; and, where learning begins with a
search of each class's shots, the schedule that the same search finds for all shots together (`warmstart.search_together`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..actor import Actions
from .env import Act, SdieEnv, follow
from .places import Floats

__all__ = [
    "BY_GRADIENT", "SEARCHED_WAYS", "SIGMA", "STARTS", "Way", "action_of", "constant", "random_policy", "search", "searches", "simple",
    "start_action", "start_schedule",
]  # fmt: skip

STARTS = ("filters", "uniform", "searched")
SIGMA = 0.5  # of CMA-ES's first generation, actions being in [-1, 1]
SEARCHED_WAYS = ("CMA-ES, constant", "CMA-ES, schedule")
BY_GRADIENT = "gradient, constant"
Way = tuple[SdieEnv, Act]  # a way of acting, and where it acts
# Smoothing first: what follows works on what it leaves. Filters that are not named here follow in their toolkit's order.
_ORDER = ("bilateral", "guided", "wls", "sharpen", "spatiogram")


def _turns(actions: Actions) -> list[str]:
    """The toolkit's filters but the identity, in the order in which a start takes them."""
    named = [name for name in _ORDER if name in actions.filters]
    return named + [name for name in actions.filters if name not in (*named, "identity")]


def action_of(weights: npt.ArrayLike, actions: Actions) -> Floats:
    """An action whose weights are these, and whose chosen parameters lie in the middle of their ranges.

    Parameters
    ----------
    weights : array_like, (..., F)
        Of the toolkit's filters: non-negative, with a positive sum.
    actions : Actions
        What the numbers of an action mean.
    """
    w = np.asarray(weights, np.float64)
    found = np.zeros((*w.shape[:-1], actions.size), np.float32)
    found[..., : w.shape[-1]] = 2.0 * w / w.max(-1, keepdims=True) - 1.0
    return found


def start_action(identity: float, actions: Actions) -> Floats:
    """The action that the search of constant weights begins with: the identity's weight, the filters sharing the rest evenly.

    Parameters
    ----------
    identity : float
        1/F to 1, F being the toolkit's filters; 1/F is the uniform mixture, the middle of every range, and what a toolkit without
        the identity gets.
    actions : Actions
        What the numbers of an action mean.

    Returns
    -------
    ndarray, float32, (size,)
        Within [-1, 0.8], where tanh still has a slope.
    """
    found, count = np.zeros(actions.size, np.float32), len(actions.filters)
    if "identity" not in actions.filters or count == 1:
        return found
    weights = np.full(count, (1.0 - identity) / (count - 1.0))
    weights[actions.filters.index("identity")] = identity
    top = min(1.8, float(count) * identity)
    found[:count] = top * weights / identity - 1.0
    return found


def start_schedule(start: str, rounds: int, passes: int, actions: Actions) -> Floats:
    """The schedule that learning and the search of one begin with.

    Parameters
    ----------
    start : {"filters", "uniform", "searched"}
        "filters", and "searched" as long as nothing was searched: of several passes, each has one filter in every round, alone; of a single one, each round has one
        filter beside as much of the identity. Smoothing ones come first; past the last, the order begins anew. "uniform": the
        uniform mixture.
    rounds, passes : int
        Of an episode.
    actions : Actions
        What the numbers of an action mean, and of which filters.

    Returns
    -------
    ndarray, float32, (rounds, size)
        Within [-1, 0.8].
    """
    found = np.zeros((rounds, actions.size), np.float32)
    turns = _turns(actions)
    if start == "uniform" or not turns:
        return found
    found[:, : len(actions.filters)] = -1.0 if passes > 1 else -0.95
    for at in range(rounds):
        turn = at * passes // rounds if passes > 1 else at
        found[at, actions.filters.index(turns[turn % len(turns)])] = 0.8
    if passes == 1 and "identity" in actions.filters:
        found[:, actions.filters.index("identity")] = 0.8
    return found


def constant(schedule: npt.ArrayLike) -> Act:
    """Act by a schedule of actions (T, size), the same for every image and, where it is shorter than an episode, every pass."""
    rows = np.asarray(schedule, np.float32)
    return lambda state: np.repeat(rows[state.at % len(rows)][None], len(state.seen), 0)


def random_policy(seed: int, size: int) -> Act:
    """Act at random: each number uniform in [-1, 1], for each participant and round anew."""
    rng = np.random.default_rng((seed, 5))
    return lambda state: rng.uniform(-1.0, 1.0, (len(state.seen), size)).astype(np.float32)


def simple(env: SdieEnv, seed: int) -> dict[str, Way]:
    """Ways of acting that need no search, by name.

    Those whose passes would all make the same pictures act in one pass.
    """
    actions, one = env.actions, env.one_pass()
    ways = {"random": (env, random_policy(seed, actions.size))}
    # What learning begins with: what is learned must do more.
    if env.passes > 1:
        ways["one filter a pass"] = (env, constant(start_schedule("filters", env.rounds, env.passes, actions)))
    ways["one filter a round"] = (one, constant(start_schedule("filters", one.rounds, 1, actions)))
    ways["uniform"] = (one, constant(np.zeros((1, actions.size), np.float32)))
    if "identity" in actions.filters:
        ways["half identity"] = (one, constant(start_action(0.5, actions)[None]))
    for weights, name in zip(np.eye(len(actions.filters)), actions.filters, strict=True):
        if name != "identity":
            ways[name] = (one, constant(action_of(weights, actions)[None]))
    return ways


def search(
    env: SdieEnv,
    calls: int,
    seed: int,
    start: Floats,
    *,
    which: Sequence[int] | None = None,
    watch: Callable[[int, float], None] = lambda _spent, _best: None,
) -> Floats:
    """Search the schedule of the highest mean return on an environment's cases.

    Parameters
    ----------
    env : SdieEnv
        Its cases are the shots.
    calls : int
        Segmentations that may be spent, one whole generation at least.
    seed : int
    start : ndarray, (T, size) or (1, size)
        The actions that the search begins with: of each round, or one that all have in common.
    which : sequence of int, optional
        The cases; None means all.
    watch : callable
        Told the segmentations spent and the best mean return so far.

    Returns
    -------
    ndarray, float32
        Actions, of the shape of `start`.

    Raises
    ------
    InvalidArgumentError
        calls below 1.
    """
    import cma

    _validate.integer(1, 10**9)("calls", calls)
    first = np.asarray(start, np.float64).ravel()

    def schedule(x: npt.ArrayLike) -> Floats:
        return np.clip(np.asarray(x, np.float32).reshape(np.shape(start)), -1.0, 1.0)

    begun = env.calls
    settings = {"bounds": [-1, 1], "seed": seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(first, SIGMA, settings)
    best: tuple[float, Floats] = (-np.inf, schedule(first))
    cost = (len(env) if which is None else len(which)) * env.rounds
    while True:
        tried = strategy.ask()
        returns = []
        for x in tried:
            found = follow(env, constant(schedule(x)), which)
            returns.append(float(np.mean([r.gained for r in found])))
        strategy.tell(tried, [-r for r in returns])
        top = int(np.argmax(returns))
        if returns[top] > best[0]:
            best = (returns[top], schedule(tried[top]))
        spent = env.calls - begun
        watch(spent, best[0])
        if spent + cost * len(tried) > calls or strategy.stop():
            return best[1]


def searches(
    env: SdieEnv, start: str, calls: int, seed: int, which: Sequence[int], watch: Callable[[int, float], None]
) -> Iterator[tuple[str, Floats]]:
    """Search the best constant weights and the best schedule of one pass, each with the whole budget, from where learning began.

    A segmenter that is differentiable, which one with `shares` is, has constant weights found by gradient besides.

    Parameters
    ----------
    env, calls, seed, which, watch
        As of `search`.
    start : {"filters", "uniform", "searched"}
        See `start_schedule`.
    """
    one = env.one_pass()
    begun = start_schedule(start, one.rounds, 1, env.actions)
    even = start_action(0.5, env.actions)[None] if start != "uniform" else begun[:1]
    for name, first in zip(SEARCHED_WAYS, (even, begun), strict=True):
        yield name, search(one, calls, seed, first, which=which, watch=watch)
    if hasattr(env.segmenter, "shares"):
        from .gradient import fit_weights  # it needs torch

        found = fit_weights(
            env.segmenter, [env.cases[k] for k in which], rounds=one.rounds, steps=max(calls // (len(which) * one.rounds), 1),
            start=env.actions.weights(even), params=env.actions.params(np.zeros(env.actions.size), env.params),
            filters=env.actions.filters, threads=env.threads, watch=watch,
        )  # fmt: skip
        yield BY_GRADIENT, action_of(found.weights, env.actions)
