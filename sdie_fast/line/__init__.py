"""On the line: plans for frames and streams for endless webs, in the camera's own pixel formats.

>>> from sdie_fast import line
>>> with line.Plan("recipe/", 2048, 1024, "Mono12p", "Mono8", threads=2, deadline=0.020) as plan:  # doctest: +SKIP
...     out, report = plan.run(frame)

The functions are those of the C library (`include/sdie_fast.h`), which a line without Python links. A plan takes its
memory and starts its threads when it is made; a run reads and writes arrays where they lie, allocates nothing and lets
other Python threads run. Times are in seconds; `since` counts as `time.monotonic()` does.
"""

from .. import _backends

_backends.resolve("cpu")  # raises where the compiled module is missing, with the fix

from ._base import FORMATS, Layout, Stats, layout  # noqa: E402
from .export import MOST_ROUNDS, export  # noqa: E402
from .plan import Plan, Report  # noqa: E402
from .stream import Stream  # noqa: E402

__all__ = ["FORMATS", "MOST_ROUNDS", "Layout", "Plan", "Report", "Stats", "Stream", "export", "layout"]
