"""Exact weighted least squares on the device, plane by plane to a tolerance, without the host.

The system is (I + lambda L) u = g, L the Laplacian of the pixel grid with the weights of Farbman et
al. 2008, which differ by 1e5 from one edge to the next. It is solved by conjugate gradients with one
multigrid V-cycle an iteration as preconditioner:

- one kernel launch for a whole batch; a team of blocks serves a plane from its weights to its
  result, then takes the next (`_multigrid_team`). A small plane of a large batch has one block, a
  large plane alone has all that the device runs at once;
- the smoother solves lines inside tiles of 16 x 16 that lie in shared memory, twice, the second time
  with tiles half a tile aside (`_multigrid_tiles`);
- interpolation follows the couplings, and the coarse operators are P^T A P (`_multigrid_coarsen`);
- the cycle is symmetric, so that plain conjugate gradients converge whatever the image and lambda.

What else was tried, with the same interpolation, on photographs of steel and magnetic tiles (200 x
200, lambda 1; iterations until the largest error was 1/510): red-black Gauss-Seidel 12 to 57, damped
Jacobi twice 12 to 161, Chebyshev polynomials over 100, zebra lines through the whole image 4 to 14,
tiles as here 4 to 10, tiles of 32 instead 4 to 9, tiles solved exactly 2 to 3. A pass over tiles
moves each array once, as a Gauss-Seidel sweep does, whatever it does in shared memory; solving tiles
exactly needs their factors, 16 values a pixel and pass, which is more than it saves. An iteration
moves about 52 values a pixel, levels below included: 208 bytes.

Measured with this code, compiled for the CPU as one thread: iterations to the bound below 8 to 13 on
seven such photographs, 29 on one with specks; 10 on noise; 145 on black and white noise, 73 on noise
of four dark levels, where pixels of one value hang together around corners. Crops of 60 x 60 of
twelve photographs: 6 to 11 at lambda 0.1, 6 to 16 at lambda 100; noise, lines, steps and patches of
that size: 1 to 150, diagonal stripes of many widths up to 208. The largest error of all was 0.1 of the
tolerance.

**When to stop.** A >= I, so the largest error is at most the energy norm of the error; more closely,
|e(x)| <= ||e||_A / sqrt(c(x)), c(x) the conductance between pixel x and ground (1 / c(x) is the
inverse's diagonal element), of which a lower bound is found from networks inside A. The energy
norm is bounded from the coefficients of the iteration by the Gauss-Radau rule (Meurant & Tichy 2013),
which needs a lower bound of the preconditioned matrix's smallest eigenvalue: 1/4096 for the
first steps, then 1/16, or less where the coefficients show one below 1/4 (`_wls_kernels`). A plane ends when the bound is
below 0.8 of the tolerance. The size of the correction, which is cheaper to look at, was up to a
hundred times too small where pixels hang together in a way that no coarse level sees (dark noise,
spirals, black and white noise).

Not measured on a GPU: none was at hand. The kernels were run in Numba's simulator, where a team has
one block, or two in one test that lets them run side by side; what it cannot show is the order of
memory between multiprocessors, which rests on `threadfence` on both sides of a team's barrier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from . import _multigrid_levels as layout
from . import _wls_kernels as kernels
from ._device import F32, SIMULATED, ceil_div
from ._multigrid_team import TEAM
from ._multigrid_tiles import FIVE_TILES, SIDE
from .wls_fast import SMALL

STEEPEST = 1.5  # most that intensity changes when lightness / 100 does


def _room() -> int:
    """Blocks that the device runs at once."""
    if SIMULATED:
        return kernels.BLOCKS
    return kernels.BLOCKS * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


class ExactWls:
    """Weighted least squares to a tolerance in the maximum norm; memory for one size.

    Parameters
    ----------
    planes, height, width : int
        The most planes of a call, and their size: at least 1.

    Attributes
    ----------
    iterations : device (planes,) int32
        What each plane of the last call took; older values where a plane was not computed.

    Notes
    -----
    Memory is for as many planes as the device works on at once, about 43 bytes a pixel each.
    """

    def __init__(self, planes: int, height: int, width: int) -> None:
        self._layout = layout.lay_out(height, width)
        teams = min(planes, _room())
        self._memory = cuda.device_array((teams, self._layout.floats), "float32")
        self._levels = cuda.to_device(self._layout.table)
        self._teams = cuda.device_array((teams, TEAM), "int32")
        self._all = cuda.to_device(np.ones(planes, np.float32))
        self.iterations = cuda.to_device(np.zeros(planes, np.int32))

    @classmethod
    def workspace_bytes(cls, planes: int, height: int, width: int) -> int:
        """Bytes of device memory an instance holds."""
        at = layout.lay_out(height, width)
        return min(planes, _room()) * 4 * (at.floats + TEAM) + at.table.nbytes + 8 * planes

    def __call__(
        self,
        guide: Any,
        out: Any,
        *,
        lambda_: float,
        alpha: float,
        tol: float,
        on_lightness: bool,
        active: Any = None,
        stream: Any = 0,
    ) -> None:
        """Smooth planes; enqueues only: the iteration ends on the device.

        Parameters
        ----------
        guide, out : device (n, H, W) float32, C-contiguous
            Intensities in [0, 1]; not aliased; n at most the planes of the workspace.
        lambda_, alpha : float
            As `sdie_fast.FilterParams` has them.
        tol : float
            The largest error accepted.
        on_lightness : bool
            Smooth CIE L* instead of intensity.
        active : device (n,) float32, with any stride, or None
            A plane whose entry is 0 is not computed. None: all.
        stream : Numba stream
            0 is the default stream.
        """
        planes, height, width = out.shape
        at, room = self._layout, _room()
        tiles = ceil_div(height, SIDE) * ceil_div(width, SIDE)
        blocks = max(1, min(room // planes, ceil_div(tiles, FIVE_TILES)))
        teams = min(planes, room // blocks)
        kernels.reset[1, kernels.THREADS, stream](self._teams)
        # On L* / 100 the definition's small constant is a hundredth, too.
        kernels.solve[teams * blocks, kernels.THREADS, stream](
            guide.reshape(planes, height * width), out.reshape(planes, height * width),
            self._all if active is None else active, int(on_lightness), F32(lambda_), F32(alpha),
            F32(SMALL / 100 if on_lightness else SMALL), F32(tol / STEEPEST if on_lightness else tol),
            self._memory, self._levels, at.inverse, at.sums, at.other_sums, at.direction,
            at.image_of_direction, at.chunks, self._teams, blocks, self.iterations,
        )  # fmt: skip
