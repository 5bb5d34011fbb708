"""What an installed package brings besides Python: the C library, its headers, what build systems look for, the models."""

from __future__ import annotations

import ctypes
import json
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import sdie_fast as sdie

FOLDER = Path(sdie.__file__).parent
LIBRARY = {"linux": "lib/libsdie_fast.so.1", "darwin": "lib/libsdie_fast.dylib", "win32": "bin/sdie_fast.dll"}


@pytest.fixture(autouse=True, scope="module")
def installed():
    """Skip where the package is a source tree."""
    try:
        distribution("sdie-fast")
    except PackageNotFoundError:
        pytest.skip("sdie-fast is not installed: this is a source tree")
    if not (FOLDER / "include").is_dir():
        pytest.skip(f"{FOLDER} is a source tree")


def test_the_c_library_loads_and_is_of_this_release():
    library = ctypes.CDLL(str(FOLDER / LIBRARY[sys.platform]))
    library.sdie_version_text.restype = ctypes.c_char_p
    header = (FOLDER / "include" / "sdie_fast.h").read_text(encoding="utf-8")
    major, minor = (int(re.search(rf"SDIE_VERSION_{part} (\d+)", header)[1]) for part in ("MAJOR", "MINOR"))
    assert library.sdie_version() == major * 1000 + minor
    assert library.sdie_version_text().decode() == sdie.__version__ == distribution("sdie-fast").version


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' linkers read no script")
def test_the_linker_is_led_to_it():
    assert (FOLDER / "lib" / "libsdie_fast.so").read_text() == "INPUT(libsdie_fast.so.1)\n"


@pytest.mark.parametrize(
    "name",
    [
        "_core.pyi",
        "include/sdie.hpp",
        "lib/cmake/sdie_fast/sdie_fastConfig.cmake",
        "lib/cmake/sdie_fast/sdie_fastConfigVersion.cmake",
        "lib/cmake/sdie_fast/sdie_fastTargets.cmake",
        "lib/pkgconfig/sdie_fast.pc",
        "models/default/recipe.json",
        "models/small_sam/encoder.onnx",
        "py.typed",
    ],
)
def test_files(name):
    assert (FOLDER / name).stat().st_size or name == "py.typed"


def test_what_a_build_system_reads_names_no_folder_of_the_machine_that_built():
    for path in [*(FOLDER / "lib" / "cmake").rglob("*.cmake"), *(FOLDER / "lib" / "pkgconfig").iterdir()]:
        assert not re.search(r"\"/(?!\")|=/", path.read_text(encoding="utf-8")), path


def test_models_are_whole():
    manifest = json.loads((FOLDER / "models" / "small_sam" / "manifest.json").read_text(encoding="utf-8"))
    assert all((FOLDER / "models" / "small_sam" / name).is_file() for name in manifest["files"])
    assert sdie.default_recipe().rounds == 5
    assert sdie.Recipe.load(FOLDER / "models" / "sdie_small").kind == "schedule"
