"""A 12-bit frame from the camera's levels to a file of 16 bits: no step of it reduces to 8."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import sdie_fast as sdie
from sdie_fast import cli, files
from sdie_fast.data import synthetic

WEIGHTS = {"identity": 1, "wls": 2, "bilateral": 1, "sharpen": 1}


@pytest.fixture
def frame():
    """A dark one: 140 of 4,096 levels, 9 of 256."""
    bright = synthetic.surface("scratch", seed=11, size=(120, 120), dtype=np.float32).image
    return np.rint((0.08 + 0.05 * bright) * 4095).astype(np.uint16)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_by_command(frame, tmp_path, suffix):
    files.write(tmp_path / "raw" / f"frame.{suffix}", files.Picture(frame))
    text = ",".join(f"{name}={w}" for name, w in WEIGHTS.items())
    arguments = [
        "enhance",
        tmp_path / "raw",
        tmp_path / "flat",
        "--weights",
        text,
        "--rounds",
        2,
        "--white-level",
        4095,
    ]
    assert CliRunner().invoke(cli.app, list(map(str, arguments))).exit_code == 0
    want = sdie.enhance(frame, [WEIGHTS] * 2, white_level=4095)
    np.testing.assert_array_equal(files.read(tmp_path / "flat" / f"frame.{suffix}").pixels, want)
    if suffix == "png":  # as another library reads it
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "flat" / "frame.png")), want)


def test_levels_survive(frame):
    out = sdie.enhance(frame, [WEIGHTS] * 2, white_level=4095)
    exact = sdie.enhance(frame.astype(np.float32) / 4095, [WEIGHTS] * 2)
    assert np.abs(out - exact * 4095).max() <= 0.502
    coarse = sdie.enhance((frame >> 4).astype(np.uint8), [WEIGHTS] * 2)
    assert len(np.unique(out)) > 5 * len(np.unique(coarse))


def test_in_a_pipeline(frame):
    pytest.importorskip("torchvision")
    from torchvision.transforms import v2

    from sdie_fast.transforms import Enhance

    enhance = Enhance(weights=[WEIGHTS] * 2, white_level=4095)
    want = sdie.enhance(frame, [WEIGHTS] * 2, white_level=4095)
    np.testing.assert_array_equal(np.asarray(enhance(Image.fromarray(frame))), want)
    out = v2.Compose([v2.ToImage(), enhance])(frame[..., None])
    np.testing.assert_array_equal(out.numpy()[0], want)
