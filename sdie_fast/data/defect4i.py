"""Surface Defects-4i (Bao et al.: twelve classes, from steel and magnets to leather), as its release lies on disk."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidArgumentError
from .dataset import PAPER_COUNT, PAPER_SIZE, DataSet, listed
from .folder import open_folder

FOLDS = (
    ("AI_Rm", "MT_Uneven", "Steel_Ld", "Steel_Am"),
    ("leather", "Steel_Pa", "Rail", "Steel_Sc"),
    ("Al_Con", "MT_Break", "MT_Fray", "tile"),
)


def open_defect4i(
    root: Path | str,
    *,
    fold: int | None = None,
    split: str = "test",
    size: int | None = PAPER_SIZE,
    mask_rule: str = "half",
) -> DataSet:
    """Open Surface Defects-4i, or a set laid out like it.

    Parameters
    ----------
    root : path
        The folder of the class folders.
    fold : {0, 1, 2}, optional
        The images of `data_list/<split>/fold_<fold>_defective.txt`, in its order. None takes those
        of `all_defective.txt` where there is one, else every class; at most 50 images each.
    split : {"train", "test"}
        With `fold`: "test" are the fold's four test classes.
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
    if fold is None:
        whole = root / "all_defective.txt"
        if whole.is_file():
            found = DataSet(root.name, listed(root, whole), size, mask_rule)
        else:
            found = open_folder(root, size=size, mask_rule=mask_rule)
        return found.at_most(PAPER_COUNT)
    if fold not in range(3) or split not in ("train", "test"):
        raise InvalidArgumentError(f"fold, split: received {fold}, {split!r}; accepted: 0 to 2, 'train' or 'test'")
    samples = listed(root, root / "data_list" / split / f"fold_{fold}_defective.txt")
    return DataSet(f"Defects-4i fold {fold} {split}", samples, size, mask_rule)
