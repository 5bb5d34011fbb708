"""What users compose today: the filters and rounds of OpenCV, SciPy, scikit-image and pyamg, listed in `PEERS`.

Each takes a uint8 plane (H, W) and gives what its library gives. Where a library offers uint8 and float32 versions, the
one that is faster on 200 x 200 images is used (uint8 for OpenCV's bilateral, smoother and guided filter).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import FILTERS
from ..filters.wls import wls_matrix, wls_weights

__all__ = ["PEERS", "ROUNDS", "SAME", "SMOOTHER", "Bound", "OpenCV", "Peer"]

Plane = npt.NDArray[Any]
Call = Callable[[], Any]

ROUNDS = 5  # of the case "rounds"
SLOW = 512 * 512  # pixels of the largest plane for libraries that take minutes on larger ones


class Bound(NamedTuple):
    """How far an answer may lie from ours in grey levels of 255, and why that is not less."""

    largest: float
    mean: float
    why: str
    margin: int = 0  # pixels along the border that are not compared


class Peer(NamedTuple):
    """Another library's version of a case of the benchmark.

    `make(plane, threads)` prepares the call that is timed. It raises ImportError, with the fix, where
    the library or a part of it is missing.
    """

    case: str
    name: str
    make: Callable[[Plane, int], Call]
    bound: Bound
    most_pixels: float = float("inf")


class OpenCV:
    """The filters by OpenCV with our default parameters: `calls`, each of a plane.

    Raises
    ------
    ImportError
        There is no OpenCV, or `contrib` is asked for and this one has no ximgproc.
    """

    def __init__(self, threads: int, *, contrib: bool = False) -> None:
        self.cv2 = cv2 = library("cv2", "opencv-contrib-python-headless")
        if contrib and not hasattr(cv2, "ximgproc"):
            raise ImportError(
                f"OpenCV {cv2.__version__} is installed without its contrib modules (ximgproc); "
                "pip install opencv-contrib-python-headless in its place"
            )
        cv2.setNumThreads(threads)
        clahe = cv2.createCLAHE(1.0, (5, 5))
        root = np.rint(255 * np.sqrt(np.arange(256) / 255)).astype(np.uint8)
        self.calls: dict[str, Callable[[Plane], Any]] = {
            "identity": lambda g: g,
            # Min et al.'s fast global smoother: an approximation, with other weights than Farbman's.
            "wls": lambda g: cv2.ximgproc.fastGlobalSmootherFilter(g, g, 1.0, 10.0),
            "bilateral": lambda g: cv2.bilateralFilter(g, 7, 0.1 * 255, 1.5),  # the 29 taps of the disk
            "sharpen": lambda g: cv2.addWeighted(g, 1.8, cv2.GaussianBlur(g, (7, 7), 1.5), -0.8, 0.0),
            "guided": lambda g: cv2.ximgproc.guidedFilter(g, g, 3, 0.01 * 255 * 255),
            "spatiogram": cv2.equalizeHist,  # the cheapest that can stand in its place
            "gamma": lambda g: cv2.LUT(g, root),
            "median": lambda g: cv2.medianBlur(g, 7),  # the border's pixels are repeated
            "gaussian": lambda g: cv2.GaussianBlur(g, (7, 7), 1.5),
            "clahe": clahe.apply,
            "round": self.round,
            "rounds": self.rounds,
        }

    def round(self, g: Plane, filters: Iterable[str] = FILTERS) -> Any:
        """One round, all weights equal, as a call for each filter and a weighted sum."""
        calls = [self.calls[name] for name in filters]
        share, add = 1 / len(calls), partial(self.cv2.addWeighted, gamma=0.0, dtype=self.cv2.CV_32F)
        total = calls[0](g)
        if len(calls) > 1:
            total = add(total, share, calls[1](g), share)
        for call in calls[2:]:
            total = add(total, 1.0, call(g), share)
        return self.cv2.convertScaleAbs(total)

    def rounds(self, g: Plane) -> Any:
        """Repeat the round, in 8 bits between."""
        for _ in range(ROUNDS):
            g = self.round(g)
        return g


def library(module: str, package: str) -> Any:
    """Import a peer's module.

    Raises
    ------
    ImportError
        It is not installed: the package to install is named.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} does not load ({error}); pip install {package}") from error


def _opencv(name: str, *, contrib: bool = False) -> Callable[[Plane, int], Call]:
    return lambda g, threads: partial(OpenCV(threads, contrib=contrib).calls[name], g)


def _skimage(function: str, **settings: Any) -> Callable[[Plane, int], Call]:
    """Make a call of scikit-image's on float32 in [0, 1]."""
    module, name = function.split(".")

    def make(g: Plane, _threads: int) -> Call:
        call = getattr(library(f"skimage.{module}", "scikit-image"), name)
        return partial(call, g.astype(np.float32) / np.float32(255), **settings)

    return make


def _system(g: Plane) -> tuple[Any, Plane]:
    """Matrix and right-hand side of exact WLS; assembling them is not timed."""
    plane = g.astype(np.float64) / 255
    return wls_matrix(*wls_weights(plane, 1.2), 1.0), plane.ravel()


def _spsolve(g: Plane, _threads: int) -> Call:
    """Exact WLS by SciPy's sparse direct solver."""
    from scipy.sparse.linalg import spsolve

    matrix, right = _system(g)
    columns = matrix.tocsc()
    return lambda: np.asarray(spsolve(columns, right)).reshape(g.shape)


def _pyamg(g: Plane, _threads: int) -> Call:
    """Exact WLS by Ruge-Stueben multigrid, set up and used in CG."""
    pyamg = library("pyamg", "pyamg")
    matrix, right = _system(g)

    def solve() -> Plane:
        hierarchy = pyamg.ruge_stuben_solver(matrix)
        return np.asarray(hierarchy.solve(right, x0=right, tol=1e-4, accel="cg")).reshape(g.shape)

    return solve


SAME = Bound(0.0, 0.0, "threads change nothing")
SMOOTHER = Bound(128.0, 32.0, "another definition: other weights, approximate")
_SYSTEM = Bound(1.5, 0.5, "same system; ours is rounded to 8 bits")
_ROUND = Bound(96.0, 32.0, "two of its six filters are defined otherwise")
_EQUALISED = Bound(255.0, 128.0, "another definition: plain equalisation")
_LONGER = Bound(4.0, 0.6, "a longer Gaussian")
_SAME_TAPS = {"sigma": 1.5, "truncate": 2.0, "mode": "mirror"}
_ROUNDED = Bound(0.6, 0.5, "ours is rounded to 8 bits")
_INSIDE = Bound(0.0, 0.0, "the same; near the border, which it extends otherwise, not compared", margin=3)

PEERS = (
    Peer("round", "OpenCV composed", _opencv("round", contrib=True), _ROUND),
    Peer("rounds", "OpenCV composed, 8 bits between rounds", _opencv("rounds", contrib=True), _EQUALISED),
    Peer("exact-round", "OpenCV composed", _opencv("round", contrib=True), _ROUND),
    Peer("wls", "OpenCV fast global smoother", _opencv("wls", contrib=True), SMOOTHER),
    Peer("wls", "SciPy spsolve", _spsolve, _SYSTEM, SLOW),
    Peer("wls", "pyamg", _pyamg, _SYSTEM, SLOW),
    Peer("bilateral", "OpenCV", _opencv("bilateral"), Bound(2.0, 0.6, "8-bit output, range weights from a table")),
    Peer("sharpen", "OpenCV", _opencv("sharpen"), Bound(4.0, 0.6, "8-bit blur")),
    Peer("sharpen", "scikit-image", _skimage("filters.unsharp_mask", radius=1.5, amount=0.8), _LONGER, SLOW),
    Peer("guided", "OpenCV", _opencv("guided", contrib=True), Bound(2.0, 0.8, "8-bit output")),
    Peer("spatiogram", "OpenCV equalizeHist", _opencv("spatiogram"), _EQUALISED),
    Peer("spatiogram", "OpenCV CLAHE", _opencv("clahe"), _EQUALISED),
    Peer("spatiogram", "scikit-image equalize_hist", _skimage("exposure.equalize_hist"), _EQUALISED, SLOW),
    Peer("gamma", "OpenCV LUT", _opencv("gamma"), Bound(1.0, 0.1, "both are rounded, halves either way")),
    Peer("gamma", "scikit-image", _skimage("exposure.adjust_gamma", gamma=0.5), _ROUNDED, SLOW),
    Peer("median", "OpenCV", _opencv("median"), _INSIDE),
    Peer("gaussian", "OpenCV", _opencv("gaussian"), Bound(1.0, 0.6, "8-bit taps")),
    Peer("gaussian", "scikit-image", _skimage("filters.gaussian", **_SAME_TAPS), _ROUNDED, SLOW),
)
