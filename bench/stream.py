"""How far WLS is felt along a web, and whether a seam shows: python bench/stream.py photographs FOLDER

Streams enhance a web strip by strip, each with `context` lines above and below. WLS has no reach of its own, so that the
result differs from that of the whole web. This enhances a web whole and in windows that are cut out of it, and prints for
several contexts the largest difference and its 99.9th percentile, in grey levels of 8 bits: the largest of all lines that
are as far from a cut or further, the percentile of half a strip of 256 lines that begins there.

With --stream it enhances the web by a stream of the usual context instead, and prints the same of all lines, and the mean
absolute step from a line to the next at the seams by that elsewhere, beside that of the whole web's result at these
lines. The recipe "spatiogram" has no such result, since a web's statistics differ from a picture's: beside it is the web.

Webs, of `--width` x `--length` pixels:

- photographs: those of a folder of images, side by side, mirrored at random and blended at their borders, of an exposure
  that drifts along the web;
- clipped: the same, with areas hundreds of lines long that are wholly black or white;
- sheets: flat areas of hundreds of lines without any noise, each of another grey. Nothing is felt further: the weights of
  WLS are 1e4 there, and all of a step's light flows along the web.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sdie_fast import FilterParams, enhance
from sdie_fast._bench.machine import machine
from sdie_fast.line import Stream

CONTEXTS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
HALF_STRIP = 128
RECIPES = {
    "wls": [{"wls": 1}],
    "mixed": [{"identity": 0.3, "wls": 0.1, "bilateral": 0.2, "sharpen": 0.25, "guided": 0.05}],
    "spatiogram": [
        {"identity": 0.3, "wls": 0.1, "bilateral": 0.2, "sharpen": 0.25, "guided": 0.05, "spatiogram": 0.1}
    ],
}
CELL, BLEND = 200, 24


def photographs(rng, width, length, folder):
    """Lay photographs side by side."""
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".png", ".jpg") and p.parent.name != "GT")
    pictures = [np.asarray(Image.open(p).convert("L"), np.float32) for p in files]
    pictures = [p for p in pictures if min(p.shape) >= CELL]
    web = np.zeros((length + CELL, width + CELL), np.float32)
    norm = np.full_like(web, 1e-6)
    ramp = np.minimum(1, (np.minimum(np.arange(CELL), np.arange(CELL)[::-1]) + 1) / BLEND).astype(np.float32)
    window = ramp[:, None] * ramp
    for y in range(0, length, CELL - BLEND):
        for x in range(0, width, CELL - BLEND):
            p = pictures[rng.integers(len(pictures))]
            top, left = (rng.integers(n - CELL + 1) for n in p.shape)
            p = p[top : top + CELL, left : left + CELL][:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
            web[y : y + CELL, x : x + CELL] += p * window
            norm[y : y + CELL, x : x + CELL] += window
    web = (web / norm)[:length, :width]
    drift = 0.9 + 0.25 * np.sin(np.arange(length) / 900 + rng.uniform(0, 6)) + 0.1 * np.sin(np.arange(length) / 170)
    return np.clip(np.rint(web * drift[:, None].astype(np.float32)), 0, 255).astype(np.uint8)


def clipped(rng, width, length, folder):
    """Photographs with areas that are black or white."""
    web = photographs(rng, width, length, folder)
    y = 0
    while y < length:
        end = y + rng.integers(200, 900)
        for _ in range(rng.integers(1, 4)):
            x = rng.integers(width)
            web[y:end, x : x + rng.choice((8, 40, 200, width))] = rng.choice((0, 0, 255))
        y = end - rng.integers(0, 200)
    return web


def sheets(rng, width, length, _folder):
    """Flat areas, without noise."""
    web = np.empty((length, width), np.uint8)
    y = 0
    while y < length:
        end = y + rng.integers(5, 700)
        web[y:end] = rng.integers(0, 256)
        y = end
    return web


WEBS = {f.__name__: f for f in (photographs, clipped, sheets)}


def differences(web, weights, params, threads, rng):
    """Per context: the largest difference and the 99.9th percentile, in grey levels."""
    web = web.astype(np.float32) / 255
    whole = enhance(web, weights, params=params, threads=threads, max_pixels=2**30)
    reach = max(CONTEXTS) + HALF_STRIP
    largest = np.zeros(2 * reach)
    part = {c: [] for c in CONTEXTS}
    start = int(rng.integers(1, 200))
    for top in range(start, len(web) - 2 * reach, 256):
        window = web[top : top + 2 * reach]
        error = 255 * np.abs(enhance(window, weights, params=params, threads=threads) - whole[top : top + 2 * reach])
        rows = error.max(1)
        largest[:reach] = np.maximum(largest[:reach], np.maximum(rows[:reach], rows[::-1][:reach]))
        for c in CONTEXTS:
            part[c] += [error[c : c + HALF_STRIP].ravel(), error[::-1][c : c + HALF_STRIP].ravel()]
    return {c: (largest[c:reach].max(), np.percentile(np.concatenate(part[c]), 99.9)) for c in CONTEXTS}


def steps(web, strip):
    """Mean absolute step from a line to the next: at the seams by that elsewhere."""
    mean = np.array([np.abs(web[y] - web[y - 1]).mean() for y in range(1, len(web))])
    seams = np.arange(1, len(web)) % strip == 0
    return mean[seams].mean() / mean[~seams].mean()


def of_stream(web, weights, params, threads, compare):
    """What a stream of the usual context differs by, and its seams."""
    web = web.astype(np.float32) / 255
    stream = Stream(weights, web.shape[1], "float32", params=params, threads=threads)
    done = np.concatenate(list(stream.web(web[y : y + 512] for y in range(0, len(web), 512))))
    found = f"context {stream.context:5}"
    beside = web
    if compare:
        beside = enhance(web, weights, params=params, threads=threads, max_pixels=2**30)
        error = 255 * np.abs(done - beside)
        found += f"   largest difference {error.max():.3f}, 99.9% {np.percentile(error[::7], 99.9):.4f}"
    return found + f"   step at seams {steps(done, 256):.3f}, without them {steps(beside, 256):.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("web", choices=WEBS)
    parser.add_argument("folder", nargs="?", help="of photographs; `sheets` needs none")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--length", type=int, default=8000)
    parser.add_argument("--recipe", choices=RECIPES, default="wls")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--solver", choices=("exact", "fast"), default="fast")
    parser.add_argument("--domain", choices=("intensity", "lightness"), default="intensity")
    parser.add_argument("--tol", type=float, default=1 / 510)
    parser.add_argument("--lambdas", type=float, nargs="+", default=(0.125, 0.25, 0.5, 1, 2, 5, 10))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stream", action="store_true")
    args = parser.parse_args()
    if args.web != "sheets" and not args.folder:
        parser.error("folder: this web is made of photographs")
    web = WEBS[args.web](np.random.default_rng(args.seed), args.width, args.length, args.folder)
    facts = machine(args.threads) | vars(args)
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    if not args.stream:
        print("lambda  " + "".join(f"{c:>14}" for c in CONTEXTS))
    for strength in args.lambdas:
        params = FilterParams(wls_lambda=strength, wls_solver=args.solver, wls_tol=args.tol, wls_domain=args.domain)
        weights = RECIPES[args.recipe] * args.rounds
        if args.stream:
            cells = "  " + of_stream(web, weights, params, args.threads, args.recipe != "spatiogram")
        else:
            found = differences(web, weights, params, args.threads, np.random.default_rng(1))
            cells = "".join(f"{f'{most:8.3f} {often:5.3f}':>14}" for most, often in found.values())
        print(f"{strength:<8g}{cells}", flush=True)


if __name__ == "__main__":
    main()
