import os
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdie_fast.batch.journal import Journal, locked
from sdie_fast.batch.listing import Pair
from sdie_fast.errors import ImageFileError, InvalidArgumentError
from sdie_fast.files import Entry, LocalStore


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return LocalStore(tmp_path / "out")


@pytest.fixture
def done(out):
    """Write a target, and record it."""

    def made(journal, name, size=1, stamp="1"):
        pair = Pair(Entry(name, size, stamp), name)
        out.write(name, [b"made"])
        journal.add(pair, out.entry(name))
        return pair

    return made


def test_what_is_done_and_unchanged(tmp_path, out, done):
    path = tmp_path / "j.db"
    with Journal(path, "key", out) as journal:
        pairs = [done(journal, name) for name in ("a.png", "b/c.png", os.fsdecode(b"\xff.png"))]
        assert all(map(journal.is_done, pairs))
        assert len(journal) == 3
    with Journal(path, "key", out) as journal:
        assert all(map(journal.is_done, pairs))
        a = pairs[0]
        assert not journal.is_done(a._replace(target="other.png"))
        assert not journal.is_done(a._replace(source=a.source._replace(size=2)))
        for stamp in ("0", "2"):  # equality alone: a clock that went backwards does no harm
            assert not journal.is_done(a._replace(source=a.source._replace(stamp=stamp)))
        os.utime(out.root / "a.png", ns=(0, 0))
        assert not journal.is_done(a)
        (out.root / "b" / "c.png").unlink()
        assert not journal.is_done(pairs[1])
    with Journal(path, "key", out, resume=False) as journal:
        assert not journal.is_done(pairs[2])
    with Journal(path, "other", out) as journal:
        assert not journal.is_done(pairs[2])
        done(journal, pairs[2].target)
    with Journal(path, "key", out) as journal:
        assert not journal.is_done(pairs[2])  # another recipe's by now


@pytest.mark.parametrize("content", [b"", b"{broken", b"SQLite format 3\0" + bytes(84), os.urandom(8192)])
def test_a_file_that_is_no_journal(tmp_path, out, done, content):
    path, told = tmp_path / "j.db", []
    path.write_bytes(content)
    with Journal(path, "key", out, tell=told.append) as journal:
        pair = done(journal, "a.png")
        assert journal.is_done(pair)
    kept = [p for p in tmp_path.iterdir() if ".bad" in p.name]
    assert len(kept) == len(told) == bool(content)
    assert all(p.read_bytes() == content for p in kept)


def test_a_data_base_of_another_program(tmp_path, out):
    path, told = tmp_path / "j.db", []
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE files (name TEXT)")
    base.close()
    Journal(path, "key", out, tell=told.append).close()
    assert "another program" in told[0]
    assert sqlite3.connect(tmp_path / "j.db.bad-1").execute("SELECT count(*) FROM files").fetchone() == (0,)


@given(at=st.one_of(st.integers(0, 200), st.integers(0, 40_000)), noise=st.binary(min_size=1, max_size=5000))
@example(at=47, noise=b"\x05")  # an unsupported format
def test_damage_anywhere_is_survived(tmp_path_factory, at, noise):
    folder = tmp_path_factory.mktemp("j")
    out, path = LocalStore(folder), folder / "j.db"
    pairs = [Pair(Entry(f"{k}.png", k, "1"), f"{k}.png") for k in range(300)]
    with Journal(path, "key", out) as journal:
        for pair in pairs:
            journal.add(pair, pair.source)
    with open(path, "r+b") as file:
        file.seek(min(at, path.stat().st_size - 1))
        file.write(noise)
    with Journal(path, "key", out, tell=lambda _: None) as journal:
        for pair in pairs[:20]:
            journal.is_done(pair)
            journal.add(pair, pair.source)
    shutil.rmtree(folder)


def test_a_number_of_a_journal_set_aside_means_nothing_in_the_next(tmp_path, out, done):
    path = tmp_path / "j.db"
    for key in ("one", "two", "three"):
        Journal(path, key, out).close()
    journal = Journal(path, "three", out, tell=lambda _: None)
    journal._set_aside(ValueError("damaged"))
    pair = done(journal, "a.png")
    assert journal.is_done(pair)
    journal.close()
    for key in ("one", "two"):
        with Journal(path, key, out) as other:
            assert not other.is_done(pair)


def test_where_it_cannot_be(tmp_path, out):
    (tmp_path / "j.db").mkdir()
    with pytest.raises(ImageFileError, match=r"j\.db"):
        Journal(tmp_path / "j.db", "key", out)
    with pytest.raises(ImageFileError, match="gone"):
        Journal(tmp_path / "gone" / "j.db", "key", out)


def test_a_second_process_reads_meanwhile(tmp_path, out, done):
    path = tmp_path / "j.db"
    read = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM files').fetchone()[0])"
    )
    with Journal(path, "key", out) as journal:
        for k in (1, 2):
            done(journal, f"{k}.png")
            told = subprocess.run([sys.executable, "-c", read, path], capture_output=True, text=True, check=True)
            assert int(told.stdout) == k


def test_a_lock_is_held_by_one_and_let_go_by_the_dead(tmp_path):
    path = tmp_path / "x.lock"
    hold = (
        "import sys, time; from pathlib import Path; from sdie_fast.batch.journal import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    root = os.path.dirname(os.path.dirname(sys.modules["sdie_fast"].__file__))
    process = subprocess.Popen(
        [sys.executable, "-c", hold, path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InvalidArgumentError, match="another run"), locked(path):
        pass
    process.kill()
    process.communicate()
    with locked(path):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / "x.lock"):
        pass
    with pytest.raises(ImageFileError, match="cannot be written"), locked(tmp_path / "gone" / "x.lock"):
        pass


@pytest.mark.slow
def test_a_million_entries(tmp_path, out):
    path = tmp_path / "j.db"
    journal = Journal(path, "key", out)
    pairs = [
        Pair(Entry(f"plant/line-{k % 97}/{k:08}.png", 40_000, f"17{k:017}"), f"{k:08}.png") for k in range(1_000_000)
    ]
    begin = time.perf_counter()
    for pair in pairs:
        journal.add(pair, pair.source)
    adding = (time.perf_counter() - begin) / len(pairs)
    journal.close()
    begin = time.perf_counter()
    with Journal(path, "key", out) as journal:
        opening = time.perf_counter() - begin
        begin = time.perf_counter()
        assert not any(map(journal.is_done, pairs[::10]))  # recorded, but the targets are not there
        asking = 10 * (time.perf_counter() - begin) / len(pairs)
    print(f"{adding * 1e6:.1f} us to add, {asking * 1e6:.1f} us to ask, {opening * 1e3:.1f} ms to open")
    assert opening < 1
    assert adding < 1e-3
