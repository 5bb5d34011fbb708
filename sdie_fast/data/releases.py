"""The releases that SDIE is judged on, as they lie on disk, and `open_dataset`, which tells them from plain folders.

FSSD-12 (Feng et al.): twelve kinds of defect on strip steel. Surface Defects-4i (Bao et al.): twelve classes, from steel
and magnets to leather. Both come with lists of the images of three folds.
"""

from __future__ import annotations

from pathlib import Path

from .. import _validate
from ..errors import DataSetError
from .dataset import DataSet, Sample
from .folder import open_folder

__all__ = ["DEFECT4I_FOLDS", "FSSD12_FOLDS", "KINDS", "open_dataset", "open_defect4i", "open_fssd12", "read_list"]

KINDS = ("auto", "fssd12", "defect4i", "folder")
PAPER_SIZE = 200  # pixels a side in SDIE's experiments
PAPER_COUNT = 50  # images a class there
FSSD12_FOLDS = (
    ("Steel_Am", "Steel_Ia", "Steel_Ld", "Steel_Op"),
    ("Steel_Os", "Steel_Ws", "Steel_Pa", "Steel_Pk"),
    ("Steel_Ri", "Steel_Rp", "Steel_Sc", "Steel_Se"),
)
DEFECT4I_FOLDS = (
    ("AI_Rm", "MT_Uneven", "Steel_Ld", "Steel_Am"),
    ("leather", "Steel_Pa", "Rail", "Steel_Sc"),
    ("Al_Con", "MT_Break", "MT_Fray", "tile"),
)


def open_dataset(
    root: Path | str, kind: str = "auto", *, fold: int | None = None, size: int | None = PAPER_SIZE
) -> DataSet:
    """Open a data set by its kind, or by what it looks like.

    Parameters
    ----------
    root : path
    kind : {"auto", "fssd12", "defect4i", "folder"}
    fold : None or {0, 1, 2}
        The fold's test classes, for those that have folds.
    size : int or None
        As for `DataSet`.

    Raises
    ------
    DataSetError, InvalidArgumentError
        As `open_fssd12`, `open_defect4i` and `open_folder`; or a fold of a plain folder.
    """
    root = Path(root)
    _validate.choice(*KINDS)("kind", kind)
    if kind == "auto":
        names = {p.name for p in root.iterdir()} if root.is_dir() else set()
        if "FSSD-12" in names or {n for group in FSSD12_FOLDS for n in group} <= names:
            kind = "fssd12"
        elif "data_list" in names or "all_defective.txt" in names:
            kind = "defect4i"
        else:
            kind = "folder"
    if kind == "fssd12":
        return open_fssd12(root, fold=fold, size=size)
    if kind == "defect4i":
        return open_defect4i(root, fold=fold, size=size)
    _validate.equal("fold of a plain folder", fold, None)
    return open_folder(root, size=size)


def open_fssd12(
    root: Path | str,
    *,
    fold: int | None = None,
    split: str = "val",
    size: int | None = PAPER_SIZE,
    mask_rule: str = "half",
) -> DataSet:
    """Open FSSD-12.

    Parameters
    ----------
    root : path
        The folder `FSSD-12`, or the one it lies in.
    fold : None or {0, 1, 2}
        The images of `data_list/<split>/fold<fold>_defect.txt`, in its order; None takes all twelve
        classes, at most 50 images each.
    split : {"train", "val"}
        With `fold`: "val" are the fold's four test classes.
    size, mask_rule
        As for `DataSet`.

    Raises
    ------
    DataSetError
        Not such a data set, or a file missing.
    InvalidArgumentError
        No such fold or split.
    """
    root = Path(root)
    if not any((root / name).is_dir() for name in ("data_list", *FSSD12_FOLDS[0])):
        root = root / "FSSD-12"
    if fold is not None:
        samples = _listed_fold(root, fold, split, ("train", "val"), "fold{}_defect.txt")
        return DataSet(f"FSSD-12 fold {fold} {split}", samples, size, mask_rule)
    found = open_folder(root, size=size, mask_rule=mask_rule)
    known = {name for names in FSSD12_FOLDS for name in names}
    strange = [c for c in found.classes if c not in known]
    if strange:
        raise DataSetError(f"{root}: {strange[0]!r} is no class of FSSD-12 ({sorted(known)})")
    return found.at_most(PAPER_COUNT)


def open_defect4i(
    root: Path | str,
    *,
    fold: int | None = None,
    split: str = "test",
    size: int | None = PAPER_SIZE,
    mask_rule: str = "half",
) -> DataSet:
    """Open Surface Defects-4i, or a set laid out like it.

    Parameters and errors are those of `open_fssd12`, but for:

    root : path
        The folder of the class folders.
    fold : None or {0, 1, 2}
        The images of `data_list/<split>/fold_<fold>_defective.txt`, in its order. None takes those
        of `all_defective.txt` where there is one, else every class; at most 50 images each.
    split : {"train", "test"}
        With `fold`: "test" are the fold's four test classes.
    """
    root = Path(root)
    if fold is not None:
        samples = _listed_fold(root, fold, split, ("train", "test"), "fold_{}_defective.txt")
        return DataSet(f"Defects-4i fold {fold} {split}", samples, size, mask_rule)
    whole = root / "all_defective.txt"
    if whole.is_file():
        found = DataSet(root.name, _listed(root, whole), size, mask_rule)
    else:
        found = open_folder(root, size=size, mask_rule=mask_rule)
    return found.at_most(PAPER_COUNT)


def _listed_fold(root: Path, fold: int, split: str, splits: tuple[str, str], name: str) -> tuple[Sample, ...]:
    _validate.integer(0, 2)("fold", fold)
    _validate.choice(*splits)("split", split)
    return _listed(root, root / "data_list" / split / name.format(fold))


def read_list(path: Path) -> list[tuple[str, str]]:
    """Read a release's list: lines `path  id`, with or without a byte-order mark or CRLF.

    Raises
    ------
    DataSetError
        The file cannot be read, or a line is not of that form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(f"{path}: cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parts = line.rsplit(maxsplit=1)
        if len(parts) != 2 or not parts[1].isdecimal():
            raise DataSetError(f"{path}:{number}: {line!r}; lines are 'path  class number'")
        rows.append((parts[0].strip().replace("\\", "/"), parts[1]))
    return rows


def _listed(root: Path, path: Path) -> tuple[Sample, ...]:
    """Samples of a list of images, whose masks have GT for Images and png for the suffix.

    Raises
    ------
    DataSetError
        A line that names no `.../Images/...` file, or one outside the data set, or a file that is
        not there.
    """
    samples = []
    for name, _ in read_list(path):
        parts = Path(name).parts
        if "Images" not in parts or ".." in parts or Path(name).is_absolute():
            raise DataSetError(f"{path}: {name!r}; paths are <class>/Images/<file>")
        at = len(parts) - 1 - parts[::-1].index("Images")
        image = root / name
        mask = root.joinpath(*parts[:at], "GT", *parts[at + 1 :]).with_suffix(".png")
        for file in (image, mask):
            if not file.is_file():
                raise DataSetError(f"{file}: no such file, though {path} names {name!r}")
        samples.append(Sample(image, mask, "/".join(parts[:at]), name))
    return tuple(samples)
