"""T rounds of a batch on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from ..filters import FILTERS, FilterParams
from . import _pixels
from ._device import F32, ceil_div, pieces
from ._tile import COLUMNS, RUN
from .kernels import local_mix
from .wls_fast import FastWls

IDENTITY, WLS, BILATERAL, SHARPEN, GUIDED, SPATIOGRAM = range(len(FILTERS))
_TAPS = 8  # one side of the largest Gaussian


def _planes(shape: tuple[int, int, int, int], per_channel: bool) -> tuple[int, int, int]:
    images, height, width, channels = shape
    return images * (channels if per_channel else 1), height, width


class _Planes:
    """A buffer of planes, (n, H, W), also as the plain run of pixels that the fused kernel takes."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.pixels = cuda.device_array(math.prod(shape), "float32")
        self.planes = self.pixels.reshape(shape)


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
    active : tuple of 6 bool
        Filters that calls may use, in the order of `sdie_fast.FILTERS`: there is no memory for the
        others.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        params: FilterParams,
        *,
        per_channel: bool = False,
        active: tuple[bool, ...] = (True,) * len(FILTERS),
    ) -> None:
        self.shape = shape
        self.params = params
        self._luma = shape[3] == 3 and not per_channel
        self._channels = 1 if self._luma else shape[3]
        planes = _planes(shape, per_channel)
        self._state, self._next = _Planes(planes), _Planes(planes)
        self._wls: Any = None
        self._spatiogram: Any = None
        if active[WLS]:
            self._wls = _wls_class(params)(*planes)
        if active[SPATIOGRAM]:
            from .spatiogram import Spatiogram

            self._equalised = _Planes(planes)
            self._spatiogram = Spatiogram(*planes, **_spatiogram_arguments(params))
        self._bilateral, self._sharpen, self._guided = (w // 2 for w in params.windows()[2:5])
        # The weights of the two filters with kernels of their own, which skip planes of weight 0.
        self._smooth_weights = cuda.device_array(planes[0], "float32")
        self._equalised_weights = cuda.device_array(planes[0], "float32")
        self._scalars = _bilateral_scales(params)
        self._gauss = cuda.to_device(_gaussian(params))
        self._taken = active

    @classmethod
    def workspace_bytes(
        cls,
        shape: tuple[int, int, int, int],
        params: FilterParams,
        *,
        per_channel: bool = False,
        active: tuple[bool, ...] = (True,) * len(FILTERS),
    ) -> int:
        """Bytes of device memory an instance holds."""
        planes = _planes(shape, per_channel)
        plane_bytes = 4 * math.prod(planes)
        total = 2 * plane_bytes + 8 * planes[0] + 4 * _TAPS
        if active[WLS]:
            total += _wls_class(params).workspace_bytes(*planes)
        if active[SPATIOGRAM]:
            from .spatiogram import Spatiogram

            total += plane_bytes
            total += Spatiogram.workspace_bytes(*planes, **_spatiogram_arguments(params))
        return total

    def __call__(
        self,
        src: Any,
        dst: Any,
        weights: Any,
        active: tuple[bool, ...],
        *,
        white_level: float,
        stream: Any = 0,
    ) -> None:
        """Enhance images; enqueues only, whatever the number of rounds.

        The kernels are compiled and loaded at their first call, which must therefore not be one that
        a CUDA graph captures.

        Parameters
        ----------
        src, dst : device (N', H, W, C) uint8, uint16 or float32
            Both of one type, with any strides; N' is at most N. `dst` may be `src`.
        weights : device (N', T, 6) float32, C-contiguous
            Normalised: each row sums to 1.
        active : tuple of 6 bool
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
        images = src.shape[0]
        count = images * self._channels
        state, other = self._state, self._next
        block = min(_pixels.THREADS, 32 * ceil_div(src.shape[2], 32))
        grid = ceil_div(src.shape[2], block), ceil_div(src.shape[1], _pixels.ROWS)
        for y, z, rows, depth in pieces(grid[1], count):
            _pixels.loader(self._luma)[(grid[0], rows, depth), block, stream](
                src, state.planes, F32(1.0 / white_level), self._channels, y, z
            )
        for turn in range(weights.shape[1]):
            self._round(state, other, count, weights, turn, active, stream)
            state, other = other, state
        store = _pixels.storer(np.dtype(dst.dtype), self._luma)
        for y, z, rows, depth in pieces(grid[1], count):
            store[(grid[0], rows, depth), block, stream](
                state.planes, src, dst, F32(white_level), self._channels, y, z
            )

    def _round(
        self,
        state: _Planes,
        to: _Planes,
        count: int,
        weights: Any,
        turn: int,
        active: tuple[bool, ...],
        stream: Any,
    ) -> None:
        """One round from `state` to `to`, which holds the smoothed image on the way."""
        p = self.params
        if active[WLS] or active[SPATIOGRAM]:
            threads = 128
            _pixels.spread_weights[ceil_div(count, threads), threads, stream](
                weights, turn, self._channels, self._smooth_weights, self._equalised_weights
            )
        if active[WLS]:
            settings: dict[str, Any] = {"lambda_": p.wls_lambda, "alpha": p.wls_alpha}
            if p.wls_solver == "exact":
                settings["tol"] = p.wls_tol
            self._wls(
                state.planes[:count],
                to.planes[:count],
                **settings,
                on_lightness=p.wls_domain == "lightness",
                active=self._smooth_weights,
                stream=stream,
            )
        equalised = state
        if active[SPATIOGRAM]:
            equalised = self._equalised
            self._spatiogram(
                state.planes[:count],
                equalised.planes[:count],
                clip_limit=p.spatiogram_clip_limit,
                active=self._equalised_weights,
                stream=stream,
            )
        mix = local_mix(
            self._bilateral if active[BILATERAL] else 0,
            active[BILATERAL] and p.bilateral_footprint == "disk",
            self._sharpen if active[SHARPEN] else 0,
            self._guided if active[GUIDED] else 0,
        )
        _, height, width = state.planes.shape
        for y, z, rows, depth in pieces(ceil_div(height, mix.rows), count):
            mix.kernel[
                (ceil_div(width, COLUMNS), rows, depth), (COLUMNS, mix.rows // RUN), stream
            ](
                state.pixels, to.pixels, equalised.pixels, to.pixels, height, width,
                weights, turn, self._channels, y, z,
                *self._scalars, self._gauss, F32(p.sharpen_amount), F32(p.sharpen_threshold),
                F32(p.guided_eps),
            )  # fmt: skip

    def _check(self, src: Any, dst: Any, weights: Any, active: tuple[bool, ...]) -> None:
        fits = src.shape[0] <= self.shape[0] and tuple(src.shape[1:]) == self.shape[1:]
        if not fits or dst.shape != src.shape or weights.shape[0] != src.shape[0]:
            raise ValueError(
                f"memory is for at most {self.shape[0]} images of (H, W, C) {self.shape[1:]}, and "
                f"source, result and weights must agree; got source {tuple(src.shape)}, result "
                f"{tuple(dst.shape)}, weights {tuple(weights.shape)}"
            )
        for which in (WLS, SPATIOGRAM):
            if active[which] and not self._taken[which]:
                raise ValueError(f"made without memory for the filter {FILTERS[which]!r}")


def _wls_class(params: FilterParams) -> Any:
    if params.wls_solver == "fast":
        return FastWls
    from .wls_exact import ExactWls

    return ExactWls


def _spatiogram_arguments(params: FilterParams) -> dict[str, Any]:
    return {
        "method": params.spatiogram_method,
        "bins": params.spatiogram_bins,
        "tiles": params.spatiogram_tiles,
    }


def _bilateral_scales(params: FilterParams) -> tuple[Any, Any]:
    """What differences and squared distances are multiplied by to be exponents of 2."""
    log2_e = math.log2(math.e)
    to_range = math.sqrt(log2_e / 2.0) / params.bilateral_sigma_range
    to_space = -log2_e / (2.0 * params.bilateral_sigma_space**2)
    return F32(to_range), F32(to_space)


def _gaussian(params: FilterParams) -> Any:
    """One side of the Gaussian of sharpen, centre first, scaled so that both sides sum to 1."""
    k = np.arange(_TAPS)
    tap = np.exp(-(k**2) / (2.0 * params.sharpen_radius**2))
    tap[params.windows()[3] // 2 + 1 :] = 0.0
    return (tap / (2.0 * tap.sum() - 1.0)).astype(np.float32)
