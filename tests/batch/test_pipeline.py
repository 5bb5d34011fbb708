import errno
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from sdie_fast import files
from sdie_fast.batch import pipeline
from sdie_fast.batch.journal import Journal
from sdie_fast.batch.listing import targets
from sdie_fast.batch.pipeline import Budget, run
from sdie_fast.errors import ImageFileError, SdieError
from sdie_fast.files import LocalStore


@pytest.fixture
def go(tmp_path, job):
    """Run what is in tmp_path/in."""

    def gone(work=job, **options):
        source, target = LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")
        pipeline.check(target)
        return run(targets(source, target), source, target, work, **{"threads": 3, **options})

    return gone


def test_every_file_is_done(make, go, tmp_path, outputs):
    make(tmp_path / "in", *(f"{k % 7}/{k}.png" for k in range(60)))
    seen, told = [], []
    with Journal(tmp_path / "j.db", "key", LocalStore(tmp_path / "out")) as journal:
        found = go(
            journal=journal, watch=lambda s, n, all_of_them: seen.append((s.files, n, all_of_them)), tell=told.append
        )
        again = go(journal=journal)
    assert (found.done, found.skipped, found.failures, found.pixels) == (60, 0, 0, 60 * 12 * 16)
    assert (again.done, again.skipped) == (0, 60)
    assert seen[-1] == (60, 60, True)
    assert not told
    for name in outputs(tmp_path / "in"):
        assert np.array_equal(*(np.asarray(Image.open(tmp_path / f / name)) for f in ("in", "out")))
    assert len(outputs(tmp_path / "out")) == 60
    report = found.to_dict()
    assert report["images_per_second"] > 0
    assert report["read_seconds"] > 0 < report["write_seconds"]
    assert report["wait_seconds"] >= 0 < report["enhance_seconds"]
    assert "60 enhanced, 0 skipped, 0 failed" in str(found)


class Odd:
    """A job whose files of some names raise."""

    def __init__(self, job, **errors):
        self.job, self.errors = job, errors

    def __call__(self, data, name, suffix, threads):
        if error := self.errors.get(name.partition(".")[0]):
            raise error
        return self.job(data, name, suffix, threads)


class PanicError(BaseException):
    """As some extension modules raise: no Exception."""


def test_whatever_one_file_raises(make, go, tmp_path, job, outputs):
    make(tmp_path / "in", *(f"{name}.png" for name in "abcdefghij"))
    odd = Odd(
        job, a=MemoryError(), b=PanicError("panic"), c=ZeroDivisionError("by zero"), d=OSError(errno.EIO, "bad block"),
        e=SystemExit(3), f=SdieError("f.png: of ours"),
    )  # fmt: skip
    told = []
    found = go(odd, tell=told.append)
    assert (found.done, found.failures) == (4, 6)
    assert outputs(tmp_path / "out") == ["g.png", "h.png", "i.png", "j.png"]
    assert found.failed == {
        "a.png": "a.png: not enough memory",
        "b.png": "b.png: PanicError: panic",
        "c.png": "c.png: ZeroDivisionError: by zero",
        "d.png": "d.png: bad block",
        "e.png": "e.png: SystemExit: 3",
        "f.png": "f.png: of ours",
    }
    assert sorted(told) == sorted(found.failed.values())


def test_files_that_cannot_be_read(make, go, tmp_path, monkeypatch):
    make(tmp_path / "in", "a.png", "huge.png")
    monkeypatch.setattr(pipeline, "_LARGEST", 10_000)
    (tmp_path / "in" / "huge.png").write_bytes(bytes(10_001))
    (tmp_path / "in" / "text.png").write_text("not an image")
    found = go()
    assert (found.done, set(found.failed)) == (1, {"huge.png", "text.png"})


def test_failures_are_counted_and_not_all_kept(go, tmp_path, monkeypatch):
    monkeypatch.setattr("sdie_fast.batch.summary._KEPT", 5)
    (tmp_path / "in").mkdir()
    for k in range(12):
        (tmp_path / "in" / f"{k}.png").write_bytes(b"")
    found = go()
    assert (found.failures, len(found.failed)) == (12, 5)


def test_a_long_name_and_a_file_in_the_way_cost_that_file(make, go, tmp_path, job):
    make(tmp_path / "in", "x" * 251 + ".png", "sub/a.png", "b.png", "folder.png")
    make(tmp_path / "out", "folder.png/in the way.png")
    (tmp_path / "out" / "sub").write_text("in the way")
    found = go()
    assert (found.done, set(found.failed)) == (2, {"sub/a.png", "folder.png"})
    source, target = LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")
    found = run(targets(source, target, suffix=".tiff"), source, target, job, threads=2)
    assert found.failures == 2  # the longest name, a byte longer, and what is in the way
    assert "File name too long" in found.failed["x" * 251 + ".png"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_out_at_fault_ends_the_run(make, go, tmp_path, monkeypatch, code, outputs):
    make(tmp_path / "in", *(f"{k}.png" for k in range(300)))
    real, calls = LocalStore.write, []

    def write(self, name, parts):
        calls.append(name)
        if len(calls) > 5:
            raise OSError(code, os.strerror(code))
        real(self, name, parts)

    monkeypatch.setattr(LocalStore, "write", write)
    with pytest.raises(ImageFileError, match=rf"OUT: .*{os.strerror(code)}.* 5 images are done"):
        go()
    assert len(outputs(tmp_path / "out")) == 5
    assert len(calls) < 20


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no such bucket"), PermissionError(errno.EACCES, "no")]
)
def test_a_bucket_that_is_none_ends_the_run(make, tmp_path, monkeypatch, job, error):
    def fail(*_):
        raise error

    make(tmp_path / "in", *(f"{k}.png" for k in range(9)))
    source, target = LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")
    monkeypatch.setattr(target, "local", False)
    monkeypatch.setattr(target, "write", fail)
    with pytest.raises(ImageFileError, match=r"OUT: .* cannot be written to: no"):
        run(targets(source, LocalStore(tmp_path / "out")), source, target, job, threads=2)


def test_out_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ImageFileError, match="it is a file"):
        pipeline.check(LocalStore(tmp_path / "file"))
    with pytest.raises(ImageFileError, match="Not a directory"):
        pipeline.check(LocalStore(tmp_path / "file" / "deep"))


def test_a_listing_that_fails_ends_the_run(make, tmp_path, job):
    make(tmp_path / "in", "a.png")
    source, target = LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")

    def broken(error):
        yield from targets(source, target)
        raise error

    with pytest.raises(ImageFileError, match=r"IN: .*: gone; [01] images are done"):
        run(broken(OSError(errno.EIO, "gone")), source, target, job)
    with pytest.raises(ZeroDivisionError):
        run(broken(ZeroDivisionError()), source, target, job)


# ---- memory and threads ------------------------------------------------------------------------------


class Watched(Budget):
    """A budget that keeps the most that was in use, and by how many."""

    peak = most_holders = alone = 0

    def share(self, need, stop):
        outer = super().share(need, stop)

        class Share:
            def __enter__(_):
                outer.__enter__()
                self.peak = max(self.peak, self.used)
                self.most_holders = max(self.most_holders, self.holders)
                if self.used > self.most:
                    assert self.holders == 1
                    self.alone += 1

            def __exit__(_, *error):
                return outer.__exit__(*error)

        return Share()


def test_memory_is_shared_out(make, go, tmp_path, monkeypatch, job):
    make(tmp_path / "in", *(f"{k}.png" for k in range(40)))
    monkeypatch.setattr(files, "measure", lambda data, name: 1000 if name == "7.png" else 30)

    class Slow(Odd):
        def __call__(self, *arguments):
            time.sleep(0.003)
            return self.job(*arguments)

    budget = Watched(100)
    found = go(Slow(job), threads=8, memory=budget)
    assert found.done == 40
    assert (budget.most_holders, budget.alone) == (3, 1)
    assert (budget.used, budget.holders, budget.waiting) == (0, 0, 0)
    assert found.wait_seconds > 0


def test_default_memory():
    assert 2**26 < pipeline.default_memory() <= 2**31


@pytest.mark.parametrize(("images", "threads", "share"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (8, 8, 1)])
def test_few_images_get_several_threads(make, go, tmp_path, job, images, threads, share):
    make(tmp_path / "in", *(f"{k}.png" for k in range(images)))
    together, given = threading.Barrier(images), []

    def work(data, name, suffix, share):
        together.wait(10)
        given.append(share())
        together.wait(10)
        return job(data, name, suffix)

    assert go(work, threads=threads).done == images
    assert given == [share] * images


def test_many_images_get_one_thread_each(make, go, tmp_path, job):
    make(tmp_path / "in", *(f"{k}.png" for k in range(60)))
    given = []

    def work(data, name, suffix, share):
        time.sleep(0.005)
        given.append(share())
        return job(data, name, suffix)

    assert go(work, threads=4).done == 60
    assert set(given[:50]) == {1}


# ---- ends that come early ----------------------------------------------------------------------------


def test_an_interrupt_keeps_what_is_done(make, go, tmp_path, job, outputs, rows):
    make(tmp_path / "in", *(f"{k}.png" for k in range(500)))
    stop = threading.Event()

    def work(*arguments):
        time.sleep(0.01)
        return job(*arguments)

    threading.Timer(0.3, stop.set).start()
    with Journal(tmp_path / "out.db", "key", LocalStore(tmp_path / "out")) as journal:
        begin = time.perf_counter()
        found = go(work, journal=journal, stop=stop)
        assert time.perf_counter() - begin < 1.5
    assert found.interrupted
    assert 0 < found.done < 500
    assert found.left == 0
    assert rows(tmp_path / "out.db") == set(outputs(tmp_path / "out"))
    assert len(outputs(tmp_path / "out")) == found.done


def test_an_image_that_takes_long_is_given_up(make, go, tmp_path, job, outputs):
    make(tmp_path / "in", "a.png", "b.png")
    stop, free = threading.Event(), threading.Event()

    def work(*arguments):
        stop.set()
        free.wait(20)
        return job(*arguments)

    begin = time.perf_counter()
    found = go(work, stop=stop)
    assert time.perf_counter() - begin < 2
    assert (found.interrupted, found.done) == (True, 0)
    assert found.left > 0
    free.set()
    time.sleep(0.2)
    assert outputs(tmp_path / "out") == []


def test_a_listing_that_stalls_does_not_keep_a_run(make, tmp_path, job):
    make(tmp_path / "in", "a.png")
    source, target = LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")
    stop, free = threading.Event(), threading.Event()

    def stalled():
        yield from targets(source, target)
        threading.Timer(0.2, stop.set).start()
        free.wait(20)

    begin = time.perf_counter()
    found = run(stalled(), source, target, job, threads=2, stop=stop)
    assert time.perf_counter() - begin < 2
    assert (found.done, found.interrupted, found.left) == (1, True, 0)
    free.set()
