"""Weighted rounds in plain float64 NumPy: with the filters' own definitions, the truth every backend is tested against.

Written to be read beside the formulas, not to be fast. A plane is a float64 array of shape (H, W) with intensities in
[0, 1]. Nothing is checked here, `sdie_fast.enhance` does that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .filters import TABLE, FilterParams

__all__ = ["LUMA", "Plane", "enhance", "enhance_plane"]

Plane = npt.NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def enhance_plane(g: Plane, weights: npt.ArrayLike, params: FilterParams) -> Plane:
    """Run T rounds on one plane: M' = clip(sum_i w_i f_i(M), 0, 1) (SDIE, eq. 5).

    Parameters
    ----------
    g : (H, W) float64
    weights : (T, F)
        Non-negative, in the order of `sdie_fast.filters.TABLE`, each row with a positive sum: w is the row over its
        sum; what a row leaves out at its end is 0. Filters of weight 0 are not computed.
    params : FilterParams
    """
    names = tuple(TABLE)
    for row in np.asarray(weights, dtype=np.float64):
        mixed = np.zeros_like(g)
        for index in np.flatnonzero(row).tolist():
            mixed += row[index] / row.sum() * params.of(names[index]).reference(g)
        g = np.clip(mixed, 0.0, 1.0)
    return g


def enhance(
    images: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    params: FilterParams,
    *,
    white_level: float,
    per_channel: bool,
) -> npt.NDArray[np.float64]:
    """Enhance a batch of images.

    Parameters
    ----------
    images : (N, H, W, C) uint8, uint16 or float32
        C is 1 (grey) or 3 (RGB). Of RGB the rounds enhance the luma Y, and the result is RGB + (Y_T - Y_0), clipped to
        [0, 1].
    weights : (N, T, F)
        As `enhance_plane` takes them, for each image.
    params : FilterParams
    white_level : float
        What counts as intensity 1.
    per_channel : bool
        Enhance every channel by itself, as a grey image.

    Returns
    -------
    (N, H, W, C) float64
        Intensities in [0, 1], not yet scaled back and rounded.
    """
    scaled = images.astype(np.float64) / white_level
    out = np.empty_like(scaled)
    for image, w, to in zip(scaled, weights, out, strict=True):
        if image.shape[2] == 1 or per_channel:
            for c in range(image.shape[2]):
                to[..., c] = enhance_plane(image[..., c], w, params)
        else:
            luma = image @ LUMA
            change = enhance_plane(luma, w, params) - luma
            to[...] = np.clip(image + change[..., None], 0.0, 1.0)
    return out
