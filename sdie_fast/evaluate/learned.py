"""Judging what was learned: SDIE beside the segmenter alone and every baseline, under every selection rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import DataSet
from ..errors import InvalidArgumentError
from ..learn import folder as files
from ..learn.baselines import Way, simple
from ..learn.cases import cases_of
from ..learn.config import Config
from ..learn.env import Case, Floats, SdieEnv
from ..learn.memory import Memory
from ..learn.rollout import Act, Rollout, constant, follow
from ..learn.runs import act_of, open_run
from ..learn.select import RULES, Judgement, final_mask, judge_rule, usable
from ..learn.verifier import Verifier
from ..recipe import Recipe
from ..segment import Segmenter
from .metrics import Meter, Scores

ALONE = "segmenter alone"
SDIE = "SDIE"
FIXED = "fixed on the shots"  # whichever rule that was
_BATCH = 32  # images followed at once


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
    weights : ndarray, float32, (T, 6)
        SDIE's mean weights.
    facts : dict
        For the report's head.
    """

    scores: dict[str, dict[str, Scores]]
    rules: dict[str, Judgement]
    fixed: dict[str, str]
    rollouts: list[Rollout]
    cases: list[Case]
    weights: Floats
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
    ways = {SDIE: (env, act_of(recipe, env.actions))}
    for kind in ("schedule", "fixed"):
        if (run / kind / "recipe.json").exists():
            ways[f"SDIE, {kind}"] = (env, act_of(Recipe.load(run / kind), env.actions))
    if baselines:
        ways |= simple(env, config.seed)
        found = run / files.SEARCHED
        if found.exists():
            one = env.one_pass()
            for name, rows in files.read_json(found).items():
                ways[name] = (one, constant(rows))
    return ways


@dataclass
class _Part:
    """What is judged with one policy: everything, or one class where each has its own."""

    run: Path
    config: Config
    about: dict[str, Any]
    learned: bool  # a run, with its shots; otherwise a bare recipe
    prompt: str
    rule: str
    cases: list[Case]
    env: SdieEnv
    ways: dict[str, Way]
    value: Any
    verifier: Verifier | None


def _part(
    segmenter: Segmenter,
    data: DataSet,
    run: Path,
    *,
    limit: int | None,
    baselines: bool,
    prompt: str | None,
    auto: dict[str, Any] | None,
    rule: str | None,
    threads: int | None,
    memory: Memory | None,
) -> _Part:
    config, about, split, recipe = open_run(run)
    shown, query = (None, data) if split is None else split.parts(data)
    if limit is not None:
        query = query.drawn(limit)
    chosen = prompt or (config.prompt if split is not None else "auto")
    if chosen == "support" and shown is None:
        raise InvalidArgumentError("prompt: 'support' needs the shots of a run; a recipe has none")
    cases = cases_of(query, chosen, shown)
    env = SdieEnv(
        segmenter, cases, rounds=config.rounds, passes=config.passes, params=config.params, actions=config.actions,
        reward=config.reward, side=config.side, threads=threads,
        options=config.auto if auto is None else auto, memory=memory,
    )  # fmt: skip
    value = _critic(run, config) if split is not None else None
    if rule is None:
        rule = files.read_json(run / files.RESULT)["rule"] if split is not None else "last"
    ways = ways_of(run, recipe, env, config, baselines=baselines)
    verifier = Verifier.load(run / files.VERIFIER) if (run / files.VERIFIER).exists() else None
    return _Part(run, config, about, split is not None, chosen, rule, cases, env, ways, value, verifier)


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
    parts = [
        _part(
            segmenter,
            data,
            path,
            limit=limit,
            baselines=baselines,
            prompt=prompt,
            auto=auto,
            rule=rule,
            threads=threads,
            memory=memory,
        )
        for path in files.runs_in(run)
    ]
    cases = [c for part in parts for c in part.cases]
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
                    case = part.cases[r.case]
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
        first += len(part.cases)
    scores = {name: {r: m.scores() for r, m in each.items()} for name, each in meters.items()}
    scores[ALONE] = dict.fromkeys((*known, FIXED), alone.scores())
    head = parts[0]
    weights = np.mean([head.env.actions.weights(np.stack(r.actions)) for r in own], 0)
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
        **{k: v for k, v in head.about.items() if k == "trained"},
    }
    fixed = {c.label: part.rule for part in parts for c in part.cases}
    judged = {r: judge_rule(r, own) for r in known}
    return Result(scores, judged, fixed, _kept(own, cases, pictures), cases, weights, facts)


def _critic(run: Path, config: Config) -> Any:
    """The critics' value, where torch is there to run them."""
    try:
        from ..learn.agent import load_agent, policy_of
    except ImportError:
        return None
    return policy_of(load_agent(run)[0], config.rounds)[1]


def _batches(env: SdieEnv, act: Act, value: Any, verifier: Verifier | None) -> Iterator[list[Rollout]]:
    for start in range(0, len(env), _BATCH):
        yield follow(env, act, range(start, min(start + _BATCH, len(env))), value, verifier)


def _kept(rollouts: Sequence[Rollout], cases: Sequence[Case], each: int) -> list[Rollout]:
    """A few episodes of each class: from the one that enhancement helped most to the one it harmed most."""
    groups: dict[str, list[Rollout]] = {}
    for r in rollouts:
        groups.setdefault(cases[r.case].label, []).append(r)
    kept: list[Rollout] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda r: r.rewards[0] - max(r.rewards[1:]))
        at = np.unique(np.linspace(0, len(ordered) - 1, min(each, len(ordered))).round().astype(int))
        kept.extend(ordered[k] for k in at)
    return kept


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs, in percent."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        return f"{self.mean:.1f}" + (f" ± {self.deviation:.1f}" if self.deviation >= 0 else "")


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of shares; of a single one, no spread (-1)."""
    percent = 100.0 * np.asarray(values, np.float64)
    return Spread(float(percent.mean()), float(percent.std(ddof=1)) if len(percent) > 1 else -1.0)
