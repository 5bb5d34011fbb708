"""Cases of a data set: each labelled image, in its views, with how the segmenter is prompted on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidArgumentError
from ..evaluate.run import PROMPTS, box_of, point_of
from ..segment import Support
from .env import Case

VIEWS = (1, 2, 4, 8)


def view_of(plane: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """One of eight ways to turn and mirror a plane (H, W); 0 leaves it as it is, and the first four keep its shape."""
    found = plane[:, ::-1] if k & 1 else plane
    found = found[::-1] if k & 2 else found
    return np.ascontiguousarray(found.T if k & 4 else found)


def cases_of(data: Any, prompt: str, support: Any = None, *, own: bool = False, views: int = 1) -> list[Case]:
    """Cases of a data set.

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
    if prompt not in PROMPTS:
        raise InvalidArgumentError(f"prompt: received {prompt!r}; accepted: {', '.join(PROMPTS)}")
    shown: dict[str, list[Any]] = {}
    if prompt == "support":
        for sample, image, truth in support:
            shown.setdefault(sample.label, []).append((sample.name, image, truth))
    known: dict[tuple[str, ...], Support] = {}
    cases = []
    turned = ((sample, view_of(image, k), view_of(truth, k)) for sample, image, truth in data for k in range(views))
    for sample, image, truth in turned:
        given: Any = "auto"
        if prompt == "support":
            pairs = shown.get(sample.label, [])
            if own and len(pairs) > 1:
                pairs = [p for p in pairs if p[0] != sample.name]
            if not pairs:
                raise InvalidArgumentError(f"support: no image of class {sample.label!r}")
            key = tuple(p[0] for p in pairs)
            if key not in known:
                known[key] = Support([p[1] for p in pairs], [p[2] for p in pairs])
            given = known[key]
        elif prompt != "auto":
            given = box_of(truth) if prompt == "box" else point_of(truth)
        cases.append(Case(image, truth, given, sample.label, sample.name))
    return cases
