"""What a learned policy must beat: no enhancement, uniform weights, one filter, where it began, chance, and a search without images.

The search is CMA-ES (Hansen's `cma`) for the best constant weights and the best fixed schedule, on the same shots and with
the same number of segmentations as the training that it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..filters import FILTERS
from ..errors import InvalidArgumentError
from .env import Floats, SdieEnv
from .rollout import Act, action_of, constant, follow, random_policy, start_action, start_schedule

SIGMA = 0.5  # of CMA-ES's first generation, actions being in [-1, 1]
SEARCHED = ("CMA-ES, constant", "CMA-ES, schedule")
Way = tuple[SdieEnv, Act]  # a way of acting, and where it acts


def simple(env: SdieEnv, seed: int) -> dict[str, Way]:
    """Ways of acting that need no search, by name.

    Those whose passes would all make the same pictures act in one pass.
    """
    size, one = env.actions.size, env.one_pass()
    ways = {"random": (env, random_policy(seed, size))}
    # What learning begins with: what is learned must do more.
    if env.passes > 1:
        begun = constant(start_schedule("filters", env.rounds, env.passes, size))
        ways["one filter a pass"] = (env, begun)
    ways["one filter a round"] = (one, constant(start_schedule("filters", one.rounds, 1, size)))
    ways["uniform"] = (one, constant(np.zeros((1, size), np.float32)))
    ways["half identity"] = (one, constant(start_action(0.5, size)[None]))
    for k, name in enumerate(FILTERS[1:], 1):
        ways[name] = (one, constant(action_of(np.eye(len(FILTERS))[k], size)[None]))
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

    if calls < 1:
        raise InvalidArgumentError(f"calls: received {calls}; accepted: 1 or more")
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
