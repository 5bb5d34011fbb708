"""Judging on a data set: a segmenter by itself, and what was learned, SDIE beside every baseline under every selection rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..data.dataset import DataSet
from ..data.shots import Split, draw
from ..errors import InvalidArgumentError
from ..learn import runs as files
from ..learn.baselines import Way, constant, simple
from ..learn.cases import Case, cases_of
from ..learn.config import Config
from ..learn.env import Act, Rollout, SdieEnv, follow
from ..learn.memory import Memory
from ..learn.places import Floats, Masks
from ..learn.select import RULES, Judgement, final_mask, judge_rule, usable
from ..learn.verifier import Verifier
from ..recipe import Recipe
from ..segment import Segmenter
from .metrics import Meter, Scores

__all__ = [
    "ALONE",
    "FIXED",
    "SDIE",
    "Evaluation",
    "Judged",
    "Result",
    "evaluate_run",
    "evaluate_segmenter",
    "kept",
    "ways_of",
]

ALONE = "segmenter alone"
SDIE = "SDIE"
FIXED = "fixed on the shots"  # whichever rule that was
_BATCH = 32  # images followed at once
_T = TypeVar("_T")


@dataclass(frozen=True)
class Judged:
    """A segmenter's answer to one case.

    Attributes
    ----------
    case : Case
    mask : ndarray, bool, (H, W)
    iou, quality : float
        Its own IoU; the predicted one.
    """

    case: Case
    mask: Masks
    iou: float
    quality: float


@dataclass
class Evaluation:
    """A segmenter's result.

    Attributes
    ----------
    scores : Scores
        Over all images.
    images : list of dict
        Name, class, IoU and predicted IoU of each.
    split : Split, optional
        With "support": which images showed what to look for.
    """

    scores: Scores
    images: list[dict[str, Any]] = field(default_factory=list)
    split: Split | None = None


def evaluate_segmenter(
    segmenter: Segmenter,
    data: DataSet,
    prompt: str = "auto",
    *,
    shots: int = 1,
    seed: int = 0,
    split: Split | None = None,
    options: dict[str, Any] | None = None,
    watch: Callable[[Judged], None] = lambda _: None,
) -> Evaluation:
    """Judge a segmenter.

    Parameters
    ----------
    segmenter : Segmenter
        What is judged.
    data : DataSet
        The labelled images.
    prompt : {"auto", "support", "box", "point"}
        "support": `shots` images of each class show what to look for and are not judged. "box" and
        "point" are taken from the truth: a bound on what prompting could reach, not a result.
    shots, seed : int
        Of the split that "support" draws.
    split : Split, optional
        Instead of drawing one.
    options : dict, optional
        Fields of `Auto`.
    watch : callable
        Given each image as it is judged.

    Raises
    ------
    InvalidArgumentError
        No such prompt, or classes with too few images.
    """
    shown, query, drawn = None, data, None
    if prompt == "support":
        drawn = split or draw(data, shots, seed)
        shown, query = drawn.parts(data)
    given = options or {} if prompt == "auto" else {}
    meter, images = Meter(query.classes), []
    for case in cases_of(query, prompt, shown):
        mask, quality = np.zeros_like(case.truth), 0.0
        if case.prompt is not None:
            mask, scores = segmenter(case.image, case.prompt, **given)
            quality = float(scores[0])
        iou = meter.add(case.label, mask, case.truth)
        images.append({"name": case.name, "class": case.label, "iou": iou, "predicted_iou": quality})
        watch(Judged(case, mask, iou, quality))
    return Evaluation(meter.scores(), images, drawn)


@dataclass
class Result:
    """One run on its query images.

    Attributes
    ----------
    scores : dict of str to dict of str to Scores
        By way of acting, then by selection rule, `FIXED` among them; of "segmenter alone" every rule has the same.
    rules : dict of str to Judgement
        How good each rule is on SDIE's own episodes.
    fixed : dict of str to str
        The rule that was fixed on the shots, by class: the headline.
    rollouts : list of Rollout
        SDIE's episodes, images and all, of the pictures kept.
    cases : list of Case
        All that were judged; `Rollout.case` counts in it.
    weights : ndarray, float32, (T, F)
        SDIE's mean weights of the toolkit's filters.
    filters : tuple of str
        The toolkit.
    facts : dict
        For the report's head.
    """

    scores: dict[str, dict[str, Scores]]
    rules: dict[str, Judgement]
    fixed: dict[str, str]
    rollouts: list[Rollout]
    cases: list[Case]
    weights: Floats
    filters: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def headline(self, name: str = SDIE) -> Scores:
        """Scores under the rule that was fixed on the shots."""
        return self.scores[name][FIXED]

    @property
    def rule(self) -> str:
        """That rule, or the rules, by class, where they differ."""
        if len(set(self.fixed.values())) == 1:
            return next(iter(self.fixed.values()))
        return ", ".join(f"{label}: {rule}" for label, rule in self.fixed.items())


def ways_of(run: Path, recipe: Recipe, env: SdieEnv, config: Config, *, baselines: bool) -> dict[str, Way]:
    """SDIE, its faster kinds, and what it is compared with."""
    ways = {SDIE: (env, files.act_of(recipe, env.actions))}
    for kind in ("schedule", "fixed"):
        if (run / kind / "recipe.json").exists():
            ways[f"SDIE, {kind}"] = (env, files.act_of(Recipe.load(run / kind), env.actions))
    if baselines:
        ways |= simple(env, config.seed)
        found = run / files.SEARCHED
        if found.exists():
            one = env.one_pass()
            for name, rows in files.read_json(found).items():
                ways[name] = (one if len(rows) <= one.rounds else env, constant(rows))
    return ways


@dataclass
class _Part:
    """What is judged with one policy: everything, or one class where each has its own."""

    config: Config
    learned: bool  # a run, with its shots; otherwise a bare recipe
    prompt: str
    rule: str
    env: SdieEnv
    ways: dict[str, Way]
    value: Any
    verifier: Verifier | None


def evaluate_run(
    segmenter: Segmenter,
    data: DataSet,
    run: Path,
    *,
    limit: int | None = None,
    baselines: bool = True,
    prompt: str | None = None,
    auto: dict[str, Any] | None = None,
    rule: str | None = None,
    threads: int | None = None,
    pictures: int = 4,
    memory: Memory | None = None,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Result:
    """Judge a run, or a bare recipe, on the images that were not among its shots.

    Parameters
    ----------
    segmenter : Segmenter
    data : DataSet
        The one that the run was trained on, or, for a bare recipe, any.
    run : Path
        What `sdie-fast train` wrote, or a recipe. With `--each-class`, each class is judged with its own.
    limit : int, optional
        Images of each class at most.
    baselines : bool
        Whether what SDIE is compared with is judged too, which more than doubles the segmentations.
    prompt : str, optional
        Instead of the run's own; a bare recipe's is "auto" unless told.
    auto : dict, optional
        Fields of `segment.Auto`, instead of the run's own.
    rule : str, optional
        Instead of the one that the run fixed on its shots; a bare recipe's is "last" unless told.
    threads : int, optional
        Of the filters.
    pictures : int
        Episodes of each class whose images are kept.
    memory : Memory, optional
        Where answers are kept: several runs share what they have in common, and one that was killed goes on.
    watch : callable
        Told the images done and their total, over all ways of acting.

    Raises
    ------
    RunError, RecipeError, DataSetError
        Files that cannot be used, or a split of other images.
    InvalidArgumentError
        "support" without a run, which alone knows its shots.
    """

    def opened(path: Path) -> _Part:
        config, _, split, recipe = files.open_run(path)
        shown, query = (None, data) if split is None else split.parts(data)
        if limit is not None:
            query = query.drawn(limit)
        chosen = prompt or (config.prompt if split is not None else "auto")
        if chosen == "support" and shown is None:
            raise InvalidArgumentError("prompt: 'support' needs the shots of a run; a recipe has none")
        env = SdieEnv(
            segmenter, list(cases_of(query, chosen, shown)), reward=config.reward, threads=threads, memory=memory,
            options=config.auto if auto is None else auto, **files.episode_options(config),
        )  # fmt: skip
        value = _critic(path, config) if split is not None else None
        usual = "last" if split is None else files.read_json(path / files.RESULT)["rule"]
        ways = ways_of(path, recipe, env, config, baselines=baselines)
        there = path / files.VERIFIER
        verifier = Verifier.load(there) if there.exists() else None
        return _Part(config, split is not None, chosen, rule or usual, env, ways, value, verifier)

    parts = [opened(path) for path in files.runs_in(run)]
    cases = [c for part in parts for c in part.env.cases]
    classes = list(dict.fromkeys(c.label for c in cases))
    lacking = {"critic": "value", "verifier": "verifier"}
    known = [r for r in RULES if all(getattr(part, lacking[r]) is not None for part in parts if r in lacking)]
    names = [n for n in parts[0].ways if all(n in part.ways for part in parts)]
    total, done, first = len(names) * len(cases), 0, 0
    meters = {name: {r: Meter(classes) for r in (*known, FIXED)} for name in names}
    alone = Meter(classes)
    own: list[Rollout] = []
    for part in parts:
        for name in names:
            for rollouts in _batches(*part.ways[name], part.value if name == SDIE else None, part.verifier):
                for r in rollouts:
                    case = part.env.cases[r.case]
                    for judged_by, meter in meters[name].items():
                        meant = part.rule if judged_by == FIXED else judged_by
                        # Where a way of acting has no critic, the rule's place is taken by the last round.
                        ruled = meant if usable(meant, r) else "last"
                        meter.add(case.label, final_mask(ruled, r), case.truth)
                    if name == SDIE:
                        alone.add(case.label, r.answers[0].mask, case.truth)
                        own.append(replace(r, case=r.case + first))
                done += len(rollouts)
                watch(done, total)
        first += len(part.env)
    scores = {name: {r: m.scores() for r, m in each.items()} for name, each in meters.items()}
    scores[ALONE] = dict.fromkeys((*known, FIXED), alone.scores())
    head = parts[0]
    meaning = head.env.actions
    weights = np.mean([meaning.weights(np.stack(r.actions)) for r in own], 0)
    facts = {
        "data": data.name,
        "segmenter": segmenter.name,
        "prompt": head.prompt,
        "reward": head.config.reward,
        **({"shots": head.config.shots, "seed": head.config.seed} if head.learned else {}),
        **({"policies": f"{len(parts)}, one for each class"} if len(parts) > 1 else {}),
        "images": len(cases),
        "rounds": head.config.rounds // head.config.passes,
        **({"passes": head.config.passes} if head.config.passes > 1 else {}),
    }
    fixed = {c.label: part.rule for part in parts for c in part.env.cases}
    judged = {r: judge_rule(r, own) for r in known}
    # Of each class, from the episode that enhancement helped most to the one it harmed most.
    shown = kept(own, pictures, lambda r: cases[r.case].label, lambda r: r.rewards[0] - max(r.rewards[1:]))
    return Result(scores, judged, fixed, shown, cases, weights, meaning.filters, facts)


def _critic(run: Path, config: Config) -> Any:
    """The critics' value, where torch is there to run them."""
    try:
        from ..learn.td3 import load_agent, policy_of
    except ImportError:
        return None
    return policy_of(load_agent(run)[0], config.rounds)[1]


def _batches(env: SdieEnv, act: Act, value: Any, verifier: Verifier | None) -> Iterator[list[Rollout]]:
    for start in range(0, len(env), _BATCH):
        rollouts = follow(env, act, range(start, min(start + _BATCH, len(env))), value)
        if verifier is not None:
            verifier.score(rollouts, env.cases)
        yield rollouts


def kept(items: Sequence[_T], each: int, label: Callable[[_T], str], order: Callable[[_T], Any]) -> list[_T]:
    """A few items of each class: the first and the last in an order, and what lies between in equal steps."""
    groups: dict[str, list[_T]] = {}
    for item in items:
        groups.setdefault(label(item), []).append(item)
    found: list[_T] = []
    for group in groups.values():
        ordered = sorted(group, key=order)
        at = np.unique(np.linspace(0, len(ordered) - 1, min(each, len(ordered))).round().astype(int))
        found.extend(ordered[k] for k in at)
    return found
