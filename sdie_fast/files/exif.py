"""EXIF data: the few tags that matter here, read and changed in place, so that all others stay as they are.

The layout is TIFF's (TIFF 6.0, Adobe 1992): a header, then directories of 12-byte entries.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .picture import Resolution

__all__ = ["TEXTS", "Directory", "build", "upright"]

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
UNITS = {1: "none", 2: "inch", 3: "cm"}

# Tags of text that are kept between formats: description, make, model, software, date, artist, copyright.
TEXTS = (270, 271, 272, 305, 306, 315, 33432)

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


class Directory:
    """The first directory of EXIF or TIFF data.

    Whatever is damaged in it counts as not there: what a file says of its pixels never costs them.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.entries: dict[int, tuple[int, int, int]] = {}  # by tag: type, count, where its entry begins
        self.order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
        if not self.order or len(data) < 8 or self._number("H", 2) != 42:
            return
        start = self._number("I", 4)
        if start + 2 > len(data):
            return
        for k in range(self._number("H", start)):
            at = start + 2 + 12 * k
            if at + 12 > len(data):
                break
            tag, kind, count = struct.unpack_from(self.order + "HHI", data, at)
            self.entries.setdefault(tag, (kind, count, at))

    def _number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(self.order + kind, self._data, at)[0])

    def _value(self, tag: int) -> tuple[int, bytes] | None:
        """Type and bytes of a value."""
        if tag not in self.entries:
            return None
        kind, count, at = self.entries[tag]
        size = _SIZES.get(kind, 0) * count
        start = at + 8 if size <= 4 else self._number("I", at + 8)
        value = bytes(self._data[start : start + size])
        return (kind, value) if size and len(value) == size else None

    def integer(self, tag: int) -> int | None:
        """Give the first number of a tag of whole numbers."""
        kind, value = self._value(tag) or (0, b"")
        letter = {1: "B", 3: "H", 4: "I"}.get(kind)
        return None if letter is None else int(struct.unpack_from(self.order + letter, value)[0])

    def rational(self, tag: int) -> float | None:
        """Give the first number of a tag of fractions."""
        kind, value = self._value(tag) or (0, b"")
        if kind != 5:
            return None
        above, below = struct.unpack_from(self.order + "II", value)
        return above / below if below else None

    def text(self, tag: int, most: int = 2**20) -> bytes | None:
        """Give a text, without its end."""
        kind, value = self._value(tag) or (0, b"")
        value = value.split(b"\0")[0]
        return value if kind == 2 and 0 < len(value) <= most else None

    def texts(self) -> dict[int, bytes]:
        """Give every text that is kept between formats."""
        found = ((tag, self.text(tag)) for tag in TEXTS)
        return {tag: value for tag, value in found if value is not None}

    def resolution(self) -> Resolution | None:
        """Give the resolution, if there is one."""
        unit = UNITS.get(self.integer(RESOLUTION_UNIT) or 2, "none")
        return Resolution.of(self.rational(X_RESOLUTION), self.rational(Y_RESOLUTION), unit)


def upright(data: bytes, orientation: int | None) -> bytes:
    """Say of EXIF data that its picture has been turned as `orientation` asks; nothing moves in it."""
    found = Directory(data)
    out = bytearray(data)
    if ORIENTATION in found.entries:
        struct.pack_into(found.order + "HHIHH", out, found.entries[ORIENTATION][2], ORIENTATION, 3, 1, 1, 0)
    if orientation in (5, 6, 7, 8) and {X_RESOLUTION, Y_RESOLUTION} <= found.entries.keys():
        x, y = (found.entries[tag][2] for tag in (X_RESOLUTION, Y_RESOLUTION))
        out[x + 2 : x + 12], out[y + 2 : y + 12] = out[y + 2 : y + 12], out[x + 2 : x + 12]
    return bytes(out)


def build(texts: Mapping[int, bytes]) -> bytes | None:
    """Make EXIF data of texts alone, or None of none."""
    if not texts:
        return None
    entries, values = b"", b""
    at = 8 + 2 + 12 * len(texts) + 4
    for tag, text in sorted(texts.items()):
        value = text + b"\0"
        cell = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(values))
        entries += struct.pack("<HHI", tag, 2, len(value)) + cell
        if len(value) > 4:
            values += value + b"\0" * (len(value) % 2)
    return b"II*\0" + struct.pack("<IH", 8, len(texts)) + entries + b"\0" * 4 + values
