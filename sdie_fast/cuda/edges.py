"""Edges' weights of weighted least squares (Farbman et al. 2008), and the lightness that they may be taken of."""

from __future__ import annotations

import math

from numba import cuda

from .kernels import F32, ONE, ZERO, exact_part, exp2, log2, part

__all__ = ["NO_EDGE", "SMALL", "edge_weight", "from_lightness", "lightness", "resistance"]

SMALL = 1e-4  # of the definition: keeps log(0) and flat neighbours finite
NO_EDGE = F32(1e18)  # resistance past the border: nothing flows, and its products stay finite
SERIES_UP_TO = F32(1 / 6)
LN2 = F32(math.log(2.0))


@exact_part
def lightness(v):
    """CIE 1976 L* / 100 of a grey sRGB intensity in [0, 1]."""
    linear = v / F32(12.92)
    if v > F32(0.04045):
        linear = F32(math.pow((v + F32(0.055)) / F32(1.055), F32(2.4)))
    if linear <= F32(216 / 24389):
        return linear * F32(24389 / 2700)
    return F32(1.16) * F32(math.pow(linear, F32(1 / 3))) - F32(0.16)


@exact_part
def from_lightness(light):
    """Inverse of `lightness`."""
    if light <= F32(0.08):
        linear = light * F32(2700 / 24389)
    else:
        root = (light + F32(0.16)) / F32(1.16)
        linear = root * root * root
    if linear <= F32(0.0031308):
        return linear * F32(12.92)
    return F32(1.055) * F32(math.pow(linear, F32(1 / 2.4))) - F32(0.055)


@exact_part
def edge_weight(difference, alpha):
    """1 / (difference^alpha + 1e-4), of the difference of two logarithms, not negative."""
    power = ZERO
    if difference > ZERO:
        power = exp2(alpha * log2(difference))
    return ONE / (power + F32(SMALL))


@part
def resistance(one, other, log_one, log_other, twice_offset, alpha):
    """Reciprocal of an edge's weight: d^alpha + 1e-4, d the difference of log(v + offset) of its two pixels.

    log_one and log_other are log2(v + offset). Their difference is exact enough where it is large; the other
    differences are twice the inverse hyperbolic tangent of s = (one - other) / (one + other + 2 offset), by
    its series: relative error 1e-7, whatever the pixels.
    """
    s = abs(one - other) / ((one + other) + twice_offset)
    q = s * s
    series = F32(2.0) + q * (F32(2 / 3) + q * (F32(2 / 5) + q * F32(2 / 7)))
    difference = cuda.selp(s > SERIES_UP_TO, LN2 * abs(log_one - log_other), s * series)
    # The logarithm of 0 is -inf, whose power is 0 again.
    return exp2(alpha * log2(difference)) + F32(SMALL)
