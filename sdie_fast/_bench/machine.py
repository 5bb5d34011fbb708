"""The machine that figures come from: what it is, and how noisy it was meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, _backends
from .peers import library
from .timing import Timer, by_host

__all__ = ["Watch", "held", "installed", "machine", "reference_loop", "warnings"]

OPENCV = (
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-python",
)
_CPU = Path("/sys/devices/system/cpu/cpu0")
# Beyond these a machine is too noisy to tell small differences; of the load, what exceeds the CPUs left over counts.
_SPREAD, _STEAL, _LOAD = 0.25, 0.02, 0.5


def installed(*packages: str) -> str | None:
    """Version of the first of these packages that is installed."""
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _cpuinfo(key: str) -> str | None:
    lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), None)


def _processor() -> str:
    """Name, and what tells apart those of one name."""
    name = _cpuinfo("model name")
    return f"{name} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})" if name else platform.processor()


def _caches() -> str | None:
    """Caches of the first CPU, as 'L1d 48K, L2 2048K'; instructions' left out."""
    found = []
    for folder in sorted((_CPU / "cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if level and size and kind != "Instruction":
            found.append(f"L{level}{'d' if kind == 'Data' else ''} {size}")
    return ", ".join(found) or None


def _frequency() -> str | None:
    """Of the first CPU now, and at most where the system says it."""
    now, most = (_read(_CPU / "cpufreq" / f"{name}_freq") for name in ("scaling_cur", "cpuinfo_max"))
    if now and most:
        return f"{int(now) / 1e6:.2f} of {int(most) / 1e6:.2f} GHz"
    listed = _cpuinfo("cpu MHz")
    return listed and f"{float(listed) / 1e3:.2f} GHz"


def machine(threads: int | str) -> dict[str, str | int | None]:
    """What figures depend on: processor, instruction set, threads, versions (None: not known, or not installed)."""
    isa = None
    if _backends.get("cpu").available:
        from .. import _core

        isa = _core.active_isa()
    return {
        "processor": _processor(),
        "instruction set": isa,
        "CPUs": os.cpu_count(),
        "caches": _caches(),
        "frequency": _frequency(),
        "governor": _read(_CPU / "cpufreq" / "scaling_governor"),
        "threads": threads,
        "sdie_fast": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "OpenCV": installed(*OPENCV),
        "SciPy": installed("scipy"),
        "scikit-image": installed("scikit-image"),
        "pyamg": installed("pyamg"),
        "kornia": installed("kornia"),
        "kornia-rs": installed("kornia-rs"),
    }


@contextlib.contextmanager
def held(threads: int) -> Iterator[bool]:
    """Hold BLAS and OpenMP to so many threads; False where threadpoolctl is missing, and they are not held."""
    try:
        limits = library("threadpoolctl", "threadpoolctl").threadpool_limits(threads)
    except ImportError:
        yield False
        return
    with limits:
        yield True


def reference_loop() -> Timer:
    """Work that is always the same, in the first cache, about 0.1 ms: how its time varies is the machine's doing."""
    a, b = np.linspace(0.5, 1.0, 4096, dtype=np.float32), np.empty(4096, np.float32)

    def loop() -> None:
        for _ in range(100):
            np.multiply(a, a, out=b)

    return by_host(loop)


def _jiffies() -> tuple[int, int] | None:
    """All and stolen time of all CPUs since the start, in the system's units."""
    first = (_read(Path("/proc/stat")) or "").split("\n", 1)[0].split()
    if first[:1] != ["cpu"] or len(first) < 9:
        return None
    numbers = [int(n) for n in first[1:9]]
    return sum(numbers), numbers[7]


def warnings(load: float | None, steal: float | None, spread: float, threads: int) -> list[str]:
    """Say in words what made a machine too noisy, of what `Watch.noise` tells; `threads` is what the run needs."""
    found = []
    if spread > _SPREAD:
        found.append(
            f"a loop of constant work varied by {spread:.0%} (10th to 90th percentile): the processor's speed "
            "changed, or others used it"
        )
    if steal is not None and steal > _STEAL:
        found.append(f"the hypervisor gave {steal:.1%} of the processors' time to others")
    if load is not None and load > max(0, (os.cpu_count() or 1) - threads) + _LOAD:
        found.append(f"the load was {load:.1f} in the minute before: others may have used the processors, too")
    return found


class Watch:
    """Notes the load before a run and, after it, what the hypervisor took and how a loop of constant work varied."""

    def __init__(self, threads: int) -> None:
        self._began = time.time()
        self._threads = threads
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._before = _jiffies()

    def noise(self, reference: Sequence[float]) -> dict[str, Any]:
        """Tell of the time since then.

        Parameters
        ----------
        reference : sequence of float
            Seconds of `reference_loop`, taken over the whole run.

        Returns
        -------
        dict
            "load": average of the minute before, or None; "steal": share of all CPUs' time, or None; "reference_ms":
            median of the loop; "spread": from its 10th to its 90th percentile, over the median; "warnings": in words.
        """
        after, steal = _jiffies(), None
        if self._before is not None and after is not None:
            steal = (after[1] - self._before[1]) / max(1, after[0] - self._before[0])
        low, median, high = np.quantile(reference, (0.1, 0.5, 0.9))
        spread = float((high - low) / median)
        return {
            "seconds": round(time.time() - self._began, 1),
            "load": self._load,
            "steal": steal,
            "reference_ms": float(median) * 1e3,
            "spread": spread,
            "warnings": warnings(self._load, steal, spread, self._threads),
        }
