"""Arrays on a CUDA device as the checks see them: an address and a layout, and no way to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt


class _Interface:
    """What NumPy makes an array of: addresses, which it never reads unless an element is asked for."""

    def __init__(self, array: DeviceArray) -> None:
        self.owner = array
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
            "data": (array.pointer, not array.writeable),
        }


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array that lies on a CUDA device.

    Attributes
    ----------
    pointer : int
        Address of its first element on the device.
    shape, strides : tuple of int
        In elements and in bytes.
    dtype : numpy.dtype
        Of its elements.
    writeable : bool
        Whether it may be written to.
    device : int
        Number of the device.
    stream : int
        Handle of the stream on which the work that fills it is ordered, and on which the caller
        expects what follows: 1 is the legacy default stream, 2 the one of the thread.
    library : str
        Whose it is: "torch", "cupy", "numba" or "other".
    owner : object
        The caller's array; it keeps the memory.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    writeable: bool
    device: int
    stream: int
    library: str
    owner: Any

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def addresses(self) -> npt.NDArray[Any]:
        """An ndarray of the same addresses and layout, for arithmetic on those alone.

        Its elements are not the host's: reading one, printing it or copying it is an access to
        memory that the process does not have.
        """
        return np.asarray(_Interface(self))

    @property
    def flags(self) -> Any:
        """As of an ndarray."""
        return self.addresses.flags

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> DeviceArray:
        """View a part: slices, new axes, integers."""
        whole = index if isinstance(index, tuple) else (index,)
        if Ellipsis not in whole:
            whole = (*whole, Ellipsis)  # so that NumPy answers with a view, never with an element
        view = self.addresses[whole]
        pointer = int(view.__array_interface__["data"][0])
        return replace(self, pointer=pointer, shape=view.shape, strides=view.strides)
