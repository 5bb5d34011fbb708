"""What a learned policy must beat: no enhancement, uniform weights, one filter, where it began, chance, and a search without images.

The search is CMA-ES (Hansen's `cma`) for the best constant weights and the best fixed schedule, on the same shots and with
the same number of segmentations as the training that it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .._params import FILTERS
from ..errors import InvalidArgumentError
from .env import Floats, SdieEnv
from .rollout import Act, action_of, constant, follow, random_policy, start_action, start_schedule

SIGMA = 0.5  # of CMA-ES's first generation, actions being in [-1, 1]


def simple(env: SdieEnv, seed: int) -> dict[str, Act]:
    """Ways of acting that need no search, by name."""
    size = env.actions.size
    ways = {
        "uniform": constant(np.zeros((env.rounds, size), np.float32)),
        "random": random_policy(seed, size),
        "half identity": constant(np.tile(start_action(0.5, size), (env.rounds, 1))),
        # What learning begins with: what is learned must do more.
        "one filter a round": constant(start_schedule(0.5, env.rounds, size)),
    }
    for k, name in enumerate(FILTERS[1:], 1):
        rows = np.tile(action_of(np.eye(len(FILTERS))[k], size), (env.rounds, 1))
        ways[name] = constant(rows)
    return ways


def search(
    env: SdieEnv,
    calls: int,
    seed: int,
    *,
    each_round: bool,
    start: Floats | None = None,
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
    each_round : bool
        Whether each round has an action of its own, or all the same one.
    which : sequence of int, optional
        The cases; None means all.
    start : ndarray, (T, size) or (1, size), optional
        The actions that the search begins with, of each round or of all; None means zeros, the uniform mixture.
    watch : callable
        Told the segmentations spent and the best mean return so far.

    Returns
    -------
    ndarray, float32, (T, size)
        Actions.

    Raises
    ------
    InvalidArgumentError
        calls below 1.
    """
    import cma

    if calls < 1:
        raise InvalidArgumentError(f"calls: received {calls}; accepted: 1 or more")
    size = env.actions.size
    rows = env.rounds if each_round else 1

    def schedule(x: Floats) -> Floats:
        actions = np.clip(np.asarray(x, np.float32).reshape(rows, size), -1.0, 1.0)
        return np.repeat(actions, env.rounds // rows, 0)

    begun = env.calls
    first = np.zeros(rows * size)
    if start is not None:
        first[:] = np.asarray(start, np.float64).ravel()
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
