"""Segmentation-driven image enhancement of industrial surface photographs, at line speed.

>>> import numpy as np, sdie_fast as sdie
>>> image = np.zeros((64, 64), np.uint8)
>>> out = sdie.enhance(image, {"identity": 2, "wls": 1, "sharpen": 1})
"""

from typing import Any

from . import filters
from .enhance import Enhancer, clear_cache, enhance
from .errors import (
    BackendUnavailableError,
    DeviceMemoryError,
    ImageFileError,
    InvalidArgumentError,
    InvalidTypeError,
    ModelError,
    RecipeError,
    SdieError,
)
from .filters import FILTERS, FilterParams
from .recipe import Recipe, default_recipe

__all__ = [
    "FILTERS",
    "BackendUnavailableError",
    "DeviceMemoryError",
    "Enhancer",
    "FilterParams",
    "ImageFileError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "ModelError",
    "Recipe",
    "RecipeError",
    "SdieError",
    "__version__",
    "clear_cache",
    "default_recipe",
    "enhance",
    "filters",
]

__version__: str


def __getattr__(name: str) -> Any:
    # Looking the version up takes longer than importing the rest of the package: only where it is
    # asked for.
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("sdie-fast")
        except PackageNotFoundError:  # a source tree that is not installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
