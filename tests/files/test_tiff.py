"""TIFF: every meaning that tags give to samples, against tifffile, Pillow and OpenCV."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from written_elsewhere import ORIENTED, by_opencv, by_pillow, icc_profile, rational, saved, tiff_bytes

from sdie_fast import files
from sdie_fast.errors import ImageFileError

tifffile = pytest.importorskip("tifffile")


def there_and_back(data, suffix=".tif"):
    return b"".join(files.encode(files.decode(data, "x.tif"), suffix, "x" + suffix))


def written(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{"metadata": None, **options})
    return stream.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("photometric", [0, 1])
def test_integers_of_both_byte_orders(rng, order, dtype, count, photometric):
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (13, 17, 3)[: 2 if count == 1 else 3]).astype(dtype)
    if count == 3:
        photometric = 2
    picture = files.decode(tiff_bytes(pixels, order=order, photometric=photometric), "x")
    expected = np.iinfo(dtype).max - pixels if photometric == 0 else pixels
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixels.dtype == dtype
    again = b"".join(files.encode(picture, ".tiff", "x"))
    np.testing.assert_array_equal(by_opencv(again), expected)
    assert by_pillow(again).tag_v2[262] == (1 if count == 1 else 2)


@settings(max_examples=40, deadline=None)
@given(bits=st.sampled_from([1, 2, 4, 10, 12, 14]), height=st.integers(1, 9), width=st.integers(1, 21), white=st.booleans(),
       seed=st.integers(0, 99))  # fmt: skip
def test_packed_samples_fill_the_range(bits, height, width, white, seed):
    values = np.random.default_rng(seed).integers(0, 1 << bits, (height, width))
    rows = [
        np.packbits(np.array([[v >> k & 1 for k in range(bits - 1, -1, -1)] for v in row], np.uint8).ravel())
        for row in values
    ]
    data = tiff_bytes(values, bits=bits, data=b"".join(r.tobytes() for r in rows), photometric=0 if white else 1)
    picture = files.decode(data, "x")
    high = 255 if bits < 8 else 65535
    assert picture.pixels.dtype == (np.uint8 if bits < 8 else np.uint16)
    expected = values / ((1 << bits) - 1) * high
    np.testing.assert_allclose(picture.pixels, high - expected if white else expected, atol=0.5)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "lzma", "zstd", "webp", "jpeg2000", "png"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big"])
def test_compressions_and_layouts(rng, compression, layout):
    pixels = np.cumsum(rng.integers(0, 3, (50, 70, 3)), axis=1).astype(np.uint8)
    options = {
        "strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 32)}, "planes": {"planarconfig": "separate"},
        "big": {"bigtiff": True},
    }[layout]  # fmt: skip
    if compression in ("zlib", "lzw", "zstd", "lzma"):
        options["predictor"] = True
    if compression == "webp":
        if layout == "planes":
            pytest.skip("WebP has no single planes")
        options["compressionargs"] = {"lossless": True}
    data = written(
        np.moveaxis(pixels, 2, 0) if layout == "planes" else pixels,
        photometric="rgb",
        compression=compression,
        **options,
    )
    np.testing.assert_array_equal(files.decode(data, "x").pixels, pixels)


@pytest.mark.parametrize("method", ["group3", "group4", "tiff_ccitt"])
def test_fax_compressions(rng, method):
    bits = np.repeat(rng.integers(0, 2, (20, 9)).astype(bool), 5, axis=1)
    data = saved(Image.fromarray(bits), "TIFF", compression=method)
    np.testing.assert_array_equal(files.decode(data, "x").pixels, bits * np.uint8(255))


def test_fill_order_of_the_bits(rng):
    pixels = rng.integers(0, 256, (6, 16)).astype(np.uint8)
    table = np.array([int(f"{v:08b}"[::-1], 2) for v in range(256)], np.uint8)
    bits = np.unpackbits(pixels, axis=1)
    data = tiff_bytes(bits, bits=1, data=table[np.packbits(bits, axis=1)].tobytes(), tags=[(266, 3, 1, 2)])
    np.testing.assert_array_equal(files.decode(data, "x").pixels, bits * 255)


def test_jpeg_inside_is_rgb(rng):
    smooth = np.dstack([np.add.outer(np.arange(64), np.arange(64)) + k for k in (0, 40, 90)]).astype(np.uint8)
    data = saved(Image.fromarray(smooth), "TIFF", compression="jpeg", quality=95)
    np.testing.assert_allclose(files.decode(data, "x").pixels.astype(int), smooth, atol=8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha_comes_back_as_it_was(rng, dtype, grey, kind):
    high = int(np.iinfo(dtype).max)
    alpha = rng.integers(0, high + 1, (23, 19)).astype(dtype)
    alpha[:2] = 0
    alpha[2:4] = high
    colour = rng.integers(0, high + 1, (23, 19) if grey else (23, 19, 3)).astype(dtype)
    many = alpha if grey else alpha[..., None]
    if kind == "assocalpha":
        colour = (colour.astype(np.uint64) * many // high).astype(dtype)
    data = written(np.dstack([colour, alpha]), photometric="minisblack" if grey else "rgb", extrasamples=[kind])
    picture = files.decode(data, "x")
    np.testing.assert_array_equal(picture.alpha, alpha)
    if kind == "assocalpha":
        back = picture.pixels.astype(float) * many / high
        assert np.abs(back - colour).max() <= 0.5
    else:
        np.testing.assert_array_equal(picture.pixels, colour)
    again = b"".join(files.encode(picture, ".tif", "x"))
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.pages[0].extrasamples[0].name == kind.upper()
        np.testing.assert_array_equal(file.asarray(), np.dstack([colour, alpha]))
    if kind == "unspecified":
        with pytest.raises(ImageFileError, match=r"y\.png: a further channel that is not alpha"):
            files.encode(picture, ".png", "y.png")


def test_palette(rng):
    table = rng.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    indices = rng.integers(0, 256, (9, 11)).astype(np.uint8)
    picture = files.decode(written(indices, photometric="palette", colormap=table), "x")
    np.testing.assert_array_equal(picture.pixels, (table.T[indices] >> 8).astype(np.uint8))
    fine = table + 1
    np.testing.assert_array_equal(
        files.decode(written(indices, photometric="palette", colormap=fine), "x").pixels, fine.T[indices]
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 3)])
def test_floating_point_in_range(rng, dtype, shape):
    pixels = rng.random(shape).astype(dtype)
    picture = files.decode(written(pixels, photometric="rgb" if len(shape) == 3 else "minisblack"), "x")
    np.testing.assert_array_equal(picture.pixels, pixels.astype(np.float32))
    again = b"".join(files.encode(picture, ".tif", "x"))
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(again)), pixels.astype(np.float32))
    for suffix in (".png", ".jpg", ".bmp"):
        with pytest.raises(ImageFileError, match="floating point does not fit"):
            files.encode(picture, suffix, "y")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (written(np.full((5, 6), 1.5, np.float32)), "floating point with values from 1.5 to 1.5; 0 to 1"),
        (written(np.full((5, 6), np.nan, np.float32)), "floating point with NaN"),
        (written(np.zeros((5, 6), np.uint32)), "32-bit unsigned integer"),
        (written(np.zeros((5, 6), np.int8)), "8-bit signed integer"),
        (written(np.zeros((5, 6), np.int16)), "16-bit signed integer"),
        (written(np.zeros((5, 6), np.complex64)), "64-bit complex"),
        (written(np.zeros((3, 5, 6), np.uint8), photometric="minisblack"), "3 pages or frames"),
        (written(np.zeros((5, 6, 3), np.uint8), photometric="cielab"), r"photometric interpretation CIE L\*a\*b\*"),
        (written(np.zeros((5, 6, 3), np.uint8), photometric=6), "YCbCr samples not compressed by JPEG"),
        (written(np.zeros((5, 6, 5), np.uint8), photometric="rgb", planarconfig="contig"), "5 samples a pixel"),
        (tiff_bytes(np.zeros((5, 6), np.uint8), photometric=32803), "colour filter array"),
        (tiff_bytes(np.zeros((5, 6), np.uint8))[:-1], "ends in the middle of its pixels"),
        (tiff_bytes(np.zeros((5, 6), np.uint8))[:20], "x.tif: "),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(data, told):
    with pytest.raises(ImageFileError, match=rf"^x\.tif: .*{told}|^{told}"):
        files.decode(data, "x.tif")


def test_frames_of_imagej():
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((4, 8, 9), np.uint16), imagej=True)
    with pytest.raises(ImageFileError, match="4 pages or frames"):
        files.decode(stream.getvalue(), "x")


def test_a_thumbnail_is_no_page(rng):
    stream = io.BytesIO()
    pixels = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    with tifffile.TiffWriter(stream) as out:
        out.write(pixels, metadata=None)
        out.write(pixels[::4, ::4], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(files.decode(stream.getvalue(), "x").pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientation_and_the_resolution_with_it(rng, orientation, compression):
    pixels = rng.integers(0, 65536, (12, 20, 3)).astype(np.uint16)
    data = written(
        pixels, photometric="rgb", resolution=(300, 150), resolutionunit="inch", compression=compression,
        extratags=[(274, "H", 1, orientation, True)],
    )  # fmt: skip
    again = there_and_back(data)
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), ORIENTED[orientation](pixels))
        assert page.tags.valueof(274, 1) == 1
        expected = (300, 150) if orientation < 5 else (150, 300)
        assert (
            page.tags[282].value[0] / page.tags[282].value[1],
            page.tags[283].value[0] / page.tags[283].value[1],
        ) == expected
        assert page.tags[296].value == 2


@pytest.mark.parametrize("resolution", [(0, 1), (1, 0), (0, 0)])
def test_a_resolution_that_is_none_is_left_out(rng, resolution):
    pixels = rng.integers(0, 256, (5, 6)).astype(np.uint8)
    data = tiff_bytes(pixels, tags=[(282, 5, 1, rational("<", *resolution)), (283, 5, 1, rational("<", 72))])
    for suffix in (".tif", ".png", ".jpg", ".bmp"):
        assert "dpi" not in by_pillow(there_and_back(data, suffix)).info or by_pillow(
            there_and_back(data, suffix)
        ).info["dpi"] == (1, 1)


@pytest.mark.parametrize(("bits", "tag"), [(10, 281), (12, 281), (14, 281), (12, 50717)])
def test_a_white_level_in_the_tags(rng, bits, tag):
    level = (1 << bits) - 1
    pixels = rng.integers(0, level + 1, (9, 8)).astype(np.uint16)
    pixels[0, 0] = level - 1
    picture = files.decode(tiff_bytes(pixels, tags=[(tag, 3, 1, level)]), "x")
    assert picture.white_level == level
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert files.decode(b"".join(files.encode(picture, ".tif", "x")), "x").white_level == level
    pixels[0, 0] = level + 1
    assert files.decode(tiff_bytes(pixels, tags=[(tag, 3, 1, level)]), "x").white_level is None


def test_a_maximum_that_is_just_the_brightest_pixel(rng):
    pixels = rng.integers(0, 3001, (9, 8)).astype(np.uint16)
    assert files.decode(tiff_bytes(pixels, tags=[(281, 3, 1, 3000)]), "x").white_level is None


def test_profile_description_and_camera(rng):
    icc = icc_profile()
    pixels = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    data = written(
        pixels, photometric="rgb", iccprofile=icc, description="coil 7", datetime="2026:01:02 03:04:05",
        extratags=[(271, "s", 0, "Maker", True)],
    )  # fmt: skip
    for suffix in (".tif", ".png", ".jpg"):
        image = by_pillow(there_and_back(data, suffix))
        assert image.info["icc_profile"] == icc
        told = image.getexif()
        assert (told[270], told[271], told[306]) == ("coil 7", "Maker", "2026:01:02 03:04:05")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_cmyk_becomes_rgb_and_loses_its_profile(rng, depth):
    ink = rng.integers(0, np.iinfo(depth).max + 1, (7, 9, 4)).astype(depth)
    data = written(ink, photometric="separated", iccprofile=icc_profile(b"CMYK"))
    picture = files.decode(data, "x")
    high = float(np.iinfo(depth).max)
    expected = (high - ink[..., :3]) * (high - ink[..., 3:].astype(float)) / high
    np.testing.assert_allclose(picture.pixels, expected, atol=0.51)
    assert picture.meta.icc is None


def test_a_profile_of_other_colours_is_left_out(rng):
    data = written(rng.integers(0, 256, (5, 6)).astype(np.uint8), iccprofile=icc_profile(b"RGB "))
    assert "icc_profile" not in by_pillow(there_and_back(data)).info
