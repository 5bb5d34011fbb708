"""An episode's images and masks as tensors: a step that does not leave the GPU. Needs torch.

What passes between host and device are a round's weights, the images' hashes, counts of pixels (from which rewards
follow) and, where a prompt needs them, numbers that the segmenter names; no picture and no mask, unless somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .._resize import shrink
from ..actor import Actions
from ..enhance import enhance
from ..filters import FilterParams
from ..segment.geometry import on_host
from ..segment.prompts import Answer, DeviceAnswer
from ..segment.tensors import as_tensor, usable_device
from .places import Floats, Host, vote_weights

__all__ = ["Resident"]


class Resident(Host):
    """`Host` with tensors.

    On a GPU the backend "cuda" enhances; on the CPU, `sdie_fast.enhance` works on the tensors' own memory.

    Parameters
    ----------
    params, actions, threads
        As of `Episode`; threads are the CPU's.
    device : str
        "cpu", "cuda", "cuda:1".

    Raises
    ------
    InvalidArgumentError, ModelError
        Not a device, or one that is not there.
    """

    def __init__(self, params: FilterParams, actions: Actions, threads: int | None, device: str) -> None:
        super().__init__(params, actions, threads)
        self.device = usable_device(device)
        self._words = torch.empty(0)

    def take(self, images: Any) -> torch.Tensor:
        """Bring images or masks to the device."""
        if isinstance(images, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return as_tensor(images).to(self.device)

    def given(self, images: torch.Tensor, tensors: bool) -> Any:
        """Give images as they are to segmenters that take tensors."""
        return images if tensors else on_host(images)

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """Give the state that rounds begin with, float32 (n, H, W)."""
        return images.float() / 255.0

    def round(self, state: torch.Tensor, actions: Floats) -> torch.Tensor:
        """Take a round; where actions choose filter parameters too, one image after the other, as the host does."""
        weights = self._actions.weights(actions)[:, None]
        if not self._actions.parameters:
            return self._mix(state, weights, self._params)
        own = (self._actions.params(action, self._params) for action in actions)
        return torch.stack([self._mix(*given) for given in zip(state, weights, own, strict=True)])

    def _mix(self, images: torch.Tensor, weights: Floats, params: FilterParams) -> torch.Tensor:
        given: Any = images.contiguous()
        options: Any = {"params": params, "filters": self._actions.filters, "axes": "NHW"[-images.ndim :]}
        if self.device.type == "cpu":
            return torch.from_numpy(enhance(given.numpy(), weights, threads=self._threads, **options))
        with torch.cuda.device(self.device):  # the backend works on the current one
            return as_tensor(enhance(given, weights, backend="cuda", **options))

    def levels(self, state: torch.Tensor) -> torch.Tensor:
        """Give a state as images."""
        return torch.floor(state * 255.0 + 0.5).to(torch.uint8)

    def observe(self, state: torch.Tensor, side: int) -> torch.Tensor:
        """Reduce a state, to the very numbers of `actor.observe`."""
        seen: torch.Tensor = shrink(torch.round(state * 255.0).to(torch.uint8), side)
        return seen

    def keys(self, images: torch.Tensor) -> list[bytes]:
        """Give 128 bits of each image: two sums of its levels times random 64-bit numbers, modulo 2^64.

        Of two images that differ by at most 255 somewhere, each sum is equal with a probability of at most 2^-57.
        """
        flat = images.flatten(1).long()
        if self._words.shape[-1] != flat.shape[1]:
            words = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (2, flat.shape[1]), np.int64)
            self._words = torch.from_numpy(words).to(self.device)
        sums = torch.stack([(flat * words).sum(1) for words in self._words], 1)
        return [row.tobytes() for row in sums.cpu().numpy()]

    def masks(self, answers: Sequence[Answer]) -> torch.Tensor:
        """Stack the answers' masks; those that were found on a device do not leave it."""
        return torch.stack([a.tensor if isinstance(a, DeviceAnswer) else self.take(a.mask) for a in answers])

    def votes(self, answers: Sequence[Sequence[Answer]]) -> torch.Tensor:
        """Stack the votes of each image's answers."""
        weights = [torch.from_numpy(vote_weights(own)).to(self.device)[:, None, None] for own in answers]
        return torch.stack([(self.masks(a).double() * w).sum(0) > 0.5 for a, w in zip(answers, weights, strict=True)])
