"""TIFF and BigTIFF by tifffile and imagecodecs; what the tags say of the samples is worked out here.

Terms and numbers are those of TIFF 6.0 (Adobe, 1992) and its supplements.
"""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exif
from .colour import from_cmyk
from .picture import FULL, Limits, Meta, Picture, Resolution, multiplied, refuse, rescaled, straight, turned

__all__ = ["decode", "encode", "header"]

_PHOTOMETRIC = {0: "WhiteIsZero", 1: "BlackIsZero", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
_REFUSED = {4: "transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "colour filter array",
            32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}  # fmt: skip
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_ALPHA = {0: "unspecified", 1: "associated", 2: "straight"}
_FORMATS = {1: "unsigned integer", 2: "signed integer", 3: "floating point", 4: "undefined", 5: "complex integer",
            6: "complex"}  # fmt: skip
_MAX_SAMPLE_VALUE, _ICC, _WHITE_LEVEL = 281, 34675, 50717

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it reports damage, which is told here


def header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Height, width, channels and bytes a sample."""
    found = exif.Directory(data)
    if found.entries:
        height, width, channels, bits = (found.integer(tag) for tag in (257, 256, 277, 258))
        return height or 0, width or 0, channels or 1, -(-(bits or 1) // 8)
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:  # BigTIFF
        page: Any = file.pages[0]
        return page.imagelength, page.imagewidth, page.samplesperpixel, -(-page.bitspersample // 8)


def decode(data: bytes, name: str, limits: Limits) -> Picture:
    """Read a TIFF of one page."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = [page for page in file.pages[:3] if not page.is_reduced] or [file.pages[0]]
        page: Any = pages[0]
        count = _frames(file, page) if len(pages) == 1 else len(file.pages)
        if count > 1:
            raise refuse(name, f"{count} pages or frames; one is accepted")
        limits.check(name, page.imagelength, page.imagewidth)
        _check(page, name, limits, len(data))
        picture = _picture(page, _samples(data, page, name), name)
        meta, orientation = _meta(data, page, limits)
        if page.photometric == 5:
            pixels, meta = from_cmyk(picture.pixels, meta)
            picture = replace(picture, pixels=pixels)
        picture = replace(picture, meta=meta, white_level=_white(page, picture.pixels))
    return turned(picture, orientation)


def _samples(data: bytes, page: Any, name: str) -> npt.NDArray[Any]:
    """Decode the samples as they are."""
    if (
        page.compression in (5, 8, 32773, 32946)
        and page.planarconfig == 1
        and page.photometric <= 2
        and page.index == 0
    ):
        import imagecodecs

        # libtiff: of strips of a few rows, as OpenCV writes them, twice as fast.
        if page.bitspersample in (8, 16) and page.sampleformat == 1 and page.fillorder == 1:
            samples = imagecodecs.tiff_decode(data)
            if samples.size != page.size:
                raise refuse(name, f"{samples.size} samples where its header says {page.size}")
            return np.asarray(samples)
    return np.asarray(page.asarray(maxworkers=1))


def _frames(file: Any, page: Any) -> int:
    """Images in one directory, as ImageJ writes them."""
    depth = int(page.imagedepth)
    if file.is_imagej and file.imagej_metadata:
        return max(depth, int(file.imagej_metadata.get("images", 1)))
    return depth


def _check(page: Any, name: str, limits: Limits, size: int) -> None:
    """Refuse what would be read wrongly, or not at all, or at too great a cost."""
    photometric, bits, kind = page.photometric, page.bitspersample, page.sampleformat
    if photometric not in _PHOTOMETRIC:
        told = _REFUSED.get(photometric, f"number {int(photometric)}")
        raise refuse(name, f"photometric interpretation {told}; accepted: {', '.join(_PHOTOMETRIC.values())}")
    if kind not in (1, 3, 4) or (kind == 3 and bits not in (16, 32, 64)) or (kind != 3 and not 1 <= bits <= 16):
        told = _FORMATS.get(kind, f"sample format {kind}")
        raise refuse(
            name, f"{bits}-bit {told} samples; accepted: unsigned integers of 1 to 16 bits, and floating point"
        )
    if kind == 3 and photometric not in (1, 2):
        raise refuse(name, f"floating point with photometric interpretation {_PHOTOMETRIC[photometric]}")
    if photometric == 6 and page.compression != 7:
        raise refuse(name, "YCbCr samples not compressed by JPEG; convert them to RGB")
    if page.compression == 6:
        raise refuse(name, "JPEG compression of the old style (6)")
    colours, count = _COLOURS[photometric], page.samplesperpixel
    if count not in (colours, colours + 1):
        raise refuse(name, f"{count} samples a pixel; accepted: {colours}, or {colours + 1} with alpha")
    bits_tag = page.tags.get(258)
    if bits_tag is not None and isinstance(bits_tag.value, tuple) and len(set(bits_tag.value)) > 1:
        raise refuse(name, f"bits a sample {bits_tag.value}; accepted: the same in all channels")
    if photometric == 5 and page.tags.valueof(332, 1) != 1:
        raise refuse(name, "inks other than CMYK")
    tile = page.tilewidth * page.tilelength * max(page.tiledepth, 1)
    if tile > max(limits.pixels, 2**16) or (page.is_tiled and (page.tilewidth < 1 or page.tilelength < 1)):
        raise refuse(name, f"tiles of {page.tilewidth} x {page.tilelength} pixels")
    if not page.dataoffsets or len(page.dataoffsets) > max(page.imagelength * count, 2**20):
        raise refuse(name, f"{len(page.dataoffsets)} strips or tiles")
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset < 8 or length < 1 or offset + length > size:
            raise refuse(name, "ends in the middle of its pixels")


def _picture(page: Any, samples: npt.NDArray[Any], name: str) -> Picture:
    """Give the samples their meaning."""
    planes = samples.reshape(page.shaped)  # (separate sample, depth, length, width, contiguous sample)
    planes = np.moveaxis(planes[:, 0], 0, -2).reshape(page.imagelength, page.imagewidth, -1)
    colours, bits = _COLOURS[page.photometric], page.bitspersample
    kind = _ALPHA.get(int(page.extrasamples[0]) if page.extrasamples else 0, "unspecified")
    alpha = planes[..., colours] if planes.shape[2] > colours else None
    pixels = planes[..., 0] if colours == 1 else planes[..., :colours]
    if page.sampleformat == 3:
        pixels = _unit(pixels, name)
        alpha = None if alpha is None else _unit(alpha, name)
    else:
        if page.photometric == 3:
            pixels = _of_palette(page, pixels, name)
        else:
            pixels = rescaled(pixels, 8 if page.compression == 7 and pixels.dtype == np.uint8 else bits)
        if alpha is not None:
            alpha = rescaled(alpha, bits).astype(pixels.dtype, copy=False)
        if page.photometric == 0:
            pixels = np.iinfo(pixels.dtype).max - pixels
    native = pixels.dtype.newbyteorder("=")
    pixels = np.ascontiguousarray(pixels, native)
    if alpha is not None:
        alpha = np.ascontiguousarray(alpha, native)
        if kind == "associated":
            if bool((pixels > (alpha if pixels.ndim == 2 else alpha[..., None])).any()):
                raise refuse(name, "pixels brighter than the alpha they are said to be multiplied by")
            pixels = straight(pixels, alpha)
    return Picture(pixels, alpha, kind if alpha is not None else "straight")


def _unit(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):
        told = "NaN" if np.isnan(low) else f"values from {low:g} to {high:g}"
        raise refuse(name, f"floating point with {told}; 0 to 1 is accepted")
    return values.astype(np.float32)


def _of_palette(page: Any, indices: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    colours = page.colormap
    if colours is None or colours.shape[0] != 3 or int(indices.max()) >= colours.shape[1]:
        raise refuse(name, "a palette without the colours in use")
    if colours.max() < 256:  # written as 8 bits, against the letter
        colours = colours * np.uint16(257)
    small = bool((colours % 257 == 0).all() or (colours % 256 == 0).all())
    table = (colours >> 8).astype(np.uint8) if small else colours
    return np.asarray(table.T[indices])


def _white(page: Any, pixels: npt.NDArray[Any]) -> float | None:
    """Work out the white level of 10 to 15 bits in 16, where a tag names it and the pixels do not belie it."""
    if pixels.dtype != np.uint16:
        return None
    if page.bitspersample != 16 or page.photometric not in (1, 2):
        return FULL
    for tag in (_WHITE_LEVEL, _MAX_SAMPLE_VALUE):
        value = page.tags.valueof(tag)
        values = {value} if isinstance(value, int) else set(value) if isinstance(value, tuple) else set()
        if len(values) == 1:
            level = values.pop()
            # A maximum that is not all ones may be that of this very picture.
            usual = isinstance(level, int) and level >= 255 and (tag == _WHITE_LEVEL or level & (level + 1) == 0)
            if usual and int(pixels.max()) <= level < FULL:
                return int(level)
    return None


def _meta(data: bytes, page: Any, limits: Limits) -> tuple[Meta, int | None]:
    tags = page.tags

    def number(tag: int) -> Any:
        value = tags.valueof(tag)
        return value[0] / value[1] if isinstance(value, tuple) and len(value) == 2 and value[1] else None

    unit = exif.UNITS.get(tags.valueof(exif.RESOLUTION_UNIT, 2), "none")
    resolution = Resolution.of(number(exif.X_RESOLUTION), number(exif.Y_RESOLUTION), unit)
    icc = tags.valueof(_ICC)
    icc = bytes(icc) if isinstance(icc, (bytes, tuple)) and len(icc) <= limits.metadata else None
    texts = {}
    for tag in exif.TEXTS:
        value = tags.valueof(tag)
        value = value.encode() if isinstance(value, str) else value
        if isinstance(value, bytes) and 0 < len(value) <= min(limits.metadata, 2**20):
            texts[tag] = value.split(b"\0")[0]
    orientation = tags.valueof(exif.ORIENTATION)
    meta = Meta(resolution, icc, exif.build({tag: text for tag, text in texts.items() if text}))
    return meta, orientation if isinstance(orientation, int) else None


def encode(picture: Picture, name: str) -> list[bytes]:
    """Write an uncompressed TIFF; past 4 GB a BigTIFF."""
    import tifffile

    pixels, alpha, kind = picture.pixels, picture.alpha, picture.alpha_kind
    grey = pixels.ndim == 2
    meta = picture.meta.describing(grey)
    extra = None
    if alpha is not None:
        extra = {"straight": "UNASSALPHA", "associated": "ASSOCALPHA", "unspecified": "UNSPECIFIED"}[kind]
        pixels = np.dstack([multiplied(pixels, alpha) if kind == "associated" else pixels, alpha])
    found = exif.Directory(meta.exif or b"")
    tags: list[tuple[Any, ...]] = [(tag, "s", 0, text + b"\0", True) for tag, text in found.texts().items()]
    if picture.white_level not in (None, FULL):
        level = round(picture.white_level or FULL)
        count = 1 if pixels.ndim == 2 else pixels.shape[2]
        tags.append((_MAX_SAMPLE_VALUE, "H", count, (level,) * count if count > 1 else level, True))
    unit: Any = None
    pair = None
    if meta.resolution is not None:
        r = meta.resolution
        unit, (x, y) = {"none": ("none", (r.x, r.y)), "inch": ("inch", (r.x, r.y))}.get(r.unit) or ("cm", r.per("cm"))
        pair = tuple((f.numerator, f.denominator) for f in (Fraction(v).limit_denominator(10**6) for v in (x, y)))
        if not all(0 < n < 2**32 for p in pair for n in p):
            pair = unit = None
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, np.ascontiguousarray(pixels), photometric="minisblack" if grey else "rgb", planarconfig="contig",
        extrasamples=None if extra is None else [extra], metadata=None, software=False, iccprofile=meta.icc,
        resolution=pair, resolutionunit=unit, extratags=tags,
    )  # fmt: skip
    return [stream.getbuffer()]  # type: ignore[list-item]
