"""Encoders and decoders of SAM and of what followed it, called by the names that their exporters give.

What differs from one exporter to the next stands in `CONVENTIONS`, a line for each. What a graph's shapes tell is
read from them: whether several images or prompts fit in one call, how many points, which integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, ModelError
from .geometry import Floats, Geometry, Stretched, namespace
from .onnx import Held, Running

__all__ = ["CONVENTIONS", "OURS", "Convention", "Graphs", "Maps"]

OURS = "sdie_fast"
_TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


@dataclass(frozen=True)
class Convention:
    """What an exporter calls inputs and outputs, and how it wants them; an empty name means there is none.

    Attributes
    ----------
    image : str
        The encoder's input: (N, 3, size, size) normalised, or (H, W, 3) of 0 to 255, where the graph does the rest.
    kept : dict of str to int
        The encoder's outputs that the decoder takes by the same names, the embedding first, and their axis of images.
    points, labels : str
        (K, P, 2) in pixels of the model's input, and (K, P).
    masks, has_masks : str
        Logits (K, 1, side, side) of an earlier decoding, and whether they count.
    original : str
        Height and width of the picture that masks are drawn for.
    logits, quality : str
        (K, M, side, side) and (K, M), of 1, 3 or 4 masks.
    mean, std : tuple of float
        Of the three channels, for intensities of 0 to 255, unless the manifest has others.
    stretched : bool
        Whether the picture fills the square, whatever its shape.
    padded : bool
        Whether a prompt without a box needs a point labelled -1; some graphs add it themselves.
    queries : bool
        Whether prompts lie on the second axis, behind one of images, points are in pixels of `original`'s picture, and
        none may be labelled 0.
    """

    image: str = "input_image"
    kept: dict[str, int] = field(default_factory=lambda: {"image_embeddings": 0})
    points: str = "point_coords"
    labels: str = "point_labels"
    masks: str = "mask_input"
    has_masks: str = "has_mask_input"
    original: str = "orig_im_size"
    logits: str = "low_res_masks"
    quality: str = "iou_predictions"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    stretched: bool = False
    padded: bool = True
    queries: bool = False


CONVENTIONS = {
    OURS: Convention(
        "images", {"embedding": 0}, "points", "labels", "masks", "has_masks", "", "logits", "quality", (), ()
    ),
    "samexporter": Convention(),
    "sam-hq": Convention(kept={"image_embeddings": 0, "interm_embeddings": 1}),
    "sam2": Convention(
        image="image",
        kept={"image_embed": 0, "high_res_feats_0": 0, "high_res_feats_1": 0},
        original="",
        logits="masks",
        stretched=True,
        padded=False,
    ),
    "efficientsam": Convention(
        image="batched_images",
        points="batched_point_coords",
        labels="batched_point_labels",
        masks="",
        has_masks="",
        logits="output_masks",
        mean=(0.0,) * 3,
        std=(255.0,) * 3,
        stretched=True,
        padded=False,
        queries=True,
    ),
}


@dataclass(frozen=True)
class Maps:
    """Several maps an image, of which the first is the embedding: what `Embeddings.features` is then.

    Attributes
    ----------
    maps : tuple of ndarray or Held
        (N, ...) each, float32.
    """

    maps: tuple[Any, ...]

    def __getitem__(self, at: Sequence[int]) -> Maps:
        return Maps(tuple(m[at] for m in self.maps))

    def numpy(self) -> Floats:
        """Give the embedding (N, C, h, w) as an array, copied where it is on a GPU."""
        first: Any = self.maps[0]
        return first if isinstance(first, np.ndarray) else np.asarray(first.numpy(), np.float32)


class Graphs:
    """An encoder and a decoder whose inputs and outputs are those of a convention.

    Parameters
    ----------
    name : str
        A key of `CONVENTIONS`.
    encoder, decoder : (Path, Running)
        The files, for messages, and the sessions.
    size, channels, cells : int
        Side of the input; channels and side of the embedding.

    Raises
    ------
    ModelError
        Other names, shapes or types.
    """

    def __init__(
        self,
        name: str,
        encoder: tuple[Path, Running],
        decoder: tuple[Path, Running],
        size: int,
        channels: int,
        cells: int,
    ) -> None:
        self.convention = c = CONVENTIONS[name]
        self._encoder, self._decoder = encoder, decoder
        self.size, self.side = size, 4 * cells
        of_image = ((1, 3, size, size), (None, None, 3))
        image = _fitting(name, *encoder, "inputs", {c.image: of_image})[c.image]
        self.whole = len(image.shape) == 3  # it takes a picture as it is, and does the rest
        self.together = not self.whole and image.shape[0] != 1
        _fitting(name, *encoder, "outputs", dict.fromkeys(c.kept, ()), more=True)
        ahead = (1, 1) if c.queries else (1,)
        wanted: dict[str, Any] = dict.fromkeys(c.kept, ()) | {
            next(iter(c.kept)): ((1, channels, cells, cells),),
            c.points: ((*ahead, None, 2),),
            c.labels: ((*ahead, None),),
            c.masks: ((1, 1, self.side, self.side),),
            c.has_masks: (),
            c.original: ((2,),),
        }
        wanted.pop("", None)
        self._inputs = _fitting(name, *decoder, "inputs", wanted)
        _fitting(name, *decoder, "outputs", {c.logits: (), c.quality: ()}, more=True)
        of_prompts = [self._inputs[key].shape[len(ahead) - 1] for key in (c.points, c.labels, c.masks) if key]
        self._alone = 1 in of_prompts
        most = self._inputs[c.labels].shape[-1]
        self._most = most if isinstance(most, int) else None

    def geometry(self, view: Any) -> Geometry:
        """How an image, a view (H, W, C), lies in the encoder's input."""
        kind = Stretched if self.convention.stretched else Geometry
        return kind(int(view.shape[0]), int(view.shape[1]), self.size)

    def input_of(self, batch: Any, geometry: Geometry) -> Any:
        """The encoder's input of pictures (N, 3, size, size), array or tensor; the geometry of the first."""
        if not self.whole:
            return batch
        high, wide = geometry.inner
        return namespace(batch).moveaxis(batch[0, :, :high, :wide], 0, -1)

    def encode(self, given: Any, held: bool) -> list[Any]:
        """The maps of a batch, as arrays, or as values that stay where the session computes."""
        path, session = self._encoder
        found = _run(path, session.run_held if held else session.run, {self.convention.image: given})
        names = [node.name for node in session.session.get_outputs()]
        return [found[names.index(name)] for name in self.convention.kept]

    def joined(self, batches: list[list[Any]]) -> Any:
        """What `Embeddings` holds of several batches' maps."""
        maps = tuple(
            np.moveaxis(np.concatenate(parts, axis), axis, 0)
            if isinstance(parts[0], np.ndarray)
            else Held.of([*parts])
            for axis, parts in zip(self.convention.kept.values(), zip(*batches, strict=True), strict=True)
        )
        return maps[0] if len(maps) == 1 else Maps(maps)

    def decode(self, features: Any, points: Floats, labels: Floats, masks: Any, at_once: int) -> tuple[Floats, Floats]:
        """Decode K prompts (K, P, 2), (K, P) and masks (K, side, side) or None, so many at once: see `Sam.decode`."""
        c, (path, session) = self.convention, self._decoder
        maps = features.maps if isinstance(features, Maps) else (features,)
        kept = {
            name: m.span() if isinstance(m, Held) else session.hold(np.ascontiguousarray(np.moveaxis(m, 0, axis)))
            for (name, axis), m in zip(c.kept.items(), maps, strict=True)
        }
        points, labels = self._as_many(points, labels)
        if c.queries:
            known = labels != 0.0  # a point outside has no meaning to such a model, and is left out
            points = np.where(known[..., None], points, -1.0) * np.float32(self.side / self.size)
            labels = np.where(known, labels, -1.0)
        outputs = [node.name for node in session.session.get_outputs()]
        logits, quality = [], []
        step = 1 if self._alone else at_once
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            n = len(points[part])
            given: dict[str, Any] = {c.points: points[part], c.labels: labels[part]}
            if c.queries:
                given = {name: value[None] for name, value in given.items()}
            if c.masks:
                given[c.masks] = (
                    np.zeros((n, 1, self.side, self.side), np.float32) if masks is None else masks[part][:, None]
                )
                flags = len(self._inputs[c.has_masks].shape)  # one flag for all, or one for each prompt
                given[c.has_masks] = np.full((n, *(1,) * (flags - 1)) if flags > 1 else 1, masks is not None)
            if c.original:
                given[c.original] = np.full(2, self.side)
            cast = {name: np.ascontiguousarray(v, _TYPES[self._inputs[name].type]) for name, v in given.items()}
            found = _run(path, session.run, kept | cast)
            own = (found[outputs.index(name)] for name in (c.logits, c.quality))
            a, b = _four(path, *((v[0] for v in own) if c.queries else own))
            logits.append(a)
            quality.append(b)
        return np.concatenate(logits), np.concatenate(quality)

    def _as_many(self, points: Floats, labels: Floats) -> tuple[Floats, Floats]:
        """Points and labels filled up to a graph's fixed number."""
        count, most = points.shape[1], self._most
        if most is None or count == most:
            return points, labels
        if count > most:
            raise InvalidArgumentError(
                f"points: received {count}, a box being two; accepted: at most {most} by {self._decoder[0].name}"
            )
        more = ((0, 0), (0, most - count))
        return np.pad(points, (*more, (0, 0)), constant_values=-1.0), np.pad(labels, more, constant_values=-1.0)


def _fitting(
    name: str, path: Path, session: Running, side: str, wanted: dict[str, Any], more: bool = False
) -> dict[str, Any]:
    """A graph's inputs or outputs by name, if they are those wanted: of any shape, or of one of some.

    In a shape 1 means one or any number, None anything, and another number itself or any.
    """
    c, nodes = CONVENTIONS[name], getattr(session.session, f"get_{side}")()
    found = {node.name: node for node in nodes}
    if not (wanted.keys() <= found.keys() if more else wanted.keys() == found.keys()):
        raise ModelError(f"{path}: its {side} are {', '.join(found)}; accepted for {name!r}: {', '.join(wanted)}")
    for key, shapes in wanted.items():
        own, kind = found[key].shape, found[key].type
        if shapes and not any(_fits(own, shape) for shape in shapes):
            accepted = " or ".join(str(shape).replace("None", "any") for shape in shapes)
            raise ModelError(
                f"{path}: {key} has the shape {tuple(own)}; accepted for {name!r}, by the sizes in manifest.json: "
                f"{accepted}"
            )
        integers = key in (c.labels, c.has_masks, c.original)
        if kind not in _TYPES or (kind != "tensor(float)" and not integers):
            raise ModelError(
                f"{path}: {key} is of type {kind}; accepted: {', '.join(_TYPES) if integers else 'tensor(float)'}"
            )
    return found


def _fits(own: Sequence[Any], shape: tuple[int | None, ...]) -> bool:
    """Whether a graph's shape, whose free axes are names, is one that is wanted."""
    return len(own) == len(shape) and all(
        a == b or b is None or not isinstance(a, int) for a, b in zip(own, shape, strict=True)
    )


def _run(path: Path, run: Any, inputs: dict[str, Any]) -> list[Any]:
    """Run a session; a graph may fail at what its shapes allow."""
    try:
        return list(run(**inputs))
    except Exception as error:  # onnxruntime raises classes of its own for each status
        raise ModelError(f"{path}: cannot be run: {' '.join(str(error).split())[:400]}") from error


def _four(path: Path, logits: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """One mask and three for each prompt, (K, 4, h, w) and (K, 4), of what a decoder gives."""
    count, masks = logits.shape[:2]
    if logits.ndim != 4 or quality.shape != (count, masks) or masks not in (1, 3, 4):
        raise ModelError(
            f"{path}: returned masks {logits.shape} and predicted IoU {quality.shape}; accepted: 1, 3 or 4 for a prompt"
        )
    if masks == 4:
        return logits, quality
    rows = np.zeros((count, 4), np.intp)
    if masks == 3:
        rows[:] = (0, 0, 1, 2)
        rows[:, 0] = quality.argmax(1)
    each = np.arange(count)[:, None]
    return logits[each, rows], quality[each, rows]
