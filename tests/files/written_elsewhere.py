"""Files as other programs write them, and read back by other programs."""

import io
import struct

import numpy as np
import pytest


def tiff_bytes(pixels, *, order="<", bits=None, tags=(), data=None, photometric=1, sampleformat=None):
    """One strip, uncompressed, tag by tag; `tags` are (tag, type, count, bytes or number)."""
    height, width = pixels.shape[:2]
    count = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits = bits or 8 * pixels.dtype.itemsize
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if data is None else data

    def shorts(*values):
        return 3, len(values), struct.pack(f"{order}{len(values)}H", *values)

    def long(value):
        return 4, 1, struct.pack(order + "I", value)

    entries = {
        256: long(width), 257: long(height), 258: shorts(*[bits] * count), 259: shorts(1), 262: shorts(photometric),
        273: long(0), 277: shorts(count), 278: long(height), 279: long(len(data)),
    }  # fmt: skip
    if sampleformat is not None:
        entries[339] = shorts(*[sampleformat] * count)
    for tag, kind, n, value in tags:
        entries[tag] = (
            kind,
            n,
            value if isinstance(value, bytes) else struct.pack(order + {3: "H", 4: "I"}[kind], value),
        )
    size = 8 + 2 + 12 * len(entries) + 4
    extra = b""
    place = {}
    for tag, (_, _, value) in sorted(entries.items()):
        if len(value) > 4:
            place[tag] = size + len(extra)
            extra += value + b"\0" * (len(value) % 2)
    entries[273] = long(size + len(extra))
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    for tag, (kind, n, value) in sorted(entries.items()):
        out += struct.pack(order + "HHI", tag, kind, n)
        out += struct.pack(order + "I", place[tag]) if tag in place else value.ljust(4, b"\0")
    return out + b"\0" * 4 + extra + data


def rational(order, above, below=1):
    return struct.pack(order + "II", above, below)


def exif_bytes(order, orientation, x=(300, 1), y=(150, 1)):
    """EXIF data with an orientation, two resolutions and a maker."""
    entries = [
        (271, 2, 6, None), (274, 3, 1, struct.pack(order + "HH", orientation, 0)), (282, 5, 1, None), (283, 5, 1, None),
        (296, 3, 1, struct.pack(order + "HH", 2, 0)),
    ]  # fmt: skip
    values = {271: b"Maker\0", 282: rational(order, *x), 283: rational(order, *y)}
    at = 8 + 2 + 12 * len(entries) + 4
    out, extra = b"", b""
    for tag, kind, n, cell in entries:
        out += struct.pack(order + "HHI", tag, kind, n) + (cell or struct.pack(order + "I", at + len(extra)))
        extra += values.get(tag, b"")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    return head + out + b"\0" * 4 + extra


ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}


def by_pillow(data):
    from PIL import Image

    return Image.open(io.BytesIO(data))


def by_opencv(data):
    cv2 = pytest.importorskip("cv2")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found.ndim == 3:
        found = cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return found


def saved(image, kind, **options):
    """What Pillow writes of an image."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def icc_profile(space=b"RGB "):
    """A profile of the field's own (sRGB by Little CMS), or its header with another colour space."""
    from PIL import ImageCms

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[16:20] = space
    return bytes(data)
