"""Sections of a Markdown file that a command writes, between marks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import SdieError

__all__ = ["markdown_table", "read_section", "write_section"]


def _split(path: Path, begin: str, end: str) -> tuple[str, str, str]:
    text = path.read_text(encoding="utf-8")
    first, last = text.find(begin), text.find(end)
    if text.count(begin) != 1 or text.count(end) != 1 or last < first:
        raise SdieError(f"{path}: one line {begin!r} and, after it, one {end!r} are needed")
    return text[: first + len(begin)], text[first + len(begin) : last], text[last:]


def read_section(path: Path, begin: str, end: str) -> str:
    """Return what stands between two marks.

    Raises
    ------
    SdieError
        The file has not each mark once, in order.
    """
    return _split(path, begin, end)[1].strip()


def write_section(path: Path, begin: str, end: str, section: str) -> None:
    """Replace what stands between two marks; raises as `read_section`."""
    before, _, after = _split(path, begin, end)
    path.write_text(f"{before}\n\n{section}\n\n{after}", encoding="utf-8")


def markdown_table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Lay out a table in Markdown."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return re.sub(r"\| +(?=\|)", "| ", "\n".join(lines))
