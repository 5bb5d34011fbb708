"""Pictures reduced to means of areas, as Pillow's BOX filter computes them: the one meaning of what a network sees.

First along rows, then along columns, rounded to whole levels after each, in fixed point. On the host Pillow does it;
on a device the same numbers come from `areas`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FRACTION", "areas", "shrink"]

FRACTION = 22  # bits after the point; Pillow's PRECISION_BITS


@functools.lru_cache(maxsize=16)
def areas(length: int, side: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Areas of a line of pixels.

    Returns
    -------
    bounds : ndarray, int32, (side, 2)
        Each area's first pixel and the one after its last.
    share : ndarray, int32, (side,)
        One over its length, times 2**FRACTION, rounded.
    """
    scale = length / side
    width = max(scale, 1.0)
    bounds = np.empty((side, 2), np.int32)
    for k in range(side):
        centre = (k + 0.5) * scale
        first, last = max(int(centre - width / 2 + 0.5), 0), min(int(centre + width / 2 + 0.5), length)
        # The filter is open on its left and closed on its right.
        inside = [i for i in range(first, last) if -0.5 < (i - centre + 0.5) / width <= 0.5]
        bounds[k] = inside[0], inside[-1] + 1
    lengths = (bounds[:, 1] - bounds[:, 0]).astype(np.float64)
    return bounds, (0.5 + (1.0 / lengths) * (1 << FRACTION)).astype(np.int32)


@functools.lru_cache(maxsize=16)
def _matrix(length: int, side: int, device: Any) -> Any:
    """The areas as a matrix (side, length) of shares on a device: float64, whole numbers."""
    import torch

    bounds, share = areas(length, side)
    at = np.arange(length)
    inside = (bounds[:, :1] <= at) & (at < bounds[:, 1:])
    return torch.from_numpy(np.where(inside, share[:, None], 0).astype(np.float64)).to(device)


def shrink(pictures: Any, side: int) -> Any:
    """Reduce grey pictures.

    Parameters
    ----------
    pictures : ndarray or Tensor, uint8, (N, H, W)
    side : int
        Pixels a side of the result, whatever the pictures' shape.

    Returns
    -------
    ndarray or Tensor, uint8, (N, side, side)
    """
    if isinstance(pictures, np.ndarray):
        from PIL import Image

        small = [Image.fromarray(p).resize((side, side), Image.Resampling.BOX) for p in pictures]
        return np.stack([np.asarray(s) for s in small]) if small else np.empty((0, side, side), np.uint8)
    # Whole numbers below 2^31: float64 is exact, in any order of summation.
    down, across = (_matrix(length, side, pictures.device) for length in pictures.shape[1:])
    half, whole = 2.0 ** (FRACTION - 1), 2.0**FRACTION
    rows = ((pictures.double() @ across.T + half) / whole).floor()
    return ((down @ rows + half) / whole).floor().clamp(0.0, 255.0).to(pictures.dtype)
