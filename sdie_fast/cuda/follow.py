"""Recipes with a network, for images on the device: the images stay there, and only what the network sees comes down.

The network itself runs on the host, through ONNX Runtime. What it sees is what `sdie_fast.actor.observe` makes: 8 bits,
means of areas, exactly as Pillow's box filter computes them (first along rows, then along columns, rounded after each, in
fixed point with 22 fractional bits). A look costs side * side bytes for each image, and a wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .._resize import areas
from ..actor import Actions
from ..filters import TABLE, FilterParams
from . import driver, pixels, streams
from .arrays import describe, ordered
from .kernels import POSITION
from .memory import allocate
from .run import run
from .views import DeviceArray, numba_array

__all__ = ["Eye", "Rules", "follow", "look"]

Floats = npt.NDArray[np.float32]
Act = Callable[[npt.NDArray[np.uint8], int], Floats]


class Eye:
    """Looks at float32 planes of one size; what it sees is on the host.

    Parameters
    ----------
    images, height, width : int
        Of the planes.
    side : int
        Of what is seen, in pixels.
    """

    def __init__(self, images: int, height: int, width: int, side: int) -> None:
        cuda = driver.cuda()
        self._rows, self._columns = ([cuda.to_device(v) for v in areas(n, side)] for n in (width, height))
        self._half = allocate((images, height, side), np.uint8)
        self._seen = allocate((images, side, side), np.uint8)
        self._pinned = cuda.pinned_array((images, side, side), np.uint8)
        streams.settle()

    def __call__(self, planes: Any, stream: Any) -> npt.NDArray[np.uint8]:
        """Look at (n, H, W) planes in [0, 1]; waits for them. Returns uint8 (n, side, side)."""
        pixels.shrink(planes, self._rows, self._columns, self._half, self._seen, stream)
        streams.download(streams.address(self._pinned), streams.address(self._seen), self._pinned.nbytes, stream)
        if stream:
            stream.synchronize()
        return np.array(self._pinned)


def look(src: DeviceArray, white: float, side: int) -> npt.NDArray[np.uint8]:
    """What a network sees of (N, H, W, C) images: uint8 (N, side, side)."""
    images, height, width, channels = src.shape
    stream = streams.stream(src.stream)
    grey = allocate((images, height, width), np.float32)
    pixels.load(numba_array(src), grey, luma=channels == 3, white=white, stream=stream)
    return Eye(images, height, width, side)(grey, stream)


@dataclass(frozen=True)
class Rules:
    """What the rounds of a recipe with a network depend on besides the network."""

    params: FilterParams
    meaning: Actions
    rounds: int
    side: int
    per_channel: bool


def follow(src: DeviceArray, dst: DeviceArray, rules: Rules, white: float, act: Act) -> npt.NDArray[np.float32]:
    """Enhance images on the device round by round, each as a network says that saw the last.

    Parameters
    ----------
    src, dst : DeviceArray, (N, H, W, C)
        Of one dtype, not overlapping.
    rules : Rules
    white : float
        What counts as 1.0.
    act : callable
        Gets what is seen (N, side, side) and the round's number; gives actions (N, size).

    Returns
    -------
    ndarray, float32, (N, T, F)
        The weights used, in the order of the filters of `rules.meaning`.

    Raises
    ------
    DeviceMemoryError
        The images' float32 states do not fit.
    """
    images, height, width, channels = src.shape
    # Colour: the change of luma, over all rounds, is added to the three channels.
    carried = channels == 3 and not rules.per_channel
    kept = 1 if carried else channels
    trace = np.empty((images, rules.rounds, len(rules.meaning.filters)), np.float32)
    planes = [allocate((images * kept, height, width), np.float32) for _ in range(2)]
    states = [_as_images(p, images, kept, src.stream) for p in planes]
    grey = allocate((images, height, width), np.float32) if kept == 3 else None
    eye = Eye(images, height, width, rules.side)
    with ordered(src, dst) as stream:
        source, target = numba_array(src), numba_array(dst)
        pixels.load(source, planes[0], luma=carried, white=white, stream=stream)
        for at in range(rules.rounds):
            seen = planes[0]
            if grey is not None:
                seen = grey
                pixels.load(numba_array(states[0]), grey, luma=True, white=1.0, stream=stream)
            actions = act(eye(seen, stream), at)
            trace[:, at] = rules.meaning.weights(actions)
            _one_round(states[0], states[1], trace[:, at], actions, rules)
            planes.reverse()
            states.reverse()
        pixels.store(planes[0], source, target, luma=carried, white=white, stream=stream)
        if stream:
            # What was allocated here goes when this returns.
            stream.synchronize()
    return trace


def _as_images(planes: Any, images: int, channels: int, stream: int) -> DeviceArray:
    """View planes n * channels + c as images (N, H, W, C), on the caller's stream."""
    array = describe("image", planes)
    _, height, width = array.shape
    row, pixel = array.strides[1:]
    plane = array.strides[0]
    return replace(
        array, shape=(images, height, width, channels), strides=(channels * plane, row, pixel, plane), stream=stream
    )


def _one_round(src: DeviceArray, dst: DeviceArray, weights: Floats, actions: Floats, rules: Rules) -> None:
    """One round of all images, or, where actions choose parameters, of one after the other."""
    options: dict[str, Any] = {"white_level": 1.0, "per_channel": rules.per_channel, "threads": 1}
    full = np.zeros((len(weights), 1, len(TABLE)), np.float32)
    full[:, 0, [POSITION[name] for name in rules.meaning.filters]] = weights
    if not rules.meaning.parameters:
        run(src, dst, full, rules.params, **options)
        return
    for k, action in enumerate(actions):
        own = rules.meaning.params(action, rules.params)
        part = slice(k, k + 1)
        run(src[part], dst[part], full[part], own, **options)
