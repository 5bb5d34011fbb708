"""The filters by name, and their parameters.

Each function applies one filter to a whole image or batch; a weighted round of several is `sdie_fast.enhance`. Each file
of this package describes one filter: its parameters, its definition in float64, its reach, its cost; `TABLE` lists them.

They raise `InvalidArgumentError` or `InvalidTypeError` for arguments they cannot use (parameters by the names of
`FilterParams`' fields, with their ranges), `BackendUnavailableError`, and `DeviceMemoryError` where a GPU's memory does
not suffice.

Parameters
----------
image : ndarray or array on a CUDA device, uint8, uint16 or float32
    Shape (H, W), (H, W, 1), (H, W, 3), or with a batch's axis N before; see `axes`. Any strides. Intensities are
    value / 255, value / white_level, or float32 in [0, 1]. Arrays on a CUDA device are those `sdie_fast.enhance` takes.
    An image is at least as large as the filter's window.
out : ndarray or array on a CUDA device, optional
    Where to write: same shape and dtype, in the same place as the image, sharing no memory with it; any strides. It is
    what is returned.
backend : str
    "cuda", "cpu", "reference", or "auto": the GPU for arrays on it, else the fastest that can run here (see
    `sdie_fast.enhance`).
threads : int, optional
    Threads to use at most; None means every CPU this process may run on. Results do not depend on it.
white_level : float, optional
    The uint16 value that counts as 1.0 (None: 65535; 4095 for a 12-bit camera).
per_channel : bool
    Colour images: False filters luma (ITU-R BT.601) and carries chroma over, True filters every channel.
max_pixels : int, optional
    Largest H * W accepted; None means 2**28.
axes : None or {"HW", "HWC", "NHW", "NHWC"}
    What the axes of `image` and `out` are. None: of three axes the last is channels where it is 1 (grey) or 3 (RGB)
    long, and refused where it is 2 or 4.
"""

from ._filter import Filter, Operations, Parameter
from ._flat import DEFAULTS, FILTERS, PARAMETERS, TABLE, FilterParams, function, toolkit

globals().update({name: function(cls) for name, cls in TABLE.items()})

__all__ = [
    "DEFAULTS",
    "FILTERS",
    "PARAMETERS",
    "TABLE",
    "Filter",
    "FilterParams",
    "Operations",
    "Parameter",
    "toolkit",
]
__all__ += list(TABLE)
