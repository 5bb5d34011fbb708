"""Enhancing images: T rounds of the six filters mixed by weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _backends, _validate
from ._params import DEFAULTS, FILTERS, FilterParams
from .actor import Actions, Actor, observe
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
    """A recipe made ready to be applied to image after image: of several passes, the first.

    Parameters
    ----------
    recipe : Recipe or path
        A recipe, a directory that holds recipe.json, or that file.
    backend, threads, white_level, per_channel, max_pixels
        As for `enhance`. The backend is chosen once, here.

    Raises
    ------
    RecipeError
        The file cannot be read, or is no valid recipe, or its network is not the one it names.
    ModelError
        The recipe has a network, and onnxruntime is missing.
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
        actor = self.recipe.actor
        self._actor = None if actor is None else Actor(actor, self.recipe.kind, self.threads)
        self._rounds = self.recipe.rounds // self.recipe.passes  # of the first pass

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
            The normalised weights used: (T, 6) where all images had the same, or there was one,
            else (N, T, 6).
        """
        if self._actor is None:
            weights = self.recipe.weights
            assert weights is not None
            weights = weights[: self._rounds]
            return self._run(image, weights, self.recipe.params, out), weights
        planes = _validate.image(image, self.max_pixels)
        white = _validate.white_level(self.white_level, planes.dtype)
        result, target = _validate.output(out, image)
        _validate.intensities(planes, white)
        if self.recipe.kind == "schedule":
            trace = self._scheduled(self._actor, planes, white, target)
        else:
            trace = self._followed(self._actor, planes, white, target)
        if len(planes) == 1:
            trace = trace[0]
        trace.flags.writeable = False
        return result, trace

    def _scheduled(
        self, actor: Actor, planes: npt.NDArray[Any], white: float, target: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """One look at the images gives all rounds."""
        meaning = actor.file.actions
        actions = actor(observe(_grey(planes, white), actor.file.side))
        if meaning.parameters:
            return self._by_rounds(actor, planes, white, target, lambda _, at: actions[:, at])
        trace = meaning.weights(actions[:, : self._rounds])
        self._run(_flat(planes), trace, self.recipe.params, _flat(target))
        return trace

    def _followed(
        self, actor: Actor, planes: npt.NDArray[Any], white: float, target: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """A look before each round."""

        def act(grey: npt.NDArray[np.float32], at: int) -> npt.NDArray[np.float32]:
            return actor(observe(grey, actor.file.side), at)

        return self._by_rounds(actor, planes, white, target, act)

    def _by_rounds(
        self,
        actor: Actor,
        planes: npt.NDArray[Any],
        white: float,
        target: npt.NDArray[Any],
        act: Callable[[npt.NDArray[np.float32], int], npt.NDArray[np.float32]],
    ) -> npt.NDArray[np.float32]:
        """One round after the other, float32 in between; `act` gives the actions of grey images and a round."""
        rounds = self._rounds
        trace = np.empty((len(planes), rounds, len(FILTERS)), np.float32)
        first = _state(planes, white)
        # Colour: the change of luma, over all rounds, is added to the three channels.
        carried = planes.shape[3] == 3 and not self.per_channel
        state = _grey(first, 1.0)[..., None] if carried else first
        luma = state
        for at in range(rounds):
            actions = act(_grey(state, 1.0), at)
            trace[:, at] = actor.file.actions.weights(actions)
            state = one_round(
                state,
                actions,
                actor.file.actions,
                self.recipe.params,
                backend=self.backend,
                threads=self.threads,
                per_channel=self.per_channel,
            )
        if carried:
            state = np.clip(first + (state - luma), 0.0, 1.0)
        _store(state, target, white)
        return trace

    def _run(
        self, image: npt.NDArray[Any], weights: npt.ArrayLike, params: FilterParams, out: Any
    ) -> npt.NDArray[Any]:
        return enhance(
            image,
            weights,
            params=params,
            out=out,
            backend=self.backend,
            threads=self.threads,
            white_level=self.white_level,
            per_channel=self.per_channel,
            max_pixels=self.max_pixels,
        )


def one_round(
    state: npt.NDArray[np.float32],
    actions: npt.NDArray[np.float32],
    meaning: Actions,
    params: FilterParams,
    **options: Any,
) -> npt.NDArray[np.float32]:
    """One round as an agent takes it.

    Parameters
    ----------
    state : ndarray, float32 in [0, 1], (N, H, W, C)
        Images.
    actions : ndarray, float32 in [-1, 1], (N, size)
        One for each.
    meaning : Actions
        Of the actions.
    params : FilterParams
        What no action chooses.
    **options
        Of `enhance`.
    """
    weights = meaning.weights(actions)[:, None]
    flat = _flat(state)
    if not meaning.parameters:
        return enhance(flat, weights, params=params, **options).reshape(state.shape)
    out = np.empty_like(state)
    for k, action in enumerate(actions):
        own = meaning.params(action, params)
        enhance(flat[k], weights[k], params=own, out=_flat(out)[k], **options)
    return out


def _flat(planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, H, W, C) as callers have it: (N, H, W) where it is grey."""
    return planes[..., 0] if planes.shape[3] == 1 else planes


def _state(planes: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
    state: npt.NDArray[np.float32] = np.asarray(planes, np.float32) / np.float32(white)
    return state


def _grey(planes: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
    """Luma (ITU-R BT.601) of (N, H, W, C) images, (N, H, W)."""
    state = _state(planes, white)
    if state.shape[3] == 1:
        return state[..., 0]
    return np.asarray(state @ np.array([0.299, 0.587, 0.114], np.float32))


def _store(state: npt.NDArray[np.float32], target: npt.NDArray[Any], white: float) -> None:
    """Write (N, H, W, C) intensities as the caller's type, integers rounded half up."""
    if target.dtype == np.float32:
        target[...] = state
    else:
        target[...] = np.floor(state * np.float32(white) + np.float32(0.5))
