"""Our reading and writing of image files beside OpenCV's, Pillow's and libvips', on one thread: python bench/codecs.py

Needs `pip install ".[bench]"`; libvips takes part where `pip install "pyvips[binary]"` has been run. Every candidate
reads the same file, and what each writes is read back and compared first. PNG level 1, JPEG quality 95, TIFF of 16 bits.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sdie_fast import files
from sdie_fast._bench.machine import machine
from sdie_fast._bench.timing import by_host, interleave
from sdie_fast.data import synthetic

SIZES = ((200, 200), (1080, 1920))
Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def picture(size: tuple[int, int], kind: str) -> Any:
    """A synthetic steel surface; in 16 bits with noise in the lower ones."""
    grey = synthetic.surface("scratch", seed=1, size=size).image
    if kind.endswith("16"):
        low = np.random.default_rng(0).integers(0, 64, size, dtype=np.uint16)
        return (grey.astype(np.uint16) << 8) + low
    return np.dstack([grey, np.roll(grey, 1, 0), np.roll(grey, 2, 1)]) if kind.endswith("RGB") else grey


def codecs(suffix: str) -> dict[str, Codec]:
    """Encoder and decoder of each candidate."""
    options = {
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
        ".jpg": [
            cv2.IMWRITE_JPEG_QUALITY,
            95,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
    }.get(suffix, [])
    kind: dict[str, Any] = {
        ".png": {"format": "PNG", "compress_level": 1}, ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        ".tif": {"format": "TIFF"},
    }[suffix]  # fmt: skip

    def by_pillow(pixels: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, **kind)
        return stream.getvalue()

    found: dict[str, Codec] = {
        "sdie_fast": (
            lambda p: b"".join(files.encode(files.Picture(p), suffix, "x")),
            lambda d: files.decode(d, "x").pixels,
        ),
        "OpenCV": (
            lambda p: cv2.imencode(suffix, p, options)[1].tobytes(),
            lambda d: cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_UNCHANGED),
        ),
        "Pillow": (by_pillow, lambda d: np.asarray(Image.open(io.BytesIO(d)))),
    }
    if importlib.util.find_spec("pyvips"):
        import pyvips

        given = {".png": "[compression=1]", ".jpg": "[Q=95,subsample-mode=off]", ".tif": ""}[suffix]
        found["libvips"] = (
            lambda p: pyvips.Image.new_from_array(
                p, interpretation="rgb" if p.ndim == 3 else "grey16" if p.dtype == np.uint16 else "b-w"
            ).write_to_buffer(suffix + given),
            lambda d: pyvips.Image.new_from_buffer(d, "").numpy(),
        )
    return found


def measure(size: tuple[int, int], kind: str, turns: int) -> list[dict[str, Any]]:
    """Time every candidate for one size and kind."""
    suffix = "." + kind[:3].lower()
    pixels = picture(size, kind)
    candidates = codecs(suffix)
    written = {name: encode(pixels) for name, (encode, _) in candidates.items()}
    for name, data in written.items():
        back = files.decode(data, name).pixels
        back = back[..., ::-1] if name == "OpenCV" and back.ndim == 3 else back  # which counts from blue
        assert np.abs(back.astype(int) - pixels).max() <= (0 if suffix != ".jpg" else 24), (
            f"{name} writes other pixels"
        )
    common = written["OpenCV"]  # what all of them read
    rows = []
    for what, calls in (
        ("write", {n: partial(encode, pixels) for n, (encode, _) in candidates.items()}),
        ("read", {n: partial(decode, common) for n, (_, decode) in candidates.items()}),
    ):
        found = interleave({n: by_host(call) for n, call in calls.items()}, turns)
        ours = found["sdie_fast"].median
        rows += [
            {
                "file": kind, "size": f"{size[0]} x {size[1]}", "what": what, "candidate": name,
                "median_ms": round(1e3 * t.median, 3), "mpx_per_s": round(size[0] * size[1] / t.median / 1e6, 1),
                "ratio": round(t.median / ours, 2),
                "bytes": round(len(written[name]) / len(written["OpenCV"]), 2) if what == "write" else None,
            }
            for name, t in found.items()
        ]  # fmt: skip
    return rows


def levels(turns: int) -> None:
    """Print what each level of PNG costs and saves."""
    pixels = picture(SIZES[1], "PNG")
    calls = {n: partial(files.encode, files.Picture(pixels), ".png", "x", png_level=n) for n in (0, 1, 2, 4, 6, 9)}
    found = interleave({str(n): by_host(call) for n, call in calls.items()}, turns)
    print("| level | ms | Mpx/s | bytes a pixel |\n|---|---|---|---|")
    for n, call in calls.items():
        seconds, size = found[str(n)].median, sum(map(len, call()))
        print(f"| {n} | {1e3 * seconds:.1f} | {pixels.size / seconds / 1e6:.0f} | {size / pixels.size:.3f} |")


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--levels", action="store_true", help="of PNG, instead")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.levels:
        levels(given.turns)
        return
    kinds = ("PNG", "PNG 16", "PNG RGB", "JPG", "JPG RGB", "TIF 16")
    rows = [row for size in SIZES for kind in kinds for row in measure(size, kind, given.turns)]
    if given.json:
        print(json.dumps({"machine": machine(1), "rows": rows}, indent=2))
        return
    print(", ".join(f"{k} {v}" for k, v in machine(1).items() if v))
    print(
        "| file | size | | candidate | median ms | Mpx/s | ratio | bytes, OpenCV's 1 |\n|---|---|---|---|---|---|---|---|"
    )
    for r in rows:
        cells = (
            r["file"],
            r["size"],
            r["what"],
            r["candidate"],
            r["median_ms"],
            r["mpx_per_s"],
            r["ratio"],
            r["bytes"] or "",
        )
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
