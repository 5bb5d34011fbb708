"""BMP: read by Pillow, written here with what Pillow's writer leaves out (alpha, resolution per axis, the profile)."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from .picture import Limits, Meta, Picture, Resolution, refuse

__all__ = ["decode", "encode", "header"]


def header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Height, width, channels and bytes a sample."""
    if len(data) < 26:
        raise refuse(name, "not a BMP file to the end of its header")
    size = int.from_bytes(data[14:18], "little")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    elif size >= 40 and len(data) >= 54:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    else:
        raise refuse(name, f"a BMP with a header of {size} bytes, which is not known")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise refuse(name, f"a BMP of {bits} bits a pixel; 1, 4, 8, 16, 24 and 32 are accepted")
    return abs(height), abs(width), 4 if bits == 32 else 3, 1


def _meta(data: bytes, limits: Limits) -> Meta:
    size = int.from_bytes(data[14:18], "little")
    if size < 40:
        return Meta()
    x, y = struct.unpack_from("<ii", data, 38)
    icc = None
    if size >= 124 and len(data) >= 138 and data[70:74] == b"DEBM":  # 'MBED', as a little-endian number
        start, length = struct.unpack_from("<II", data, 126)
        icc = data[14 + start : 14 + start + length] if length <= limits.metadata else None
    return Meta(Resolution.of(x, y, "m"), icc)


def decode(data: bytes, name: str, limits: Limits) -> Picture:
    """Read a BMP of 1 to 32 bits a pixel, palettes and run lengths included."""
    from PIL.BmpImagePlugin import BmpImageFile

    height, width, *_ = header(data, name)
    limits.check(name, height, width)
    with BmpImageFile(io.BytesIO(data)) as image:  # not Image.open, which has a limit of its own
        if image.size != (width, height):
            raise refuse(name, f"{image.width} x {image.height} pixels where its header says {width} x {height}")
        image.load()
        if image.mode in ("1", "L"):
            return Picture(np.asarray(image.convert("L")), meta=_meta(data, limits))
        has_alpha = image.mode == "RGBA"
        pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, meta=_meta(data, limits))


def encode(picture: Picture, name: str) -> list[bytes]:
    """Write a BMP: 8 bits of grey, 24 of colour, 32 with alpha."""
    pixels: Any = picture.pixels
    if pixels.dtype != np.uint8:
        what = "16-bit pixels do" if pixels.dtype == np.uint16 else "floating point does"
        raise refuse(name, f"{what} not fit BMP; write PNG or TIFF (--format png)")
    alpha = picture.alpha
    if alpha is not None and picture.alpha_kind == "unspecified":
        raise refuse(name, "a further channel that is not alpha does not fit BMP; write TIFF (--format tiff)")
    if pixels.ndim == 2 and alpha is not None:
        pixels = np.dstack([pixels] * 3)
    meta = picture.meta.describing(pixels.ndim == 2)
    planes = pixels[..., None] if pixels.ndim == 2 else pixels[..., ::-1]
    if alpha is not None:
        planes = np.dstack([planes, alpha])
    height, width, count = planes.shape
    stride = -(-width * count // 4) * 4
    rows = np.zeros((height, stride), np.uint8)
    rows[:, : width * count] = planes[::-1].reshape(height, -1)  # from the bottom up
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256)) if count == 1 else b""
    icc = meta.icc or b""
    long = alpha is not None or bool(icc)
    start = 14 + (124 if long else 40) + len(palette)
    total = start + rows.nbytes + len(icc)
    if max(total, height, width) >= 2**31:
        raise refuse(name, "more than BMP holds; write PNG or TIFF (--format png)")
    per_metre = (0, 0)
    if meta.resolution is not None and meta.resolution.unit != "none":
        per_metre = meta.resolution.whole("m", 2**31 - 1) or per_metre
    head = struct.pack(
        "<IiiHHIIiiII",
        124 if long else 40, width, height, 1, 8 * count, 3 if count == 4 else 0, rows.nbytes, *per_metre,
        256 if count == 1 else 0, 0,
    )  # fmt: skip
    if long:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if count == 4 else (0, 0, 0, 0)
        space = b"DEBM" if icc else b"BGRs"
        head += struct.pack("<4I4s36x3I", *masks, space, 0, 0, 0)
        head += struct.pack("<4I", 4, start - 14 + rows.nbytes if icc else 0, len(icc), 0)
    return [b"BM" + struct.pack("<IHHI", total, 0, 0, start), head, palette, rows.tobytes(), icc]
