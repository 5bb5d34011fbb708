"""The small SAM's weights, read back from the ONNX files that ship: torch needs no other file.

Needs `pip install "sdie-fast[sam]"`. An exporter renames what it folds (a linear layer's transposed matrix, a norm's
weights), so that these are found by where they stand: a matrix beside its bias, norms in the order in which they are computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

from ..errors import ModelError
from .decoder import Decoder
from .manifest import load_manifest
from .small import build_small_sam

Weights = dict[str, torch.Tensor]


def read_small_sam(directory: Path) -> Any:
    """Build the small SAM with the weights of a directory that `sdie-fast export-sam` wrote.

    Raises
    ------
    ModelError
        Another model's directory (theirs are in their checkpoint), or one that cannot be read.
    """
    manifest = load_manifest(directory)
    if manifest.name != "small" or manifest.precision != "fp32":
        raise ModelError(
            f"{directory}: holds {manifest.name} {manifest.precision} as ONNX, which torch does not run; "
            "give the checkpoint (.pth) that it was exported from"
        )
    sam = build_small_sam()
    side = sam.image_encoder.img_size
    decoder = Decoder(sam)
    low = 4 * sam.prompt_encoder.image_embedding_size[0]
    prompt = (
        torch.zeros(1, 1, 2),
        torch.zeros(1, 1),
        torch.zeros(1, 1, low, low),
        torch.ones(1, 1, 1, 1),
    )
    embedding = torch.zeros(1, manifest.channels, manifest.embedding_size, manifest.embedding_size)
    try:
        encoder_weights = _match(
            directory / "encoder.onnx", {"encoder": sam.image_encoder}, sam.image_encoder,
            (torch.zeros(1, 3, side, side),),
        )  # fmt: skip
        decoder_weights = _match(
            directory / "decoder.onnx", {"prompt": sam.prompt_encoder, "mask": sam.mask_decoder},
            decoder, (embedding, *prompt),
        )  # fmt: skip
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise ModelError(f"{directory}: its weights cannot be read back: {error!r}") from error
    tokens = decoder_weights.pop("tokens")[0]
    mask = sam.mask_decoder
    with torch.no_grad():
        mask.iou_token.weight.copy_(tokens[:1])
        mask.mask_tokens.weight.copy_(tokens[1:])
    taken = {"mask.iou_token.weight", "mask.mask_tokens.weight", "prompt.no_mask_embed.weight"}
    for modules, found in (
        ({"encoder": sam.image_encoder}, encoder_weights),
        ({"prompt": sam.prompt_encoder, "mask": mask}, decoder_weights),
    ):
        state = {
            f"{prefix}.{name}": value
            for prefix, module in modules.items()
            for name, value in module.state_dict(keep_vars=True).items()
        }
        missing = sorted(set(state) - set(found) - taken)
        if missing:
            raise ModelError(f"{directory}: its weights cannot be read back: {missing[0]} is missing")
        for name, value in found.items():
            state[name].data.copy_(value.reshape(state[name].shape))
    return sam.eval()


@torch.no_grad()
def _match(path: Path, named: dict[str, nn.Module], model: nn.Module, inputs: Any) -> Weights:
    """A graph's weights by the names of the module's parameters, `named` giving each part's prefix; the tokens as "tokens"."""
    graph = onnx.load(str(path)).graph
    values = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in graph.initializer if _floats(t)}
    for node in graph.node:  # what is stored in half is cast where it is used
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    found = {name.removesuffix("_half"): value for name, value in values.items() if name.split(".")[0] in named}
    makers = {out: node for node in graph.node for out in node.output}
    norms = _norms_in_order(named, model, inputs)
    # Whatever else there is stands before the sum with a constant.
    for node in graph.node:
        known, others = _constants(node, values), [n for n in node.input if n not in values]
        maker = makers.get(others[0]) if others else None
        factors = [] if maker is None else _constants(maker, values)
        if node.op_type != "Add" or maker is None or len(known) != 1 or not factors:
            continue
        added, factor = values[known[0]], values[factors[0]]
        bias = known[0].removesuffix("_half")
        if maker.op_type == "MatMul" and bias.endswith(".bias"):
            found[bias.removesuffix("bias") + "weight"] = factor.T
        elif maker.op_type == "Mul" and added.ndim == factor.ndim == 3:  # (C, 1, 1)
            name = norms.pop(0)
            found |= {f"{name}.weight": factor.ravel(), f"{name}.bias": added.ravel()}
        elif maker.op_type == "Mul" and added.ndim == 3 and factor.size == 1:
            found["tokens"] = added  # of `Decoder.predict`: tokens + 0 * sparse
    if norms:
        raise ValueError(f"{norms[0]} was not found")
    return {name: torch.from_numpy(value.copy()) for name, value in found.items()}


def _constants(node: Any, values: dict[str, Any]) -> list[str]:
    return [name for name in node.input if name in values]


def _floats(tensor: Any) -> bool:
    return tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _norms_in_order(named: dict[str, nn.Module], model: nn.Module, inputs: Any) -> list[str]:
    """Names of the norms over channels in the order in which they run."""
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=f"{prefix}.{inner}": order.append(name))
        for prefix, part in named.items()
        for inner, module in part.named_modules()
        if isinstance(module, (nn.GroupNorm, LayerNorm2d))
    ]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return order
