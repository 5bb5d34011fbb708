"""The folder that is being looked at: which pictures and masks it holds just now, and what they show."""

from __future__ import annotations

import io
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..data.dataset import DataSet, Sample
from ..data.folder import of_mask
from ..errors import ImageFileError, InvalidArgumentError
from ..files import IMAGE_SUFFIXES, Entry, LocalStore, read

__all__ = ["MOST_LISTED", "MOST_PIXELS", "Folder", "Kept", "Shown", "judged", "reduced"]

MOST_LISTED = 5000
MOST_PIXELS = 2**24  # a larger picture is shown, and tuned, by its middle
_THUMB = 112  # pixels a side
_SEGMENTED = 512  # pixels a side, at most

T = TypeVar("T")


class Kept:
    """A few values by their keys, those used last; for several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._values, self._lock = most, OrderedDict[Hashable, Any](), threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Give the value of a key, made where there is none yet."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]  # type: ignore[no-any-return]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True)
class Shown:
    """A picture, or the middle of one that is too large.

    Attributes
    ----------
    key : tuple
        Another whenever the file is.
    pixels : ndarray, uint8, uint16 or float32, (H, W) or (H, W, 3)
        float32 in [0, 1].
    white_level : float or None
        The uint16 value that counts as 1, where the file says so.
    whole : tuple of int
        Height and width of the file's picture.
    """

    key: tuple[str, ...]
    pixels: npt.NDArray[Any]
    white_level: float | None
    whole: tuple[int, int]


def reduced(pixels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Reduce (H, W, ...) pixels to means of squares, of the same dtype; what is left at the far ends is cut off."""
    if factor == 1:
        return pixels
    h, w = (n // factor for n in pixels.shape[:2])
    parts = pixels[: h * factor, : w * factor].reshape(h, factor, w, factor, *pixels.shape[2:])
    if pixels.dtype.kind == "f":
        return np.asarray(parts.mean((1, 3), dtype=np.float32))
    total = sum(parts[:, y, :, x].astype(np.uint32) for y in range(factor) for x in range(factor))
    return np.asarray((total + factor * factor // 2) // (factor * factor)).astype(pixels.dtype)


def judged(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reduce a picture, or a mask (bool), to the at most 512 pixels a side that are segmented and judged."""
    factor = -(-max(pixels.shape[:2]) // _SEGMENTED)
    if pixels.dtype != np.bool_:
        return reduced(pixels, factor)
    h, w = (n // factor for n in pixels.shape)
    return pixels[factor // 2 :: factor, factor // 2 :: factor][:h, :w]


class Folder:
    """Pictures below a folder, listed anew each time it is asked.

    Hidden files and links that lead out of the folder are not there; masks (see `data.folder`) are not pictures.

    Parameters
    ----------
    root : path
    leave_out : path, optional
        A folder of no pictures: where recipes are kept.
    """

    def __init__(self, root: Path, leave_out: Path | None = None) -> None:
        self.root = root.resolve()
        if not self.root.is_dir():
            raise InvalidArgumentError(f"FOLDER: {root}: no such folder")
        self._out = None if leave_out is None else leave_out.resolve()
        self._store = LocalStore(self.root)
        self._read, self._thumbs = Kept(4), Kept(2 * MOST_LISTED)

    def _skip(self, name: str) -> bool:
        path = self.root / name
        if path.name.startswith(".") or path == self._out:
            return True
        return path.is_symlink() and not path.resolve().is_relative_to(self.root)

    def _entries(self) -> tuple[list[Entry], bool]:
        """Image files, masks among them, by name; and whether there are more."""
        fit = (
            e
            for e in self._store.walk(self._skip)
            if PurePosixPath(e.name).suffix.lower() in IMAGE_SUFFIXES
            and not PurePosixPath(e.name).name.startswith(".")
        )
        found = list(itertools.islice(fit, 2 * MOST_LISTED + 1))
        return sorted(found[: 2 * MOST_LISTED]), len(found) > 2 * MOST_LISTED

    def listing(self) -> dict[str, Any]:
        """Tell the pictures' names and stamps, whether each has a mask, and whether there are more than are told.

        Raises
        ------
        ImageFileError
            The folder is not there any more.
        """
        try:
            entries, more = self._entries()
        except OSError as error:
            raise ImageFileError(f"{self.root}: cannot be listed: {error.strerror or error}") from error
        places = [(entry, *of_mask(PurePosixPath(entry.name))) for entry in entries]
        masks = {key: entry.name for entry, masked, key in places if masked}
        pictures = [
            {"name": entry.name, "stamp": f"{entry.stamp}-{entry.size}", "mask": masks.get(key)}
            for entry, masked, key in places
            if not masked
        ]
        return {"pictures": pictures[:MOST_LISTED], "more": more or len(pictures) > MOST_LISTED}

    def _path(self, name: Any) -> tuple[Path, str]:
        """The file of a picture's name, and its stamp.

        Raises
        ------
        ImageFileError
            It is none of the folder's pictures.
        """
        parts = PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
        fit = parts and not any(part.startswith(".") or "\\" in part for part in parts) and not name.startswith("/")
        try:
            entry = self._store.entry(name) if fit and Path(name).suffix.lower() in IMAGE_SUFFIXES else None
        except OSError:
            entry = None  # a name that no file can have
        if entry is None or not (self.root / name).resolve().is_relative_to(self.root):
            raise ImageFileError(f"{str(name)[:200]}: no such picture in {self.root.name} (any more)")
        return self.root / name, f"{entry.stamp}-{entry.size}"

    def open(self, name: Any) -> Shown:
        """Read a picture.

        Raises
        ------
        ImageFileError
            It is not there, or cannot be read.
        """
        path, stamp = self._path(name)
        return self._read.get((name, stamp), lambda: self._load(path, name, stamp))

    def _load(self, path: Path, name: str, stamp: str) -> Shown:
        try:
            picture = read(path)
        except ImageFileError as error:
            raise ImageFileError(str(error).replace(str(path), name)) from error
        pixels = picture.pixels
        return Shown((name, stamp), np.ascontiguousarray(_middle(pixels)), picture.white_level, pixels.shape[:2])

    def thumb(self, name: Any) -> bytes:
        """Give a small JPEG of a picture, its contrast spread where it has more than 8 bits."""
        path, stamp = self._path(name)
        return self._thumbs.get((name, stamp), lambda: _thumb(self._load(path, name, stamp).pixels))

    def truth(self, name: str, mask: str) -> npt.NDArray[np.bool_]:
        """Read a picture's mask, bool (H, W), as training does; of a large picture its middle.

        Raises
        ------
        DataSetError, ImageFileError
            It cannot be read, or is not of the picture's size.
        """
        (path, _), (masked, _) = self._path(name), self._path(mask)
        sample = Sample(path, masked, "", name)
        return _middle(DataSet(self.root.name, (sample,)).load(sample)[1])


def _middle(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The picture, or of a large one a part about its middle that is as wide or as high as may be."""
    h, w = pixels.shape[:2]
    if h * w <= MOST_PIXELS:
        return pixels
    side = int(MOST_PIXELS**0.5)
    rows = min(h, max(side, MOST_PIXELS // w))
    columns = min(w, MOST_PIXELS // rows)
    y, x = (h - rows) // 2, (w - columns) // 2
    return pixels[y : y + rows, x : x + columns]


def _thumb(pixels: npt.NDArray[Any]) -> bytes:
    from PIL import Image

    factor = max(1, min(pixels.shape[:2]) // (2 * _THUMB))
    small = reduced(pixels, factor)
    if small.dtype != np.uint8:
        low, high = np.percentile(small, (0.5, 99.5))
        small = ((small - low) / max(high - low, 1e-6)).clip(0, 1).astype(np.float32)
    image = Image.fromarray(small if small.dtype == np.uint8 else np.round(small * 255).astype(np.uint8))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((_THUMB, _THUMB), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()
