"""Mutate image files for a while and read them: only the package's own errors may come, no crash, no hang.

`python tools/fuzz_files.py --minutes 60 --keep failed/` leaves every file that failed in a folder;
tests/files/test_fuzz.py reads those that once did.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from sdie_fast import files
from sdie_fast.errors import SdieError

SECONDS = 10  # for one file
MEMORY = 6 << 30  # bytes of address space
LIMITS = files.Limits(pixels=2**22, metadata=2**20)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def seeds() -> list[bytes]:
    """Make small files of every kind that is read."""
    rng = np.random.default_rng(0)
    rgb = np.cumsum(rng.integers(0, 3, (24, 40, 3)), axis=1).astype(np.uint8)
    grey, wide = rgb[..., 0], rgb.astype(np.uint16) * 257
    colour, alpha = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, grey]))
    exif = Image.Exif()
    exif[274], exif[271], exif[282], exif[283] = 6, "Maker", 72.0, 72.0
    made = [
        _saved(Image.fromarray(grey), "PNG", dpi=(72, 96), exif=exif), _saved(colour, "PNG"), _saved(alpha, "PNG"),
        _saved(colour.quantize(9), "PNG", transparency=1), _saved(Image.fromarray(grey > 20), "PNG"),
        _saved(Image.fromarray(wide[..., 0]), "PNG"), _saved(colour, "JPEG", exif=exif, comment=b"x"),
        _saved(Image.fromarray(grey), "JPEG", progressive=True), _saved(colour.convert("CMYK"), "JPEG"),
        _saved(colour, "BMP"), _saved(Image.fromarray(grey), "BMP"), _saved(colour.quantize(9), "BMP"),
        b"".join(files.encode(files.Picture(rgb, grey), ".bmp", "x")), _saved(colour, "TIFF", compression="jpeg"),
        _saved(Image.fromarray(grey > 20), "TIFF", compression="group4"), _saved(Image.fromarray(grey > 20), "TIFF", compression="group3"),
    ]  # fmt: skip
    compressions = (
        None,
        "zlib",
        "lzw",
        "packbits",
        "lzma",
        "zstd",
        "webp",
        "jpeg2000",
        "png",
        "jpeg",
        "jpegxl",
        "lerc",
    )
    for compression in compressions:
        for options in ({}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}):
            stream = io.BytesIO()
            try:
                tifffile.imwrite(stream, rgb, photometric="rgb", compression=compression, metadata=None, **options)
            except (ValueError, RuntimeError):
                continue
            made.append(stream.getvalue())
    for array in (grey, wide, wide[..., 0], (grey / 255).astype(np.float32), np.dstack([rgb, grey])):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, predictor=array.dtype.kind != "f", compression="zlib", metadata=None)
        made.append(stream.getvalue())
    return made


ODD = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFE, 0xFF)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a file in a few places, most of them in its first 400 bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6, 12))):
        if not out:
            break
        at = rng.randrange(min(len(out), 400) if rng.random() < 0.7 else len(out))
        way = rng.randrange(8)
        if way == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            out[at] = rng.choice(ODD)
        elif way == 2:
            value = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65535, 65536, rng.getrandbits(32)))
            out[at : at + 4] = struct.pack(rng.choice("<>") + "I", value)
        elif way == 3:
            out[at : at + 2] = struct.pack(
                rng.choice("<>") + "H", rng.choice((0, 1, 3, 255, 32768, 65535, rng.getrandbits(16)))
            )
        elif way == 4:
            del out[at : at + rng.randrange(1, 40)]
        elif way == 5:
            out[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif way == 6:
            out[at:at] = out[max(0, at - rng.randrange(1, 60)) : at]
        else:
            del out[at:]
    return bytes(out)


def examine(data: bytes) -> str:
    """Read one file and write it in every format: how it ended. Anything but the package's errors passes through."""
    try:
        files.measure(data, "x")
        picture = files.decode(data, "x", LIMITS)
    except (SdieError, MemoryError) as error:
        return type(error).__name__
    for suffix in (".png", ".jpg", ".bmp", ".tif"):
        try:
            content = b"".join(files.encode(picture, suffix, "x"))
        except SdieError:
            continue
        if suffix != ".jpg":
            again = files.decode(content, "x")
            assert np.array_equal(again.pixels.squeeze(), picture.pixels.squeeze()) or suffix == ".bmp", suffix
    return "read"


def child(seed: int, place: Path, until: float) -> None:
    """Examine mutated files; the one at hand lies at `place`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    made = seeds()
    ended: Counter[str] = Counter()
    while time.time() < until:
        data = mutated(rng.choice(made), rng)
        place.write_bytes(data)
        signal.alarm(SECONDS)
        ended[examine(data)] += 1
        signal.alarm(0)
    print(f"seed {seed}: {dict(ended)}", flush=True)


def main() -> None:
    """Run children until the time is over; start another where one died."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failed"))
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    if given.child is not None:
        child(given.seed, given.keep / f"at-hand-{given.seed}", given.child)
        return
    until = time.time() + 60 * given.minutes
    seed, failed, running = given.seed, 0, []
    while time.time() < until or running:
        while len(running) < given.jobs and time.time() < until:
            command = [sys.executable, __file__, "--keep", str(given.keep), "--seed", str(seed), "--child", str(until)]
            with open(given.keep / f"told-{seed}", "wb") as told:
                running.append((seed, subprocess.Popen(command, stderr=told)))
            seed += 1
        for number, process in list(running):
            if process.poll() is None:
                continue
            running.remove((number, process))
            at_hand, told_at = (given.keep / f"{what}-{number}" for what in ("at-hand", "told"))
            last = (told_at.read_text(errors="replace").strip().splitlines() or [""])[-1]
            told_at.unlink()
            if process.returncode:
                failed += 1
                print(f"failed-{number}: exit {process.returncode} {last}", flush=True)
                at_hand.replace(given.keep / f"failed-{number}")
            else:
                at_hand.unlink(missing_ok=True)
        time.sleep(0.2)
    print(f"{failed} failed", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
