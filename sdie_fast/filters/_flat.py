"""The flat view of all filters' parameters, and a function for each filter: both made from the table."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import _validate, _weights
from ._filter import Filter, Parameter
from .bilateral import Bilateral
from .gamma import Gamma
from .gaussian import Gaussian
from .guided import Guided
from .identity import Identity
from .median import Median
from .sharpen import Sharpen
from .spatiogram import Spatiogram
from .wls import Wls

_CLASSES: tuple[type[Filter], ...] = (
    Identity,
    Wls,
    Bilateral,
    Sharpen,
    Guided,
    Spatiogram,
    Gamma,
    Median,
    Gaussian,
)
TABLE: Mapping[str, type[Filter]] = {cls.name: cls for cls in _CLASSES}
FILTERS = tuple(TABLE)[:6]  # the SDIE paper's


def flat_name(filter_name: str, field: str) -> str:
    """Name a filter's parameter as `FilterParams` does: `lambda_` of "wls" is `wls_lambda`."""
    return f"{filter_name}_{field.rstrip('_')}"


# Of every filter, its own fields by their flat names.
_FIELDS = {
    name: {flat_name(name, field.name): field for field in dataclasses.fields(cls)} for name, cls in TABLE.items()
}
PARAMETERS: Mapping[str, Parameter] = {
    flat: field.metadata["parameter"] for fields in _FIELDS.values() for flat, field in fields.items()
}
WINDOW = Parameter("integer", "Side of the square window of every filter that has one", 3, 11, odd=True, unit="pixels")
_WINDOWS = {flat for flat in PARAMETERS if flat.endswith("_window")}  # None means `window`
_RULES = {"window": WINDOW.rule()} | {
    flat: parameter.rule(optional=flat in _WINDOWS) for flat, parameter in PARAMETERS.items()
}


def toolkit(weights: Any, filters: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name the filters that weights are for.

    Those given, checked; without them the default ones, and with weights by name those named besides.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        An unknown filter, or one twice.
    """
    if filters is not None:
        return _validate.filters(filters, TABLE)
    if not _weights.is_named(weights):
        return FILTERS
    named = _weights.names_in(weights, TABLE)
    return FILTERS + tuple(name for name in TABLE if name in named and name not in FILTERS)


class _FilterParams:
    """What `FilterParams` can do; its fields are made from the table."""

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            # The checked value replaces the given one: numpy scalars become plain numbers, which JSON can hold.
            object.__setattr__(self, name, rule(name, getattr(self, name)))

    # Made once, since every call asks for them.

    @functools.cached_property
    def _parts(self) -> dict[str, Filter]:
        parts = {}
        for name, cls in TABLE.items():
            values = {field.name: getattr(self, flat) for flat, field in _FIELDS[name].items()}
            if values.get("window", 0) is None:
                values["window"] = self.window  # type: ignore[attr-defined]
            parts[name] = cls(**values)
        return parts

    @functools.cached_property
    def _windows(self) -> tuple[int, ...]:
        return tuple(2 * own.reach() + 1 for own in self._parts.values())

    @functools.cached_property
    def _hash(self) -> int:
        return hash(dataclasses.astuple(self))  # type: ignore[call-overload]

    def __reduce__(self) -> Any:
        return type(self).from_dict, (self.to_dict(),)  # without what is cached: hashes of strings are a process's own

    @classmethod
    def published_code(cls) -> Any:
        """Parameters of the code published under the SDIE paper's first author's name, whose recipes run four rounds.

        WLS lambda 0.125 on CIE L*; bilateral disk of diameter 15 with both sigmas 75 of 255; sharpening by 1.5 with a
        5 x 5 Gaussian of sigma 1.1; guided radius 5 and eps 0.1; CLAHE with clip limit 1.0 and 5 x 5 tiles.
        """
        return cls(**{flat: p.published for flat, p in PARAMETERS.items() if p.published is not None})

    def windows(self) -> tuple[int, ...]:
        """Window in pixels of each filter, in the order of `TABLE`; 1 for those without."""
        return self._windows

    def of(self, name: str) -> Any:
        """Give one filter with its parameters: an instance of its class in `TABLE`."""
        return self._parts[name]

    def resolved(self, filters: Sequence[str] = tuple(TABLE)) -> dict[str, Any]:
        """Those filters' parameters by their flat names, each window a number."""
        return {
            flat: getattr(self._parts[name], field.name) for name in filters for flat, field in _FIELDS[name].items()
        }

    def to_dict(self, filters: tuple[str, ...] = tuple(TABLE)) -> dict[str, Any]:
        """Every parameter of those filters by name, as JSON can hold it."""
        return {
            name: getattr(self, name) for name in ("window", *(n for f in TABLE if f in filters for n in _FIELDS[f]))
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """Make parameters from a dictionary; what it leaves out keeps its default.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            An unknown name, or a value out of range.
        """
        _validate.mapping("params", values)
        _validate.known_keys("params", values, _RULES)
        return cls(**values)


def _described(names: Mapping[str, Parameter], *, optional: bool) -> str:
    """Write the parameters as a docstring lists them."""
    lines = []
    for name, parameter in names.items():
        none = optional and name in _WINDOWS
        lines.append(f"{name} : {parameter.type_name()}{' or None' * none}")
        sentence = parameter.sentence() + " None means `window`." * none
        lines += textwrap.wrap(sentence, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


FilterParams: Any = dataclasses.make_dataclass(
    "FilterParams",
    [("window", int, 7)]
    + [
        (flat, f"{field.type} | None" if flat in _WINDOWS else field.type, None if flat in _WINDOWS else field.default)
        for fields in _FIELDS.values()
        for flat, field in fields.items()
    ],
    bases=(_FilterParams,),
    namespace={
        "__module__": "sdie_fast.filters",
        "__hash__": lambda self: self._hash,
        "__doc__": "Parameters of the filters. Immutable, hashable, checked when made.\n\nAttributes\n----------\n"
        + _described({"window": WINDOW, **PARAMETERS}, optional=True),
    },
    frozen=True,
)
DEFAULTS = FilterParams()

_PLAIN = {int, float, str, bool}  # can be a key
_COMMON = {
    "out": ("Array | None", None),
    "backend": ("str", "auto"),
    "threads": ("int | None", None),
    "white_level": ("float | None", None),
    "per_channel": ("bool", False),
    "max_pixels": ("int | None", None),
    "axes": ("str | None", None),
}


def function(cls: type[Filter]) -> Callable[..., Any]:
    """Make the function that applies one filter; its signature and docstring come from the filter's parameters."""
    own = {field.name: flat for flat, field in _FIELDS[cls.name].items()}

    @functools.lru_cache(maxsize=16, typed=True)  # typed: True equals 1, and is refused
    def made(**values: Any) -> Any:
        return FilterParams(**values)

    def apply(image: Any, **options: Any) -> Any:
        from .. import _backends  # above this module: only once it is called

        unknown = options.keys() - own.keys() - _COMMON.keys()
        if unknown:
            raise TypeError(f"{cls.name}() got an unexpected keyword argument {min(unknown)!r}")
        given = {own[name]: options[name] for name in own if name in options}
        params = made(**given) if _PLAIN.issuperset(map(type, given.values())) else FilterParams(**given)
        common: dict[str, Any] = {name: options.get(name, default) for name, (_, default) in _COMMON.items()}
        return _backends.run(image, {cls.name: 1.0}, params, filters=None, **common)

    keyword = inspect.Parameter.KEYWORD_ONLY
    fields = dataclasses.fields(cls)
    apply.__name__ = apply.__qualname__ = cls.name
    apply.__module__ = "sdie_fast.filters"
    apply.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("image", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Array")]
        + [inspect.Parameter(f.name, keyword, default=f.default, annotation=f.type) for f in fields]
        + [inspect.Parameter(n, keyword, default=d, annotation=a) for n, (a, d) in _COMMON.items()],
        return_annotation="Array",
    )
    described = _described({f.name: f.metadata["parameter"] for f in fields}, optional=False)
    apply.__doc__ = (
        f"{cls.__doc__}\n\nParameters\n----------\nimage : array\n    See the module `sdie_fast.filters`.\n{described}\n"
        "out, backend, threads, white_level, per_channel, max_pixels, axes\n    See the module, errors too.\n\n"
        "Returns\n-------\nndarray or array on a CUDA device\n"
        "    Of the image's kind, shape and dtype: `out` itself where it is given; clipped to [0, 1]."
    )
    return apply
