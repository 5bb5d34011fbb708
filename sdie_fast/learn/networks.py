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
from torch.nn import functional

from ..errors import InvalidArgumentError, ModelError
from .config import ENCODERS

__all__ = ["ActorNet", "CriticNet", "ScheduleNet", "Texture", "build_encoder", "random_shift"]


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 4), channels)


class Texture(nn.Module):
    """What a surface looks like, in numbers that nobody has to learn: where a few shots are all there is to learn from.

    Histograms of the intensities, as they are and standardised; and, at four scales, how strong the first and second
    derivatives are on average, at most and in spread. Gives (N, FEATURES) of (N, 1, S, S) in [0, 1], S being 16 or more.
    """

    FEATURES = 100
    _STENCILS = (
        ((0, 0, 0), (-1, 0, 1), (0, 0, 0)),
        ((0, -1, 0), (0, 0, 0), (0, 1, 0)),
        ((0, 0, 0), (1, -2, 1), (0, 0, 0)),
        ((0, 1, 0), (0, -2, 0), (0, 1, 0)),
        ((1, 0, -1), (0, 0, 0), (-1, 0, 1)),
        ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    )

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stencils", torch.tensor(self._STENCILS, dtype=torch.float32)[:, None])
        self.register_buffer("mean", torch.zeros(self.FEATURES))
        self.register_buffer("spread", torch.ones(self.FEATURES))

    @torch.no_grad()
    def settle(self, seen: torch.Tensor) -> None:
        """Standardise by images, uint8 (N, S, S): the shots."""
        found = self._raw(seen[:, None].float() / 255.0)
        spread = found.std(0, correction=min(len(found) - 1, 1))
        self.mean.copy_(found.mean(0))
        # A number that hardly varies tells nothing, and would blow up rounding.
        self.spread.copy_(torch.where(spread > 5e-4, spread + 1e-3, 1.0))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Give the numbers, standardised."""
        return ((self._raw(planes) - self.mean) / self.spread).clamp(-5.0, 5.0)

    def _raw(self, planes: torch.Tensor) -> torch.Tensor:
        mean = planes.mean((2, 3))
        spread = _deviation(planes)
        level = (planes - mean[..., None, None]) / (spread[..., None, None] + 0.02)
        found = [mean, (spread + 0.01).log(), _histogram(planes, 0.0, 1.0, 9), _histogram(level, -3.0, 3.0, 13)]
        for _ in range(4):
            padded = functional.pad(planes, (1, 1, 1, 1), mode="reflect")
            steep = functional.conv2d(padded, self.stencils).abs()
            found += [(steep.mean((2, 3)) + 0.002).log(), (steep.amax((2, 3)) + 0.01).log()]
            found += [(_deviation(steep) + 0.002).log(), (_deviation(planes) + 0.01).log()]
            planes = functional.avg_pool2d(planes, 2)
        return torch.cat(found, 1)


def _deviation(planes: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each plane, with a slope where there is none."""
    return ((planes - planes.mean((2, 3), keepdim=True)).square().mean((2, 3)) + 1e-12).sqrt()


def _histogram(planes: torch.Tensor, low: float, high: float, bins: int) -> torch.Tensor:
    """Shares of linearly interpolated bins of (N, 1, S, S)."""
    centres = torch.linspace(low, high, bins, device=planes.device)
    width = (high - low) / (bins - 1)
    return (1.0 - (planes[..., None] - centres).abs() / width).clamp(min=0.0).mean((1, 2, 3))


def build_encoder(name: str) -> tuple[nn.Module, int]:
    """Build an encoder of grey images (N, 1, S, S) in [0, 1], and tell its number of features.

    Parameters
    ----------
    name : {"resnet18", "resnet18-imagenet", "small", "texture"}
        torchvision's ResNet18 with group normalisation, from scratch; the same with its ImageNet weights, which
        torchvision fetches, and batch normalisation frozen; four convolutions, for training on a CPU; `Texture`, which is not learned.

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
    if name == "texture":
        return Texture(), Texture.FEATURES
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
        return self.of(self.encoder(seen[:, None].float() / 255.0), at)

    def of(self, features: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Give actions of what the encoder made of images."""
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
        return self.of(self.encoder(seen[:, None].float() / 255.0))

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """Give actions of what the encoder made of images."""
        return _action(self.head(features)).reshape(-1, self.rounds, self.size)


def random_shift(seen: torch.Tensor, offsets: torch.Tensor, pad: int) -> torch.Tensor:
    """Shift images (N, S, S) by offsets (N, 2) of 0 to 2 * pad, edges repeated (Yarats et al. 2022, DrQ-v2)."""
    side = seen.shape[-1]
    line = torch.arange(side, device=seen.device)
    rows = (line[None] + offsets[:, :1] - pad).clamp(0, side - 1)
    columns = (line[None] + offsets[:, 1:] - pad).clamp(0, side - 1)
    at = torch.arange(len(seen), device=seen.device)[:, None, None]
    return seen[at, rows[:, :, None], columns[:, None, :]]
