"""One HTML file with everything in it: what the reports of evaluations and benchmarks are written with."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from ..files import replace_file

__all__ = ["WIDTH", "chart", "data_url", "table", "write_page"]

WIDTH = 1016  # of a row of pictures, in pixels
_STYLE = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2em .9em .2em 0; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} th {{ border-bottom: 1px solid #999; }}
figure {{ display: inline-block; margin: .4em .6em .4em 0; }} figcaption {{ font-size: 12px; color: #555; }}
img {{ display: block; image-rendering: pixelated; }}
.chart {{ max-width: 46em; width: 100%; image-rendering: auto; }} .wide {{ max-width: 100%; width: auto; }}
.heads {{ display: flex; width: {WIDTH}px; }} .heads span {{ flex: 1; color: #555; }}
.warning {{ background: #fdf0d0; border-left: 4px solid #e69f00; padding: .5em 1em; }}
"""


def data_url(data: bytes, kind: str) -> str:
    """Put a picture into its own address: kind "png", "jpeg" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def chart(picture: bytes, what: str, *, kind: str = "png", wide: bool = False) -> str:
    """Show a chart as wide as a column of text or, `wide`, in its own size, but no wider than the page."""
    return f'<img class="chart{" wide" * wide}" src="{data_url(picture, kind)}" alt="{html.escape(what)}">'


def table(rows: Iterable[Iterable[object]], heads: Iterable[str] = ()) -> str:
    """Lay out rows whose first column is text and whose others are numbers."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def write_page(path: Path, title: str, body: str) -> None:
    """Write the page, by atomic rename; body is HTML."""
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>\n"
    )
    replace_file(path, lambda file: file.write(page.encode()))
