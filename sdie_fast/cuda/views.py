"""Arrays on the device as an address and a layout; what NumPy and Numba make of them; batches of our own."""

from __future__ import annotations

import functools
import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import driver, streams

__all__ = ["Batch", "DeviceArray", "contiguous_strides", "numba_array"]


class _Interface:
    """What NumPy or Numba makes an array of: an address and a layout."""

    def __init__(self, protocol: str, pointer: int, shape: Any, strides: Any, dtype: Any, read_only: bool) -> None:
        described = {
            "version": 3,
            "shape": shape,
            "strides": strides,
            "typestr": dtype.str,
            "data": (pointer, read_only),
        }
        setattr(self, protocol, described)


class Flags:
    """What `numpy.ndarray.flags` tells, as far as it is asked for."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array

    @property
    def writeable(self) -> bool:
        """Whether it may be written to."""
        return self._array.writeable

    @property
    def aligned(self) -> bool:
        """Whether every element lies where its type may."""
        array = self._array
        alignment = array.dtype.alignment
        steps = zip(array.strides, array.shape, strict=True)
        return not (array.pointer % alignment or any(step % alignment for step, n in steps if n != 1))

    @property
    def c_contiguous(self) -> bool:
        """Whether the elements follow each other, the last axis fastest; axes of one element do not count."""
        array = self._array
        expected = contiguous_strides(array.shape, array.dtype.itemsize)
        axes = zip(array.shape, array.strides, expected, strict=True)
        return 0 in array.shape or all(step == plain or n == 1 for n, step, plain in axes)


@dataclass(eq=False, slots=True)
class DeviceArray:
    """An array that lies on a CUDA device; nothing of it changes.

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
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def addresses(self) -> npt.NDArray[Any]:
        """An ndarray of the same addresses and layout, for arithmetic on those alone.

        Its elements are not the host's: reading one, printing it or copying it is an access to
        memory that the process does not have.
        """
        layout = self.pointer, self.shape, self.strides, self.dtype
        return np.asarray(_Interface("__array_interface__", *layout, not self.writeable))

    @property
    def flags(self) -> Flags:
        """As of an ndarray."""
        return Flags(self)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> DeviceArray:
        """View a part: slices, new axes, integers."""
        whole = index if isinstance(index, tuple) else (index,)
        taken = sum(one is not None and one is not Ellipsis for one in whole)
        others = (Ellipsis,) * (self.ndim - taken)  # axes that stay as they are
        at = whole.index(Ellipsis) if Ellipsis in whole else len(whole)
        pointer, shape, strides, axis = self.pointer, [], [], 0
        for one in (*whole[:at], *others, *whole[at + 1 :]):
            if one is None:
                shape.append(1)
                strides.append(0)
                continue
            length, stride = self.shape[axis], self.strides[axis]
            axis += 1
            if one is Ellipsis:
                shape.append(length)
                strides.append(stride)
            elif isinstance(one, slice):
                begin, end, step = one.indices(length)
                count = len(range(begin, end, step))
                shape.append(count)
                strides.append(stride * step)
                pointer += begin * stride if count else 0
            else:
                pointer += range(length)[one] * stride
        rest = self.dtype, self.writeable, self.device, self.stream, self.library, self.owner
        return DeviceArray(pointer, tuple(shape), tuple(strides), *rest)


@functools.lru_cache(maxsize=64)
def _viewed(pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    view = _Interface("__cuda_array_interface__", pointer, shape, strides, dtype, False)
    return driver.cuda().as_cuda_array(view, sync=False)


def numba_array(array: DeviceArray) -> Any:
    """View a device array as Numba's kernels take it: no copy, no synchronisation. It does not keep the memory."""
    if driver.simulated():
        simulator: Any = importlib.import_module("numba.cuda.cudadrv.devicearray")
        return simulator.FakeCUDAArray(array.addresses)
    return _viewed(array.pointer, array.shape, array.strides, array.dtype)


class Batch:
    """A C-contiguous device array of our own, with its address, and views of its first images that are made once."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.whole = driver.cuda().device_array(shape, dtype)
        self.address = streams.address(self.whole)
        self._views = {shape[0]: self.whole}

    def first(self, count: int) -> Any:
        """View so many."""
        if count not in self._views:
            self._views[count] = self.whole[:count]
        return self._views[count]


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a C-contiguous array."""
    strides = [itemsize] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)
