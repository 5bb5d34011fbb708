"""What a filter is: its parameters, each described once, and what the rest of the package asks of it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _validate

Plane = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a filter.

    Attributes
    ----------
    kind : {"real", "integer", "choice"}
    text : str
        What it is, in a few words.
    low, high : float
        Accepted range of a number, ends included; `above` excludes the lower one.
    choices : tuple of str
        Accepted values of a choice.
    unit : str
    odd : bool
        Whether an integer has to be odd.
    choosable : bool
        Whether an agent may choose it: a number for which every value of a range makes sense.
    published : object
        Value in the code published under the SDIE paper's first author's name; None where it is the default.
    """

    kind: Literal["real", "integer", "choice"]
    text: str
    low: float = 0.0
    high: float = 0.0
    above: bool = False
    choices: tuple[str, ...] = ()
    unit: str = ""
    odd: bool = False
    choosable: bool = False
    published: Any = None

    def rule(self, *, optional: bool = False) -> _validate.Rule:
        """Make the check of a value; with `optional`, None passes."""
        if self.kind == "choice":
            return _validate.choice(*self.choices)
        if self.kind == "integer":
            return _validate.integer(int(self.low), int(self.high), odd=self.odd, optional=optional)
        return _validate.real(self.low, self.high, above_low=self.above)

    def sentence(self) -> str:
        """Say what it is, its unit and its range."""
        if self.kind == "choice":
            return self.text
        unit = f", in {self.unit}" if self.unit else ""
        if self.kind == "integer":
            return f"{self.text}{unit}: {'odd, ' * self.odd}{self.low:g} to {self.high:g}."
        return f"{self.text}{unit}, from {'above ' * self.above}{self.low:g} to {self.high:g}."

    def type_name(self) -> str:
        """Name the type as docstrings do."""
        if self.kind == "choice":
            return "{" + ", ".join(f'"{choice}"' for choice in self.choices) + "}"
        return "int" if self.kind == "integer" else "float"


def _field(default: Any, parameter: Parameter) -> Any:
    return dataclasses.field(default=default, metadata={"parameter": parameter})


def real(default: float, low: float, high: float, text: str, **rest: Any) -> Any:
    """Declare a real parameter from low to high (see `Parameter`)."""
    return _field(default, Parameter("real", text, low, high, **rest))


def integer(default: int, low: int, high: int, text: str, **rest: Any) -> Any:
    """Declare an integer parameter from low to high."""
    return _field(default, Parameter("integer", text, low, high, **rest))


def choice(choices: tuple[str, ...], text: str, **rest: Any) -> Any:
    """Declare a parameter that is one of a few strings, the first by default."""
    return _field(choices[0], Parameter("choice", text, choices=choices, **rest))


def window(text: str = "Side of the square window", **rest: Any) -> Any:
    """Declare the side of a filter's window, which is that of all filters where it has none of its own."""
    return integer(7, 3, 15, text, unit="pixels", odd=True, **rest)


class Operations(NamedTuple):
    """Arithmetic of one pixel, counted by hand from the definition.

    An addition, a multiplication and a fused multiply-add are one lane operation each; exp2, log2 and a reciprocal are
    one special function each.
    """

    lanes: float
    special: float = 0.0


@dataclasses.dataclass(frozen=True)
class Filter(abc.ABC):
    """A filter with its parameters, which are not checked here: `sdie_fast.FilterParams` does that.

    Attributes
    ----------
    name : str
    colour : str
        In charts.
    turn : int
        Place in the schedule that learning begins with, the lowest first: smoothing comes before the rest.
    whole_image : bool
        Whether it needs the whole image before the first pixel of its result.
    """

    name: ClassVar[str]
    colour: ClassVar[str]
    turn: ClassVar[int]
    whole_image: ClassVar[bool] = False

    def reach(self) -> int:
        """Distance in pixels from which a pixel of a local filter's result is influenced; an image is larger than that."""
        return 0

    @abc.abstractmethod
    def operations(self) -> Operations:
        """Count the least arithmetic a pixel."""

    @abc.abstractmethod
    def reference(self, g: Plane) -> Plane:
        """Apply the filter by its definition in float64.

        Parameters
        ----------
        g : (H, W) float64
            Intensities in [0, 1]; borders are reflected without repeating the edge pixel (NumPy's ``mode="reflect"``,
            OpenCV's ``BORDER_REFLECT_101``).
        """


class Windowed(Filter):
    """A filter that sees a square window."""

    window: int

    def reach(self) -> int:
        """Radius of the window."""
        return self.window // 2


def shifts(g: Plane, radius: int) -> Iterator[tuple[int, int, Plane]]:
    """Yield (dy, dx, q) for every tap of the window, with q[y, x] = g[y + dy, x + dx]."""
    h, w = g.shape
    padded = np.pad(g, radius, mode="reflect")
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            yield dy, dx, padded[radius + dy : radius + dy + h, radius + dx : radius + dx + w]
