"""A training run's folder: who may write to it, checkpoints that are whole or not there, and what training left, opened again.

Opening a run, or a bare recipe, needs neither torch nor the run's data set.
"""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..actor import Actions, Actor
from ..data.shots import Split
from ..errors import RecipeError, RunError, SdieError
from ..files import replace_file
from ..filters import FILTERS, TABLE
from ..recipe import Recipe
from .baselines import action_of, constant
from .config import Config, Job
from .env import Act
from .episode import Observation
from .places import Floats
from .settings import read_toml, settings, to_toml

__all__ = [
    "CHECKPOINT", "CONFIG", "LOG", "RESULT", "SEARCHED", "SPLIT", "VERIFIER", "act_of", "episode_options", "load_checkpoint", "load_config",
    "locked", "open_run", "read_json", "runs_in", "save_checkpoint", "save_config", "strict_json", "write_bytes",
    "write_json",
]  # fmt: skip

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.toml"
SPLIT = "split.json"
RESULT = "result.json"
SEARCHED = "searched.json"
VERIFIER = "verifier.npz"
LOG = "log.jsonl"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, to this process.

    Raises
    ------
    RunError
        Another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "run.lock", "a", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{folder}: cannot be used: {error.strerror or error}") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no locks on this system
            pass
        except OSError as error:
            raise RunError(f"{folder}: another run is using it") from error
        yield


def runs_in(path: Path) -> list[Path]:
    """The runs of a folder, one for each class; the path itself where it is a run, or a recipe."""
    if not (path / CONFIG).exists():
        found = sorted(p.parent for p in path.glob(f"*/{CONFIG}"))
        if found:
            return found
    return [path]


def write_json(path: Path, content: Any) -> None:
    """Write JSON by atomic rename: see `write_bytes`."""
    write_bytes(path, (strict_json(content) + "\n").encode())


def strict_json(content: Any) -> str:
    """JSON that every reader takes: null where a number is not finite, such as the correlation of a signal that never varies."""
    return json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None), indent=1)


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file by atomic rename.

    Raises
    ------
    RunError
        It cannot be written: the older file is still there.
    """
    try:
        replace_file(path, lambda stream: stream.write(data), durable=durable)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    RunError
        It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error


def save_config(folder: Path, config: Config, data: str, segmenter: str, job: Job | None = None) -> None:
    """Write a new run's settings, or see that an older run has the same.

    Parameters
    ----------
    folder : Path
    config : Config
    data, segmenter : str
        What the data set and the segmenter call themselves.
    job : Job, optional
        Written beside, so that the file repeats the run.

    Raises
    ------
    RunError
        The folder holds a run of other settings.
    """
    path = folder / CONFIG
    if not path.exists():
        write_bytes(path, to_toml(config, job, data=data, segmenter=segmenter).encode())
        write_json(folder / "environment.json", _environment())
        return
    before, found = load_config(folder)
    old = {**before.to_dict(), **found}
    new = {**config.to_dict(), "data": data, "segmenter": segmenter}
    for name, value in new.items():
        if old[name] != value:
            raise RunError(
                f"{path}: holds a run of other settings: {name} {old[name]!r}, received {value!r}; go on with the same, "
                "or take another folder"
            )


def load_config(folder: Path) -> tuple[Config, dict[str, str]]:
    """A run's settings, and what its data set and segmenter call themselves: `data` and `segmenter`.

    Raises
    ------
    RunError
        Not a run's folder, or a damaged one.
    """
    path = folder / CONFIG
    content = read_toml(path)
    try:
        return settings(content)[0], {name: str(content["found"][name]) for name in ("data", "segmenter")}
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: not a run's settings: {error!r}") from error
    except SdieError as error:
        raise RunError(f"{path}: {error}") from error


def _environment() -> dict[str, Any]:
    """What a run was made with."""
    found = {"sdie_fast": __version__, "python": platform.python_version(), "machine": platform.platform()}
    for name in ("torch", "torchvision", "numpy", "onnxruntime", "segment-anything"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, "cpus": os.cpu_count()}


def episode_options(config: Config) -> dict[str, Any]:
    """What an `Episode` takes of a run's settings."""
    return {name: getattr(config, name) for name in ("rounds", "passes", "params", "actions", "side")}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    Raises
    ------
    RunError
        The disk is full, or the folder is gone; an older checkpoint is still there.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue(), durable=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, to the host; no code in it is run.

    Raises
    ------
    RunError
        It cannot be read.
    """
    import torch

    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever unpickling does
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())[:300]}") from error
    return found


def act_of(recipe: Recipe, actions: Actions) -> Act:
    """The way of acting of a recipe, by onnxruntime alone.

    Parameters
    ----------
    recipe : Recipe
    actions : Actions
        Of the environment.

    Raises
    ------
    RecipeError
        A filter that the environment's toolkit lacks.
    """
    if recipe.actor is None:
        weights = np.zeros((recipe.rounds, len(actions.filters)))
        for name, column in zip(recipe.filters, np.transpose(recipe.weights), strict=True):  # type: ignore[arg-type]
            if name in actions.filters:
                weights[:, actions.filters.index(name)] = column
            elif column.any():
                raise RecipeError(f"{recipe.name}: mixes {name!r}; accepted: {', '.join(actions.filters)}")
        return constant(action_of(weights, actions))
    actor = Actor(recipe.actor, recipe.kind)
    if recipe.kind == "policy":
        return lambda state: actor(state.seen, state.at)
    begun: list[Floats] = []

    def act(state: Observation) -> Floats:
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
    if (run / CONFIG).exists():
        config, about = load_config(run)
        return config, about, Split.load(run / SPLIT), Recipe.load(run / "policy")
    recipe = Recipe.load(run)
    given: dict[str, Any] = {"rounds": recipe.rounds, "passes": recipe.passes, "params": recipe.params}
    if recipe.actor is None:
        given |= {"filters": tuple(name for name in TABLE if name in (*FILTERS, *recipe.filters))}
    else:
        given |= {"side": recipe.actor.side, "actions": recipe.actor.actions}
    return Config(**given), {}, None, recipe
