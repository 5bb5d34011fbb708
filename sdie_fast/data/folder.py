"""A plain folder of images and masks, in any of the usual pairings.

- `images/x.png` and `masks/x.png`, at the top or within class folders, or with class folders inside both;
- `x.png` and `x_mask.png` side by side;
- MVTec AD's `test/<defect>/x.png` and `ground_truth/<defect>/x_mask.png`.

Folders and suffixes may be named as below, in any case. Images in folders of defect-free ones (`good`, `Nd`) need no mask
and are left out.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from ..errors import DataSetError
from ..files import IMAGE_SUFFIXES
from .dataset import DataSet, Sample

__all__ = ["of_mask", "open_folder"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "test", "jpegimages")
MASK_FOLDERS = (
    "gt", "masks", "mask", "ground_truth", "groundtruth", "labels", "label", "annotations", "segmentationclass",
)  # fmt: skip
CLEAN_FOLDERS = ("good", "nd", "clean", "ok", "defect_free")
MASK_SUFFIXES = ("_mask", "_gt", "-mask", "_label", "_seg")


def _key(parts: tuple[str, ...], folders: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path without its last folder of such a name; None if it has none."""
    for at in range(len(parts) - 2, -1, -1):
        if parts[at].lower() in folders:
            return (*parts[:at], *parts[at + 1 :])
    return None


def _without_suffix(stem: str) -> str | None:
    for suffix in MASK_SUFFIXES:
        if stem.lower().endswith(suffix) and len(stem) > len(suffix):
            return stem[: -len(suffix)]
    return None


def of_mask(path: PurePath) -> tuple[bool, tuple[str, ...]]:
    """Tell whether a path within a folder is a mask's, and give the key that an image and its mask have in common."""
    bare, key = _without_suffix(path.stem), _key(path.parts, MASK_FOLDERS)
    masked = key is not None or bare is not None
    if key is None:
        key = _key(path.parts, IMAGE_FOLDERS) or path.parts
    return masked, (*key[:-1], bare if masked and bare is not None else path.stem)


def open_folder(root: Path | str, *, size: int | None = None, mask_rule: str = "half") -> DataSet:
    """Find the images of a folder and the mask of each.

    Parameters
    ----------
    root : path
        The folder.
    size, mask_rule
        As for `DataSet`.

    Raises
    ------
    DataSetError
        No such folder, an image without its mask, or one with two.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataSetError(f"{root}: no such folder")
    images: dict[tuple[str, ...], Path] = {}
    masks: dict[tuple[str, ...], Path] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts):
            continue
        masked, key = of_mask(path.relative_to(root))
        if not masked and any(part.lower() in CLEAN_FOLDERS for part in parts[:-1]):
            continue
        table = masks if masked else images
        if key in table:
            kind = "masks" if masked else "images"
            raise DataSetError(f"{path}: one of two {kind} of the same name; the other is {table[key]}")
        table[key] = path
    lonely = [path for key, path in images.items() if key not in masks]
    if lonely:
        raise DataSetError(
            f"{lonely[0]}: no mask belongs to it ({len(lonely)} of {len(images)} images have none); looked for "
            f"folders {', '.join(MASK_FOLDERS)} and suffixes {', '.join(MASK_SUFFIXES)}"
        )
    return DataSet(
        root.name,
        tuple(
            Sample(path, masks[key], "/".join(key[:-1]) or root.name, path.relative_to(root).as_posix())
            for key, path in images.items()
        ),
        size,
        mask_rule,
    )
