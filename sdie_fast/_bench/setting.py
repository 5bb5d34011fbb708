"""What a case is measured at: size, threads, images of a batch, rounds and backend, and sweeps over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .. import _validate
from ..errors import InvalidArgumentError

__all__ = ["ROUNDS", "Setting", "parse_size", "parse_sweeps", "product"]

ROUNDS = 5  # of the case "rounds"
_BATCH, _BATCH_PIXELS = 64, 64 * 200 * 200  # of the case "batch": images at most, and pixels of larger ones


class Setting(NamedTuple):
    """One point of a sweep. `batch` 0: 64 images; of larger ones fewer, so that the pixels are as many, but two."""

    size: tuple[int, int] = (200, 200)
    threads: int = 1
    batch: int = 0
    rounds: int = ROUNDS
    backend: str = "cpu"

    def of(self, case: str) -> Setting:
        """What of it matters to a case: only "batch" has many images, only "rounds" many rounds."""
        many = self.batch or max(2, min(_BATCH, _BATCH_PIXELS // (self.size[0] * self.size[1])))
        return self._replace(batch=many if case == "batch" else 1, rounds=self.rounds if case == "rounds" else 1)

    def facts(self) -> dict[str, Any]:
        """As a row of a report has it."""
        return {**self._asdict(), "size": f"{self.size[0]}x{self.size[1]}"}


def parse_size(text: str) -> tuple[int, int]:
    """Read '200' or '1024x16384' as (height, width)."""
    try:
        parts = [int(p) for p in text.lower().split("x")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 2) or min(parts, default=0) < 16:
        raise InvalidArgumentError(
            f"--size: {text!r}; HEIGHTxWIDTH of 16 or more is accepted, such as 200 or 1024x4096"
        )
    return parts[0], parts[-1]


def _count(key: str) -> Callable[[str], int]:
    rule = _validate.integer(1, 1024)

    def read(text: str) -> int:
        return int(rule(f"--sweep {key}", int(text) if text.isdecimal() else text))

    return read


_READ: dict[str, Callable[[str], Any]] = {
    "size": parse_size,
    "threads": _count("threads"),
    "batch": _count("batch"),
    "rounds": _count("rounds"),
    "backend": str,
}


def parse_sweeps(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Read 'size=200,1024', 'threads=1,2' and so on; each key once."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if key not in _READ or not values:
            raise InvalidArgumentError(f"--sweep: {text!r}; accepted is KEY=VALUE,... with KEY of {', '.join(_READ)}")
        if key in found:
            raise InvalidArgumentError(
                f"--sweep: {key} was given twice; accepted is each key once, with all its values"
            )
        found[key] = list(dict.fromkeys(_READ[key](value) for value in values.split(",")))
    return found


def product(values: Mapping[str, list[Any]]) -> list[Setting]:
    """Every combination of those values; what is not named keeps its default."""
    return [Setting(**dict(zip(values, point, strict=True))) for point in itertools.product(*values.values())]
