"""torch modules to ONNX files, and their weights: fp16 where that loses nothing, int8 where it was asked for.

Needs torch and onnx; int8 needs onnxruntime too.
"""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

__all__ = ["quantise", "store_in_half", "to_onnx"]

OPSET = 18
EXTERNAL_OVER = 1_800_000_000  # bytes of weights; protobuf ends at 2 GiB


def to_onnx(
    module: nn.Module, args: tuple[torch.Tensor, ...], path: Path, names: tuple[list[str], list[str]], dynamic: Any
) -> None:
    """Write a module, its inputs and outputs named, and what of their shapes may vary (`torch.onnx.export`)."""
    weight = sum(p.numel() * p.element_size() for p in module.parameters())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            args,
            str(path),
            input_names=names[0],
            output_names=names[1],
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            external_data=weight > EXTERNAL_OVER,
            verbose=False,
        )
    # The weights beside the graph stay where they are.
    model = onnx.load(str(path), load_external_data=False)
    _forget_origins(model.graph)
    _order_gelu(model.graph)
    onnx.save(model, str(path))


def _forget_origins(graph: Any) -> None:
    """Drop what torch notes of each node, such as stack traces: up to a third of a small file."""
    parts = (graph.node, graph.value_info, graph.input, graph.output, graph.initializer)
    for holder in (graph, *itertools.chain.from_iterable(parts)):
        del holder.metadata_props[:]


def _order_gelu(graph: Any) -> None:
    """Write x * (0.5 * (1 + erf)) as (x * (1 + erf)) * 0.5: the same bits, in the order that onnxruntime fuses."""
    half = {t.name for t in graph.initializer if _is_half(t)}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for erf in (node for node in graph.node if node.op_type == "Erf"):
        chain = [erf]
        while len(chain) < 4 and len(users.get(chain[-1].output[0], ())) == 1:
            chain.append(users[chain[-1].output[0]][0])
        if [node.op_type for node in chain] != ["Erf", "Add", "Mul", "Mul"]:
            continue
        _, plus, first, second = chain
        factor = next(name for name in first.input if name != plus.output[0])
        if factor not in half:
            continue
        x = next(name for name in second.input if name != first.output[0])
        first.input[:] = [x, plus.output[0]]
        second.input[:] = [first.output[0], factor]


def _is_half(tensor: Any) -> bool:
    return not tensor.dims and float(numpy_helper.to_array(tensor)) == 0.5


def store_in_half(path: Path) -> None:
    """Halve the file of a model whose weights fp16 holds exactly; they are cast to fp32 when it is loaded."""
    if path.with_name(path.name + ".data").exists():
        return
    model = onnx.load(str(path))
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < 256:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half, values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(onnx.helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
    if casts:
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, str(path))


def quantise(path: Path) -> None:
    """Linear layers to int8: weights for each output, activations for each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(path), load_external_data=False).graph
    matrices = {t.name for t in graph.initializer if len(t.dims) == 2}
    layers = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] in matrices]
    external = path.with_name(path.name + ".data").exists()
    target = path.with_suffix(".int8")
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it suggests a step that this graph does not need
    try:
        quantize_dynamic(
            path,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=layers,
            per_channel=True,
            reduce_range=True,  # 7 bits: sums of pairs saturate in 16 bits on CPUs without VNNI
            weight_type=QuantType.QInt8,
            use_external_data_format=False,
            extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
        )
    finally:
        logging.getLogger().setLevel(level)
    target.replace(path)
    if external:
        path.with_name(path.name + ".data").unlink()
