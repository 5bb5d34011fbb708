"""First calls, cold and warm, each in a fresh process: python -c "..." with a request on standard input.

The parent asks for one case at one setting; a child imports the package, makes the call, then makes it at another
size, and prints the times. `first_calls` is the parent's side, `_child` the other.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SdieError
from .setting import Setting

__all__ = ["first_calls"]

# sys.path is the parent's: the folder that the command is run in may hold a package of the same name, not compiled.
_CODE = "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['path']; "
_CODE += "import time; begin = time.perf_counter(); import sdie_fast; took = time.perf_counter() - begin; "
_CODE += "from sdie_fast._bench.first import _child; _child(request, took)"


def first_calls(
    case: str, setting: Setting, g: npt.NDArray[np.uint8], footprint: str, *, processes: int = 3
) -> dict[str, float]:
    """Time our first calls of a case.

    Returns
    -------
    dict
        Medians over so many processes, in milliseconds: "import_ms" of the package; "process_ms": the first call of a
        fresh process; "size_ms": the first call at a size 16 pixels larger, after it.

    Raises
    ------
    SdieError
        A process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        plane = Path(folder) / "plane.npy"
        np.save(plane, g)
        request = {
            "path": [str(Path(p).absolute()) for p in sys.path], "case": case, "setting": setting._asdict(),
            "plane": str(plane), "footprint": footprint,
        }  # fmt: skip
        found = []
        for _ in range(processes):
            done = subprocess.run(
                [sys.executable, "-c", _CODE],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
            )
            if done.returncode:
                raise SdieError(f"{case}: a fresh process failed: {done.stderr.strip()[-500:]}")
            found.append(json.loads(done.stdout))
    return {key: statistics.median(times[key] for times in found) for key in found[0]}


def _child(request: dict[str, Any], took: float) -> None:
    from .cases import candidates
    from .timing import by_host

    plane = np.load(request["plane"])
    setting = Setting(**request["setting"])
    times = {"import_ms": took * 1e3}
    for name, g in (("process_ms", plane), ("size_ms", np.pad(plane, (0, 16), mode="reflect"))):
        ours = candidates(request["case"], g, setting, request["footprint"], peers=False)[0][0]
        times[name] = by_host(ours.call)() * 1e3
    print(json.dumps(times))
