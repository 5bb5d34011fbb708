"""Recipes as the page holds them: what they may be made of, made into `Recipe`s, and told as code."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _validate
from ..errors import InvalidArgumentError
from ..filters import DEFAULTS, FILTERS, PARAMETERS, TABLE, FilterParams
from ..filters._flat import WINDOW, flat_name
from ..recipe import Recipe
from .pictures import Shown

__all__ = [
    "MOST_ROUNDS", "Options", "code", "described", "does_the_same", "note_of", "recipe_of", "scaled", "with_facts"
]  # fmt: skip

MOST_ROUNDS = 20


class Options(NamedTuple):
    """What is beside a recipe: how the pictures are read."""

    white_level: float | None = None
    per_channel: bool = False

    def of(self, shown: Shown) -> dict[str, Any]:
        """The keywords of `enhance` for a picture."""
        white = self.white_level if self.white_level is not None else shown.white_level
        return {
            "white_level": white if shown.pixels.dtype == np.uint16 else None,
            "per_channel": self.per_channel and shown.pixels.ndim == 3,
        }


def described() -> dict[str, Any]:
    """Tell the filters and their parameters as their own descriptions have them, for JSON."""

    def told(name: str, parameter: Any) -> dict[str, Any]:
        rest = dataclasses.asdict(parameter)
        return {**rest, "name": name, "default": getattr(DEFAULTS, name), "sentence": parameter.sentence()}

    filters = []
    for name, cls in TABLE.items():
        fields = [flat_name(name, f.name) for f in dataclasses.fields(cls)]
        text = (cls.__doc__ or "").split("\n\n")[0].strip()
        own = [told(flat, PARAMETERS[flat]) for flat in fields]
        filters.append({"name": name, "colour": cls.colour, "text": text, "parameters": own})
    return {"filters": filters, "window": told("window", WINDOW), "toolkit": list(FILTERS)}


def scaled(params: FilterParams, factor: int) -> FilterParams:
    """Parameters for a picture reduced by a factor: those in pixels are reduced, too, within their ranges."""
    if factor == 1:
        return params
    found = {}
    for name, parameter in {"window": WINDOW, **PARAMETERS}.items():
        value = getattr(params, name)
        if parameter.unit != "pixels" or value is None:
            continue
        least = max(value / factor, parameter.low)
        found[name] = 2 * round((least - 1) / 2) + 1 if parameter.kind == "integer" else least
    return dataclasses.replace(params, **found)


def recipe_of(given: Any, **rest: str) -> Recipe:
    """Make a recipe of what the page holds: its filters, weights and parameters.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A value that cannot be used.
    """
    _validate.mapping("recipe", given)
    _validate.known_keys("recipe", given, ("filters", "weights", "params"))
    weights, filters = given.get("weights") or (), given.get("filters")
    fit = isinstance(weights, list) and all(isinstance(row, list) for row in weights)
    if not fit or not 1 <= len(weights) <= MOST_ROUNDS:
        raise InvalidArgumentError(
            f"weights: received {str(weights)[:80]}; accepted: 1 to {MOST_ROUNDS} lists of numbers"
        )
    params = FilterParams.from_dict(given.get("params", {}))
    return Recipe(weights=weights, params=params, filters=filters, **rest)  # type: ignore[arg-type]


def does_the_same(recipe: Recipe, given: Any) -> bool:
    """Whether a recipe is the one that the page holds: of a network's, whose weights differ by picture, believed."""
    own = recipe_of(given)
    if recipe.weights is None or own.weights is None:
        return True
    weights = recipe.weights[: recipe.rounds // recipe.passes]
    alike = (recipe.filters, recipe.params, weights.shape) == (own.filters, own.params, own.weights.shape)
    return alike and np.allclose(weights, own.weights, atol=1e-5)


_FACTS = re.compile(
    r"(\A|\n)((Tuned on \d+ picture\S* of .*?)?( ?White level \S+)?\n)?sdie-fast tune \S+, \d{4}-\d\d-\d\d\.\Z"
)


def with_facts(note: str, pictures: list[str], folder: str, options: Options, made: str) -> str:
    """Write a saved recipe's notes: who saves it says a note; the rest is what it was tuned on, and `made` by."""
    n = len(pictures)
    on = ", ".join(pictures[:6]) + f" and {n - 6} more" * (n > 6)
    told = f"Tuned on {n} picture{'s' * (n != 1)} of {folder}: {on}." if n else ""
    white = f" White level {options.white_level:g}." if options.white_level is not None else ""
    return "\n".join(filter(None, (note.strip(), f"{told}{white}".strip(), made)))


def note_of(notes: str) -> str:
    """Give back the note that `with_facts` was given."""
    return _FACTS.sub("", notes)


def code(given: Any, options: Options, folder: Path, beside: tuple[str, ...] | None) -> dict[str, str]:
    """Write what does the same in Python, and on the command line; `beside` are the words that name a kept recipe."""
    recipe = recipe_of(given)
    rows = [{f: w for f, w in zip(recipe.filters, row, strict=True) if w > 0} for row in given["weights"]]
    changed = {n: v for n, v in recipe.params.to_dict(recipe.filters).items() if v != getattr(DEFAULTS, n)}
    own = {n: v for n, v in options._asdict().items() if v not in (None, False)}
    lines = ["import sdie_fast as sdie", "", "weights = [", *(f"    {row}," for row in rows), "]"]
    inner = "".join(f", {n}={v!r}" for n, v in changed.items())[2:]
    rest = "".join(f", {n}={v!r}" for n, v in own.items())
    lines += [f"params = sdie.FilterParams({inner})", f"out = sdie.enhance(image, weights, params=params{rest})"]
    words = ["sdie-fast", "enhance", str(folder), "enhanced"]
    if beside is not None:
        words += beside
    elif any(row != rows[0] for row in rows):
        words = ["# rounds that differ need a recipe: save it, and copy again"]
    else:
        words += ["--weights", ",".join(f"{f}={w}" for f, w in rows[0].items()), "--rounds", str(len(rows))]
        if changed:
            words += ["--params", ",".join(f"{n}={v}" for n, v in changed.items())]
    for name, value in own.items():
        words += [f"--{name.replace('_', '-')}"] + [f"{value:g}"] * (name == "white_level")
    told = words[0] if words[0].startswith("#") else shlex.join(words)
    return {"python": "\n".join(lines) + "\n", "command": told}
