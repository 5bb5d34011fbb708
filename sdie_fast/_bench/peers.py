"""What users compose today: the same filters from OpenCV, SciPy, scikit-image and pyamg.

Each function takes a uint8 plane (H, W) and gives what its library gives. Where a library offers uint8 and float32
versions, the one that is faster on 200 x 200 images is used (uint8 for OpenCV's bilateral, smoother and guided filter).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters.wls import wls_matrix, wls_weights

Plane = npt.NDArray[Any]

SIGMA_RANGE = 0.1 * 255
SIGMA_SPACE = 1.5
GUIDED_EPS = 0.01 * 255 * 255


def find(name: str) -> ModuleType | None:
    """Import a peer's module, or None where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class OpenCV:
    """The filters of one round by OpenCV (with its contrib modules)."""

    def __init__(self, cv2: Any, threads: int) -> None:
        self.cv2 = cv2
        cv2.setNumThreads(threads)
        self._clahe = cv2.createCLAHE(1.0, (5, 5))

    def wls(self, g: Plane) -> Plane:
        """Min et al.'s fast global smoother: an approximation, with other weights than Farbman's."""
        out: Plane = self.cv2.ximgproc.fastGlobalSmootherFilter(g, g, 1.0, 10.0)
        return out

    def bilateral(self, g: Plane) -> Plane:
        """Bilateral filter of diameter 7: the 29 taps of the disk."""
        out: Plane = self.cv2.bilateralFilter(g, 7, SIGMA_RANGE, SIGMA_SPACE)
        return out

    def sharpen(self, g: Plane) -> Plane:
        """Unsharp masking by a 7 x 7 Gaussian."""
        out: Plane = self.cv2.addWeighted(g, 1.8, self.cv2.GaussianBlur(g, (7, 7), 1.5), -0.8, 0.0)
        return out

    def guided(self, g: Plane) -> Plane:
        """Self-guided filter of radius 3."""
        out: Plane = self.cv2.ximgproc.guidedFilter(g, g, 3, GUIDED_EPS)
        return out

    def equalise(self, g: Plane) -> Plane:
        """Histogram equalisation, the cheapest that can stand in the spatiogram filter's place."""
        out: Plane = self.cv2.equalizeHist(g)
        return out

    def clahe(self, g: Plane) -> Plane:
        """Contrast-limited adaptive equalisation, 5 x 5 tiles."""
        out: Plane = self._clahe.apply(g)
        return out

    def round(self, g: Plane) -> Plane:
        """One weighted round, all weights equal, as six calls and a weighted sum."""
        add = self.cv2.addWeighted
        total = add(g, 1 / 6, self.wls(g), 1 / 6, 0.0, dtype=self.cv2.CV_32F)
        for plane in (self.bilateral(g), self.sharpen(g), self.guided(g), self.equalise(g)):
            total = add(total, 1.0, plane, 1 / 6, 0.0, dtype=self.cv2.CV_32F)
        out: Plane = self.cv2.convertScaleAbs(total)
        return out


def spsolve(g: Plane) -> Callable[[], Plane]:
    """Exact WLS by SciPy's sparse direct solver; assembling the matrix is not timed."""
    from scipy.sparse.linalg import spsolve as solve

    plane = g.astype(np.float64) / 255
    matrix = wls_matrix(*wls_weights(plane, 1.2), 1.0).tocsc()
    return lambda: np.asarray(solve(matrix, plane.ravel())).reshape(g.shape)


def pyamg(g: Plane, module: Any) -> Callable[[], Plane]:
    """Exact WLS by pyamg: Ruge-Stueben multigrid set up and used in CG; assembling the matrix is not timed."""
    plane = g.astype(np.float64) / 255
    matrix = wls_matrix(*wls_weights(plane, 1.2), 1.0).tocsr()
    right = plane.ravel()

    def solve() -> Plane:
        hierarchy = module.ruge_stuben_solver(matrix)
        return np.asarray(hierarchy.solve(right, x0=right, tol=1e-4, accel="cg")).reshape(g.shape)

    return solve
