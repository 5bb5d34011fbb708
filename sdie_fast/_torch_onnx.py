"""torch modules to ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

OPSET = 18
EXTERNAL_OVER = 1_800_000_000  # bytes of weights; protobuf ends at 2 GiB


def to_onnx(
    module: nn.Module,
    args: tuple[torch.Tensor, ...],
    path: Path,
    names: tuple[list[str], list[str]],
    dynamic: Any,
) -> None:
    """Write a module with the names of its inputs and outputs, and what of their shapes may vary (`torch.onnx.export`)."""
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
