"""Every kernel of the package, and its PTX without a GPU: for tools and tests."""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Callable
from typing import Any

Kernel = tuple[str, Callable[..., Any], tuple[Any, ...]]


def kernels() -> list[Kernel]:
    """List (name, compiled function, types of its arguments), from each module's ``KERNELS``."""
    package = importlib.import_module(__package__)
    found: list[Kernel] = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        if module.name not in {"_catalogue"}:
            loaded = importlib.import_module(f"{__package__}.{module.name}")
            found += [
                (f"{module.name}: {name}", function, signature)
                for name, function, signature in getattr(loaded, "KERNELS", ())
            ]
    return found


def ptx(function: Any, signature: tuple[Any, ...], capability: tuple[int, int] = (9, 0)) -> str:
    """Compile a kernel to PTX for a compute capability, as a launch would; needs no driver.

    Not in the simulator, which compiles nothing.
    """
    from numba import cuda
    from numba.cuda import dispatcher

    # Numba asks the current device for its capability when a kernel calls a device function, even
    # if the kernel is compiled for another one.
    device = types.SimpleNamespace(compute_capability=capability)
    saved = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: device
    try:
        text, _ = cuda.compile_ptx(
            function.py_func,
            signature,
            cc=capability,
            fastmath=bool(function.targetoptions.get("fastmath")),
        )
    finally:
        dispatcher.get_current_device = saved
    return str(text)
