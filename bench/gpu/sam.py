"""SAM's image encoder in torch: `TorchSam` beside segment-anything's own modules, random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from clock import Method, Runner

from sdie_fast import SdieError
from sdie_fast.segment.checkpoint import build
from sdie_fast.segment.torch_sam import TorchSam

__all__ = ["Encoders"]

ERROR = 0.05  # of a bfloat16 embedding from the float32 one, over its spread


class Encoders:
    """Ways of encoding batches of images of the encoder's own size, on the device, which differ from call to call.

    `truth` is the float32 embedding of the first batch.
    """

    sample, units = 0.1, 1.0  # seconds that a sample takes at least; of an image

    def __init__(self, runner: Runner) -> None:
        torch = runner.torch
        architecture, batch = ("vit_b", 8) if runner.name == "cuda" else ("small", 2)
        title = f"SAM's encoder, {architecture}, batches of {batch}"
        self.about = {"case": "encoder", "title": title, "unit": "images/s"}
        torch.manual_seed(0)
        self.runner, self.batch, self.model = runner, batch, build(architecture).eval()
        with torch.no_grad():
            for key, p in self.model.named_parameters():
                if "rel_pos" in key or "pos_embed" in key:  # all zero in a fresh model
                    p.normal_(0, 0.02)
        side = int(self.model.image_encoder.img_size)
        images = np.random.default_rng(0).integers(0, 256, (3, batch, side, side, 3), np.uint8)
        self.images = torch.from_numpy(images).to(runner.name)
        self.truth = self.answer(self.plain(torch.float32))

    def _method(self, encode: Callable[[Any], Any]) -> Method:
        call = self.runner.on_stream(lambda k: encode(self.images[k % len(self.images)]))
        return Method(call, self.batch)

    def plain(self, dtype: Any) -> Method:
        """segment-anything's module as it is."""
        to = self.runner.name
        encoder = copy.deepcopy(self.model.image_encoder).to(to, dtype)
        mean, std = (v.flatten().to(to) for v in (self.model.pixel_mean, self.model.pixel_std))
        return self._method(lambda images: encoder(((images.float() - mean) / std).permute(0, 3, 1, 2).to(dtype)))

    def ours(self, *, compiled: bool = False) -> Method:
        """`TorchSam` in bfloat16, on request by torch.compile."""
        sam = TorchSam(self.model, device=self.runner.name, dtype="bfloat16", batch=self.batch, compile=compiled)
        return self._method(lambda images: sam.encode(images).features)

    def makers(self, *, compiled: bool) -> dict[str, Callable[[], Method]]:
        """List the candidates, the float32 one first; compiled: ours by torch.compile alone."""
        torch = self.runner.torch
        found = {"segment-anything, float32": lambda: self.plain(torch.float32)}
        if compiled:
            return found | {"TorchSam, bfloat16, compiled": lambda: self.ours(compiled=True)}
        return found | {
            "TorchSam, bfloat16": self.ours,
            "segment-anything, bfloat16": lambda: self.plain(torch.bfloat16),
        }

    def answer(self, method: Method) -> npt.NDArray[Any]:
        """Read what a method makes of the first batch, float32."""
        return self.runner.read(method.call(0))

    def judge(self, name: str, _method: Method, embedding: npt.NDArray[Any]) -> str:
        """Say how far an embedding is off: its root mean square error over the spread of the true one.

        Raises
        ------
        SdieError
            More than bfloat16 explains.
        """
        if self.truth.shape != embedding.shape:
            raise SdieError(f"{name}: the embedding has shape {embedding.shape}; {self.truth.shape} expected")
        error = float(np.sqrt(np.mean((embedding - self.truth) ** 2)) / self.truth.std())
        if not error <= ERROR:
            raise SdieError(f"{name}: the embedding is off by {error:.3f} of its spread; {ERROR} expected")
        return f"{error:.4f} of the embedding's spread"
