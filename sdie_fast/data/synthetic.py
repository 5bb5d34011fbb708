"""Procedural photographs of hot-rolled strip with exact defect masks.

Twelve kinds of defect, those of the FSSD-12 set, on strip with rolling texture, uneven light and
sensor noise. Everything follows from the kind, the seed and the size: the same three give the
same sample, whatever was drawn before it, on every platform whose float64 arithmetic rounds alike.

>>> from sdie_fast.data import synthetic
>>> sample = synthetic.surface("scratch", seed=7)
>>> sample.image.shape, sample.image.dtype, bool(sample.mask.any())
((200, 200), dtype('uint8'), True)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..errors import ImageFileError, InvalidArgumentError, InvalidTypeError
from . import _marks, _stains, _texture
from ._shapes import Canvas, Defect

__all__ = [
    "FSSD_CODES",
    "KINDS",
    "Sample",
    "clean",
    "dataset",
    "surface",
    "write_dataset",
]

_Draw = Callable[[np.random.Generator, Canvas], Defect]

# In the order of FSSD-12's class ids, 1 to 12: code and drawing.
_TABLE: dict[str, tuple[str, _Draw]] = {
    "abrasion_mask": ("Am", _marks.abrasion_mask),
    "iron_sheet_ash": ("Ia", _stains.iron_sheet_ash),
    "liquid": ("Ld", _stains.liquid),
    "oxide_scale": ("Op", _stains.oxide_scale),
    "oil_spot": ("Os", _stains.oil_spot),
    "water_spot": ("Ws", _stains.water_spot),
    "patch": ("Pa", _stains.patch),
    "punching": ("Pk", _marks.punching),
    "red_iron_sheet": ("Ri", _stains.red_iron_sheet),
    "roll_printing": ("Rp", _marks.roll_printing),
    "scratch": ("Sc", _marks.scratch),
    "inclusion": ("Se", _marks.inclusion),
}

KINDS: tuple[str, ...] = tuple(_TABLE)
"""The twelve kinds of defect, in the order of FSSD-12's class ids 1 to 12."""

FSSD_CODES = MappingProxyType({kind: code for kind, (code, _) in _TABLE.items()})
"""FSSD-12's two-letter code of each kind: its class is ``Steel_<code>``."""

MIN_SHARE, MAX_SHARE = 0.005, 0.35
"""Least and greatest share of the image that a mask covers."""

# Share of samples on the coarse finish; what is not listed stands on it this often.
_COARSE = {"patch": 0.9, "scratch": 0.0, "inclusion": 0.0}
_COARSE_ELSE = 0.15

# Share of samples photographed with the strip running from side to side.
_SIDEWAYS = {"patch": 0.1, "inclusion": 0.06}
_SIDEWAYS_ELSE = 0.25

_ATTEMPTS = 64

_Image = npt.NDArray[Any]
_seed = _validate.integer(0, 2**64 - 1)
_side = _validate.integer(16, 16384)
_count = _validate.integer(1, 10**7)
_kind = _validate.choice(*KINDS)


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph and the truth about it.

    Attributes
    ----------
    image : ndarray, (H, W), uint8, uint16 or float32
        Grey levels; float32 in [0, 1], integers over their whole range.
    mask : ndarray, bool, (H, W)
        True on the defect.
    kind : str
        One of `KINDS`, or ``"clean"``.
    seed : int
        With the kind and the size it gives the sample again.
    """

    image: _Image
    mask: npt.NDArray[np.bool_]
    kind: str
    seed: int
