"""SAM checkpoints: which architecture they hold, and reading them without executing anything in them.

Needs `pip install "sdie-fast[sam]"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry

from ..errors import InvalidArgumentError, ModelError
from .small import build_small_sam

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
