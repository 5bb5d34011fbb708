"""JPEG (ITU-T T.81, T.871): pixels by libjpeg-turbo, markers here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exif
from .colour import from_cmyk
from .picture import FULL, Limits, Meta, Picture, Resolution, refuse, rescaled, turned

__all__ = ["decode", "encode", "header"]

QUALITY = 95
MAX_SIDE = 65500  # libjpeg's

_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_SOS, _EOI, _COMMENT = 0xDA, 0xD9, 0xFE


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Give marker, place and content of the segments before the pixels, and the first scan's without content."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without content
            at += 2
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2 or marker == _EOI:
            return
        yield marker, at, data[at + 4 : at + 2 + size]
        if marker == _SOS:
            return
        at += 2 + size


def header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Height, width, channels and bytes a sample."""
    for marker, _, content in _segments(data):
        if marker in _SOF and len(content) >= 6:
            depth, height, width, channels = struct.unpack_from(">BHHB", content)
            return height, width, channels, 1 if depth <= 8 else 2
    raise refuse(name, "not a JPEG file to its first frame")


def _gather(data: bytes, name: str, limits: Limits) -> tuple[Meta, int | None, bool]:
    """What the segments say, the orientation, and whether Adobe's mark is there."""
    resolution = camera = None
    parts: dict[int, bytes] = {}
    total, adobe, whole = 0, False, False
    comments: list[tuple[str, bytes]] = []
    room = limits.metadata
    for marker, at, content in _segments(data):
        if marker == _SOS:
            whole = data.rfind(b"\xff\xd9") > at  # which no coded pixel is
        elif marker == 0xE0 and content[:5] == b"JFIF\0" and len(content) >= 12:
            unit, x, y = struct.unpack_from(">BHH", content, 7)
            resolution = Resolution.of(x, y, exif.UNITS.get(unit + 1, "none"))
        elif marker == 0xE1 and content[:6] == _EXIF and camera is None:
            camera = content[6:]
        elif marker == 0xE2 and content[:12] == _ICC and len(content) > 14 and len(content) <= room:
            room -= len(content)
            parts[content[12]] = content[14:]
            total = content[13]
        elif marker == 0xEE and content[:5] == b"Adobe":
            adobe = True
        elif marker == _COMMENT and len(content) <= room:
            room -= len(content)
            comments.append(("COM", content))
    if not whole:  # libjpeg would fill the rest with grey
        raise refuse(name, "ends in the middle of its pixels")
    icc = b"".join(parts[k] for k in sorted(parts)) if parts and sorted(parts) == list(range(1, total + 1)) else None
    orientation = None
    if camera is not None:
        found = exif.Directory(camera)
        orientation = found.integer(exif.ORIENTATION)
        if resolution is None or resolution.unit == "none":
            resolution = found.resolution() or resolution
        camera = exif.upright(camera, orientation)
    return Meta(resolution, icc, camera, tuple(comments)), orientation, adobe


def decode(data: bytes, name: str, limits: Limits) -> Picture:
    """Read a JPEG of 8 or 12 bits, grey or colour; CMYK becomes RGB."""
    import imagecodecs

    height, width, channels, _ = header(data, name)
    limits.check(name, height, width)
    if channels not in (1, 3, 4):
        raise refuse(name, f"{channels} colour components; 1, 3 and 4 are accepted")
    meta, orientation, adobe = _gather(data, name, limits)
    pixels = imagecodecs.jpeg8_decode(data)
    if pixels.shape[:2] != (height, width):
        raise refuse(name, f"{pixels.shape[1]} x {pixels.shape[0]} pixels where its header says {width} x {height}")
    if pixels.dtype == np.uint16:
        pixels = rescaled(pixels, int(next(c[0] for m, _, c in _segments(data) if m in _SOF)))
    if channels == 4:
        high = np.iinfo(pixels.dtype).max
        pixels, meta = from_cmyk(high - pixels if adobe else pixels, meta)
    white = FULL if pixels.dtype == np.uint16 else None
    return turned(Picture(pixels, white_level=white, meta=meta), orientation)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _front(meta: Meta) -> Iterator[bytes]:
    """Segments before the encoder's own."""
    unit, whole = 0, (1, 1)
    if meta.resolution is not None:
        metric = "cm" if meta.resolution.unit in ("cm", "m") else "inch"
        found = meta.resolution.whole(metric, 65535)
        if found is not None:
            unit, whole = {"none": 0, "inch": 1}.get(meta.resolution.unit, 2), found
    yield _segment(0xE0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, unit, *whole, 0, 0))
    if meta.exif is not None and len(meta.exif) <= 65527:
        yield _segment(0xE1, _EXIF + meta.exif)
    if meta.icc is not None and len(meta.icc) <= 255 * 65519:
        parts = [meta.icc[k : k + 65519] for k in range(0, len(meta.icc), 65519)]
        for k, part in enumerate(parts):
            yield _segment(0xE2, _ICC + bytes((k + 1, len(parts))) + part)
    for kind, content in meta.native:
        if kind == "COM":
            yield _segment(_COMMENT, content)


def encode(picture: Picture, name: str) -> list[bytes]:
    """Write a JPEG of quality 95 without subsampling."""
    import imagecodecs

    pixels: npt.NDArray[Any] = picture.pixels
    if pixels.dtype != np.uint8:
        what = "16-bit pixels do" if pixels.dtype == np.uint16 else "floating point does"
        raise refuse(name, f"{what} not fit JPEG; write PNG or TIFF (--format tiff)")
    if picture.alpha is not None:
        raise refuse(name, "alpha does not fit JPEG; write PNG or TIFF (--format png)")
    if max(pixels.shape[:2]) > MAX_SIDE:
        raise refuse(name, f"{pixels.shape[1]} x {pixels.shape[0]} pixels; JPEG holds {MAX_SIDE} a side")
    coded = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(pixels), level=QUALITY, subsampling=None if pixels.ndim == 2 else "444"
    )
    at = 2
    if coded[2:4] == b"\xff\xe0":  # the encoder's own density: ours stands in its place
        at += 2 + int.from_bytes(coded[4:6], "big")
    return [coded[:2], *_front(picture.meta), memoryview(coded)[at:]]  # type: ignore[list-item]
