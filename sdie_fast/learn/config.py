"""Everything a training run is made of, and the presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import _validate
from ..actor import Actions
from ..data.releases import KINDS
from ..errors import InvalidArgumentError
from ..filters import DEFAULTS, FILTERS, TABLE, FilterParams
from ..segment import Auto
from .baselines import STARTS
from .cases import PROMPTS, VIEWS
from .env import CREDITS, REWARDS

__all__ = ["BACKENDS", "ENCODERS", "PRESETS", "Config", "Job"]

ENCODERS = ("small", "texture", "resnet18", "resnet18-imagenet")
BACKENDS = ("auto", "onnx", "tensorrt", "torch")


def _optional(rule: _validate.Rule) -> _validate.Rule:
    return lambda name, value: None if value is None else rule(name, value)


def _views(name: str, value: Any) -> int:
    if isinstance(value, bool) or value not in VIEWS:
        raise InvalidArgumentError(f"{name}: received {value!r}; accepted: {', '.join(map(str, VIEWS))}")
    return int(value)


def _check(settings: Any, rules: Mapping[str, _validate.Rule]) -> None:
    """Put the checked value of each field in its place."""
    for name, rule in rules.items():
        object.__setattr__(settings, name, rule(name, getattr(settings, name)))


@dataclass(frozen=True)
class Config:
    """Settings of what is learned. A run that goes on has the same.

    The paper (Liu et al. 2024) gives T = 5, the ResNet18 networks, Algorithm 1 and the rewards; the numbers of Algorithm
    1 are those of the published code. "Ours" marks what is neither's, with the reason; `PRESETS` has theirs.

    Attributes
    ----------
    shots : int
        Labelled images of each class.
    seed : int
        What the split, the networks and the noise follow from.
    filters : tuple of str
        The toolkit: what an action mixes, two or more by name. None are those of `actions`.
    prompt : {"auto", "support", "box", "point"}
        How the segmenter is prompted, in training and use alike: everything that stands out, what the shots show, or
        (from the truth) a box or a point.
    segmentations : int
        The budget: training ends with the episode that reaches it. Comparisons are given the same.
    rounds : int
        Rounds of an episode, those of all passes together, at most 64.
    passes : int
        Parts of an episode, each of which begins with the image as it came (the paper: one, of 5 rounds). Ours: 5 of 2.
        A segmenter answers so differently to pictures that differ by little that a choice of pictures is worth most.
    reward : {"fb-iou", "miou"}
        Eq. 7.
    relative : bool
        Ours: the unenhanced image's reward is taken off, which leaves the best policy what it was and takes the
        differences between images out of the critics' way.
    credit : {"own", "vote", "best"}
        What a round is rewarded for: its own mask (the paper), the vote of the masks so far, or (ours) the best of
        them, since one is chosen in the end, and a round that repeats another adds nothing.
    encoder : {"small", "texture", "resnet18", "resnet18-imagenet"}
        The paper: ResNet18. Ours: "small", four convolutions, for CPUs, and "texture", a hundred numbers that are not
        learned: from five shots they tell classes apart where convolutions do not.
    side : int
        Pixels a side of what the networks see (ours: 64).
    start : {"filters", "uniform", "searched"}
        What the first policy does, and where the searches that it is compared with begin. Ours: each filter in a pass or,
        in a single pass, a round of its own; or "searched": what a beam search finds for the shots of each class, which
        the actor is taught (`warmstart`) at the budget's expense. "uniform", the published code's: five rounds of it
        leave nothing to segment.
    refer : bool
        Whether the verifier compares a mask with the shots' masks of its class: a few-shot class is known by its
        shots. Without, it serves classes that had none.
    prior : bool
        Whether the verifier that ships, learned on synthetic surfaces with the small SAM, has as much to say in a run's
        as the shots have: with one shot of a class there is little to learn from.
    views : int
        Ours: ways each shot is turned and mirrored, 1, 2, 4 or 8. Each episode shows each shot in one of them, drawn
        anew: what a filter does to one picture by chance, it does not do to the same picture turned.
    warmup : int
        Ours: first episodes that explore more widely, about the first policy.
    noise : float
        Standard deviation of exploration, for each participant and dimension (published code: 0.05; ours 0.2, since so
        small a budget has to try more).
    batch : int
        Transitions in an update.
    capacity : int
        Transitions in the replay buffer.
    updates : int
        Ours: updates a segmentation, which costs far more than an update (published code: 1).
    shift : int
        Ours: random shifts of observations by up to so many pixels (DrQ-v2); 0 turns them off.
    greedy_every : int
        Episodes between two without exploration.
    checkpoint_every : int
        Episodes between two checkpoints.
    actor_rate : float
        Adam's learning rate of the actor.
    critic_rate : float
        Adam's learning rate of the critics.
    gamma : float
        Discount.
    tau : float
        Share of the new weights in a soft update of the targets.
    policy_noise : float
        Standard deviation of the target policy's smoothing.
    noise_clip : float
        Where that noise is cut off (c).
    policy_delay : int
        Updates of the critics to one of the actor and the targets (d).
    actor_after : int
        Ours: updates before the actor's first. Critics that know nothing yet lead it away from where it began, and it
        does not find back.
    anchor : float or None
        Ours: how much the critic counts against staying near the actions that were tried (alpha of TD3+BC, Fujimoto and
        Gu 2021). Without (Algorithm 1) and with a few thousand transitions the actor runs to a corner of the actions.
    keep : {"better", "last"}
        The policy that a run ends with. Ours: the one it began with, where the shots' returns say that the last is no better
        (`select.holds_up`); or the last (Algorithm 1).
    params : FilterParams
        Of what no action chooses.
    actions : Actions
        What actions choose beside weights.
    auto : dict
        Fields of `segment.Auto` that are not as usual, for the prompt "auto".
    """

    shots: int = 5
    seed: int = 0
    filters: tuple[str, ...] = ()
    prompt: str = "auto"
    segmentations: int = 5000
    rounds: int = 10
    passes: int = 5
    reward: str = "miou"
    relative: bool = True
    credit: str = "best"
    encoder: str = "small"
    side: int = 64
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
    keep: str = "better"
    params: FilterParams = field(default_factory=FilterParams)
    actions: Actions = field(default_factory=Actions)
    auto: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, _CONFIG_RULES)
        filters = _validate.filters(self.filters or self.actions.filters, TABLE)
        if len(filters) < 2:
            raise InvalidArgumentError(
                f"filters: received {filters[0]!r} alone; accepted: two or more of {', '.join(TABLE)}"
            )
        object.__setattr__(self, "filters", filters)
        object.__setattr__(self, "actions", Actions(self.actions.parameters, filters))
        _validate.passes(self.passes, self.rounds)
        if self.prior and not self.refer:
            raise InvalidArgumentError(
                "prior: received True with refer False; accepted: with refer, since the verifier that ships compares "
                "masks with shots"
            )
        usual = dataclasses.asdict(Auto())
        _validate.known_keys("auto", self.auto, usual)
        chosen = dataclasses.asdict(Auto(**self.auto))
        object.__setattr__(self, "auto", {k: v for k, v in chosen.items() if v != usual[k]})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Config:
        """Settings of a preset, some of them changed."""
        return cls.from_dict({**PRESETS[_validate.choice(*PRESETS)("preset", name)], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON and TOML take it."""
        return {
            **dataclasses.asdict(self),
            "filters": list(self.filters),
            "params": self.params.to_dict(self.filters),
            "actions": self.actions.to_list(),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """Read what `to_dict` gave; what it leaves out keeps its default.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            A key or a value that cannot be used.
        """
        given = dict(_validate.mapping("config", values))
        _validate.known_keys("config", given, [f.name for f in dataclasses.fields(cls)])
        if not isinstance(given.get("params", DEFAULTS), FilterParams):
            given["params"] = FilterParams.from_dict(given["params"])
        if not isinstance(given.get("actions", Actions()), Actions):
            filters = _validate.filters(given.get("filters", FILTERS), TABLE)
            given["actions"] = Actions.from_list(given["actions"], filters)
        return cls(**given)


_CONFIG_RULES: dict[str, _validate.Rule] = {
    **dict.fromkeys(
        (
            "shots",
            "side",
            "segmentations",
            "batch",
            "capacity",
            "updates",
            "greedy_every",
            "checkpoint_every",
            "policy_delay",
        ),
        _validate.integer(1, 10**9),
    ),
    **dict.fromkeys(("warmup", "shift", "seed", "actor_after"), _validate.integer(0, 2**31)),
    **dict.fromkeys(("gamma", "tau"), _validate.real(0.0, 1.0)),
    **dict.fromkeys(("noise", "policy_noise", "noise_clip", "actor_rate", "critic_rate"), _validate.real(0.0, 10.0)),
    **dict.fromkeys(("relative", "refer", "prior"), _validate.flag),
    "anchor": _optional(_validate.real(1e-3, 1e3)),
    "rounds": _validate.integer(1, 64),
    "views": _views,
    "prompt": _validate.choice(*PROMPTS),
    "reward": _validate.choice(*REWARDS),
    "credit": _validate.choice(*CREDITS),
    "start": _validate.choice(*STARTS),
    "keep": _validate.choice("better", "last"),
    "encoder": _validate.choice(*ENCODERS),
    "auto": _validate.mapping,
    "params": lambda name, value: _validate.instance(name, value, FilterParams),
    "actions": lambda name, value: _validate.instance(name, value, Actions),
}


@dataclass(frozen=True)
class Job:
    """What `sdie-fast train` learns from and with, and where. A run that goes on has the same data and segmenter.

    Attributes
    ----------
    data : str or None
        The data set's folder.
    kind : {"auto", "fssd12", "defect4i", "folder"}
        What the data set is: FSSD-12, Surface Defects-4i, or images and masks.
    fold : int or None
        Of FSSD-12 and Defects-4i: 0, 1 or 2.
    size : int
        Pixels a side that images are resized to (the paper: 200).
    each_class : bool
        A policy for each class, in OUT/CLASS, each with the whole budget: what helps one kind of defect harms another.
    segmenter : str or None
        A directory that `export-sam` wrote, or a SAM checkpoint; None is the small SAM that ships.
    backend : {"auto", "onnx", "tensorrt", "torch"}
        What runs the segmenter. "auto": torch for a checkpoint, and on a GPU, where images and masks then stay, for the
        small SAM; ONNX Runtime otherwise.
    dtype : {"float32", "bfloat16"}
        Of the segmenter's encoder in torch: bfloat16 is quicker on a GPU and a little less exact.
    device : str
        Where networks, images and segmenter are: "cpu", "cuda", "cuda:1"; "auto" is the first GPU that torch can use,
        else the CPU.
    threads : int or None
        At most; None is every CPU that the process may use.
    memory : str or None
        A file that keeps the segmenter's answers; runs may share it.
    compare : bool
        Whether constant weights and a schedule are searched by CMA-ES afterwards, and constant weights by the gradient
        where the segmenter has one (`segment.torch_maps`), with the same budget each; and, with the start "searched", one
        schedule for all classes by the same search.
    """

    data: str | None = None
    kind: str = "auto"
    fold: int | None = None
    size: int = 200
    each_class: bool = False
    segmenter: str | None = None
    backend: str = "auto"
    dtype: str = "float32"
    device: str = "auto"
    threads: int | None = None
    memory: str | None = None
    compare: bool = True

    def __post_init__(self) -> None:
        _check(self, _JOB_RULES)


_JOB_RULES: dict[str, _validate.Rule] = {
    **dict.fromkeys(("data", "segmenter", "memory"), _optional(_validate.text)),
    **dict.fromkeys(("each_class", "compare"), _validate.flag),
    "kind": _validate.choice(*KINDS),
    "fold": _validate.integer(0, 2, optional=True),
    "size": _validate.integer(16, 16384),
    "backend": _validate.choice(*BACKENDS),
    "dtype": _validate.choice("float32", "bfloat16"),
    "device": _validate.text,
    "threads": _validate.integer(1, _validate.MAX_THREADS, optional=True),
}

_PAPER: dict[str, Any] = {
    "rounds": 5, "passes": 1, "reward": "fb-iou", "relative": False, "credit": "own", "encoder": "resnet18", "side": 200,
    "start": "uniform", "noise": 0.05, "actor_after": 0, "anchor": None, "updates": 1, "shift": 0, "keep": "last",
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "default": {"views": 8, "params": {"wls_solver": "fast"}},
    "paper": _PAPER,
    "published-code": {**_PAPER, "rounds": 4, "reward": "miou", "params": FilterParams.published_code().to_dict()},
}
"""What `Config.from_dict` takes: the paper's text, the code published under its first author's name, and ours."""
