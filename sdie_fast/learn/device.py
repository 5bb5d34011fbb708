"""An environment's images, masks and truths as tensors: a step that does not leave the GPU.

What passes between host and device are a round's weights, the images' hashes, counts of pixels (from which rewards
follow) and, where a prompt needs them, numbers that `segment.torch_prompts` names; no picture and no mask, unless somebody asks
for one. Needs torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..filters import FilterParams
from ..actor import Actions
from ..enhance import enhance
from ..segment.prompts import Answer
from ..segment.tensors import as_tensor, usable_device
from ..segment.torch_prompts import DeviceAnswer
from .rewards import Case, Floats, reward_from, vote_weights

_BITS = 22  # of the fractions in Pillow's resizing of bytes


class Device:
    """`place.Place` with tensors.

    On a GPU the backend "cuda" enhances; on the CPU, `sdie_fast.enhance` works on the tensors' own memory.

    Parameters
    ----------
    cases : sequence of Case
        All of one shape; copied to the device.
    params, actions, threads
        As of `SdieEnv`; threads are the CPU's.
    device : str
        "cpu", "cuda", "cuda:1".

    Raises
    ------
    InvalidArgumentError, ModelError
        Not a device, or one that is not there.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        params: FilterParams,
        actions: Actions,
        threads: int | None,
        device: str,
    ) -> None:
        self.device = usable_device(device)
        self._params, self._actions, self._threads = params, actions, threads
        self._images = torch.from_numpy(np.stack([c.image for c in cases])).to(self.device)
        self._truths = torch.from_numpy(np.stack([c.truth for c in cases])).to(self.device)
        # Fixed random numbers: see `keys`.
        words = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (2, self._images[0].numel()), np.int64)
        self._words = torch.from_numpy(words).to(self.device)

    def _rows(self, which: Sequence[int]) -> torch.Tensor:
        return torch.as_tensor(list(which)).to(self.device)

    def images(self, which: Sequence[int]) -> torch.Tensor:
        """Give the cases' images."""
        return self._images[self._rows(which)]

    def take(self, images: Any) -> torch.Tensor:
        """Bring images to the device."""
        if isinstance(images, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return as_tensor(images).to(self.device)

    def host(self, images: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Copy images."""
        return np.asarray(images.cpu().numpy())

    def given(self, images: torch.Tensor, tensors: bool) -> Any:
        """Give images as they are to segmenters that take tensors."""
        return images if tensors else self.host(images)

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
        if self.device.type == "cpu":
            made = enhance(given.numpy(), weights, params=params, threads=self._threads)
            return torch.from_numpy(made)
        with torch.cuda.device(self.device):  # the backend works on the current one
            found: Any = enhance(given, weights, params=params, backend="cuda")
        return as_tensor(found)

    def levels(self, state: torch.Tensor) -> torch.Tensor:
        """Give a state as images."""
        return torch.floor(state * 255.0 + 0.5).to(torch.uint8)

    def observe(self, state: torch.Tensor, side: int) -> torch.Tensor:
        """Reduce a state, to the very numbers of `actor.observe`."""
        seen = torch.round(state * 255.0).double()
        down, across = (_means(n, side, self.device) for n in state.shape[1:])
        half, whole = 2.0 ** (_BITS - 1), 2.0**_BITS
        # Whole numbers below 2^31: float64 is exact, in any order of summation. Pillow rounds between the two directions.
        seen = torch.floor((seen @ across.T + half) / whole)
        return torch.floor((down @ seen + half) / whole).clamp(0.0, 255.0).to(torch.uint8)

    def keys(self, images: torch.Tensor) -> list[bytes]:
        """Give 128 bits of each image: two sums of its levels times random 64-bit numbers, modulo 2^64.

        Of two images that differ by at most 255 somewhere, each sum is equal with a probability of at most 2^-57.
        """
        flat = images.flatten(1).long()
        sums = torch.stack([(flat * words).sum(1) for words in self._words], 1)
        return [row.tobytes() for row in sums.cpu().numpy()]

    def _masks(self, answers: Sequence[Answer]) -> torch.Tensor:
        """The answers' masks, (n, H, W)."""
        return torch.stack([a.tensor if isinstance(a, DeviceAnswer) else self.take(a.mask) for a in answers])

    def rewards(self, answers: Sequence[Answer], which: Sequence[int], kind: str) -> list[float]:
        """Give each answer's reward, of counts made on the device."""
        return self._judged(self._masks(answers), which, kind)

    def _judged(self, masks: torch.Tensor, which: Sequence[int], kind: str) -> list[float]:
        truth = self._truths[self._rows(which)]
        counts = torch.stack([(masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))]).cpu()
        size = truth[0].numel()
        return [reward_from(both, either, size, kind) for both, either in counts.T.tolist()]

    def votes(self, answers: Sequence[Sequence[Answer]], which: Sequence[int], kind: str) -> list[float]:
        """Give the rewards of votes."""
        voted = []
        for own in answers:
            weights = torch.from_numpy(vote_weights(own)).to(self.device)
            share = (self._masks(own).double() * weights[:, None, None]).sum(0)
            voted.append(share > 0.5)
        return self._judged(torch.stack(voted), which, kind)


@functools.lru_cache(maxsize=16)
def _means(source: int, target: int, device: torch.device) -> torch.Tensor:
    """Matrix (target, source) of the means of areas, float64 holding whole multiples of 2^-22 times 2^22, as Pillow's BOX has them."""
    scale = source / target
    width = max(scale, 1.0)
    matrix = np.zeros((target, source))
    for row in range(target):
        centre = (row + 0.5) * scale
        first = max(int(centre - width / 2 + 0.5), 0)
        last = min(int(centre + width / 2 + 0.5), source)
        at = (np.arange(first, last) - centre + 0.5) / width
        inside = ((at > -0.5) & (at <= 0.5)).astype(np.float64)
        matrix[row, first:last] = inside / inside.sum()
    return torch.from_numpy(np.floor(matrix * 2.0**_BITS + 0.5)).to(device)
