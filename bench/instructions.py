"""Instructions of one 200 x 200 uint8 round and of each filter, by valgrind's callgrind: python bench/instructions.py

A figure that does not depend on the machine's mood. Counted for x86-64-v3 (callgrind knows no AVX-512), as the difference
between processes that make many calls and few, so that nothing of Python's is in it. Beside it, per pixel and 8-lane vector,
the arithmetic that the definitions need, as the filters' table counts it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sdie_fast.filters import FILTERS, TABLE, FilterParams

LANES = 8
PIXELS = 200 * 200
FEW, MANY = 2, 12
SPECIAL = 8  # operations of an exp2, the least of the special functions that are polynomials here
MIX = 10  # of mixing and converting a round
PARAMS = FilterParams(wls_solver="fast", bilateral_footprint="disk")

CODE = """
import sys
import numpy as np
import sdie_fast as sdie
from sdie_fast.data import synthetic
image = synthetic.surface("scratch", seed=3).image
params = sdie.FilterParams(wls_solver="fast", bilateral_footprint="disk")
name, calls = sys.argv[1], int(sys.argv[2])
weights = dict.fromkeys(sdie.FILTERS, 1) if name == "round" else {name: 1}
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


def floor(name: str) -> float:
    """Count the operations a pixel that the definitions need."""
    if name == "round":
        return sum(map(floor, FILTERS)) + MIX
    needed = PARAMS.of(name).operations()
    return needed.lanes + needed.special * SPECIAL


def main() -> None:
    """Print the table."""
    print("| what | instructions | a pixel | floor a pixel | share |")
    print("|---|---|---|---|---|")
    for name in (*TABLE, "round"):
        each = (count(name, MANY) - count(name, FEW)) / (MANY - FEW)
        per_pixel = each / PIXELS
        least = floor(name) / LANES
        print(
            f"| {name} | {each / 1e6:.2f} M | {per_pixel:.1f} | {least:.1f} | {least / per_pixel:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
