"""tools/gpu_check.sh where there is no GPU: what it says, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "gpu_check.sh"


def run(*arguments):
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_usage():
    assert run("--help").stdout.startswith("usage: tools/gpu_check.sh")
    done = run("--nothing-such")
    assert done.returncode == 2
    assert "unknown option --nothing-such" in done.stderr


def test_versions_come_first_and_a_wheel_may_come_in_pieces(tmp_path):
    pytest.importorskip("numba_cuda")
    wheels, out = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    wheel = tmp_path / "nanobind-99.5-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: nanobind\nVersion: 99.5\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("nanobind-99.5.dist-info/METADATA", about)
        file.writestr(
            "nanobind-99.5.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("nanobind-99.5.dist-info/RECORD", "")
    content = wheel.read_bytes()
    for k in range(3):
        third = len(content) // 3 + 1
        (wheels / f"{wheel.name}.{k:02}").write_bytes(content[k * third : (k + 1) * third])
    done = run("--wheels", wheels, "--out", out)
    assert done.returncode == 2, done.stdout + done.stderr
    told = (out / "summary.txt").read_text()
    assert told.index("nanobind 99.5") < told.index("this check needs an NVIDIA GPU: ")
    assert told.strip() in done.stdout
    assert sorted(file.name for file in out.iterdir()) == ["logs.tar.gz", "summary.txt"]
    tarfile.open(out / "logs.tar.gz").close()
