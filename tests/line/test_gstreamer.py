"""The GStreamer element: what it makes of frames is what Python makes of them."""

import os
import re
import subprocess

import numpy as np
import pytest
from integrator import GSTREAMER, ROOT, need, need_package, run

import sdie_fast as sdie

# Format: NumPy's type, samples of a pixel.
FORMATS = {"GRAY8": (np.uint8, 1), "GRAY16_LE": ("<u2", 1), "RGB": (np.uint8, 3), "BGR": (np.uint8, 3)}
FRAMES = 5


@pytest.fixture(scope="module")
def plugin(request, tmp_path_factory):
    """Environment in which GStreamer finds the element, built by its own CMakeLists.txt."""
    need("cmake", "g++", "make", "gst-launch-1.0", "gst-inspect-1.0")
    need_package("gstreamer-video-1.0", GSTREAMER)
    installed = request.getfixturevalue("prefix")
    folder = tmp_path_factory.mktemp("gstreamer")
    flags = f"-DCMAKE_C_FLAGS=-Wall -Wextra -Wshadow -Werror -isystem {folder}"
    run("cmake", "-S", ROOT / "plugins" / "gstreamer", "-B", folder / "b", f"-DCMAKE_PREFIX_PATH={installed}", flags)
    run("cmake", "--build", folder / "b")
    run("cmake", "--install", folder / "b", "--prefix", folder)
    (module,) = folder.glob("lib/**/gstreamer-1.0")
    return environment(module, folder)


def environment(module, folder):
    return {**os.environ, "GST_PLUGIN_PATH": str(module), "GST_REGISTRY": str(folder / "registry")}


def launch(plugin, *pipeline, options=("-q",)):
    return run("gst-launch-1.0", *options, *" ".join(map(str, pipeline)).split(), env=plugin)


def caps(form, width, height):
    return f"video/x-raw,format={form},width={width},height={height}"


def read(path, form, width, height):
    """Frames of a file as GStreamer lays them out: lines are padded to 4 bytes."""
    dtype, samples = FORMATS[form]
    line = width * samples * np.dtype(dtype).itemsize
    lines = np.fromfile(path, np.uint8).reshape(-1, height, -(-line // 4) * 4)[..., :line]
    frames = np.ascontiguousarray(lines).view(dtype)
    return frames if samples == 1 else frames.reshape(*frames.shape[:2], width, samples)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (131, 77)])
@pytest.mark.parametrize("form", FORMATS)
def test_frames(form, width, height, threads, plugin, steel, tmp_path):
    recipe, line = steel
    launch(
        plugin,
        f"videotestsrc pattern=smpte num-buffers={FRAMES} ! {caps(form, width, height)} ! tee name=t ! queue !",
        f"filesink location={tmp_path / 'in'} t. ! queue ! sdieenhance recipe={line} threads={threads} !",
        f"{caps(form, width, height)} ! filesink location={tmp_path / 'out'}",
    )
    came, left = (read(tmp_path / name, form, width, height) for name in ("in", "out"))
    assert len(came) == len(left) == FRAMES
    swap = slice(None, None, -1 if form == "BGR" else 1)
    for before, after in zip(came, left, strict=True):
        wanted = sdie.Enhancer(recipe)(np.ascontiguousarray(before[..., swap] if form == "BGR" else before))[0]
        np.testing.assert_array_equal(after, wanted[..., swap] if form == "BGR" else wanted)
        assert np.any(after != before)


def test_without_a_recipe_frames_pass(plugin, tmp_path):
    out = [tmp_path / "a", tmp_path / "b"]
    for path, element in zip(out, ("", "sdieenhance !"), strict=True):
        launch(plugin, f"videotestsrc num-buffers=2 ! {caps('GRAY8', 33, 20)} ! {element} filesink location={path}")
    assert out[0].read_bytes() == out[1].read_bytes()


def test_caps_that_change(plugin, steel, tmp_path):
    """Each size of frames gets a plan of its own."""
    ball = "videotestsrc pattern=ball num-buffers=2 !"
    launch(
        plugin,
        f"{ball} {caps('GRAY8', 64, 40)} ! c. {ball} {caps('RGB', 48, 32)} ! c. concat name=c !",
        f"sdieenhance recipe={steel[1]} ! filesink location={tmp_path / 'out'}",
    )
    assert (tmp_path / "out").stat().st_size == 2 * (64 * 40 + 3 * 48 * 32)


def test_a_deadline_that_cannot_be_kept(plugin, steel, tmp_path):
    """All frames are written, and each is told of."""
    said = launch(
        plugin,
        f"videotestsrc pattern=ball num-buffers={FRAMES} ! {caps('GRAY8', 640, 480)} !",
        f"sdieenhance recipe={steel[1]} deadline-ms=0.001 ! filesink location={tmp_path / 'out'}",
        options=("-m",),
    )
    messages = [line for line in said.splitlines() if '"sdieenhance0" (qos)' in line]
    assert len(messages) == FRAMES
    for number, message in enumerate(messages):
        assert int(re.search(r"jitter=\(gint64\)(-?\d+)", message)[1]) > 0  # late
        assert float(re.search(r"proportion=\(double\)([\d.e+]+)", message)[1]) > 1
        assert int(re.search(r"quality=\(int\)(\d+)", message)[1]) == 0  # of a million: no round was made
        assert f"processed=(guint64){number + 1}" in message
        assert "dropped=(guint64)0" in message
    assert len(read(tmp_path / "out", "GRAY8", 640, 480)) == FRAMES


def test_no_message_without_a_reason(plugin, steel):
    source = f"videotestsrc num-buffers={FRAMES} ! {caps('GRAY8', 64, 48)}"
    for deadline in ("", "deadline-ms=100000"):
        said = launch(plugin, f"{source} ! sdieenhance recipe={steel[1]} {deadline} ! fakesink", options=("-m",))
        assert "(eos)" in said
        assert "(qos)" not in said


def test_stats(plugin, steel, tmp_path):
    program = tmp_path / "gst_stats"
    flags = run("pkg-config", "--cflags", "--libs", "gstreamer-1.0").split()
    run("gcc", ROOT / "tests" / "line" / "gst_stats.c", "-o", program, *flags)
    source = f"videotestsrc num-buffers={FRAMES} ! {caps('GRAY8', 320, 240)}"
    element = f"sdieenhance name=enhance recipe={steel[1]}"
    for deadline, late in ((0, 0), (0.001, FRAMES)):
        said = run(program, f"{source} ! {element} deadline-ms={deadline} ! fakesink", env=plugin)
        found = dict(re.findall(r"([\w-]+)=\(guint64\)(\d+)", said))
        counts = ("frames", "late", "shortened", "refused")
        assert [int(found[name]) for name in counts] == [FRAMES, late, late, 0]
        assert 0 < int(found["p50-ns"]) <= int(found["p99-ns"]) <= int(found["p999-ns"])
        assert int(found["max-ns"]) > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("recipe=/none", "recipe: /none: No such file or directory"),
        (f"recipe={__file__}", "accepted: a file of `sdie-fast export-line`"),
    ],
)
def test_errors_have_words(settings, words, plugin):
    pipeline = f"videotestsrc num-buffers=1 ! {caps('GRAY8', 32, 32)} ! sdieenhance {settings} ! fakesink"
    failed = subprocess.run(
        ["gst-launch-1.0", *pipeline.split()], env=plugin, capture_output=True, text=True, check=False
    )
    assert failed.returncode != 0
    assert words in failed.stderr


def test_a_format_it_does_not_take(plugin, steel):
    pipeline = f"videotestsrc num-buffers=1 ! {caps('I420', 32, 32)} ! sdieenhance recipe={steel[1]} ! fakesink"
    failed = subprocess.run(
        ["gst-launch-1.0", *pipeline.split()], env=plugin, capture_output=True, text=True, check=False
    )
    assert failed.returncode != 0


def test_inspect(plugin):
    said = run("gst-inspect-1.0", "sdieenhance", env=plugin)
    for words in (
        "Filter/Effect/Video",
        "{ (string)GRAY8, (string)GRAY16_LE, (string)RGB, (string)BGR }",
        "deadline-ms",
    ):
        assert words in said
    assert re.search(r"Version +1\.0\n", said)


def test_as_a_part_of_the_librarys_build(plugin, prefix, tmp_path):
    """-DSDIE_GSTREAMER=ON."""
    modules = list(prefix.glob("lib/**/libgstsdiefast.so"))
    if not modules:
        pytest.skip(f"{prefix} was installed without -DSDIE_GSTREAMER=ON")
    assert "Version" in run("gst-inspect-1.0", "sdieenhance", env=environment(modules[0].parent, tmp_path))
