"""Smoothing by weighted least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._filter import Filter, Operations, Plane, choice, real

__all__ = ["SMALL", "Wls", "from_lightness", "solve_rows", "to_lightness", "wls_matrix", "wls_weights"]

SMALL = 1e-4  # keeps log(0) and flat neighbours finite

# Iterations of the compiled exact solver on photographs (bench/RESULTS.md), and what one takes: the matrix (8), lines
# smoothed in both directions (2 x 8), two scalar products and three updates (5), there and back between levels (12), a
# third more for the coarser levels. What this method needs, not what the problem does.
_EXACT_ITERATIONS = 5.7
_EXACT_LANES = 4 / 3 * (8 + 16 + 5 + 12)
_EXACT_SPECIAL = 4 / 3 * 2


def to_lightness(v: Plane) -> Plane:
    """CIE 1976 L* (0 to 100) of a grey sRGB intensity in [0, 1]."""
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return np.where(linear <= 216 / 24389, linear * 24389 / 27, 116.0 * np.cbrt(linear) - 16.0)


def from_lightness(lightness: Plane) -> Plane:
    """Inverse of `to_lightness`."""
    linear = np.where(lightness <= 8.0, lightness * 27 / 24389, ((lightness + 16.0) / 116.0) ** 3)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def wls_weights(g: Plane, alpha: float) -> tuple[Plane, Plane]:
    """Edge weights a_x (H, W-1) and a_y (H-1, W): 1 / (|d log(g + 1e-4)|^alpha + 1e-4)."""
    log = np.log(g + SMALL)
    ax = 1.0 / (np.abs(np.diff(log, axis=1)) ** alpha + SMALL)
    ay = 1.0 / (np.abs(np.diff(log, axis=0)) ** alpha + SMALL)
    return ax, ay


def wls_matrix(ax: Plane, ay: Plane, lambda_: float) -> Any:
    """Assemble I + lambda L as a sparse (HW, HW) matrix, pixels in row order.

    L is the Laplacian of the pixel grid with edge weights ax and ay: no flux leaves the border.
    """
    import scipy.sparse as sp

    h, w = ay.shape[0] + 1, ax.shape[1] + 1
    n = np.arange(h * w)
    pixel = n.reshape(h, w)
    i = np.concatenate([pixel[:, :-1].ravel(), pixel[:-1].ravel()])
    j = np.concatenate([pixel[:, 1:].ravel(), pixel[1:].ravel()])
    a = lambda_ * np.concatenate([ax.ravel(), ay.ravel()])
    # Entries at the same place add up: each edge gives a to both its ends' diagonals.
    values = np.concatenate([np.ones(h * w), a, a, -a, -a])
    places = np.concatenate([n, i, j, i, j]), np.concatenate([n, i, j, j, i])
    return sp.csr_array((values, places), shape=(h * w, h * w))


def solve_rows(u: Plane, a: Plane, lambda_: float) -> Plane:
    """Solve (I + lambda L_x) v = u along every row; a holds the edge weights (H, W-1)."""
    from scipy.linalg import solveh_banded

    if u.shape[1] == 1:
        return u
    out = np.empty_like(u)
    for y in range(u.shape[0]):
        band = np.zeros((2, u.shape[1]))
        band[1] = 1.0
        band[1, :-1] += lambda_ * a[y]
        band[1, 1:] += lambda_ * a[y]
        band[0, 1:] = -lambda_ * a[y]
        out[y] = solveh_banded(band, u[y])
    return out


@dataclass(frozen=True)
class Wls(Filter):
    """Smooth by weighted least squares, keeping strong edges (Farbman et al. 2008)."""

    name = "wls"
    colour = "#0072b2"
    turn = 3
    whole_image = True

    lambda_: float = real(1.0, 0.0, 100.0, "Strength of smoothing", above=True, choosable=True, published=0.125)
    alpha: float = real(1.2, 0.2, 2.0, "Exponent of the log-gradient in the smoothness weight", choosable=True)
    solver: Literal["exact", "fast"] = choice(
        ("exact", "fast"),
        '"exact" solves the linear system to `tol`; "fast" is three separable passes (Min et al. 2014).',
    )
    tol: float = real(1 / 510, 1e-6, 0.1, "Largest error of the exact solver", unit="intensity")
    domain: Literal["intensity", "lightness"] = choice(
        ("intensity", "lightness"),
        "Smooth intensities, or CIE L* of the image taken as sRGB grey.",
        published="lightness",
    )

    def operations(self) -> Operations:
        """Two edge weights and six tridiagonal solves of 8 and a reciprocal; the exact solver's iterations after these."""
        # A weight: a difference, its log2, a product, an exp2, an addition, a reciprocal; and a log2 for both.
        lanes, special = 2 * 3 + 1 + 6 * 8, 2 * 3 + 1 + 6
        if self.solver == "fast":
            return Operations(lanes, special)
        return Operations(lanes + _EXACT_ITERATIONS * _EXACT_LANES, special + _EXACT_ITERATIONS * _EXACT_SPECIAL)

    def reference(self, g: Plane) -> Plane:
        """Find the u that minimises sum (u - g)^2 + lambda (a_x (du/dx)^2 + a_y (du/dy)^2), with a of `wls_weights`.

        "exact" solves the linear system; "fast" is its separable approximation: three times rows, then columns, with
        lambda_t = 1.5 * 4^(3-t) / (4^3 - 1) * lambda, t = 1, 2, 3, and a of the input throughout. In the domain
        "lightness" g is mapped to CIE L* (0 to 100), smoothed there, and mapped back.
        """
        from scipy.sparse.linalg import spsolve

        u = to_lightness(g) if self.domain == "lightness" else g
        ax, ay = wls_weights(u, self.alpha)
        if self.solver == "exact":
            u = np.asarray(spsolve(wls_matrix(ax, ay, self.lambda_).tocsc(), u.ravel())).reshape(g.shape)
        else:
            for t in (1, 2, 3):
                step = 1.5 * 4.0 ** (3 - t) / (4.0**3 - 1.0) * self.lambda_
                u = solve_rows(u, ax, step)
                u = solve_rows(u.T, ay.T, step).T
        return from_lightness(u) if self.domain == "lightness" else u
