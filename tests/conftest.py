"""Fixtures shared by the tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import sdie_fast
from sdie_fast import _backends

# Kernels are checked on many small images rather than against the clock.
settings.register_profile("sdie", deadline=None, max_examples=40)
settings.load_profile("sdie")


@pytest.fixture(scope="session", params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu", "reference"])
def backend(request):
    """Name of each backend that can run here; Numba's simulator has tests of its own."""
    found = _backends.get(request.param)
    if not found.available:
        pytest.skip(f"backend {found.name}: {found.reason}")
    return found.name


@pytest.fixture(scope="session")
def compiled():
    """Name of the compiled backend, for what is compared with the reference."""
    found = _backends.get("cpu")
    if not found.available:
        pytest.skip(f"backend {found.name}: {found.reason}")
    return found.name


@pytest.fixture(scope="session", params=["x86-64-v2", "x86-64-v3", "x86-64-v4", "neon", "baseline"])
def isa(request, compiled):
    """Name of each instruction set that was compiled and that this processor has."""
    if request.param not in importlib.import_module("sdie_fast._core").isas():
        pytest.skip(f"{request.param}: not built, or not run by this processor")
    return request.param


@pytest.fixture(scope="session")
def data():
    """Folder of real defect photographs: $SDIE_FAST_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SDIE_FAST_DATA", beside))
    if not (folder / "defects-dev").is_dir():
        pytest.skip(f"no real images in {folder}: set SDIE_FAST_DATA to the folder of defects-dev")
    return folder


@pytest.fixture
def python(tmp_path):
    """Run Python code in a fresh process that finds the same package; returns what it prints."""

    def run(code, package_root=Path(sdie_fast.__file__).parents[1], **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            # It comes first on the path: not a checkout without its compiled module.
            cwd=tmp_path,
            env={**os.environ, **environment, "PYTHONPATH": str(package_root)},
        ).stdout.strip()

    return run


@pytest.fixture
def rng():
    """A seeded random generator."""
    return np.random.default_rng(20240601)


@pytest.fixture(scope="session")
def picture():
    """Draws a picture: `picture(rng, shape, dtype)`."""

    def draw(rng, shape, dtype):
        """Return smooth structure and noise, over the whole range of the dtype."""
        rows, columns = shape[-3:-1] if len(shape) > 2 and shape[-1] == 3 else shape[-2:]
        y, x = np.mgrid[:rows, :columns]
        base = 0.5 + 0.3 * np.sin(0.3 * x) * np.cos(0.2 * y) + 0.2 * (x > columns // 2)
        if len(shape) > 2 and shape[-1] == 3:
            base = base[..., None]
        values = np.clip(base + 0.1 * rng.standard_normal(shape), 0, 1)
        white = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
        return (values * white).astype(dtype) if white == 1 else np.rint(values * white).astype(dtype)

    return draw


@pytest.fixture
def plane(rng):
    """A wavy, noisy float64 surface with a dark patch, in [0, 1]."""
    y, x = np.mgrid[:60, :75]
    g = 0.45 + 0.2 * np.sin(x / 9) * np.cos(y / 7) + 0.08 * rng.standard_normal(x.shape)
    g[20:30, 30:50] = 0.1
    return np.clip(g, 0.0, 1.0)
