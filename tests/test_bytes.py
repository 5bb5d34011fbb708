"""What the shipped recipes and every filter write, to the byte, per instruction set.

`bytes.json` holds SHA-256 of what GCC 12 builds. Other compilers may round otherwise: there this test skips, and
`test_core.py` compares with the reference. After a change that is meant to change results, and nowhere else:

    python tests/test_bytes.py > tests/bytes.json
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie

EXPECTED = Path(__file__).with_name("bytes.json")
KNOWN = ("x86-64-v2", "x86-64-v3")  # sums are in another order with other vector lengths
SHAPES = ((16, 16), (33, 47), (130, 201), (2, 31, 64), (40, 37, 3))
PARAMS = {
    "defaults": {},
    "fast, disk": {"wls_solver": "fast", "bilateral_footprint": "disk", "window": 5},
    "global": {"spatiogram_method": "global", "window": 3, "sharpen_threshold": 0.05},
    "published": None,
}
FIVE = [
    [0.3, 0.1, 0.2, 0.25, 0.05, 0.1],
    [0, 1, 0, 0, 0, 0],
    [0.5, 0, 0, 0.5, 0, 0],
    [0, 0, 1, 0, 1, 0],
    [1, 1, 1, 1, 1, 1],
]


def draw(shape, dtype):
    """Return a picture with edges, texture and noise, the same everywhere."""
    rows, columns = shape[-3:-1] if shape[-1] == 3 else shape[-2:]
    y, x = np.mgrid[:rows, :columns]
    base = (7 * x + 3 * y) % 97 * 400 + (x > columns // 2) * 9000 + (y > rows // 3) * 6000
    noise = np.random.default_rng(5).integers(0, 9000, shape)
    values = np.clip((base[..., None] if shape[-1] == 3 else base) + noise, 0, 65535)
    if dtype == np.uint8:
        return (values >> 8).astype(np.uint8)
    return values.astype(np.uint16) if dtype == np.uint16 else (values / 65535).astype(np.float32)


def digests():
    """Hash every case; the instruction set is the process's."""
    found = {}
    for dtype in (np.uint8, np.uint16, np.float32):
        for shape in SHAPES:
            image = draw(shape, dtype)
            cases = {}
            for label, values in PARAMS.items():
                params = sdie.FilterParams.published_code() if values is None else sdie.FilterParams(**values)
                for k, name in enumerate(sdie.FILTERS):
                    cases[f"{name} ({label})"] = np.eye(6)[k], params
                cases[f"five rounds ({label})"] = FIVE, params
            for name in ("default", "sdie_small"):
                folder = Path(sdie.__file__).parent / "models" / name
                recipe = sdie.Recipe.load(folder)
                # A network's weights depend on the processor in their last digits.
                weights = FIVE if recipe.weights is None else recipe.weights
                cases[f"recipe {name}"] = weights, recipe.params
            for case, (weights, params) in cases.items():
                if min(shape[-3:-1] if shape[-1] == 3 else shape[-2:]) >= params.windows()[2]:
                    out = sdie.enhance(image, weights, params=params, backend="cpu", threads=1)
                    key = f"{case}, {np.dtype(dtype)} {'x'.join(map(str, shape))}"
                    found[key] = hashlib.sha256(out.tobytes()).hexdigest()[:16]
    return found


def test_the_bytes_are_those_that_were(isa, python):
    from sdie_fast import _core

    if isa not in KNOWN or not _core.build_info()["compiler"].startswith("GNU 12."):
        pytest.skip(f"bytes are known of {', '.join(KNOWN)} built by GCC 12")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import json, test_bytes; print(json.dumps(test_bytes.digests()))"
    found = json.loads(python(code, SDIE_FAST_ISA=isa))
    expected = json.loads(EXPECTED.read_text())[isa]
    assert found.keys() == expected.keys()
    changed = [case for case in expected if found[case] != expected[case]]
    assert not changed, f"{len(changed)} of {len(expected)} changed: {changed[:10]}"


def main():
    if len(sys.argv) > 1:
        return digests()
    isas = [isa for isa in importlib.import_module("sdie_fast._core").isas() if isa in KNOWN]
    found = {}
    for isa in isas:
        environment = {**os.environ, "SDIE_FAST_ISA": isa}
        text = subprocess.run(
            [sys.executable, __file__, "one"], env=environment, capture_output=True, text=True, check=True
        )
        found[isa] = json.loads(text.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(main(), indent=0, sort_keys=True))
