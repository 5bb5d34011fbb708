"""Loaded by Python at its start where `run` put this folder on its path: Numba's cubins become translated kernels."""

import hashlib
import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path

CODEGEN = "numba.cuda.codegen"


def translated(library, capability=None):
    """Stand in for `CUDACodeLibrary.get_cubin`: the path of a compiled translation, as the emulated driver takes it."""
    import translate
    from cuda.core import ObjectCode

    capability = library._ensure_cc(capability)
    if not hasattr(library, "_translated"):  # where the package kept it on disk too: the path it names may be gone
        library._translated = True
        code = "\n".join(map(str, library.llvm_strs))
        kept = Path(os.environ["EMULATOR_CACHE"]) / "ptx" / f"{hashlib.sha1(code.encode()).hexdigest()}.ptx"
        if not kept.exists():
            ptx = library.get_lto_ptx(capability) if library._lto else library.get_asm_str(capability)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(ptx.replace("\0", ""))
        path = translate.build(kept.read_text())
        library._cubin_cache[capability] = ObjectCode.from_cubin(b"EMULATED:" + path.encode() + b"\0" * 64, name="x")
        library._linkerinfo_cache[capability] = ""
    return library._cubin_cache[capability]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Numba's code generator as ever, and changes it when it is loaded."""

    _found = False

    def find_spec(self, name, path, target=None):
        if name != CODEGEN or self._found:
            return None
        self._found = True  # the import system asks again, below
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.CUDACodeLibrary.get_cubin = translated

        spec.loader.exec_module = exec_module
        return spec


if "EMULATOR_CACHE" in os.environ:
    sys.meta_path.insert(0, _Finder())
