"""SAM in torch: for training on a GPU, where images, embeddings, logits and masks stay on the device.

Needs `pip install "sdie-fast[sam]"`. On a CPU it gives the same answers as the ONNX files, only slower.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import _validate
from ..errors import InvalidTypeError, ModelError
from . import tensors
from .checkpoint import architecture_of, load_checkpoint, read_small_sam
from .geometry import Embeddings, Floats, Prompt
from .modules import Decoder, FusedAttention, restate
from .sam import SMALL_SAM, SMALL_THRESHOLDS, point_arrays
from .segmenter import Segmenter, geometries_of, geometry_of_one

__all__ = ["TorchSam"]

LOGITS = 2**28  # held at once: 1 GiB
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchSam(Segmenter):
    """A SAM, whole or small, in torch.

    Parameters
    ----------
    source : path or Module, optional
        An official checkpoint (ViT-B, ViT-L, ViT-H), one of tools/train_small_sam.py, a directory with the small SAM
        as `sdie-fast export-sam` writes it, or segment-anything's `Sam` itself, of which a copy is made. None means
        the small SAM that ships.
    device : str
        "cpu", "cuda", "cuda:1".
    dtype : {"float32", "bfloat16"}
        Of the encoder's weights and arithmetic.
    decoder_dtype : {"float32", "bfloat16"}
        Of the decoder's matrix products. Its predicted IoU, which thresholds are compared with, has steps of 1/256
        with bfloat16; places of prompts are float32 always.
    batch : int
        Images encoded at once, 1 or more: what fits in memory.
    prompts : int, optional
        Prompts decoded at once, of any of the images, 1 or more; None means 8 on a CPU and 64 elsewhere.
    compile : bool
        Whether torch.compile makes the encoder faster: the first image of each batch size then takes a minute or so.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        A value that cannot be used.
    ModelError
        A file that cannot be used, or a device that is not there.
    """

    takes_tensors = True

    def __init__(
        self,
        source: Path | str | torch.nn.Module | None = None,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        decoder_dtype: str = "float32",
        batch: int = 8,
        prompts: int | None = None,
        compile: bool = False,
    ) -> None:
        self.device = tensors.usable_device(device)
        for name, value in (("dtype", dtype), ("decoder_dtype", decoder_dtype)):
            _validate.choice(*DTYPES)(name, value)
        self.dtype, self.decoder_dtype = dtype, decoder_dtype
        self._batch = _validate.integer(1, 2**16)("batch", batch)
        usual = 8 if self.device.type == "cpu" else 64
        self._prompts = _validate.integer(1, 2**16)("prompts", usual if prompts is None else prompts)
        sam, self.architecture = _load(source)
        sam = sam.requires_grad_(False).eval().to(self.device)
        self._mean, self._std = sam.pixel_mean.flatten(), sam.pixel_std.flatten()
        self._size = int(sam.image_encoder.img_size)
        self.low = 4 * int(sam.prompt_encoder.image_embedding_size[0])
        self.at_once = max(LOGITS // (4 * self.low**2), 1)
        self._decoder = Decoder(sam).eval().to(self.device)
        restate(sam.image_encoder, FusedAttention)
        # Convolutions on tensor cores want a pixel's channels side by side.
        memory = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        self._memory = memory
        self._encoder = sam.image_encoder.to(dtype=DTYPES[dtype], memory_format=memory)
        self._run: Any = torch.compile(self._encoder) if _validate.flag("compile", compile) else self._encoder

    @property
    def name(self) -> str:
        """Architecture and precision."""
        return f"SAM {self.architecture} {self.dtype}, torch"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, and what else answers depend on."""
        digest = hashlib.sha256()
        for part in (self._encoder, self._decoder):
            for name, value in sorted(part.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.contiguous().view(torch.uint8).cpu().numpy().tobytes())
        return f"torch {digest.hexdigest()} {self.dtype} {self.decoder_dtype} {self.thresholds}"

    @property
    def size(self) -> int:
        """Side of the model's square input in pixels."""
        return self._size

    @property
    def thresholds(self) -> tuple[float, float]:
        """Lowest predicted IoU and stability for "auto", as `Sam.thresholds`."""
        return SMALL_THRESHOLDS if self.architecture == "small" else super().thresholds

    @property
    def providers(self) -> tuple[str, str]:
        """What the encoder and the decoder run on."""
        return f"torch {self.device}", f"torch {self.device}"

    def take(self, images: Any, axes: str | None = None) -> list[Any]:
        """Split images into views, as `Segmenter.take`; tensors and arrays on a GPU stay where they are."""
        return tensors.as_views(images, axes)

    @torch.no_grad()
    def encode(self, images: Any, axes: str | None = None) -> Embeddings:
        """Embed images: see `Segmenter.encode`.

        Parameters
        ----------
        images, axes
            As for `Segmenter.encode`; also tensors of the same shapes and types, and arrays on a GPU (DLPack or
            `__cuda_array_interface__`), which are not copied to the host.

        Returns
        -------
        Embeddings
            `features` is a float32 tensor on the device.
        """
        views = self.take(images, axes)
        geometries = geometries_of(views, self.size)
        found = []
        for start in range(0, len(views), self._batch):
            part = slice(start, start + self._batch)
            batch = tensors.input_of(views[part], geometries[part], self._mean, self._std, self.device)
            batch = batch.to(DTYPES[self.dtype]).contiguous(memory_format=self._memory)
            found.append(self._run(batch).float().contiguous())
        return Embeddings(torch.cat(found), tuple(geometries))

    def decode(self, embedding: Embeddings, prompt: Prompt) -> tuple[Floats, Floats]:
        """Decode K prompts on one image's embedding to arrays; `predict` leaves them on the device."""
        geometry_of_one(embedding)
        logits, quality = self.predict(embedding, [prompt])
        return logits.cpu().numpy(), quality.cpu().numpy()

    @torch.no_grad()
    def predict(self, embeddings: Embeddings, prompts: Sequence[Prompt], masks: Any = None) -> tuple[Any, Any]:
        """Decode prompts on the embeddings of one or several images, to tensors: see `Segmenter.predict`."""
        checked = [p.checked(g, self.low) for p, g in zip(prompts, embeddings.geometries, strict=True)]
        pairs = [point_arrays(p, g) for p, g in zip(checked, embeddings.geometries, strict=True)]
        of_image = [k for k, p in enumerate(checked) for _ in range(len(p))]
        points, labels = (torch.cat([torch.from_numpy(pair[k]) for pair in pairs]).to(self.device) for k in range(2))
        rows = torch.tensor(of_image).to(self.device)
        if masks is None and checked[0].masks is not None:
            masks = torch.cat([torch.as_tensor(p.masks) for p in checked]).to(self.device)
        features = torch.as_tensor(embeddings.features).to(self.device)
        logits, quality = [], []
        for start in range(0, len(rows), self._prompts):
            part = slice(start, start + self._prompts)
            single = of_image[part][0] == of_image[part][-1]
            own = features[of_image[start]][None] if single else features[rows[part]]
            before = None if masks is None else masks[part, None]
            has = None if before is None else before.new_ones(len(before), 1, 1, 1)
            sparse, dense = self._decoder.embed(points[part], labels[part], before, has)
            half = self.decoder_dtype != "float32"
            with torch.autocast(self.device.type, DTYPES[self.decoder_dtype], enabled=half):
                found = self._decoder.predict(own, sparse, dense)
            logits.append(found[0].float())
            quality.append(found[1].float())
        return torch.cat(logits), torch.cat(quality)


def _load(source: Any) -> tuple[Any, str]:
    if isinstance(source, torch.nn.Module):
        state = source.state_dict()
        try:
            return copy.deepcopy(source), architecture_of(state)
        except ModelError:
            return copy.deepcopy(source), type(source.image_encoder).__name__
    if source is not None and not isinstance(source, (str, os.PathLike)):
        raise InvalidTypeError(
            f"source: received {type(source).__name__}; accepted: a path, a Sam of segment-anything, None"
        )
    path = SMALL_SAM if source is None else Path(source)
    if path.is_dir():
        return read_small_sam(path), "small"
    return load_checkpoint(path)
