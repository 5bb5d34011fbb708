"""SDIE on images nobody has labelled: all pictures that a recipe makes of one, and the mask that its rule chooses.

Needs neither torch nor the run's data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _validate
from ..errors import InvalidArgumentError, RunError
from ..segment import Segmenter
from .env import follow
from .episode import Episode
from .places import Images, Masks
from .runs import RESULT, VERIFIER, act_of, episode_options, open_run, read_json
from .select import BLIND, choose, final_mask
from .verifier import Verifier

__all__ = ["RULES", "Finding", "Inspector"]

RULES = tuple(rule for rule in BLIND if rule != "critic")  # whose networks are not part of a recipe


@dataclass(frozen=True)
class Finding:
    """What was found in an image.

    Attributes
    ----------
    mask : ndarray, bool, (H, W)
        Foreground.
    image : ndarray, uint8, (H, W)
        The picture that it was found in; with "vote", which combines all, the last.
    round : int
        Which one: 0 is the image as it came, then come the rounds of the first pass, of the second and so on.
    quality : float
        The segmenter's predicted IoU there.
    score : float
        The verifier's, of which only differences mean anything; NaN without one.
    """

    mask: Masks
    image: Images
    round: int
    quality: float
    score: float


class Inspector:
    """A run, or a bare recipe, made ready for image after image.

    Parameters
    ----------
    run : Path
        What `sdie-fast train` wrote, or a recipe's folder; with `--each-class`, one class's.
    segmenter : Segmenter
        The one that it was trained with.
    rule : str, optional
        Which mask is final, one of `RULES`: unless told, the run's own; of a bare recipe, "verifier" where it has one, else
        "agreement".
    label : str, optional
        The class of defect looked for, for the verifier; None takes a mask for what it is to the class it suits best.
    auto : dict, optional
        Fields of `segment.Auto`, instead of the run's own.
    threads : int, optional
        Of the filters.

    Raises
    ------
    RunError, RecipeError
        Files that cannot be used, a rule without its verifier, or a class that the verifier has not seen.
    InvalidArgumentError
        A rule that needs the truth or is unknown, or a run whose prompt needs labelled images.
    """

    def __init__(
        self,
        run: Path,
        segmenter: Segmenter,
        *,
        rule: str | None = None,
        label: str | None = None,
        auto: dict[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:
        config, _, split, recipe = open_run(run)
        if split is not None and config.prompt != "auto":
            raise InvalidArgumentError(
                f"recipe: {run} was trained with the prompt {config.prompt!r}, which needs labelled images; "
                "accepted: runs trained with 'auto'"
            )
        there = run / VERIFIER
        self.verifier = Verifier.load(there) if there.exists() else None
        if rule is None and split is not None:
            rule = read_json(run / RESULT)["rule"]
        usual = "agreement" if self.verifier is None else "verifier"
        self.rule = _validate.choice(*RULES)("rule", usual if rule is None else rule)
        if self.rule == "verifier" and self.verifier is None:
            raise RunError(f"{there}: no such file, and the rule 'verifier' needs it")
        known = () if self.verifier is None else tuple(self.verifier.references)
        if label is not None and label not in known:
            raise RunError(
                f"label: received {label!r}; the verifier of {run} knows {', '.join(known) or 'no classes'}"
            )
        self.label, self.recipe = label, recipe
        self._segmenter = segmenter
        self._options = {
            **episode_options(config), "threads": threads, "options": config.auto if auto is None else auto,
        }  # fmt: skip
        self._act = act_of(recipe, config.actions)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_act"}  # it holds a session

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._act = act_of(self.recipe, self._options["actions"])

    def __call__(self, image: Images) -> Finding:
        """Inspect one image.

        Parameters
        ----------
        image : ndarray, uint8, (H, W)
            Of about the size that the run was trained on (`sdie-fast train --size`): windows and the verifier's distances
            are in pixels.

        Raises
        ------
        InvalidArgumentError, InvalidTypeError
            Another shape or dtype.
        """
        (found,) = follow(Episode(self._segmenter, [image], ["auto"], **self._options), self._act)
        if self.verifier is not None:
            found.scores = self.verifier.scores(image, found.answers, self.label)
        at = choose(self.rule, found)
        score = found.scores[at] if found.scores else float("nan")
        return Finding(final_mask(self.rule, found), found.images[at], at, found.answers[at].quality, score)
