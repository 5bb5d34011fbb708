"""Everything a training run is made of, in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from .. import _validate
from ..filters import FilterParams
from ..actor import Actions
from ..errors import InvalidArgumentError
from ..evaluate.run import PROMPTS
from .cases import VIEWS
from .env import CREDITS, REWARDS
from .rollout import STARTS

FORMAT = "sdie_fast run 3"
_count = _validate.integer(1, 10**9)
_share = _validate.real(0.0, 1.0)


@dataclass(frozen=True)
class Config:
    """Settings of a training run.

    The paper (Liu et al. 2024) gives T = 5, the ResNet18 networks, Algorithm 1 and the rewards; the numbers of Algorithm 1
    are those of the published code, kept here as defaults where a segmentation is cheap enough for them. Ours are marked,
    with the reason.

    Attributes
    ----------
    shots, seed : int
        Labelled images of each class; what the split, the networks and the noise follow from.
    prompt : {"auto", "support", "box", "point"}
        How the segmenter is prompted, in training and use alike.
    rounds, passes : int
        Rounds of an episode in all, and the passes they divide into, each of which begins with the image as it came (the
        paper: 5 in one pass). Ours: 5 passes of 2. A segmenter answers so differently to pictures that differ by little that
        what is worth most is a choice of pictures, and a rule that chooses well (`verifier`); what a third round of one filter
        adds to the choice is seldom the best, and more often chosen wrongly.
    reward : {"fb-iou", "miou"}
        Eq. 7.
    relative : bool
        Ours: the unenhanced image's reward is taken off, which leaves the best policy what it was and takes the
        differences between images out of the critics' way.
    credit : {"own", "vote", "best"}
        What a round is rewarded for (`SdieEnv`). The paper: its own mask. Ours: the best of the masks so far, since one of them
        is chosen in the end: a round that adds what the others lack is worth more than one that repeats them.
    encoder : {"small", "resnet18", "resnet18-imagenet"}
        The paper: ResNet18. Ours: "small", four convolutions, for CPUs.
    side : int
        Of observations in pixels (ours: 64).
    segmentations : int
        The budget: training ends with the episode that reaches it. Comparisons are given the same.
    start : {"filters", "uniform"}
        Ours: what the first policy does (`rollout.start_schedule`), and where the searches that it is compared with begin: each
        filter in a pass of its own, or, in a single pass, in a round of its own. "uniform": the uniform mixture, as networks give it
        untaught (published code); five rounds of it leave nothing to segment.
    refer : bool
        Whether the verifier compares a mask with the shots' masks of its class (`verifier.References`): a few-shot class is
        known by its shots. Without, it serves classes that had none.
    prior : bool
        Whether the verifier that ships (`verifier.SHIPPED`), which knows masks of synthetic surfaces, has as much to say in a
        run's as the shots have: with one shot of a class there is little to learn from. It was learned with the small SAM.
    views : int
        Ours: ways each shot is turned and mirrored, 1, 2, 4 or 8. Each episode shows each shot in one of them, drawn anew:
        what a filter does to one picture by chance, it does not do to the same picture turned.
    warmup : int
        Ours: first episodes that explore more widely, about the first policy.
    noise : float
        Standard deviation of exploration, for each participant and dimension (published code: 0.05; ours 0.2, since so
        small a budget has to try more).
    batch, capacity : int
        Transitions in an update, and in the replay buffer (published code: 32, 8192).
    updates : int
        Ours: updates a segmentation, which costs far more than an update (published code: 1).
    shift : int
        Ours: random shifts of observations by up to so many pixels (DrQ-v2); 0 turns them off.
    greedy_every : int
        Episodes between two without exploration.
    checkpoint_every : int
        Episodes between two checkpoints.
    actor_rate, critic_rate, gamma, tau, policy_noise, noise_clip, policy_delay, actor_after, anchor
        See `td3.Rates`: all as published but the last two, ours.
    params : FilterParams
        Of what no action chooses.
    actions : Actions
        What actions choose beside weights.
    auto : dict
        Fields of `segment.Auto`, with the prompt "auto".
    """

    shots: int = 5
    seed: int = 0
    prompt: str = "auto"
    rounds: int = 10
    passes: int = 5
    reward: str = "miou"
    relative: bool = True
    credit: str = "best"
    encoder: str = "small"
    side: int = 64
    segmentations: int = 5000
    start: str = "filters"
    refer: bool = True
    prior: bool = False
    views: int = 1
    warmup: int = 1
    noise: float = 0.2
    batch: int = 32
    capacity: int = 8192
    updates: int = 2
    shift: int = 2
    greedy_every: int = 4
    checkpoint_every: int = 2
    actor_rate: float = 3e-4
    critic_rate: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.1
    noise_clip: float = 0.5
    policy_delay: int = 2
    actor_after: int = 600
    anchor: float | None = 2.5
    params: FilterParams = field(default_factory=FilterParams)
    actions: Actions = field(default_factory=Actions)
    auto: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "shots", "side", "segmentations", "batch", "capacity", "updates",
            "greedy_every", "checkpoint_every", "policy_delay",
        ):  # fmt: skip
            _count(name, getattr(self, name))
        _validate.integer(1, 64)("rounds", self.rounds)
        _validate.passes(self.passes, self.rounds)
        for name in ("warmup", "shift", "seed", "actor_after"):
            _validate.integer(0, 2**31)(name, getattr(self, name))
        for name in ("gamma", "tau"):
            _share(name, getattr(self, name))
        for name in ("noise", "policy_noise", "noise_clip", "actor_rate", "critic_rate"):
            _validate.real(0.0, 10.0)(name, getattr(self, name))
        if self.anchor is not None:
            _validate.real(1e-3, 1e3)("anchor", self.anchor)
        if self.views not in VIEWS:
            raise InvalidArgumentError(f"views: received {self.views!r}; accepted: {', '.join(map(str, VIEWS))}")
        _validate.flag("relative", self.relative)
        _validate.flag("refer", self.refer)
        _validate.flag("prior", self.prior)
        if self.prior and not self.refer:
            raise InvalidArgumentError(
                "prior: received True with refer False; accepted: with refer, since the verifier that ships compares masks with shots"
            )
        for name, accepted in (
            ("prompt", PROMPTS), ("reward", REWARDS), ("credit", CREDITS), ("start", STARTS),
        ):  # fmt: skip
            if getattr(self, name) not in accepted:
                raise InvalidArgumentError(
                    f"{name}: received {getattr(self, name)!r}; accepted: {', '.join(accepted)}"
                )

    @classmethod
    def published_code(cls, **changes: Any) -> Config:
        """Settings of the code published under the first author's name; its FilterParams and four rounds come with them."""
        given: dict[str, Any] = {
            "rounds": 4,
            "passes": 1,
            "relative": False,
            "credit": "own",
            "encoder": "resnet18",
            "side": 200,
            "start": "uniform",
            "noise": 0.05,
            "actor_rate": 3e-4,
            "actor_after": 0,
            "anchor": None,
            "updates": 1,
            "shift": 0,
            "params": FilterParams.published_code(),
        }
        return cls(**{**given, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            **dataclasses.asdict(self),
            "params": self.params.to_dict(),
            "actions": self.actions.to_list(),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """Read what `to_dict` gave.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            A key or a value that cannot be used.
        """
        known = _validate.mapping("config", values)
        _validate.known_keys("config", known, [f.name for f in dataclasses.fields(cls)])
        return cls(
            **{
                **known,
                "params": FilterParams.from_dict(known["params"]),
                "actions": Actions.from_list(known["actions"]),
            }
        )
