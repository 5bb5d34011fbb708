"""Mean IoU and foreground-background IoU as the few-shot segmentation literature computes them.

Intersections and unions are summed over all images before they are divided: IoU_c over the images of class c, MIoU its mean
over classes, FB-IoU the mean of the foreground's and the background's IoU summed over everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, InvalidTypeError

__all__ = ["Meter", "Scores"]


@dataclass(frozen=True)
class Scores:
    """What a set of masks scored, as shares in [0, 1].

    Attributes
    ----------
    iou : dict of str to float
        IoU of each class, in the order in which classes were named or first met; NaN for a class
        without a pixel in prediction or truth.
    miou : float
        Mean over the classes that have an IoU; NaN if none has.
    fb_iou : float
        Mean of `foreground_iou` and `background_iou`.
    foreground_iou, background_iou : float
        Over all classes together; NaN where the union is empty.
    fb_iou_published_code : float
        Mean over images of (1 + IoU_foreground) / 2, which is what the published code's expression
        amounts to. Not FB-IoU; only for comparison with figures made by that code.
    images : dict of str to int
        Images counted, by class.
    """

    iou: dict[str, float]
    miou: float
    fb_iou: float
    foreground_iou: float
    background_iou: float
    fb_iou_published_code: float
    images: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Give the scores as JSON takes them: None for NaN."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items()}
            return None if isinstance(value, float) and math.isnan(value) else value

        return {name: plain(value) for name, value in vars(self).items()}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def _check(prediction: Any, truth: Any, axes: int, shape: str) -> None:
    """Check that masks are bool, of one shape and so many axes."""
    for name, mask in (("prediction", prediction), ("truth", truth)):
        # Of a tensor, "torch.bool".
        if str(getattr(mask, "dtype", "")).removeprefix("torch.") != "bool":
            kind = getattr(mask, "dtype", type(mask).__name__)
            raise InvalidTypeError(f"{name}: received {kind}; accepted: a numpy array of bool, or a tensor of it")
    if tuple(prediction.shape) != tuple(truth.shape) or truth.ndim != axes:
        raise InvalidArgumentError(
            f"prediction: received shape {tuple(prediction.shape)} for a truth of shape {tuple(truth.shape)}; "
            f"accepted: one and the same {shape}"
        )


class Meter:
    """Sums up masks one by one.

    Parameters
    ----------
    classes : iterable of str
        Names in the order to report; others are added when first met.
    """

    def __init__(self, classes: Iterable[str] = ()) -> None:
        # By class: images, and pixels of intersection, of union and in all.
        self._counts = {name: np.zeros(4, np.int64) for name in classes}
        self._published = 0.0

    def add(self, label: str, prediction: Any, truth: Any) -> float:
        """Count one image.

        Parameters
        ----------
        label : str
            Its class.
        prediction, truth : ndarray or Tensor, bool, (H, W)
            Foreground.

        Returns
        -------
        float
            The image's own IoU: 1 if both masks are empty.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            Shapes that differ or have not two axes, or masks that are not bool.
        """
        _check(prediction, truth, 2, "(H, W)")
        return self.add_batch([label], prediction[None], truth[None])[0]

    def add_batch(self, labels: Sequence[str], predictions: Any, truths: Any) -> list[float]:
        """Count images; of tensors, on their device: what is copied to the host are two numbers an image.

        Parameters
        ----------
        labels : sequence of str, N
            Their classes.
        predictions, truths : ndarray or Tensor, bool, (N, H, W)
            Foreground; both on one device.

        Returns
        -------
        list of float
            Each image's own IoU: 1 if both masks are empty.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            As `add`, or another number of labels than of masks.
        """
        _check(predictions, truths, 3, "(N, H, W)")
        if len(labels) != len(truths):
            raise InvalidArgumentError(
                f"labels: received {len(labels)} for {len(truths)} masks; accepted: one for each"
            )
        size = math.prod(truths.shape[1:])
        both = (predictions & truths).sum((1, 2)).tolist()
        either = (predictions | truths).sum((1, 2)).tolist()
        return [self._count(*counts, size) for counts in zip(labels, both, either, strict=True)]

    def _count(self, label: str, both: int, either: int, size: int) -> float:
        self._counts.setdefault(label, np.zeros(4, np.int64))[:] += (1, both, either, size)
        own = both / either if either else 1.0
        self._published += (1.0 + own) / 2.0
        return own

    def scores(self) -> Scores:
        """Divide what was summed up so far.

        Raises
        ------
        InvalidArgumentError
            Nothing was counted.
        """
        counts = {name: row.tolist() for name, row in self._counts.items()}
        images, both, either, size = (sum(row) for row in zip(*counts.values(), strict=True)) if counts else [0] * 4
        if images == 0:
            raise InvalidArgumentError("scores: no image was counted")
        iou = {name: _share(row[1], row[2]) for name, row in counts.items()}
        # The background's intersection is what neither mask has, its union what not both have.
        foreground, background = _share(both, either), _share(size - either, size - both)
        return Scores(
            iou=iou,
            miou=_mean(iou.values()),
            fb_iou=_mean((foreground, background)),
            foreground_iou=foreground,
            background_iou=background,
            fb_iou_published_code=self._published / images,
            images={name: row[0] for name, row in counts.items()},
        )
