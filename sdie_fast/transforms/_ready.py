"""What the transforms share: their arguments, and an `Enhancer` that each process makes for itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..enhance import Enhancer, Weights
from ..errors import InvalidArgumentError
from ..filters import FilterParams
from ..recipe import Recipe, default_recipe

__all__ = ["Params", "Ready", "RecipeLike", "recipe_of"]

RecipeLike = Recipe | str | os.PathLike[str]
Params = FilterParams | Mapping[str, Any]


def recipe_of(
    recipe: RecipeLike | None, weights: Weights | None, params: Params | None, filters: Sequence[str] | None
) -> Recipe:
    """Give the recipe that is named, the one of those weights, or, where nothing is given, the built-in one.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, RecipeError
        A value that cannot be used, or two that exclude each other.
    """
    if weights is None:
        if params is not None or filters is not None:
            raise InvalidArgumentError("params, filters: received without weights; accepted: with them")
        if recipe is None:
            return default_recipe()
        return recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if recipe is not None:
        raise InvalidArgumentError("recipe, weights: received both; accepted: one of them")
    given = FilterParams.from_dict(params) if isinstance(params, Mapping) else params
    names = None if filters is None else tuple(filters)
    return Recipe(weights, FilterParams() if given is None else given, filters=names)  # type: ignore[arg-type]


class Ready:
    """An `Enhancer`, made in the process that uses it: a network's threads do not outlive a fork.

    In a torch DataLoader's worker, where `threads` says nothing, it uses one thread: the workers are the parallelism.
    """

    def __init__(self, recipe: Recipe, threads: int | None, **options: Any) -> None:
        self.recipe, self.threads, self.options = recipe, threads, options
        # A forked process keeps its parent's as well: freeing a network's session there waits for threads it has not.
        self._made: dict[tuple[int, bool], Enhancer] = {}
        self.enhancer()  # what is wrong with the arguments is told here, not at the first image

    def enhancer(self) -> Enhancer:
        """Give this process's own."""
        data: Any = sys.modules.get("torch.utils.data")
        worker = data is not None and data.get_worker_info() is not None
        place = (os.getpid(), worker)
        if place not in self._made:
            threads = 1 if worker and self.threads is None else self.threads
            self._made[place] = Enhancer(self.recipe, threads=threads, **self.options)
        return self._made[place]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}
