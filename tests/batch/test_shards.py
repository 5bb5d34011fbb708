"""Shards: whole, in order, the same twice; what is damaged costs itself alone."""

import errno
import io
import json
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from sdie_fast import Recipe
from sdie_fast.batch import listing, shards
from sdie_fast.batch.job import Job
from sdie_fast.errors import ImageFileError, InvalidArgumentError
from sdie_fast.files import open_store

JOB = Job(Recipe([{"identity": 1, "gamma": 2}]))


def photo(n, size=(40, 30), kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(n).integers(0, 256, size, np.uint8)).save(stream, kind)
    return stream.getvalue()


def members(first, count=6):
    """Samples as WebDataset lays them out, in the order of a tar file."""
    for n in range(first, first + count):
        yield f"{n:06}.png", photo(n)
        yield f"{n:06}.json", json.dumps({"n": n}).encode()
        yield f"{n:06}.cls", b"%d" % (n % 3)


def pack(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for n, (name, data) in enumerate(content):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uid = len(data), 1_600_000_000 + n, 0o640, 77
            file.addfile(member, io.BytesIO(data))
    return path


def unpack(path):
    with tarfile.open(path) as file:
        return [(m, file.extractfile(m).read() if m.isreg() else b"") for m in file]


@pytest.fixture
def made(tmp_path):
    """Three shards in a folder."""
    for n in range(3):
        pack(tmp_path / f"in/s-{n:03}.tar", members(10 * n))
    return tmp_path


def run(folder, source="in/s-{000..002}.tar", target="out", **options):
    return shards.run(shards.plan(f"{folder}/{source}", f"{folder}/{target}"), JOB, threads=2, **options)


def test_images_are_enhanced_and_the_rest_is_kept(made):
    summary = run(made)
    assert (summary.done, summary.failures, summary.skipped) == (18, 0, 0)
    assert summary.pixels == 18 * 1200
    for n in range(3):
        before, after = unpack(made / f"in/s-{n:03}.tar"), unpack(made / f"out/s-{n:03}.tar")
        for (a, data), (b, result) in zip(before, after, strict=True):
            assert (a.name, a.mtime, a.mode, a.uid) == (b.name, b.mtime, b.mode, b.uid)
            assert result == (b"".join(JOB(data, a.name, ".png").parts) if a.name.endswith(".png") else data)


def test_two_runs_give_the_same_bytes(made):
    run(made)
    run(made, target="again/t-{7..9}.tar", memory=1)
    for n in range(3):
        assert (made / f"out/s-{n:03}.tar").read_bytes() == (made / f"again/t-{n + 7}.tar").read_bytes()


def test_other_members(tmp_path):
    """Long names, folders, links, a large file, and what only looks like an image."""
    path = tmp_path / "in/x.tar"
    path.parent.mkdir()
    long = "d" * 150 + "/" + "ü" * 90 + ".png"
    with tarfile.open(path, "w") as file:
        for name, kind, data in [
            ("folder", tarfile.DIRTYPE, b""),
            (long, tarfile.REGTYPE, photo(1)),
            ("link.png", tarfile.SYMTYPE, b""),
            ("._x.png", tarfile.REGTYPE, b"no image"),
            ("large.bin", tarfile.REGTYPE, bytes(range(256)) * (80 << 10)),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(data), "y.png"
            member.mtime = 1.25
            file.addfile(member, io.BytesIO(data))
    assert run(tmp_path, "in/x.tar").done == 1
    before, after = unpack(path), unpack(tmp_path / "out/x.tar")
    assert [(a.name, a.type, a.mtime) for a, _ in before] == [(b.name, b.type, b.mtime) for b, _ in after]
    assert [x for _, x in before][2:] == [x for _, x in after][2:]
    assert after[1][1] == b"".join(JOB(photo(1), long, ".png").parts)


def test_format(tmp_path):
    name = "é" * 80
    pack(tmp_path / "in/x.tar", [(name + ".jpg", photo(1, kind="JPEG")), ("a.txt", b"a")])
    assert run(tmp_path, "in/x.tar", suffix=".png").done == 1
    (image, data), (text, _) = unpack(tmp_path / "out/x.tar")
    assert (image.name, text.name) == (name + ".png", "a.txt")
    assert Image.open(io.BytesIO(data)).format == "PNG"


def test_an_image_that_fails_is_told_and_left_out(tmp_path):
    pack(tmp_path / "in/x.tar", [("a.png", b"none"), ("a.json", b"{}"), ("b.png", photo(1)), ("b.json", b"{}")])
    told = []
    summary = run(tmp_path, "in/x.tar", tell=told.append)
    assert (summary.done, summary.failures) == (1, 1)
    assert told == list(summary.failed.values())
    assert told[0].startswith("a.png")
    assert [m.name for m, _ in unpack(tmp_path / "out/x.tar")] == ["a.json", "b.png", "b.json"]
    stats = json.loads((tmp_path / "out/x.stats.json").read_text())
    assert (stats["images"], stats["failures"], list(stats["failed"])) == (1, 1, ["a.png"])


@pytest.mark.parametrize("how", ["within", "between", "empty", "header", "no tar"])
def test_damage_costs_its_shard_alone(made, how):
    path = made / "in/s-001.tar"
    with tarfile.open(path) as file:
        second = file.getmembers()[1]
    data = path.read_bytes()
    path.write_bytes(
        {
            "within": data[: second.offset + 514],
            "between": data[: second.offset],
            "empty": b"",
            "header": data[: second.offset] + b"\xff" * 200 + data[second.offset + 200 :],
            "no tar": b"nothing of the kind" * 100,
        }[how]
    )
    summary = run(made)
    assert (summary.done, summary.failures) == (12, 1)
    (told,) = summary.failed.values()
    assert "s-001.tar: damaged or cut short" in told
    assert "\n" not in told
    assert sorted(p.name for p in (made / "out").iterdir()) == [
        f"s-{n}.{kind}" for n in ("000", "002") for kind in ("stats.json", "tar")
    ]


def test_missing_shard(made):
    (made / "in/s-001.tar").unlink()
    summary = run(made)
    assert (summary.done, summary.failures) == (12, 1)
    assert "s-001.tar: no such shard" in next(iter(summary.failed.values()))


def test_resume(made):
    run(made)
    times = {p.name: p.stat().st_mtime_ns for p in (made / "out").iterdir()}

    def again():
        summary = run(made, resume=True)
        changed = {p.name for p in (made / "out").glob("*.tar") if p.stat().st_mtime_ns != times[p.name]}
        times.update({p.name: p.stat().st_mtime_ns for p in (made / "out").iterdir()})
        return summary.done, summary.skipped, changed

    assert again() == (0, 18, set())
    (made / "out/s-000.stats.json").unlink()
    assert again() == (6, 12, {"s-000.tar"})
    (made / "out/s-001.stats.json").write_text("{")
    assert again() == (6, 12, {"s-001.tar"})
    pack(made / "in/s-002.tar", members(50))
    assert again() == (6, 12, {"s-002.tar"})
    (made / "out/s-000.tar").write_bytes(b"cut")
    assert again() == (6, 12, {"s-000.tar"})
    other = Job(Recipe([{"identity": 1}]))
    assert shards.run(shards.plan(f"{made}/in/s-000.tar", f"{made}/out"), other, resume=True).done == 6


def test_resume_tells_of_failures_again(tmp_path):
    pack(tmp_path / "in/x.tar", [("a.png", b"none"), ("b.png", photo(1))])
    first = run(tmp_path, "in/x.tar")
    again = run(tmp_path, "in/x.tar", resume=True)
    assert (again.skipped, again.failures, again.failed) == (1, 1, first.failed)


def test_at_most_a_window_is_held(tmp_path, monkeypatch):
    pack(tmp_path / "in/x.tar", ((f"{n}.png", photo(n)) for n in range(60)))
    held, most = set(), []
    real, add = shards._Held, tarfile.TarFile.addfile

    def read(member, content, need):
        held.add(member.name)
        most.append(len(held))
        return real(member, content, need)

    def write(self, member, file=None):
        held.discard(member.name)
        add(self, member, file)

    monkeypatch.setattr(shards, "_Held", read)
    monkeypatch.setattr(tarfile.TarFile, "addfile", write)
    run(tmp_path, "in/x.tar")
    assert max(most) == 9, "four for each thread, and the one just read"
    most.clear()
    run(tmp_path, "in/x.tar", memory=1)
    assert max(most) == 1


def test_stop_leaves_nothing(made):
    stop = threading.Event()
    stop.set()
    assert run(made, stop=stop).interrupted
    assert not list((made / "out").iterdir())


def test_no_room_ends_the_run(made, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(ImageFileError, match=r"OUT: .*No space left"):
        run(made)
    assert not list((made / "out").iterdir())


def test_by_url(made):
    pytest.importorskip("fsspec", reason="URLs: fsspec is missing")
    run(made)
    shards.run(shards.plan(f"{made}/in/s-{{000..002}}.tar", "memory://shards/t-{0..2}.tar"), JOB)
    store = open_store("memory://shards")
    assert store.read("t-1.tar") == (made / "out/s-001.tar").read_bytes()
    assert json.loads(store.read("t-1.stats.json"))["images"] == 6
    assert shards.run(shards.plan("memory://shards/t-{0..2}.tar", f"{made}/back"), JOB).done == 18


def test_braces():
    assert listing.expand("a.tar") == ["a.tar"]
    assert listing.expand("s-{08..11}.tar") == ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]
    assert listing.expand("{a,b}/{1..2}.tar") == ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("x-{3..1}.tar", "out", "names 0 shards"),
        ("x-{a..c}.tar", "out", r"received \{a..c\}"),
        ("x-{0..99999999}.tar", "out", "more than"),
        ("x-{0..9}.tar", "out/{1..9}.tar", "names 9 shards"),
        ("{a,b}/x.tar", "out", "would be written to one"),
        ("a/x-{0..3}.tar", "a/x-{3..6}.tar", "is an input"),
        ("a/x-{0..3}.tar", "a", "is an input"),
        ("x.tar.gz", "out", "compressed"),
        ("x.tar", "out.tgz", "compressed"),
    ],
)
def test_wrong_patterns(source, target, told):
    with pytest.raises(InvalidArgumentError, match=told):
        shards.plan(source, target)


def test_command(made, start):
    def command(*arguments):
        process = start(*arguments, "--weights", "identity=1,gamma=2")
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    pattern = f"{made}/in/s-{{000..003}}.tar"
    code, out, err = command(pattern, made / "out", "--json")
    assert code == 1, err
    assert (json.loads(out)["done"], json.loads(out)["failures"]) == (18, 1)
    assert err == f"failed: {made}/in/s-003.tar: no such shard\n"
    pack(made / "in/s-003.tar", members(30))
    code, out, err = command(pattern, f"{made}/out/s-{{000..003}}.tar", "--resume", "--json")
    assert code == 0, err
    assert (json.loads(out)["done"], json.loads(out)["skipped"]) == (6, 18)
    for arguments in (
        (pattern, f"{made}/out/s-{{0..2}}.tar"),
        (pattern, made / "out", "--journal", made / "x.db"),
        (pattern, "https://127.0.0.1/x"),
    ):
        code, _, err = command(*arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1
