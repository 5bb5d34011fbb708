"""segment-anything's attention and decoder restated, for ONNX files and for torch.

ViT-B's global attention matrix is 12 x 4096 x 4096, 0.8 GB, written and read again for each of its two position terms;
a CPU then waits for memory. An export computes some rows of the picture at a time, torch a fused product.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import nn
from torch.nn import functional

from .small import SmallPromptEncoder, prompt_map

__all__ = ["Decoder", "FusedAttention", "RowAttention", "restate"]

ROWS = 4  # of the embedding at a time: within a CPU's last cache, and still enough for a GPU


class _Attention(nn.Module):
    """What both restatements take of segment-anything's `Attention` over a square of cells."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale = attention.num_heads, attention.scale
        self.side = (attention.rel_pos_h.shape[0] + 1) // 2
        for name in ("rel_pos_h", "rel_pos_w"):
            table = get_rel_pos(self.side, self.side, getattr(attention, name).detach())
            self.register_buffer(name, table.transpose(1, 2).contiguous())  # (query, c, key)


class RowAttention(_Attention):
    """The same function as segment-anything's `Attention` over a whole picture (Li et al. 2022, MViTv2, eq. 4).

    Parameters
    ----------
    attention : Attention
        Whose weights are used.
    rows : int
        Rows of queries at a time.
    """

    def __init__(self, attention: Any, rows: int = ROWS) -> None:
        super().__init__(attention)
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, side, side, C) to the same."""
        side, channels = self.side, x.shape[-1]
        c = channels // self.heads
        parts = self.qkv(x).reshape(-1, side * side, 3, self.heads, c).permute(2, 0, 3, 1, 4)
        q, k, v = parts.reshape(3, -1, side * side, c).unbind(0)
        cells = q.reshape(-1, side, side, c)
        down = cells.transpose(0, 1).reshape(side, -1, c) @ self.rel_pos_h
        down = down.reshape(side, -1, side, side).transpose(0, 1)  # (NH, row, column, key's row)
        across = cells.permute(2, 0, 1, 3).reshape(side, -1, c) @ self.rel_pos_w
        across = across.reshape(side, -1, side, side).permute(1, 2, 0, 3)  # (.., key's column)
        keys = (k * self.scale).transpose(1, 2)
        found = []
        for first in range(0, side, self.rows):
            last = min(first + self.rows, side)
            scores = (q[:, first * side : last * side] @ keys).reshape(-1, last - first, side, side, side)
            place = down[:, first:last, :, :, None] + across[:, first:last, :, None, :]
            scores = (scores + place).reshape(-1, (last - first) * side, side * side)
            found.append(scores.softmax(-1) @ v)
        y = torch.cat(found, 1).reshape(-1, self.heads, side * side, c).transpose(1, 2)
        return self.proj(y.reshape(-1, side, side, channels))


class FusedAttention(_Attention):
    """The same function by one call of `scaled_dot_product_attention`, which never holds the attention matrix.

    The decomposed position terms (Li et al. 2022, MViTv2, eq. 4) are added to the logits of query i and key j as
    r_h(i) at j's row plus r_w(i) at j's column. That is a scalar product with a vector that is one at these two
    places: so (r_h(i), r_w(i)) goes behind the query's channels and the two ones behind the key's, and no bias is
    left, which the fastest kernels do not take. They want values as wide as keys: zeros are put behind those.

    Parameters
    ----------
    attention : Attention
        Whose weights are used; over a whole picture or over windows, square either way.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        side = self.side
        eye = torch.eye(side, dtype=attention.rel_pos_h.dtype, device=attention.rel_pos_h.device)
        width = attention.qkv.in_features // self.heads + 2 * side
        self.padding = -width % 8  # kernels take widths of multiples of 8
        place = torch.cat([eye.repeat_interleave(side, 0), eye.repeat(side, 1)], 1)
        self.register_buffer("place", functional.pad(place, (0, self.padding)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, side, side, C) to the same."""
        n, side, channels = len(x), self.side, x.shape[-1]
        c = channels // self.heads
        parts = self.qkv(x).reshape(n, side * side, 3, self.heads, c).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)  # (N, heads, side * side, c)
        cells = q.reshape(n, self.heads, side, side, c)
        down = cells @ self.rel_pos_h  # of a query's row: (N, heads, row, column, key's row)
        across = (cells.transpose(2, 3) @ self.rel_pos_w).transpose(2, 3)
        beside = (t.reshape(n, self.heads, side * side, side) for t in (down, across))
        q = functional.pad(torch.cat([q * self.scale, *beside], -1), (0, self.padding))
        k = torch.cat([k, self.place.expand(n, self.heads, -1, -1)], -1)
        v = functional.pad(v, (0, k.shape[-1] - c))
        y = functional.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :c]
        return self.proj(y.transpose(1, 2).reshape(n, side, side, channels))


def restate(encoder: Any, attention: type[RowAttention | FusedAttention]) -> None:
    """Replace a ViT's attention for good, by rows over whole pictures only; other encoders are left alone."""
    for block in getattr(encoder, "blocks", ()):
        if block.attn.use_rel_pos and (attention is FusedAttention or block.window_size == 0):
            block.attn = attention(block.attn)


class Decoder(nn.Module):
    """SAM's prompt encoder and mask decoder as one module: prompts in batches of any size, each decoded on its own.

    Without a picture's size as an input, without `repeat_interleave`, and without a shape that depends on data: an
    embedding is broadcast to its prompts, or there is one for each prompt.

    Parameters
    ----------
    sam : Sam
        segment-anything's, or the small one; its weights are used, not copied.
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.prompt, self.mask = sam.prompt_encoder, sam.mask_decoder
        self.side = float(sam.prompt_encoder.input_image_size[0])
        self.register_buffer("place", sam.prompt_encoder.get_dense_pe().detach(), persistent=False)

    def example(self, prompts: int, points: int) -> tuple[torch.Tensor, ...]:
        """Inputs of `forward` for one image with so many prompts of so many points, all zero."""
        side = self.prompt.image_embedding_size[0]
        shapes = ((1, self.prompt.embed_dim, side, side), (prompts, points, 2), (prompts, points))
        return tuple(torch.zeros(s) for s in (*shapes, (prompts, 1, 4 * side, 4 * side), (prompts, 1, 1, 1)))

    def forward(
        self,
        embedding: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor,
        has_masks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode: see `embed` and `predict`."""
        return self.predict(embedding, *self.embed(points, labels, masks, has_masks))

    def embed(
        self,
        points: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None = None,
        has_masks: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed prompts.

        Parameters
        ----------
        points : Tensor, float32, (K, P, 2)
            x, y in pixels of the model's input.
        labels : Tensor, float32, (K, P)
            1 inside, 0 outside, 2 and 3 a box's corners, -1 no point.
        masks : Tensor, float32, (K, 1, 4h, 4w), optional
            Logits of an earlier decoding; None where no prompt has them.
        has_masks : Tensor, float32, (K, 1, 1, 1), optional
            1 where `masks` is meant, 0 elsewhere; with masks.

        Returns
        -------
        sparse : Tensor, float32, (K, P, C)
        dense : Tensor, float32, (K, C, h, w) or, without masks, (1, C, 1, 1)
        """
        label = labels[..., None]
        # Half a pixel: coordinates count from pixels' corners here and from their middles in the encoding.
        sparse = self.prompt.pe_layer._pe_encoding((points + 0.5) / self.side)
        sparse = torch.where(label == -1.0, self.prompt.not_a_point_embed.weight, sparse)
        for k, part in enumerate(self.prompt.point_embeddings):
            sparse = sparse + part.weight * (label == float(k))
        if isinstance(self.prompt, SmallPromptEncoder):  # its mask prompt is always there
            if masks is None or has_masks is None:
                low = 4 * self.prompt.image_embedding_size[0]
                given = points.new_zeros(len(points), 1, low, low)
            else:
                given = has_masks * masks
            drawn = prompt_map(points, labels, given, int(self.side))
            return sparse, self.prompt.mask_downscaling(drawn)
        plain = self.prompt.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if masks is None or has_masks is None:
            return sparse, plain
        return sparse, has_masks * self.prompt.mask_downscaling(masks) + (1.0 - has_masks) * plain

    def predict(
        self, embedding: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode embedded prompts.

        Parameters
        ----------
        embedding : Tensor (1, C, h, w) or (K, C, h, w)
            Of the one image that all prompts are of, or of each prompt's.
        sparse, dense : Tensor
            As `embed` gives them.

        Returns
        -------
        logits : Tensor (K, 4, 4h, 4w)
            The mask of an unambiguous prompt, then three of an ambiguous one.
        quality : Tensor (K, 4)
            Predicted IoU.
        """
        tokens = torch.cat([self.mask.iou_token.weight, self.mask.mask_tokens.weight])[None]
        tokens = torch.cat([tokens + 0.0 * sparse[:, :1, :], sparse], 1)  # a copy for each prompt
        source = embedding + dense
        hidden, image = self.mask.transformer(source, self.place, tokens)
        image = image.transpose(1, 2).reshape(-1, source.shape[1], source.shape[2], source.shape[3])
        image = self.mask.output_upscaling(image)
        weights = torch.stack([mlp(hidden[:, 1 + k]) for k, mlp in enumerate(self.mask.output_hypernetworks_mlps)], 1)
        logits = (weights @ image.flatten(2)).reshape(-1, weights.shape[1], image.shape[2], image.shape[3])
        return logits, self.mask.iou_prediction_head(hidden[:, 0])
