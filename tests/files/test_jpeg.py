"""JPEG: pixels and segments in and out, against Pillow."""

import struct

import numpy as np
import pytest
from PIL import Image
from written_elsewhere import ORIENTED, by_pillow, exif_bytes, icc_profile, saved

from sdie_fast import files
from sdie_fast.errors import ImageFileError


def smooth(count=3):
    ramp = np.add.outer(np.arange(40), 2 * np.arange(56)).astype(np.uint8)
    return np.dstack([ramp, ramp + 30, ramp + 60])[..., :count] if count > 1 else ramp


def there_and_back(data, suffix=".jpg"):
    return b"".join(files.encode(files.decode(data, "x.jpg"), suffix, "x" + suffix))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_those_of_others(count, progressive):
    data = saved(Image.fromarray(smooth(count)), "JPEG", quality=90, progressive=progressive)
    pixels = files.decode(data, "x").pixels
    np.testing.assert_array_equal(pixels, np.asarray(by_pillow(data)))
    again = there_and_back(data)
    np.testing.assert_allclose(np.asarray(by_pillow(again)).astype(int), pixels, atol=4)
    assert by_pillow(again).info.get("jfif") == 0x102


@pytest.mark.parametrize("orientation", range(0, 10))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_orientation_and_resolution(orientation, suffix):
    data = saved(Image.fromarray(smooth()), "JPEG", exif=b"Exif\0\0" + exif_bytes(">", orientation), dpi=(300, 150))
    plain = files.decode(saved(Image.fromarray(smooth()), "JPEG"), "x").pixels
    again = there_and_back(data, suffix)
    image = by_pillow(again)
    expected = ORIENTED.get(orientation, ORIENTED[1])(plain)
    np.testing.assert_allclose(np.asarray(image).astype(int), expected, atol=4 if suffix == ".jpg" else 0)
    expected = (150, 300) if orientation in (5, 6, 7, 8) else (300, 150)
    assert image.info["dpi"] == pytest.approx(expected, rel=1e-3)
    assert image.getexif().get(274, 1) == 1
    if suffix != ".bmp":
        assert image.getexif()[271] == "Maker"


def test_a_resolution_in_exif_alone():
    data = saved(Image.fromarray(smooth()), "JPEG", exif=b"Exif\0\0" + exif_bytes("<", 8, (144, 2), (96, 1)))
    assert by_pillow(there_and_back(data)).info["dpi"] == (96, 72)


@pytest.mark.parametrize("x", [(0, 0), (0, 1), (1, 0), (2**32 - 1, 1)])
def test_an_odd_resolution_is_left_out(x):
    data = saved(Image.fromarray(smooth()), "JPEG", exif=b"Exif\0\0" + exif_bytes("<", 1, x))
    assert files.decode(data, "x").meta.resolution is None


def test_a_tag_of_the_wrong_type_costs_nothing_else():
    entries = struct.pack("<HHIHH", 274, 3, 1, 6, 0) + struct.pack("<HHI4s", 282, 2, 3, b"72\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    picture = files.decode(saved(Image.fromarray(smooth()), "JPEG", exif=exif), "x")
    assert picture.pixels.shape == (56, 40, 3)


def test_profiles_in_parts_and_comments():
    long = icc_profile() + bytes(150_000)
    data = saved(Image.fromarray(smooth()), "JPEG", icc_profile=long, comment=b"coil 7")
    image = by_pillow(there_and_back(data))
    assert image.info["icc_profile"] == long
    assert image.info["comment"] == b"coil 7"
    cut = data.replace(b"ICC_PROFILE\0\x02\x03", b"ICC_PROFILE\0\x09\x03")  # a part is missing
    assert files.decode(cut, "x").meta.icc is None


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk(rng, adobe):
    ink = np.repeat(np.repeat(rng.integers(0, 256, (4, 5, 4)).astype(np.uint8), 8, 0), 8, 1)
    data = saved(Image.fromarray(ink, mode="CMYK"), "JPEG", quality=100, subsampling=0)
    if not adobe:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 16 :]
        ink = 255 - ink
    expected = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    np.testing.assert_allclose(files.decode(data, "x").pixels, expected, atol=4)


def test_twelve_bits_fill_sixteen():
    imagecodecs = pytest.importorskip("imagecodecs")
    wide = (np.add.outer(np.arange(64), np.arange(64)) * 32).astype(np.uint16)
    picture = files.decode(imagecodecs.jpeg8_encode(wide, level=100, bitspersample=12), "x")
    np.testing.assert_allclose(picture.pixels, wide / 4095 * 65535, atol=300)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d[: len(d) // 2], "ends in the middle of its pixels"),
        (lambda d: d[:-2], "ends in the middle of its pixels"),
        (lambda d: d[:30], "not a JPEG file to its first frame"),
    ],
)
def test_what_is_refused(change, told):
    with pytest.raises(ImageFileError, match=rf"^x\.jpg: {told}"):
        files.decode(change(saved(Image.fromarray(smooth()), "JPEG")), "x.jpg")


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (files.Picture(np.zeros((4, 4), np.uint16)), "16-bit pixels do not fit JPEG"),
        (files.Picture(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)), "alpha does not fit JPEG"),
        (files.Picture(np.zeros((1, 65501), np.uint8)), "65501 x 1 pixels; JPEG holds 65500 a side"),
    ],
)
def test_what_does_not_fit(picture, told):
    with pytest.raises(ImageFileError, match=f"^y: {told}"):
        files.encode(picture, ".jpg", "y")
