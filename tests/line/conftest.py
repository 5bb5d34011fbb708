"""What the line's tests need: an installed libsdie_fast, programs built against it, files of recipes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from integrator import ROOT, need, run

import sdie_fast as sdie
from sdie_fast.line import export


@pytest.fixture(scope="session")
def prefix():
    """Folder that CMake installed into, without Python: $SDIE_FAST_PREFIX."""
    if "SDIE_FAST_PREFIX" not in os.environ:
        pytest.skip("SDIE_FAST_PREFIX names no folder that `cmake --install` wrote to; .ci/run makes one")
    return Path(os.environ["SDIE_FAST_PREFIX"])


@pytest.fixture(scope="session")
def package():
    """Folder of the installed Python package, with the library inside."""
    folder = Path(sdie.__file__).parent
    if not (folder / "lib" / "cmake").is_dir():
        pytest.skip(f"{folder} has no library: the package was built in place, not installed")
    return folder


@pytest.fixture(params=["prefix", "package"])
def installed(request):
    """Each folder that an integrator may link from: `include` and `lib` lie in it."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def build(tmp_path):
    """Build an example by its CMakeLists.txt; returns the folder of the build."""
    need("cmake", "g++", "make")

    def build(source, *prefixes):
        folder = tmp_path / f"build-{source.name}"
        found = ";".join(map(str, prefixes))
        run(
            "cmake",
            "-S",
            source,
            "-B",
            folder,
            f"-DCMAKE_PREFIX_PATH={found}",
            "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
        )
        run("cmake", "--build", folder)
        return folder

    return build


@pytest.fixture(scope="session")
def examples():
    """Folder of the examples."""
    return ROOT / "examples"


@pytest.fixture
def steel(tmp_path):
    """A recipe of two rounds and its file, as (recipe, path)."""
    weights = [[0.4, 0, 0.3, 0.2, 0, 0.1], [0.5, 0, 0, 0.2, 0.3, 0]]
    recipe = sdie.Recipe(weights, sdie.FilterParams(sharpen_amount=1.5, bilateral_sigma_range=0.2), "steel")
    return recipe, export(recipe, tmp_path / "steel.line")
