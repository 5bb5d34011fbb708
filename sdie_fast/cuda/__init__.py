"""The filters and their rounds on an NVIDIA GPU, in Numba CUDA.

Nothing here is imported by ``import sdie_fast``. Device arrays are Numba's; planes are float32 and
C-contiguous, (n, H, W). What enqueues work takes ``stream`` and never waits for the device. Kernels
take every size at run time: none is compiled again for another shape.
"""
