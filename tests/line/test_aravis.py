"""The Aravis example, with the cameras that Aravis simulates."""

import subprocess

import numpy as np
import pytest
from integrator import ARAVIS, ROOT, need_package, run

import sdie_fast as sdie

SIDE = 512  # of the simulated cameras' frames
FRAMES = 4


@pytest.fixture
def grab(prefix, examples, build):
    need_package("aravis-0.8", ARAVIS)
    return build(examples / "aravis", prefix) / "grab"


@pytest.fixture
def packed_camera(tmp_path):
    """A GigE Vision camera on the loopback interface that knows Mono12p and Mono12Packed; gives its address."""
    need_package("aravis-0.8", ARAVIS)
    program = tmp_path / "fake_camera"
    flags = run("pkg-config", "--cflags", "--libs", "aravis-0.8").split()
    run("gcc", ROOT / "tests" / "line" / "fake_camera.c", "-o", program, *flags)
    command = [program, tmp_path / "camera.xml"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as camera:
        if camera.stdout.readline() != "running\n":
            pytest.skip("Aravis' simulated camera cannot listen on 127.0.0.1 here")
        yield "127.0.0.1"
        camera.stdin.close()


def grabbed(grab, tmp_path, line, camera, form):
    """Frames of a camera: their bytes as they came, and enhanced."""
    files = tmp_path / "in.raw", tmp_path / "out.raw"
    said = run(grab, "-r", line, "-n", FRAMES, "-t", "2", "-i", files[0], "-o", files[1], camera, form)
    assert f"{FRAMES} frames of {SIDE} x {SIDE} {form}: p50" in said
    assert "0 late, 0 shortened" in said
    came = np.fromfile(files[0], np.uint8).reshape(FRAMES, SIDE, -1)
    return came, np.fromfile(files[1], np.uint8).reshape(FRAMES, SIDE, SIDE)


def test_mono8(grab, steel, tmp_path):
    """Aravis' interface "Fake"."""
    came, left = grabbed(grab, tmp_path, steel[1], "Fake_1", "Mono8")
    np.testing.assert_array_equal(left, [sdie.Enhancer(steel[0])(frame)[0] for frame in came])
    assert len(np.unique(came)) > 100


def unpacked(lines, form):
    """12-bit pixels of three bytes a pair, by the text of GenICam's PFNC."""
    a, b, c = (lines[..., k::3].astype(np.uint16) for k in range(3))
    # 12p: bits follow each other, the least significant first. 12Packed: the middle byte has the low bits of both.
    pair = (a | (b & 15) << 8, b >> 4 | c << 4) if form == "Mono12p" else (a << 4 | b & 15, c << 4 | b >> 4)
    return np.stack(pair, -1).reshape(*lines.shape[:-1], -1)


@pytest.mark.parametrize("form", ["Mono12p", "Mono12Packed"])
def test_packed(form, grab, packed_camera, steel, tmp_path):
    came, left = grabbed(grab, tmp_path, steel[1], packed_camera, form)
    assert came.shape[-1] == SIDE * 3 // 2
    pixels = unpacked(came, form)
    assert pixels.max() > 4000
    for frame, after in zip(pixels, left, strict=True):
        wanted = sdie.Enhancer(steel[0])(frame.astype(np.float32) / np.float32(4095))[0]
        # 1 / 4095 is rounded by one and divided by in the other: a level at most where a value lies on an edge.
        difference = np.abs(after - 255.0 * wanted.astype(np.float64))
        assert difference.max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Fake_1", "Mono12p"), "'Mono12p'"),
        (("Fake_1", "BayerRG8"), "BayerRG8: not a format of sdie_fast.h"),
        (("127.0.0.77", "Mono8"), "127.0.0.77"),
        (("-r", "/none", "Fake_1", "Mono8"), "sdie_config_load: /none"),
    ],
)
def test_errors_have_words(arguments, words, grab):
    failed = subprocess.run([grab, *arguments], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert words in failed.stderr


def test_a_line_every_second(grab, steel):
    """25 frames a second for two seconds."""
    said = run(grab, "-r", steel[1], "-n", 55, "Fake_1", "Mono8").splitlines()
    assert len(said) == 3
    assert all("frames/s, p50" in line for line in said[:2])
