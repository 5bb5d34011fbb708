"""BMP in and out, against Pillow and OpenCV."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from written_elsewhere import by_opencv, by_pillow, icc_profile, saved

from sdie_fast import files
from sdie_fast.errors import ImageFileError


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 70), count=st.sampled_from([1, 3, 4, 2]), profile=st.booleans())
def test_of_any_width(height, width, count, profile):
    whole = np.random.default_rng(width).integers(0, 256, (height, width, count)).astype(np.uint8)
    pixels = whole[..., 0] if count < 3 else whole[..., :3]
    alpha = whole[..., -1] if count in (2, 4) else None
    meta = files.Meta(icc=icc_profile() if profile else None, resolution=files.Resolution(300, 150, "inch"))
    data = b"".join(files.encode(files.Picture(np.ascontiguousarray(pixels), alpha, meta=meta), ".bmp", "x"))
    assert len(data) == struct.unpack_from("<I", data, 2)[0]
    image = by_pillow(data)
    if alpha is not None:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)
        np.testing.assert_array_equal(by_opencv(data)[..., 3], alpha)
    colour = np.asarray(image) if image.mode == "L" else np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colour, pixels if colour.ndim == pixels.ndim else np.dstack([pixels] * 3))
    assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
    again = files.decode(data, "x")
    np.testing.assert_array_equal(again.pixels, colour)
    assert again.meta.icc == (meta.icc if count >= 3 else None)


@pytest.mark.parametrize("width", [7, 720, 1605, 2005])
def test_an_ordinary_file_is_eight_bits(rng, width):
    pixels = rng.integers(0, 256, (5, width, 3)).astype(np.uint8)
    found = files.decode(saved(Image.fromarray(pixels), "BMP"), "x").pixels
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == np.uint8


def test_from_the_top_down_palettes_and_run_lengths(rng):
    indices = rng.integers(0, 2, (4, 8)).astype(np.uint8)
    table = bytes((10, 20, 30, 0, 200, 100, 50, 0))
    rows = b"".join(np.packbits(row).tobytes().ljust(4, b"\0") for row in indices)
    head = struct.pack("<IiiHHIIiiII", 40, 8, -4, 1, 1, 0, len(rows), 0, 0, 2, 2)
    data = b"BM" + struct.pack("<IHHI", 54 + 8 + len(rows), 0, 0, 62) + head + table + rows
    colours = np.array([[30, 20, 10], [50, 100, 200]], np.uint8)
    np.testing.assert_array_equal(files.decode(data, "x").pixels, colours[indices])
    runs = bytes((8, 1, 0, 0, 8, 0, 0, 1))
    grey = b"".join(bytes((v, v, v, 0)) for v in (0, 255))
    head = struct.pack("<IiiHHIIiiII", 40, 8, 2, 1, 8, 1, len(runs), 0, 0, 2, 2)
    data = b"BM" + struct.pack("<IHHI", 54 + 8 + len(runs), 0, 0, 62) + head + grey + runs
    np.testing.assert_array_equal(files.decode(data, "x").pixels.reshape(2, 8, -1)[..., 0], [[0] * 8, [255] * 8])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d[:-20], "cannot be read: "),
        (lambda d: d[:20], "not a BMP file to the end"),
        (lambda d: d[:14] + b"\x11" + d[15:], "a header of 17 bytes"),
        (lambda d: d[:18] + struct.pack("<ii", 40000, 40000) + d[26:], "40000 x 40000 pixels, more than"),
        (lambda d: d[:28] + b"\x05" + d[29:], "a BMP of 5 bits a pixel"),
    ],
)
def test_what_is_refused(change, told):
    with pytest.raises(ImageFileError, match=rf"^x\.bmp: .*{told}"):
        files.decode(change(saved(Image.new("RGB", (9, 9)), "BMP")), "x.bmp")


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (files.Picture(np.zeros((4, 4), np.uint16)), "16-bit pixels do not fit BMP"),
        (files.Picture(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), "unspecified"), "a further channel"),
    ],
)
def test_what_does_not_fit(picture, told):
    with pytest.raises(ImageFileError, match=f"^y: {told}"):
        files.encode(picture, ".bmp", "y")
