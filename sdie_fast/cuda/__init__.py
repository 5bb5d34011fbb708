"""The filters and their rounds on an NVIDIA GPU, in Numba CUDA.

Nothing of Numba is imported by ``import sdie_fast``. Device arrays are Numba's; planes are float32 and
C-contiguous, (n, H, W). What enqueues work takes ``stream`` and never waits for the device. Kernels
take every size at run time: none is compiled again for another shape.
"""

# Local filters are parts of one fused kernel: each has its module in `parts`, named in this line.
LOCAL = ("identity", "bilateral", "sharpen", "guided", "gamma", "median", "gaussian")
WHOLE = ("wls", "spatiogram")  # they need the whole image first, and have kernels of their own
FILTERS = (*LOCAL, *WHOLE)

__all__ = ["FILTERS", "LOCAL", "WHOLE"]
