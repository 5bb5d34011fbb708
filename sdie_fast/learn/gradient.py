"""Weights learned by gradient, without reinforcement learning: a baseline for segmenters that are differentiable.

A round is a weighted sum, so that its derivative by a weight is that filter's output. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import _validate, _weights
from ..enhance import enhance
from ..errors import InvalidArgumentError, InvalidTypeError, SdieError
from ..filters import DEFAULTS, FILTERS, TABLE, FilterParams
from .cases import Case
from .places import Floats

__all__ = ["Fit", "fit_weights"]

_ORDER = 8  # stream of random numbers: (seed, stream)
_FLOOR = 1e-3  # least weight to begin with: a softmax does not leave 0


@dataclass(frozen=True)
class Fit:
    """What was found by gradient.

    Attributes
    ----------
    weights : ndarray, float32, (T, F)
        Of each round, or one row that all rounds have in common; each sums to one.
    losses : tuple of float
        Of each step, in [0, 1]: before the weights were changed, mean over its cases and rounds.
    segmentations : int
        Spent: a forward pass of one picture with its backward pass counts as one, though it costs about three.
    """

    weights: Floats
    losses: tuple[float, ...]
    segmentations: int


def fit_weights(
    segmenter: Any,
    cases: Sequence[Case],
    *,
    rounds: int = 1,
    steps: int = 100,
    rate: float = 0.3,
    batch: int | None = None,
    seed: int = 0,
    start: npt.ArrayLike | None = None,
    params: FilterParams | None = None,
    filters: Sequence[str] = FILTERS,
    threads: int | None = None,
    watch: Callable[[int, float], None] = lambda _spent, _jaccard: None,
) -> Fit:
    """Find weights whose pictures a segmenter maps to the truth, by gradient descent (Adam).

    Parameters
    ----------
    segmenter : object with `shares`
        A differentiable one, such as `segment.torch_maps.TorchMaps`; `device`, where it has one, is the pictures'. A SAM is
        not accepted: its "auto" thresholds masks and chooses among them, which has no gradient.
    cases : sequence of Case
        Those of one class, or one image, or all; their prompt is "auto".
    rounds : int
        T, 1 to 64.
    steps : int
        Of Adam, 1 or more.
    rate : float
        Adam's learning rate, of the weights' logits.
    batch : int, optional
        Cases of a step, drawn without replacement until all have been; None means all.
    seed : int
        Of that order.
    start : array_like, optional
        Weights to begin with, (T, F), or (1, F) or (F,) for one row that all rounds have in common. None means the uniform
        mixture in each round.
    params : FilterParams, optional
    filters : sequence of str
        The F filters.
    threads : int, optional
        Of the filters.
    watch : callable
        Told the segmentations spent and the step's mean soft Jaccard index.

    Returns
    -------
    Fit
        The mean of the weights in the epoch, which takes each case once, of the lowest mean loss: with `batch` None, the
        best of all steps'. An epoch that the last step leaves unfinished does not count, unless it is the only one.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        A segmenter without `shares`, or a value that cannot be used.

    Notes
    -----
    The loss is one minus the soft Jaccard index of the segmenter's shares and the truth, the mean over the pictures of all
    rounds. Filters are run by the compiled core and are constants of the differentiation. With one round the gradient is
    exact, except where a filter's own output leaves [0, 1] and is cut off before it is mixed. With several it is
    approximate: how a round's picture depends on earlier weights is followed through the identity's part alone.
    """
    if not callable(getattr(segmenter, "shares", None)):
        raise InvalidTypeError(
            f"segmenter: received a {type(segmenter).__name__}; accepted: one with differentiable `shares`, such as "
            "segment.torch_maps.TorchMaps"
        )
    _validate.integer(1, 64)("rounds", rounds)
    _validate.integer(1, 10**9)("steps", steps)
    _validate.real(0.0, 100.0, above_low=True)("rate", rate)
    _validate.integer(1, 10**9, optional=True)("batch", batch)
    _validate.integer(0, 2**31)("seed", seed)
    names = _validate.filters(filters, TABLE)
    chosen = _validate.instance("params", DEFAULTS if params is None else params, FilterParams)
    begun = _begun(start, names, rounds)
    device = getattr(segmenter, "device", "cpu")

    def outputs(state: torch.Tensor) -> torch.Tensor:
        """Each filter's output (F, H, W) for a picture (H, W)."""
        copies = np.repeat(state.detach().cpu().numpy()[None], len(names), 0)
        alone = np.eye(len(names), dtype=np.float32)[:, None]
        made = enhance(copies, alone, params=chosen, filters=names, threads=threads, axes="NHW")
        return torch.from_numpy(made).to(device)

    known = []  # picture, its first outputs, truth
    for case in _checked(cases):
        picture = torch.from_numpy(case.image.astype(np.float32) / np.float32(255.0)).to(device)
        known.append((picture, outputs(picture), torch.from_numpy(case.truth.astype(np.float32)).to(device)))

    def loss_of(k: int, weights: torch.Tensor) -> torch.Tensor:
        """Loss of a case, the mean over its rounds."""
        state, first, truth = known[k]
        found = []
        for at in range(rounds):
            planes = first if at == 0 else outputs(state)
            mixed = [state if name == "identity" else p for name, p in zip(names, planes, strict=True)]
            state = torch.tensordot(weights[at % len(weights)], torch.stack(mixed), 1).clamp(0.0, 1.0)
            found.append(_loss(segmenter.shares(state[None])[0], truth))
        return torch.stack(found).mean()

    logits = torch.from_numpy(np.log(np.maximum(begun, _FLOOR))).to(device).requires_grad_()
    adam = torch.optim.Adam([logits], rate)
    rng = np.random.default_rng((seed, _ORDER))
    rest: list[int] = []
    rows, losses, sizes = [], [], []
    for _ in range(steps):
        rest = rest or rng.permutation(len(known)).tolist()
        own, rest = rest[:batch], rest[batch:] if batch else []
        rows.append(logits.detach().softmax(-1).cpu().numpy())
        adam.zero_grad()
        total = 0.0
        for k in own:  # one after the other, since what a backward pass keeps of one picture may be gigabytes
            loss = loss_of(k, logits.softmax(-1)) / len(own)
            loss.backward()
            total += loss.item()
        adam.step()
        losses.append(total)
        sizes.append(len(own))
        watch(rounds * sum(sizes), 1.0 - total)
    each = 1 if batch is None else -(-len(known) // batch)  # steps of an epoch
    epochs = [slice(at, at + each) for at in range(0, max(steps - each, 0) + 1, each)]
    best = min(epochs, key=lambda epoch: np.average(losses[epoch], weights=sizes[epoch]))
    return Fit(np.mean(rows[best], 0), tuple(losses), rounds * sum(sizes))


def _begun(start: Any, filters: tuple[str, ...], rounds: int) -> Floats:
    """The weights to begin with."""
    if start is None:
        start = np.ones((rounds, len(filters)))
    try:
        found = _weights.shared_weights(start, filters)
    except SdieError as error:
        raise type(error)(f"start: {error}") from error
    if len(found) not in (1, rounds):
        raise InvalidArgumentError(f"start: received {len(found)} rows for {rounds} round(s); accepted: 1 or {rounds}")
    return found


def _checked(cases: Any) -> list[Case]:
    found = list(cases) if isinstance(cases, Sequence) else []
    if not found:
        raise InvalidArgumentError(f"cases: received {_validate.quote(cases)}; accepted: a sequence of 1 or more")
    for k, case in enumerate(found):
        if _validate.instance(f"cases[{k}]", case, Case).prompt != "auto":
            raise InvalidArgumentError(
                f"cases[{k}]: received the prompt {_validate.quote(case.prompt)}; accepted: 'auto', since nothing else is "
                "said to the segmenter"
            )
    return found


def _loss(shares: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """One minus the soft Jaccard index of shares (H, W) and the truth."""
    both = (shares * truth).sum()
    either = (shares + truth).sum() - both
    return 1.0 - (both + 1.0) / (either + 1.0)  # one pixel more, so that nothing found where nothing is has no loss
