"""Whether `sdie-fast enhance` keeps every core busy: python bench/files.py --threads 2

Folders of synthetic surfaces, as PNG, JPEG and 16-bit TIFF, are enhanced by

- ours: the command, start-up included (and "within": from its first file to its last);
- the ideal: OpenCV's decoding and encoding alone on as many threads, and the core alone on a batch of the same images on as
  many threads, the three times added up: what a pipeline would take that loses nothing to listing, waiting, the
  journal or the interpreter;
- a plain script: the rounds composed with OpenCV in a pool of as many processes, start-up included. It has no 16 bits
  (OpenCV's filters are 8-bit), so that of TIFF it makes 8-bit files.

Answers are compared first. Candidates take turns in shuffled order; figures are medians. Needs
`pip install ".[bench]"`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sdie_fast import FILTERS, Enhancer, FilterParams, Recipe, _validate, default_recipe, files
from sdie_fast._bench import cases
from sdie_fast._bench.machine import machine
from sdie_fast._bench.peers import PEERS, OpenCV
from sdie_fast._bench.setting import ROUNDS
from sdie_fast._bench.timing import interleave
from sdie_fast.data import synthetic

SETS = {"1,500 of 200 x 200": (1500, (200, 200)), "24 of 1920 x 1080": (24, (1080, 1920))}
QUICK = {"6 of 40 x 50": (6, (40, 50))}
KINDS = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], ".tif": []}
ROUND = dict.fromkeys(FILTERS, 1)
COMMAND = {
    f"{ROUNDS} rounds": [
        "--weights", ",".join(f"{name}=1" for name in FILTERS), "--rounds", str(ROUNDS), "--params", "wls_solver=fast",
    ],
    "the one that ships": [],
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """Return what the command's options mean."""
    return Recipe([ROUND] * ROUNDS, FilterParams(wls_solver="fast")) if COMMAND[name] else default_recipe()


def surfaces(count: int, size: tuple[int, int], threads: int) -> list[Any]:
    """Make that many surfaces: a tenth of them, and those shifted."""
    kinds, made = synthetic.KINDS, max(6, count // 10)
    with multiprocessing.get_context("fork").Pool(threads) as pool:
        found = pool.starmap(_surface, ((kinds[k % len(kinds)], k, size) for k in range(made)))
    return [np.roll(found[k % made], k // made * 17, axis=0) for k in range(count)]


def _surface(kind: str, seed: int, size: tuple[int, int]) -> Any:
    return synthetic.surface(kind, seed=seed, size=size).image


def fill(folder: Path, images: list[Any], suffix: str) -> Path:
    """Write a folder of images."""
    folder.mkdir()
    for k, image in enumerate(images):
        write(folder / f"{k:05}{suffix}", image * np.uint16(257) if suffix == ".tif" else image)
    return folder


def read(path: Path) -> Any:
    """Decode as OpenCV does."""
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)


def write(path: Path, image: Any) -> None:
    """Encode as OpenCV does."""
    cv2.imencode(path.suffix, image, KINDS[path.suffix])[1].tofile(path)


# ---- a plain script ----------------------------------------------------------------------------------


def script(source: Path, target: Path, threads: int) -> None:
    """What users write today."""
    target.mkdir(exist_ok=True)
    with multiprocessing.get_context("fork").Pool(threads, _start) as pool:
        for _ in pool.imap_unordered(partial(_composed, target), sorted(source.iterdir()), chunksize=4):
            pass


def _start() -> None:
    global rounds  # noqa: PLW0603 - of each process
    rounds = OpenCV(1, contrib=True).rounds


def _composed(target: Path, path: Path) -> None:
    image = read(path)
    write(target / path.name, rounds(image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)))


# ---- the candidates ----------------------------------------------------------------------------------


class Candidates:
    """The three, on one folder."""

    def __init__(self, source: Path, out: Path, threads: int, name: str) -> None:
        self.source, self.outs, self.threads = source, out, threads
        self.out = self.fresh()
        self.paths = sorted(source.iterdir())
        self.enhancer = Enhancer(recipe(name), threads=threads)
        self.options = COMMAND[name]
        self.within: list[float] = []
        self.parts: list[list[float]] = []

    def fresh(self) -> Path:
        """A new folder for what comes out. The old ones stay: for seconds after files were deleted, ext4 makes new ones slowly."""
        self.outs.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.outs))

    def ours(self) -> float:
        """Seconds of the command."""
        seconds, told = self._process(
            "-m", "sdie_fast.cli", "enhance", self.source, ["--threads", str(self.threads), "--json", *self.options]
        )
        self.within.append(json.loads(told)["seconds"])
        return seconds

    def script(self) -> float:
        """Seconds of the plain script."""
        return self._process(Path(__file__).resolve(), "--script", self.source, ["--threads", str(self.threads)])[0]

    def ideal(self) -> float:
        """Seconds of decoding, the core and encoding, each alone."""
        self.out = self.fresh()
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(self.threads) as pool:
            times = [time.perf_counter()]
            images = list(pool.map(read, self.paths))
            times.append(time.perf_counter())
            batch = np.stack(images)
            begin = time.perf_counter()
            enhanced, _ = self.enhancer(batch)
            core = time.perf_counter() - begin
            begin = time.perf_counter()
            list(pool.map(write, [self.out / p.name for p in self.paths], enhanced))
            self.parts.append([times[1] - times[0], core, time.perf_counter() - begin])
        return sum(self.parts[-1])

    def _process(self, *arguments: Any) -> tuple[float, str]:
        self.out = self.fresh()
        command = [sys.executable, *map(str, arguments[:-1]), str(self.out), *arguments[-1]]
        begin = time.perf_counter()
        # From elsewhere than the checkout, whose package is not compiled.
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.outs)
        return time.perf_counter() - begin, done.stdout

    def compare(self) -> str:
        """Run ours and the script, and compare what they wrote for some images; tells by how much they differ."""
        some = self.paths[:: max(1, len(self.paths) // 3)]
        self.ours()
        ours = {}
        for path in some:
            picture = files.decode(path.read_bytes(), path.name)
            pixels, _ = self.enhancer(picture.pixels)
            wanted = files.encode(dataclasses.replace(picture, pixels=pixels), path.suffix, path.name)
            if b"".join(wanted) != (self.out / path.name).read_bytes():
                raise SystemExit(f"{path.name}: the command's file is not what `Enhancer` and `encode` make")
            ours[path] = pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)
        if not self.options:
            return "the script has no such recipe"
        self.script()
        (peer,) = (p for p in PEERS if p.case == "rounds")
        told = [cases.check("rounds", peer.name, peer.bound, ours[p], read(self.out / p.name)) for p in some]
        return told[0]


def measure(
    sets: dict[str, tuple[int, tuple[int, int]]],
    kinds: list[str],
    threads: int,
    repeats: int,
    watch: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Measure on every set and format."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for of, (count, size) in sets.items():
            images = surfaces(count, size, threads)
            for suffix in kinds:
                source = fill(Path(place) / "in", images, suffix)
                for name in COMMAND if suffix == ".png" else [next(iter(COMMAND))]:
                    those = Candidates(source, Path(place) / f"out{len(rows)}", threads, name)
                    difference = those.compare()
                    calls: dict[str, Callable[[], float]] = {"ours": those.ours, "ideal": those.ideal}
                    if COMMAND[name]:
                        calls["script"] = those.script
                    times = interleave(calls, repeats, budget=float("inf"), least=repeats, warmup=0)
                    row = {"images": of, "format": suffix, "recipe": name, "repeats": repeats}
                    row |= {f"{k}_seconds": t.median for k, t in times.items()}
                    row |= {"within_seconds": float(np.median(those.within)), "difference": difference}
                    parts = np.median(those.parts, axis=0).tolist()
                    row |= dict(zip(("decode_seconds", "core_seconds", "encode_seconds"), parts, strict=True))
                    row["images_per_second"] = count / times["ours"].median
                    row["megapixels_per_second"] = count * size[0] * size[1] / times["ours"].median / 1e6
                    rows.append(row)
                    watch(row)
                shutil.rmtree(source)
    return rows


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    ours, ideal, plain = (row.get(f"{name}_seconds", float("nan")) for name in ("ours", "ideal", "script"))
    print(
        f"{row['images']:20} {row['format']:6} {row['recipe']:18} {ours:7.2f} ({row['within_seconds']:6.2f})"
        f" {row['images_per_second']:9.1f} {row['megapixels_per_second']:7.2f} {ideal:9.2f} {ours / ideal:4.2f}x"
        f" {plain:9.2f} {ours / plain:4.2f}x"
    )
    phases = (f"{name} {row[f'{name}_seconds']:.2f}" for name in ("decode", "core", "encode"))
    print(
        f"    the ideal's parts: {', '.join(phases)} s; the script's answers differ by {row['difference']}", flush=True
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=_validate.threads(None))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", choices=[*SETS], action="append", help="repeatable; all of them unless given")
    parser.add_argument("--format", choices=[*KINDS], action="append", help="repeatable; all of them unless given")
    parser.add_argument("--quick", action="store_true", help="a few small images: whether it runs at all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--script", nargs=2, type=Path, metavar=("IN", "OUT"), help="be the plain script")
    args = parser.parse_args()
    if args.script:
        script(*args.script, args.threads)
        return
    sets = QUICK if args.quick else {name: SETS[name] for name in args.set or SETS}
    facts = {k: v for k, v in machine(args.threads).items() if v}
    if not args.json:
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        print(
            "images               format recipe              ours s (within)  images/s   Mpx/s   ideal s  ours  script s  ours"
        )
    watch = (lambda _: None) if args.json else show
    rows = measure(sets, args.format or [*KINDS], args.threads, 1 if args.quick else args.repeats, watch)
    if args.json:
        print(json.dumps({"machine": facts, "rows": rows}, indent=1))
        return
    print("ours: its time over the other's, below 1 where we are faster")


if __name__ == "__main__":
    main()
