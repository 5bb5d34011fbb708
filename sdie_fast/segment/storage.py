"""How an exported model's weights are stored: fp16 where that loses nothing, int8 where it was asked for.

Needs onnx and onnxruntime (`pip install "sdie-fast[sam]"`).
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic


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
            weight_type=QuantType.QInt8,
            use_external_data_format=False,
            extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
        )
    finally:
        logging.getLogger().setLevel(level)
    target.replace(path)
    if external:
        path.with_name(path.name + ".data").unlink()
