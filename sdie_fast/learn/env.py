"""The decision process of SDIE (Liu et al. 2024, eqs. 4 to 7): states are images, actions mix filters, rewards judge masks.

n participants, one image each, are stepped as one batch: one fused round, one batch of segmentations.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..filters import FilterParams
from ..actor import Actions
from ..errors import InvalidArgumentError
from ..segment import Segmenter
from ..segment.prompts import Answer, answer
from .memory import Memory, prompt_key
from .place import Host, Images, Place, on_host
from .rewards import REWARDS, Case, Floats, Masks, iou, reward_of, vote

__all__ = [
    "CREDITS", "REWARDS", "Case", "Floats", "Masks", "SdieEnv", "State", "Step", "begins_pass", "iou", "reward_of",
    "vote",
]  # fmt: skip

CREDITS = ("own", "vote", "best")


def begins_pass(at: int, rounds: int, passes: int) -> bool:
    """Whether the round after `at` others works on the image as it came."""
    return at % (rounds // passes) == 0


@dataclass(frozen=True)
class State:
    """What the agent sees of n participants.

    Attributes
    ----------
    seen : ndarray or Tensor, uint8, (n, side, side)
        The images, reduced; a tensor where the environment has a device.
    at : int
        Rounds taken so far; at `rounds`, the episode is over.
    """

    seen: Any
    at: int


@dataclass(frozen=True)
class Step:
    """What a round led to.

    Attributes
    ----------
    state : State
    reward : ndarray, float32, (n,)
    done : bool
        The horizon is finite: the last round ends the episode for good, nothing is to come after it.
    answers : list of Answer
        The segmenter's.
    made : ndarray or Tensor, uint8, (n, H, W)
        The enhanced images, as a caller of `enhance` gets them, where the environment keeps them.
    """

    state: State
    reward: Floats
    done: bool
    answers: list[Answer]
    made: Any

    @functools.cached_property
    def images(self) -> Images:
        """What was made, as an array: copied when it is first asked for, if it is on a device."""
        found: Images = on_host(self.made)
        return found


class SdieEnv:
    """n participants, each with an image of its own, all in the same round.

    Parameters
    ----------
    segmenter : Segmenter
        The frozen model.
    cases : sequence of Case
        All of one shape, 1 or more.
    rounds : int
        Of an episode, 1 to 64: T in each pass.
    passes : int
        Parts of equal length of an episode: each begins with the image as it came. The paper has one. With more, the agent
        makes several series of pictures of one image, and a later one may try what the others did not.
    params : FilterParams, optional
        Of what no action chooses.
    actions : Actions, optional
        What actions mean: weights alone unless told.
    reward : {"fb-iou", "miou"}
        Of the segmented new image (eq. 7).
    relative : bool
        Whether the reward of the image as it came is taken off: what remains says what enhancement
        did, and participants with hard images do not drown the others.
    credit : {"own", "vote", "best"}
        What a round is rewarded for: its own mask, as the paper has it; the vote of all answers so far, the unenhanced image's
        among them; or the best of them. With the last two, what it adds to the others counts, and rounds may differ.
    side : int
        Of observations in pixels.
    threads : int, optional
        Of the filters.
    options : dict, optional
        Fields of `Auto`, where the prompt is "auto".
    remembered : int
        Segmentations kept; a repeated one costs nothing.
    memory : Memory, optional
        Where answers are kept beyond this process: by their images, which are copied from a device for it.
    device : str, optional
        Where images, masks and truths are kept, as tensors: "cuda" is for a segmenter that is there too, such as
        `segment.torch_sam.TorchSam`. None means arrays on the host, and filters on the CPU.

    Attributes
    ----------
    calls : int
        Images that steps had segmented so far, remembered ones included, so that a run that was killed counts alike:
        the budget of every comparison.
    seconds : dict of str to float
        Time spent in "enhance", "segment" and the "other" parts of a step; on a GPU, which works on while the next part has
        begun, only their sum is right.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        No case, cases of several shapes, or a value that cannot be used.
    ModelError
        A device that is not there.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cases: Sequence[Case],
        *,
        rounds: int = 5,
        passes: int = 1,
        params: FilterParams | None = None,
        actions: Actions | None = None,
        reward: str = "fb-iou",
        relative: bool = False,
        credit: str = "own",
        side: int = 64,
        threads: int | None = None,
        options: dict[str, Any] | None = None,
        remembered: int = 8192,
        memory: Memory | None = None,
        device: str | None = None,
    ) -> None:
        if not cases:
            raise InvalidArgumentError("cases: received none; accepted: 1 or more")
        shapes = sorted({c.image.shape for c in cases})
        if len(shapes) > 1:
            raise InvalidArgumentError(
                f"cases: received images of {shapes[0]} and {shapes[-1]}; accepted: one shape "
                "(data sets are resized by size=200)"
            )
        if reward not in REWARDS:
            raise InvalidArgumentError(f"reward: received {reward!r}; accepted: {', '.join(REWARDS)}")
        self.segmenter, self.cases = segmenter, tuple(cases)
        self.rounds = _validate.integer(1, 64)("rounds", rounds)
        self.passes = _validate.passes(passes, self.rounds)
        self.params = FilterParams() if params is None else params
        _validate.instance("params", self.params, FilterParams)
        self.actions = Actions() if actions is None else actions
        self.reward, self.relative = reward, _validate.flag("relative", relative)
        if credit not in CREDITS:
            raise InvalidArgumentError(f"credit: received {credit!r}; accepted: {', '.join(CREDITS)}")
        self.credit, self._memory = credit, memory
        self._prompts: dict[int, bytes] = {}  # keys of the cases' prompts in memory
        self.side = _validate.integer(8, 1024)("side", side)
        self.threads, self.options = _validate.threads(threads), options or {}
        self.calls, self.seconds = 0, dict.fromkeys(("enhance", "segment", "other"), 0.0)
        self._remembered = remembered
        self._known: dict[bytes, tuple[Answer, float]] = {}
        given = (self.cases, self.params, self.actions, self.threads)
        if device is None:
            self.place: Place = Host(*given)
        else:
            from .device import Device

            self.place = Device(*given, device)
        self._first: Any = None
        self._image: Any = None
        self._which: list[int] = []
        self._base: Any = np.float32(0.0)
        self._best: Any = np.float32(0.0)  # reward of each participant's best answer so far
        self._answers: list[list[Answer]] = []  # of each participant so far
        self._at = self.rounds

    def __len__(self) -> int:
        return len(self.cases)

    def one_pass(self) -> SdieEnv:
        """The same with a single pass, of as many rounds; what either remembers, both do."""
        env = copy.copy(self)
        env.rounds, env.passes = self.rounds // self.passes, 1
        env.calls, env.seconds = 0, dict.fromkeys(self.seconds, 0.0)
        env._at = env.rounds
        return env

    def judge(self, which: Sequence[int], images: Any) -> tuple[list[Answer], Floats]:
        """Segment images of those cases: the answers, and the reward of each without `relative`.

        Parameters
        ----------
        which : sequence of int, (n,)
            The cases that the images come from.
        images : ndarray or Tensor, uint8, (n, H, W)
        """
        images = self.place.take(images)
        keys = [int(k).to_bytes(4, "little") + key for k, key in zip(which, self.place.keys(images), strict=True)]
        new = {key: n for n, key in enumerate(keys) if key not in self._known}
        found: dict[bytes, tuple[Answer, float]] = {}
        for key, n in new.items():
            case = self.cases[which[n]]
            if case.prompt is None:
                nothing = Answer(np.zeros_like(case.truth))
                found[key] = (nothing, reward_of(nothing.mask, case.truth, self.reward))
        # One batch for each kind of prompt: "auto" is one for all, the others one an image.
        for auto in (True, False):
            part = [
                (key, n)
                for key, n in new.items()
                if key not in found and isinstance(self.cases[which[n]].prompt, str) == auto
            ]
            if not part:
                continue
            begin = time.perf_counter()
            answers = self._segment([which[n] for _, n in part], images[[n for _, n in part]], auto)
            self.seconds["segment"] += time.perf_counter() - begin
            rewards = self.place.rewards(answers, [which[n] for _, n in part], self.reward)
            for (key, _), a, r in zip(part, answers, rewards, strict=True):
                found[key] = (a, r)
        judged = [found[key] if key in found else self._known[key] for key in keys]
        if len(self._known) + len(found) > self._remembered:
            self._known.clear()
        self._known.update(found)
        return [a for a, _ in judged], np.array([r for _, r in judged], np.float32)

    def _segment(self, which: Sequence[int], images: Any, auto: bool) -> list[Answer]:
        """Segment by prompts of one kind, or remember."""
        options = self.options if auto else {}
        known: dict[int, Answer] = {}
        keys: list[bytes] = []
        if self._memory is not None:
            for k, image in zip(which, self.place.host(images), strict=True):
                if k not in self._prompts:
                    self._prompts[k] = prompt_key(self.cases[k].prompt, options)
                keys.append(self._memory.key(self._prompts[k], image))
            there = self._memory.get(keys)
            known = {n: there[key] for n, key in enumerate(keys) if key in there}
        rest = [n for n in range(len(which)) if n not in known]
        if rest:
            prompts = [self.cases[which[n]].prompt for n in rest]
            given = prompts[0] if auto else prompts
            shown = self.place.given(images[rest], self.segmenter.takes_tensors)
            answers = answer(self.segmenter, shown, given, options)
            known |= dict(zip(rest, answers, strict=True))
            if self._memory is not None:
                self._memory.put({keys[n]: known[n] for n in rest})
        return [known[n] for n in range(len(which))]

    def reset(self, which: Sequence[int] | None = None) -> State:
        """Begin an episode.

        Parameters
        ----------
        which : sequence of int, optional
            The participants' cases; None means each once.
        """
        self._which = list(range(len(self.cases))) if which is None else [int(k) for k in which]
        if not self._which or not all(0 <= k < len(self.cases) for k in self._which):
            raise InvalidArgumentError(
                f"which: received {self._which}; accepted: indices of {len(self.cases)} case(s)"
            )
        raw = self.place.images(self._which)
        self._first = self._image = self.place.begin(raw)
        self._at = 0
        self._base = np.float32(0.0)
        if self.relative or self.credit != "own":
            answers, rewards = self.judge(self._which, raw)
            self._answers, self._best = [[a] for a in answers], rewards
            self._base = rewards if self.relative else self._base
        return self._state()

    def _state(self) -> State:
        return State(self.place.observe(self._image, self.side), self._at)

    def step(self, actions: npt.ArrayLike) -> Step:
        """Take a round.

        Parameters
        ----------
        actions : array_like, (n, size)
            In [-1, 1].

        Raises
        ------
        InvalidArgumentError
            Actions of another shape or not finite, or the episode is over.
        """
        if self._at >= self.rounds:
            raise InvalidArgumentError("step: the episode is over, or none was begun; call reset() first")
        chosen = np.asarray(actions, np.float32)
        expected = (len(self._which), self.actions.size)
        if chosen.shape != expected or not np.isfinite(chosen).all():
            raise InvalidArgumentError(
                f"actions: received shape {chosen.shape}; accepted: {expected}, finite numbers in [-1, 1]"
            )
        begin = time.perf_counter()
        self._image = self.place.round(self._image, chosen)
        images = self.place.levels(self._image)
        middle = time.perf_counter()
        self.seconds["enhance"] += middle - begin
        before = self.seconds["segment"]
        answers, reward = self.judge(self._which, images)
        if self.credit == "best":
            reward = self._best = np.maximum(self._best, reward)
        elif self.credit == "vote":
            for own, a in zip(self._answers, answers, strict=True):
                own.append(a)
            reward = np.array(self.place.votes(self._answers, self._which, self.reward), np.float32)
        self.calls += len(images)
        self._at += 1
        if self._at < self.rounds and begins_pass(self._at, self.rounds, self.passes):
            self._image = self._first
        state = self._state()
        self.seconds["other"] += time.perf_counter() - middle - (self.seconds["segment"] - before)
        return Step(
            state,
            reward - np.asarray(self._base, np.float32),
            self._at == self.rounds,
            answers,
            images,
        )
