"""The command as a process: killed, interrupted, twice at once, on a full disk, short of memory."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sdie_fast.batch.journal import NAME


@pytest.fixture
def slow_files(tmp_path):
    """60 files that take about 20 ms each."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 300)).astype(np.uint8)).save(folder / "0.png")
    for k in range(1, 60):
        os.link(folder / "0.png", folder / f"{k}.png")
    return folder


WEIGHTS = ("--weights", "identity=1,bilateral=1,spatiogram=1,wls=1", "--rounds", "4", "--threads", "2")


def wait_for(out, count, process, outputs):
    end = time.monotonic() + 30
    while len(outputs(out)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_killed_and_resumed(start, slow_files, tmp_path, outputs):
    out = tmp_path / "out"
    process = start(slow_files, out, *WEIGHTS)
    wait_for(out, 10, process, outputs)
    process.kill()
    process.communicate()
    before = {name: (out / name).stat().st_mtime_ns for name in outputs(out)}
    resumed = start(slow_files, out, *WEIGHTS, "--resume")
    told, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, errors
    redone = [name for name, stamp in before.items() if (out / name).stat().st_mtime_ns != stamp]
    assert len(redone) <= 3  # those in flight: one a thread, and one that is read or written meanwhile
    assert f"{len(before) - len(redone)} skipped" in told
    assert len(outputs(out)) == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(start, slow_files, tmp_path, number, outputs, rows):
    out = tmp_path / "out"
    process = start(slow_files, out, *WEIGHTS)
    wait_for(out, 5, process, outputs)
    begin = time.perf_counter()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert time.perf_counter() - begin < 2
    assert process.returncode == 130
    assert "interrupted: " in errors
    assert "--resume goes on from there" in errors
    assert "Traceback" not in errors
    assert 5 <= len(outputs(out)) < 60
    assert rows(out / NAME) == set(outputs(out))
    assert not list(out.rglob("*.part"))


def test_two_runs_on_one_out(start, slow_files, tmp_path, outputs):
    out = tmp_path / "out"
    process = start(slow_files, out, *WEIGHTS)
    wait_for(out, 1, process, outputs)
    second = start(slow_files, out, *WEIGHTS)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 2
    assert len(errors.strip().splitlines()) == 1
    assert "another run" in errors
    assert process.poll() is None


def test_a_full_disk(start, make, tmp_path):
    make(tmp_path / "in", "a.png", "b.png", size=(400, 400))
    mounted = tmp_path / "out"
    mounted.mkdir()
    if (
        os.getuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", mounted], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        process = start(tmp_path / "in", mounted, "--weights", "identity=1")
        _, errors = process.communicate(timeout=30)
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert process.returncode == 2
    assert "No space left on device" in errors or "full" in errors
    assert "Traceback" not in errors


def test_a_read_only_out(start, make, tmp_path):
    make(tmp_path / "in", "a.png")
    powerless = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.getuid() == 0 else ()
    if powerless and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere")
    (tmp_path / "out").mkdir(mode=0o555)
    process = start(tmp_path / "in", tmp_path / "out", before=powerless)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "Permission denied" in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.slow
def test_too_little_memory_costs_files_alone(start, make, tmp_path, outputs):
    if sys.platform != "linux":
        pytest.skip("no limit on a process's memory")
    make(tmp_path / "in", "a.png")
    Image.new("L", (16000, 16000)).save(tmp_path / "in" / "big.png")
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1_400_000_000, 1_400_000_000))  # noqa: E731
    process = start(tmp_path / "in", tmp_path / "out", "--weights", "wls=1", "--threads", "1", preexec_fn=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "failed: big.png: " in errors
    assert outputs(tmp_path / "out") == ["a.png"]
