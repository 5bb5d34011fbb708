"""Recipes: what an inspection line loads per product to turn an image into the weights of T rounds.

On disk a recipe is a directory with `recipe.json` and, where a network chooses the weights, `actor.onnx`. The file carries
the SHA-256 of its own content and of the network, so that a recipe that was edited or damaged is refused: make a changed
one with `Recipe(...)` and save that.
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

from . import _validate, _weights
from .actor import ActorFile
from .errors import RecipeError, SdieError
from .files import read_file, replace_file
from .filters import TABLE, FilterParams, toolkit

__all__ = ["Recipe", "default_recipe"]

FORMAT = "sdie-fast-recipe"
VERSION = 1
FILE_NAME = "recipe.json"
ACTOR_NAME = "actor.onnx"
KINDS = ("fixed", "schedule", "policy")
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
_kind = _validate.choice(*KINDS)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a product's images become T weight vectors, with the parameters of the filters. Immutable.

    Attributes
    ----------
    weights : ndarray, float32, read-only, shape (T, F), or None
        Of a "fixed" recipe. Given as `sdie_fast.enhance` takes them, for one or T rounds; kept normalised, each row
        summing to one, in the order of `filters`.
    params : FilterParams
        Parameters of the filters.
    name, notes : str
        For people.
    kind : {"fixed", "schedule", "policy"}
        "fixed": the same weights for every image. "schedule": a network sees the image once and
        gives the weights of all rounds. "policy": it sees each round's image and gives that round's
        (the paper's agent).
    actor : ActorFile or None
        The network of the last two.
    filters : tuple of str
        Names of the F filters. Given as None: those of the actor, or those that the weights are for
        (`sdie_fast.filters.toolkit`).
    passes : int
        Parts of equal length that the T rounds divide into, each of which begins with the image as it came. `Enhancer` makes
        the first; the others make more pictures for a rule to choose from (`learn.select`).

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A value that cannot be used.
    """

    weights: npt.NDArray[np.float32] | None = None
    params: FilterParams = field(default_factory=FilterParams)
    name: str = "unnamed"
    notes: str = ""
    kind: Literal["fixed", "schedule", "policy"] = "fixed"
    actor: ActorFile | None = None
    passes: int = 1
    filters: tuple[str, ...] = None  # type: ignore[assignment]  # never None once made

    def __post_init__(self) -> None:
        _kind("kind", self.kind)
        if self.kind == "fixed":
            object.__setattr__(self, "filters", toolkit(self.weights, self.filters))
            weights = _weights.shared_weights(self.weights, self.filters)
            weights.flags.writeable = False
            object.__setattr__(self, "weights", weights)
            _validate.equal("actor", self.actor, None)
        else:
            _validate.equal("weights", self.weights, None)
            actions = _validate.instance("actor", self.actor, ActorFile).actions
            if self.filters is not None:
                _validate.equal("filters", self.filters, actions.filters)
            object.__setattr__(self, "filters", actions.filters)
        _validate.instance("params", self.params, FilterParams)
        _validate.text("name", self.name)
        _validate.text("notes", self.notes)
        _validate.passes(self.passes, self.rounds)

    @property
    def rounds(self) -> int:
        """Number of rounds T."""
        if self.actor is not None:
            return self.actor.rounds
        return 0 if self.weights is None else len(self.weights)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.weights is not None:
            self.weights.flags.writeable = False  # which pickles and copies of an array forget

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.to_dict()["sha256"])

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as it is written to disk, its SHA-256 included."""
        rows = () if self.weights is None else self.weights
        content = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "name": self.name,
            "notes": self.notes,
            "rounds": self.rounds,
            "filters": list(self.filters),
            # The shortest decimal that is this float32 reads better than all digits of its double.
            "weights": [[float(str(w)) for w in row] for row in rows],
            "params": self.params.to_dict(self.filters),
            "files": {},
        }
        if self.passes > 1:  # recipes of one pass are as they always were
            content["passes"] = self.passes
        if self.actor is not None:
            content |= {"files": {ACTOR_NAME: self.actor.sha256}, "actor": self.actor.to_dict()}
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
            below = [] if file.exists() else sorted(p.parent.name for p in file.parent.glob(f"*/{FILE_NAME}"))
            if below:
                raise RecipeError(f"{file.parent}: has no {FILE_NAME}; recipes in it: {', '.join(below)}")
        data = read_file(file, _MAX_BYTES, RecipeError)
        try:
            content = json.loads(data, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique_keys)
        except UnicodeDecodeError as error:
            raise RecipeError(
                f"{file}: is not JSON: not even text; accepted: a folder that holds {FILE_NAME}, or that file"
            ) from error
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"{file}: is not JSON: {error}") from error
        try:
            return _from_content(content, file.parent)
        except SdieError as error:
            raise RecipeError(f"{file}: {error}") from error

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write recipe.json, and actor.onnx before it, into a directory, made if need be; older ones are replaced.

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
        network = b"" if self.actor is None else self.actor.verified()
        try:
            if network:
                replace_file(file.with_name(ACTOR_NAME), lambda stream: stream.write(network), durable=True)
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


def _from_content(content: Any, folder: Path) -> Recipe:
    _validate.mapping("recipe", content)
    # Format and version come first: what the other keys mean hangs on them.
    for key, expected in (("format", FORMAT), ("version", VERSION)):
        _validate.equal(key, content.get(key), expected)
    kind = _kind("kind", content.get("kind"))
    keys = _KEYS if kind == "fixed" else (*_KEYS, "actor")
    _validate.known_keys("recipe", content, (*keys, "passes"))
    for key in keys:
        if key not in content:
            raise RecipeError(f"{key}: missing")
    if content["sha256"] != _digest(content):
        raise RecipeError(
            f"sha256: received {content['sha256']!r}, which is not the content's "
            f"{_digest(content)!r}: it was damaged, or edited by hand"
        )
    filters = _validate.filters(content["filters"], TABLE)
    weights, actor = content["weights"], None
    if kind == "fixed":
        _validate.equal("files", content["files"], {})
    else:
        _validate.equal("weights", weights, [])
        files = _validate.mapping("files", content["files"])
        _validate.equal("files", list(files), [ACTOR_NAME])
        weights, actor = (
            None,
            ActorFile.from_dict(content["actor"], folder / ACTOR_NAME, files[ACTOR_NAME], content["rounds"], filters),
        )
        actor.verified()
    recipe = Recipe(
        weights=weights,
        params=FilterParams.from_dict(content["params"]),
        name=content["name"],
        notes=content["notes"],
        kind=kind,
        actor=actor,
        passes=content.get("passes", 1),
        filters=filters,
    )
    _validate.equal("rounds", content["rounds"], recipe.rounds)
    return recipe


@functools.cache
def default_recipe() -> Recipe:
    """Load the built-in recipe: fixed, five mild rounds, for photographs of metal surfaces."""
    return Recipe.load(Path(__file__).parent / "models" / "default")
