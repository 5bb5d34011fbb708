"""SAM's prompt encoder and mask decoder as one module, without a shape that depends on data.

segment-anything's own, restated without a picture's size as an input and without `repeat_interleave`: an embedding is
broadcast to its prompts, or there is one for each prompt. The ONNX decoder is exported from it, and `TorchSam` runs it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .small import SmallPromptEncoder, prompt_map


class Decoder(nn.Module):
    """Prompts in batches of any size, each decoded on its own.

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
        return weights_times(weights, image), self.mask.iou_prediction_head(hidden[:, 0])


def weights_times(weights: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Each prompt's masks: (K, M, C) times (K, C, h, w)."""
    flat = image.flatten(2)
    return (weights @ flat).reshape(-1, weights.shape[1], image.shape[2], image.shape[3])
