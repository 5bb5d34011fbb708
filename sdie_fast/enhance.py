"""Enhancing images: T rounds of filters mixed by weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _backends, _validate
from ._backends import Array
from .actor import Actions, Actor, ActorFile, observe
from .cuda.arrays import DeviceArray
from .filters import DEFAULTS, FilterParams
from .recipe import Recipe
from .reference import LUMA

__all__ = ["Enhancer", "Weights", "clear_cache", "enhance", "one_round"]

Act = Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.float32]]  # of what is seen of the images, and a round
# One round's weights by name, or those of several, or arrays of either.
Weights = Mapping[str, float] | Sequence[Mapping[str, float]] | npt.ArrayLike


def enhance(
    image: Array,
    weights: Weights,
    *,
    params: FilterParams | None = None,
    filters: Sequence[str] | None = None,
    out: Array | None = None,
    backend: str = "auto",
    threads: int | None = None,
    white_level: float | None = None,
    per_channel: bool = False,
    max_pixels: int | None = None,
    axes: str | None = None,
) -> Array:
    """Enhance an image or a batch by T weighted rounds of filters.

    One round is M' = clip(sum_i w_i f_i(M), 0, 1) with w = a / sum(a) (Liu, Chen, Cui, Li, ECAI
    2024, eq. 5). The rounds in between are float32: only the first input and the last output have
    the image's dtype. A filter whose weight is zero is not computed.

    Parameters
    ----------
    image : ndarray or array on a CUDA device, uint8, uint16 or float32
        Shape (H, W), (H, W, 1) or (H, W, 3), the last of them colour (RGB), or a batch of such: (N, H, W), (N, H, W, 1)
        or (N, H, W, 3); see `axes`. H and W are at least the largest window of the filters in use. Any strides; native
        byte order. float32 values lie in [0, 1].

        Arrays on a CUDA device are torch tensors, CuPy arrays, Numba device arrays, and whatever
        else has ``__cuda_array_interface__`` or speaks DLPack, on the current device. They are read
        and written where they lie, in the order of their library's current stream (Numba's: of the
        stream they are bound to), and the call returns as soon as the work is enqueued. Their
        values are not checked, since that would mean waiting: what lies outside [0, 1] is clipped,
        and what comes of NaN is not defined.
    weights : dict, list of dict, or array_like
        Non-negative numbers a, by the filters' names (``{"identity": 1, "wls": 2}``, a list of such for T rounds) or
        as an array in the order of `filters`: (F,) for one round, (T, F) for T rounds, (N, T, F) for T rounds of each
        image of a batch. They need not sum to one, but some weight of each round is positive.
    params : FilterParams, optional
        Parameters of the filters; None means the defaults.
    filters : sequence of str, optional
        Names of the F filters that an array of weights is for; None means `sdie_fast.FILTERS`. Any of
        `sdie_fast.filters.TABLE` may be named.
    out : ndarray or array on a CUDA device, optional
        Where to write: same shape and dtype as the image, on the host or the device as the image
        is, writable, sharing no memory with it; any strides.
    backend : {"auto", "cuda", "cpu", "reference"}
        A backend named explicitly raises where it cannot run or lacks a filter. "auto" is "cuda" for arrays on a CUDA
        device. For arrays on the host it is the fastest of the others that can run: from which size
        on a GPU would pay, copies included, has not been measured. "cuda" takes arrays on the host
        as well: in chunks, copies beside the kernels.
    threads : int, optional
        Threads to use at most, 1 to 1024; None means every CPU this process may run on. Results do
        not depend on it. "cuda" uses none.
    white_level : float, optional
        The uint16 value that counts as 1.0, in [1, 65535]: None means 65535; 4095 suits a 12-bit
        camera. No value may exceed it. Only for uint16.
    per_channel : bool
        Colour images: False filters luma (ITU-R BT.601) and adds its change to the three channels,
        which carries chroma over; True filters every channel as a grey image.
    max_pixels : int, optional
        Largest H * W accepted; None means 2**28.
    axes : None or {"HW", "HWC", "NHW", "NHWC"}
        What the axes of `image` and `out` are. None: of three axes the last is channels where it is 1 or 3 long. Where
        it is 2 or 4 the image is refused: alpha is no intensity, and is carried beside. "NHW" is a batch of any width.

    Returns
    -------
    ndarray or array on a CUDA device
        Of the image's kind, shape and dtype: `out` itself where it is given (to arrays of unknown
        libraries on a device the answer is a Numba device array). Integers are rounded half up.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        An argument that cannot be used; nothing has been written to `out`.
    BackendUnavailableError
        The backend named cannot run here.
    DeviceMemoryError
        A GPU's memory does not suffice even for one image.
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
        axes=axes,
        filters=filters,
    )


def clear_cache() -> None:
    """Free the memory and the threads that the compiled backend keeps between calls.

    `enhance`, `Enhancer` and the functions of `sdie_fast.filters` make a plan for a size, type, parameters, filters,
    rounds and threads: working memory and, for more than one thread, threads that sleep. Those used last are kept for
    the next call of the kind, of each caller at a time its own: at most 512 MiB in all, and as many plans as there are
    CPUs, or 8. What is in use is freed when its call is through. Nothing of what is computed depends on it.
    """
    _backends.clear_cache()


class Enhancer:
    """A recipe made ready to be applied to image after image: of several passes, the first.

    Parameters
    ----------
    recipe : Recipe or path
        A recipe, a directory that holds recipe.json, or that file.
    backend, threads, white_level, per_channel, max_pixels
        As for `enhance`. The backend for arrays on the host is chosen once, here.

    Notes
    -----
    Recipes of weights alone run wholly on the GPU with "cuda". A recipe's network runs on the host.
    Of images on a device only the small picture that the network sees is copied there: once for a
    "schedule", in each round for a "policy", and each time the call waits for the device. Images on
    the host go up to the device and back in each round of a "policy", as float32.

    Pickles and copies carry the recipe and its network, and so work in another process or on another machine.

    Raises
    ------
    RecipeError
        The file cannot be read, or is no valid recipe, or its network is not the one it names.
    MissingPackageError
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
        self._named = backend
        self.threads = _validate.threads(threads)
        self.white_level = white_level
        self.per_channel = _validate.flag("per_channel", per_channel)
        self.max_pixels = max_pixels
        self._actor = None
        if self.recipe.actor is not None:
            self._actor = Actor(self.recipe.actor, self.recipe.kind, self.threads)
            self.recipe = dataclasses.replace(self.recipe, actor=self._actor.file)  # which has the network's bytes
        self._rounds = self.recipe.rounds // self.recipe.passes  # of the first pass

    def __call__(
        self, image: Array, out: Array | None = None, *, axes: str | None = None
    ) -> tuple[Array, npt.NDArray[np.float32]]:
        """Enhance an image or a batch.

        Parameters
        ----------
        image, out, axes
            As for `enhance`.

        Returns
        -------
        out : ndarray or array on a CUDA device
            The enhanced image.
        trace : ndarray, float32, read-only
            The normalised weights used, in the order of the recipe's filters: (T, F) where all images had the same, or
            there was one, else (N, T, F).
        """
        if self._actor is None:
            weights = self.recipe.weights
            assert weights is not None
            weights = weights[: self._rounds]
            # What "auto" is depends on where the image lies, too.
            backend = self.backend if isinstance(image, np.ndarray) else self._named
            return self._run(image, weights, out, backend, axes), weights
        _backends.choose(self._named, image)  # raises where it cannot run on such an image
        array = _backends.placed("image", image)
        planes = _validate.image(array, self.max_pixels, axes)
        white = _validate.white_level(self.white_level, planes.dtype)
        result, target = _backends.output(out, array, axes)
        if not isinstance(planes, DeviceArray):
            _validate.intensities(planes, white)
        trace = self._by_network(self._actor, planes, white, target)
        if len(planes) == 1:
            trace = trace[0]
        trace.flags.writeable = False
        return result, trace

    def _by_network(self, actor: Actor, planes: Any, white: float, target: Any) -> npt.NDArray[np.float32]:
        """Let the network choose the weights of (N, H, W, C) images, here or on the device where they lie."""
        on_device = isinstance(planes, DeviceArray)
        meaning, side = actor.file.actions, actor.file.side
        act: Act = actor  # a policy looks before each round
        if self.recipe.kind == "schedule":  # one look at the images gives all rounds
            if on_device:
                from .cuda.follow import look

                actions = actor(look(planes, white, side))
            else:
                actions = actor(observe(_grey(planes, white), side))
            if not meaning.parameters:
                trace = meaning.weights(actions[:, : self._rounds])
                self._run(planes, trace, target, "cuda" if on_device else self.backend)
                return trace
            act = lambda _, at: actions[:, at]  # noqa: E731
        if on_device:
            from .cuda.follow import Rules, follow

            rules = Rules(self.recipe.params, meaning, self._rounds, side, self.per_channel)
            return follow(planes, target, rules, white, act)
        return self._follow(actor.file, planes, white, target, act)

    def _follow(
        self, file: ActorFile, planes: npt.NDArray[Any], white: float, target: npt.NDArray[Any], act: Act
    ) -> npt.NDArray[np.float32]:
        """Make one round after the other, float32 in between; `act` gives the actions of what is seen before each."""
        trace = np.empty((len(planes), self._rounds, len(self.recipe.filters)), np.float32)
        first = _state(planes, white)
        # Colour: the change of luma, over all rounds, is added to the three channels.
        carried = planes.shape[3] == 3 and not self.per_channel
        state = luma = _grey(first, 1.0)[..., None] if carried else first
        options = {"backend": self.backend, "threads": self.threads, "per_channel": self.per_channel}
        for at in range(self._rounds):
            actions = act(observe(_grey(state, 1.0), file.side), at)
            trace[:, at] = file.actions.weights(actions)
            state = one_round(state, actions, file.actions, self.recipe.params, **options)
        if carried:
            state = np.clip(first + (state - luma), 0.0, 1.0)
        _store(state, target, white)
        return trace

    def _run(
        self, image: Array, weights: npt.ArrayLike, out: Array | None, backend: str, axes: str | None = None
    ) -> Array:
        return enhance(
            image,
            weights,
            params=self.recipe.params,
            filters=self.recipe.filters,
            out=out,
            backend=backend,
            threads=self.threads,
            white_level=self.white_level,
            per_channel=self.per_channel,
            max_pixels=self.max_pixels,
            axes=axes,
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
    if not meaning.parameters:
        return enhance(state, weights, params=params, filters=meaning.filters, **options)
    out = np.empty_like(state)
    for k, action in enumerate(actions):
        own = meaning.params(action, params)
        enhance(state[k], weights[k], params=own, filters=meaning.filters, out=out[k], **options)
    return out


def _state(planes: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
    state: npt.NDArray[np.float32] = np.asarray(planes, np.float32) / np.float32(white)
    return state


def _grey(planes: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
    """Luma (ITU-R BT.601) of (N, H, W, C) images, (N, H, W)."""
    state = _state(planes, white)
    if state.shape[3] == 1:
        return state[..., 0]
    return np.asarray(state @ LUMA.astype(np.float32))


def _store(state: npt.NDArray[np.float32], target: npt.NDArray[Any], white: float) -> None:
    """Write (N, H, W, C) intensities as the caller's type, integers rounded half up."""
    if target.dtype == np.float32:
        target[...] = state
    else:
        target[...] = np.floor(state * np.float32(white) + np.float32(0.5))
