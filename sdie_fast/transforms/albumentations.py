"""Enhancement as an albumentations transform."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._needs import needing
from ..enhance import Weights
from ..errors import InvalidArgumentError
from ..recipe import Recipe
from ._ready import Params, Ready, RecipeLike, recipe_of

with needing('"albumentations>=2"'):
    from albumentations import ImageOnlyTransform

__all__ = ["Enhance"]

Image = npt.NDArray[Any]


class Enhance(ImageOnlyTransform):
    """Enhance images by a recipe, or by weights; masks, boxes and key points pass through.

    Parameters
    ----------
    recipe : Recipe or path, optional
        A recipe, a directory that holds recipe.json, or that file. None, without weights: the built-in recipe.
    weights, params, filters : optional
        Instead of a recipe: as for `sdie_fast.enhance`, for one or T rounds. `params` may be a mapping.
    backend, threads, white_level, per_channel
        As for `sdie_fast.enhance`. In a DataLoader's worker `threads=None` means one.
    p : float
        Probability that an image is enhanced: 1, since this is no augmentation.

    Notes
    -----
    Images are (H, W) or (H, W, C), `images` and volumes (N, H, W) or (N, H, W, C), with one or three channels: uint8, or
    float32 in [0, 1]; uint16 works as well.

    `to_dict` and `save` hold weights and parameters, or the path that was given: the recipe must be there when the
    pipeline is loaded, and this module must have been imported. A `Recipe` whose weights a network chooses can be
    saved only by its path.

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
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        made = recipe_of(recipe, weights, params, filters)
        # What these are called is what albumentations' to_dict looks for.
        self.backend, self.threads, self.white_level, self.per_channel = backend, threads, white_level, per_channel
        self._named = os.fspath(recipe) if recipe is not None and not isinstance(recipe, Recipe) else None
        self._ready = Ready(made, threads, backend=backend, white_level=white_level, per_channel=per_channel)

    def apply(self, img: Image, *args: Any, **params: Any) -> Image:
        """Enhance (H, W) or (H, W, C)."""
        return self._enhanced(img, "HW" if img.ndim == 2 else "HWC")

    def apply_to_images(self, images: Image, *args: Any, **params: Any) -> Image:
        """Enhance (N, H, W) or (N, H, W, C), all in one call."""
        return self._enhanced(np.asarray(images), "NHW" if np.ndim(images) == 3 else "NHWC")

    def apply_to_volume(self, volume: Image, *args: Any, **params: Any) -> Image:
        """Enhance the slices of a volume."""
        return self.apply_to_images(volume)

    def _enhanced(self, image: Image, axes: str) -> Image:
        enhanced: Image = self._ready.enhancer()(image, axes=axes)[0]
        return enhanced

    def get_transform_init_args(self) -> dict[str, Any]:
        """What makes this transform again, as JSON takes it; albumentations calls this."""
        recipe = self._ready.recipe
        args = {k: getattr(self, k) for k in ("backend", "threads", "white_level", "per_channel")}
        if self._named is not None:
            return {"recipe": self._named, **args}
        if recipe.weights is None:
            raise InvalidArgumentError("recipe: received one with a network; accepted for saving: the path of one")
        rows = recipe.weights[: recipe.rounds // recipe.passes].tolist()
        filters = list(recipe.filters)
        return {"weights": rows, "params": recipe.params.to_dict(recipe.filters), "filters": filters, **args}
