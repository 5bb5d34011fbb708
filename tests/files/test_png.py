"""PNG: pixels and chunks in and out, against Pillow and OpenCV."""

import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin
from written_elsewhere import ORIENTED, by_opencv, by_pillow, exif_bytes, icc_profile, saved

from sdie_fast import files
from sdie_fast.errors import ImageFileError


def there_and_back(data, suffix=".png", level=1):
    return b"".join(files.encode(files.decode(data, "x.png"), suffix, "x" + suffix, png_level=level))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(data, kind, content):
    """Put a chunk before the pixels."""
    return data[:33] + chunk(kind, content) + data[33:]


@settings(max_examples=60, deadline=None)
@given(
    pixels=st.one_of(
        *(
            arrays(dtype, shape)
            for dtype in (np.uint8, np.uint16)
            for shape in ((1, 1), (3, 5), (9, 1), (2, 7, 3), (1, 1, 3))
        )
    ),
    level=st.sampled_from([0, 1, 2, 6, 9]),
    with_alpha=st.booleans(),
)
def test_every_depth_and_level(pixels, level, with_alpha):
    alpha = (pixels if pixels.ndim == 2 else pixels[..., 0])[::-1].copy() if with_alpha else None
    data = b"".join(files.encode(files.Picture(pixels, alpha), ".png", "x", png_level=level))
    found = by_opencv(data)
    if with_alpha:  # OpenCV makes colour of grey with alpha
        np.testing.assert_array_equal(found[..., 3], alpha)
        found = found[..., :3] if pixels.ndim == 3 else found[..., 0]
    np.testing.assert_array_equal(found, pixels)
    again = files.decode(data, "x")
    np.testing.assert_array_equal(again.pixels, pixels)
    assert (again.alpha is None) == (alpha is None)
    assert again.pixels.dtype == pixels.dtype


def test_bands_of_a_large_picture(rng):
    pixels = np.cumsum(rng.integers(0, 3, (1100, 2100)), axis=1).astype(np.uint8)  # more than one band
    data = b"".join(files.encode(files.Picture(pixels), ".png", "x"))
    np.testing.assert_array_equal(by_opencv(data), pixels)
    assert data.count(b"IDAT") > 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_grey_of_every_depth(rng, depth, interlaced):
    values = rng.integers(0, 1 << depth, (8, 8))
    bits = np.array([[[v >> k & 1 for k in range(depth - 1, -1, -1)] for v in row] for row in values], np.uint8)
    if interlaced:  # Adam7's passes of an 8 x 8 picture
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        rows = [row for y, x, dy, dx in passes for row in bits[y::dy, x::dx]]
    else:
        rows = list(bits)
    packed = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in rows)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, 0, 0, 0, interlaced))
    data += chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    expected = values * (255 // ((1 << depth) - 1)) if depth < 8 else values
    np.testing.assert_array_equal(files.decode(data, "x").pixels, expected)


def test_palettes_and_transparent_colours_become_colours_and_alpha(rng):
    colour = Image.fromarray(rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)).quantize(12)
    data = saved(colour, "PNG", transparency=3)
    picture = files.decode(data, "x")
    expected = np.asarray(by_pillow(data).convert("RGBA"))
    np.testing.assert_array_equal(np.dstack([picture.pixels, picture.alpha]), expected)
    grey = rng.integers(0, 256, (9, 11)).astype(np.uint8)
    again = by_pillow(there_and_back(saved(Image.fromarray(grey), "PNG", transparency=10)))
    assert again.mode == "LA"
    np.testing.assert_array_equal(np.asarray(again)[..., 1], np.where(grey == 10, 0, 255))
    wide = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0))
    wide += chunk(b"tRNS", struct.pack(">H", 777)) + chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HH", 777, 5)))
    found = files.decode(wide + chunk(b"IEND", b""), "x")
    np.testing.assert_array_equal(found.pixels, [[777, 5]])
    np.testing.assert_array_equal(found.alpha, [[0, 65535]])


@pytest.mark.parametrize("orientation", range(0, 10))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation(rng, orientation, order):
    pixels = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = with_chunk(saved(Image.fromarray(pixels), "PNG"), b"eXIf", exif_bytes(order, orientation))
    data = with_chunk(data, b"pHYs", struct.pack(">IIB", 4000, 2000, 1))
    expected = ORIENTED.get(orientation, ORIENTED[1])(pixels)
    again = there_and_back(data)
    image = by_pillow(again)
    np.testing.assert_array_equal(np.asarray(image), expected)
    told = image.getexif()
    assert told[274] == 1
    assert told[271] == "Maker"
    swap = orientation in (5, 6, 7, 8)
    assert (told[282], told[283]) == ((150, 300) if swap else (300, 150))
    assert struct.pack(">IIB", *((2000, 4000) if swap else (4000, 2000)), 1) in again


def test_text_and_colour_stay(rng):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "coil 7")
    info.add_itxt("Comment", "Stra\u00dfe")
    data = saved(
        Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)), "PNG", pnginfo=info, dpi=(300, 150)
    )
    data = with_chunk(with_chunk(data, b"gAMA", struct.pack(">I", 45455)), b"sRGB", b"\0")
    image = by_pillow(there_and_back(data))
    image.load()
    assert (image.info["Title"], image.info["Comment"]) == ("coil 7", "Stra\u00dfe")
    assert (image.info["gamma"], image.info["srgb"]) == (0.45455, 0)
    assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)


def test_profiles(rng):
    pixels = Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8))
    good, other = icc_profile(), icc_profile(b"CMYK")
    for suffix in (".png", ".jpg", ".tif"):
        assert by_pillow(there_and_back(saved(pixels, "PNG", icc_profile=good), suffix)).info["icc_profile"] == good
        assert "icc_profile" not in by_pillow(there_and_back(saved(pixels, "PNG", icc_profile=other), suffix)).info


def test_metadata_never_costs_pixels(rng):
    pixels = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    data = saved(Image.fromarray(pixels), "PNG")
    bomb = b"icc\0\0" + zlib.compress(bytes(1 << 25))
    for kind, content in [
        (b"iCCP", bomb), (b"iCCP", b"icc\0\0no deflate"), (b"eXIf", b""), (b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        (b"eXIf", exif_bytes("<", 6)[:40]), (b"pHYs", b"\0" * 9), (b"tEXt", b"no end"), (b"pHYs", b"\xff" * 9),
    ]:  # fmt: skip
        np.testing.assert_array_equal(files.decode(with_chunk(data, kind, content), "x").pixels.sum(), pixels.sum())
    long = with_chunk(data, b"tEXt", b"Title\0" + b"x" * 5000)
    assert not files.decode(long, "x", files.Limits(metadata=4000)).meta.native


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d[: len(d) // 2], "ends in the middle of its pixels"),
        (lambda d: d[:20], "not a PNG file to its first chunk"),
        (lambda d: b"", "empty"),
        (lambda d: b"GIF89a" + d, "not a PNG, JPEG, TIFF or BMP file"),
        (lambda d: d[:60] + bytes([d[60] ^ 255]) + d[61:], "cannot be read: "),
        (lambda d: with_chunk(d, b"acTL", b"\0" * 8), r"an animation \(APNG\)"),
        (
            lambda d: d[:16] + struct.pack(">II", 30000, 30000) + d[24:],
            "30000 x 30000 pixels, more than the 268435456",
        ),
        (lambda d: d[:16] + struct.pack(">II", 0, 5) + d[24:], "0 x 5 pixels"),
    ],
)
def test_what_is_refused(rng, change, told):
    data = saved(Image.fromarray(rng.integers(0, 256, (20, 20)).astype(np.uint8)), "PNG")
    with pytest.raises(ImageFileError, match=rf"^x\.png: {told}"):
        files.decode(change(data), "x.png")


def test_limits():
    data = saved(Image.new("L", (100, 100)), "PNG")
    with pytest.raises(ImageFileError, match="100 x 100 pixels, more than the 9999 accepted"):
        files.decode(data, "x", files.Limits(pixels=9999))
    for wrong in (0, -1, 1.5, 2**62, "many"):
        with pytest.raises(files.picture.InvalidArgumentError, match="pixels: received"):
            files.Limits(pixels=wrong)


def test_measure_is_no_less_than_what_is_held(rng):
    data = saved(Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)), "PNG")
    assert files.measure(data, "x") >= 60 * 80 * 3 * 3 + len(data)
    with pytest.raises(ImageFileError, match="x: "):
        files.measure(data[:20], "x")


def test_damaged_files_cost_no_reference(rng):
    data = saved(Image.fromarray(rng.integers(0, 256, (20, 20)).astype(np.uint8)), "PNG")
    before = sys.getrefcount(None)
    for _ in range(300):
        with pytest.raises(ImageFileError):
            files.decode(data[:100], "x")
    assert sys.getrefcount(None) > before - 100  # from 3.12 on it never changes; Python aborts when it is used up
