"""CMA-ES beside the page: the best fixed weights for the labelled pictures, all rounds at once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _validate
from .._needs import needing
from ..actor import Actions
from ..enhance import enhance
from ..errors import InvalidArgumentError, SdieError
from ..learn.baselines import action_of, search
from ..learn.cases import Case
from ..learn.env import RewardedStep, SdieEnv
from ..learn.places import Floats, Host, Images, Masks
from ..recipe import Recipe
from ..segment.prompts import Answer
from .pictures import judged

__all__ = ["Effort", "Search", "Whole"]


_Pair = tuple[str, Images, Masks]


class Effort(NamedTuple):
    """What a search may take.

    Attributes
    ----------
    each : int
        Labelled pictures at most, 1 to 64.
    calls : int
        Segmentations to spend, 1 to a million.
    size : int
        Pixels a side that pictures are resized to, 0 to 2048; 0 leaves them as they are, all of one size.
    grid : int
        Points a side that the segmenter is asked about, 1 to 64; 12 is what it is asked elsewhere.
    """

    each: int
    calls: int
    size: int
    grid: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Effort:
        """Check what the page asks for.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            A value that cannot be used.
        """
        ranges = {"each": (1, 64), "calls": (1, 10**6), "size": (0, 2048), "grid": (1, 64)}
        return cls(**{name: _validate.integer(*ends)(name, given.get(name)) or 0 for name, ends in ranges.items()})


class _CancelledError(Exception):
    """Somebody had enough."""


@dataclass(frozen=True)
class _Schedule(Actions):
    """An action of all rounds' weights."""

    rounds: int = 1

    @property
    def size(self) -> int:
        """Numbers in an action."""
        return self.rounds * len(self.filters)


class _AllRounds(Host):
    """A place whose one round is a whole schedule, of pictures that are larger than those it is asked about.

    Parameters
    ----------
    pictures : ndarray, uint8, (N, H, W)
        They are enhanced as they are, and reduced only then.
    """

    _actions: _Schedule

    def __init__(self, pictures: Images, *rest: Any) -> None:
        super().__init__(*rest)
        self._pictures = pictures

    def begin(self, images: Any) -> Any:
        """Begin with all pictures."""
        return super().begin(self._pictures)

    def round(self, state: Any, actions: Floats) -> Any:
        """Take all rounds of each image's action (n, T * F)."""
        own = self._actions
        weights = own.weights(actions.reshape(len(actions), own.rounds, -1))
        return enhance(state, weights, params=self._params, filters=own.filters, threads=self._threads)

    def levels(self, state: Any) -> Any:
        """Give a state as images that are judged."""
        return np.stack([judged(image) for image in super().levels(state)])


class Whole(SdieEnv):
    """An environment of one step, which takes all rounds: as for a fixed recipe, the last picture counts.

    Parameters
    ----------
    segmenter : Segmenter
    pairs : list
        Name, image uint8 (H, W) and truth bool (H, W) of each labelled picture, all of one size.
    recipe : Recipe
        Fixed.
    grid : int
        Points a side that the segmenter is asked about.
    threads : int
        Of the filters.
    lock : threading.Lock
        Held while an image is segmented.
    watch : callable
        Told how many images of a step are done, after each, and 0 after the step.

    Attributes
    ----------
    best : (float, ndarray or None)
        Highest mean reward of a step so far, and its weights (T, F).
    """

    def __init__(
        self,
        segmenter: Any,
        pairs: Sequence[_Pair],
        recipe: Recipe,
        grid: int,
        threads: int,
        lock: Any,
        watch: Callable[[int], None],
    ) -> None:
        schedule = _Schedule((), recipe.filters, recipe.rounds)
        cases = [Case(judged(image), judged(truth), name=name) for name, image, truth in pairs]
        super().__init__(
            segmenter, cases, rounds=1, params=recipe.params, actions=schedule, threads=threads,
            options={"grid": grid} if segmenter.takes_prompts else None,
        )  # fmt: skip
        self.place = _AllRounds(np.stack([image for _, image, _ in pairs]), recipe.params, schedule, threads)
        self.best: tuple[float, npt.NDArray[np.float32] | None] = (-1.0, None)
        self.stopped, self._turn, self._watch = threading.Event(), lock, watch

    def segment(self, which: Sequence[int], images: Any) -> list[Answer]:
        """Segment one image after the other, so that the page has its turn in between."""
        found = []
        for k, image in zip(which, images, strict=True):
            if self.stopped.is_set():
                raise _CancelledError
            with self._turn:
                found += super().segment([k], image[None])
            self._watch(len(found))
        return found

    def step(self, actions: npt.ArrayLike) -> RewardedStep:
        """Take all rounds, and remember the best."""
        found = super().step(actions)
        mean = float(np.mean(found.reward))
        if mean > self.best[0]:
            chosen = np.asarray(actions, np.float32)[0].reshape(-1, len(self.actions.filters))
            self.best = mean, self.actions.weights(chosen)
        self._watch(0)
        return found


class Search:
    """One search at a time, in a thread of its own.

    Parameters
    ----------
    lock : threading.Lock
        Held while the segmenter works.
    """

    def __init__(self, lock: Any) -> None:
        self._segmenting, self._starting = lock, threading.Lock()
        self._thread: threading.Thread | None = None
        self._env: Whole | None = None
        self._told: dict[str, Any] = {"state": "none"}

    def begin(self, model: Any, pairs: Sequence[_Pair], recipe: Recipe, effort: Effort, threads: int) -> None:
        """Begin with a recipe's weights.

        Parameters
        ----------
        model : Segmenter
        pairs : list
            Name, image uint8 (H, W) and truth bool (H, W) of each labelled picture.
        recipe : Recipe
            Fixed.
        effort : Effort
        threads : int
            Of the filters.

        Raises
        ------
        InvalidArgumentError
            A search is running, or pictures differ in size.
        MissingPackageError
            The package cma is missing.
        """
        with needing('"sdie-fast[tune]"'):
            import cma  # noqa: F401
        if not effort.size and len({image.shape for _, image, _ in pairs}) > 1:
            raise InvalidArgumentError(
                "size: the labelled pictures differ in size; accepted: a side to resize them to"
            )
        pairs = [(name, *_resized(image, truth, effort.size)) for name, image, truth in pairs]
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                raise InvalidArgumentError("search: one is running; cancel it first")
            told: dict[str, Any] = {"state": "running", "done": 0, "total": effort.calls, "pictures": len(pairs)}
            told["names"] = [name for name, _, _ in pairs]
            begin = time.monotonic()

            def watch(part: int) -> None:
                done = max(told["done"], min(env.calls + part, effort.calls))
                told.update(done=done, seconds=time.monotonic() - begin)
                if env.best[1] is not None:
                    told["best"] = env.best[0]

            env = Whole(model, pairs, recipe, effort.grid, threads, self._segmenting, watch)
            self._told, self._env = told, env
            self._thread = threading.Thread(target=self._run, args=(env, told, recipe, effort.calls), daemon=True)
            self._thread.start()

    def _run(self, env: Whole, told: dict[str, Any], recipe: Recipe, calls: int) -> None:
        try:
            told["alone"] = float(np.mean(env.judge(range(len(env)), np.stack(env.pictures))[1]))
            # Just within the bounds, from where the search can move both ways.
            weights: Any = recipe.weights
            start = 0.95 * action_of(weights, Actions((), recipe.filters)).reshape(1, -1)
            env.reset()
            told["start"] = float(np.mean(env.step(np.repeat(start, len(env), 0)).reward))
            search(env, max(1, calls - len(env)), 0, start)
            told.update(state="done", done=calls)
        except _CancelledError:
            told["state"] = "cancelled"
        except SdieError as error:
            told.update(state="failed", error=str(error))
        except Exception as error:
            traceback.print_exc()
            told.update(state="failed", error=f"{type(error).__name__}: {error}")
        score, found = env.best
        if found is not None:
            rows = [[round(float(w), 4) for w in row] for row in found]
            told.update(
                best=score,
                recipe={"filters": list(recipe.filters), "weights": rows, "params": recipe.params.to_dict()},
            )

    def told(self) -> dict[str, Any]:
        """Tell how far it is: `state`, segmentations `done` of `total`, FB-IoU `alone`, at the `start` and `best`."""
        return dict(self._told)

    def cancel(self) -> None:
        """Stop after the candidate that is being judged; the best so far is told."""
        if self._env is not None:
            self._env.stopped.set()

    def close(self) -> bool:
        """Stop, wait for the picture that is being segmented, and tell whether nothing is running any more."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(10.0)
        return self._thread is None or not self._thread.is_alive()


def _resized(image: Images, truth: Masks, size: int) -> tuple[Images, Masks]:
    from PIL import Image

    if not size or image.shape == (size, size):
        return np.ascontiguousarray(image), np.ascontiguousarray(truth)
    small = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    mask = Image.fromarray(truth.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(small), np.asarray(mask) == 1
