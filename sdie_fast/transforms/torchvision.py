"""Enhancement as a torchvision v2 transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from .._needs import needing
from ..enhance import Weights
from ..errors import InvalidArgumentError
from ._ready import Params, Ready, RecipeLike, recipe_of

with needing("torch torchvision"):
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

__all__ = ["Enhance"]

_MODES = ("L", "RGB", "I;16", "F")


class Enhance(v2.Transform):
    """Enhance images by a recipe, or by weights; masks, boxes, key points and labels pass through.

    Parameters
    ----------
    recipe : Recipe or path, optional
        A recipe, a directory that holds recipe.json, or that file. None, without weights: the built-in recipe.
    weights, params, filters : optional
        Instead of a recipe: as for `sdie_fast.enhance`, for one or T rounds. `params` may be a mapping.
    backend, threads, white_level, per_channel
        As for `sdie_fast.enhance`. In a DataLoader's worker `threads=None` means one.

    Notes
    -----
    Images are PIL images (modes L, RGB, I;16 and F) or tensors of shape (..., C, H, W) with one or three channels: uint8,
    uint16, or floating point in [0, 1], so that this goes before `Normalize`. float16, bfloat16 and float64 pass
    through float32. Tensors on a CUDA device are enhanced where they lie, on the current stream, and tensors of the host
    are read in place, too; the result is a new tensor. It has no gradient.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, RecipeError, ModelError, BackendUnavailableError
        As for `sdie_fast.Enhancer`; of an image, when it is transformed.
    """

    def __init__(
        self,
        recipe: RecipeLike | None = None,
        *,
        weights: Weights | None = None,
        params: Params | None = None,
        filters: Sequence[str] | None = None,
        backend: str = "auto",
        threads: int | None = None,
        white_level: float | None = None,
        per_channel: bool = False,
    ) -> None:
        super().__init__()
        made = recipe_of(recipe, weights, params, filters)
        self._ready = Ready(made, threads, backend=backend, white_level=white_level, per_channel=per_channel)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Enhance one image of a sample; torchvision calls this."""
        if isinstance(inpt, PIL.Image.Image):
            return self._picture(inpt)
        if isinstance(inpt, tv_tensors.TVTensor) and not isinstance(inpt, (tv_tensors.Image, tv_tensors.Video)):
            return inpt
        return tv_tensors.wrap(self._tensor(inpt.detach().as_subclass(torch.Tensor)), like=inpt)

    def _picture(self, image: PIL.Image.Image) -> PIL.Image.Image:
        if image.mode not in _MODES:
            raise InvalidArgumentError(
                f"image: received a PIL image of mode {image.mode}; accepted: {', '.join(_MODES)} "
                '(image.convert("L") or image.convert("RGB") makes one)'
            )
        return PIL.Image.fromarray(self._ready.enhancer()(np.asarray(image))[0])

    def _tensor(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim < 3:
            raise InvalidArgumentError(
                f"image: received a tensor of shape {tuple(image.shape)}; accepted: (..., C, H, W), C being 1 or 3"
            )
        if image.is_floating_point() and image.dtype != torch.float32:
            return self._tensor(image.float()).to(image.dtype)
        planes = image.reshape(-1, *image.shape[-3:])
        out = torch.empty_like(planes)
        self._ready.enhancer()(_array(planes), _array(out), axes="NHWC")
        return out.reshape(image.shape)

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        recipe = self._ready.recipe
        return f"recipe={recipe.name!r}, rounds={recipe.rounds // recipe.passes}"


def _array(planes: torch.Tensor) -> Any:
    """View (N, C, H, W) as (N, H, W, C), as sdie_fast takes it."""
    seen = planes.movedim(1, 3)
    return seen if seen.is_cuda else seen.numpy()
