"""Frames of a GenICam camera, by Aravis through GObject introspection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendUnavailableError, InvalidArgumentError
from ..line import layout

__all__ = ["camera"]

_BUFFERS = 8
_WAIT_US = 500_000  # so that Ctrl-C is heard


def _aravis() -> Any:
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        raise BackendUnavailableError(
            f"camera: Aravis cannot be used from this Python ({error}); to fix: apt install python3-gi "
            "gir1.2-aravis-0.8, and a virtual environment of the system's Python made with --system-site-packages; or "
            "take the C program in examples/aravis"
        ) from error
    return Aravis


def camera(
    stack: ExitStack, name: str, size: tuple[int, int] | None, format: str
) -> tuple[tuple[int, int], str, Iterator[npt.NDArray[Any]], Callable[[], str]]:
    """Open a camera by its name (`Fake_1` is Aravis' own): its size, format, frames, and what was lost."""
    aravis = _aravis()
    from gi.repository import GLib

    if name.startswith("Fake"):
        aravis.enable_interface("Fake")
    try:
        device = aravis.Camera.new(name or None)
        device.set_pixel_format_from_string(format)
        if size is not None:
            device.set_region(0, 0, *size)
        _, _, width, height = device.get_region()
        if size not in (None, (width, height)):
            raise InvalidArgumentError(
                f"--size: the camera gives {width}x{height} for it; accepted: that, or no --size"
            )
        lines = layout(format, width, height)
        count = int(np.prod(lines.shape)) * lines.dtype.itemsize
        stream = device.create_stream(None, None)
        for _ in range(_BUFFERS):
            stream.push_buffer(aravis.Buffer.new_allocate(device.get_payload()))
        device.start_acquisition()
    except GLib.Error as error:
        raise InvalidArgumentError(f"SOURCE: camera {name!r}: {error.message}") from error
    stack.callback(device.stop_acquisition)

    def frames() -> Iterator[npt.NDArray[Any]]:
        while True:
            buffer = stream.timeout_pop_buffer(_WAIT_US)
            if buffer is None:
                continue
            if buffer.get_status() == aravis.BufferStatus.SUCCESS:
                data = np.frombuffer(buffer.get_data(), np.uint8, count)
                yield data.view(lines.dtype).reshape(lines.shape)
            stream.push_buffer(buffer)

    def lost() -> str:
        _, failures, underruns = stream.get_statistics()
        if not failures and not underruns:
            return ""
        return f"the camera's stream lost frames: {failures} damaged, {underruns} without a free buffer"

    return (width, height), format, frames(), lost
