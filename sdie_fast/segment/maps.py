"""Any model that maps a picture to a map of its foreground: ISNet, U2-Net, BiRefNet, a U-Net of one's own."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import InvalidArgumentError, ModelError
from .geometry import Embeddings, Floats, Prompt, resized
from .map_manifest import load_map_manifest, map_model_in
from .onnx import Options, open_session
from .prompts import Answer, Auto, meant
from .sam import file_hash
from .segmenter import Segmenter, geometries_of

__all__ = ["MapSegmenter", "OnnxSegmenter"]

_REALS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_SETTINGS = ("size", "mean", "scale", "output", "normalise", "threshold")
_BAND = 0.2  # how far above and below the threshold `stability` cuts


class MapSegmenter(Segmenter):
    """A model from a picture to a map, whatever runs it.

    Parameters
    ----------
    path : path
        The model file, or a directory that holds one, with its JSON: see `MapManifest`.
    batch : int
        Pictures run at once, where the model's first axis is free.
    **settings
        size, mean, scale, output, normalise and threshold, above the JSON's.

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
    and below the threshold. Both are 0 where the mask is empty. Pickles and copies are made by the arguments: the file
    is read again where they are opened.
    """

    takes_prompts = False
    _made_by: functools.partial[Any]

    def __init__(self, path: Path | str, batch: int, **settings: Any) -> None:
        self._batch: int = _validate.integer(1, 2**16)("batch", batch)
        _validate.known_keys("settings", settings, _SETTINGS)
        given = _validate.path("path", path)
        model = map_model_in(given)
        if model is None:
            raise ModelError(f"{given}: accepted: an .onnx file, or a directory with one that has a JSON beside it")
        if not model.is_file():
            raise ModelError(f"{model}: no such file")
        self.path = model
        self.manifest = replace(load_map_manifest(model), **{k: v for k, v in settings.items() if v is not None})
        self.hash = file_hash(model)
        beside = model.with_name(model.name + ".data")  # where exporters put large weights
        self._weights = f"{file_hash(beside)} " if beside.is_file() else ""
        if self.manifest.sha256 not in (None, self.hash):
            raise ModelError(f"{model}: its SHA-256 is {self.hash}, not {self.manifest.sha256} as its JSON says")
        self._mean, self._scale = (np.array(v, np.float32) for v in (self.manifest.mean, self.manifest.scale))

    def __reduce__(self) -> Any:
        return self._made_by, ()

    def _settle(self, inputs: Sequence[tuple[Sequence[Any], bool]], outputs: Sequence[str]) -> None:
        """Take from the model what the manifest leaves open, and see that they fit.

        Inputs are (N, C, H, W), of something else than a positive number where it is free, and whether they are real
        numbers.
        """
        if len(inputs) != 1:
            raise ModelError(f"{self.path}: has {len(inputs)} inputs; accepted: one, the picture")
        given, real = inputs[0]
        shape = [n if isinstance(n, int) and n > 0 else None for n in given]
        fixed = [n for n in shape[2:] if n]
        if len(shape) != 4 or shape[1] not in (1, 3) or len(set(fixed)) > 1 or not real:
            kind = "" if real else " and takes integers"
            raise ModelError(
                f"{self.path}: its input is {list(given)}{kind}; accepted: (N, 3, S, S) or (N, 1, S, S), real numbers"
            )
        if shape[0] not in (1, None):
            raise ModelError(f"{self.path}: takes {shape[0]} pictures at once; accepted: 1, or any number")
        self._at_once = 1 if shape[0] == 1 else self._batch
        self._channels = int(shape[1] or 0)
        size = self.manifest.size or (fixed[0] if fixed else None)
        if size is None:
            raise InvalidArgumentError(f"size: received None; {self.path} takes pictures of any size, so name one")
        if fixed and fixed[0] != size:
            raise InvalidArgumentError(f"size: received {size}; accepted: {fixed[0]}, which {self.path} is made for")
        chosen = self.manifest.output or outputs[0]
        if chosen not in outputs:
            raise InvalidArgumentError(f"output: received {chosen!r}; {self.path} has {', '.join(outputs)}")
        self.manifest = replace(self.manifest, size=size, output=chosen)

    @property
    def size(self) -> int:
        """Side of the model's square input in pixels."""
        assert self.manifest.size is not None
        return self.manifest.size

    @property
    def fingerprint(self) -> str:
        """The file's hash, what is made of its input and output, and what runs it."""
        told = asdict(replace(self.manifest, name="", source="", sha256=self.hash))
        return f"map {sorted(told.items())} {self._weights}{self._runtime}"

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
            given = np.stack([self._input_of(view) for view in part])
            try:
                found = self._run(given)
            except Exception as error:  # each runtime raises classes of its own
                told = " ".join(str(error).split())[:300]
                raise ModelError(f"{self.path}: failed on an input of shape {given.shape}: {told}") from error
            if found.shape[:-2] not in ((len(part), 1), (len(part),)):
                raise ModelError(
                    f"{self.path}: output {self.manifest.output!r} is {found.shape} for {len(part)} picture(s); "
                    "accepted: (N, 1, h, w) or (N, h, w), one map a picture"
                )
            if not np.isfinite(found).all():
                raise ModelError(f"{self.path}: output {self.manifest.output!r} has NaN or infinite values")
            for plane in found.astype(np.float32).reshape(len(part), *found.shape[-2:]):
                yield 0.5 + 0.5 * np.tanh(0.5 * plane) if self.manifest.normalise == "sigmoid" else plane

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
        received = f"a {type(prompt).__name__}"
        if isinstance(prompt, Auto):
            usual = asdict(Auto())
            other = [f"{k}={v!r}" for k, v in asdict(prompt).items() if v != usual[k]]
            received = f"'auto' with {', '.join(other)}"
        return InvalidArgumentError(
            f"prompt: received {received}; accepted: 'auto' without options, since {self.name} maps a picture to its "
            "foreground and cannot be pointed at anything"
        )

    def answer(self, images: Any, prompt: Any, options: Any = None, axes: str | None = None) -> list[Answer]:
        """Segment images: see `Segmenter.answer`."""
        views = self.take(images, axes)
        for own in meant(prompt, options or {}, len(views)):
            if own != Auto():
                raise self._refusal(own)
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
    Prompts, quality and pickles are as `MapSegmenter` tells.
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
        settings = dict(zip(_SETTINGS, (size, mean, scale, output, normalise, threshold), strict=True))
        super().__init__(path, batch, **settings)
        self._made_by = functools.partial(type(self), self.path.absolute(), options=options, batch=batch, **settings)
        self._model = open_session(self.path, options or Options(), key=self.hash, precision="fp32")
        session = self._model.session
        inputs = session.get_inputs()
        self._settle([(i.shape, i.type in _REALS) for i in inputs], [o.name for o in session.get_outputs()])
        self._input, self._dtype = inputs[0].name, _REALS[inputs[0].type]

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
