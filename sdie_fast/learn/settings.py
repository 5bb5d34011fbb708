"""Settings of a run as a TOML file: written whole, each below what it means, read back, and laid one over another."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # what became tomllib
    import tomli as tomllib

from .. import _validate
from ..errors import RunError
from ..filters import FilterParams
from ..segment import Auto
from .config import Config, Job

__all__ = ["FORMAT", "read_toml", "settings", "to_toml"]

FORMAT = "sdie_fast run 4"


def _texts(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each attribute: its type and its sentences."""
    about = re.findall(r"^(\w+) : (.*)\n((?: +.*\n?)+)", inspect.getdoc(kind) or "", re.MULTILINE)
    found = {name: f"{accepted}: {' '.join(text.split())}" for name, accepted, text in about}
    return {f.name: found.get(f.name, "") for f in dataclasses.fields(kind)}


_CONFIG_TEXTS, _JOB_TEXTS = _texts(Config), _texts(Job)
_NONE = "none"  # TOML has no word for None


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # JSON's strings, numbers and truth values are TOML's too.
    return json.dumps(_NONE if value is None else value, ensure_ascii=False)


def _lines(values: Mapping[str, Any], texts: Mapping[str, str]) -> Iterable[str]:
    for name, value in values.items():
        comment = textwrap.fill(texts.get(name, ""), 98, break_on_hyphens=False)
        yield from (f"# {line}" for line in comment.splitlines())
        yield f"{name} = {_value(value)}"


def to_toml(config: Config, job: Job | None = None, **found: str) -> str:
    """Write settings whole, each below what it means; `found` are the names of the data set and the segmenter."""
    values = config.to_dict()
    tables = {
        "auto": (dataclasses.asdict(Auto(**config.auto)), _texts(Auto)),
        "params": (values["params"], _texts(FilterParams)),
        "found": (found, {}),
    }
    actions = values.pop("actions")
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    lines = [
        "# All settings of a run: `sdie-fast train --config FILE --out ANOTHER` repeats it.",
        f'# "{_NONE}" stands for no value (None).',
        *_lines({"format": FORMAT}, {}),
    ]
    if job is not None:
        lines += _lines(dataclasses.asdict(job), _JOB_TEXTS)
    lines += _lines(plain, _CONFIG_TEXTS)
    for name, (content, texts) in tables.items():
        lines += [
            "",
            f"# {_CONFIG_TEXTS.get(name, 'What the data set and the segmenter call themselves.')}",
            f"[{name}]",
            *_lines(content, texts),
        ]
    for action in actions:
        lines += ["", f"# {_CONFIG_TEXTS['actions']}", "[[actions]]", *_lines(action, {})]
    return "\n".join(lines) + "\n"


def _with_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _with_none(v) for k, v in value.items()}
    return None if value == _NONE else value


def read_toml(path: Path) -> dict[str, Any]:
    """Read what `to_toml` wrote, or a part of it.

    Raises
    ------
    RunError
        No such file, not TOML, or of another format.
    """
    try:
        values: dict[str, Any] = _with_none(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # of TOML or UTF-8
        raise RunError(f"{path}: not TOML: {error}") from error
    if values.pop("format", FORMAT) != FORMAT:
        raise RunError(f"{path}: another format than {FORMAT!r}")
    return values


def settings(*given: Mapping[str, Any]) -> tuple[Config, Job]:
    """Settings of flat mappings, of which later ones go before earlier ones, in `auto` and `params` key by key.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A key or a value that cannot be used.
    """
    merged: dict[str, Any] = {}
    for values in given:
        for name, value in values.items():
            inner = isinstance(value, dict) and isinstance(merged.get(name), dict)
            merged[name] = {**merged[name], **value} if inner else value
    merged.pop("found", None)
    _validate.known_keys("config", merged, [*_JOB_TEXTS, *_CONFIG_TEXTS])
    job = Job(**{name: value for name, value in merged.items() if name in _JOB_TEXTS})
    return Config.from_dict({name: value for name, value in merged.items() if name in _CONFIG_TEXTS}), job
