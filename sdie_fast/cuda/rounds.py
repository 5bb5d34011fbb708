"""T rounds of a batch on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from ..filters import TABLE, FilterParams
from . import WHOLE, local, pixels
from .kernels import F32, POSITION, ceil_div, launch
from .spatiogram import Spatiogram
from .views import Batch
from .wls_exact import ExactWls
from .wls_fast import FastWls

__all__ = ["Rounds"]

WLS, SPATIOGRAM = (POSITION[name] for name in WHOLE)
Shape = tuple[int, int, int, int]
Active = tuple[bool, ...]
ALL: Active = (True,) * len(TABLE)


def _planes(shape: Shape, per_channel: bool) -> tuple[int, int, int]:
    images, height, width, channels = shape
    return images * (channels if per_channel else 1), height, width


class _Planes(Batch):
    """A buffer of planes, (n, H, W), also as the plain run of pixels that the fused kernel takes."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, "float32")
        self.pixels = self.whole.reshape(math.prod(shape))


class Rounds:
    """T rounds of a batch on the device; its memory is allocated once, for one shape.

    Parameters
    ----------
    shape : (N, H, W, C)
        The most images of a call, and their size; C is 1 (grey) or 3 (RGB).
    params : FilterParams
    per_channel : bool
        Enhance every channel by itself, as a grey image; otherwise the luma of RGB, with chroma
        carried over.
    active : tuple of bool
        Filters that calls may use, in the order of `sdie_fast.filters.TABLE`: there is no memory for
        the others.
    """

    def __init__(self, shape: Shape, params: FilterParams, *, per_channel: bool = False, active: Active = ALL) -> None:
        self.shape = shape
        self.params = params
        self._luma = shape[3] == 3 and not per_channel
        self._channels = 1 if self._luma else shape[3]
        planes = _planes(shape, per_channel)
        self._state, self._next = _Planes(planes), _Planes(planes)
        if active[WLS]:
            made, settings = _wls_class(params)
            self._wls = made(*planes, **settings)
        if active[SPATIOGRAM]:
            self._equalised = None if _by_place(params) else _Planes(planes)
            self._spatiogram = Spatiogram(*planes, **_spatiogram_arguments(params))
        # Every filter's weights in a round, for those with kernels of their own: they skip planes of weight 0.
        self._shares = cuda.device_array((len(TABLE), planes[0]), "float32")
        self._share = {at: self._shares[at] for at in (WLS, SPATIOGRAM)}
        self._numbers = cuda.to_device(local.numbers(params))
        self._taken = active

    @classmethod
    def workspace_bytes(
        cls, shape: Shape, params: FilterParams, *, per_channel: bool = False, active: Active = ALL
    ) -> int:
        """Bytes of device memory an instance holds."""
        planes = _planes(shape, per_channel)
        plane_bytes = 4 * math.prod(planes)
        total = 2 * plane_bytes + 4 * (len(TABLE) * planes[0] + local.NUMBERS)
        if active[WLS]:
            made, settings = _wls_class(params)
            total += made.workspace_bytes(*planes, **settings)
        if active[SPATIOGRAM]:
            total += (not _by_place(params)) * plane_bytes + Spatiogram.workspace_bytes(
                *planes, **_spatiogram_arguments(params)
            )
        return total

    def __call__(
        self, src: Any, dst: Any, weights: Any, active: Active, *, white_level: float, stream: Any = 0
    ) -> None:
        """Enhance images; enqueues only, whatever the number of rounds.

        The kernels are compiled and loaded at their first call, which must therefore not be one that
        a CUDA graph captures.

        Parameters
        ----------
        src, dst : device (N', H, W, C) uint8, uint16 or float32
            Both of one type, with any strides; N' is at most N. `dst` may be `src`.
        weights : device (N', T, filters) float32, C-contiguous
            Normalised: each row sums to 1; in the order of `sdie_fast.filters.TABLE`.
        active : tuple of bool
            Filters with a weight above 0 anywhere; the others are skipped, whatever their weights.
        white_level : float
            What counts as intensity 1.
        stream : Numba stream
            0 is the default stream.

        Raises
        ------
        ValueError
            More images, or images of another size, than the memory is for, or a filter without
            memory.
        """
        self._check(src, dst, weights, active)
        state, other = self._state, self._next
        if not (active[SPATIOGRAM] and _by_place(self.params)):  # which loads them itself
            pixels.load(src, state.whole, luma=self._luma, white=white_level, stream=stream)
        for turn in range(weights.shape[1]):
            self._round(state, other, src, dst, weights, turn, active, white_level, stream)
            state, other = other, state

    def _round(
        self, state: _Planes, to: _Planes, src: Any, dst: Any, weights: Any, turn: int, active: Active, white: float,
        stream: Any,
    ) -> None:  # fmt: skip
        """One round from `state` to `to`, which holds the smoothed image on the way; the last one to `dst`."""
        count = src.shape[0] * self._channels
        p = self.params
        if active[WLS] or active[SPATIOGRAM]:
            threads = 128
            pixels.spread_weights[ceil_div(count, threads), threads, stream](
                weights, turn, self._channels, self._shares
            )
        equalised, used = state.pixels, self._numbers
        if active[SPATIOGRAM]:
            planes = state.first(count)
            if self._equalised is None:
                equalised, used = self._spatiogram.records, self._spatiogram.used
            else:
                equalised, planes = self._equalised.pixels, self._equalised.first(count)
            self._spatiogram(
                state.first(count),
                planes,
                clip_limit=p.spatiogram_clip_limit,
                active=self._share[SPATIOGRAM],
                stream=stream,
                source=(src, self._luma, white) if turn == 0 and _by_place(p) else None,
            )
        if active[WLS]:
            own = p.of("wls")
            settings = {"tol": own.tol} if own.solver == "exact" else {}
            self._wls(
                state.first(count),
                to.first(count),
                lambda_=own.lambda_,
                alpha=own.alpha,
                **settings,
                active=self._share[WLS],
                stream=stream,
            )
        _, height, width = state.whole.shape
        by_place = active[SPATIOGRAM] and _by_place(p)
        integers = np.dtype(dst.dtype) != np.float32
        ends = local.Ends(local.columns_of(width), by_place, self._luma, integers)
        mix = local.local_mix(local.parts_of(p, active), ends)
        last = turn + 1 == weights.shape[1]
        launch(
            mix.kernel, mix.grid(height, width, count), mix.block, stream,
            state.pixels, to.pixels, equalised, used, height, width, weights, turn, self._channels, self._numbers,
            to.pixels, src, dst, F32(white), int(last),
        )  # fmt: skip

    def _check(self, src: Any, dst: Any, weights: Any, active: Active) -> None:
        fits = src.shape[0] <= self.shape[0] and tuple(src.shape[1:]) == self.shape[1:]
        if not fits or dst.shape != src.shape or weights.shape[0] != src.shape[0]:
            raise ValueError(
                f"memory is for at most {self.shape[0]} images of (H, W, C) {self.shape[1:]}, and "
                f"source, result and weights must agree; got source {tuple(src.shape)}, result "
                f"{tuple(dst.shape)}, weights {tuple(weights.shape)}"
            )
        for name in WHOLE:
            if active[POSITION[name]] and not self._taken[POSITION[name]]:
                raise ValueError(f"made without memory for the filter {name!r}")


def _wls_class(params: FilterParams) -> tuple[Any, dict[str, Any]]:
    """The solver's class, and what its memory depends on beside the planes' size."""
    own = params.of("wls")
    return (FastWls if own.solver == "fast" else ExactWls), {"on_lightness": own.domain == "lightness"}


def _by_place(params: FilterParams) -> bool:
    return bool(params.spatiogram_method == "spatiogram")


def _spatiogram_arguments(params: FilterParams) -> dict[str, Any]:
    own = params.of("spatiogram")
    return {"method": own.method, "bins": own.bins, "tiles": own.tiles}
