"""A map model's ONNX graph in torch: its gradient, and bfloat16, which CPUs with AMX run several times as fast.

Needs torch and onnx2torch.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx2torch import convert
from torch import nn

from .. import _validate
from ..errors import InvalidArgumentError, ModelError
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
        The model file, or a directory that holds one, with its JSON: see `maps.MapManifest`.
    device : str
        "cpu", "cuda", "cuda:1".
    dtype : {"float32", "bfloat16"}
        Of weights and arithmetic; half-precision graphs are widened to it. The map is float32.
    batch : int
        Pictures run at once, where the model's first axis is free.
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
        self, path: Path | str, *, device: str = "cpu", dtype: str = "float32", batch: int = 4, **settings: Any
    ) -> None:
        super().__init__(path, batch, **settings)
        self.device = usable_device(device)
        self.dtype = _validate.choice(*_DTYPES)("dtype", dtype)
        try:
            model = onnx.load(str(self.path))
        except Exception as error:  # protobuf's own kind
            raise ModelError(f"{self.path}: not an ONNX model: {str(error)[:200]}") from error
        known = {t.name for t in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in known]
        outputs = [o.name for o in model.graph.output]
        if len(inputs) != 1:
            raise ModelError(f"{self.path}: has {len(inputs)} inputs; accepted: one, the picture")
        dims = inputs[0].type.tensor_type.shape.dim
        self._settle([d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims])
        chosen = self.manifest.output or outputs[0]
        if chosen not in outputs:
            raise InvalidArgumentError(f"output: received {chosen!r}; {self.path} has {', '.join(outputs)}")
        _keep_one(model, chosen)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net: nn.Module = convert(model)
        except Exception as error:  # it raises classes of its own
            raise ModelError(
                f"{self.path}: cannot be converted to torch: {' '.join(str(error).split())[:300]}"
            ) from error
        net = net.requires_grad_(False).eval().to(self.device, _DTYPES[dtype])
        self._net: Any = net.to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """The model's, and the precision."""
        return f"{self.manifest.name} {self.dtype}, torch"

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
        """
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
    """Keep what leads to one output, in order and without casts from one kind of real numbers to another."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    made_by = {name: node for node in graph.node for name in node.output}

    def source(name: str) -> str:
        """Where a value comes from, across casts."""
        node = made_by.get(name)
        while node is not None and node.op_type == "Cast" and node.attribute[0].i in _FLOATS:
            name = node.input[0]
            node = made_by.get(name)
        return name

    last = made_by[source(output)]
    order: list[Any] = []
    done: set[str] = set()
    waiting = [last]
    while waiting:  # depth first, without recursion: such graphs are deep
        node = waiting[-1]
        node.input[:] = [source(name) for name in node.input]
        before = [made_by[n] for n in node.input if n in made_by and made_by[n].output[0] not in done]
        if before:
            waiting += before
            continue
        waiting.pop()
        if node.output[0] not in done:
            done.add(node.output[0])
            order.append(node)
    last.output[list(last.output).index(source(output))] = output
    used = {name for node in order for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    outputs = [o for o in graph.output if o.name == output]
    for field, kept in ((graph.node, order), (graph.initializer, weights), (graph.output, outputs)):
        copies = [type(part).FromString(part.SerializeToString()) for part in kept]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
