"""Enhancing images: T rounds of the six filters mixed by weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _backends, _validate
from ._params import DEFAULTS, FilterParams
from .recipe import Recipe


def enhance(
    image: npt.NDArray[Any],
    weights: npt.ArrayLike,
    *,
    params: FilterParams | None = None,
    out: npt.NDArray[Any] | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
) -> npt.NDArray[Any]:
    """Enhance an image or a batch by T weighted rounds of the six filters.

    One round is M' = clip(sum_i w_i f_i(M), 0, 1) with w = a / sum(a) (Liu, Chen, Cui, Li, ECAI
    2024, eq. 5). The rounds in between are float32: only the first input and the last output have
    the image's dtype. A filter whose weight is zero is not computed.

    Parameters
    ----------
    image : ndarray, uint8, uint16 or float32
        Shape (H, W), (N, H, W), (H, W, 3) or (N, H, W, 3): a last axis of exactly 3 is colour (RGB)
        wherever there are three axes or more, always. H and W are at least the largest window of
        the filters in use. Any strides; native byte order. float32 values lie in [0, 1].
    weights : array_like
        Non-negative numbers a, in the order of `sdie_fast.FILTERS`: (6,) for one round, (T, 6) for
        T rounds, (N, T, 6) for T rounds of each image of a batch. They need not sum to one, but
        some weight of each round is positive.
    params : FilterParams, optional
        Parameters of the filters; None means the defaults.
    out : ndarray, optional
        Where to write: same shape and dtype as the image, writable, sharing no memory with it; any
        strides.
    backend : {"auto", "cpu", "reference"}
        A backend named explicitly raises where it cannot run; "auto" is the fastest that can.
    threads : int, optional
        Threads to use at most, 1 to 1024; None means every CPU this process may run on. Results do
        not depend on it.
    white_level : float, optional
        The uint16 value that counts as 1.0, in [1, 65535]: None means 65535; 4095 suits a 12-bit
        camera. No value may exceed it. Only for uint16.
    per_channel : bool
        Colour images: False filters luma (ITU-R BT.601) and adds its change to the three channels,
        which carries chroma over; True filters every channel as a grey image.
    max_pixels : int, optional
        Largest H * W accepted; None means 2**28.

    Returns
    -------
    ndarray
        Of the image's shape and dtype: `out` itself where it is given. Integers are rounded half
        up.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        An argument that cannot be used; nothing has been written to `out`.
    BackendUnavailableError
        The backend named cannot run here.
    """
    return _backends.run(
        image,
        weights,
        _validate.instance("params", DEFAULTS if params is None else params, FilterParams),
        out=out,
        backend=backend,
        threads=threads,
        white_level=white_level,
        per_channel=per_channel,
        max_pixels=max_pixels,
    )


class Enhancer:
    """A recipe made ready to be applied to image after image.

    Parameters
    ----------
    recipe : Recipe or path
        A recipe, a directory that holds recipe.json, or that file.
    backend, threads, white_level, per_channel, max_pixels
        As for `enhance`. The backend is chosen once, here.

    Raises
    ------
    RecipeError
        The file cannot be read, or is no valid recipe.
    InvalidArgumentError, InvalidTypeError, BackendUnavailableError
        As for `enhance`.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
        backend: str = "auto",
        threads: int | None = None,
        *,
        white_level: float | None = None,
        per_channel: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
        self.backend = _backends.resolve(backend).name
        self.threads = _validate.threads(threads)
        self.white_level = white_level
        self.per_channel = _validate.flag("per_channel", per_channel)
        self.max_pixels = max_pixels

    def __call__(
        self, image: npt.NDArray[Any], out: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Enhance an image or a batch.

        Parameters
        ----------
        image, out
            As for `enhance`.

        Returns
        -------
        out : ndarray
            The enhanced image.
        trace : ndarray, float32, read-only
            The normalised weights used: (T, 6) where all images had the same, else (N, T, 6).
        """
        enhanced = enhance(
            image,
            self.recipe.weights,
            params=self.recipe.params,
            out=out,
            backend=self.backend,
            threads=self.threads,
            white_level=self.white_level,
            per_channel=self.per_channel,
            max_pixels=self.max_pixels,
        )
        return enhanced, self.recipe.weights
