"""What a map model's file does not say of itself: the JSON beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .. import _validate
from ..errors import InvalidArgumentError, ModelError, SdieError
from ..files import replace_file

__all__ = ["NORMALISE", "MapManifest", "load_map_manifest", "map_model_in"]

FORMAT = "sdie_fast map 1"
NORMALISE = ("none", "sigmoid", "min-max")


def _triple(name: str, value: Any) -> tuple[float, float, float]:
    """One number for each of the three channels, or one for all."""
    try:
        found = np.broadcast_to(np.asarray(value, np.float64), (3,))
    except (TypeError, ValueError):
        found = np.full(3, np.nan)
    if isinstance(value, (str, bytes)) or not np.isfinite(found).all():
        raise InvalidArgumentError(f"{name}: received {value!r}; accepted: a number, or one for each of 3 channels")
    return float(found[0]), float(found[1]), float(found[2])


def _scale(name: str, value: Any) -> tuple[float, float, float]:
    found = _triple(name, value)
    if not np.asarray(found, np.float32).all():
        raise InvalidArgumentError(f"{name}: received {value!r}; accepted: numbers other than 0")
    return found


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else _validate.text(name, value)


_RULES: dict[str, _validate.Rule] = {
    "name": _validate.text,
    "size": _validate.integer(16, 16384, optional=True),
    "mean": _triple,
    "scale": _scale,
    "output": _optional_text,
    "normalise": _validate.choice(*NORMALISE),
    "threshold": _validate.real(0.0, 1.0),
    "sha256": _optional_text,
    "source": _validate.text,
}


@dataclass(frozen=True)
class MapManifest:
    """What a model file does not say of itself: the JSON beside it.

    Attributes
    ----------
    name : str
        Of the model, for reports.
    size : int or None
        Side in pixels that pictures are resized to, bilinearly and without keeping their shape; None takes what the
        model's input says.
    mean, scale : tuple of float
        Of the three channels: the input is (intensity - mean) / scale, with intensities of 0 to 255.
    output : str or None
        The output that is the map; None is the first.
    normalise : {"none", "sigmoid", "min-max"}
        What makes shares of the map: nothing, the logistic function, or stretching each map from its minimum to its
        maximum.
    threshold : float
        Foreground is what lies above, 0 to 1.
    sha256 : str or None
        Of the model file, not of weights beside it (X.onnx.data); it is checked where it is given.
    source : str
        Where the model comes from, and its licence.
    """

    name: str = "map model"
    size: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (255.0, 255.0, 255.0)
    output: str | None = None
    normalise: str = "none"
    threshold: float = 0.5
    sha256: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))

    def save(self, model: Path) -> None:
        """Write it beside a model file, by atomic rename."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        replace_file(model.with_suffix(".json"), lambda file: file.write(text.encode()))


def load_map_manifest(model: Path) -> MapManifest:
    """Read the JSON beside a model file, the one of its name; without one, the defaults.

    Raises
    ------
    ModelError
        The JSON cannot be read, or is no valid manifest.
    """
    path = model.with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return MapManifest(name=model.stem)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ModelError(f"{path}: not a map model's JSON; accepted: an object whose format is {FORMAT!r}")
    try:
        _validate.known_keys("key", content, [f.name for f in fields(MapManifest)])
        return MapManifest(**{"name": model.stem, **content})
    except SdieError as error:
        raise ModelError(f"{path}: {error}") from error


def map_model_in(path: Path) -> Path | None:
    """The map model that a path means: an .onnx file, or the only one of a directory that has a JSON beside it."""
    if path.is_dir():
        found = [model for model in sorted(path.glob("*.onnx")) if model.with_suffix(".json").is_file()]
        return found[0] if len(found) == 1 else None
    return path if path.suffix == ".onnx" else None
