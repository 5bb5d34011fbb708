"""What users compose today: the filters and rounds of other libraries, listed in `PEERS`.

Each takes a uint8 plane (H, W) and gives what its library gives. A library's float32 versions get the plane as float32
in [0, 1]; to make it is not timed. Where there are several versions, all are tried at the size at hand and the fastest
is measured.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import FILTERS
from ..filters.wls import wls_matrix, wls_weights
from .setting import ROUNDS, Setting

__all__ = ["PEERS", "SAME", "SMOOTHER", "Bound", "OpenCV", "Peer", "library"]

Plane = npt.NDArray[Any]
Call = Callable[[], Any]
Make = Callable[[Plane, Setting], "Call | Mapping[str, Call]"]

SLOW = 512 * 512  # pixels of the largest plane for what takes seconds on larger ones


class Bound(NamedTuple):
    """How far an answer may lie from ours in grey levels of 255, and why that is not less."""

    largest: float
    mean: float
    why: str
    margin: int = 0  # pixels along the border that are not compared


class Peer(NamedTuple):
    """Another library's version of a case of the benchmark.

    `make(plane, setting)`, in the case "batch" of planes (N, H, W), prepares the call that is timed, or several by the
    name of their version, of which the fastest is. It raises ImportError, with the fix, where the library or a part of
    it is missing.
    """

    case: str
    name: str
    make: Make
    bound: Bound
    most_pixels: float = float("inf")


def _unit(g: Plane) -> Plane:
    unit: Plane = g.astype(np.float32) / np.float32(255)
    return unit


class OpenCV:
    """The filters by OpenCV with our default parameters: `calls` take a uint8 plane, `floats` a float32 one.

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
        if hasattr(cv2, "ocl"):
            cv2.ocl.setUseOpenCL(False)
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
        self.floats: dict[str, Callable[[Plane], Any]] = {
            "bilateral": lambda f: cv2.bilateralFilter(f, 7, 0.1, 1.5),
            "sharpen": lambda f: cv2.addWeighted(f, 1.8, cv2.GaussianBlur(f, (7, 7), 1.5), -0.8, 0.0),
            "guided": self.guided,
            "gamma": lambda f: cv2.pow(f, 0.5),
            "gaussian": lambda f: cv2.GaussianBlur(f, (7, 7), 1.5),
        }

    def guided(self, f: Plane) -> Any:
        """He et al.'s filter of a plane guided by itself, composed of box filters."""
        cv2 = self.cv2
        box = partial(cv2.boxFilter, ddepth=-1, ksize=(7, 7))
        mean = box(f)
        variance = cv2.subtract(box(cv2.multiply(f, f)), cv2.multiply(mean, mean))
        a = cv2.divide(variance, cv2.add(variance, 0.01))
        b = cv2.subtract(mean, cv2.multiply(a, mean))
        return cv2.add(cv2.multiply(box(a), f), box(b))

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

    def rounds(self, g: Plane, count: int = ROUNDS) -> Any:
        """Repeat the round, in 8 bits between."""
        for _ in range(count):
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


def _function(module: str, package: str, name: str) -> Callable[..., Any]:
    """Get a function of a peer's; raises ImportError, too, where this version has none of that name."""
    found = getattr(library(module, package), name, None)
    if found is None:
        raise ImportError(f"this version has no {module}.{name}; pip install --upgrade {package}")
    return found  # type: ignore[no-any-return]


def _opencv(name: str, *, contrib: bool = False) -> Make:
    def make(g: Plane, setting: Setting) -> Mapping[str, Call]:
        if name == "batch":  # quicker than OpenCV's threads within an image
            single, pool = OpenCV(1, contrib=contrib), ThreadPoolExecutor(setting.threads)
            return {"": lambda: np.stack(list(pool.map(single.round, g)))}
        cv = OpenCV(setting.threads, contrib=contrib)
        if name == "rounds":
            return {"": partial(cv.rounds, g, setting.rounds)}
        made: dict[str, Call] = {"uint8": partial(cv.calls[name], g)}
        if name in cv.floats:
            made["float32"] = partial(cv.floats[name], _unit(g))
        return made if len(made) > 1 else {"": made["uint8"]}

    return make


def _array(module: str, package: str, function: str, *, uint8: bool = False, **settings: Any) -> Make:
    """Make a call of a function of NumPy arrays: on float32 in [0, 1], or on uint8."""

    def make(g: Plane, _setting: Setting) -> Call:
        return partial(_function(module, package, function), g if uint8 else _unit(g), **settings)

    return make


def _skimage(name: str, **settings: Any) -> Make:
    module, function = name.split(".")
    return _array(f"skimage.{module}", "scikit-image", function, **settings)


_scipy = partial(_array, "scipy.ndimage", "scipy")


def _kornia(function: str, *arguments: Any, guide: bool = False) -> Make:
    """Make a call of kornia's on a float32 tensor (1, 1, H, W) on the CPU; its answer comes back as an array."""
    part, name = function.split(".")

    def make(g: Plane, setting: Setting) -> Call:
        call = _function(f"kornia.{part}", "kornia", name)
        torch = library("torch", "torch")
        torch.set_num_threads(setting.threads)
        x = torch.from_numpy(_unit(g))[None, None]
        images = (x, x) if guide else (x,)

        def run() -> Plane:
            with torch.inference_mode():
                return np.asarray(call(*images, *arguments)[0, 0])

        return run

    return make


def _kornia_rs(name: str, *arguments: Any) -> Make:
    """Make a call of kornia-rs' on a uint8 image (H, W, 1)."""

    def make(g: Plane, setting: Setting) -> Call:
        call = _function("kornia_rs.imgproc", "kornia-rs", name)
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if setting.threads != usable:
            raise ImportError(f"it takes every CPU and cannot be held to {setting.threads}; --threads {usable} has it")
        return lambda: np.asarray(call(g[..., None], *arguments))[..., 0]

    return make


def _system(g: Plane) -> tuple[Any, Plane]:
    """Matrix and right-hand side of exact WLS; assembling them is not timed."""
    plane = g.astype(np.float64) / 255
    return wls_matrix(*wls_weights(plane, 1.2), 1.0), plane.ravel()


def _spsolve(g: Plane, _setting: Setting) -> Call:
    """Exact WLS by SciPy's sparse direct solver."""
    from scipy.sparse.linalg import spsolve

    matrix, right = _system(g)
    columns = matrix.tocsc()
    return lambda: np.asarray(spsolve(columns, right)).reshape(g.shape)


def _pyamg(g: Plane, _setting: Setting) -> Call:
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
_LOCAL = Bound(255.0, 128.0, "another definition: contrast-limited equalisation")
_LONGER = Bound(4.0, 0.6, "a longer Gaussian")
_ROUNDED = Bound(0.6, 0.5, "ours is rounded to 8 bits")
_BOTH = Bound(1.1, 0.6, "rounded to 8 bits, both or one of them")
_TAPS = Bound(48.0, 4.0, "the square's 49 taps")
_EXACT = Bound(0.0, 0.0, "the same")
_INSIDE = Bound(0.0, 0.0, "the same; near the border, which it extends otherwise, not compared", margin=3)
_SAME_TAPS: dict[str, Any] = {"sigma": 1.5, "truncate": 2.0, "mode": "mirror"}
_WINDOW, _SIGMA = (7, 7), (1.5, 1.5)

PEERS = (
    Peer("round", "OpenCV composed", _opencv("round", contrib=True), _ROUND),
    Peer("rounds", "OpenCV composed, 8 bits between rounds", _opencv("rounds", contrib=True), _EQUALISED),
    Peer("exact-round", "OpenCV composed", _opencv("round", contrib=True), _ROUND),
    Peer("batch", "OpenCV composed, an image a thread", _opencv("batch", contrib=True), _ROUND),
    Peer("wls", "OpenCV fast global smoother", _opencv("wls", contrib=True), SMOOTHER),
    Peer("wls", "SciPy spsolve", _spsolve, _SYSTEM, SLOW),
    Peer("wls", "pyamg", _pyamg, _SYSTEM, SLOW),
    Peer("bilateral", "OpenCV", _opencv("bilateral"), Bound(2.0, 0.6, "8-bit output, range weights from a table")),
    Peer("bilateral", "kornia", _kornia("filters.bilateral_blur", _WINDOW, 0.1, _SIGMA), _TAPS, SLOW),
    Peer("bilateral", "kornia-rs", _kornia_rs("bilateral_filter", 7, 0.1 * 255, 1.5), _BOTH, SLOW),
    Peer("sharpen", "OpenCV", _opencv("sharpen"), Bound(4.0, 0.6, "8-bit blur, or not clipped")),
    Peer("sharpen", "scikit-image", _skimage("filters.unsharp_mask", radius=1.5, amount=0.8), _LONGER, SLOW),
    Peer("sharpen", "kornia", _kornia("filters.unsharp_mask", _WINDOW, _SIGMA), Bound(64.0, 4.0, "amount 1, not 0.8")),
    Peer("guided", "OpenCV", _opencv("guided", contrib=True), Bound(2.0, 0.8, "8-bit output")),
    Peer("guided", "kornia", _kornia("filters.guided_blur", _WINDOW, 0.01, guide=True), _ROUNDED),
    Peer("spatiogram", "OpenCV equalizeHist", _opencv("spatiogram"), _EQUALISED),
    Peer("spatiogram", "OpenCV CLAHE", _opencv("clahe"), _LOCAL),
    Peer("spatiogram", "scikit-image equalize_hist", _skimage("exposure.equalize_hist"), _EQUALISED, SLOW),
    Peer("spatiogram", "kornia equalize", _kornia("enhance.equalize"), _EQUALISED),
    Peer("spatiogram", "kornia-rs CLAHE", _kornia_rs("clahe", 1.0, (5, 5)), _LOCAL),
    Peer("gamma", "OpenCV", _opencv("gamma"), Bound(1.0, 0.6, "8-bit table, or not rounded")),
    Peer("gamma", "scikit-image", _skimage("exposure.adjust_gamma", gamma=0.5), _ROUNDED, SLOW),
    Peer("gamma", "kornia", _kornia("enhance.adjust_gamma", 0.5), _ROUNDED),
    Peer("median", "OpenCV", _opencv("median"), _INSIDE),
    Peer("median", "SciPy", _scipy("median_filter", uint8=True, size=7, mode="mirror"), _EXACT, SLOW),
    Peer("median", "kornia", _kornia("filters.median_blur", _WINDOW), _ROUNDED, SLOW),
    Peer("gaussian", "OpenCV", _opencv("gaussian"), Bound(1.0, 0.6, "8-bit taps, or not rounded")),
    Peer("gaussian", "SciPy", _scipy("gaussian_filter", **_SAME_TAPS), _ROUNDED, SLOW),
    Peer("gaussian", "scikit-image", _skimage("filters.gaussian", **_SAME_TAPS), _ROUNDED, SLOW),
    Peer("gaussian", "kornia", _kornia("filters.gaussian_blur2d", _WINDOW, _SIGMA), _ROUNDED),
    Peer("gaussian", "kornia-rs", _kornia_rs("gaussian_blur", _WINDOW, _SIGMA), Bound(4.0, 0.6, "8-bit taps")),
)
