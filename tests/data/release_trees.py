"""Trees laid out as FSSD-12 and Surface Defects-4i are: folders, lists and irregular names."""

import codecs

import numpy as np
from PIL import Image

from sdie_fast.data.releases import DEFECT4I_FOLDS, FSSD12_FOLDS


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def plain(_number, _k):
    """A grey picture, all of it defect."""
    return np.full((20, 30), 90, np.uint8), np.full((20, 30), True)


def fssd12(root, images=3, draw=plain, end="\n", listed=4):
    """`root` is the folder FSSD-12; `draw` gives image and mask of a class's number (1 to 12; 0 is clean) and its own.

    The list of a fold's own classes has the first `listed` of them, of each the last image first.
    """
    lists = {"Images": "fold{}_defect", "GT": "fold{}_gt"}
    _lay_out(root, FSSD12_FOLDS, lists, "val", images, draw, end, listed)


def defect4i(root, images=3, draw=plain, end="\r\n", listed=4):
    """`root` is the folder of the classes; otherwise as `fssd12`."""
    lists = {"Images": "fold_{}_defective", "GT": "fold_{}_mask", "Nd": "fold_{}_clean"}
    _lay_out(root, DEFECT4I_FOLDS, lists, "test", images, draw, end, listed)


def _lay_out(root, folds, lists, held_out, images, draw, end, listed):
    classes = [(name, fold) for fold, names in enumerate(folds) for name in names]
    lines = {(kind, fold, split): [] for kind in lists for fold in range(3) for split in ("train", held_out)}
    for number, (name, own) in enumerate(classes, 1):
        for k in range(images, 0, -1):
            stem = f"{name}{k}" if name in ("MT_Fray", "MT_Uneven") and k == 1 else f"{name}_{k}"
            (image, mask), (clean, _) = draw(number, k), draw(0, k)
            files = {"Images": f"{stem}.jpg", "GT": f"{stem}.png", "Nd": f"Nd_{k}.jpg"}
            for (kind, file), pixels in zip(files.items(), (image, mask * np.uint8(255), clean), strict=True):
                path = f"{name}/{kind}/{file}"
                save(root / path, pixels)
                for fold in range(3):
                    split = held_out if fold == own else "train"
                    if kind in lists and (fold != own or folds[own].index(name) < listed):
                        lines[kind, fold, split].append(f"{path}  {number}{end}")
    for (kind, fold, split), rows in lines.items():
        path = root / "data_list" / split / f"{lists[kind].format(fold)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codecs.BOM_UTF8 * (fold > 0) + "".join(rows).encode())
