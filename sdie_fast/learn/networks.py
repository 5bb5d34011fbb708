"""Actor and critic: an image encoder each, and the round's number (Liu et al. 2024, section 4: ResNet18).

Needs torch; the ResNet is torchvision's. Batch normalisation's running statistics would lag behind in targets and differ
between training and use, so that normalisation is by groups of channels, or batch statistics are frozen with the
ImageNet weights they belong to.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from ..errors import InvalidArgumentError, ModelError
from .config import ENCODERS

__all__ = ["ActorNet", "CriticNet", "ScheduleNet", "build_encoder", "random_shift"]


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 4), channels)


def build_encoder(name: str) -> tuple[nn.Module, int]:
    """Build an encoder of grey images (N, 1, S, S) in [0, 1], and tell its number of features.

    Parameters
    ----------
    name : {"resnet18", "resnet18-imagenet", "small"}
        torchvision's ResNet18 with group normalisation, from scratch; the same with its ImageNet weights, which
        torchvision fetches, and batch normalisation frozen; four convolutions, for training on a CPU.

    Raises
    ------
    InvalidArgumentError
        No such encoder.
    ModelError
        Its weights cannot be fetched.
    """
    if name == "small":
        layers: list[nn.Module] = []
        for low, high in ((1, 16), (16, 32), (32, 48), (48, 64)):
            layers += [nn.Conv2d(low, high, 3, 2, 1), _group_norm(high), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten()), 1024
    if name not in ENCODERS:
        raise InvalidArgumentError(f"encoder: received {name!r}; accepted: {', '.join(ENCODERS)}")
    from torchvision.models import ResNet18_Weights, resnet18
    from torchvision.ops import FrozenBatchNorm2d

    if name == "resnet18":
        net = resnet18(weights=None, norm_layer=_group_norm)
    else:
        weights = ResNet18_Weights.IMAGENET1K_V1
        try:
            net = resnet18(weights=weights, norm_layer=FrozenBatchNorm2d)
        except OSError as error:
            raise ModelError(f"{weights.url}: cannot be fetched: {error}") from error
    first = net.conv1
    grey = nn.Conv2d(1, first.out_channels, 7, 2, 3, bias=False)
    # A grey image in all three channels is one through the sum of the kernels.
    grey.weight.data = first.weight.data.sum(1, keepdim=True)
    net.conv1, net.fc = grey, nn.Identity()
    return net, 512


def _head(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for low, high in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(low, high), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


_REACH = 1.25


def _action(x: torch.Tensor) -> torch.Tensor:
    """tanh, drawn out so that it reaches -1 and 1: a filter that is left out has no weight at all, and costs nothing.

    Its gradient is tanh's own, so that an action at an end can leave it again.
    """
    y = torch.tanh(x)
    return y + ((_REACH * y).clamp(-1.0, 1.0) - y).detach()


class ActorNet(nn.Module):
    """Policy pi(s): the action in [-1, 1] of an image and its round.

    Parameters
    ----------
    encoder : str
        See `build_encoder`.
    rounds, size : int
        T; numbers in an action.
    hidden : tuple of int
        Of the head: 400 and 300 in the published code.
    start : sequence of sequence of float, (rounds, size), optional
        What it gives at first in each round, nearly, in [-1, 1]; None means zeros, the uniform mixture.
    """

    def __init__(
        self,
        encoder: str,
        rounds: int,
        size: int,
        hidden: tuple[int, ...] = (400, 300),
        start: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, features = build_encoder(encoder)
        self.head = _head((features + rounds, *hidden, size))
        # The first actions are not at the ends, where tanh has no slope.
        last = self.head[-1]
        last.weight.data.mul_(0.1)
        last.bias.data.zero_()
        first = torch.zeros(rounds, size) if start is None else torch.tensor(start)
        # What each round adds whatever the image: learned on from the start. 5% of other filters mixed into a filter's
        # round cost the choice of masks 1 to 5 MIoU, so that ends are reached: see `_action`.
        self.each_round = nn.Parameter(torch.atanh(first.float() / _REACH))

    def forward(self, seen: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Give actions (N, size) of images, uint8 or float of 0 to 255 (N, S, S), and rounds, one-hot (N, T)."""
        features = self.encoder(seen[:, None].float() / 255.0)
        return _action(self.head(torch.cat([features, at], 1)) + at @ self.each_round)


class CriticNet(nn.Module):
    """Action value Q(s, a), with an encoder of its own.

    Parameters
    ----------
    encoder, rounds, size
        As `ActorNet`.
    bottleneck, hidden : int
        Features that are left of the image before the action joins them, and the layer after: 50 and 300 in the
        published code.
    """

    def __init__(self, encoder: str, rounds: int, size: int, bottleneck: int = 50, hidden: int = 300) -> None:
        super().__init__()
        self.encoder, features = build_encoder(encoder)
        self.squeeze = nn.Sequential(nn.Linear(features, bottleneck), nn.LayerNorm(bottleneck), nn.Tanh())
        self.head = _head((bottleneck + rounds + size, hidden, hidden, 1))

    def forward(self, seen: torch.Tensor, at: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Give values (N, 1) of states, as `ActorNet.forward` takes them, and actions (N, size)."""
        features = self.squeeze(self.encoder(seen[:, None].float() / 255.0))
        return self.head(torch.cat([features, at, action], 1))


class ScheduleNet(nn.Module):
    """All rounds' actions of the first image: by Theorem 2 of the paper every later state follows from it.

    Parameters
    ----------
    encoder, rounds, size, hidden
        As `ActorNet`.
    """

    def __init__(self, encoder: str, rounds: int, size: int, hidden: tuple[int, ...] = (400, 300)) -> None:
        super().__init__()
        self.encoder, features = build_encoder(encoder)
        self.rounds, self.size = rounds, size
        self.head = _head((features, *hidden, rounds * size))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Give actions (N, T, size) of images, uint8 or float of 0 to 255 (N, S, S)."""
        found = _action(self.head(self.encoder(seen[:, None].float() / 255.0)))
        return found.reshape(-1, self.rounds, self.size)


def random_shift(seen: torch.Tensor, offsets: torch.Tensor, pad: int) -> torch.Tensor:
    """Shift images (N, S, S) by offsets (N, 2) of 0 to 2 * pad, edges repeated (Yarats et al. 2022, DrQ-v2)."""
    side = seen.shape[-1]
    line = torch.arange(side, device=seen.device)
    rows = (line[None] + offsets[:, :1] - pad).clamp(0, side - 1)
    columns = (line[None] + offsets[:, 1:] - pad).clamp(0, side - 1)
    at = torch.arange(len(seen), device=seen.device)[:, None, None]
    return seen[at, rows[:, :, None], columns[:, None, :]]
