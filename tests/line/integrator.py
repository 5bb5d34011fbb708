"""Programs that an integrator runs: they are looked for, run, and quoted where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Debian's packages, as a reason of a skipped test names them.
GSTREAMER = "libgstreamer-plugins-base1.0-dev"
ARAVIS = "libaravis-dev or libusb-1.0-0-dev"


def run(*command, **settings):
    """Run a program; a test that fails shows what it said."""
    settings["env"] = {**os.environ, **settings.get("env", {})}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False, **settings)
    assert done.returncode == 0, f"{command} in {settings.get('cwd')}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def need(*programs):
    """Skip the test where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def package_reason(name, debian):
    """Why a library cannot be built against; None where it can be."""
    if shutil.which("pkg-config") is None:
        return "pkg-config is not installed"
    if subprocess.run(["pkg-config", "--exists", name], check=False).returncode != 0:
        return f"pkg-config finds no {name}: Debian's {debian} is missing"
    return None


def need_package(name, debian):
    """Skip the test where a library cannot be built against."""
    reason = package_reason(name, debian)
    if reason is not None:
        pytest.skip(reason)
