"""Hooks of mkdocs: pages whose text stands elsewhere in the repository, and pages that are made from the code.

The command line's options come from the commands themselves, the C interface from its header, the tables of filters and
parameters from `sdie_fast.filters`. Links between Markdown files are written as they work in the repository, and are
turned here to where the pages lie on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "index.md": "README.md",
    "results.md": "bench/RESULTS.md",
    "examples.md": "examples/README.md",
    "gstreamer.md": "plugins/gstreamer/README.md",
    "small-sam.md": "sdie_fast/models/small_sam/README.md",
    "sdie-small.md": "sdie_fast/models/sdie_small/README.md",
    "ptx-emulator.md": "tools/ptx_emulator/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "documentation.md": "docs/README.md",
}
_PLACES = {source: page for page, source in ELSEWHERE.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def commands() -> str:
    """Give every command's help, as a page."""
    import typer

    from sdie_fast.cli import app

    group: Any = typer.main.get_command(app)
    text = "# Every option\n\nThe commands' own help; [the command line](cli.md) says more about each.\n"
    for name, command in group.commands.items():
        if not command.hidden:
            options = {"info_name": f"sdie-fast {name}", "terminal_width": 100, "max_content_width": 100}
            with command.make_context(resilient_parsing=True, args=[], **options) as context:
                text += f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    return text


def _uncommented(comment: str) -> str:
    """Turn a C comment into Markdown: indented lines are code."""
    lines = [line.removeprefix(" * ").removeprefix(" *") for line in comment[2:-2].strip().splitlines()]
    text, code = "", False
    for line in lines:
        if (line[:2] == "  ") != code:
            code = not code
            text += "```\n" if not code else "\n```c\n"
        text += (line[2:] if code else _marked(line)) + "\n"
    return text + "```\n" * code


def _marked(line: str) -> str:
    return re.sub(r"(?<!`)\b(sdie_\w+(?:\(\w*\))?|SDIE_\w+)", r"`\1`", line)


def c_interface() -> str:
    """Give the C header as a page: its comments as text, its declarations as code."""
    header = (ROOT / "include" / "sdie_fast.h").read_text(encoding="utf-8")
    body = header[: header.rindex("#if defined(__cplusplus)")]
    head, *sections = re.split(r"/\* -+ ([^-]+) -+ \*/\n", body)
    text = (
        "# The C library\n\nFrom `include/sdie_fast.h`. [On the line](line.md) says how a system is built with it.\n"
        "`include/sdie.hpp` has owners of its handles for C++17.\n\n"
    )
    text += _uncommented(head[: head.index("*/") + 2]) + "\n"
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        text += f"## {title[0].upper()}{title[1:]}\n\n"
        for chunk in section.strip().split("\n\n"):
            match = re.match(r"/\*.*?\*/\n", chunk, re.DOTALL)
            words, code = (match[0].strip(), chunk[match.end() :]) if match else ("", chunk)
            text += (_uncommented(words) if words else "") + "\n"
            if code.strip():
                text += f"```c\n{code.replace('SDIE_API ', '').strip()}\n```\n\n"
    return text


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def functions() -> str:
    """Give every filter's function: its signature, its sentence, and its own parameters."""
    import dataclasses

    from sdie_fast import filters

    text = ""
    for name, kind in filters.TABLE.items():
        own = {field.name: field for field in dataclasses.fields(kind)}
        given = "".join(f"{key}={_short(field.default)!r}, " for key, field in own.items())
        text += f"### {name}\n\n```python\n{name}(image, *, {given}...)\n```\n\n{(kind.__doc__ or '').strip()}\n\n"
        text += "".join(f"- **`{key}`**: {field.metadata['parameter'].sentence()}\n" for key, field in own.items())
        text += "\n"
    return text


def parameters() -> str:
    """Give every parameter of the filters as a table."""
    from sdie_fast import filters

    rows = ["| `FilterParams` | default | published code | meaning |", "|---|---|---|---|"]
    for name, parameter in filters.PARAMETERS.items():
        default = getattr(filters.DEFAULTS, name)
        shown = "as `window`" if default is None else _short(default)
        told = "" if parameter.published is None else _short(parameter.published)
        sentence = parameter.sentence().replace("|", "\\|")
        rows.append(f"| `{name}` | {shown} | {told} | {sentence} |")
    return "\n".join(rows)


MADE = {"commands.md": commands, "c.md": c_interface}
MARKS = {"<!-- filters -->": functions, "<!-- parameters -->": parameters}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere or are made."""
    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for page, make in MADE.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site's pages, and fill in tables."""
    own = page.file.src_uri
    folder = posixpath.dirname(ELSEWHERE.get(own, f"docs/{own}"))

    def turned(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        target = posixpath.normpath(posixpath.join(folder, target))
        place = _PLACES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else target)
        if place in MADE or place in ELSEWHERE or (ROOT / "docs" / place).is_file():
            return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(own) or '.')}{anchor})"
        if (ROOT / target).exists():  # code, which the site does not have
            return text
        return match[0]  # a broken link: mkdocs says so

    for mark, make in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return _LINK.sub(turned, markdown)
