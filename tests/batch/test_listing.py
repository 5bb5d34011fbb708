import os
import sys
from collections import Counter
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdie_fast.batch.listing import open_places, targets
from sdie_fast.errors import InvalidArgumentError
from sdie_fast.files import IMAGE_SUFFIXES, LocalStore


def listed(source, target, **options):
    return list(targets(LocalStore(source), LocalStore(target), **options))


def names(pairs):
    return sorted(pair.source.name for pair in pairs if pair.error is None)


def errors(pairs):
    return {pair.source.name: pair.error for pair in pairs if pair.error is not None}


def touch(folder, *files):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_images_alone_in_any_case(tmp_path):
    touch(
        tmp_path / "in", "a.png", "b/c.JPG", "b/d.TiFf", "notes.txt", ".hidden.png", ".git/e.png", "png", "b/f.png.txt"
    )
    found = listed(tmp_path / "in", tmp_path / "out")
    assert names(found) == ["a.png", "b/c.JPG", "b/d.TiFf"]
    assert all(pair.target == pair.source.name and pair.source.size == 1 for pair in found)


def test_the_first_comes_before_the_last_has_been_looked_at(tmp_path, monkeypatch):
    touch(tmp_path / "in", *(f"{k}/a.png" for k in range(50)))
    opened = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(path) or real(path))
    next(targets(LocalStore(tmp_path / "in"), LocalStore(tmp_path / "out")))
    assert len(opened) < 5


def test_masks_beside_images_are_left_alone(tmp_path):
    touch(
        tmp_path / "in", "steel/Images/a.png", "steel/GT/a.png", "GT/alone.png", "other/GT/b.png", "other/images/c.png"
    )
    assert names(listed(tmp_path / "in", tmp_path / "out")) == [
        "GT/alone.png", "other/GT/b.png", "other/images/c.png", "steel/Images/a.png",
    ]  # fmt: skip


def test_links_are_followed_and_loops_end(tmp_path):
    source = touch(tmp_path / "in", "a.png", "sub/b.png")
    touch(tmp_path / "elsewhere", "c.png")
    (source / "sub" / "up").symlink_to(source)
    (source / "self").symlink_to(".")
    (source / "far").symlink_to(tmp_path / "elsewhere")
    (source / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (source / "link.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    assert names(listed(source, tmp_path / "out")) == ["a.png", "far/c.png", "link.png", "sub/b.png"]


@pytest.mark.parametrize("way", ["plain", "link", "not there", "linked into"])
def test_out_inside_in_is_no_input(tmp_path, way):
    source = touch(tmp_path / "in", "a.png")
    out = source / "out"
    if way == "not there":
        found = targets(LocalStore(source), LocalStore(out))
        first = next(found)
        touch(out, "a.png")
        assert names([first, *found]) == ["a.png"]
        return
    touch(out, "a.png", "deep/b.png")
    touch(tmp_path / "in", "out-of-it/c.png")  # a name that only begins like OUT's
    if way == "link":
        (tmp_path / "link").symlink_to(out)
        out = tmp_path / "link"
    if way == "linked into":
        (source / "again").symlink_to(out / "deep")
        (source / "b.png").symlink_to(out / "deep" / "b.png")
    assert names(listed(source, out)) == ["a.png", "out-of-it/c.png"]


def test_out_above_in(tmp_path):
    source = touch(tmp_path / "project" / "raw", "a.png", "b/c.png", "raw/d.png", "raw/b/e.png")
    found = listed(source, tmp_path / "project")
    assert names(found) == ["a.png", "b/c.png"]
    assert set(errors(found)) == {"raw/d.png", "raw/b/e.png"}
    assert "originals are never overwritten" in errors(found)["raw/d.png"]


def test_a_link_in_out_that_leads_into_in(tmp_path):
    source = touch(tmp_path / "in", "sub/a.png", "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(source / "sub")
    found = listed(source, tmp_path / "out")
    assert (names(found), set(errors(found))) == (["b.png"], {"sub/a.png"})


def test_an_original_that_a_link_in_in_leads_to(tmp_path):
    source = touch(tmp_path / "project" / "raw", "b.png")
    touch(tmp_path / "project", "a.png")
    (source / "a.png").symlink_to("../a.png")
    assert names(listed(source, tmp_path / "project")) == ["b.png"]


def test_out_is_in(tmp_path):
    touch(tmp_path / "in", "a.png")
    (tmp_path / "link").symlink_to("in")
    for out in (tmp_path / "in", tmp_path / "link", tmp_path / "in" / "..", tmp_path / "in" / ".." / "in"):
        if out.samefile(tmp_path):
            continue
        with pytest.raises(InvalidArgumentError, match="never overwritten"):
            targets(LocalStore(tmp_path / "in"), LocalStore(out))


@given(st.lists(st.tuples(st.sampled_from(["", "x/", "y/"]), st.sampled_from("ab"), st.sampled_from(
    [*IMAGE_SUFFIXES, ".PNG", ".Jpg"])), unique=True, max_size=12))  # fmt: skip
def test_names_that_would_become_one(tmp_path_factory, parts):
    source = tmp_path_factory.mktemp("in")
    touch(source, *map("".join, parts))
    goals = Counter((folder, stem) for folder, stem, _ in parts)
    wanted = sorted("".join(part) for part in parts if goals[part[:2]] == 1)
    found = listed(source, source.parent / "out", suffix=".png")
    assert names(found) == wanted
    assert set(errors(found)) == {"".join(part) for part in parts} - set(wanted)
    assert all(PurePosixPath(pair.target).suffix == ".png" for pair in found)
    everything = list(map("".join, parts))
    assert names(listed(source, source.parent / "out", suffix=".png", names=everything)) == wanted


def test_names_that_would_become_one_where_links_and_folders_are(tmp_path):
    source = touch(tmp_path / "in", "a.png", "b.jpg", "b.png/c.png", "d.png")
    (source / "a.jpg").symlink_to("d.png")
    found = listed(source, tmp_path / "out", suffix=".png")
    assert names(found) == ["b.jpg", "b.png/c.png", "d.png"]
    assert set(errors(found)) == {"a.png", "a.jpg"}


def test_a_list_of_names(tmp_path):
    source = touch(tmp_path / "in", "a.png", "b/c.jpg", "b/c.png", "notes.txt", "a\nb.png")
    touch(tmp_path, "outside.png")
    given = ["a.png", "./a.png", "", "b/../b/c.jpg", "gone.png", "/etc/a.png", "../outside.png", "b/../../outside.png",
             "notes.txt", "b", "a\nb.png", "zero\0.png", "a.png/b.png"]  # fmt: skip
    found = listed(source, tmp_path / "out", names=iter(given))
    assert names(found) == ["a\nb.png", "a.png", "b/c.jpg"]
    assert set(errors(found)) == {
        "gone.png", "/etc/a.png", "../outside.png", "notes.txt", "b", "zero\0.png", "a.png/b.png",
    }  # fmt: skip
    assert all(told.startswith(name) for name, told in errors(found).items())
    # Only what is listed can collide.
    assert names(listed(source, tmp_path / "out", names=["b/c.jpg"], suffix=".png")) == ["b/c.jpg"]


def test_a_list_is_taken_as_it_comes(tmp_path):
    source = touch(tmp_path / "in", "a.png", "b.png")

    def slow():
        yield "a.png"
        raise AssertionError("asked for too early")

    assert next(targets(LocalStore(source), LocalStore(tmp_path / "out"), names=slow())).source.name == "a.png"


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_not_unicode(tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    touch(tmp_path / "in", name)
    assert names(listed(tmp_path / "in", tmp_path / "out", suffix=".jpg")) == [name]


def test_a_single_file(tmp_path, monkeypatch):
    touch(tmp_path, "x.png", "y.gif", "there/z.png")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)

    def places(source, target, suffix=None):
        store, out, pair = open_places(source, target, suffix)
        return os.path.normpath(os.path.join(store.url, pair.source.name)), os.path.normpath(
            os.path.join(out.url, pair.target)
        )

    assert places("x.png", "dir") == ("x.png", "dir/x.png")
    assert places("x.png", "dir", ".tif") == ("x.png", "dir/x.tif")
    assert places("there/z.png", "y.tif") == ("there/z.png", "y.tif")
    assert places("x.png", "deep/er/y.PNG") == ("x.png", "deep/er/y.PNG")
    assert places(str(tmp_path / "x.png"), "folder.png") == (str(tmp_path / "x.png"), "folder.png/x.png")
    assert open_places("folder.png", "out")[2] is None
    for source, target, told in (
        ("y.gif", "dir", "suffix"),
        ("x.png", "x.png", "never overwritten"),
        ("x.png", ".", "never overwritten"),
        ("there/z.png", "there/../there", "never overwritten"),
        ("gone", "out", "does not exist"),
        ("gone.png", "out", "does not exist"),
    ):
        with pytest.raises(InvalidArgumentError, match=told):
            open_places(source, target)


def test_a_single_file_and_another_format(make, tmp_path):
    make(tmp_path, "a.png")
    assert open_places(str(tmp_path / "a.png"), str(tmp_path / "b.jpeg"), ".jpg")[2].target == "b.jpeg"
    with pytest.raises(InvalidArgumentError, match=r"--format: received '\.png' with OUT .*b\.jpg"):
        open_places(str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), ".png")
