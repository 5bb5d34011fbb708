"""SAM checkpoints to ONNX: an encoder and a decoder that TensorRT takes, checked against torch before they are kept.

Needs `pip install "sdie-fast[sam]"`. The decoder is `modules.Decoder`, without the two things that TensorRT rejects: a
picture's size as an input, and `repeat_interleave`.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import __version__
from ..errors import InvalidArgumentError, ModelError
from .checkpoint import load_checkpoint
from .geometry import Geometry, Prompt
from .modules import Decoder, RowAttention, restate
from .onnx import Options, open_session
from .onnx_files import quantise, store_in_half, to_onnx
from .sam import PRECISIONS, SamManifest, file_hash, point_arrays

__all__ = ["export_decoder", "export_encoder", "export_sam", "measure_parity"]

# The lowest IoU of masks, and the largest error of the embedding relative to its standard deviation.
PARITY_IOU = {"fp32": 0.99, "fp16": 0.99, "int8": 0.95}
# fp32: onnxruntime's instance normalisation alone is 1.2e-3 off float64 in the small SAM, where torch is 5e-6.
PARITY_ERROR = {"fp32": 5e-3, "fp16": 3e-2, "int8": 0.5}


class _Encoder(nn.Module):
    """fp32 in and out, whatever is between."""

    def __init__(self, encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder, self.dtype = encoder, dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images.to(self.dtype)).float()


class _Float32(nn.Module):
    """A layer kept in fp32 within an fp16 model."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.float()).to(x.dtype)


def _halve(module: nn.Module) -> nn.Module:
    """Everything to fp16 but normalisation, whose sums of squares would overflow."""
    module = module.half()
    for name, child in module.named_children():
        if "Norm" in type(child).__name__:
            setattr(module, name, _Float32(child))
        else:
            _halve(child)
    return module


def export_encoder(sam: Any, precision: str, path: Path) -> None:
    """Write the image encoder: "images" (N, 3, S, S) fp32, normalised, to "embedding" (N, C, h, w) fp32."""
    half = precision == "fp16"
    # A copy, whose attention is replaced; unless they are halved, its weights are the model's own.
    shared = {} if half else {id(p): p for p in sam.image_encoder.parameters()}
    encoder = copy.deepcopy(sam.image_encoder, shared)
    restate(encoder, RowAttention)
    images = torch.zeros(2, 3, encoder.img_size, encoder.img_size)
    wrapped = _Encoder(_halve(encoder), torch.float16) if half else _Encoder(encoder, torch.float32)
    batch = torch.export.Dim("batch", min=1, max=1024)
    to_onnx(wrapped.eval(), (images,), path, (["images"], ["embedding"]), ({0: batch},))
    if precision == "int8":
        quantise(path)
    elif precision == "fp32":
        store_in_half(path)


def export_decoder(sam: Any, path: Path) -> None:
    """Write the decoder, always fp32; see `Sam.decode` for its inputs."""
    decoder = Decoder(sam).eval()
    prompts = torch.export.Dim("prompts", min=1, max=65536)
    points = torch.export.Dim("points", min=1, max=1024)
    dynamic: Any = ({}, {0: prompts, 1: points}, {0: prompts, 1: points}, {0: prompts}, {0: prompts})
    names = ["embedding", "points", "labels", "masks", "has_masks"]
    to_onnx(decoder, decoder.example(2, 3), path, (names, ["logits", "quality"]), dynamic)
    store_in_half(path)


@torch.no_grad()
def measure_parity(sam: Any, directory: Path, manifest: SamManifest) -> dict[str, float]:
    """Compare the files with segment-anything itself, on a seeded picture.

    Returns
    -------
    dict
        "embedding_error": largest difference over the embedding's standard deviation; "mask_iou": the lowest IoU of
        the masks of a point, a box, and both with a mask; "quality_error": largest difference of predicted IoU.
    """
    side = sam.image_encoder.img_size
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.standard_normal((1, 3, side // 16, side // 16)).astype(np.float32))
    image = nn.functional.interpolate(image, (side, side), mode="bicubic")
    expected = sam.image_encoder(image)
    encoder, decoder = (
        open_session(directory / name, Options("cpu"), key=manifest.files[name], precision=precision)
        for name, precision in (("encoder.onnx", manifest.precision), ("decoder.onnx", "fp32"))
    )
    (found,) = encoder.run(images=image.numpy())
    error = float((torch.from_numpy(found) - expected).abs().max() / expected.std())
    low = 4 * sam.prompt_encoder.image_embedding_size[0]
    mask = (nn.functional.interpolate(image[:, :1], (low, low), mode="bilinear") * 4.0)[0].numpy()
    point, inside = np.array([[[0.4, 0.6]]], np.float32) * side, np.ones((1, 1), np.float32)
    box = np.array([[0.2, 0.1, 0.7, 0.8]], np.float32) * side
    worst, quality_error = 1.0, 0.0
    for prompt in (Prompt(point, inside), Prompt(boxes=box), Prompt(point, inside, box, mask)):
        at, labels, boxes, masks = (
            None if v is None else torch.from_numpy(v)
            for v in (prompt.points, prompt.labels, prompt.boxes, prompt.masks)
        )
        masks = None if masks is None else masks[None]
        sparse, dense = sam.prompt_encoder(points=None if at is None else (at, labels), boxes=boxes, masks=masks)
        truth, quality = sam.mask_decoder.predict_masks(
            image_embeddings=expected,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        given = point_arrays(prompt, Geometry(side, side, side))
        logits, judged = decoder.run(
            embedding=found,
            points=given[0],
            labels=given[1],
            masks=np.zeros((1, 1, low, low), np.float32) if masks is None else masks.numpy(),
            has_masks=np.full((1, 1, 1, 1), masks is not None, np.float32),
        )
        # Random weights give masks of noise around zero: there, compare where torch itself is sure.
        sure = truth.abs() > 0.02 * truth.std()
        a, b = (torch.from_numpy(logits) > 0) & sure, (truth > 0) & sure
        both, either = (a & b).sum((2, 3)), (a | b).sum((2, 3))
        iou = torch.where(either > 0, both / either.clamp(min=1), torch.ones(()))
        worst = min(worst, float(iou.min()))
        quality_error = max(quality_error, float((torch.from_numpy(judged) - quality).abs().max()))
    return {"embedding_error": error, "mask_iou": worst, "quality_error": quality_error}


def export_sam(
    checkpoint: Path | None,
    directory: Path,
    *,
    architecture: str | None = None,
    precision: str = "fp32",
    model: Any = None,
    progress: Callable[[str], None] = lambda _: None,
) -> SamManifest:
    """Export a checkpoint, and keep it only if it answers as torch does.

    Parameters
    ----------
    checkpoint : Path or None
        The file; None with `model`.
    directory : Path
        Made; appears whole, by a rename, and must not exist or be empty.
    architecture : {"vit_b", "vit_l", "vit_h", "small"}, optional
        What the checkpoint must be; None means what it is.
    precision : {"fp32", "fp16", "int8"}
        Of the encoder; the decoder is fp32. int8 is for CPUs, and for the linear layers of ViT.
    model : Sam, optional
        Instead of a checkpoint, with `architecture`.
    progress : callable
        Told what is being done.

    Raises
    ------
    InvalidArgumentError
        No such precision, or a directory that has something in it.
    ModelError
        The checkpoint cannot be used, or the exported files fail the parity gate: embedding error
        over 1e-3 (fp32), 3e-2 (fp16) or 0.5 (int8), or mask IoU below 0.99 (int8: 0.95).
    """
    if precision not in PRECISIONS:
        raise InvalidArgumentError(f"precision: received {precision!r}; accepted: {', '.join(PRECISIONS)}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidArgumentError(f"directory: {directory} has something in it; accepted: an empty or a new one")
    if model is None:
        if checkpoint is None:
            raise InvalidArgumentError("checkpoint: received None without a model")
        progress("reading the checkpoint")
        model, architecture = load_checkpoint(checkpoint, architecture)
    if precision == "int8" and architecture == "small":
        raise InvalidArgumentError(
            "precision: received 'int8' for the small SAM, whose encoder has no linear layers; accepted: fp32, fp16"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        progress("exporting the encoder")
        export_encoder(model, precision, scratch / "encoder.onnx")
        progress("exporting the decoder")
        export_decoder(model, scratch / "decoder.onnx")
        manifest = SamManifest(
            name=str(architecture),
            precision=precision,
            size=int(model.image_encoder.img_size),
            channels=int(model.prompt_encoder.embed_dim),
            embedding_size=int(model.prompt_encoder.image_embedding_size[0]),
            pixel_mean=tuple(float(v) for v in model.pixel_mean.flatten()),
            pixel_std=tuple(float(v) for v in model.pixel_std.flatten()),
            mask_threshold=float(model.mask_threshold),
            files={p.name: file_hash(p) for p in sorted(scratch.iterdir())},
            made_with={
                "sdie_fast": __version__,
                **{name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
            },
        )
        progress("comparing with torch")
        parity = measure_parity(model, scratch, manifest)
        if parity["embedding_error"] > PARITY_ERROR[precision] or parity["mask_iou"] < PARITY_IOU[precision]:
            raise ModelError(f"{directory}: not written, since the exported model differs from torch's: {parity}")
        manifest.parity.update(parity)
        manifest.save(scratch)
        if directory.exists():
            directory.rmdir()
        scratch.rename(directory)
        directory.chmod(0o755)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest
