"""Colours turned into others: CMYK into RGB, RGB into grey."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .picture import Meta

__all__ = ["from_cmyk", "grey"]


def from_cmyk(ink: npt.NDArray[Any], meta: Meta) -> tuple[npt.NDArray[Any], Meta]:
    """Turn (H, W, 4) inks, full at the largest number, into sRGB; a profile of theirs is used and left behind."""
    meta, icc = replace(meta, icc=None), meta.icc
    if icc is not None and icc[16:20] == b"CMYK":
        import imagecodecs

        try:
            # Little CMS counts 8- and 16-bit ink as the array does: 0 is none.
            out = imagecodecs.cms_transform(
                np.ascontiguousarray(ink), icc, imagecodecs.cms_profile("srgb"), colorspace="cmyk", outcolorspace="rgb"
            )
            return np.ascontiguousarray(out), meta
        except Exception:
            pass
    high = int(np.iinfo(ink.dtype).max)
    left = high - ink.astype(np.uint64)
    return ((2 * left[..., :3] * left[..., 3:] + high) // (2 * high)).astype(ink.dtype), meta


def grey(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Give the luma (ITU-R BT.601) of (H, W) or (H, W, 3) pixels in 8 bits, as data sets and training see it."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        scale = 255.0 if pixels.dtype.kind == "f" else 1 / 257.0
        pixels = np.round(pixels * scale).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).convert("L"))
