"""Few-shot splits: k labelled images of each class to learn from, the others to be judged by; never both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataSetError, InvalidArgumentError
from ..files import replace_file
from .dataset import DataSet

__all__ = ["Split", "draw"]

_FORMAT = "sdie_fast split 1"


@dataclass(frozen=True)
class Split:
    """Names of a data set's samples.

    Attributes
    ----------
    support, query : dict of str to tuple of str
        By class: the shots, and the images to be judged.
    k, seed : int
        What the split was drawn with.
    """

    support: dict[str, tuple[str, ...]]
    query: dict[str, tuple[str, ...]]
    k: int
    seed: int

    def __post_init__(self) -> None:
        support = [n for names in self.support.values() for n in names]
        query = [n for names in self.query.values() for n in names]
        both = sorted(set(support) & set(query))
        if both:
            raise DataSetError(f"split: {both[0]!r} is in support and query ({len(both)} are)")
        if len(set(support)) < len(support) or len(set(query)) < len(query):
            raise DataSetError("split: a name stands twice")

    def parts(self, data: DataSet) -> tuple[DataSet, DataSet]:
        """The support's and the query's samples.

        Raises
        ------
        DataSetError
            A name that the data set does not have.
        """
        support = [n for names in self.support.values() for n in names]
        query = [n for names in self.query.values() for n in names]
        return data.subset(support), data.subset(query)

    def save(self, path: Path | str) -> None:
        """Write the split as JSON, by atomic rename."""
        text = json.dumps({"format": _FORMAT, **vars(self)}, indent=1)
        replace_file(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: Path | str) -> Split:
        """Read a split.

        Raises
        ------
        DataSetError
            Not a split, or not a valid one.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise DataSetError(f"{path}: cannot be read: {error}") from error
        try:
            if content["format"] != _FORMAT:
                raise DataSetError(f"{path}: format {content['format']!r}; {_FORMAT!r} is accepted")
            groups = [
                {str(c): tuple(str(n) for n in names) for c, names in content[part].items()}
                for part in ("support", "query")
            ]
            return cls(groups[0], groups[1], int(content["k"]), int(content["seed"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, DataSetError):
                raise DataSetError(f"{path}: {error}") from error
            raise DataSetError(f"{path}: not a split: {error!r}") from error


def draw(data: DataSet, k: int, seed: int) -> Split:
    """Draw k shots of each class.

    Parameters
    ----------
    data : DataSet
        Every class has more than k images; images whose mask is empty are never shots.
    k : int
        Shots a class, 1 or more.
    seed : int
        The same seed draws the same shots, whatever other classes there are.

    Raises
    ------
    InvalidArgumentError
        k below 1, or a class with too few images.
    """
    if k < 1:
        raise InvalidArgumentError(f"k: received {k}; accepted: 1 or more")
    support, query = {}, {}
    for label in data.classes:
        samples = data.of_class(label)
        rng = np.random.default_rng([seed, *label.encode()])
        shots: list[str] = []
        for at in rng.permutation(len(samples)):
            if len(shots) < k and data.load(samples[at])[1].any():
                shots.append(samples[at].name)
        if len(shots) < k or len(samples) <= k:
            raise InvalidArgumentError(
                f"k: received {k}, but class {label!r} has {len(samples)} images, of which one must be left"
            )
        support[label] = tuple(shots)
        query[label] = tuple(s.name for s in samples if s.name not in shots)
    return Split(support, query, k, seed)
