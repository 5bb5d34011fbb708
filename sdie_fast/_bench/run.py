"""`sdie-fast bench`: the cases, their candidates, and the comparison of answers before any is timed."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import FILTERS, FilterParams, __version__, _backends, enhance
from ..data import synthetic
from ..errors import InvalidArgumentError, SdieError
from . import peers as peer
from .timing import interleave

Plane = npt.NDArray[np.uint8]
Call = Callable[[], Any]
CASES = (
    "round",
    "rounds",
    "exact-round",
    "wls",
    "bilateral",
    "sharpen",
    "guided",
    "spatiogram",
    "batch",
)
ROUNDS = 5
BATCH = 64


def parse_size(text: str) -> tuple[int, int]:
    """Read '200' or '1024x16384' as (height, width)."""
    try:
        parts = [int(p) for p in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or min(parts, default=0) < 16:
        raise InvalidArgumentError(
            f"--size: {text!r}; HEIGHTxWIDTH of 16 or more is accepted, such as 200 or 1024x4096"
        )
    return parts[0], parts[-1]


def sample(height: int, width: int) -> Plane:
    """A synthetic strip photograph of that size, uint8."""
    tile = synthetic.surface("scratch", seed=3, size=(min(height, 512), min(width, 512))).image
    reps = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.ascontiguousarray(np.tile(tile, reps)[:height, :width])


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    isa = None
    if _backends.get("cpu").available:
        from .. import _core

        isa = _core.active_isa()
    return {
        "processor": model,
        "instruction set": isa,
        "threads": threads,
        "sdie_fast": __version__,
        "OpenCV": installed("opencv-contrib-python-headless"),
        "SciPy": installed("scipy"),
        "scikit-image": installed("scikit-image"),
        "pyamg": installed("pyamg"),
        "Python": platform.python_version(),
    }


def _one_hot(name: str) -> npt.NDArray[np.float32]:
    return np.asarray(np.eye(6, dtype=np.float32)[FILTERS.index(name)])


def _difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float]:
    """Largest and mean difference in grey levels of 255."""
    scale = [255.0 if x.dtype.kind == "f" else 1.0 for x in (a, b)]
    d = np.abs(a.astype(np.float64) * scale[0] - b.astype(np.float64) * scale[1])
    return float(d.max()), float(d.mean())


# How far a peer's answer may lie from ours, (largest, mean) in grey levels, and why that is not less.
_BOUNDS: dict[str, tuple[float, float, str]] = {
    "bilateral": (2.0, 0.6, "8-bit output, range weights from a table"),
    "sharpen": (4.0, 0.6, "8-bit blur, or a longer Gaussian"),
    "guided": (2.0, 0.8, "8-bit output"),
    "spatiogram": (255.0, 128.0, "another definition: plain equalisation"),
    "wls": (1.5, 0.5, "same system; ours is rounded to 8 bits"),
    "same": (0.0, 0.0, "threads change nothing"),
    "smoother": (128.0, 32.0, "another definition: other weights, approximate"),
    "round": (96.0, 32.0, "two of its six filters are defined otherwise"),
}


def candidates(
    case: str, g: Plane, threads: int, footprint: str, peers: bool, backend: str = "cpu"
) -> tuple[dict[str, Call], dict[str, str]]:
    """List the candidates of a case, ours first, and the kind of bound each other one is held to."""
    fast = FilterParams(wls_solver="fast", bilateral_footprint=footprint)  # type: ignore[arg-type]
    exact = FilterParams(bilateral_footprint=footprint)  # type: ignore[arg-type]
    out = np.empty_like(g)

    def ours(weights: npt.ArrayLike, params: FilterParams) -> Call:
        return lambda: enhance(g, weights, params=params, out=out, threads=threads, backend=backend)

    cv2 = peer.find("cv2") if peers else None
    cv = peer.OpenCV(cv2, threads) if cv2 is not None else None
    skimage = peer.find("skimage") if peers else None
    equal = np.ones(6)
    calls: dict[str, Call] = {}
    kinds: dict[str, str] = {}

    def add(name: str, kind: str, call: Call) -> None:
        calls[name] = call
        kinds[name] = kind

    if case in ("round", "exact-round"):
        calls["sdie_fast"] = ours(equal, fast if case == "round" else exact)
        if cv is not None:
            add("OpenCV composed", "round", lambda: cv.round(g))
    elif case == "rounds":
        calls["sdie_fast"] = ours(np.ones((ROUNDS, 6)), fast)
        if cv is not None:

            def five() -> Any:
                plane: Any = g
                for _ in range(ROUNDS):
                    plane = cv.round(plane)
                return plane

            add("OpenCV composed, 8 bits between rounds", "spatiogram", five)
    elif case == "wls":
        calls["sdie_fast exact"] = ours(_one_hot("wls"), exact)
        add("sdie_fast fast", "smoother", ours(_one_hot("wls"), fast))
        if cv is not None:
            add("OpenCV fast global smoother", "smoother", lambda: cv.wls(g))
        if peers and g.size <= 512 * 512:
            add("SciPy spsolve", "wls", peer.spsolve(g))
            amg = peer.find("pyamg")
            if amg is not None:
                add("pyamg", "wls", peer.pyamg(g, amg))
    elif case == "batch":
        batch = np.stack([np.roll(g, k, axis=1) for k in range(BATCH)])
        results = np.empty_like(batch)
        calls["sdie_fast"] = lambda: enhance(batch, equal, params=fast, out=results, threads=threads, backend=backend)
        if backend == "cpu":
            calls["sdie_fast, one thread"] = lambda: enhance(
                batch, equal, params=fast, out=results, threads=1, backend="cpu"
            )
            kinds["sdie_fast, one thread"] = "same"
    else:
        calls["sdie_fast"] = ours(_one_hot(case), exact)
        if cv is not None:
            if case == "spatiogram":
                add("OpenCV equalizeHist", "spatiogram", lambda: cv.equalise(g))
                add("OpenCV CLAHE", "spatiogram", lambda: cv.clahe(g))
            else:
                add("OpenCV", case, lambda: getattr(cv, case)(g))
        if skimage is not None and g.size <= 512 * 512:
            plane = g.astype(np.float32) / np.float32(255)
            if case == "sharpen":
                from skimage.filters import unsharp_mask

                add("scikit-image", "sharpen", lambda: unsharp_mask(plane, radius=1.5, amount=0.8))
            elif case == "spatiogram":
                from skimage.exposure import equalize_hist

                add("scikit-image equalize_hist", "spatiogram", lambda: equalize_hist(g))
    return calls, kinds


def check(case: str, name: str, kind: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> str:
    """Compare a candidate's answer with ours; returns the difference in words.

    Raises
    ------
    SdieError
        It is more than the two definitions explain.
    """
    most, mean = _difference(ours, theirs)
    limit = _BOUNDS[kind]
    if most > limit[0] or mean > limit[1]:
        raise SdieError(f"{case}: {name} differs by {most:.2f} (mean {mean:.2f}) of 255; {limit[:2]} expected")
    return f"{most:.1f} (mean {mean:.2f}) of 255: {limit[2]}"


@contextlib.contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Hold BLAS and OpenMP to the same threads, where threadpoolctl is there to do it."""
    control = peer.find("threadpoolctl")
    with control.threadpool_limits(threads) if control is not None else contextlib.nullcontext():
        yield


def measure(
    *,
    sizes: list[tuple[int, int]],
    cases: list[str] | None,
    threads: int,
    peers: bool,
    repeats: int,
    footprint: str,
    backend: str = "cpu",
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Compare and time every case at every size; returns {"machine": ..., "rows": [...]}.

    Raises
    ------
    InvalidArgumentError, BackendUnavailableError
        Unknown case, footprint or backend, or a backend that cannot run here.
    SdieError
        A peer's answer lies further from ours than its definition explains: nothing is timed.
    """
    chosen = cases if cases else list(CASES)
    for case in chosen:
        if case not in CASES:
            raise InvalidArgumentError(f"--case: {case!r}; accepted are {', '.join(CASES)}")
    found = _backends.resolve(backend)
    rows = []
    with _limited(threads):
        for height, width in sizes:
            g = sample(height, width)
            for case in chosen:
                if progress is not None:
                    progress(f"{case} at {height} x {width}")
                calls, kinds = candidates(case, g, threads, footprint, peers, found.name)
                first = next(iter(calls))
                answers = {name: np.array(call()) for name, call in calls.items()}
                differences = {first: ""}
                for name, kind in kinds.items():
                    differences[name] = check(case, name, kind, answers[first], answers[name])
                times = interleave(calls, repeats)
                pixels = g.size * (BATCH if case == "batch" else ROUNDS if case == "rounds" else 1)
                for name, t in times.items():
                    rows.append(
                        {
                            "case": case,
                            "size": f"{height}x{width}",
                            "candidate": name,
                            "median_ms": t.median * 1e3,
                            "iqr_ms": t.iqr * 1e3,
                            "p99_ms": t.p99 * 1e3,
                            "best_ms": t.best * 1e3,
                            "samples": t.samples,
                            "mpx_per_s": pixels / t.median / 1e6,
                            "ratio": t.median / times[first].median,
                            "difference": differences[name],
                        }
                    )
    device = {"backend": found.name, "device": found.note} if found.name != "cpu" else {}
    return {"machine": machine(threads) | device, "rows": rows}
