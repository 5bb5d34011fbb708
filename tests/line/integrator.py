"""Programs that an integrator runs: they are looked for, run, and quoted where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command, **settings):
    """Run a program; a test that fails shows what it said."""
    settings["env"] = {**os.environ, **settings.get("env", {})}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=False, **settings)
    assert done.returncode == 0, f"{command} in {settings.get('cwd')}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def need(*programs):
    """Skip the test where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def need_package(name, debian):
    """Skip the test where pkg-config does not know a library."""
    need("pkg-config")
    if subprocess.run(["pkg-config", "--exists", name], check=False).returncode != 0:
        pytest.skip(f"pkg-config finds no {name}: Debian's {debian} is not installed")
