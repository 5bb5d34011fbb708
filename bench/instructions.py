"""Instructions of one 200 x 200 uint8 round and of each filter, by valgrind's callgrind: python bench/instructions.py

A figure that does not depend on the machine's mood. Counted for x86-64-v3 (callgrind knows no AVX-512), as the difference
between processes that make many calls and few, so that nothing of Python's is in it. Beside it, per pixel and 8-lane vector,
the arithmetic that the definitions need, counted by hand: additions, multiplications and fused multiply-adds as one each,
exp2 as 8 and log2 as 12 (their polynomials), a division as 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LANES = 8
PIXELS = 200 * 200
FEW, MANY = 2, 12
# Operations a pixel. wls: 2 edge weights (log2, exp2, 6) and a log2, then 6 tridiagonal solves of 9. bilateral: 28 taps of
# 2 + 8 + 2, each weight shared by two pixels. sharpen: 2 x (3 + 4) + 3. guided: four 7 x 7 box sums of 6 + 6 and 14.
# spatiogram: 6 moments in two bins, 2 lookups of 3 points and 12 to blend. round: all of them, 10 to mix and convert.
FLOOR = {
    "wls": 2 * 26 + 12 + 6 * 9,
    "bilateral": 28 * 2 + 28 * 10 // 2,
    "sharpen": 17,
    "guided": 4 * 12 + 14,
    "spatiogram": 12 + 24,
}
FLOOR["round"] = sum(FLOOR.values()) + 10

CODE = """
import sys
import numpy as np
import sdie_fast as sdie
from sdie_fast.data import synthetic
image = synthetic.surface("scratch", seed=3).image
params = sdie.FilterParams(wls_solver="fast", bilateral_footprint="disk")
name, calls = sys.argv[1], int(sys.argv[2])
weights = np.ones(6) if name == "round" else np.eye(6)[sdie.FILTERS.index(name)]
out = np.empty_like(image)
for _ in range(calls):
    sdie.enhance(image, weights, params=params, out=out, threads=1)
"""


def count(name: str, calls: int) -> int:
    """Return the instructions of a whole process that makes so many calls."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={folder}/out",
                sys.executable,
                "-c",
                CODE,
                name,
                str(calls),
            ],
            env={
                **os.environ,
                "SDIE_FAST_ISA": "x86-64-v3",
                "PYTHONHASHSEED": "0",
                "OPENBLAS_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(folder),
        )
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main() -> None:
    """Print the table."""
    print("| what | instructions | a pixel | floor a pixel | share |")
    print("|---|---|---|---|---|")
    for name, floor in FLOOR.items():
        each = (count(name, MANY) - count(name, FEW)) / (MANY - FEW)
        per_pixel = each / PIXELS
        least = floor / LANES
        print(
            f"| {name} | {each / 1e6:.2f} M | {per_pixel:.1f} | {least:.1f} | {least / per_pixel:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
