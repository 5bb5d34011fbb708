"""Cases of a data set: each labelled image, in its views, with how the segmenter is prompted on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .. import _validate
from ..data.dataset import DataSet
from ..errors import InvalidArgumentError, InvalidTypeError
from ..segment import Prompt, Support
from .episode import checked_image
from .places import Images, Masks

__all__ = ["PROMPTS", "VIEWS", "Case", "box_of", "cases_of", "point_of", "view_of"]

PROMPTS = ("auto", "support", "box", "point")
VIEWS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Case:
    """A labelled image and how the segmenter is prompted on it.

    Attributes
    ----------
    image : ndarray, uint8, (H, W)
    truth : ndarray, bool, (H, W)
    prompt : "auto", Support, Prompt or None
        As `Segmenter.__call__` takes it; None where there is nothing to point at: its mask is empty.
    label, name : str
        Its class; what splits call it.
    """

    image: Images
    truth: Masks
    prompt: Any = "auto"
    label: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        checked_image(self.image)
        if not isinstance(self.truth, np.ndarray) or self.truth.dtype != np.bool_:
            received = getattr(self.truth, "dtype", type(self.truth).__name__)
            raise InvalidTypeError(f"truth: received {received}; accepted: bool (H, W)")
        if self.image.shape != self.truth.shape:
            raise InvalidArgumentError(
                f"truth: received shape {self.truth.shape} for an image of {self.image.shape}; "
                "accepted: one and the same (H, W)"
            )


def view_of(plane: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """One of eight ways to turn and mirror a plane (H, W); 0 leaves it as it is, and the first four keep its shape."""
    found = plane[:, ::-1] if k & 1 else plane
    found = found[::-1] if k & 2 else found
    return np.ascontiguousarray(found.T if k & 4 else found)


def box_of(mask: Masks) -> Prompt | None:
    """The bounding box of a mask's foreground; None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Prompt(boxes=np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32))


def point_of(mask: Masks) -> Prompt | None:
    """The pixel of a mask's foreground that is farthest from its outline; None where there is none."""
    if not mask.any():
        return None
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return Prompt(np.array([[[x - 0.5, y - 0.5]]], np.float32), np.ones((1, 1), np.float32))


def cases_of(
    data: DataSet, prompt: str, support: DataSet | None = None, *, own: bool = False, views: int = 1
) -> Iterator[Case]:
    """Make cases of a data set, one after the other.

    Parameters
    ----------
    data : DataSet
        The labelled images.
    prompt : {"auto", "support", "box", "point"}
        "box" and "point" come from the truth.
    support : DataSet, optional
        With "support": the images that show what to look for, by class.
    own : bool
        Whether `data` is the support itself: each image is then shown the others of its class, as
        far as there are others.
    views : int
        The first so many of `view_of` make a case each, 1 to 8; shown remains what was given.

    Raises
    ------
    InvalidArgumentError
        No such prompt, or no image of a class among the support.
    """
    _validate.choice(*PROMPTS)("prompt", prompt)
    shown: dict[str, list[Any]] = {}
    for sample, image, truth in support if prompt == "support" and support is not None else ():
        shown.setdefault(sample.label, []).append((sample.name, image, truth))
    known: dict[tuple[str, ...], Support] = {}

    def supporting(label: str, name: str) -> Support:
        pairs = shown.get(label, [])
        if own and len(pairs) > 1:
            pairs = [p for p in pairs if p[0] != name]
        if not pairs:
            raise InvalidArgumentError(f"support: no image of class {label!r}")
        key = tuple(p[0] for p in pairs)
        if key not in known:
            known[key] = Support([p[1] for p in pairs], [p[2] for p in pairs])
        return known[key]

    for sample, image, truth in data:
        for k in range(views):
            seen = view_of(truth, k)
            given: Any = prompt
            if prompt == "support":
                given = supporting(sample.label, sample.name)
            elif prompt != "auto":
                given = box_of(seen) if prompt == "box" else point_of(seen)
            yield Case(view_of(image, k), seen, given, sample.label, sample.name)
