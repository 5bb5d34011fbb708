"""Labelled images on disk: what a data set is, and how an image and its mask are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataSetError, ImageFileError, InvalidArgumentError
from ..files import grey, read

__all__ = ["MASK_RULES", "DataSet", "Sample"]

MASK_RULES = ("half", "strict")


@dataclass(frozen=True)
class Sample:
    """An image and its mask.

    Attributes
    ----------
    image, mask : Path
        The files.
    label : str
        The class.
    name : str
        What splits call it: the image's path within the data set, with forward slashes.
    """

    image: Path
    mask: Path
    label: str
    name: str


@dataclass(frozen=True)
class DataSet:
    """Images with masks, by class.

    Attributes
    ----------
    name : str
        For reports.
    samples : tuple of Sample
        In the order of the release's list, or sorted.
    size : int or None
        Side in pixels that images and masks are resized to, as the paper does with 200; None keeps
        theirs.
    mask_rule : {"half", "strict"}
        Foreground is a mask's values above 127 (masks have grey edges, where they were resized or
        stored as JPEG), or those of 255 only, as the few-shot literature reads them. A mask without
        a value above 1 is read as holding 0 and 1.
    """

    name: str
    samples: tuple[Sample, ...]
    size: int | None = None
    mask_rule: str = "half"

    def __post_init__(self) -> None:
        if self.mask_rule not in MASK_RULES:
            raise InvalidArgumentError(f"mask_rule: received {self.mask_rule!r}; accepted: {', '.join(MASK_RULES)}")
        if self.size is not None and not 16 <= self.size <= 16384:
            raise InvalidArgumentError(f"size: received {self.size}; accepted: None or 16 to 16384 pixels")
        if not self.samples:
            raise DataSetError(f"{self.name}: no image with a mask was found")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of their first sample."""
        return tuple(dict.fromkeys(s.label for s in self.samples))

    def of_class(self, label: str) -> tuple[Sample, ...]:
        """Samples of one class, in order."""
        return tuple(s for s in self.samples if s.label == label)

    def at_most(self, count: int) -> DataSet:
        """The first `count` samples of every class."""
        return self._first(count, self.samples)

    def drawn(self, count: int) -> DataSet:
        """`count` samples of every class, drawn by a hash of their names, in the data set's order.

        The first of a list are often the plainest, and not like the rest. Two data sets that share most names share most of what
        is drawn.
        """
        return self._first(count, sorted(self.samples, key=lambda s: blake2b(s.name.encode()).digest()))

    def _first(self, count: int, order: Sequence[Sample]) -> DataSet:
        if count < 1:
            raise InvalidArgumentError(f"count: received {count}; accepted: 1 or more")
        kept = {s.name for label in self.classes for s in [s for s in order if s.label == label][:count]}
        return replace(self, samples=tuple(s for s in self.samples if s.name in kept))

    def subset(self, names: Sequence[str]) -> DataSet:
        """The samples of those names, in that order.

        Raises
        ------
        DataSetError
            A name that no sample has.
        """
        by_name = {s.name: s for s in self.samples}
        missing = [n for n in names if n not in by_name]
        if missing:
            raise DataSetError(f"{self.name}: no image {missing[0]!r} ({len(missing)} missing)")
        return replace(self, samples=tuple(by_name[n] for n in names))

    def load(self, sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read a sample: the grey image, uint8 (H, W), and its mask, bool (H, W).

        Raises
        ------
        DataSetError
            A file that cannot be read, or a mask of another size than its image's.
        """
        image, mask = _read(sample.image), _read(sample.mask)
        if image.size != mask.size:
            raise DataSetError(
                f"{sample.mask}: {mask.width} x {mask.height} pixels; its image {sample.image} has "
                f"{image.width} x {image.height}"
            )
        # The rule comes before resizing: it is about what the file holds.
        values = np.asarray(mask)
        below = 0 if values.max() <= 1 else 254 if self.mask_rule == "strict" else 127
        truth = values > below
        if self.size is not None and image.size != (self.size, self.size):
            shape = (self.size, self.size)
            image = image.resize(shape, Image.Resampling.BILINEAR)
            small = Image.fromarray(truth.astype(np.uint8)).resize(shape, Image.Resampling.NEAREST)
            truth = np.asarray(small) == 1
        return np.asarray(image), truth

    def __iter__(self) -> Iterator[tuple[Sample, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
        """Read samples one after another."""
        for sample in self.samples:
            yield (sample, *self.load(sample))


def _read(path: Path) -> Image.Image:
    """Read a file as 8-bit grey."""
    try:
        pixels = read(path).pixels
    except ImageFileError as error:
        raise DataSetError(str(error)) from error
    return Image.fromarray(grey(pixels))
