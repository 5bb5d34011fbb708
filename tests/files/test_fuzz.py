"""Files that a mutation damaged are read, or refused in the package's own words; tools/fuzz_files.py does it for hours."""

import random
from collections import Counter
from pathlib import Path

import pytest
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
