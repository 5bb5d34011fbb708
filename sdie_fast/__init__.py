"""Segmentation-driven image enhancement of industrial surface photographs, at line speed.

>>> import numpy as np, sdie_fast as sdie
>>> image = np.zeros((64, 64), np.uint8)
>>> out = sdie.enhance(image, {"identity": 2, "wls": 1, "sharpen": 1})
"""

from typing import TYPE_CHECKING, Any

from . import filters
from .enhance import Enhancer, clear_cache, enhance
from .errors import (
    BackendUnavailableError,
    BusyError,
    DeviceMemoryError,
    ImageFileError,
    InvalidArgumentError,
    InvalidTypeError,
    LineError,
    MissingPackageError,
    ModelError,
    RecipeError,
    SdieError,
)
from .filters import FILTERS, FilterParams
from .recipe import Recipe, default_recipe

if TYPE_CHECKING:
    from . import line

__all__ = [
    "FILTERS",
    "BackendUnavailableError",
    "BusyError",
    "DeviceMemoryError",
    "Enhancer",
    "FilterParams",
    "ImageFileError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LineError",
    "MissingPackageError",
    "ModelError",
    "Recipe",
    "RecipeError",
    "SdieError",
    "__version__",
    "clear_cache",
    "default_recipe",
    "enhance",
    "filters",
    "line",
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
    if name == "line":  # with the compiled module, which few need before their first image
        from importlib import import_module

        return import_module(".line", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
