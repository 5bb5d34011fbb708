"""What training left, opened again: a run's settings and shots, or a bare recipe, and its way of acting.

Needs neither torch nor the run's data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..actor import Actor
from ..data.shots import Split
from ..recipe import Recipe
from . import folder as files
from .config import Config
from .env import Floats, State
from .rollout import Act, action_of, constant


def act_of(recipe: Recipe, actions: Any = None) -> Act:
    """The way of acting of a recipe, by onnxruntime alone.

    Parameters
    ----------
    recipe : Recipe
    actions : Actions, optional
        Of the environment, for a "fixed" recipe.
    """
    if recipe.actor is None:
        size = 6 if actions is None else actions.size
        return constant(action_of(recipe.weights, size))  # type: ignore[arg-type]
    actor = Actor(recipe.actor, recipe.kind)
    if recipe.kind == "policy":
        return lambda state: actor(state.seen, state.at)
    begun: list[Floats] = []

    def act(state: State) -> Floats:
        if state.at == 0:
            begun[:] = [actor(state.seen)]
        return np.asarray(begun[0][:, state.at])

    return act


def open_run(run: Path) -> tuple[Config, dict[str, Any], Split | None, Recipe]:
    """Read a run's folder, or a recipe's, which has neither split nor settings of its own.

    Returns
    -------
    config : Config
        A bare recipe's: the defaults, with its rounds, parameters and observations.
    about : dict
        What config.toml tells besides.
    split : Split or None
    recipe : Recipe
        The policy.
    """
    if (run / files.CONFIG).exists():
        config, about = files.load_config(run)
        return config, about, Split.load(run / files.SPLIT), Recipe.load(run / "policy")
    recipe = Recipe.load(run)
    given: dict[str, Any] = {
        "rounds": recipe.rounds,
        "passes": recipe.passes,
        "params": recipe.params,
    }
    if recipe.actor is not None:
        given |= {"side": recipe.actor.side, "actions": recipe.actor.actions}
    return Config(**given), {}, None, recipe
