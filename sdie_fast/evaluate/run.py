"""Judging a segmenter on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.dataset import DataSet, Sample
from ..data.shots import Split, draw
from ..errors import InvalidArgumentError
from ..segment import Prompt, Segmenter, Support
from .metrics import Meter, Scores

PROMPTS = ("auto", "support", "box", "point")


@dataclass(frozen=True)
class Case:
    """One image judged.

    Attributes
    ----------
    sample : Sample
        Its files.
    image, truth, prediction : ndarray
        uint8 and bool, (H, W).
    iou, quality : float
        Its own IoU; the predicted one.
    """

    sample: Sample
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.bool_]
    prediction: npt.NDArray[np.bool_]
    iou: float
    quality: float


@dataclass
class Evaluation:
    """A segmenter's result.

    Attributes
    ----------
    scores : Scores
        Over all images.
    images : list of dict
        Name, class, IoU and predicted IoU of each.
    split : Split, optional
        With "support": which images showed what to look for.
    """

    scores: Scores
    images: list[dict[str, Any]] = field(default_factory=list)
    split: Split | None = None


def box_of(mask: npt.NDArray[np.bool_]) -> Prompt | None:
    """The bounding box of a mask's foreground; None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Prompt(boxes=np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32))


def point_of(mask: npt.NDArray[np.bool_]) -> Prompt | None:
    """The pixel of a mask's foreground that is farthest from its outline; None where there is none."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return None
    y, x = np.unravel_index(distance_transform_edt(np.pad(mask, 1)).argmax(), np.add(mask.shape, 2))
    return Prompt(np.array([[[x - 0.5, y - 0.5]]], np.float32), np.ones((1, 1), np.float32))


def judge(
    segmenter: Segmenter,
    data: DataSet,
    prompt: str,
    support: dict[str, Support],
    options: dict[str, Any],
) -> Iterator[Case]:
    """Segment a data set's images one by one."""
    for sample, image, truth in data:
        given: Any = prompt
        if prompt == "support":
            given = support[sample.label]
        elif prompt != "auto":
            given = box_of(truth) if prompt == "box" else point_of(truth)
        if given is None:
            prediction, quality = np.zeros_like(truth), 0.0
        else:
            prediction, scores = segmenter(image, given, **(options if prompt == "auto" else {}))
            quality = float(scores[0])
        both, either = int((prediction & truth).sum()), int((prediction | truth).sum())
        yield Case(sample, image, truth, prediction, both / either if either else 1.0, quality)


def evaluate_segmenter(
    segmenter: Segmenter,
    data: DataSet,
    prompt: str = "auto",
    *,
    shots: int = 1,
    seed: int = 0,
    split: Split | None = None,
    options: dict[str, Any] | None = None,
    watch: Callable[[Case], None] = lambda _: None,
) -> Evaluation:
    """Judge a segmenter.

    Parameters
    ----------
    segmenter : Segmenter
        What is judged.
    data : DataSet
        The labelled images.
    prompt : {"auto", "support", "box", "point"}
        "support": `shots` images of each class show what to look for and are not judged. "box" and
        "point" are taken from the truth: a bound on what prompting could reach, not a result.
    shots, seed : int
        Of the split that "support" draws.
    split : Split, optional
        Instead of drawing one.
    options : dict, optional
        Fields of `Auto`.
    watch : callable
        Given each image as it is judged.

    Raises
    ------
    InvalidArgumentError
        No such prompt, or classes with too few images.
    """
    if prompt not in PROMPTS:
        raise InvalidArgumentError(f"prompt: received {prompt!r}; accepted: {', '.join(PROMPTS)}")
    support: dict[str, Support] = {}
    query = data
    if prompt == "support":
        split = split or draw(data, shots, seed)
        shown, query = split.parts(data)
        for label in shown.classes:
            pairs = [shown.load(s) for s in shown.of_class(label)]
            support[label] = Support([i for i, _ in pairs], [m for _, m in pairs])
    meter = Meter(query.classes)
    images = []
    for case in judge(segmenter, query, prompt, support, options or {}):
        meter.add(case.sample.label, case.prediction, case.truth)
        images.append(
            {
                "name": case.sample.name,
                "class": case.sample.label,
                "iou": case.iou,
                "predicted_iou": case.quality,
            }
        )
        watch(case)
    return Evaluation(meter.scores(), images, split if prompt == "support" else None)
