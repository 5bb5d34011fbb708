"""The small SAM that ships: segment-anything's own model with a small convolutional image encoder.

Needs torch and segment-anything (`pip install "sdie-fast[sam]"`); only training and export do, not the shipped model.
"""

from __future__ import annotations

import itertools

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import nn
from torch.nn import functional

from ..errors import InvalidArgumentError

__all__ = ["SmallEncoder", "SmallPromptEncoder", "build_small_sam", "prompt_map"]

IMAGE_SIZE = 256
EMBEDDING_SIZE = 32
EMBEDDING_CHANNELS = 64
MASK_CHANNELS = 16
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
            nn.Sequential(Norm(a), nn.Conv2d(a, b, 3, stride=2, padding=1)) for a, b in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(w) for _ in range(n)]) for w, n in zip(widths[1:], (1, 2, 2, 1), strict=True)
        )
        # The whole image's mean, which a stride of 32 does not see.
        self.context = nn.Linear(widths[4], widths[4])
        out = EMBEDDING_CHANNELS
        self.lateral = nn.ModuleList(nn.Conv2d(w, out, 1) for w in widths[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in range(2))
        self.fold = nn.Conv2d(4 * out, out, 1)  # the finest level, four pixels in one
        self.norm = nn.GroupNorm(1, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images, whatever their light and contrast: half of learning's first steps otherwise go into that."""
        deviation = x - x.mean((1, 2, 3), keepdim=True)
        x = deviation * (deviation.square().mean((1, 2, 3), keepdim=True) + 1e-3).rsqrt()
        x = functional.relu(self.stem(x))
        levels = []
        for down, stage in zip(self.down, self.stages, strict=True):
            x = stage(down(x))
            levels.append(x)
        x = x + self.context(x.mean((2, 3)))[:, :, None, None]
        fine, eighth, sixteenth, _ = levels
        y = self.lateral[3](functional.relu(x))
        y = self.lateral[2](functional.relu(sixteenth)) + functional.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.smooth[0](functional.relu(y))
        y = self.lateral[1](functional.relu(eighth)) + functional.interpolate(y, scale_factor=2.0, mode="nearest")
        y = y + self.fold(functional.pixel_unshuffle(self.lateral[0](functional.relu(fine)), 2))
        y = y + self.smooth[1](functional.relu(y))
        return self.norm(y)


def prompt_map(points: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, size: int) -> torch.Tensor:
    """Draw prompts as a mask prompt.

    Parameters
    ----------
    points : Tensor (K, P, 2)
        x, y in pixels of the input.
    labels : Tensor (K, P)
        1 inside, 0 outside, 2 and 3 a box's first and last corner (one box a prompt), anything else no point.
    masks : Tensor (K, 1, side, side)
        Logits of an earlier decoding; zeros where there was none.
    size : int
        Pixels a side of the input.

    Returns
    -------
    Tensor (K, 1, side, side)
        About -1 outside and 1 inside.
    """
    side = masks.shape[-1]
    at = (torch.arange(side, device=points.device, dtype=torch.float32) + 0.5) * (size / side)
    x, y = at[None, None, :], at[None, :, None]

    def corner(label: float) -> tuple[torch.Tensor, torch.Tensor]:
        place = (points * (labels == label)[..., None]).sum(1)[:, :, None, None]
        return place[:, 0], place[:, 1]

    # Without a box both corners are the origin, and nothing is inside.
    (x0, y0), (x1, y1) = corner(2.0), corner(3.0)
    box = ((x > x0) & (x < x1) & (y > y0) & (y < y1)).float()
    dx = at[None, None, None, :] - points[:, :, 0, None, None]
    dy = at[None, None, :, None] - points[:, :, 1, None, None]
    far = dx.square() + dy.square()
    near = torch.exp(-far / (2.0 * (size / 32.0) ** 2))
    wide = torch.exp(-far / (2.0 * (size / 6.4) ** 2))
    inside, outside = ((labels == v).float()[..., None, None] for v in (1.0, 0.0))
    spots = (inside * (2.0 * near + wide) - outside * 2.0 * near).sum(1)
    return (2.0 * box - 1.0 + spots)[:, None] + 0.25 * masks.clamp(-8.0, 8.0)


class SmallPromptEncoder(PromptEncoder):
    """segment-anything's prompt encoder, which draws points and boxes into the mask prompt too.

    At this size the model hardly learns where a point or a box lies from its positional encoding alone: after 300
    steps on simple scenes, IoU 0.10 from a box, against 0.53 with the drawing.
    """

    def forward(
        self, points: tuple[torch.Tensor, torch.Tensor] | None, boxes: torch.Tensor | None, masks: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed prompts as `PromptEncoder.forward` does: points and labels, boxes (K, 4), logits (K, 1, 4h, 4w)."""
        given = [] if points is None else [points]
        if boxes is not None:
            corner = torch.tensor([[2.0, 3.0]], device=boxes.device).expand(len(boxes), 2)
            given.append((boxes.reshape(-1, 2, 2), corner))
        if not given:
            raise InvalidArgumentError("prompt: received neither points nor boxes")
        at, labels = (torch.cat([g[k].float() for g in given], 1) for k in range(2))
        if masks is None:
            side = 4 * self.image_embedding_size[0]
            masks = torch.zeros(len(at), 1, side, side, device=at.device)
        drawn = prompt_map(at, labels, masks, self.input_image_size[0])
        return super().forward(points, boxes, drawn)


def build_small_sam() -> Sam:
    """Build the small SAM with random weights, in evaluation mode; `checkpoint.load_checkpoint` reads trained ones."""
    model = Sam(
        image_encoder=SmallEncoder(),
        prompt_encoder=SmallPromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(EMBEDDING_SIZE, EMBEDDING_SIZE),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=256, num_heads=4),
            transformer_dim=EMBEDDING_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        ),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
    )
    # At this width segment-anything's upscaling would leave 8 channels to tell a mask's pixels by; and a convolution
    # after the prompt's features have met the image's lets a mask grow from a point over what is connected to it.
    decoder, wide = model.mask_decoder, EMBEDDING_CHANNELS
    decoder.output_upscaling = nn.Sequential(
        Block(wide),
        nn.ConvTranspose2d(wide, 2 * MASK_CHANNELS, 2, stride=2),
        LayerNorm2d(2 * MASK_CHANNELS),
        nn.GELU(),
        nn.ConvTranspose2d(2 * MASK_CHANNELS, MASK_CHANNELS, 2, stride=2),
        nn.GELU(),
    )
    decoder.output_hypernetworks_mlps = nn.ModuleList(
        MLP(wide, wide, MASK_CHANNELS, 3) for _ in range(decoder.num_mask_tokens)
    )
    # Positions are told apart from a tenth of the image to a pixel of the embedding; segment-anything's frequencies
    # alone (unit variance) would leave a point a third of the image wide.
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix *= torch.logspace(0, 3, matrix.shape[1], base=2.0)
    return model.eval()
