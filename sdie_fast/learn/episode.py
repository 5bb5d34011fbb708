"""Episodes: images enhanced round by round and segmented after each (Liu et al. 2024, eqs. 4 to 6), judged by nobody.

n participants, one image each, are stepped as one batch: one fused round, one batch of segmentations.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _validate
from ..actor import Actions
from ..errors import InvalidArgumentError, InvalidTypeError
from ..filters import FilterParams
from ..segment import Auto, Segmenter
from ..segment.geometry import on_host
from ..segment.prompts import Answer
from .memory import Memory, prompt_key
from .places import Host, Images

__all__ = ["Episode", "Observation", "Step", "checked_image"]

_Same = TypeVar("_Same", bound="Episode")


def checked_image(image: Any) -> Images:
    """Check that an image is uint8 (H, W)."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
        received = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
        raise InvalidTypeError(f"image: received {received}; accepted: uint8 (H, W)")
    return image


@dataclass(frozen=True)
class Observation:
    """What the agent sees of n participants.

    Attributes
    ----------
    seen : ndarray or Tensor, uint8, (n, side, side)
        The images, reduced; a tensor where the episode has a device.
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
    state : Observation
    done : bool
        The horizon is finite: the last round ends the episode for good, nothing is to come after it.
    answers : list of Answer
        The segmenter's.
    made : ndarray or Tensor, uint8, (n, H, W)
        The enhanced images, as a caller of `enhance` gets them, where the episode keeps them.
    """

    state: Observation
    done: bool
    answers: list[Answer]
    made: Any

    @functools.cached_property
    def images(self) -> Images:
        """What was made, as an array: copied when it is first asked for, if it is on a device."""
        found: Images = on_host(self.made)
        return found


class Episode:
    """n participants, each with an image of its own, all in the same round.

    Parameters
    ----------
    segmenter : Segmenter
        The frozen model.
    images : sequence of ndarray, uint8, (H, W)
        All of one shape, 1 or more.
    prompts : sequence
        One for each: "auto", a Support, a Prompt, or None where there is nothing to point at: its mask is empty.
    rounds : int
        Of an episode, 1 to 64: T in each pass.
    passes : int
        Parts of equal length of an episode: each begins with the image as it came. The paper has one. With more, the agent
        makes several series of pictures of one image, and a later one may try what the others did not.
    params : FilterParams, optional
        Of what no action chooses.
    actions : Actions, optional
        What actions mean: weights alone unless told.
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
        Where images and masks are kept, as tensors: "cuda" is for a segmenter that is there too, such as
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
        No image, images of several shapes, or a value that cannot be used.
    ModelError
        A device that is not there.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        images: Sequence[Images],
        prompts: Sequence[Any],
        *,
        rounds: int = 5,
        passes: int = 1,
        params: FilterParams | None = None,
        actions: Actions | None = None,
        side: int = 64,
        threads: int | None = None,
        options: dict[str, Any] | None = None,
        remembered: int = 8192,
        memory: Memory | None = None,
        device: str | None = None,
    ) -> None:
        if not images:
            raise InvalidArgumentError("images: received none; accepted: 1 or more")
        shapes = sorted({checked_image(image).shape for image in images})
        if len(shapes) > 1:
            raise InvalidArgumentError(
                f"images: received {shapes[0]} and {shapes[-1]}; accepted: one shape (data sets are resized by size=200)"
            )
        self.segmenter, self.pictures, self.prompts = segmenter, tuple(images), tuple(prompts)
        self.rounds = _validate.integer(1, 64)("rounds", rounds)
        self.passes = _validate.passes(passes, self.rounds)
        self.params = FilterParams() if params is None else params
        _validate.instance("params", self.params, FilterParams)
        self.actions = Actions() if actions is None else actions
        self.side = _validate.integer(8, 1024)("side", side)
        self.threads, self.options = _validate.threads(threads), options or {}
        _validate.known_keys("options", self.options, Auto.__annotations__)
        self.calls, self.seconds = 0, dict.fromkeys(("enhance", "segment", "other"), 0.0)
        if device is None:
            self.place: Host = Host(self.params, self.actions, self.threads)
        else:
            from .resident import Resident

            self.place = Resident(self.params, self.actions, self.threads, device)
        self._images = self.place.take(np.stack(self.pictures))
        self._memory, self._remembered = memory, remembered
        self._prompt_keys: dict[int, bytes] = {}  # in memory
        self._known: dict[bytes, Answer] = {}
        self._first: Any = None
        self._state: Any = None
        self._which: list[int] = []
        self._at = self.rounds

    def __len__(self) -> int:
        return len(self.pictures)

    def one_pass(self: _Same) -> _Same:
        """The same with a single pass, of as many rounds; what either remembers, both do."""
        env = copy.copy(self)
        env.rounds, env.passes = self.rounds // self.passes, 1
        env.calls, env.seconds = 0, dict.fromkeys(self.seconds, 0.0)
        env._at = env.rounds
        return env

    def begins_pass(self, at: int) -> bool:
        """Whether the round after `at` others works on the image as it came."""
        return at % (self.rounds // self.passes) == 0

    def segment(self, which: Sequence[int], images: Any) -> list[Answer]:
        """Segment images of those participants, or remember.

        Parameters
        ----------
        which : sequence of int, (n,)
            Whose images they are.
        images : ndarray or Tensor, uint8, (n, H, W)
        """
        images = self.place.take(images)
        keys = [int(k).to_bytes(4, "little") + key for k, key in zip(which, self.place.keys(images), strict=True)]
        new = {key: n for n, key in enumerate(keys) if key not in self._known}
        nothing = Answer(np.zeros(images.shape[1:], bool))
        found = {key: nothing for key, n in new.items() if self.prompts[which[n]] is None}
        rest = [key for key in new if key not in found]
        if rest:
            rows = [new[key] for key in rest]
            begin = time.perf_counter()
            found |= dict(zip(rest, self._ask([which[n] for n in rows], images[rows]), strict=True))
            self.seconds["segment"] += time.perf_counter() - begin
        answered = [found[key] if key in found else self._known[key] for key in keys]
        if len(self._known) + len(found) > self._remembered:
            self._known.clear()
        self._known.update(found)
        return answered

    def _ask(self, which: Sequence[int], images: Any) -> list[Answer]:
        """Segment, or find the answers in memory."""
        known: dict[int, Answer] = {}
        keys: list[bytes] = []
        if self._memory is not None:
            for k, image in zip(which, on_host(images), strict=True):
                if k not in self._prompt_keys:
                    self._prompt_keys[k] = prompt_key(self.prompts[k], self.options)
                keys.append(self._memory.key(self._prompt_keys[k], image))
            there = self._memory.get(keys)
            known = {n: there[key] for n, key in enumerate(keys) if key in there}
        rest = [n for n in range(len(which)) if n not in known]
        if rest:
            prompts = (self.prompts[which[n]] for n in rest)
            given = [Auto(**self.options) if prompt == "auto" else prompt for prompt in prompts]
            shown = self.place.given(images[rest], self.segmenter.takes_tensors)
            known |= dict(zip(rest, self.segmenter.answer(shown, given, axes="NHW"), strict=True))
            if self._memory is not None:
                self._memory.put({keys[n]: known[n] for n in rest})
        return [known[n] for n in range(len(which))]

    def reset(self, which: Sequence[int] | None = None) -> Observation:
        """Begin an episode.

        Parameters
        ----------
        which : sequence of int, optional
            The participants; None means each once.
        """
        self._which = list(range(len(self))) if which is None else [int(k) for k in which]
        if not self._which or not all(0 <= k < len(self) for k in self._which):
            raise InvalidArgumentError(f"which: received {self._which}; accepted: indices of {len(self)} case(s)")
        self._first = self._state = self.place.begin(self._images[self._which])
        self._at = 0
        return self._observation()

    def _observation(self) -> Observation:
        return Observation(self.place.observe(self._state, self.side), self._at)

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
        begin, before = time.perf_counter(), self.seconds["segment"]
        self._state = self.place.round(self._state, chosen)
        images = self.place.levels(self._state)
        middle = time.perf_counter()
        self.seconds["enhance"] += middle - begin
        answers = self.segment(self._which, images)
        self.calls += len(images)
        self._at += 1
        if self._at < self.rounds and self.begins_pass(self._at):
            self._state = self._first
        state = self._observation()
        self.seconds["other"] += time.perf_counter() - middle - (self.seconds["segment"] - before)
        return Step(state, self._at == self.rounds, answers, images)
