"""Arrays on the GPU: what the checks see of them, and other libraries' taken where they lie and answered in kind.

Known are torch's CUDA tensors, CuPy's arrays and Numba's device arrays; anything else that speaks
``__cuda_array_interface__`` (CAI; version 3 has the producer's stream) or DLPack
(``__dlpack__``, ``__dlpack_device__``) is taken as well, and answered with a Numba device array where no `out` is given,
since its library is not known. Nothing is copied.

Streams. The work is enqueued on the stream on which the image's own library orders what it does: of torch and CuPy the
current stream of this thread, of Numba the stream the array is bound to, of CAI the stream it names, of DLPack the legacy
default stream, for which the producer is asked to wait. So the image is complete before it is read, and what the caller
enqueues next through the same library sees the result: nobody waits on the host. Where `out` belongs to another stream,
events order the two. A stream that is being captured is refused: a graph of the caller's would hold addresses of memory
that is shared and given back here, and calls replay graphs of their own.

This module imports none of these libraries: an array can only come from one that has been imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, InvalidTypeError
from . import driver, streams
from .views import DeviceArray, contiguous_strides

__all__ = ["DeviceArray", "describe", "empty_like", "on_device", "ordered"]


_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged of dlpack.h
_ACCEPTED = "uint8, uint16, float32, all in native byte order"


def _is_of(value: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))


def _is_numba(value: Any) -> bool:
    # On the class: a tensor's attributes are computed, and may raise.
    return bool(getattr(type(value), "__cuda_ndarray__", False))


def _has_interface(value: Any) -> bool:
    return hasattr(value, "__cuda_array_interface__")


def _dlpack_device(value: Any) -> tuple[int, int] | None:
    """(kind, number) of the device of what speaks DLPack."""
    if not hasattr(value, "__dlpack__") or not hasattr(value, "__dlpack_device__"):
        return None
    kind, number = value.__dlpack_device__()
    return int(kind), int(number)


def on_device(value: Any) -> bool:
    """Whether a value is an array on a CUDA device; nothing is imported to find out."""
    if value is None or isinstance(value, np.ndarray):
        return False
    if isinstance(value, DeviceArray):
        return True
    if _is_of(value, "torch", "Tensor"):
        return bool(value.is_cuda)
    if _is_numba(value) or _has_interface(value):
        return True
    device = _dlpack_device(value)
    return device is not None and device[0] in _DLPACK_CUDA


def describe(name: str, value: Any) -> DeviceArray:
    """Describe an array for which `on_device` holds; `name` is the argument's, for messages.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Elements of a type that NumPy does not know, a mask, a sparse tensor or one that requires
        its gradient, an array that is not on the current device, a stream that is being captured.
    """
    if isinstance(value, DeviceArray):
        return value
    current = driver.current_device()  # first: it makes a context current, without which the driver answers nothing
    if _is_of(value, "torch", "Tensor"):
        array = _torch(name, value)
    elif _is_of(value, "cupy", "ndarray"):
        array = _cupy(name, value)
    elif _is_numba(value):
        array = _numba(name, value)
    elif _has_interface(value):
        array = _interface(name, value, "other", value.__cuda_array_interface__)
    else:
        array = _dlpack(name, value)
    if streams.captured(array.stream):
        raise InvalidArgumentError(
            f"{name}: received an array whose stream is being captured, as by torch.cuda.graph; accepted: one on a "
            "stream that is not (to fix: call it outside; small images are replayed from a graph of its own)"
        )
    if array.size and array.device != current:
        raise InvalidArgumentError(
            f"{name}: received {array.dtype} array of shape {array.shape} on CUDA device "
            f"{array.device}; accepted: an array on the current device, {current} (to fix: "
            f"{_SWITCH[array.library].format(array.device)})"
        )
    return array


_SWITCH = {
    "torch": "with torch.cuda.device({}): ...",
    "cupy": "with cupy.cuda.Device({}): ...",
    "numba": "with numba.cuda.gpus[{0}]: ...",
    "other": "with numba.cuda.gpus[{0}]: ...",
}


def _torch(name: str, value: Any) -> DeviceArray:
    torch = sys.modules["torch"]
    shape = tuple(int(n) for n in value.shape)
    if value.layout is not torch.strided:
        raise InvalidTypeError(f"{name}: received a torch tensor of layout {value.layout}; accepted: a dense one")
    if value.requires_grad:
        raise InvalidArgumentError(
            f"{name}: received a torch tensor of shape {shape} that requires its gradient, which "
            f"is not computed here; accepted: {name}.detach()"
        )
    try:
        dtype = np.dtype(str(value.dtype).removeprefix("torch."))
    except TypeError:
        raise InvalidTypeError(
            f"{name}: received {value.dtype} tensor of shape {shape}; accepted dtypes: {_ACCEPTED}"
        ) from None
    return DeviceArray(
        pointer=int(value.data_ptr()),
        shape=shape,
        strides=tuple(int(n) * dtype.itemsize for n in value.stride()),
        dtype=dtype,
        writeable=True,
        device=int(value.device.index),
        stream=int(torch.cuda.current_stream(value.device).cuda_stream) or streams.LEGACY,
        library="torch",
        owner=value,
    )


def _cupy(name: str, value: Any) -> DeviceArray:
    with value.device:
        stream = int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return _interface(name, value, "cupy", {**value.__cuda_array_interface__, "stream": stream})


def _numba(name: str, value: Any) -> DeviceArray:
    # The simulator's arrays are NumPy's inside, and have NumPy's interface.
    interface = value.__array_interface__ if driver.simulated() else value.__cuda_array_interface__
    bound = getattr(value, "stream", 0)
    return _interface(name, value, "numba", {**interface, "stream": int(getattr(bound, "handle", 0) or 0)})


def _interface(name: str, value: Any, library: str, interface: Any) -> DeviceArray:
    """Read a CUDA array interface, of any version.

    Its stream is None where there is nothing to wait for, 1 or 2 for the default streams, or a
    handle.
    """
    dtype = np.dtype(interface["typestr"])
    shape = tuple(int(n) for n in interface["shape"])
    if interface.get("mask") is not None:
        raise InvalidTypeError(f"{name}: received a masked array; accepted: one without a mask")
    pointer, read_only = interface["data"]
    return DeviceArray(
        pointer=int(pointer or 0),
        shape=shape,
        strides=tuple(interface.get("strides") or contiguous_strides(shape, dtype.itemsize)),
        dtype=dtype,
        writeable=not read_only,
        device=driver.device_of(int(pointer or 0)),
        stream=int(interface.get("stream") or streams.LEGACY),
        library=library,
        owner=value,
    )


def _dlpack(name: str, value: Any) -> DeviceArray:
    from cuda.core.utils import StridedMemoryView

    received = f"{name}: received a {type(value).__name__}"
    # The producer makes the stream wait for its own work: that is what the argument is for.
    stream = streams.LEGACY
    try:
        view = StridedMemoryView.from_dlpack(value, stream_ptr=stream)
        dtype = view.dtype
    except (BufferError, NotImplementedError, TypeError) as error:
        raise InvalidTypeError(
            f"{received} whose __dlpack__ gives no array: {error}; accepted dtypes: {_ACCEPTED}"
        ) from error
    if dtype is None:
        raise InvalidTypeError(f"{received} of a dtype that NumPy does not know; accepted dtypes: {_ACCEPTED}")
    shape, dtype = tuple(int(n) for n in view.shape), np.dtype(dtype)
    laid = view.strides and tuple(int(n) * dtype.itemsize for n in view.strides)
    return DeviceArray(
        pointer=int(view.ptr),
        shape=shape,
        strides=laid or contiguous_strides(shape, dtype.itemsize),
        dtype=dtype,
        writeable=not view.readonly,
        device=int(view.device_id),
        stream=stream,
        library="other",
        owner=view,
    )


def empty_like(array: DeviceArray) -> Any:
    """Make a C-contiguous array of the same kind, shape and dtype on the same device.

    Of the same kind: a torch tensor, a CuPy array, or a Numba device array bound to the stream on
    which it will be filled.

    Raises
    ------
    DeviceMemoryError
        Memory does not suffice, even without what is kept here between calls.
    """

    def make() -> Any:
        if array.library == "torch":
            torch = sys.modules["torch"]
            return torch.empty(array.shape, dtype=array.owner.dtype, device=array.owner.device)
        if array.library == "cupy":
            return sys.modules["cupy"].empty(array.shape, array.dtype)
        bound = array.library == "numba" and not driver.simulated()
        stream = array.owner.stream if bound else streams.stream(array.stream)
        return driver.cuda().device_array(array.shape, array.dtype, stream=stream)

    try:
        return make()
    except Exception as error:
        if not driver.is_out_of_memory(error):
            raise
    from .memory import allocated

    return allocated(make, array.nbytes)


@contextlib.contextmanager
def ordered(source: DeviceArray, target: DeviceArray) -> Iterator[Any]:
    """Give Numba's stream for work that reads `source` and writes `target`.

    It is the source's. Where the target belongs to another stream, the work waits for what is
    enqueued there, and what is enqueued there later waits for the work.
    """
    stream = streams.stream(source.stream)
    other = None if target.stream == source.stream else streams.stream(target.stream)
    if other is not None:
        _follow(stream, other)
    try:
        yield stream
    finally:
        if other is not None:
            _follow(other, stream)


def _follow(later: Any, earlier: Any) -> None:
    event = streams.event()
    event.record(earlier)
    event.wait(later)
