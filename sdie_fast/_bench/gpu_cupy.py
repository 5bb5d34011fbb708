"""One round as a user would compose it from CuPy and its ndimage, in the manner of cuCIM: a peer of `sdie_fast.cuda`.

Definitions, borders and shapes are those of `sdie_fast._bench.gpu_torch`. Windows are separable passes of
`cupyx.scipy.ndimage`; chains of elementwise operations are fused by `cupy.fuse`. Every function is CuPy's and NumPy's
alike: with NumPy and `scipy.ndimage` it runs on a CPU, which is how it is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgumentError

if TYPE_CHECKING:
    from ..filters import FilterParams

Array = Any  # cupy.ndarray or numpy.ndarray
WLS_SMALL = np.float32(1e-4)
EMPTY_MASS = 1e-6
ZERO, ONE = np.float32(0), np.float32(1)


class ArrayRound:
    """The filters of one round over an array module.

    Parameters
    ----------
    xp, ndimage : modules
        cupy and cupyx.scipy.ndimage, or numpy and scipy.ndimage.
    params : FilterParams
        With wls_solver "fast", wls_domain "intensity" and the spatiogram method "spatiogram".

    Raises
    ------
    InvalidArgumentError
        Other parameters: the benchmark does not measure them here.
    """

    def __init__(self, xp: Any, ndimage: Any, params: FilterParams) -> None:
        p = params
        if (p.wls_solver, p.wls_domain, p.spatiogram_method) != ("fast", "intensity", "spatiogram"):
            raise InvalidArgumentError(
                f"params: received wls_solver {p.wls_solver!r}, wls_domain {p.wls_domain!r}, spatiogram_method "
                f"{p.spatiogram_method!r}; composed in CuPy: fast WLS on intensity and the spatiogram only"
            )
        if p.sharpen_threshold:
            raise InvalidArgumentError(
                f"params: received sharpen_threshold {p.sharpen_threshold}; composed in CuPy: 0 only"
            )
        self.xp, self.ndimage, self.params = xp, ndimage, params
        fuse: Callable[[Any], Any] = getattr(xp, "fuse", lambda: lambda f: f)()
        # In fused functions scalars are float32 of NumPy's, and operands of CuPy's functions or on the right: a
        # float of Python's makes some versions compute in float64, and NumPy's scalars do not know CuPy's traces.

        @fuse
        def tap(g: Array, q: Array, total: Array, norm: Array, k: Any, s: Any) -> Any:
            d = q - g
            weight = xp.exp(d * d * k + s)
            return total + weight * d, norm + weight

        @fuse
        def edge(d: Array, alpha: Any) -> Any:
            return xp.true_divide(ONE, xp.abs(d) ** alpha + WLS_SMALL)

        @fuse
        def eliminate(ground: Array, left: Array, right: Array, u: Array) -> Any:
            share = xp.true_divide(ONE, ground + left + right)
            return ground * share, u * share, left * share, right * share

        @fuse
        def share_of(level: Array, b: Any) -> Any:
            return xp.maximum(xp.subtract(ONE, xp.abs(level - b)), ZERO)

        @fuse
        def log_of(dx: Array, dy: Array, c: Array, fa: Array, fb: Array, fd: Array) -> Any:
            return c - ((fa * dx * dx + fd * dy * dy) + fb * dx * dy)

        @fuse
        def add_bin(log: Array, most: Array, level: Array, total: Array, below: Array, b: Any) -> Any:
            e = xp.exp(log - most)
            inside = xp.minimum(xp.maximum(level - b, ZERO), ONE)
            return total + e, below + e * inside

        self._tap, self._edge, self._eliminate = tap, edge, eliminate
        self._share_of, self._log_of, self._add_bin = share_of, log_of, add_bin

    def bilateral(self, g: Array) -> Array:
        """Tomasi & Manduchi 1998, a fused kernel for each tap."""
        xp, p = self.xp, self.params
        r = p.windows()[2] // 2
        h, w = g.shape[-2:]
        padded = xp.pad(g, ((0, 0), (r, r), (r, r)), mode="reflect")
        total, norm = xp.zeros_like(g), xp.ones_like(g)
        k = np.float32(-0.5 / p.bilateral_sigma_range**2)
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                far = dy * dy + dx * dx
                if not far or (p.bilateral_footprint == "disk" and far > r * r):
                    continue
                q = padded[:, r + dy : r + dy + h, r + dx : r + dx + w]
                s = np.float32(-far / (2.0 * p.bilateral_sigma_space**2))
                total, norm = self._tap(g, q, total, norm, k, s)
        return g + total / norm

    def sharpen(self, g: Array) -> Array:
        """Unsharp masking, a separable Gaussian."""
        p = self.params
        r = p.windows()[3] // 2
        taps = np.exp(-0.5 * (np.arange(-r, r + 1) / p.sharpen_radius) ** 2)
        taps = self.xp.asarray((taps / taps.sum()).astype(np.float32))
        blurred = self.ndimage.correlate1d(g, taps, axis=-1, mode="mirror")
        blurred = self.ndimage.correlate1d(blurred, taps, axis=-2, mode="mirror")
        return g + np.float32(p.sharpen_amount) * (g - blurred)

    def _box(self, g: Array, size: int) -> Array:
        rows = self.ndimage.uniform_filter1d(g, size, axis=-1, mode="mirror")
        return self.ndimage.uniform_filter1d(rows, size, axis=-2, mode="mirror")

    def guided(self, g: Array) -> Array:
        """He et al. 2013 with the image as its own guide, four box means."""
        size = self.params.windows()[4]
        mean = self._box(g, size)
        variance = self._box(g * g, size) - mean * mean
        a = variance / (variance + np.float32(self.params.guided_eps))
        b = mean - a * mean
        return self._box(a, size) * g + self._box(b, size)

    def _solve_lines(self, u: Array, a: Array, step: np.float32) -> Array:
        """Parallel cyclic reduction along the last axis: see `gpu_torch._solve_lines`."""
        xp = self.xp
        left, right = xp.zeros_like(u), xp.zeros_like(u)
        left[..., 1:] = right[..., :-1] = a * step
        ground, u = xp.ones_like(u), u.copy()
        s = 1
        while s < u.shape[-1]:
            c, b, from_left, from_right = self._eliminate(ground, left, right, u)
            before, after = left[..., s:], right[..., :-s]
            ground[..., s:] += before * c[..., :-s]
            ground[..., :-s] += after * c[..., s:]
            u[..., s:] += before * b[..., :-s]
            u[..., :-s] += after * b[..., s:]
            before *= from_left[..., :-s]
            after *= from_right[..., s:]
            s *= 2
        return u / ground

    def wls(self, g: Array) -> Array:
        """Min et al. 2014: three times rows, then columns."""
        xp, p = self.xp, self.params
        log = xp.log(g + WLS_SMALL)
        alpha = np.float32(p.wls_alpha)
        ax = self._edge(xp.diff(log, axis=-1), alpha)
        ay = xp.ascontiguousarray(self._edge(xp.diff(log, axis=-2), alpha).swapaxes(-1, -2))
        u = g
        for t in (1, 2, 3):
            step = np.float32(1.5 * 4.0 ** (3 - t) / (4.0**3 - 1.0) * p.wls_lambda)
            u = self._solve_lines(u, ax, step)
            u = self._solve_lines(xp.ascontiguousarray(u.swapaxes(-1, -2)), ay, step)
            u = xp.ascontiguousarray(u.swapaxes(-1, -2))
        return u

    def _statistics(self, g: Array) -> tuple[Array, Array, Array]:
        """Each bin's Gaussian in logarithms: see `gpu_torch._statistics`."""
        xp, bins = self.xp, self.params.spatiogram_bins
        h, w = g.shape[-2:]
        x = xp.arange(w, dtype=np.float32) - np.float32((w - 1) / 2)
        y = xp.arange(h, dtype=np.float32) - np.float32((h - 1) / 2)
        px = xp.stack([xp.ones_like(x), x, x * x], 1)
        py = xp.stack([xp.ones_like(y), y, y * y], 1).astype(np.float64)
        level = xp.clip(g * np.float32(bins) - np.float32(0.5), 0, bins - 1).astype(np.float32)
        m = xp.stack(
            [
                xp.matmul(py.T, xp.matmul(self._share_of(level, np.float32(b)), px).astype(np.float64))
                for b in range(bins)
            ]
        )
        mass = m[..., 0, 0]
        n = xp.maximum(mass, EMPTY_MASS)
        mx, my = m[..., 0, 1] / n, m[..., 1, 0] / n
        sxx = m[..., 0, 2] / n - mx * mx + 1.0
        syy = m[..., 2, 0] / n - my * my + 1.0
        sxy = m[..., 1, 1] / n - mx * my
        det = sxx * syy - sxy * sxy
        c = xp.where(mass < EMPTY_MASS, -math.inf, xp.log(n) - 0.5 * xp.log(det))
        form = xp.stack([0.5 * syy / det, -sxy / det, 0.5 * sxx / det])  # the cross term twice
        mean = xp.stack([mx + (w - 1) / 2, my + (h - 1) / 2])
        c, mean, form = (part[..., None, None].astype(np.float32) for part in (c, mean, form))
        return c, mean, form

    def spatiogram(self, g: Array) -> Array:
        """Equalise by place; two walks over the bins, a fused kernel for each."""
        xp, bins = self.xp, self.params.spatiogram_bins
        h, w = g.shape[-2:]
        c, mean, form = self._statistics(g)
        x = xp.arange(w, dtype=np.float32)[None, None, :]
        y = xp.arange(h, dtype=np.float32)[None, :, None]

        def log(b: int) -> Array:
            return self._log_of(x - mean[0, b], y - mean[1, b], c[b], *(part[b] for part in form))

        most = log(0)
        for b in range(1, bins):
            most = xp.maximum(most, log(b))
        total, below = xp.zeros_like(g), xp.zeros_like(g)
        level = g * np.float32(bins)
        for b in range(bins):
            total, below = self._add_bin(log(b), most, level, total, below, np.float32(b))
        return below / total

    def run(self, images: Array, weights: Array, active: tuple[bool, ...]) -> Array:
        """T rounds: (N, H, W) uint8 and (N, T, 6) float32, normalised -> (N, H, W) uint8."""
        xp = self.xp
        each = (
            lambda g: g,
            self.wls,
            self.bilateral,
            self.sharpen,
            self.guided,
            self.spatiogram,
        )
        g = images.astype(np.float32) * np.float32(1 / 255)
        for t in range(weights.shape[1]):
            mixed = xp.zeros_like(g)
            for i in range(6):
                if active[i]:
                    mixed += weights[:, t, i, None, None] * each[i](g)
            g = xp.clip(mixed, 0, 1)
        return (g * np.float32(255) + np.float32(0.5)).astype(np.uint8)
