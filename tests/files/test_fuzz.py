"""Files that a mutation damaged are read, or refused in the package's own words; tools/fuzz_files.py does it for hours."""

import io
import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzz_files import examine, mutated, seeds

from sdie_fast import files
from sdie_fast.errors import ImageFileError

ONCE_FAILED = sorted((Path(__file__).parent / "once_failed").iterdir())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # tifffile subtracts what it finds
def test_damaged_files_end_in_words():
    made, rng = seeds(), random.Random(1)
    ended = Counter(examine(mutated(rng.choice(made), rng)) for _ in range(600))
    assert min(ended["read"], ended["ImageFileError"]) > 50, ended


@pytest.mark.parametrize("path", ONCE_FAILED, ids=[p.name for p in ONCE_FAILED])
def test_files_that_once_failed(path):
    assert examine(path.read_bytes()) in ("read", "ImageFileError")


@pytest.mark.parametrize("tag", [256, 257, 258, 277])
def test_several_numbers_where_one_is_meant(tag):
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((4, 5), np.uint8), bigtiff=True, metadata=None)
    data = bytearray(stream.getvalue())
    (start,) = struct.unpack_from("<Q", data, 8)
    for k in range(*struct.unpack_from("<Q", data, start)):
        at = start + 8 + 20 * k
        if struct.unpack_from("<H", data, at)[0] == tag:
            struct.pack_into("<Q", data, at + 4, 2)
    assert examine(bytes(data)) in ("read", "ImageFileError")


@pytest.mark.parametrize(
    "error", [ValueError("odd"), RuntimeError(), KeyError("x"), RecursionError("deep"), OverflowError("big")]
)
def test_whatever_a_decoder_raises_is_that_files_error(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(files.bmp, "decode", fail)
    with pytest.raises(ImageFileError, match=r"^x\.bmp: cannot be read: "):
        files.decode(b"BM", "x.bmp")


def test_want_of_memory_passes(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(files.bmp, "decode", fail)
    with pytest.raises(MemoryError):
        files.decode(b"BM", "x.bmp")
