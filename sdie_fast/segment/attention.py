"""SAM's attention restated: some rows of the picture at a time for an export, or fused for torch.

ViT-B's global attention matrix is 12 x 4096 x 4096, 0.8 GB, written and read again for each of its two position terms; a CPU
then waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import nn
from torch.nn import functional

ROWS = 4  # of the embedding at a time: within a CPU's last cache, and still enough for a GPU


class RowAttention(nn.Module):
    """The same function as segment-anything's `Attention` over a whole picture (Li et al. 2022, MViTv2, eq. 4).

    Parameters
    ----------
    attention : Attention
        Whose weights are used.
    rows : int
        Rows of queries at a time.
    """

    def __init__(self, attention: Any, rows: int = ROWS) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale, self.rows = attention.num_heads, attention.scale, rows
        self.side = (attention.rel_pos_h.shape[0] + 1) // 2
        for name in ("rel_pos_h", "rel_pos_w"):
            table = get_rel_pos(self.side, self.side, getattr(attention, name).detach())
            self.register_buffer(name, table.transpose(1, 2).contiguous())  # (query, c, key)

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


@contextmanager
def by_rows(encoder: Any) -> Iterator[None]:
    """Replace a ViT's global attention, and put it back at the end; other encoders are left alone."""
    whole = [b for b in getattr(encoder, "blocks", ()) if b.window_size == 0 and b.attn.use_rel_pos]
    before = [b.attn for b in whole]
    try:
        for block in whole:
            block.attn = RowAttention(block.attn)
        yield
    finally:
        for block, attention in zip(whole, before, strict=True):
            block.attn = attention


class FusedAttention(nn.Module):
    """The same function by one call of `scaled_dot_product_attention`, which never holds the attention matrix.

    The decomposed position terms (Li et al. 2022, MViTv2, eq. 4) are added to the logits of query i and key j as
    r_h(i) at j's row plus r_w(i) at j's column. That is a scalar product with a vector that is one at these two places: so
    (r_h(i), r_w(i)) goes behind the query's channels and the two ones behind the key's, and no bias is left, which the
    fastest kernels do not take. They want values as wide as keys: zeros are put behind those.

    Parameters
    ----------
    attention : Attention
        Whose weights are used; over a whole picture or over windows, square either way.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale = attention.num_heads, attention.scale
        self.side = side = (attention.rel_pos_h.shape[0] + 1) // 2
        for name in ("rel_pos_h", "rel_pos_w"):
            table = get_rel_pos(side, side, getattr(attention, name).detach())
            self.register_buffer(name, table.transpose(1, 2).contiguous())  # (query, c, key)
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


def fuse(encoder: Any) -> None:
    """Replace a ViT's attention, everywhere and for good; other encoders are left alone."""
    for block in getattr(encoder, "blocks", ()):
        if block.attn.use_rel_pos:
            block.attn = FusedAttention(block.attn)
