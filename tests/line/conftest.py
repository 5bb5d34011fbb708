"""What the line's tests need: an installed libsdie_fast, programs built against it, files of recipes."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import pytest
from integrator import GSTREAMER, ROOT, need, package_reason, run

import sdie_fast as sdie
from sdie_fast.line import export


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    """Folder that CMake installed into, without Python: $SDIE_FAST_PREFIX, or a build of this checkout.

    With pytest-xdist the workers share it.
    """
    if "SDIE_FAST_PREFIX" in os.environ:
        return Path(os.environ["SDIE_FAST_PREFIX"])
    need("cmake", "g++", "make")
    if not (ROOT / "csrc").is_dir():
        pytest.skip("no source of the library beside the tests")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    built, installed = shared / "line-build", shared / "line-prefix"
    with (shared / "line-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.is_dir():
            element = "ON" if package_reason("gstreamer-video-1.0", GSTREAMER) is None else "OFF"
            run("cmake", "-S", ROOT, "-B", built, "-DSDIE_MODULE=OFF", f"-DSDIE_GSTREAMER={element}")
            assert not re.search("^_?(Python|nanobind)", (built / "CMakeCache.txt").read_text(), re.M), (
                "it wants Python"
            )
            run("cmake", "--build", built, "--parallel", "2")
            run("cmake", "--install", built, "--prefix", installed)
    return installed


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
