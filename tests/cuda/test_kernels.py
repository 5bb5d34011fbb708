"""The list of kernels that tools compile."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

pytest.importorskip("numba_cuda")
import sdie_fast.cuda
from sdie_fast.cuda import _catalogue, driver


def is_kernel(value):
    """Whether a module's attribute is a kernel: compiled by Numba, and no device function."""
    if not hasattr(value, "py_func"):
        return False
    if driver.simulated():
        return not value._device
    return not value.targetoptions.get("device")


def test_every_kernel_is_listed_once(cuda):
    listed = _catalogue.kernels()
    names = [name for name, _, _ in listed]
    assert len(set(names)) == len(names)
    functions = {id(function) for _, function, _ in listed}
    for module in pkgutil.iter_modules(sdie_fast.cuda.__path__):
        loaded = importlib.import_module(f"sdie_fast.cuda.{module.name}")
        for name, value in vars(loaded).items():
            assert not is_kernel(value) or id(value) in functions, f"{module.name}.{name}"


def test_signatures_have_a_type_for_each_argument(cuda):
    for name, function, signature in _catalogue.kernels():
        arguments = function.py_func.__code__.co_argcount
        assert len(signature) == arguments, name
