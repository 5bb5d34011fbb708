"""The same work by Dask: what is there afterwards does not tell that processes died on the way."""

import importlib
import json
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("distributed", reason="Dask: distributed is missing")
import psutil

from sdie_fast import Recipe
from sdie_fast.batch import cluster, listing, pipeline, shards
from sdie_fast.batch.job import Job
from sdie_fast.batch.journal import Journal
from sdie_fast.errors import ImageFileError, InvalidArgumentError
from sdie_fast.files import open_store

WEIGHTS = "identity=1,gamma=1"
JOB = Job(Recipe([{"identity": 1, "gamma": 1}]))


@pytest.fixture(scope="module")
def client():
    with cluster.connected("local:2") as found:
        yield found


def place(folder):
    return open_store(folder / "in"), open_store(folder / "out")


def run(folder, client, job=JOB, **options):
    source, target = place(folder)
    return cluster.run(listing.targets(source, target), source, target, job, client, **options)


def contents(folder, kind=".png"):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.name.endswith(kind)}


def pack(shard, *paths):
    shard.parent.mkdir(exist_ok=True)
    with tarfile.open(shard, "w") as file:
        for path in paths:
            file.add(path, path.name)


def expected(folder, tmp):
    source, target = open_store(folder), open_store(tmp / "expected")
    pipeline.run(listing.targets(source, target), source, target, JOB)
    return contents(tmp / "expected")


def ended(process, seconds=60):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def wait_for(what, process=None, seconds=40.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to that"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_as_on_one_machine(tmp_path, make, client):
    make(tmp_path / "in", *(f"{n % 3}/{n}.png" for n in range(60)))
    told = []
    summary = run(tmp_path, client, watch=lambda so_far, listed, complete: told.append((listed, complete)))
    assert (summary.done, summary.failures, summary.interrupted) == (60, 0, False)
    assert summary.pixels == 60 * 12 * 16
    assert told[-1] == (60, True)
    assert contents(tmp_path / "out") == expected(tmp_path / "in", tmp_path)


def test_relative_folders_are_those_of_this_process(tmp_path, make, client, monkeypatch):
    make(tmp_path / "in", "x.png")
    monkeypatch.chdir(tmp_path)
    assert run(Path(), client).done == 1
    assert (tmp_path / "out" / "x.png").is_file()


def test_failures_and_resume(tmp_path, make, client):
    make(tmp_path / "in", *(f"{n}.png" for n in range(20)))
    (tmp_path / "in" / "bad.png").write_bytes(b"none")
    told = []

    def again():
        with Journal(tmp_path / "rows.db", "key", place(tmp_path)[1], resume=True) as journal:
            summary = run(tmp_path, client, journal=journal, tell=told.append)
        return summary.done, summary.skipped, summary.failures, list(summary.failed)

    assert again() == (20, 0, 1, ["bad.png"])
    assert len(told) == 1
    assert told[0].startswith("bad.png: ")
    (tmp_path / "out" / "7.png").unlink()
    make(tmp_path / "in", "3.png", size=(20, 20))
    assert again() == (2, 18, 1, ["bad.png"])


def test_the_scheduler_never_holds_much(tmp_path, make, client, monkeypatch):
    make(tmp_path / "in", *(f"{n}.png" for n in range(300)))
    monkeypatch.setattr(cluster, "_MOST", 8)
    source, target = place(tmp_path)
    drawn, most = [], []

    def pairs():
        for pair in listing.targets(source, target):
            drawn.append(pair)
            yield pair

    cluster.run(pairs(), source, target, JOB, client, watch=lambda so_far, *_: most.append(len(drawn) - so_far.files))
    assert len(drawn) == 300
    assert max(most) <= 2 * 3 * 8 + 32, "three tasks for each thread, and what is looked up together"


def test_stop_keeps_what_is_done(tmp_path, make, client):
    make(tmp_path / "in", *(f"{n}.png" for n in range(300)))
    stop = threading.Event()
    summary = run(tmp_path, client, stop=stop, watch=lambda so_far, *_: so_far.done and stop.set())
    assert summary.interrupted
    assert 0 < summary.done < 300


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A module of what goes wrong: workers that are started now find it where this process does."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "hostile.py").write_text(
        textwrap.dedent("""
            import errno, os
            from sdie_fast.batch.job import Job
            from sdie_fast.files import LocalStore

            class Full(LocalStore):
                local = False  # or it would be another by the time it is on a worker
                def create(self, name):
                    raise OSError(errno.ENOSPC, "No space left on device")

            class Culprit(Job):
                def __call__(self, data, name, *rest):
                    if "killer" in name:
                        os.kill(os.getpid(), 9)
                    return super().__call__(data, name, *rest)
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield importlib.import_module("hostile")
    sys.modules.pop("hostile")


@pytest.mark.slow
def test_an_image_that_kills_its_process_fails_alone_and_a_full_disk_ends_the_run(tmp_path, make, hostile):
    make(tmp_path / "in", *(f"{n}.png" for n in range(12)), "killer.png")
    source = open_store(tmp_path / "in")
    job = hostile.Culprit(Recipe([{"identity": 1, "gamma": 1}]))
    with cluster.connected("local:2") as client:
        summary = run(tmp_path, client, job)
        pack(tmp_path / "in/s-0.tar", tmp_path / "in/killer.png")
        pack(tmp_path / "in/s-1.tar", tmp_path / "in/1.png")
        told = cluster.run_shards(shards.plan(f"{tmp_path}/in/s-{{0..1}}.tar", f"{tmp_path}/out"), job, client)
        full = hostile.Full(tmp_path / "full")
        with pytest.raises(ImageFileError, match=r"OUT: .*No space left on device"):
            cluster.run(listing.targets(source, full), source, full, JOB, client)
    assert (summary.done, summary.failures) == (12, 1)
    assert summary.failed == {"killer.png": "killer.png: every process that worked on it died"}
    assert len(contents(tmp_path / "out")) == 12
    assert (told.done, told.failures) == (1, 1)
    assert list(contents(tmp_path / "out", ".tar")) == ["s-1.tar"]


@pytest.mark.slow
def test_worker_killed(tmp_path, start):
    """One of three processes is killed in the middle: every image is there, as if none had been."""
    rng = np.random.default_rng(5)
    (tmp_path / "in").mkdir()
    for n in range(300):
        Image.fromarray(rng.integers(0, 256, (120, 120), np.uint8)).save(tmp_path / f"in/{n}.png")
    process = start(tmp_path / "in", tmp_path / "out", "--weights", WEIGHTS, "--dask", "local:3", "--json")
    wait_for(lambda: len(contents(tmp_path / "out")) > 30, process)
    workers = [p for p in psutil.Process(process.pid).children() if "--multiprocessing-fork" in p.cmdline()]
    assert len(workers) == 3
    workers[0].send_signal(signal.SIGKILL)
    before = len(contents(tmp_path / "out"))
    code, out, err = ended(process)
    assert code == 0, err
    assert before < 300
    assert '"done": 300' in out
    assert contents(tmp_path / "out") == expected(tmp_path / "in", tmp_path)
    assert {p.name for p in (tmp_path / "out").iterdir()} - set(contents(tmp_path / "out")) <= {
        ".sdie-fast.db", ".sdie-fast.lock", *(p.name for p in (tmp_path / "out").glob(".*.part")),
    }  # fmt: skip


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path, start):
    rng = np.random.default_rng(6)
    (tmp_path / "in").mkdir()
    for n in range(240):
        Image.fromarray(rng.integers(0, 256, (120, 120), np.uint8)).save(tmp_path / f"in/{n}.png")
    arguments = (tmp_path / "in", tmp_path / "out", "--weights", WEIGHTS, "--dask", "local:2")
    process = start(*arguments)
    wait_for(lambda: len(contents(tmp_path / "out")) > 60, process)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process, 20)
    assert code == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    code, out, err = ended(start(*arguments, "--resume"))
    assert code == 0, err
    assert " 0 skipped" not in out
    assert contents(tmp_path / "out") == expected(tmp_path / "in", tmp_path)


def test_shards(tmp_path, make, client):
    for n in range(3):
        make(tmp_path / "images", *(f"{n}-{k}.png" for k in range(6)))
        pack(tmp_path / f"in/s-{n}.tar", *sorted((tmp_path / "images").glob(f"{n}-*")))
    (tmp_path / "in/s-1.tar").unlink()
    names = f"{tmp_path}/in/s-{{0..2}}.tar"
    shards.run(shards.plan(names, f"{tmp_path}/expected"), JOB)
    summary = cluster.run_shards(shards.plan(names, f"{tmp_path}/out"), JOB, client)
    assert (summary.done, summary.failures) == (12, 1)
    assert contents(tmp_path / "out", ".tar") == contents(tmp_path / "expected", ".tar")
    again = cluster.run_shards(shards.plan(names, f"{tmp_path}/out"), JOB, client, resume=True)
    assert (again.done, again.skipped, again.failures) == (0, 12, 1)


def test_addresses(tmp_path, make, client):
    make(tmp_path / "in", "x.png")
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": client.scheduler.address, "workers": {}}))
    for address in (client.scheduler.address, str(tmp_path / "scheduler.json")):
        with cluster.connected(address) as other:
            assert run(tmp_path, other).done == 1


@pytest.mark.parametrize("address", ["local", "local:0", "local:x", "nowhere.json"])
def test_wrong_addresses(address):
    with (
        pytest.raises(InvalidArgumentError, match="accepted: tcp://host:port, a scheduler file, or local:N"),
        cluster.connected(address),
    ):
        pass


def test_no_scheduler(monkeypatch):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(InvalidArgumentError, match="no scheduler answers"),
        cluster.connected("tcp://127.0.0.1:9"),
    ):
        pass


def test_another_version_is_refused(tmp_path, make, client, monkeypatch):
    make(tmp_path / "in", "x.png")
    monkeypatch.setattr(cluster, "__version__", "99")
    with (
        pytest.raises(InvalidArgumentError, match=r"has sdie_fast .*; accepted: 99, as here"),
        cluster.connected(client.scheduler.address),
    ):
        pass
    # One that joins later is found out by the task.
    with pytest.raises(InvalidArgumentError, match=r"has sdie_fast .*; accepted: 99, as here"):
        run(tmp_path, client)


def test_memory_is_no_place_for_several_processes(client):
    pytest.importorskip("fsspec")
    source = open_store("memory://x")
    with pytest.raises(InvalidArgumentError, match="one process alone"):
        cluster.run([], source, source, JOB, client)


def test_without_dask(tmp_path, make, python):
    make(tmp_path / "in", "x.png")
    code = (
        "import sys; sys.modules['distributed'] = None\nfrom sdie_fast.cli import app\n"
        f"app(['enhance', '{tmp_path}/in', '{tmp_path}/out', '--weights', 'identity=1', '--dask', 'local:2'])"
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        python(code)
    assert caught.value.returncode == 2
    assert 'pip install "sdie-fast[dask]"' in caught.value.stderr
    assert caught.value.stderr.count("\n") == 1


def test_options_of_one_machine(tmp_path, make, start):
    make(tmp_path / "in", "x.png")
    code, _, err = ended(start(tmp_path / "in", tmp_path / "out", "--dask", "local:2", "--threads", 2))
    assert code == 2
    assert "--threads" in err
