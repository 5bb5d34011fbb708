"""Kernels kept on disk: what is found again, and what is not trusted. Compiled for compute capability 9.0 without a driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdie_fast
from sdie_fast.cuda import cache

# Compiles and links as a launch does, all but the loading; `compiled` says whether it was, or was found.
BEGIN = """
import pathlib
import sys
import types
from unittest import mock

import numpy as np
from numba import cuda, float32
from numba.cuda import codegen, dispatcher
from sdie_fast.cuda import kernels

device = types.SimpleNamespace(compute_capability=(9, 0))
for place in (cuda, dispatcher):
    mock.patch.object(place, "get_current_device", return_value=device).start()
mock.patch.object(codegen.CUDACodeLibrary, "_ensure_cc", return_value=(9, 0, "a")).start()
mock.patch.object(dispatcher._Kernel, "bind", lambda kernel: kernel.library.get_cubin()).start()
folder = pathlib.Path(sys.argv[1])

def make(factor):
    def scale(a):
        a[cuda.threadIdx.x] *= factor
    return kernels.kept(cuda.jit(scale))

def compiled(factor):
    scale = make(np.float32(factor))
    scale.compile((float32[::1],))
    ((types, kernel),) = scale.overloads.items()
    assert kernel.argument_types == types
    global code
    code = bytes(kernel.library.get_cubin().code)
    assert kernel.entry_name.encode() in code
    (again,) = [*scale._cache_misses.values()] or [0]
    return bool(again)
"""


@pytest.fixture
def run(tmp_path):
    pytest.importorskip("numba_cuda")
    script = tmp_path / "script.py"
    kept = tmp_path / "kernels"

    def run(body, **variables):
        script.write_text(BEGIN + body)
        removed = ("NUMBA_ENABLE_CUDASIM", "EMULATOR_CACHE")
        environment = {k: v for k, v in os.environ.items() if k not in removed}
        environment["PYTHONPATH"] = str(Path(sdie_fast.__file__).parents[1])
        environment |= {"SDIE_FAST_KERNEL_CACHE": str(kept), **variables}
        command = [sys.executable, script, kept]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


def test_what_one_process_compiles_the_next_one_finds(run):
    first = run("print(compiled(3), code.hex())")
    second = run("print(compiled(3), code.hex()); print(compiled(5), compiled(3))")
    assert first[0] == "True"
    assert second == ["False", first[1], "True", "False"]  # another constant in the closure is another kernel


def test_what_is_damaged_foreign_or_writable_by_others_is_compiled_anew(run):
    found = run(
        """
compiled(3)
(file,) = folder.iterdir()
whole = file.read_bytes()
assert file.stat().st_mode & 0o777 == 0o600
other = bytearray(whole)
other[whole.index(b"ELF") + 500] ^= 1  # of the machine code
for content in (b"", whole[:-1], b"{}\\n", bytes(other), whole.replace(b"scale", b"scala", 1)):
    file.write_bytes(content)
    print(compiled(3), file.read_bytes() != content, compiled(3))
file.chmod(0o622)
print(compiled(3), compiled(3))
"""
    )
    assert found == ["True", "True", "False"] * 5 + ["True", "False"]


def test_where_nothing_can_be_written_nothing_is_kept(run, tmp_path):
    assert run("print(compiled(3), compiled(3))", SDIE_FAST_KERNEL_CACHE="") == ["True", "True"]
    (tmp_path / "file").touch()
    assert run("print(compiled(3))", SDIE_FAST_KERNEL_CACHE=str(tmp_path / "file" / "in it")) == ["True"]


def test_the_folder_follows_the_platform_and_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("SDIE_FAST_KERNEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache/sdie_fast/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.folder() == tmp_path / "x/sdie_fast/kernels"
    monkeypatch.setenv("SDIE_FAST_KERNEL_CACHE", str(tmp_path / "own"))
    assert cache.folder() == tmp_path / "own"
    monkeypatch.setenv("SDIE_FAST_KERNEL_CACHE", "")
    assert cache.folder() is None


def test_the_files_not_used_for_longest_go(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "MOST_BYTES", 250)
    other = tmp_path / "notes.txt"
    other.write_bytes(bytes(1000))
    for k in range(4):
        cache._write(tmp_path / f"{k}.kernel", bytes(100))
        os.utime(tmp_path / f"{k}.kernel", (k, k))
        if k == 1:
            os.utime(tmp_path / "0.kernel")  # was used
    assert sorted(f.name for f in tmp_path.iterdir()) == ["0.kernel", "3.kernel", "notes.txt"]


FACTOR = 2


def test_a_function_is_described_by_what_it_takes_from_around_it(monkeypatch):
    def make(factor, inner=None):
        def outer(a):
            return (inner or abs)(a) * factor * FACTOR

        return outer

    def described(*given):
        return str(cache._described(make(*given), {}))

    assert described(2) == described(2)
    kinds = [2, 2.0, np.float32(2), np.float64(2), True, "2", (2, 3), None, np.float32]
    assert len({described(value) for value in kinds}) == len(kinds)
    assert described(2, make(1)) == described(2, make(1)) != described(2, make(3))
    before = described(2, make(1))
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert described(2, make(1)) != before
    with pytest.raises(TypeError, match="is no constant"):
        described([2])


def test_every_kernel_can_be_kept(run):
    found = run(
        """
from sdie_fast.cuda import cache
described = {}
for kernel in kernels.every_kernel():
    same = described.setdefault(str(cache._described(kernel.function, {})), kernel.function)
    assert same is kernel.function, kernel.name
    assert isinstance(kernel.function._cache, cache.KernelCache), kernel.name
print(len(described))
"""
    )
    assert int(found[0]) > 20
