"""FSSD-12 (Feng et al.: twelve kinds of defect on strip steel), as its release lies on disk."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataSetError, InvalidArgumentError
from .dataset import PAPER_COUNT, PAPER_SIZE, DataSet, listed
from .folder import open_folder

FOLDS = (
    ("Steel_Am", "Steel_Ia", "Steel_Ld", "Steel_Op"),
    ("Steel_Os", "Steel_Ws", "Steel_Pa", "Steel_Pk"),
    ("Steel_Ri", "Steel_Rp", "Steel_Sc", "Steel_Se"),
)


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
    fold : {0, 1, 2}, optional
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
    if not any((root / name).is_dir() for name in ("data_list", *FOLDS[0])):
        root = root / "FSSD-12"
    if fold is None:
        found = open_folder(root, size=size, mask_rule=mask_rule)
        known = {name for names in FOLDS for name in names}
        strange = [c for c in found.classes if c not in known]
        if strange:
            raise DataSetError(f"{root}: {strange[0]!r} is no class of FSSD-12 ({sorted(known)})")
        return found.at_most(PAPER_COUNT)
    if fold not in range(3) or split not in ("train", "val"):
        raise InvalidArgumentError(f"fold, split: received {fold}, {split!r}; accepted: 0 to 2, 'train' or 'val'")
    samples = listed(root, root / "data_list" / split / f"fold{fold}_defect.txt")
    return DataSet(f"FSSD-12 fold {fold} {split}", samples, size, mask_rule)
