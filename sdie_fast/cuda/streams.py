"""Streams, events and copies, by the driver's own functions: through Numba's a call takes some ten times as long.

Streams of our own do not wait for the legacy default stream, nor it for them: what another thread does on that one would
otherwise break the recording of a graph. So every order between two streams is an event's.

In the simulator a stream is 0, all is done when it is enqueued, and the device's memory is the host's.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import Any

import numpy as np

from . import driver

__all__ = [
    "LEGACY",
    "DriverError",
    "address",
    "call",
    "captured",
    "download",
    "event",
    "exchange",
    "finished",
    "own",
    "settle",
    "stream",
    "upload",
]

LEGACY = 1  # CU_STREAM_LEGACY
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_NO_TIMES = 2  # CU_EVENT_DISABLE_TIMING
_NOT_READY = 600  # CUDA_ERROR_NOT_READY
_CAPTURE_IMPLICIT = 906  # CUDA_ERROR_STREAM_CAPTURE_IMPLICIT


class DriverError(RuntimeError):
    """A function of the driver failed."""


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the driver with a context current; gives its one result, or None.

    Raises
    ------
    DriverError
        It answers with an error, which is named.
    """
    code, *values = getattr(driver.binding(), name)(*arguments)
    if code != 0:
        raise DriverError(f"{name} answers {getattr(code, 'name', code)}")
    return values[0] if values else None


@functools.lru_cache(maxsize=64)
def _external(handle: int) -> Any:
    return driver.cuda().external_stream(handle)


def stream(handle: int) -> Any:
    """Numba's object for a stream that another library made; handle 0 is the legacy default one.

    The same for the same handle: what Numba keeps of a launch, it keeps for such an object.
    """
    return 0 if driver.simulated() else _external(handle or LEGACY)


def own() -> Any:
    """Make a stream that orders nothing but what is enqueued on it."""
    if driver.simulated():
        return driver.cuda().stream()
    handle = call("cuStreamCreate", _NON_BLOCKING)
    made = driver.cuda().external_stream(int(handle))
    weakref.finalize(made, driver.binding().cuStreamDestroy, handle)
    return made


def captured(handle: int) -> bool:
    """Whether a stream is being captured, or is the default one while another that waits for it is."""
    if driver.simulated():
        return False
    code, status = driver.binding().cuStreamIsCapturing(handle)[:2]
    return code == _CAPTURE_IMPLICIT or (code == 0 and status != 0)


def settle() -> None:
    """Wait for the copies of the host's pageable memory, for which streams of our own do not wait."""
    if not driver.simulated():
        call("cuStreamSynchronize", LEGACY)


class _Event:
    """A point on a stream for others to wait for."""

    def __init__(self) -> None:
        self.handle = call("cuEventCreate", _NO_TIMES)
        weakref.finalize(self, driver.binding().cuEventDestroy, self.handle)

    def record(self, stream: Any) -> None:
        """Be the point at which a stream's work now ends."""
        call("cuEventRecord", self.handle, stream.handle)

    def wait(self, stream: Any) -> None:
        """Let a stream's further work wait."""
        call("cuStreamWaitEvent", stream.handle, self.handle, 0)

    def synchronize(self) -> None:
        """Let the host wait."""
        call("cuEventSynchronize", self.handle)

    def query(self) -> bool:
        """Whether the point is passed. Numba's own would log an error where it is not."""
        code = driver.binding().cuEventQuery(self.handle)[0]
        if code not in (0, _NOT_READY):
            raise DriverError(f"cuEventQuery answers {code.name}")
        return bool(code == 0)


def event() -> Any:
    """Make an event for ordering streams; it keeps no times."""
    return driver.cuda().event() if driver.simulated() else _Event()


def finished(event: Any) -> bool:
    """Whether the work before an event is done; in the simulator it always is."""
    return bool(event.query()) if hasattr(event, "query") else True


def address(array: Any) -> int:
    """Where an array begins: Numba's on the device, or NumPy's."""
    if isinstance(array, np.ndarray) or driver.simulated():
        return int(array.__array_interface__["data"][0])
    return int(array.device_ctypes_pointer.value or 0)


def _copy(name: str, to: int, source: int, size: int, stream: Any) -> None:
    if driver.simulated():
        ctypes.memmove(to, source, size)
    else:
        call(name, to, source, size, stream.handle)


# Copies of so many bytes between addresses, enqueued on a stream; the host's memory is pinned.
upload = functools.partial(_copy, "cuMemcpyHtoDAsync")
download = functools.partial(_copy, "cuMemcpyDtoHAsync")
exchange = functools.partial(_copy, "cuMemcpyDtoDAsync")
