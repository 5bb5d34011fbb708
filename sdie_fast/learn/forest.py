"""Regression trees as arrays: fitted by scikit-learn, evaluated by NumPy, loaded without running any code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RunError
from .places import Floats

__all__ = ["LEAF", "TREES", "Forest"]

TREES, LEAF = 120, 5


@dataclass(frozen=True)
class Forest:
    """Regression trees in arrays, one row a node; a node without children is its own left.

    Attributes
    ----------
    roots : ndarray, int32, (trees,)
    feature, left, right : ndarray, int32, (nodes,)
    threshold, value : ndarray, float32, (nodes,)
        Rows whose feature is at most the threshold go left.
    width : int
        Features of a row.
    """

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    width: int

    def __post_init__(self) -> None:
        count = len(self.feature)
        at = np.arange(count)
        arrays = (self.threshold, self.left, self.right, self.value)
        # Children come after their parents: no walk goes round in circles.
        if not (
            len(self.roots)
            and all(a.shape == (count,) for a in arrays)
            and ((self.roots >= 0) & (self.roots < count)).all()
            and ((self.feature >= 0) & (self.feature < self.width)).all()
            and ((self.left >= at) & (self.left < count)).all()
            and ((self.right > at) | (self.left == at)).all()
            and (self.right < count).all()
        ):
            raise RunError("verifier: not trees")

    @classmethod
    def fit(cls, features: Floats, targets: Floats, seed: int) -> Forest:
        """Learn from rows (N, width) and their targets (N,). Needs scikit-learn."""
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, max_features=0.5, random_state=seed).fit(
            features, targets
        )
        roots, parts, first = [], [], 0
        for tree in (e.tree_ for e in forest.estimators_):
            leaf, at = tree.children_left < 0, np.arange(tree.node_count)
            below = [np.where(leaf, at, child) + first for child in (tree.children_left, tree.children_right)]
            parts.append((np.where(leaf, 0, tree.feature), tree.threshold, *below, tree.value[:, 0, 0]))
            roots.append(first)
            first += tree.node_count
        feature, threshold, left, right, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        index, real = np.int32, np.float32
        return cls(
            np.array(roots, index), feature.astype(index), threshold.astype(real), left.astype(index),
            right.astype(index), value.astype(real), features.shape[1],
        )  # fmt: skip

    @classmethod
    def blended(cls, forests: Sequence[Forest], features: Floats) -> Forest:
        """Put forests of one width into one, each with an equal say: its predictions are divided by their deviation over these rows (N, width)."""
        trees = sum(len(f.roots) for f in forests)
        first = np.cumsum([0, *(len(f.feature) for f in forests)])
        says = [trees / (len(forests) * len(f.roots) * max(float(f.predict(features).std()), 1e-6)) for f in forests]

        def joined(name: str) -> npt.NDArray[np.int32]:
            parts = [getattr(f, name) + start for f, start in zip(forests, first, strict=False)]
            return np.concatenate(parts).astype(np.int32)

        return cls(
            joined("roots"),
            np.concatenate([f.feature for f in forests]),
            np.concatenate([f.threshold for f in forests]),
            joined("left"),
            joined("right"),
            np.concatenate([f.value * np.float32(w) for f, w in zip(forests, says, strict=True)]),
            forests[0].width,
        )

    def predict(self, features: Floats) -> Floats:
        """Mean over the trees, float32 (N,), of rows (N, width)."""
        rows = np.arange(len(features))[:, None]
        at = np.repeat(self.roots[None], len(features), 0)
        while True:
            goes_left = features[rows, self.feature[at]] <= self.threshold[at]
            after = np.where(goes_left, self.left[at], self.right[at])
            after = np.where(self.left[at] == at, at, after)
            if np.array_equal(after, at):
                return np.asarray(self.value[at].mean(1), np.float32)
            at = after
