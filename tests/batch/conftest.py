"""Folders of small images, and the command as a process of its own."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdie_fast
from sdie_fast import Recipe
from sdie_fast.batch.job import Job

ROOT = str(Path(sdie_fast.__file__).parents[1])


@pytest.fixture
def make():
    """Write small grey images, each with other pixels: `make(folder, *names)`."""

    def made(folder, *names, size=(12, 16)):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(abs(hash(str(name))))
            Image.fromarray(rng.integers(0, 256, size).astype(np.uint8)).save(path)
        return folder

    return made


@pytest.fixture
def job():
    """What leaves the pixels as they are."""
    return Job(Recipe([{"identity": 1}]))


@pytest.fixture
def start(compiled, tmp_path):
    """Start `sdie-fast enhance` as a process, away from the checkout, whose package is not compiled."""
    started = []

    def begun(*arguments, before=(), **options):
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "sdie_fast.cli", "enhance", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": ROOT}, **{"cwd": tmp_path, **options},
        )  # fmt: skip
        started.append(process)
        return process

    yield begun
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def outputs():
    """Names of the files in a folder, hidden ones apart."""

    def found(folder):
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")

    return found


@pytest.fixture
def rows():
    """Names in a journal."""

    def found(path):
        base = sqlite3.connect(path)
        try:
            return {os.fsdecode(name) for (name,) in base.execute("SELECT name FROM files")}
        finally:
            base.close()

    return found
