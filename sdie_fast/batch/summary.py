"""What a run did, and where its time went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .job import Done

__all__ = ["Summary", "digits", "duration"]

_KEPT = 1000  # failures whose messages are kept


def duration(seconds: float) -> str:
    """Write a time as people say it: 0.21 s, 42 s, 3 min 5 s, 2 h 4 min."""
    if seconds < 59.5:
        return f"{digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def digits(value: float) -> str:
    """Write a number above zero with two digits at least: 0.042, 5.7, 57, 12,345."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


@dataclass
class Summary:
    """What a run did, and where its time went.

    Attributes
    ----------
    done, skipped, failures : int
        Files.
    failed : dict
        Messages of the first thousand failures, by name.
    pixels : int
        Of the files done.
    seconds : float
        From beginning to end.
    read_seconds, enhance_seconds, write_seconds, wait_seconds : float
        Over all threads: reading and decoding, enhancing, encoding and writing, waiting for the listing or for memory
        (not for a core).
    interrupted : bool
        Whether it ended before its time.
    left : int
        Threads that were still at work then.
    """

    done: int = 0
    skipped: int = 0
    failures: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    pixels: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    enhance_seconds: float = 0.0
    write_seconds: float = 0.0
    wait_seconds: float = 0.0
    interrupted: bool = False
    left: int = 0

    @property
    def files(self) -> int:
        """Files dealt with."""
        return self.done + self.skipped + self.failures

    def add(self, done: Done, read: float = 0.0, write: float = 0.0) -> None:
        """Count an image done, and the seconds spent on reading and writing it."""
        self.done += 1
        self.pixels += done.pixels
        self.read_seconds += read + done.decode
        self.enhance_seconds += done.enhance
        self.write_seconds += write + done.encode

    def fail(self, name: str, message: str) -> None:
        """Count a failure."""
        self.failures += 1
        if len(self.failed) < _KEPT:
            self.failed[name] = message

    def include(self, part: Summary, tell: Callable[[str], None] = lambda _: None) -> None:
        """Add what a part of the run did, and tell of its failures."""
        for name, value in vars(part).items():
            if name not in ("failed", "seconds", "interrupted"):
                setattr(self, name, getattr(self, name) + value)
        self.interrupted = self.interrupted or part.interrupted
        for name, message in part.failed.items():
            tell(message)
            if len(self.failed) < _KEPT:
                self.failed[name] = message

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        found = {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(self).items() if k != "left"}
        rates = (round(value / self.seconds, 3) if self.seconds else None for value in (self.done, self.pixels / 1e6))
        return found | dict(zip(("images_per_second", "megapixels_per_second"), rates, strict=True))

    def __str__(self) -> str:
        told = (
            f"{self.done:,} enhanced, {self.skipped:,} skipped, {self.failures:,} failed in {duration(self.seconds)}"
        )
        if not self.done or not self.seconds:
            return told
        parts = (self.read_seconds, self.enhance_seconds, self.write_seconds, self.wait_seconds)
        names, total = ("reading", "enhancing", "writing", "waiting"), sum(parts) or 1.0
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in zip(names, parts, strict=True))
        rate = f"{digits(self.done / self.seconds)} images/s, {digits(self.pixels / self.seconds / 1e6)} Mpx/s"
        return f"{told} ({rate}; of the threads' time {shares})"
