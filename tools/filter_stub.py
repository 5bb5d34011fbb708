"""Write what editors and type checkers read of `sdie_fast.filters`.

It takes no arguments: python tools/filter_stub.py.
The module makes `FilterParams` and its functions from the table of filters; run this after a change of the table.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

from sdie_fast import filters

PATH = Path(__file__).parents[1] / "sdie_fast" / "filters" / "__init__.pyi"

HEAD = """\
# Written by tools/filter_stub.py from the table of filters.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ._filter import Filter as Filter
from ._filter import Operations as Operations
from ._filter import Parameter as Parameter

Array = TypeVar("Array")

DEFAULTS: FilterParams
FILTERS: tuple[str, ...]
PARAMETERS: Mapping[str, Parameter]
TABLE: Mapping[str, type[Filter]]

def toolkit(weights: Any, filters: Sequence[str] | None = ...) -> tuple[str, ...]: ...

@dataclass(frozen=True)
class FilterParams:
"""

METHODS = """
    @classmethod
    def published_code(cls) -> FilterParams: ...
    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FilterParams: ...
    def to_dict(self, filters: tuple[str, ...] = ...) -> dict[str, Any]: ...
    def windows(self) -> tuple[int, ...]: ...
    def of(self, name: str) -> Any: ...
    def resolved(self, filters: Sequence[str] = ...) -> dict[str, Any]: ...
"""


def stub() -> str:
    """Return the stub's text."""
    text = HEAD
    for field in dataclasses.fields(filters.FilterParams):
        kind = field.type if isinstance(field.type, str) else field.type.__name__
        text += f"    {field.name}: {kind} = ...\n"
    text += METHODS
    for name in filters.TABLE:
        function = getattr(filters, name)
        text += f"\ndef {name}(\n    image: Array,\n    *,\n"
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            text += f"    {parameter.name}: {parameter.annotation} = ...,\n"
        text += f') -> Array:\n    """{inspect.getdoc(function).splitlines()[0]}"""\n'
    return text.replace("'", '"')


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
