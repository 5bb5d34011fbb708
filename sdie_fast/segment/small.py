"""The small SAM that ships: segment-anything's own model with a small convolutional image encoder.

Needs torch and segment-anything (`pip install "sdie-fast[sam]"`); only training and export do, not the shipped model.
"""

from __future__ import annotations

import itertools

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn
from torch.nn import functional

from ..errors import InvalidArgumentError

IMAGE_SIZE = 256
EMBEDDING_SIZE = 32
EMBEDDING_CHANNELS = 64
PIXEL_MEAN = [118.0, 118.0, 118.0]
PIXEL_STD = [58.0, 58.0, 58.0]


class Norm(nn.Module):
    """Group normalisation with eight channels a group: no statistics of a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels // 8, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W)."""
        return self.norm(x)


class Block(nn.Module):
    """Residual pair of 3 x 3 convolutions (He et al. 2016, with normalisation before each)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1, self.norm2 = Norm(channels), Norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same."""
        y = self.first(functional.relu(self.norm1(x)))
        return x + self.second(functional.relu(self.norm2(y)))


class SmallEncoder(nn.Module):
    """Convolutional pyramid to a stride of 32 and back to one of 8: (N, 3, S, S) to (N, 64, S/8, S/8).

    Attributes
    ----------
    img_size : int
        Side of the input in pixels, as segment-anything's encoders name it.
    """

    def __init__(self, img_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.img_size = img_size
        widths = (24, 40, 72, 128, 184)  # at strides 2, 4, 8, 16, 32
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            nn.Sequential(Norm(a), nn.Conv2d(a, b, 3, stride=2, padding=1))
            for a, b in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(w) for _ in range(n)])
            for w, n in zip(widths[1:], (1, 2, 2, 1), strict=True)
        )
        # The whole image's mean, which a stride of 32 does not see.
        self.context = nn.Linear(widths[4], widths[4])
        out = EMBEDDING_CHANNELS
        self.lateral = nn.ModuleList(nn.Conv2d(w, out, 1) for w in widths[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in range(2))
        self.fold = nn.Conv2d(4 * out, out, 1)  # the finest level, four pixels in one
        self.norm = nn.GroupNorm(1, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed normalised images."""
        x = functional.relu(self.stem(x))
        levels = []
        for down, stage in zip(self.down, self.stages, strict=True):
            x = stage(down(x))
            levels.append(x)
        x = x + self.context(x.mean((2, 3)))[:, :, None, None]
        fine, eighth, sixteenth, _ = levels
        y = self.lateral[3](functional.relu(x))
        y = self.lateral[2](functional.relu(sixteenth)) + functional.interpolate(
            y, scale_factor=2.0, mode="nearest"
        )
        y = self.smooth[0](functional.relu(y))
        y = self.lateral[1](functional.relu(eighth)) + functional.interpolate(
            y, scale_factor=2.0, mode="nearest"
        )
        y = y + self.fold(functional.pixel_unshuffle(self.lateral[0](functional.relu(fine)), 2))
        y = y + self.smooth[1](functional.relu(y))
        return self.norm(y)


def prompt_map(
    points: torch.Tensor | None,
    labels: torch.Tensor | None,
    boxes: torch.Tensor | None,
    logits: torch.Tensor | None,
    size: int,
    side: int,
) -> torch.Tensor:
    """Draw prompts as a mask prompt, which the small SAM is always given beside the prompts themselves.

    At this size the model hardly learns where a point or a box lies from its positional encoding alone: after 300 steps
    on simple scenes, IoU 0.10 from a box, against 0.53 with the drawing.

    Parameters
    ----------
    points, labels : Tensor (K, P, 2) and (K, P), optional
        x, y in pixels of the input; 1 inside, 0 outside, anything else no point.
    boxes : Tensor (K, 4), optional
        x0, y0, x1, y1.
    logits : Tensor (K, 1, side, side), optional
        Of an earlier decoding.
    size, side : int
        Pixels of the input, and of the mask prompt.

    Returns
    -------
    Tensor (K, 1, side, side)
        About -1 outside and 1 inside.

    Raises
    ------
    InvalidArgumentError
        Neither points nor boxes.
    """
    given = points if points is not None else boxes
    if given is None:
        raise InvalidArgumentError("prompt_map: received neither points nor boxes")
    at = (torch.arange(side, device=given.device, dtype=torch.float32) + 0.5) * (size / side)
    drawn = torch.zeros(1, device=given.device)
    if boxes is not None:
        x0, y0, x1, y1 = (boxes[:, k, None, None] for k in range(4))
        x, y = at[None, None], at[None, :, None]
        drawn = drawn + 2.0 * ((x > x0) & (x < x1) & (y > y0) & (y < y1)).float() - 1.0
    if points is not None and labels is not None:
        dx = at[None, None, None] - points[:, :, 0, None, None]
        dy = at[None, None, :, None] - points[:, :, 1, None, None]
        far = dx.square() + dy.square()
        near = torch.exp(-far / (2.0 * (size / 32.0) ** 2))
        wide = torch.exp(-far / (2.0 * (size / 6.4) ** 2))
        inside, outside = ((labels == v).float()[..., None, None] for v in (1.0, 0.0))
        drawn = drawn + (inside * (2.0 * near + wide) - outside * 2.0 * near).sum(1)
        if boxes is None:
            drawn = drawn - 1.0
    drawn = drawn[:, None]
    return drawn if logits is None else drawn + 0.25 * logits.clamp(-8.0, 8.0)


def build_small_sam(checkpoint: str | None = None) -> Sam:
    """Build the small SAM, in evaluation mode.

    Parameters
    ----------
    checkpoint : path, optional
        Weights to load, as `tools/train_small_sam.py` writes them; None leaves them random.
    """
    model = Sam(
        image_encoder=SmallEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(EMBEDDING_SIZE, EMBEDDING_SIZE),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=256, num_heads=4
            ),
            transformer_dim=EMBEDDING_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        ),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
    )
    # Positions are told apart from a tenth of the image to a pixel of the embedding; segment-anything's frequencies alone
    # (unit variance) would leave a point a third of the image wide.
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix *= torch.logspace(0, 3, matrix.shape[1], base=2.0)
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return model.eval()
