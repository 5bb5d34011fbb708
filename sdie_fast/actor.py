"""Actors: small networks that look at an image and say how the filters are mixed.

What a trained agent leaves behind is an ONNX file, run here without torch. It sees an observation, a small grey version
of the image, and answers with actions in [-1, 1], which this module turns into weights and filter parameters. Training
uses the same functions, so that there is one meaning of an action.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _validate
from ._resize import shrink
from .errors import InvalidArgumentError, RecipeError
from .files import read_file
from .filters import FILTERS, PARAMETERS, TABLE, FilterParams

__all__ = ["CHOOSABLE", "Actions", "Actor", "ActorFile", "Choice", "observe", "progress", "weights_of"]

Floats = npt.NDArray[np.float32]

WEIGHT_FLOOR = 1e-3  # least sum of the six numbers (a + 1) before they are normalised
MAX_BYTES = 2**28
_side = _validate.integer(8, 1024)
_rounds = _validate.integer(1, 64)
# Parameters an actor may choose: numbers for which every value of a range makes sense.
CHOOSABLE = tuple(name for name, parameter in PARAMETERS.items() if parameter.choosable)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A filter parameter that an actor chooses.

    Attributes
    ----------
    name : str
        One of `CHOOSABLE`.
    low, high : float
        Its range: what actions -1 and 1 mean.
    log : bool
        Whether equal steps of the action multiply the value by equal factors.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Another name, or a range that `FilterParams` does not accept.
    """

    name: str
    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if self.name not in CHOOSABLE:
            raise InvalidArgumentError(f"name: received {self.name!r}; accepted: {', '.join(CHOOSABLE)}")
        for value in (self.low, self.high):
            FilterParams.from_dict({self.name: value})
        _validate.flag("log", self.log)
        if not self.low < self.high or (self.log and self.low <= 0):
            raise InvalidArgumentError(
                f"{self.name}: received {self.low} to {self.high}; accepted: low < high" + ", low > 0" * self.log
            )

    def value(self, action: float) -> float:
        """Value of an action in [-1, 1]."""
        share = (min(max(float(action), -1.0), 1.0) + 1.0) / 2.0
        if self.log:
            value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        else:
            value = self.low + share * (self.high - self.low)
        return min(max(value, self.low), self.high)  # rounding aside


def weights_of(actions: npt.ArrayLike) -> Floats:
    """Weights of actions: (a + 1) / sum(a + 1) (Liu et al. 2024, eq. 5, actions shifted by one).

    Parameters
    ----------
    actions : array_like, (..., F)
        In [-1, 1]; what lies outside counts as the nearer end.

    Returns
    -------
    ndarray, float32, (..., F)
        Non-negative, each vector summing to one: where (a + 1) sums to less than `WEIGHT_FLOOR`, the
        rest is spread evenly, so that -1 throughout is the uniform mixture.
    """
    raw = np.clip(np.asarray(actions, np.float64), -1.0, 1.0) + 1.0
    missing = np.maximum(WEIGHT_FLOOR - raw.sum(-1, keepdims=True), 0.0)
    raw = raw + missing / raw.shape[-1]
    return np.asarray(raw / raw.sum(-1, keepdims=True), np.float32)


@dataclasses.dataclass(frozen=True)
class Actions:
    """What the numbers of an action mean: a weight for each filter, then one number for each chosen parameter."""

    parameters: tuple[Choice, ...] = ()
    filters: tuple[str, ...] = FILTERS

    def __post_init__(self) -> None:
        _validate.filters(self.filters, TABLE)
        names = [p.name for p in self.parameters]
        if len(set(names)) < len(names):
            raise InvalidArgumentError(f"parameters: received {names}; each is accepted once")
        for name in names:
            if name.split("_")[0] not in self.filters:
                raise InvalidArgumentError(
                    f"parameters: received {name!r}; accepted: those of {', '.join(self.filters)}"
                )

    @property
    def size(self) -> int:
        """Numbers in an action."""
        return len(self.filters) + len(self.parameters)

    def weights(self, actions: npt.ArrayLike) -> Floats:
        """Weights (..., F), in the order of `filters`, of actions (..., size)."""
        return weights_of(np.asarray(actions)[..., : len(self.filters)])

    def params(self, action: npt.ArrayLike, base: FilterParams) -> FilterParams:
        """`base` with what one action (size,) chooses."""
        if not self.parameters:
            return base
        chosen = np.asarray(action)[len(self.filters) :]
        values: dict[str, Any] = {p.name: p.value(a) for p, a in zip(self.parameters, chosen, strict=True)}
        return dataclasses.replace(base, **values)

    def to_list(self) -> list[dict[str, Any]]:
        """The parameters as JSON takes them."""
        return [dataclasses.asdict(p) for p in self.parameters]

    @classmethod
    def from_list(cls, values: Any, filters: tuple[str, ...] = FILTERS) -> Actions:
        """Read what `to_list` gave.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            Not such a list.
        """
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise InvalidArgumentError(f"parameters: received {values!r}; accepted: a list")
        fields = [f.name for f in dataclasses.fields(Choice)]
        for value in values:
            _validate.mapping("parameters", value)
            _validate.known_keys("parameters", value, fields)
            if len(value) < len(fields):
                raise InvalidArgumentError(f"parameters: received {value!r}; a key is missing")
        return cls(tuple(Choice(**value) for value in values), filters)


def observe(images: npt.NDArray[Any], side: int) -> npt.NDArray[np.uint8]:
    """Reduce grey images to what an agent sees.

    Parameters
    ----------
    images : ndarray, float32 in [0, 1], (N, H, W)
    side : int
        Pixels a side of the result, whatever the image's shape.

    Returns
    -------
    ndarray, uint8, (N, side, side)
        Means of areas.
    """
    levels = np.rint(images * np.float32(255.0)).astype(np.uint8)
    return np.asarray(shrink(levels, side))


def progress(rounds: int, at: int, count: int) -> Floats:
    """The round's number as networks take it: one-hot, (count, rounds)."""
    hot = np.zeros((count, rounds), np.float32)
    hot[:, at] = 1.0
    return hot


@dataclasses.dataclass(frozen=True)
class ActorFile:
    """An ONNX actor and what must be known to use it.

    Attributes
    ----------
    path : Path
        The file. Inputs: "observation", uint8 (N, side, side), and, of a policy, "round", float32
        (N, rounds), one-hot. Output: "action", float32, (N, size) of a policy, (N, rounds, size)
        of a schedule.
    sha256 : str
        Of the file.
    rounds : int
        T, 1 to 64.
    side : int
        Of an observation in pixels, 8 to 1024.
    actions : Actions
        What its answers mean.
    content : bytes, optional
        The file's, where they are at hand; else they are read from the path. Pickles have them, so that an actor works
        where there is no such path.
    """

    path: Path
    sha256: str
    rounds: int
    side: int
    actions: Actions = Actions()
    content: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _validate.path("path", self.path))
        _validate.text("sha256", self.sha256)
        _rounds("rounds", self.rounds)
        _side("side", self.side)
        _validate.instance("actions", self.actions, Actions)

    @classmethod
    def of(cls, path: Path, rounds: int, side: int, actions: Actions) -> ActorFile:
        """Describe a file that was just made."""
        return cls(path, hashlib.sha256(read_file(path, MAX_BYTES, RecipeError)).hexdigest(), rounds, side, actions)

    def to_dict(self) -> dict[str, Any]:
        """What recipe.json holds beside the hash."""
        return {"side": self.side, "parameters": self.actions.to_list()}

    @classmethod
    def from_dict(cls, values: Any, path: Path, sha256: str, rounds: int, filters: tuple[str, ...]) -> ActorFile:
        """Read what `to_dict` gave.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            A value that cannot be used.
        """
        found: Mapping[Any, Any] = _validate.mapping("actor", values)
        _validate.known_keys("actor", found, ("side", "parameters"))
        side: Any = found.get("side")
        return cls(path, sha256, rounds, side, Actions.from_list(found.get("parameters"), filters))

    def verified(self) -> bytes:
        """The file's content.

        Raises
        ------
        RecipeError
            It cannot be read, or is not the file that was described.
        """
        data = read_file(self.path, MAX_BYTES, RecipeError) if self.content is None else self.content
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise RecipeError(f"{self.path}: its SHA-256 is {found}, not {self.sha256}: it was damaged, or exchanged")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "content": self.verified()}


class Actor:
    """An actor made ready to run.

    Parameters
    ----------
    file : ActorFile
        The network.
    kind : {"policy", "schedule"}
        What it answers: one round's action, or those of all rounds.
    threads : int, optional
        Threads to use at most.

    Raises
    ------
    RecipeError
        The file is damaged, not ONNX, or made for other rounds, observations or actions.
    MissingPackageError
        onnxruntime is missing.
    """

    def __init__(self, file: ActorFile, kind: str, threads: int | None = None) -> None:
        from .segment.onnx import Options, open_model

        content = file.verified()
        self.file, self.kind, self._threads = dataclasses.replace(file, content=content), kind, threads
        try:
            # From memory: no path leads to a second file.
            self._session = open_model(content, Options("cpu", threads))
            received = {put.name: put.shape[1:] for put in (*self._session.get_inputs(), *self._session.get_outputs())}
        except RecipeError:
            raise
        except ValueError as error:
            raise RecipeError(f"{file.path}: cannot be run: {error}") from error
        action = [file.actions.size]
        expected = {"observation": [file.side, file.side]}
        if kind == "policy":
            expected |= {"round": [file.rounds], "action": action}
        else:
            expected |= {"action": [file.rounds, *action]}
        if received != expected:
            raise RecipeError(f"{file.path}: has inputs and outputs {received}; this {kind} needs {expected}")

    def __reduce__(self) -> Any:
        return type(self), (self.file, self.kind, self._threads)  # sessions are opened again

    def __call__(self, observations: npt.NDArray[np.uint8], at: int = 0) -> Floats:
        """Answer.

        Parameters
        ----------
        observations : ndarray, uint8, (N, side, side)
            See `observe`.
        at : int
            The round, from 0; a schedule answers for all.

        Returns
        -------
        ndarray, float32
            Actions in [-1, 1]: (N, size) of a policy, (N, T, size) of a schedule.
        """
        given: dict[str, Any] = {"observation": observations}
        if self.kind == "policy":
            given["round"] = progress(self.file.rounds, at, len(observations))
        return np.asarray(self._session.run(["action"], given)[0], np.float32)
