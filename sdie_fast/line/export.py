"""Fixed recipes as the C library reads them: a text of a few lines, without JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, RecipeError
from ..files import replace_file
from ..filters import FilterParams
from ..recipe import Recipe

__all__ = ["MAGIC", "MOST_ROUNDS", "export", "fixed_rows", "parameters"]

MAGIC = b"sdie-fast-line "
MOST_ROUNDS = 32
_MOST_NAME = 200


def fixed_rows(recipe: Recipe, what: str) -> npt.NDArray[np.float32]:
    """Weights of a recipe's first pass, (T, F)."""
    if recipe.weights is None:
        raise InvalidArgumentError(
            f"recipe: received {recipe.name!r} of kind {recipe.kind!r}, whose network chooses the weights for each "
            f"image; accepted: kind 'fixed' ({what})"
        )
    rows = recipe.weights[: recipe.rounds // recipe.passes]
    if len(rows) > MOST_ROUNDS:
        raise InvalidArgumentError(f"recipe: received {len(rows)} rounds; accepted: 1 to {MOST_ROUNDS} on the line")
    return rows


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)


def parameters(params: FilterParams, names: Sequence[str]) -> dict[str, str]:
    """Parameters of those filters, each as `sdie_config_set` takes it."""
    return {name: _text(value) for name, value in params.resolved(names).items()}


def export(recipe: Recipe | str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write a fixed recipe as the small text file that `sdie_config_load` of the C library reads.

    Of a recipe of several passes the first is written, which is what `Enhancer` makes.

    Returns
    -------
    Path
        Of the file, which appears whole or not at all.

    Raises
    ------
    InvalidArgumentError
        A recipe with a network, or of more than 32 rounds.
    RecipeError
        The recipe cannot be read, or the file not be written.
    """
    source = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    rows = fixed_rows(source, "on a line run the network outside and hand its weights to sdie_plan_set_weights")
    used = [name for name, most in zip(source.filters, rows.max(axis=0), strict=True) if most > 0]
    name = "".join(c if " " <= c <= "~" else "?" for c in source.name[:_MOST_NAME])
    lines = ["sdie-fast-line 1", f"name {name}", f"recipe {source.to_dict()['sha256']}"]
    for row in rows:
        mix = (f"{name}={w!s}" for name, w in zip(source.filters, row, strict=True) if w > 0)
        lines.append(" ".join(("round", *mix)))  # the shortest decimal that is this float32
    lines += [f"set {name} {value}" for name, value in parameters(source.params, used).items()]
    content = "".join(line + "\n" for line in lines).encode("ascii")
    content += f"check {_fnv1a(content):016x}\n".encode("ascii")
    file = _validate.path("path", path)
    try:
        replace_file(file, lambda stream: stream.write(content), durable=True)
    except OSError as error:
        raise RecipeError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file


def _fnv1a(data: bytes) -> int:
    """FNV-1a of 64 bits: it tells a damaged file, not a forged one."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value
