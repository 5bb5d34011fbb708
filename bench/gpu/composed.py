"""One round as a user would compose it from torch's operations, on any device: the peer of `sdie_fast.cuda`.

Same definitions and borders as `sdie_fast.reference`, float32 throughout, the whole batch in each operation. Planes are
(N, H, W) in [0, 1]; `own` is a filter with its parameters. Written to be fast in eager mode and to be fused by
`torch.compile`: the bilateral filter's taps are shifted views of one padded plane (`unfold` would hold 49 copies of the
batch), sums over the window are separable, and tridiagonal systems, which a loop would solve a column at a time, are
reduced all columns at once.

On a GPU the caller sets `torch.backends.cudnn.allow_tf32 = False`: else convolutions keep 10 bits of each factor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, conv2d, pad

from sdie_fast import FilterParams, InvalidArgumentError
from sdie_fast.filters.gaussian import gaussian_kernel
from sdie_fast.filters.spatiogram import EMPTY_MASS
from sdie_fast.filters.wls import SMALL

__all__ = ["filters", "round_of"]

Tensor = Any  # torch.Tensor


def _pad(g: Tensor, r: int) -> Tensor:
    return pad(g[:, None], (r, r, r, r), mode="reflect")[:, 0]


def bilateral(g: Tensor, own: Any) -> Tensor:
    """Tomasi & Manduchi 1998: the centre plus the weighted mean of the differences from it."""
    r = own.reach()
    h, w = g.shape[-2:]
    padded = _pad(g, r)
    total, norm = torch.zeros_like(g), torch.ones_like(g)
    for dy, dx in itertools.product(range(-r, r + 1), repeat=2):
        far = dy * dy + dx * dx
        if far and not (own.footprint == "disk" and far > r * r):
            d = padded[:, r + dy : r + dy + h, r + dx : r + dx + w] - g
            weight = torch.exp(d * d * (-0.5 / own.sigma_range**2) - far / (2.0 * own.sigma_space**2))
            total = total + weight * d
            norm = norm + weight
    return g + total / norm


def _box(g: Tensor, size: int) -> Tensor:
    """Average over the square window, rows and then columns."""
    rows = avg_pool2d(_pad(g, size // 2)[:, None], (1, size), stride=1)
    return avg_pool2d(rows, (size, 1), stride=1)[:, 0]


def sharpen(g: Tensor, own: Any, taps: Tensor) -> Tensor:
    """Unsharp masking by a separable Gaussian: two convolutions."""
    rows = conv2d(_pad(g, len(taps) // 2)[:, None], taps.view(1, 1, 1, -1))
    high = g - conv2d(rows, taps.view(1, 1, -1, 1))[:, 0]
    if own.threshold > 0:
        high = high * (high.abs() >= own.threshold)
    return g + own.amount * high


def guided(g: Tensor, own: Any) -> Tensor:
    """He et al. 2013 with the image as its own guide; four box means."""
    mean = _box(g, own.window)
    variance = _box(g * g, own.window) - mean * mean
    a = variance / (variance + own.eps)
    b = mean - a * mean
    return _box(a, own.window) * g + _box(b, own.window)


def _solve_lines(u: Tensor, a: Tensor, step: float) -> Tensor:
    """Solve (I + step L) v = u along the last axis by parallel cyclic reduction.

    Each unknown keeps its couplings to both sides and its conductance to ground, all positive: nothing cancels where
    weights are 1e4 times the unit of the diagonal. log2(length) steps, each over whole planes.
    """
    size = u.shape[-1]
    right = pad(a * step, (0, 1))
    left = pad(a * step, (1, 0))
    ground = torch.ones_like(u)
    s = 1
    while s < size:
        share = 1.0 / (ground + left + right)
        from_left, from_right = left * share, right * share  # as their neighbours will see them
        c, b = ground * share, u * share
        before, after = left[..., s:], right[..., :-s]
        ground = ground + pad(before * c[..., :-s], (s, 0)) + pad(after * c[..., s:], (0, s))
        u = u + pad(before * b[..., :-s], (s, 0)) + pad(after * b[..., s:], (0, s))
        left = pad(before * from_left[..., :-s], (s, 0))
        right = pad(after * from_right[..., s:], (0, s))
        s *= 2
    return u / ground


def _edges(g: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Edge weights of Farbman et al. 2008, along rows and along columns."""
    log = (g + SMALL).log()
    return tuple(1.0 / (log.diff(dim=dim).abs() ** alpha + SMALL) for dim in (-1, -2))


def wls_fast(g: Tensor, own: Any) -> Tensor:
    """Min et al. 2014: three times rows, then columns."""
    ax, ay = _edges(g, own.alpha)
    ay = ay.transpose(-1, -2).contiguous()
    u = g
    for t in (1, 2, 3):
        step = 1.5 * 4.0 ** (3 - t) / (4.0**3 - 1.0) * own.lambda_
        u = _solve_lines(u, ax, step)
        u = _solve_lines(u.transpose(-1, -2).contiguous(), ay, step)
        u = u.transpose(-1, -2).contiguous()
    return u


def wls_exact(g: Tensor, own: Any) -> Tensor:
    """Farbman et al. 2008 by conjugate gradients with the diagonal as preconditioner.

    The plainest solver that torch's operations allow. Stops when the residual of every image is at most `tol` in the
    maximum norm, which bounds the error: the matrix is an M-matrix whose rows sum to 1, so its inverse has the maximum
    norm 1. Looks at it, and so waits for the device, every twentieth iteration.
    """
    ax, ay = (own.lambda_ * a for a in _edges(g, own.alpha))
    diagonal = 1.0 + pad(ax, (0, 1)) + pad(ax, (1, 0)) + pad(ay, (0, 0, 0, 1)) + pad(ay, (0, 0, 1, 0))

    def apply(p: Tensor) -> Tensor:
        fx, fy = ax * p.diff(dim=-1), ay * p.diff(dim=-2)
        return p - pad(fx, (0, 1)) + pad(fx, (1, 0)) - pad(fy, (0, 0, 0, 1)) + pad(fy, (0, 0, 1, 0))

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(dim=(-2, -1), keepdim=True)

    u = g.clone()
    r = g - apply(u)
    z = r / diagonal
    p = z.clone()
    rz = dot(r, z)
    for iteration in range(2000):
        q = apply(p)
        step = rz / dot(p, q).clamp_min(1e-30)
        u = u + step * p
        r = r - step * q
        z = r / diagonal
        if iteration % 20 == 19 and float(r.abs().amax()) <= own.tol:
            break
        previous, rz = rz, dot(r, z)
        p = z + rz / previous.clamp_min(1e-30) * p
    return u


def _statistics(g: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log of each bin's Gaussian: c (bins, N, 1, 1), mean (2, bins, N, 1, 1) as x and y, form (3, ...) as a, b, d.

    The log of n_b N(x; m_b, S_b) is c - (a dx^2 + 2 b dx dy + d dy^2); c is -inf for an empty bin.
    """
    h, w = g.shape[-2:]
    # From the middle of the image: raw second moments keep their digits in float32.
    x = torch.arange(w, device=g.device, dtype=g.dtype) - (w - 1) / 2
    y = torch.arange(h, device=g.device, dtype=g.dtype) - (h - 1) / 2
    px = torch.stack([torch.ones_like(x), x, x * x], 1)
    py = torch.stack([torch.ones_like(y), y, y * y], 1).double()
    level = (g * bins - 0.5).clamp(0, bins - 1)
    moments = torch.stack(
        # Along rows in float32, then the row sums in float64, which are few.
        [py.T @ ((1.0 - (level - b).abs()).clamp_min(0.0) @ px).double() for b in range(bins)]
    )  # (bins, N, 3, 3): [j, i] is the sum of share y^j x^i
    mass = moments[..., 0, 0]
    n = mass.clamp_min(EMPTY_MASS)
    mx, my = moments[..., 0, 1] / n, moments[..., 1, 0] / n
    sxx = moments[..., 0, 2] / n - mx * mx + 1.0
    syy = moments[..., 2, 0] / n - my * my + 1.0
    sxy = moments[..., 1, 1] / n - mx * my
    det = sxx * syy - sxy * sxy
    c = torch.where(mass < EMPTY_MASS, -math.inf, torch.log(n) - 0.5 * torch.log(det))
    form = torch.stack([0.5 * syy / det, -0.5 * sxy / det, 0.5 * sxx / det])
    shift = torch.stack([mx + (w - 1) / 2, my + (h - 1) / 2])
    c, shift, form = (part[..., None, None].to(g.dtype) for part in (c, shift, form))
    return c, shift, form


def spatiogram(g: Tensor, own: Any) -> Tensor:
    """Equalise by place, as `sdie_fast.filters.spatiogram` defines it: two walks over the bins, none of them kept."""
    bins = own.bins
    h, w = g.shape[-2:]
    c, mean, form = _statistics(g, bins)
    x = torch.arange(w, device=g.device, dtype=g.dtype)[None, None, :]
    y = torch.arange(h, device=g.device, dtype=g.dtype)[None, :, None]

    def log(b: int) -> Tensor:
        dx, dy = x - mean[0, b], y - mean[1, b]
        return c[b] - ((form[0, b] * dx * dx + form[2, b] * dy * dy) + 2.0 * form[1, b] * dx * dy)

    most = log(0)
    for b in range(1, bins):
        most = torch.maximum(most, log(b))
    total = torch.zeros_like(g)
    below = torch.zeros_like(g)
    level = g * bins
    for b in range(bins):
        # A bin counts wholly below the pixel's level, and linearly inside its own.
        e = torch.exp(log(b) - most)
        total = total + e
        below = below + e * (level - b).clamp(0.0, 1.0)
    return below / total


def filters(params: FilterParams, device: Any = "cpu") -> dict[str, Callable[[Tensor], Tensor]]:
    """Bind the parameters of the six filters; planes are (N, H, W) in [0, 1].

    What they need on the device is put there now: a call uploads nothing, so that a CUDA graph can hold it.

    Raises
    ------
    InvalidArgumentError
        WLS on lightness, or another spatiogram method: the benchmark measures neither.
    """
    if params.wls_domain != "intensity" or params.spatiogram_method != "spatiogram":
        raise InvalidArgumentError(
            f"params: received wls_domain {params.wls_domain!r}, spatiogram_method {params.spatiogram_method!r}; "
            "composed in torch: wls_domain 'intensity' and the spatiogram only"
        )
    kernel = gaussian_kernel(params.of("sharpen").window, params.sharpen_radius)
    taps = torch.tensor(kernel, dtype=torch.float32, device=device)
    apply: dict[str, Callable[..., Tensor]] = {
        "wls": wls_fast if params.wls_solver == "fast" else wls_exact,
        "bilateral": bilateral,
        "sharpen": partial(sharpen, taps=taps),
        "guided": guided,
        "spatiogram": spatiogram,
    }
    return {"identity": lambda g: g} | {name: partial(each, own=params.of(name)) for name, each in apply.items()}


def round_of(
    params: FilterParams, names: Sequence[str], rounds: int = 1, device: Any = "cpu"
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make `rounds` rounds of the filters named in one function of a uint8 batch and its weights.

    Returns
    -------
    callable
        (N, H, W) uint8 and (N, T, len(names)) float32, normalised, both on the device -> (N, H, W) uint8. It may be
        compiled: which filters are computed is part of the program, as in `sdie_fast.cuda`.
    """
    every = filters(params, device)

    def run(images: Tensor, weights: Tensor) -> Tensor:
        g = images.to(torch.float32) * (1.0 / 255.0)
        for t in range(rounds):
            mixed = torch.zeros_like(g)
            for i, name in enumerate(names):
                mixed = mixed + weights[:, t, i, None, None] * every[name](g)
            g = mixed.clamp(0.0, 1.0)
        return (g * 255.0 + 0.5).to(torch.uint8)

    return run
