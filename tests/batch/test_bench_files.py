"""The benchmark of whole folders runs, and finds that the answers agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdie_fast

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_quick(compiled):
    pytest.importorskip("cv2.ximgproc")
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "files.py", "--quick", "--json", "--threads", "2", "--format", ".tif"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(sdie_fast.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["format"] for row in rows] == [".tif"]
    assert all(row["ours_seconds"] > row["within_seconds"] > 0 for row in rows)
