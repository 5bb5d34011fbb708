"""Multigrid's ways between levels: what a level's matrix makes of a plane, and interpolation's transpose and itself."""

from __future__ import annotations

from numba import cuda

from .kernels import F32, HALF, ONE, ZERO, bits_of, float_of, part, section
from .team import DIAGONALS, GROUND, HEIGHT, PAIR, PIXELS, RESIDUAL, TO, WIDTH, barrier
from .words import below, get, i32, one_of, other_of, plane, put, u32

__all__ = ["image_of", "interpolated", "restrict", "row_of"]

# The planes at a level's `TO`, at the coarse pixel (i, j) of the fine one (2 i, 2 j), each with two shares: of (i, j) in
# the pixel to the right (the rest is its right neighbour's) and in the one below; of the four coarse ones around in the
# pixel diagonally below, the upper two, the lower two. A share has 15 bits: the matrices are made of what is kept.
SIDES, UPPER, LOWER = range(3)
WHOLE = 32767
UNIT = F32(1 / WHOLE)

DOWN, ACROSS = 8, 16  # coarse pixels that a block takes at a time
FINE_ROWS, FINE = 2 * DOWN + 1, 2 * ACROSS + 1  # and the fine ones they are made of


@part
def row_of(i, width):
    """The row of pixel i."""
    return i32(u32(i) // u32(width))


@part
def steps_of(share):
    """A share as a whole number of `UNIT`."""
    return i32(share * F32(WHOLE) + HALF)


@part
def pack(one, other):
    """Put two shares into a word, in steps of `UNIT`."""
    return float_of(i32(one | (other << 16)))


@part
def one_share(word):
    """The first share in a word."""
    return F32(i32(bits_of(word) & WHOLE)) * UNIT


@part
def other_share(word):
    """The second share in a word."""
    return F32(i32(bits_of(word) >> 16)) * UNIT


@part
def image_of(z, east, south, i, w):
    """Level 0's A times a plane, at pixel i, as fluxes: differences first, so that nothing large cancels."""
    own = get(z, i)
    across = get(east, i) * (own - get(z, i + 1)) + get(east, i - 1) * (own - get(z, i - 1))
    above = get(plane(south, -w), i) * (own - get(plane(z, -w), i))
    return own + across + above + get(south, i) * (own - get(plane(z, w), i))


@part
def _packed_image_of(z, edges, diagonals, ground, i, w, nine):
    """The same of a level's packed couplings; nine: with diagonal ones."""
    north, south = plane(z, -w), plane(z, w)
    own, word = get(z, i), get(edges, i)
    value = one_of(word) * (own - get(z, i + 1)) + one_of(get(edges, i - 1)) * (own - get(z, i - 1))
    value += other_of(word) * (own - get(south, i)) + other_of(get(plane(edges, -w), i)) * (own - get(north, i))
    if not nine:
        return value + own
    word, above = get(diagonals, i), plane(diagonals, -w)
    value += one_of(word) * (own - get(south, i + 1)) + one_of(get(above, i - 1)) * (own - get(north, i - 1))
    value += other_of(word) * (own - get(south, i - 1)) + other_of(get(above, i + 1)) * (own - get(north, i + 1))
    return value + get(ground, i) * own


@section
def restrict(work, levels, k, z_in, crew, tile):
    """Level k + 1's right-hand side: P^T (r - A z), z in column `z_in` of level k. Below 0: its ground, P^T ground.

    A block takes `DOWN` x `ACROSS` coarse pixels at a time; tile: shared memory for all fine ones that they are made of.
    """
    _, _, rank, size = crew
    h, w = i32(levels[k, HEIGHT]), i32(levels[k, WIDTH])
    rows, columns, n = i32(levels[k + 1, HEIGHT]), i32(levels[k + 1, WIDTH]), i32(levels[k + 1, PIXELS])
    residual, ground = plane(work, levels[k, RESIDUAL]), plane(work, levels[k, GROUND])
    z, edges, diagonals = plane(work, levels[k, z_in]), plane(work, levels[k, PAIR]), plane(work, levels[k, DIAGONALS])
    shares, coarse = plane(work, levels[k, TO]), plane(work, levels[k + 1, GROUND if z_in < 0 else RESIDUAL])
    across = i32((columns + ACROSS - 1) // ACROSS)
    number, end = i32(rank), i32(across * ((rows + DOWN - 1) // DOWN))
    while number < end:
        top = row_of(number, across)
        left = i32((number - top * across) * ACROSS)
        top = i32(top * DOWN)
        i = u32(cuda.threadIdx.x)
        while i < u32(FINE_ROWS * FINE):
            row = row_of(i, FINE)
            y, x = i32(2 * top - 1 + row), i32(2 * left - 1 + i - row * FINE)
            value = ZERO
            if below(y, h) and below(x, w):
                pixel = u32(y * w + x)
                if z_in < 0:
                    value = ONE if k == 0 else get(ground, pixel)
                elif k == 0:
                    value = get(residual, pixel) - _packed_image_of(z, edges, diagonals, ground, pixel, w, False)
                else:
                    value = get(residual, pixel) - _packed_image_of(z, edges, diagonals, ground, pixel, w, True)
            put(tile, i, value)
            i = u32(i + cuda.blockDim.x)
        cuda.syncthreads()
        i = u32(cuda.threadIdx.x)
        while i < u32(DOWN * ACROSS):
            row, column = i32(i // ACROSS), i32(i % ACROSS)
            y, x = i32(top + row), i32(left + column)
            if y < rows and x < columns:
                put(coarse, y * columns + x, _restricted(shares, tile, row, column, y, x, columns, n))
            i = u32(i + cuda.blockDim.x)
        cuda.syncthreads()
        number = i32(number + size)
    barrier(crew)


@part
def _restricted(shares, tile, row, column, y, x, columns, n):
    """The value of P^T f at the coarse pixel (y, x), (row, column) of those whose f, 0 outside the image, is in the tile."""
    at = (2 * row + 1) * FINE + 2 * column + 1
    # The planes of shares are at the coarse pixel above or to the left of a fine one.
    to = plane(shares, y * columns + x)
    sides = get(to, SIDES * n)
    value = get(tile, at) + one_share(sides) * get(tile, at + 1) + other_share(sides) * get(tile, at + FINE)
    value += one_share(get(to, UPPER * n)) * get(tile, at + (FINE + 1))
    if x > 0:
        value += (ONE - one_share(get(to, SIDES * n - 1))) * get(tile, at - 1)
        value += other_share(get(to, UPPER * n - 1)) * get(tile, at + (FINE - 1))
    if y > 0:
        above = plane(to, -columns)
        value += (ONE - other_share(get(above, SIDES * n))) * get(tile, at - FINE)
        value += one_share(get(above, LOWER * n)) * get(tile, at - (FINE - 1))
        if x > 0:
            value += other_share(get(above, LOWER * n - 1)) * get(tile, at - (FINE + 1))
    return value


@part
def interpolated(shares, coarse, y, x, columns, n):
    """The value of P c at the fine pixel (y, x), c the plane `coarse`.

    Where a neighbour does not exist its share is zero, and what is read instead is a number.
    """
    at = i32((y >> 1) * columns + (x >> 1))
    to, c = plane(shares, at), plane(coarse, at)
    value = get(c, 0)
    if y & 1:
        below_it = get(c, columns)
        if x & 1:
            upper, lower = get(to, UPPER * n), get(to, LOWER * n)
            value = one_share(upper) * value + other_share(upper) * get(c, 1)
            value += one_share(lower) * below_it + other_share(lower) * get(c, columns + 1)
        else:
            value = below_it + other_share(get(to, SIDES * n)) * (value - below_it)
    elif x & 1:
        right = get(c, 1)
        value = right + one_share(get(to, SIDES * n)) * (value - right)
    return value
