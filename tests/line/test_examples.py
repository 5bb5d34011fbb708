"""The library as an integrator gets it: what is installed, and the examples built against it."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from integrator import ROOT, need, run

import sdie_fast as sdie
from sdie_fast.line import export

HEIGHT, WIDTH, FRAMES = 90, 131, 3


@pytest.fixture
def raw(rng, picture, tmp_path):
    """Frames of Mono8 and a file of them."""
    frames = picture(rng, (FRAMES, HEIGHT, WIDTH), np.uint8)
    path = tmp_path / "in.raw"
    frames.tofile(path)
    return frames, path


def read(path):
    return np.fromfile(path, np.uint8).reshape(FRAMES, HEIGHT, WIDTH)


def test_what_is_installed(installed):
    """Headers, the library, CMake's package, pkg-config's file; nothing of the C++ library is seen from outside."""
    lib = installed / "lib"
    for file in (installed / "include" / "sdie_fast.h", installed / "include" / "sdie.hpp", lib / "libsdie_fast.so.1"):
        assert file.is_file(), file
    assert {f.name for f in (lib / "cmake" / "sdie_fast").iterdir()} >= {
        "sdie_fastConfig.cmake",
        "sdie_fastConfigVersion.cmake",
        "sdie_fastTargets.cmake",
    }
    need("nm", "readelf")
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", lib / "libsdie_fast.so.1").splitlines()]
    functions = [name for name in names if name.startswith("sdie_") and name.endswith("@@SDIE_FAST_1.0")]
    assert len(functions) > 20
    assert sorted(set(names) - set(functions)) in ([], ["SDIE_FAST_1.0"])
    dynamic = run("readelf", "-d", lib / "libsdie_fast.so.1")
    assert "[libsdie_fast.so.1]" in dynamic
    assert "libstdc++" not in dynamic
    assert "libgcc" not in dynamic


def test_no_file_in_the_package_is_a_link(package):
    """Wheels cannot hold links."""
    assert not [f for part in ("lib", "include") for f in (package / part).rglob("*") if f.is_symlink()]


def test_wrapper(installed, tmp_path):
    """Every function of sdie.hpp."""
    need("g++")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", f"-I{installed / 'include'}"]
    link = [f"-L{installed / 'lib'}", f"-Wl,-rpath,{installed / 'lib'}", "-lsdie_fast"]
    run("g++", *flags, ROOT / "tests" / "line" / "wrapper.cpp", "-o", tmp_path / "wrapper", *link)
    assert run(tmp_path / "wrapper") == "done\n"


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_pkg_config(compiler, linker, installed, tmp_path, examples):
    """One command, by both compilers and each linker there is; the headers are C99 and C++17 to the letter."""
    need("pkg-config", compiler, "ld" if linker == "bfd" else f"ld.{linker}")
    env = {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "sdie_fast", env=env).split()
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic-errors", "-Werror"]
    how = [f"-fuse-ld={linker}", f"-Wl,-rpath,{installed / 'lib'}"]
    program = tmp_path / "line"
    run(compiler, "-std=c99", *strict, examples / "c" / "line.c", "-o", program, *flags, *how)
    assert f"libsdie_fast {sdie.__version__}," in run(program, "-n", "1", "-s", "50x40")
    if linker == "bfd":
        cpp = [compiler.replace("gcc", "g++").replace("clang", "clang++"), "-std=c++17", "-pthread"]
        run(*cpp, *strict, examples / "cpp" / "line.cpp", "-o", tmp_path / "cpp", *flags, *how)


def test_the_folder_may_be_moved(installed, tmp_path, examples, build):
    """No file says where it was installed."""
    moved = tmp_path / "elsewhere" / installed.name
    for part in ("include", "lib"):
        shutil.copytree(installed / part, moved / part, symlinks=True)
    for file in (moved / "lib").rglob("*"):
        if file.suffix in (".cmake", ".pc"):
            assert str(installed) not in file.read_text(), file
    # The package's folder is found by its own name: CMake's files begin at the folder above it.
    program = build(examples / "c", moved) / "line"
    assert str(moved) in run("ldd", program)
    assert "1 frames" in run(program, "-n", "1", "-s", "50x40")


def test_a_version_that_is_not_there(installed, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(x NONE)\nfind_package(sdie_fast 99 REQUIRED)\n"
    )
    need("cmake")
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={installed}"]
    failed = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert '"99"' in failed.stderr
    assert "version: 1.0" in failed.stderr


def test_c(installed, examples, build, raw, steel, tmp_path):
    """Frames of a file through a file's recipe: what Python makes of them."""
    (frames, path), (recipe, line), out = raw, steel, tmp_path / "out.raw"
    program = build(examples / "c", installed) / "line"
    said = run(program, "-r", line, "-s", f"{WIDTH}x{HEIGHT}", "-i", path, "-o", out, "-t", "2")
    assert f"{WIDTH} x {HEIGHT} Mono8, 2 rounds" in said
    assert f"{FRAMES} frames, 0 late, 0 shortened" in said
    np.testing.assert_array_equal(read(out), [sdie.Enhancer(recipe)(frame)[0] for frame in frames])


def test_c_without_a_recipe(installed, examples, build, raw, tmp_path):
    """Weights and a parameter that are set in code."""
    (frames, path), out = raw, tmp_path / "out.raw"
    program = build(examples / "c", installed) / "line"
    run(program, "-s", f"{WIDTH}x{HEIGHT}", "-i", path, "-o", out)
    weights = {"identity": 0.4, "bilateral": 0.3, "sharpen": 0.3}
    np.testing.assert_array_equal(read(out), [sdie.enhance(frame, [weights] * 2) for frame in frames])


def test_the_files_recipe(examples, tmp_path):
    """The file of the recipe that ships."""
    assert export(sdie.default_recipe(), tmp_path / "line").read_text() == (examples / "default.line").read_text()


def test_c_tells_of_a_deadline_and_of_refusals(prefix, examples, build, steel, tmp_path):
    program = build(examples / "c", prefix) / "line"
    said = run(program, "-r", steel[1], "-d", "0.0001", "-n", "2", "-o", tmp_path / "out.raw")
    assert "frame 1: 0 of 2 rounds" in said
    assert "frame 1: late" in said
    assert "2 frames, 2 late, 2 shortened" in said
    assert (tmp_path / "out.raw").stat().st_size == 2 * 1024 * 1024
    for arguments, words in (
        (("-s", "0x5"), "sdie_plan_create: "),
        (("-r", str(tmp_path / "none")), f"sdie_config_load: {tmp_path / 'none'}: No such file or directory"),
        (("-r", __file__), "accepted: a file of `sdie-fast export-line`"),
        (("-i", str(tmp_path / "none")), "No such file"),
    ):
        failed = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert failed.returncode == 1
        assert words in failed.stderr


def test_makefiles(installed, examples, tmp_path):
    """`make` with pkg-config, as the README says."""
    need("make", "pkg-config", "g++")
    env = {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    for name in ("c", "cpp"):
        shutil.copytree(examples / name, tmp_path / name)
        run("make", cwd=tmp_path / name, env=env)
    assert "1 frames" in run(tmp_path / "c" / "line", "-n", "1", "-s", "50x40")
    assert "100 frames" in run(tmp_path / "cpp" / "line", cwd=tmp_path)


def test_cpp(installed, examples, build, raw, steel, tmp_path):
    """Two threads that hand frames over, and a thread pool of the program's: the frames of the example in C."""
    line = steel[1]
    size = ("131", "90", "7")
    program = build(examples / "cpp", installed) / "line"
    assert "7 frames, 0 late" in run(program, line, *size, tmp_path / "cpp.raw")
    again = build(examples / "c", installed) / "line"
    run(again, "-r", line, "-s", "131x90", "-n", "7", "-o", tmp_path / "c.raw")
    assert (tmp_path / "cpp.raw").read_bytes() == (tmp_path / "c.raw").read_bytes()
    failed = subprocess.run([program, line, "0", "5"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("size: received 0 x 5")


def onnxruntime():
    """Folder with ONNX Runtime's C header: $SDIE_ONNXRUNTIME, or one of the system's."""
    for folder in (os.environ.get("SDIE_ONNXRUNTIME", ""), "/usr", "/usr/local"):
        if folder and any((Path(folder) / "include").rglob("onnxruntime_c_api.h")):
            return folder
    pytest.skip("no onnxruntime_c_api.h: SDIE_ONNXRUNTIME names no folder of examples/onnx/fetch_onnxruntime")


def test_network(prefix, examples, build, raw, tmp_path):
    """The recipe with a network that ships: its weights are chosen in C, frame by frame."""
    pytest.importorskip("onnxruntime")
    (frames, path), out = raw, tmp_path / "out.raw"
    models = Path(sdie.__file__).parent / "models" / "sdie_small"
    recipe = sdie.Recipe.load(models)
    program = build(examples / "onnx", prefix, onnxruntime()) / "network"
    parameters = [f"{name}={value}" for name, value in recipe.params.resolved(recipe.filters).items()]
    said = run(program, models / "actor.onnx", WIDTH, HEIGHT, path, out, *parameters)
    assert f"{FRAMES} frames of {WIDTH} x {HEIGHT}, {recipe.rounds} rounds each" in said
    wanted = np.stack([sdie.Enhancer(recipe)(frame)[0] for frame in frames])
    # Two versions of ONNX Runtime differ in the last bits of a weight.
    difference = np.abs(read(out).astype(int) - wanted)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01
    one = sdie.enhance(frames[0], np.ones((recipe.rounds, 6)), params=recipe.params)
    assert np.mean(np.abs(wanted[0].astype(int) - one)) > 1, "any weights would do"
