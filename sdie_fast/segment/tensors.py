"""Images as tensors, on whatever device they are: checked, and brought to a model's input.

Needs torch. Images come as tensors, as arrays of another library on a GPU (DLPack, `__cuda_array_interface__`), or
from the host.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import _validate
from ..errors import InvalidArgumentError, InvalidTypeError, ModelError
from .geometry import IN_SEQUENCE, Geometry, as_images
from .onnx import Span

__all__ = ["as_tensor", "as_views", "input_of", "span_of", "usable_device"]

# The value that counts as 1.
_WHITES = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}


def usable_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Raises
    ------
    InvalidArgumentError
        Not a device's name, or one of another kind than "cpu" and "cuda".
    ModelError
        No such GPU, or none that torch can use.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidArgumentError(
            f"device: received {device!r}; accepted: cpu, cuda, cuda:0, cuda:1 and so on"
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise InvalidArgumentError(f"device: received {str(device)!r}; accepted: cpu, cuda, cuda:0")
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            why = (
                f"torch sees {count} GPU(s)" if count
                else "torch sees no GPU: nvidia-smi tells whether the driver does, and torch.version.cuda is "
                f"{torch.version.cuda}"
            )  # fmt: skip
            raise ModelError(f"device: {str(device)!r} is not there, since {why}; cpu always is")
        found = torch.device("cuda", found.index or 0)
    return found


def _is_foreign(images: Any) -> bool:
    """Whether images are a tensor, or lie on a GPU, so that NumPy is not the one to look at them."""
    return isinstance(images, torch.Tensor) or hasattr(images, "__cuda_array_interface__")


def as_tensor(images: Any) -> torch.Tensor:
    """Take an array of another library without a copy, where it is."""
    if isinstance(images, torch.Tensor):
        return images.detach()
    if hasattr(images, "__dlpack__"):
        return torch.from_dlpack(images)  # waits for what the producer's stream still has to do
    return torch.as_tensor(images, device="cuda")


def as_views(images: Any, axes: Any = None) -> list[Any]:
    """Split what a caller calls images into (H, W, C) views, checked: tensors, or arrays as `as_images` gives them.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        As for `sdie_fast.enhance`, or none given.
    """
    if _is_foreign(images):
        return list(_batch(as_tensor(images), axes))
    if isinstance(images, Sequence) and any(_is_foreign(image) for image in images):
        views: list[Any] = []
        for image in images:
            own = as_views(image if _is_foreign(image) else [image], axes)
            if len(own) != 1:
                raise InvalidArgumentError(
                    f"images: received a batch of {len(own)} in a sequence; accepted: {IN_SEQUENCE}"
                )
            views += own
        return views
    return list(as_images(images, axes))


def _batch(images: torch.Tensor, axes: Any) -> torch.Tensor:
    """Check a tensor and bring it to (N, H, W, C)."""
    if images.dtype not in _WHITES:
        raise InvalidTypeError(
            f"images: received a tensor of {images.dtype}; accepted: {', '.join(map(str, _WHITES))}"
        )
    planes: torch.Tensor = _validate.as_planes(images, axes)
    if 0 in planes.shape:
        raise InvalidArgumentError(
            f"images: received a tensor of shape {tuple(images.shape)}; accepted: at least one pixel"
        )
    # One answer for the whole batch; NaN compares false.
    if images.dtype == torch.float32 and not bool(((planes >= 0.0) & (planes <= 1.0)).all()):
        raise InvalidArgumentError(
            "images: received a float32 tensor with NaN or values outside of [0, 1]; accepted: [0, 1]"
        )
    return planes


def input_of(
    views: Sequence[Any], geometries: Sequence[Geometry], mean: Any, std: Any, device: Any = None
) -> torch.Tensor:
    """A model's input (N, 3, size, size), float32, of views of any shapes: resized, normalised and padded.

    Parameters
    ----------
    views : sequence
        (H, W, C) tensors, or arrays, as `as_views` gives them.
    geometries : sequence of Geometry
        Of each.
    mean, std : ndarray or Tensor, float32, (3,)
    device : device, optional
        Where to; None means where the first view is.
    """
    first = views[0]
    if device is None:
        device = first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
    mean, std = (torch.as_tensor(v, device=device) for v in (mean, std))
    size = geometries[0].size
    out = torch.empty(len(views), 3, size, size, device=device)
    # Neighbours that are alike are one batch.
    kinds = ((tuple(view.shape), view.dtype, isinstance(view, torch.Tensor)) for view in views)
    end = 0
    for _, alike in itertools.groupby(kinds):
        part = slice(end, end + len(list(alike)))
        end = part.stop
        planes = _stack(views[part], device).permute(0, 3, 1, 2)
        geometries[part][0].fill(planes, out[part], mean, std)
    return out


def _stack(views: Sequence[Any], device: torch.device) -> torch.Tensor:
    """Views of one shape and type on a device, (N, H, W, C) float32 of 0 to 255."""
    if isinstance(views[0], torch.Tensor):
        batch = torch.stack([v.to(device, non_blocking=True) for v in views])
    else:
        batch = torch.from_numpy(np.stack(views))
        if device.type == "cuda":
            batch = batch.pin_memory()
    return batch.to(device, non_blocking=True).to(torch.float32) * (255.0 / _WHITES[batch.dtype])


def span_of(batch: torch.Tensor) -> Span:
    """A float32 tensor's memory for a session to read, once what makes it has finished."""
    batch = batch.contiguous()
    if batch.device.type == "cuda":  # the session has a stream of its own
        torch.cuda.current_stream(batch.device).synchronize()
    return Span(batch.data_ptr(), tuple(batch.shape), batch.device.type, batch.device.index or 0, batch)
