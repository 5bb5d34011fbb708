"""Recipes: what an inspection line loads per product to turn an image into the weights of T rounds.

On disk a recipe is a directory with `recipe.json`. The file carries the SHA-256 of its own content,
so that a recipe that was edited or damaged is refused: make a changed one with `Recipe(...)` and
save that.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _validate
from ._files import replace_file
from ._params import FILTERS, FilterParams
from .errors import RecipeError, SdieError

FORMAT = "sdie-fast-recipe"
VERSION = 1
FILE_NAME = "recipe.json"
_KEYS = (
    "format",
    "version",
    "kind",
    "name",
    "notes",
    "rounds",
    "filters",
    "weights",
    "params",
    "files",
    "sha256",
)
_MAX_BYTES = 2**20
_kind = _validate.choice("fixed")


@dataclass(frozen=True, eq=False)
class Recipe:
    """T weight vectors for a product, with the parameters of the filters. Immutable.

    Attributes
    ----------
    weights : ndarray, float32, read-only, shape (T, 6)
        Given as non-negative numbers, (6,) or (T, 6), in the order of `sdie_fast.FILTERS`; kept
        normalised, each row summing to one.
    params : FilterParams
        Parameters of the filters.
    name, notes : str
        For people.
    kind : {"fixed"}
        How the weights are obtained: "fixed" ones are the same for every image.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A value that cannot be used.
    """

    weights: npt.NDArray[np.float32]
    params: FilterParams = field(default_factory=FilterParams)
    name: str = "unnamed"
    notes: str = ""
    kind: Literal["fixed"] = "fixed"

    def __post_init__(self) -> None:
        weights = _validate.shared_weights(self.weights)
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        _validate.instance("params", self.params, FilterParams)
        _validate.text("name", self.name)
        _validate.text("notes", self.notes)
        _kind("kind", self.kind)

    @property
    def rounds(self) -> int:
        """Number of rounds T."""
        return len(self.weights)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.to_dict()["sha256"])

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as it is written to disk, its SHA-256 included."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "name": self.name,
            "notes": self.notes,
            "rounds": self.rounds,
            "filters": list(FILTERS),
            # The shortest decimal that is this float32 reads better than all digits of its double.
            "weights": [[float(str(w)) for w in row] for row in self.weights],
            "params": self.params.to_dict(),
            "files": {},
        }
        return {**content, "sha256": _digest(content)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe from a directory that holds recipe.json, or from that file.

        Raises
        ------
        RecipeError
            The file is missing, damaged, edited, of another version or kind, or holds a value that
            cannot be used. The message names the file and the field.
        """
        file = _validate.path("path", path)
        if file.is_dir():
            file = file / FILE_NAME
        try:
            with file.open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise RecipeError(f"{file}: cannot be read: {error.strerror or error}") from error
        if len(data) > _MAX_BYTES:
            raise RecipeError(f"{file}: holds more than {_MAX_BYTES} bytes; a recipe never does")
        try:
            content = json.loads(
                data,
                parse_float=_finite,
                parse_constant=_finite,
                object_pairs_hook=_unique_keys,
            )
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"{file}: is not JSON: {error}") from error
        try:
            return _from_content(content)
        except SdieError as error:
            raise RecipeError(f"{file}: {error}") from error

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write recipe.json into a directory, made if need be; an older one is replaced at once.

        Returns
        -------
        Path
            Of the file written.

        Raises
        ------
        RecipeError
            It cannot be written; an older file is then still there, unchanged.
        """
        file = _validate.path("directory", directory) / FILE_NAME
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        try:
            replace_file(file, lambda stream: stream.write(text.encode()), durable=True)
        except OSError as error:
            raise RecipeError(f"{file}: cannot be written: {error.strerror or error}") from error
        return file


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of every key but "sha256"."""
    hashed = {key: value for key, value in content.items() if key != "sha256"}
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"received {digits}; accepted: finite numbers")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("received a key twice in one object")
    return content


def _from_content(content: Any) -> Recipe:
    _validate.mapping("recipe", content)
    # Format and version come first: what the other keys mean hangs on them.
    for key, expected in (("format", FORMAT), ("version", VERSION)):
        _validate.equal(key, content.get(key), expected)
    _kind("kind", content.get("kind"))
    _validate.known_keys("recipe", content, _KEYS)
    for key in _KEYS:
        if key not in content:
            raise RecipeError(f"{key}: missing")
    if content["sha256"] != _digest(content):
        raise RecipeError(
            f"sha256: received {content['sha256']!r}, which is not the content's "
            f"{_digest(content)!r}: it was damaged, or edited by hand"
        )
    _validate.equal("filters", content["filters"], list(FILTERS))
    _validate.equal("files", content["files"], {})
    recipe = Recipe(
        weights=content["weights"],
        params=FilterParams.from_dict(content["params"]),
        name=content["name"],
        notes=content["notes"],
    )
    _validate.equal("rounds", content["rounds"], recipe.rounds)
    return recipe


@functools.cache
def default_recipe() -> Recipe:
    """Load the recipe that ships: fixed, five mild rounds, for photographs of metal surfaces."""
    return Recipe.load(Path(__file__).parent / "models" / "default")
