"""Any model that maps a picture to a map of its foreground: ISNet, U2-Net, BiRefNet, a U-Net of one's own."""

from __future__ import annotations

import abc
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, ModelError, SdieError
from ..files import replace_file
from .geometry import Embeddings, Floats, Prompt, resized
from .onnx import Options, open_session
from .prompts import Answer, Auto
from .sam import file_hash
from .segmenter import Segmenter, geometries_of

__all__ = ["NORMALISE", "MapManifest", "MapSegmenter", "OnnxSegmenter", "load_map_manifest", "map_model_in"]

FORMAT = "sdie_fast map 1"
NORMALISE = ("none", "sigmoid", "min-max")
_BAND = 0.2  # how far above and below the threshold `stability` cuts


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
    if not all(found):
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
        Of the model file; it is checked where it is given.
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


class MapSegmenter(Segmenter):
    """A model from a picture to a map, whatever runs it.

    Parameters
    ----------
    path : path
        The model file, or a directory that holds one, with its JSON: see `MapManifest`.
    batch : int
        Pictures run at once, where the model's first axis is free.
    **settings
        Fields of `MapManifest` that stand above the JSON's.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A setting that cannot be used.
    ModelError
        A file that cannot be used, or not the one that the JSON names.

    Notes
    -----
    Such a model has no prompts: only "auto" is accepted, and it has no options. The quality of an answer is the mean
    of the map within the mask, before "min-max" has stretched it; its stability is the IoU of the masks cut 0.2 above
    and below the threshold.
    """

    usual_rule = "stability"  # how steeply the map falls is a measurement

    def __init__(self, path: Path | str, batch: int, **settings: Any) -> None:
        self._batch: int = _validate.integer(1, 2**16)("batch", batch)
        given = _validate.path("path", path)
        model = map_model_in(given)
        if model is None:
            raise ModelError(f"{given}: accepted: an .onnx file, or a directory with one that has a JSON beside it")
        if not model.is_file():
            raise ModelError(f"{model}: no such file")
        self.path = model
        self.manifest = replace(load_map_manifest(model), **{k: v for k, v in settings.items() if v is not None})
        self.hash = file_hash(model)
        if self.manifest.sha256 not in (None, self.hash):
            raise ModelError(f"{model}: its SHA-256 is {self.hash}, not {self.manifest.sha256} as its JSON says")
        self._mean, self._scale = (np.array(v, np.float32) for v in (self.manifest.mean, self.manifest.scale))

    def _settle(self, shape: Sequence[Any]) -> None:
        """Take the size from the model's input, (N, C, H, W) with names where it is free, or see that it fits."""
        fixed = [n for n in shape[2:] if isinstance(n, int)]
        if len(shape) != 4 or shape[1] not in (1, 3) or len(set(fixed)) > 1:
            raise ModelError(f"{self.path}: its input is {list(shape)}; accepted: (N, 3, S, S) or (N, 1, S, S)")
        if shape[0] not in (1, None) and isinstance(shape[0], int):
            raise ModelError(f"{self.path}: takes {shape[0]} pictures at once; accepted: 1, or any number")
        self._at_once = 1 if shape[0] == 1 else self._batch
        self._channels = int(shape[1])
        size = self.manifest.size or (fixed[0] if fixed else None)
        if size is None:
            raise InvalidArgumentError(f"size: received None; {self.path} takes pictures of any size, so name one")
        if fixed and fixed[0] != size:
            raise InvalidArgumentError(f"size: received {size}; accepted: {fixed[0]}, which {self.path} is made for")
        self.manifest = replace(self.manifest, size=size)

    @property
    def size(self) -> int:
        """Side of the model's square input in pixels."""
        assert self.manifest.size is not None
        return self.manifest.size

    @property
    def fingerprint(self) -> str:
        """The file's hash, what is made of its input and output, and what runs it."""
        told = asdict(replace(self.manifest, name="", source="", sha256=self.hash))
        return f"map {sorted(told.items())} {self._runtime}"

    @property
    @abc.abstractmethod
    def _runtime(self) -> str:
        """What runs the model, as far as answers depend on it."""

    @abc.abstractmethod
    def _run(self, batch: Floats) -> Any:
        """The model's output for inputs (n, C, size, size), float32."""

    def maps(self, images: Any, axes: str | None = None) -> list[Floats]:
        """Map pictures.

        Parameters
        ----------
        images, axes
            As for `Segmenter.encode`.

        Returns
        -------
        list of ndarray, float32, (h, w)
            Each as the model gives it, after the logistic function where that is asked for, before "min-max".
        """
        return list(self.encode(images, axes).features)

    def encode(self, images: Any, axes: str | None = None) -> Embeddings:
        """Map pictures: `features`, float32 (N, h, w), are the maps (`maps`), since there is nothing to decode."""
        views = self.take(images, axes)
        return Embeddings(np.stack(list(self._each(views))), tuple(geometries_of(views, self.size)))

    def _each(self, views: Sequence[npt.NDArray[Any]]) -> Iterator[Floats]:
        """The maps, as many at a time as the model takes."""
        for start in range(0, len(views), self._at_once):
            part = views[start : start + self._at_once]
            found = self._run(np.stack([self._input_of(view) for view in part]))
            if found.shape[:-2] not in ((len(part), 1), (len(part),)):
                raise ModelError(
                    f"{self.path}: output {self.manifest.output!r} is {found.shape} for {len(part)} picture(s); "
                    "accepted: (N, 1, h, w) or (N, h, w), one map a picture"
                )
            for plane in found.astype(np.float32).reshape(len(part), *found.shape[-2:]):
                yield 1.0 / (1.0 + np.exp(-plane)) if self.manifest.normalise == "sigmoid" else plane

    def _input_of(self, view: npt.NDArray[Any]) -> Floats:
        planes = view.transpose(2, 0, 1).astype(np.float32, order="C")
        planes *= np.float32(255.0 / _validate.white_level(None, view.dtype))
        if self._channels == 1 and len(planes) == 3:  # luma
            planes = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), planes, 1)[None]
        channels = slice(0, self._channels)
        return np.asarray(
            (resized(planes, self.size, self.size) - self._mean[channels, None, None])
            / self._scale[channels, None, None],
            np.float32,
        )

    def decode(self, embedding: Embeddings, prompt: Prompt) -> tuple[Floats, Floats]:
        """Refuse: see the notes of the class."""
        raise self._refusal(prompt)

    def _refusal(self, prompt: Any) -> InvalidArgumentError:
        received = repr(prompt) if isinstance(prompt, (str, Auto)) else f"a {type(prompt).__name__}"
        return InvalidArgumentError(
            f"prompt: received {received}; accepted: 'auto' without options, since {self.name} maps a picture to its "
            "foreground and cannot be pointed at anything"
        )

    def answer(self, images: Any, prompt: Any, options: Any = None, axes: str | None = None) -> list[Answer]:
        """Segment images: see `Segmenter.answer`."""
        for own in prompt if isinstance(prompt, Sequence) and not isinstance(prompt, str) else [prompt]:
            if own not in ("auto", Auto()):
                raise self._refusal(own)
        if options:
            raise self._refusal(f"auto with {', '.join(options)}")
        views = self.take(images, axes)
        return [self._judged(raw, *view.shape[:2]) for raw, view in zip(self._each(views), views, strict=True)]

    def _judged(self, raw: Floats, height: int, width: int) -> Answer:
        """The answer that a map gives for a picture of that size."""
        low, high = (float(raw.min()), float(raw.max())) if self.manifest.normalise == "min-max" else (0.0, 1.0)
        if high <= low:
            return Answer(np.zeros((height, width), bool))
        at_image = resized(raw, height, width)
        share = (at_image - low) / (high - low)
        mask = share > self.manifest.threshold
        if not mask.any():
            return Answer(mask)
        inner, outer = (np.count_nonzero(share > self.manifest.threshold + side) for side in (_BAND, -_BAND))
        return Answer(mask, float(at_image[mask].mean()), inner / outer)


class OnnxSegmenter(MapSegmenter):
    """A model from a picture to a map, by ONNX Runtime.

    Parameters
    ----------
    path : path
        The model file, or a directory that holds one, with its JSON: see `MapManifest`.
    size, mean, scale, output, normalise, threshold : optional
        What stands above the JSON beside the model: see `MapManifest`.
    options : Options, optional
        Provider, threads, cache.
    batch : int
        Pictures run at once, where the model's first axis is free.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A setting that cannot be used.
    ModelError
        A file or a runtime that cannot be used.

    Notes
    -----
    Prompts and quality are as `MapSegmenter` tells. Pickles and copies are made by these arguments.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        size: int | None = None,
        mean: Any = None,
        scale: Any = None,
        output: str | None = None,
        normalise: str | None = None,
        threshold: float | None = None,
        options: Options | None = None,
        batch: int = 4,
    ) -> None:
        settings = {
            "size": size, "mean": mean, "scale": scale, "output": output, "normalise": normalise, "threshold": threshold,
        }  # fmt: skip
        super().__init__(path, batch, **settings)
        self._made_by = functools.partial(type(self), self.path.absolute(), options=options, batch=batch, **settings)
        self._model = open_session(self.path, options or Options(), key=self.hash, precision="fp32")
        session = self._model.session
        inputs, outputs = session.get_inputs(), [o.name for o in session.get_outputs()]
        if len(inputs) != 1:
            raise ModelError(f"{self.path}: has {len(inputs)} inputs; accepted: one, the picture")
        self._settle(inputs[0].shape)
        chosen = self.manifest.output or outputs[0]
        if chosen not in outputs:
            raise InvalidArgumentError(f"output: received {chosen!r}; {self.path} has {', '.join(outputs)}")
        self.manifest = replace(self.manifest, output=chosen)
        self._input, self._dtype = inputs[0].name, np.float16 if "16" in inputs[0].type else np.float32

    def __reduce__(self) -> Any:
        return self._made_by, ()

    @property
    def name(self) -> str:
        """The model's."""
        return self.manifest.name

    @property
    def _runtime(self) -> str:
        return "onnxruntime"

    @property
    def providers(self) -> tuple[str]:
        """What the model really runs on."""
        return (self._model.provider,)

    def _run(self, batch: Floats) -> Any:
        given = batch.astype(self._dtype, copy=False)
        return self._model.session.run([self.manifest.output], {self._input: given})[0]
