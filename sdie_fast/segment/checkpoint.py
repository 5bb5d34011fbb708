"""Where a SAM in torch comes from: a checkpoint, or, for the small one, the ONNX files that ship.

Needs `pip install "sdie-fast[sam]"`. Nothing in a checkpoint is executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from segment_anything import sam_model_registry
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

from ..errors import InvalidArgumentError, ModelError
from .modules import Decoder
from .sam import load_manifest
from .small import build_small_sam

__all__ = ["architecture_of", "build", "load_checkpoint", "read_small_sam"]

ARCHITECTURES = ("vit_b", "vit_l", "vit_h", "small")


def build(architecture: str) -> Any:
    """Build a SAM with random weights.

    Raises
    ------
    InvalidArgumentError
        No such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise InvalidArgumentError(f"architecture: received {architecture!r}; accepted: {', '.join(ARCHITECTURES)}")
    return build_small_sam() if architecture == "small" else sam_model_registry[architecture]().eval()


def architecture_of(state: dict[str, Any]) -> str:
    """Tell a checkpoint's architecture by its shapes.

    Raises
    ------
    ModelError
        None of those known.
    """
    if "image_encoder.stem.weight" in state:
        return "small"
    widths = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
    position = state.get("image_encoder.pos_embed")
    width = int(position.shape[-1]) if position is not None else 0
    if width not in widths:
        raise ModelError("not a checkpoint of segment-anything's ViT-B, ViT-L or ViT-H, nor of the small SAM")
    return widths[width]


def load_checkpoint(path: Path, architecture: str | None = None) -> tuple[Any, str]:
    """Read a checkpoint, as the official releases and `tools/train_small_sam.py` write them.

    Parameters
    ----------
    path : Path
        The file; nothing in it is executed (`weights_only`).
    architecture : str, optional
        What it must be; None means what its shapes say.

    Returns
    -------
    model, architecture

    Raises
    ------
    ModelError
        It cannot be read, or holds another architecture's weights.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise ModelError(f"{path}: not a checkpoint: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{path}: not a state dictionary of tensors")
    try:
        found = architecture_of(state)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if architecture is not None and architecture != found:
        raise ModelError(f"{path}: holds {found}, not {architecture}")
    model = build(found)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit {found}: {' '.join(str(error).split())[:300]}") from error
    return model.eval(), found


def read_small_sam(directory: Path) -> Any:
    """Build the small SAM with the weights of a directory that `sdie-fast export-sam` wrote.

    An exporter renames what it folds (a linear layer's transposed matrix, a norm's weights), so that these are found
    by where they stand: a matrix beside its bias, norms in the order in which they are computed.

    Raises
    ------
    ModelError
        Another model's directory (theirs are in their checkpoint), or one that cannot be read.
    """
    manifest = load_manifest(directory)
    if not manifest.small or manifest.precision != "fp32":
        raise ModelError(
            f"{directory}: holds {manifest.name} {manifest.precision} as ONNX, which torch does not run; "
            "give the checkpoint (.pth) that it was exported from"
        )
    sam = build_small_sam()
    decoder = Decoder(sam)
    images = torch.zeros(1, 3, sam.image_encoder.img_size, sam.image_encoder.img_size)
    for name, parts, model, inputs in (
        ("encoder.onnx", {"encoder": sam.image_encoder}, sam.image_encoder, (images,)),
        ("decoder.onnx", {"prompt": sam.prompt_encoder, "mask": sam.mask_decoder}, decoder, decoder.example(1, 1)),
    ):
        state = {f"{part}.{k}": v for part, m in parts.items() for k, v in m.state_dict(keep_vars=True).items()}
        try:
            found = _match(directory / name, parts, model, inputs)
            missing = sorted(set(state) - set(found) - {"prompt.no_mask_embed.weight"})
            if missing:
                raise ValueError(f"{missing[0]} is missing")
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise ModelError(f"{directory}: its weights cannot be read back: {error!r}") from error
        for key, value in found.items():
            state[key].data.copy_(value.reshape(state[key].shape))
    return sam.eval()


@torch.no_grad()
def _match(path: Path, named: dict[str, nn.Module], model: nn.Module, inputs: Any) -> dict[str, torch.Tensor]:
    """A graph's weights by the names of the module's parameters, `named` giving each part's prefix."""
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
            # Of `Decoder.predict`: tokens + 0 * sparse.
            found |= {"mask.iou_token.weight": added[0, :1], "mask.mask_tokens.weight": added[0, 1:]}
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
