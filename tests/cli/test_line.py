"""The commands `line`, `export-line` and `config`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie

pytest.importorskip("sdie_fast.line", reason="the compiled module is not there")

from sdie_fast._cli import line_capacity

HEIGHT, WIDTH, FRAMES = 24, 40, 3
SIZE = ("--size", f"{WIDTH}x{HEIGHT}")


@pytest.fixture
def frames(rng, picture):
    return picture(rng, (FRAMES, HEIGHT, WIDTH), np.uint8)


@pytest.fixture
def raw(frames, tmp_path):
    path = tmp_path / "frames.raw"
    frames.tofile(path)
    return path


def enhanced(frames, recipe=None):
    enhancer = sdie.Enhancer(recipe or sdie.default_recipe())
    return np.stack([enhancer(frame)[0] for frame in frames])


def told(done, code=0):
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


# ---- frames ------------------------------------------------------------------------------------------


def test_a_file(call, raw, frames, tmp_path):
    facts = told(call("line", raw, *SIZE, "--out", tmp_path / "out.raw", "--threads", 2, "--json"))
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out.raw", np.uint8).reshape(frames.shape), enhanced(frames))
    assert {k: facts[k] for k in ("frames", "width", "height", "input", "output", "threads", "recipe")} == {
        "frames": FRAMES, "width": WIDTH, "height": HEIGHT, "input": "Mono8", "output": "Mono8", "threads": 2,
        "recipe": "default",
    }  # fmt: skip
    assert (facts["late"], facts["shortened"], facts["refused"], facts["interrupted"]) == (0, 0, 0, False)
    assert facts["latency_ms"]["p50"] is None  # of 3 frames it would be the largest by another name
    assert 0 < facts["latency_ms"]["min"] <= facts["latency_ms"]["mean"] <= facts["latency_ms"]["max"]
    assert facts["mpx_per_s"] == pytest.approx(facts["frames_per_s"] * HEIGHT * WIDTH / 1e6)


def test_a_pipe(call, frames):
    """Frames in on standard input, out on standard output, in other formats; the summary is on standard error."""
    tall = frames.astype("<u2") << 4
    extra = b"123"
    given = ("line", "-", *SIZE, "--input", "mono12", "--output", "Mono8", "--out", "-")
    done = call(*given, input=tall.tobytes() + extra)
    assert done.exit_code == 0, done.stderr
    got = np.frombuffer(done.stdout_bytes, np.uint8).reshape(frames.shape)
    with sdie.line.Plan(sdie.default_recipe(), WIDTH, HEIGHT, "Mono12", "Mono8") as plan:
        np.testing.assert_array_equal(got, [plan.run(frame.astype(np.uint16))[0] for frame in tall])
    assert "the last 3 bytes were no whole frame" in done.stderr
    assert "p99.9" in done.stderr


def test_an_image(call, frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path / "x.png")
    facts = told(call("line", tmp_path / "x.png", "--loop", 9, "--out", tmp_path / "o", "--json"))
    assert (facts["frames"], facts["width"], facts["height"]) == (9, WIDTH, HEIGHT)
    assert facts["latency_ms"]["p50"] is not None
    got = np.fromfile(tmp_path / "o", np.uint8).reshape(9, HEIGHT, WIDTH)
    np.testing.assert_array_equal(got, np.repeat(enhanced(frames[:1]), 9, axis=0))


def test_a_web(call, frames, tmp_path):
    """Strips give what the whole web gives, whatever blocks it comes in; the last one may be short."""
    web = frames.reshape(-1, WIDTH)[: 2 * HEIGHT + 7]
    web.tofile(tmp_path / "web.raw")
    recipe = sdie.Recipe({"bilateral": 1, "guided": 1})
    recipe.save(tmp_path / "r")
    for source, given in ((tmp_path / "web.raw", None), ("-", web.tobytes())):
        done = call(
            "line", source, *SIZE, "--strip", 16, "--recipe", tmp_path / "r", "--out", tmp_path / "o", "--json",
            input=given,
        )  # fmt: skip
        facts = told(done)
        assert (facts["frames"], facts["strip"]) == (4, 16)
        assert facts["mpx_per_s"] * facts["seconds"] == pytest.approx(web.size / 1e6)
        np.testing.assert_array_equal(
            np.fromfile(tmp_path / "o", np.uint8).reshape(web.shape), enhanced([web], recipe)[0]
        )


def test_repeated_and_ended(call, raw):
    assert told(call("line", raw, *SIZE, "--loop", 4, "--json"))["frames"] == 4 * FRAMES
    facts = told(call("line", raw, *SIZE, "--seconds", 0.3, "--json"))
    assert facts["frames"] > FRAMES
    assert facts["seconds"] >= 0.3
    assert told(call("line", raw, *SIZE, "--seconds", 1000, "--loop", 2, "--json"))["frames"] == 2 * FRAMES


def test_paced(call, raw):
    """A frame is due every 20 ms and is not begun before: 20 frames take 19 of them at least."""
    facts = told(call("line", raw, *SIZE, "--pace", 50, "--seconds", 0.39, "--json"))
    assert facts["frames"] <= 20
    assert facts["seconds"] >= 0.39
    assert facts["pace_hz"] == 50
    # Far too fast a pace: frames wait, and the wait is in their latency.
    facts = told(call("line", raw, *SIZE, "--pace", 1e8, "--loop", 100, "--json"))
    assert facts["latency_ms"]["max"] > 0.8 * facts["seconds"] * 1e3


def test_a_deadline(call, raw, frames, tmp_path):
    facts = told(call("line", raw, *SIZE, "--deadline", 1e-6, "--out", tmp_path / "o", "--json"))
    assert (facts["late"], facts["shortened"]) == (FRAMES, FRAMES)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "o", np.uint8).reshape(frames.shape), frames)
    assert (facts["unenhanced"], facts["rounds"]) == (FRAMES, 0)
    shown = call("line", raw, *SIZE, "--deadline", 1e-6).stderr
    assert f"{FRAMES} frames had no round: what came out is what went in" in shown
    facts = told(call("line", raw, *SIZE, "--deadline", 1e6, "--json"))
    assert (facts["late"], facts["shortened"], facts["deadline_ms"]) == (0, 0, 1e6)


def test_a_source_is_not_written_over(call, raw):
    before = raw.read_bytes()
    done = call("line", raw, *SIZE, "--out", raw)
    assert done.exit_code == 2
    assert f"--out: received SOURCE itself, {raw}; accepted: another file" in " ".join(done.stderr.split())
    assert raw.read_bytes() == before


def test_the_table(call, raw):
    done = call("line", raw, *SIZE, "--loop", 5)
    head, row, *_ = done.stderr.splitlines()
    assert " ".join(head.split()) == "frames per s Mpx/s load p50 ms p99 p99.9 max rounds late shortened refused"
    cells = row.split()
    assert cells[0] == "15"
    assert cells[5:7] == ["-", "-"]
    assert cells[-3:] == ["0", "0", "0"]
    assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("strip", [(), ("--strip", "8")])
def test_interrupted(number, strip, frames, tmp_path):
    """It sums up; what was taken is enhanced whole, of a web the lines that are left, too."""
    sdie.Recipe({"bilateral": 1}).save(tmp_path)  # whose context is 3 lines: a strip is out before the next block
    # A shell lets the jobs in its background ignore SIGINT.
    code = (
        "import signal; from sdie_fast.cli import main; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "line", "-", *SIZE, "--recipe", tmp_path, "--out", "-", *strip],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        env={**os.environ, "PYTHONPATH": str(Path(sdie.__file__).parents[1])}, cwd=tmp_path,
    )  # fmt: skip
    process.stdin.write(frames.tobytes())
    first = b""
    while len(first) < (8 * WIDTH if strip else frames.nbytes):
        more = process.stdout.read(WIDTH)
        assert more, process.communicate(timeout=60)[1].decode()
        first += more
    process.send_signal(number)
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    lines = len(first + rest) // WIDTH
    assert lines in (range(HEIGHT, 3 * HEIGHT + 1, HEIGHT) if strip else [3 * HEIGHT])
    head, row, *_ = stderr.decode().splitlines()
    assert head.split()[0] == ("strips" if strip else "frames")
    assert int(row.split()[0]) == (lines // 8 if strip else 3)


def test_a_target_that_is_no_file(call, raw):
    assert told(call("line", raw, *SIZE, "--out", os.devnull, "--json"))["frames"] == FRAMES
    assert not Path(os.devnull).is_file()


def test_a_target_that_fails(call, raw, tmp_path):
    done = call("line", raw, *SIZE, "--out", raw / "x")
    assert done.exit_code == 2
    assert f"--out: {raw}/x cannot be written" in done.stderr
    if Path("/dev/full").exists():
        done = call("line", raw, *SIZE, "--out", "/dev/full")
        assert done.exit_code == 2
        assert "--out: /dev/full cannot be written: No space left" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "SOURCE: received none"),
        (("frames.raw",), "--size: received none"),
        (("frames.raw", "--size", "40"), "--size: received '40'; accepted: WIDTHxHEIGHT"),
        (("frames.raw", "--size", "40x0"), "--size: received '40x0'"),
        (
            ("frames.raw", "--size", "41x24"),
            "SOURCE: frames.raw has 2,880 bytes, 2.93 frames; accepted: whole frames of 984",
        ),
        (("frames.raw", "--size", "41x24", "--strip", "9"), "70.24 lines; accepted: whole lines of 41 bytes"),
        (("frames.raw", *SIZE, "--input", "Mono9"), "received 'Mono9'; accepted: Mono8"),
        (("frames.raw", *SIZE, "--output", "RGB8"), "output"),
        (("frames.raw", *SIZE, "--deadline", "0"), "--deadline: received 0"),
        (("frames.raw", *SIZE, "--pace", "-1"), "--pace: received -1"),
        (("frames.raw", *SIZE, "--pace", "nan"), "--pace: received nan"),
        (("frames.raw", *SIZE, "--seconds", "0"), "--seconds: received 0"),
        (("frames.raw", *SIZE, "--threads", "0"), "--threads"),
        (("frames.raw", *SIZE, "--loop", "0"), "--loop"),
        (("frames.raw", *SIZE, "--strip", "0"), "--strip"),
        (("frames.raw", *SIZE, "--recipe", "nowhere"), "nowhere"),
        (("frames.raw", *SIZE, "--recipe", "frames.raw"), "frames.raw"),
        (("frames.raw", *SIZE, "--out", "-", "--json"), "--json: accepted with --out FILE"),
        (("frames.raw", *SIZE, "--rate", "9"), "--rate: accepted with --plan alone"),
        (("nowhere.raw", *SIZE), "SOURCE: nowhere.raw cannot be read: No such file"),
        (("empty.raw", *SIZE), "has 0 bytes"),
        (("x.png", "--size", "3x3"), "x.png is 40x24 Mono8"),
        (("x.png", "--input", "Mono16"), "x.png is 40x24 Mono8"),
        (("-", *SIZE, "--loop", "2"), "--loop: accepted with a file"),
        (("camera:Fake_1", "--pace", "2"), "--loop, --pace: accepted with a file or a pipe"),
        (("--plan", "40x24"), "--plan: accepted with --rate"),
        (("x.png", "--plan", "40x24", "--rate", "9"), "--plan: accepted with --rate, and without a SOURCE"),
        (("--plan", "40", "--rate", "9"), "--plan: received '40'"),
        (("--plan", "40x24", "--rate", "0"), "--rate: received 0"),
        (("--plan", "40x24", "--rate", "9", "--input", "Mono9"), "received 'Mono9'"),
    ],
)
def test_wrong_usage(call, raw, frames, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(frames[0]).save("x.png")
    Path("empty.raw").touch()
    done = call("line", *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_network_is_refused(call, raw):
    learned = str(files("sdie_fast") / "models" / "sdie_small")
    for given in ((raw, *SIZE), ("--plan", "40x24", "--rate", 9)):
        done = call("line", *given, "--recipe", learned)
        assert done.exit_code == 2
        assert "whose network chooses the weights" in done.stderr


# ---- a camera ----------------------------------------------------------------------------------------


@pytest.fixture
def fake_camera():
    """Aravis' own camera, where this Python has PyGObject."""
    gi = pytest.importorskip("gi", reason="no PyGObject for this Python: Debian's python3-gi")
    try:
        gi.require_version("Aravis", "0.8")
    except ValueError as error:
        pytest.skip(f"{error}: Debian's gir1.2-aravis-0.8")
    return "camera:Fake_1"


@pytest.mark.parametrize(("pixels", "size"), [("Mono8", (200, 100)), ("Mono16", (64, 48)), ("RGB8", (64, 48))])
def test_a_camera(pixels, size, call, fake_camera, tmp_path):
    given = ("--size", "{}x{}".format(*size), "--input", pixels, "--seconds", 0.5, "--out", tmp_path / "o", "--json")
    facts = told(call("line", fake_camera, *given))
    assert facts["frames"] >= 2
    assert (facts["width"], facts["height"]) == size
    shape, dtype = sdie.line.layout(pixels, *size)
    got = np.fromfile(tmp_path / "o", dtype)
    assert got.size == facts["frames"] * np.prod(shape)
    assert got.std() > 0  # its picture is a ramp


def test_a_camera_that_is_not_there(call, fake_camera):
    done = call("line", "camera:Fake_7")
    assert done.exit_code == 2
    assert "SOURCE: camera 'Fake_7': " in done.stderr
    done = call("line", fake_camera, "--input", "Mono12p")
    assert "SOURCE: camera 'Fake_1': " in done.stderr


def test_without_aravis_it_is_told_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    done = call("line", "camera:Fake_1")
    assert done.exit_code == 2
    assert "apt install python3-gi gir1.2-aravis-0.8" in done.stderr
    assert "examples/aravis" in done.stderr


# ---- --plan ------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(line_capacity, "_SECONDS", 0.5)


def test_what_this_machine_can_do(call, quick):
    """A line a second is easy, and the next command is told."""
    given = ("line", "--plan", "64x32", "--rate", 1)
    facts = told(call(*given, "--json"))
    assert (facts["budget_ms"], facts["frames_per_s"], facts["mpx_per_s"]) == (32_000.0, 1 / 32, 64e-6)
    assert facts["rows"][0]["threads"] == 1
    assert {row["verdict"] for row in facts["rows"]} == {"yes"}
    assert facts["rows"][0]["rounds_that_fit"] > facts["rounds"] == 5
    assert facts["rows"][0]["load"] == pytest.approx(facts["rows"][0]["median_ms"] / 32_000)
    assert [f["filter"] for f in facts["filters"]] == ["wls", "bilateral", "sharpen", "guided", "spatiogram"]
    assert [f["rounds"] for f in facts["filters"]] == [5, 5, 5, 3, 2]
    assert facts["variants"] == []
    done = call(*given)
    assert "Yes, on 1 thread: " in done.stdout
    assert "sdie-fast line FRAMES --size 64x32 --input Mono8 --threads 1 --pace 0.03125" in " ".join(
        done.stdout.split()
    )


def test_what_it_cannot_do_and_what_would(call, quick, tmp_path):
    recipe = sdie.Recipe([{"wls": 1, "bilateral": 1}] * 3 + [{"identity": 1}])  # exact WLS, square footprint
    recipe.save(tmp_path / "r")
    facts = told(
        call("line", "--plan", "64x32", "--rate", 1e8, "--recipe", tmp_path / "r", "--input", "Mono12p", "--json")
    )
    assert {row["verdict"] for row in facts["rows"]} == {"no"}
    changes = [v["change"] for v in facts["variants"]]
    assert changes[0] == "with wls_solver=fast, bilateral_footprint=disk"
    assert changes[-1] == "with its first 1 of 4 rounds"
    assert {row["rounds_that_fit"] for row in facts["rows"]} == {0}
    assert len(facts["advice"]) == len(changes) + 2
    assert facts["advice"][-1].startswith("Nothing that was tried fits")
    assert "too slow here, good for " in facts["advice"][0]


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (
            2.0,
            1.0,
            "1.3 times too slow here, good for 800 lines/s; about 3 such CPUs would do, if all help as these 2",
        ),
        (1.0, 1.0, "1.3 times too slow here, good for 800 lines/s; 2 threads are no quicker than one"),
        (0.7, 0.75, "The median fits, but some run took longer"),
    ],
)
def test_advice(one, two, words):
    times = {n: line_capacity._Times(t, 1.01 * max(t, 1.0), 9) for n, t in ((1, one), (2, two))}
    report = {
        "rate_lines_per_s": 1000.0,
        "rows": [{"threads": n, **line_capacity._row(t, 1.0)} for n, t in times.items()],
    }
    report |= {"width": 64, "height": 32, "input": "Mono8", "frames_per_s": 1.0, "budget_ms": 1000.0}
    variants = {"with less": line_capacity._Times(0.4, 0.5, 3), "with more": line_capacity._Times(2.0, 2.0, 3)}
    first, second, third, last = line_capacity._advice(report, Path("r"), times, variants, 1.0)
    assert words in first
    assert second == "The recipe with less: 400 ms on 2 threads, yes."
    assert third == "The recipe with more: 2,000 ms on 2 threads, 2.5 times too slow."
    assert last.startswith("What fits: with less. ")
    assert last.endswith(
        ": sdie-fast line FRAMES --recipe r --size 64x32 --input Mono8 --threads 2 --pace 1 --deadline 1000 --seconds 120"
    )


def test_first_rounds_that_cost_more_than_the_average():
    """Five rounds of 1.0: by the average two fit in 0.4 of 0.5, but the first two take 0.42."""
    recipe, asked = sdie.Recipe([{"wls": 1}] * 5), []

    def bench(shorter, words):
        asked.append(words)
        return line_capacity._Times(0.21 * shorter.rounds, 0.21 * shorter.rounds, 3)

    found, fit = line_capacity._shorter(recipe, line_capacity._Times(1.0, 1.0, 3), 0.5, bench)
    assert asked == list(found) == ["with its first 2 of 5 rounds", "with its first 1 of 5 rounds"]
    assert fit == 1
    assert line_capacity._shorter(recipe, line_capacity._Times(0.39, 0.6, 3), 0.5, bench) == ({}, None)


def test_the_table_has_what_was_measured(call, quick, monkeypatch):
    monkeypatch.setattr(line_capacity, "_shorter", lambda *_: ({}, 1))
    facts = told(call("line", "--plan", "64x32", "--rate", 1e8, "--json"))
    assert facts["rows"][-1]["rounds_that_fit"] == 1


def test_a_large_picture_is_measured_in_part(call, quick, monkeypatch):
    monkeypatch.setattr(line_capacity, "_MOST_PIXELS", 64 * 16)
    monkeypatch.setattr(line_capacity, "_MOST_RUNS", 0)
    facts = told(call("line", "--plan", "64x64", "--rate", 1, "--json"))
    assert facts["lines_measured"] == 16
    assert facts["rows"][-1]["runs"] == 1
    assert all(row["worst_ms"] == row["median_ms"] for row in facts["rows"])
    assert "measured on 16 lines" in call("line", "--plan", "64x64", "--rate", 1).stdout


@pytest.mark.parametrize(
    ("value", "words"), [(2.34, "2.4"), (105.2, "110"), (12.0, "12"), (0.0123, "0.013"), (4100.1, "4,200"), (2, "2")]
)
def test_two_digits(value, words):
    assert line_capacity._digits(value) == words


@pytest.mark.parametrize(
    ("median", "worst", "verdict"),
    [(0.79, 0.99, "yes"), (0.79, 1.01, "barely"), (0.9, 0.9, "barely"), (1.1, 1.1, "no")],
)
def test_verdicts(median, worst, verdict):
    assert line_capacity._verdict(line_capacity._Times(median, worst, 9), 1.0) == verdict


# ---- export-line, config -----------------------------------------------------------------------------


def test_export_line(call, raw, frames, tmp_path):
    recipe = sdie.Recipe([{"gamma": 1}, {"median": 1, "identity": 1}], name="tile", passes=2)
    recipe.save(tmp_path / "r")
    done = call("export-line", tmp_path / "r", tmp_path / "tile.line")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/tile.line: tile, 1 round of " in done.stdout
    assert "of the recipe's 2 passes this is the first" in done.stderr
    assert (tmp_path / "tile.line").read_bytes() == sdie.line.export(recipe, tmp_path / "other").read_bytes()
    facts = told(call("line", raw, *SIZE, "--recipe", tmp_path / "tile.line", "--out", tmp_path / "o", "--json"))
    assert facts["recipe"] == str(tmp_path / "tile.line")
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "o", np.uint8).reshape(frames.shape), enhanced(frames, recipe)
    )


def test_export_line_of_a_network(call, tmp_path):
    done = call("export-line", str(files("sdie_fast") / "models" / "sdie_small"), tmp_path / "x")
    assert done.exit_code == 2
    assert "sdie_plan_set_weights" in done.stderr
    assert not (tmp_path / "x").exists()


def test_config(call, tmp_path, monkeypatch):
    package = tmp_path / "a package"
    (package / "include").mkdir(parents=True)
    (package / "include" / "sdie_fast.h").touch()
    monkeypatch.setattr(sdie, "__path__", [str(tmp_path), str(package)])  # as an editable installation has it
    lib = f"{package}/lib"
    assert call("config", "--cmake-dir").stdout == f"'{lib}/cmake/sdie_fast'\n"
    assert call("config", "--pkg-config-dir").stdout == f"'{lib}/pkgconfig'\n"
    assert call("config", "--cflags", "--libs").stdout == (
        f"'-I{package}/include' '-L{lib}' '-Wl,-rpath,{lib}' -lsdie_fast\n"
    )


def test_config_where_there_is_no_library(call, tmp_path, monkeypatch):
    monkeypatch.setattr(sdie, "__path__", [str(tmp_path)])
    done = call("config", "--libs")
    assert done.exit_code == 2
    assert f"{tmp_path} has no include/sdie_fast.h" in done.stderr
    done = call("config")
    assert done.exit_code == 2
    assert "accepted: --cflags, --libs, --cmake-dir, --pkg-config-dir" in done.stderr


@pytest.mark.parametrize("command", ["line", "export-line", "config"])
def test_help_fits_a_screen_and_teaches(call, command):
    words = call(command, "--help", terminal_width=100).stdout
    assert len(words.splitlines()) <= 28, words
    assert {"line": "sdie-fast line --plan", "config": "$(sdie-fast config"}.get(
        command, "sdie-fast export-line"
    ) in words
    assert "Example: `" in words
