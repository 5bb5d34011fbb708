"""`sdie-fast doctor`: what is installed, what can run here, and what to do about the rest."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.table import Table
from rich.text import Text

from .. import __version__, _backends, _validate
from ..segment.onnx import available

_PACKAGES = (
    "numpy", "scipy", "pillow", "onnxruntime", "onnxruntime-gpu", "numba", "numba-cuda", "cuda-bindings", "cupy", "torch",
    "segment-anything", "opencv-contrib-python-headless", "scikit-image", "pyamg",
)  # fmt: skip


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _proved(backend: _backends.Backend) -> _backends.Backend:
    """Whether kernels run is known when one has been compiled and run: here there is time for that."""
    if backend.name != "cuda" or not backend.available:
        return backend
    from ..cuda import driver

    found = driver.proved()
    return dataclasses.replace(backend, available=found.available, reason=found.reason, fix=found.fix)


def examine() -> dict[str, Any]:
    """Gather the facts; nothing here fails because something is missing."""
    backends = [_proved(b) for b in _backends.backends()]
    usable = [b.name for b in backends if b.available]
    host = [name for name in _backends.HOST if name in usable]
    core: dict[str, Any] | None = None
    if "cpu" in usable:
        from .. import _core

        core = {**_core.build_info(), "runnable": _core.isas(), "active": _core.active_isa()}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "core": core,
        "SDIE_FAST_ISA": os.environ.get("SDIE_FAST_ISA"),
        "backends": [
            {"name": b.name, "available": b.available, "reason": b.reason, "fix": b.fix, "note": b.note}
            for b in backends
        ],
        "auto": host[0] if host else None,
        "auto_on_device": "cuda" if "cuda" in usable else None,
        "segmentation": [
            {"provider": name, "available": not reason, "reason": reason} for name, reason in available().items()
        ],
        "threads": {"default": _validate.threads(None), "cpu_count": os.cpu_count()},
        "packages": {name: _installed(name) for name in _PACKAGES},
        "usable": bool(usable),
    }


def table(facts: dict[str, Any]) -> Table:
    """Lay out what `examine` found."""
    rows = {
        "sdie_fast": facts["version"],
        "Python": f"{facts['python']} ({facts['executable']})",
        "platform": facts["platform"],
    }
    core = facts["core"]
    if core is not None:
        rows["compiled core"] = f"{core['compiler']}, {core['build_type']}"
        rows["instruction sets"] = f"{core['isas']}; in use: {core['active']}"
    rows["SDIE_FAST_ISA"] = facts["SDIE_FAST_ISA"] or "not set"
    for b in facts["backends"]:
        state = "available" if b["available"] else f"missing: {b['reason']}. To fix: {b['fix']}"
        rows[f"backend {b['name']}"] = state + (f": {b['note']}" if b["note"] else "")
    host, device = facts["auto"] or "none can run", facts["auto_on_device"] or "none can run"
    rows["backend auto"] = f"{host}; for arrays on a CUDA device: {device}"
    for p in facts["segmentation"]:
        rows[f"segmentation on {p['provider']}"] = "available" if p["available"] else f"missing: {p['reason']}"
    rows["threads"] = "{default} of {cpu_count} CPUs".format(**facts["threads"])
    rows |= {name: found or "not installed" for name, found in facts["packages"].items()}
    laid = Table(show_header=False, box=None, pad_edge=False)
    laid.add_column(no_wrap=True)
    laid.add_column(overflow="fold")
    for name, told in rows.items():
        laid.add_row(name, Text(told))  # as it is: what pip takes has brackets
    return laid
