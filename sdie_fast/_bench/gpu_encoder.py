"""SAM's image encoder in torch: `TorchSam` beside segment-anything's own modules, random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import SdieError
from .gpu_timing import Clock, Timed

ERROR = 0.05  # of a bfloat16 embedding from the float32 one, over its spread


@dataclasses.dataclass(frozen=True)
class EncoderCandidate:
    """A way of encoding a batch; `embed` gives (n, C, h, w) float32 on the host for the first set."""

    timed: Timed
    embed: Callable[[], Any]


def random_sam(torch: Any, architecture: str) -> Any:
    """segment-anything's model with seeded random weights; positions too, which are zero in a fresh one."""
    from ..segment.checkpoint import build

    torch.manual_seed(0)
    model = build(architecture).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                p.normal_(0, 0.02)
    return model


def candidates(
    torch: Any,
    device: str,
    architecture: str,
    batch: int,
    clock: Clock,
    stream: Any,
    compiled: bool,
) -> dict[str, EncoderCandidate]:
    """Prepare the candidates, the float32 truth first; compiled: ours by torch.compile alone.

    Images are of the encoder's own size, on the device, and differ from call to call.
    """
    from ..segment.torch_sam import TorchSam

    model = random_sam(torch, architecture)
    side = int(model.image_encoder.img_size)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (3, batch, side, side, 3), np.uint8)).to(device)

    def on_stream(call: Callable[[Any], Any]) -> Callable[[int], Any]:
        def run(k: int) -> Any:
            with torch.no_grad(), torch.cuda.stream(stream):
                return call(images[k % len(images)])

        return run

    def candidate(call: Callable[[Any], Any]) -> EncoderCandidate:
        run = on_stream(call)

        def embed() -> Any:
            result = run(0)
            if stream:
                stream.synchronize()
            return result.float().cpu().numpy()

        return EncoderCandidate(Timed(run, clock), embed)

    def plain(dtype: Any) -> Callable[[Any], Any]:
        import copy

        encoder = copy.deepcopy(model.image_encoder).to(device, dtype)
        mean, std = (v.flatten().to(device) for v in (model.pixel_mean, model.pixel_std))

        def call(batch_of: Any) -> Any:
            x = ((batch_of.float() - mean) / std).permute(0, 3, 1, 2).to(dtype)
            return encoder(x)

        return call

    def ours(compile_: bool) -> Callable[[Any], Any]:
        sam = TorchSam(model, device=device, dtype="bfloat16", batch=batch, compile=compile_)
        return lambda batch_of: sam.encode(batch_of).features

    found = {"segment-anything, float32": candidate(plain(torch.float32))}
    if compiled:
        return found | {"TorchSam, bfloat16, compiled": candidate(ours(True))}
    return found | {
        "TorchSam, bfloat16": candidate(ours(False)),
        "segment-anything, bfloat16": candidate(plain(torch.bfloat16)),
    }


def error_of(true: Any, embedding: Any) -> float:
    """Root mean square error of an embedding over the spread of the true one.

    Raises
    ------
    SdieError
        More than bfloat16 explains.
    """
    if true.shape != embedding.shape:
        raise SdieError(f"the embedding has shape {embedding.shape}; {true.shape} expected")
    error = float(np.sqrt(np.mean((embedding - true) ** 2)) / true.std())
    if not error <= ERROR:
        raise SdieError(f"the embedding is off by {error:.3f} of its spread; {ERROR} expected")
    return error
