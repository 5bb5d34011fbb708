from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie
from sdie_fast import _backends, cli, files
from sdie_fast._cli import demo, enhance_command
from sdie_fast.batch import journal
from sdie_fast.data import synthetic
from sdie_fast.errors import ImageFileError

WEIGHTS = "identity=1,sharpen=1,guided=2"
ROW = [1, 0, 0, 1, 2, 0]


@pytest.fixture
def tree(tmp_path):
    """Three good images of two sizes in two folders."""
    root = tmp_path / "in"
    (root / "b").mkdir(parents=True)
    for k, (name, size) in enumerate((("one.png", (40, 50)), ("two.png", (40, 50)), ("b/three.bmp", (33, 64)))):
        Image.fromarray(synthetic.surface("patch", seed=k, size=size).image).save(root / name)
    return root


def read(path):
    return np.asarray(Image.open(path))


# ---- enhance -----------------------------------------------------------------------------------------


def test_tree_keeps_its_layout(call, tree, tmp_path):
    done = call("enhance", tree, tmp_path / "out", "--weights", WEIGHTS, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["done"], report["failed"]) == (3, {})
    assert report["pixels"] == 2 * 40 * 50 + 33 * 64
    for name in ("one.png", "two.png", "b/three.bmp"):
        assert np.array_equal(read(tmp_path / "out" / name), sdie.enhance(read(tree / name), ROW))
    assert not list((tmp_path / "out").rglob("*.part"))


def test_one_file_and_the_default_recipe(call, tree, tmp_path):
    assert call("enhance", tree / "one.png", tmp_path / "x.tif").exit_code == 0
    expected, _ = sdie.Enhancer(sdie.default_recipe())(read(tree / "one.png"))
    assert np.array_equal(read(tmp_path / "x.tif"), expected)


def test_recipe_from_disk_and_rounds(call, tree, tmp_path):
    sdie.Recipe([ROW, ROW], sdie.FilterParams()).save(tmp_path / "recipe")
    assert call("enhance", tree, tmp_path / "a", "--recipe", tmp_path / "recipe").exit_code == 0
    assert call("enhance", tree, tmp_path / "b", "--weights", WEIGHTS, "--rounds", 2).exit_code == 0
    assert np.array_equal(read(tmp_path / "a" / "one.png"), read(tmp_path / "b" / "one.png"))


def test_any_filter_by_name(call, tree, tmp_path):
    given = ("--weights", "gamma=1,median=3", "--params", "gamma_exponent=0.7,median_window=5")
    assert call("enhance", tree / "one.png", tmp_path, *given).exit_code == 0
    params = sdie.FilterParams(gamma_exponent=0.7, median_window=5)
    expected = sdie.enhance(read(tree / "one.png"), {"gamma": 1, "median": 3}, params=params)
    np.testing.assert_array_equal(read(tmp_path / "one.png"), expected)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_eight_bit_formats(call, tmp_path, suffix, shape, rng):
    pixels = rng.integers(60, 200, shape).astype(np.uint8)
    source = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(source)
    assert call("enhance", source, tmp_path / "out", "--weights", WEIGHTS).exit_code == 0
    got, expected = read(tmp_path / "out" / source.name), sdie.enhance(read(source), ROW)
    if suffix == "jpg":
        assert np.abs(got.astype(int) - expected).mean() < 4
    else:
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey(call, tmp_path, suffix, rng):
    pixels = rng.integers(0, 65536, (30, 40)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    assert call("enhance", tmp_path / f"x.{suffix}", tmp_path / "out", "--weights", WEIGHTS).exit_code == 0
    got = files.read(tmp_path / "out" / f"x.{suffix}").pixels
    assert got.dtype == np.uint16
    assert np.array_equal(got, sdie.enhance(pixels, ROW))


def test_alpha_palette_and_bilevel(call, tmp_path, rng):
    rgba = rng.integers(0, 256, (30, 40, 4)).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., :3]).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(rgba[..., 0] > 128).save(tmp_path / "bilevel.png")
    assert call("enhance", tmp_path, tmp_path / "out", "--weights", WEIGHTS).exit_code == 0
    got = read(tmp_path / "out" / "rgba.png")
    assert np.array_equal(got[..., 3], rgba[..., 3])
    assert np.array_equal(got[..., :3], sdie.enhance(np.ascontiguousarray(rgba[..., :3]), ROW))
    assert read(tmp_path / "out" / "palette.png").shape == (30, 40, 3)
    assert read(tmp_path / "out" / "bilevel.png").shape == (30, 40)


def test_orientation_of_a_camera_is_applied(tmp_path, rng):
    image = Image.fromarray(rng.integers(0, 256, (20, 30)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "x.jpg", exif=exif, quality=100)
    assert files.read(tmp_path / "x.jpg").pixels.shape == (30, 20)


def test_bad_files_are_reported_and_the_rest_done(call, tree, tmp_path):
    whole = (tree / "one.png").read_bytes()
    (tree / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tree / "text.png").write_text("not an image")
    (tree / "empty.jpg").write_bytes(b"")
    Image.new("L", (5, 5)).save(tree / "tiny.png")
    done = call("enhance", tree, tmp_path / "out", "--weights", WEIGHTS, "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["done"] == 3
    assert sorted(os.path.basename(p) for p in report["failed"]) == [
        "cut.png",
        "empty.jpg",
        "text.png",
        "tiny.png",
    ]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["one.png", "two.png"]
    assert "failed: " in done.stderr


def test_resume_skips_what_is_done_and_unchanged(call, tree, tmp_path):
    arguments = ("enhance", tree, tmp_path / "out", "--weights", WEIGHTS, "--resume", "--json")

    def counts():
        report = json.loads(call(*arguments).stdout)
        return report["done"], report["skipped"]

    assert counts() == (3, 0)
    assert counts() == (0, 3)
    Image.fromarray(255 - read(tree / "one.png")).save(tree / "one.png")
    (tmp_path / "out" / "two.png").unlink()
    assert counts() == (2, 1)
    other = json.loads(call(*arguments[:3], "--weights", "wls=1", "--resume", "--json").stdout)
    assert (other["done"], other["skipped"]) == (3, 0)
    (tmp_path / "out" / journal.NAME).write_text("{broken")
    assert counts() == (3, 0)
    assert counts() == (0, 3)


def test_ground_truth_masks_are_left_alone(call, tmp_path):
    synthetic.write_dataset(tmp_path / "set", ["scratch"], per_kind=2, seed=0, size=(40, 40))
    report = json.loads(call("enhance", tmp_path / "set", tmp_path / "out", "--json").stdout)
    assert report["done"] == 2
    assert not (tmp_path / "out" / "Steel_Sc" / "GT").exists()


def test_out_inside_in_is_not_taken_for_input(call, tree):
    for _ in range(2):
        assert json.loads(call("enhance", tree, tree / "out", "--weights", WEIGHTS, "--json").stdout)["done"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing", "out"), "does not exist"),
        (("in", "in"), "originals are never overwritten"),
        (("in/one.png", "in/one.png"), "never overwritten"),
        (("in", "out", "--weights", "1,2,3"), "weights"),
        (("in", "out", "--weights", "1,2,3,4,5,x"), "--weights: received 'x'; accepted: a number"),
        (("in", "out", "--weights", "blur=1"), "unknown filter 'blur'"),
        (("in", "out", "--weights", "wls=1,wls=2"), "each name once"),
        (("in", "out", "--weights", "0,0,0,0,0,0"), "weights"),
        (("in", "out", "--weights", "wls=1", "--recipe", "r"), "one is accepted"),
        (("in", "out", "--recipe", "nowhere"), "nowhere"),
        (("in", "out", "--format", "gif"), "--format: received 'gif'"),
        (("in", "out", "--backend", "tpu"), "tpu"),
        (("in", "out", "--weights", "wls=1", "--params", "wls_solver=magic"), "wls_solver: received 'magic'"),
        (("in", "out", "--weights", "wls=1", "--params", "wls=magic"), "the unknown key 'wls'"),
        (("in", "out", "--params", "window=5"), "only with --weights"),
        (("in", "out", "--memory", "much"), "--memory: received 'much'"),
        (("in", "out", "--memory", "0G"), "--memory: received '0G'"),
        (("in", "out", "--files-from", "nowhere"), "--files-from: nowhere cannot be read: No such file"),
    ],
)
def test_wrong_usage(call, tree, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = call("enhance", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_names_that_collide(call, tree, tmp_path):
    Image.fromarray(read(tree / "one.png")).save(tree / "one.bmp")
    done = call("enhance", tree, tmp_path / "out", "--format", "png", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["done"], set(report["failed"])) == (2, {"one.png", "one.bmp"})
    assert done.stderr.count("would be written to one.png, too") == 2
    assert not (tmp_path / "out" / "one.png").exists()


@pytest.mark.parametrize(("options", "told"), [((), "no image files"), (("--files-from", "-"), "names no file")])
def test_no_image_at_all(call, tmp_path, options, told):
    (tmp_path / "in").mkdir()
    done = call("enhance", tmp_path / "in", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("null", [(), ("-0",), ("--null",)])
@pytest.mark.parametrize("last", [True, False])
def test_a_list_of_names(call, tree, tmp_path, null, last):
    mark = "\0" if null else "\r\n"
    given = mark.join(["two.png", "b/three.bmp", "gone.png"]) + mark * last
    done = call("enhance", tree, tmp_path / "out", *null, "--files-from", "-", "--json", input=given)
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert (report["done"], report["failed"]) == (2, {"gone.png": "gone.png: no such file"})
    (tmp_path / "list").write_bytes(given.encode())
    done = call("enhance", tree, tmp_path / "again", *null, "--files-from", tmp_path / "list", "--json")
    assert json.loads(done.stdout)["done"] == 2


def test_a_journal_elsewhere(call, tree, tmp_path):
    arguments = ("enhance", tree, tmp_path / "out", "--journal", tmp_path / "j.db", "--resume", "--json")
    assert [json.loads(call(*arguments).stdout)["skipped"] for _ in range(2)] == [0, 3]
    assert not (tmp_path / "out" / journal.NAME).exists()
    other = json.loads(call(*arguments[:2], tmp_path / "other", *arguments[3:]).stdout)
    assert other["done"] == 3


def test_a_run_without_resume_is_recorded_too(call, tree, tmp_path):
    call("enhance", tree, tmp_path / "out")
    assert json.loads(call("enhance", tree, tmp_path / "out", "--json").stdout)["done"] == 3
    assert json.loads(call("enhance", tree, tmp_path / "out", "--resume", "--json").stdout)["skipped"] == 3
    assert call("enhance", tree / "one.png", tmp_path / "alone").exit_code == 0
    assert [p.name for p in (tmp_path / "alone").iterdir()] == ["one.png"]


def test_white_level(call, tmp_path, rng):
    pixels = rng.integers(0, 4096, (30, 40)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    given = ("--weights", WEIGHTS, "--white-level", 4095, "--png-level", 9)
    assert call("enhance", tmp_path / "x.png", tmp_path / "out", *given).exit_code == 0
    got = files.read(tmp_path / "out" / "x.png").pixels
    assert np.array_equal(got, sdie.enhance(pixels, ROW, white_level=4095))


def test_memory_too_small_for_two_changes_nothing(call, tree, tmp_path):
    assert json.loads(call("enhance", tree, tmp_path / "out", "--memory", "1k", "--json").stdout)["done"] == 3


@pytest.mark.parametrize(("text", "count"), [("500M", 500 * 2**20), ("1.5GiB", 3 * 2**29), ("77", 77), ("2kb", 2048)])
def test_sizes_of_memory(text, count):
    assert enhance_command._bytes(text) == count


# ---- files -------------------------------------------------------------------------------------------


def test_sixteen_bits_do_not_fit_a_jpeg(tmp_path):
    with pytest.raises(ImageFileError, match="16-bit"):
        files.write(tmp_path / "x.jpg", files.Picture(np.zeros((9, 9), np.uint16)))
    assert not list(tmp_path.iterdir())


def test_limit_on_pixels(tmp_path):
    Image.new("L", (100, 100)).save(tmp_path / "x.png")
    with pytest.raises(ImageFileError, match="100 x 100 pixels"):
        files.read(tmp_path / "x.png", files.Limits(pixels=9999))


def test_several_pages_are_refused(tmp_path):
    page = Image.new("L", (20, 20))
    page.save(tmp_path / "x.tif", save_all=True, append_images=[page])
    with pytest.raises(ImageFileError, match="2 pages"):
        files.read(tmp_path / "x.tif")


# ---- the other commands ------------------------------------------------------------------------------


def test_doctor_tells_what_pip_takes(call, monkeypatch):
    told = {"cuda": 'not built: pip install "sdie-fast[gpu]"'}
    monkeypatch.setattr("sdie_fast._cli.doctor.available", lambda: told)
    assert "sdie-fast[gpu]" in "".join(c for c in call("doctor").stdout if c not in " \n│")


def test_doctor(call):
    assert "backend auto" in call("doctor").stdout
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["usable"]
    assert [b["name"] for b in facts["backends"]] == ["cuda", "cpu", "reference"]
    for b in facts["backends"]:
        assert b["available"] == (not b["reason"]) == (not b["fix"])
    assert facts["auto"] in ("cpu", "reference")
    assert facts["auto_on_device"] == ("cuda" if facts["backends"][0]["available"] else None)
    assert "numba-cuda" in facts["packages"]
    assert facts["threads"]["default"] >= 1


@pytest.fixture
def quick_demo(monkeypatch):
    monkeypatch.setattr("sdie_fast._cli.demo._BATCH", 12)
    monkeypatch.setattr("sdie_fast._cli.demo._REPEATS", 1)


def test_demo(call, tmp_path, monkeypatch, quick_demo):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # without the segmenter's part
    done = call("demo", "--out", tmp_path / "demo", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["kind"] for row in result["surfaces"]] == list(synthetic.KINDS)
    assert result["rounds"] == 5
    sheet = Image.open(result["sheet"])
    assert sheet.width > 1000
    assert np.asarray(sheet).std() > 20
    told = call("demo", "--out", tmp_path / "demo").stdout
    assert "before and after" in told
    assert 'pip install "sdie-fast[demo]"' in told


def test_demo_tells_what_the_report_does(capsys):
    """The class's name, the oracle, and the gain as it was before rounding."""
    scores = {"alone": 0.5024, "sdie": 0.5736, "oracle": 0.5704}
    found = {
        "classes": [{"kind": "oil spot", "label": "Steel_Os", **dict.fromkeys(scores, 1.0)}],
        "miou": scores, "fb_iou": scores, "gain": 7.26, "images": 36, "rule": "verifier", "report": "x.html",
    }  # fmt: skip
    batch = {"images": 1, "threads": 1, "ms_per_image": 1.0, "mpx_per_s": 1.0}
    demo.tell({"surfaces": [], "batch": batch, "rounds": 5, "sheet": "x.png", "segmentation": found})
    told = capsys.readouterr().out
    assert "oil spot (Steel_Os)" in told
    assert re.search(r"segmenter alone +SDIE +oracle\n", told)
    assert "SDIE +7.3 MIoU against the segmenter alone, before rounding" in told
    assert "can come out higher" in told


@pytest.mark.slow
def test_demo_segments(call, tmp_path, monkeypatch, quick_demo):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("sdie_fast._cli.demo._EACH", 1)
    done = call("demo", "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["segmentation"]
    assert found["images"] == len(found["classes"]) == 12
    assert found["classes"][0]["kind"] == "abrasion mask"
    assert 0 < found["miou"]["alone"] < 1
    page = Path(found["report"]).read_text()
    assert page.count("data:image/jpeg") == 12
    assert "http" not in page  # nothing is fetched


@pytest.mark.parametrize("command", [("enhance", "in", "out"), ("bench",)])
def test_cuda_where_it_cannot_run(call, tree, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    gone = _backends.Backend("cuda", False, "no GPU today", "buy one", None)
    real = _backends.get
    monkeypatch.setattr(_backends, "get", lambda name: gone if name == "cuda" else real(name))
    done = call(*command, "--backend", "cuda")
    assert done.exit_code == 2
    assert "'cuda' cannot run here: no GPU today; to fix: buy one" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("enhance", 32),
        ("bench", 28),
        ("doctor", 30),
        ("demo", 30),
        ("export-sam", 30),
        ("fetch-segmenter", 24),
        ("segment", 36),
        ("evaluate", 40),
    ],
)
def test_help_fits_a_screen_and_teaches(call, command, lines):
    told = call(command, "--help", terminal_width=100).stdout
    assert len(told.splitlines()) <= lines, told
    assert f"Example: sdie-fast {command}" in told.replace("`", "")


def test_help_of_training_fits_a_small_screen(call):
    told = call("train", "--help", terminal_width=80).stdout
    assert len(told.splitlines()) <= 24, told
    assert "Example: sdie-fast train" in told


def test_help_names_every_filter(call):
    told = " ".join(call("enhance", "--help").stdout.split())
    assert ", ".join(sdie.filters.TABLE) in told
    assert call().exit_code in (0, 2)
    assert "enhance" in call("--help").stdout


def test_entry_point(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sdie-fast", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["usable"]
