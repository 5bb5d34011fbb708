"""The list of kernels that tools compile, and launches."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda")
import sdie_fast.cuda
from sdie_fast.cuda import driver, kernels


def is_kernel(value):
    """Whether a module's attribute is a kernel: compiled by Numba, and no device function."""
    if not hasattr(value, "py_func"):
        return False
    if driver.simulated():
        return not value._device
    return not value.targetoptions.get("device")


def test_every_kernel_is_listed_once_with_a_type_for_each_argument(cuda):
    listed = kernels.every_kernel()
    assert len({name for name, _, _ in listed}) == len(listed)
    functions = {id(function) for _, function, _ in listed}
    for module in pkgutil.iter_modules(sdie_fast.cuda.__path__):
        loaded = importlib.import_module(f"sdie_fast.cuda.{module.name}")
        for name, value in vars(loaded).items():
            assert not is_kernel(value) or id(value) in functions, f"{module.name}.{name}"
    for name, function, signature in listed:
        plain = getattr(function, "py_func", None) or function.fn
        assert len(signature) == plain.__code__.co_argcount, name


def test_the_filters_are_the_tables_and_each_part_has_its_file():
    assert sorted(sdie_fast.cuda.FILTERS) == sorted(sdie_fast.filters.TABLE)
    files = Path(sdie_fast.cuda.__file__).parent.glob("parts/[a-z]*.py")
    assert sorted(f.stem for f in files) == sorted(sdie_fast.cuda.LOCAL)


def test_a_grid_is_cut_into_launches_that_cover_it(monkeypatch):
    monkeypatch.setattr(kernels, "GRID_LIMIT", 3)
    covered = np.zeros((7, 5), int)
    for y, z, along_y, along_z in kernels.pieces(7, 5):
        assert along_y <= 3 >= along_z
        covered[y : y + along_y, z : z + along_z] += 1
    assert (covered == 1).all()
