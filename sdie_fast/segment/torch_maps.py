"""A map model's ONNX graph in torch: its gradient, and bfloat16, which some CPUs run several times as fast.

Needs torch and onnx2torch.
"""

from __future__ import annotations

import functools
import graphlib
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx2torch import convert
from torch import nn

from .. import _validate
from ..errors import InvalidTypeError, ModelError
from .geometry import Floats, resized
from .maps import MapSegmenter
from .tensors import usable_device

__all__ = ["TorchMaps"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


class TorchMaps(MapSegmenter):
    """A model from a picture to a map, in torch.

    Parameters
    ----------
    path : path
        The model file, or a directory that holds one, with its JSON: see `map_manifest.MapManifest`.
    device : str
        "cpu", "cuda", "cuda:1".
    dtype : {"float32", "bfloat16"}
        Of weights and arithmetic; half-precision graphs are widened to it. The map is float32.
    batch : int, optional
        Pictures run at once, where the model's first axis is free. None means 4, and on a CPU 1, where ISNet
        is faster so.
    **settings
        size, mean, scale, output, normalise and threshold, above the JSON's.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A setting that cannot be used.
    ModelError
        A file or device that cannot be used, or an operation that onnx2torch does not know.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch: int | None = None,
        **settings: Any,
    ) -> None:
        self.device = usable_device(device)
        if batch is None:
            batch = 1 if self.device.type == "cpu" else 4
        super().__init__(path, batch, **settings)
        self.dtype = _validate.choice(*_DTYPES)("dtype", dtype)
        try:
            model = onnx.load(str(self.path))
        except Exception as error:  # protobuf's own kind
            raise ModelError(f"{self.path}: not an ONNX model: {str(error)[:200]}") from error
        known = {t.name for t in model.graph.initializer}
        inputs = [i.type.tensor_type for i in model.graph.input if i.name not in known]
        shapes = [[d.dim_param or d.dim_value for d in i.shape.dim] for i in inputs]
        self._settle(
            [(shape, i.elem_type in _FLOATS) for shape, i in zip(shapes, inputs, strict=True)],
            [o.name for o in model.graph.output],
        )
        try:
            _keep_one(model, str(self.manifest.output))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net: nn.Module = convert(model)
        except Exception as error:  # it raises classes of its own
            raise ModelError(
                f"{self.path}: cannot be converted to torch: {' '.join(str(error).split())[:300]}"
            ) from error
        for part in net.modules():  # from half precision and back
            if getattr(part, "torch_dtype", None) in (torch.float16, torch.float32):
                part.torch_dtype = _DTYPES[dtype]
        net = net.requires_grad_(False).eval().to(self.device, _DTYPES[dtype])
        self._net: Any = net.to(memory_format=torch.channels_last)
        self._made_by = functools.partial(
            type(self), self.path.absolute(), device=str(self.device), dtype=dtype, batch=batch, **settings
        )

    @property
    def name(self) -> str:
        """The model's, and the precision."""
        return f"{self.manifest.name} {self.dtype}, torch"

    @property
    def providers(self) -> tuple[str]:
        """What it runs on."""
        return (f"torch {self.device}",)

    @property
    def _runtime(self) -> str:
        return f"torch {self.dtype}"

    def _run(self, batch: Floats) -> Any:
        with torch.inference_mode():
            return self._forward(torch.from_numpy(batch).to(self.device)).cpu().numpy()

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        given = batch.to(_DTYPES[self.dtype]).contiguous(memory_format=torch.channels_last)
        with warnings.catch_warnings():  # onnx2torch indexes by a list, which torch is about to give up
            warnings.simplefilter("ignore")
            found: torch.Tensor = self._net(given)
        return found.float()

    def shares(self, images: torch.Tensor) -> torch.Tensor:
        """Share of foreground that the map gives each pixel, differentiable in the pictures.

        Parameters
        ----------
        images : Tensor, float32, (N, H, W)
            Grey, in [0, 1], on the device.

        Returns
        -------
        Tensor, float32, (N, H, W)
            In [0, 1]; above `manifest.threshold` is foreground.

        Raises
        ------
        InvalidTypeError
            Not such a tensor.
        """
        if not isinstance(images, torch.Tensor) or images.dtype != torch.float32 or images.ndim != 3:
            kind = f"{images.dtype} {tuple(images.shape)}" if hasattr(images, "dtype") else type(images).__name__
            raise InvalidTypeError(f"images: received {kind}; accepted: a float32 tensor (N, H, W)")
        mean, scale = (
            torch.from_numpy(v[: self._channels, None, None]).to(self.device) for v in (self._mean, self._scale)
        )
        planes = resized(255.0 * images, self.size, self.size)
        inputs = (planes[:, None] - mean) / scale
        maps = torch.cat([self._forward(part) for part in inputs.split(self._at_once)])
        maps = maps.reshape(len(images), *maps.shape[-2:])
        if self.manifest.normalise == "sigmoid":
            maps = maps.sigmoid()
        shares = resized(maps, *images.shape[-2:])
        if self.manifest.normalise == "min-max":
            low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
            shares = (shares - low) / (high - low).clamp(min=1e-6)
        return shares


def _keep_one(model: Any, output: str) -> None:
    """Keep what leads to one output, in the order in which it is computed."""
    graph = model.graph
    made_by = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    before: dict[int, set[int]] = {}
    waiting = [made_by[output]]
    while waiting:
        k = waiting.pop()
        if k not in before:
            before[k] = {made_by[name] for name in graph.node[k].input if name in made_by}
            waiting += before[k]
    order = [graph.node[k] for k in graphlib.TopologicalSorter(before).static_order()]
    used = {name for node in order for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    outputs = [o for o in graph.output if o.name == output]
    for field, kept in ((graph.node, order), (graph.initializer, weights), (graph.output, outputs)):
        copies = [type(part).FromString(part.SerializeToString()) for part in kept]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
