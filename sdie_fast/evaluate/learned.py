"""Judging what was learned: SDIE beside the segmenter alone and every baseline, under every selection rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..actor import Actor
from ..data.dataset import DataSet
from ..data.shots import Split
from ..errors import InvalidArgumentError
from ..learn import folder as files
from ..learn.baselines import simple
from ..learn.config import Config
from ..learn.env import Case, Floats, SdieEnv, State, cases_of
from ..learn.rollout import Act, Rollout, action_of, constant, follow
from ..learn.select import BLIND, Judgement, choose, judge_rule
from ..recipe import Recipe
from ..segment import Segmenter
from .metrics import Meter, Scores

ALONE = "segmenter alone"
SDIE = "SDIE"
_BATCH = 32  # images followed at once


@dataclass
class Result:
    """One run on its query images.

    Attributes
    ----------
    scores : dict of str to dict of str to Scores
        By way of acting, then by selection rule; of "segmenter alone" every rule has the same.
    rules : dict of str to Judgement
        How good each rule is on SDIE's own episodes.
    rule : str
        The one fixed on the shots: the headline.
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
    rule: str
    rollouts: list[Rollout]
    cases: list[Case]
    weights: Floats
    facts: dict[str, Any] = field(default_factory=dict)

    def headline(self, name: str = SDIE) -> Scores:
        """Scores under the rule that was fixed on the shots."""
        return self.scores[name][self.rule]


def act_of(recipe: Recipe, actions: Any = None) -> Act:
    """The way of acting of a recipe, by onnxruntime alone.

    Parameters
    ----------
    recipe : Recipe
    actions : Actions, optional
        Of the environment, for a "fixed" recipe.
    """
    if recipe.actor is None:
        size = 6 if actions is None else actions.size
        return constant(action_of(recipe.weights, size))  # type: ignore[arg-type]
    actor = Actor(recipe.actor, recipe.kind)
    if recipe.kind == "policy":
        return lambda state: actor(state.seen, state.at)
    begun: list[Floats] = []

    def act(state: State) -> Floats:
        if state.at == 0:
            begun[:] = [actor(state.seen)]
        return np.asarray(begun[0][:, state.at])

    return act


def ways_of(
    run: Path, recipe: Recipe, env: SdieEnv, config: Config, *, baselines: bool
) -> dict[str, Act]:
    """SDIE, its faster kinds, and what it is compared with."""
    ways = {SDIE: act_of(recipe, env.actions)}
    for kind in ("schedule", "fixed"):
        if (run / kind / "recipe.json").exists():
            ways[f"SDIE, {kind}"] = act_of(Recipe.load(run / kind), env.actions)
    if baselines:
        ways |= simple(env, config.seed)
        found = run / files.SEARCHED
        if found.exists():
            for name, rows in files.read_json(found).items():
                ways[name] = constant(rows)
    return ways


def open_run(run: Path) -> tuple[Config, dict[str, Any], Split | None, Recipe]:
    """Read a run's folder, or a recipe's, which has neither split nor settings of its own.

    Returns
    -------
    config : Config
        A bare recipe's: the defaults, with its rounds, parameters and observations.
    about : dict
        What config.json tells besides.
    split : Split or None
    recipe : Recipe
        The policy.
    """
    if (run / files.CONFIG).exists():
        config, about = files.load_config(run)
        return config, about, Split.load(run / files.SPLIT), Recipe.load(run / "policy")
    recipe = Recipe.load(run)
    given: dict[str, Any] = {"rounds": recipe.rounds, "params": recipe.params}
    if recipe.actor is not None:
        given |= {"side": recipe.actor.side, "actions": recipe.actor.actions}
    return Config(**given), {}, None, recipe


def evaluate_run(
    segmenter: Segmenter,
    data: DataSet,
    run: Path,
    *,
    limit: int | None = None,
    baselines: bool = True,
    prompt: str | None = None,
    threads: int | None = None,
    pictures: int = 4,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Result:
    """Judge a run, or a bare recipe, on the images that were not among its shots.

    Parameters
    ----------
    segmenter : Segmenter
    data : DataSet
        The one that the run was trained on, or, for a bare recipe, any.
    run : Path
        What `sdie-fast train` wrote, or a recipe.
    limit : int, optional
        Images of each class at most.
    baselines : bool
        Whether what SDIE is compared with is judged too, which takes five times as long.
    prompt : str, optional
        Instead of the run's own; a bare recipe's is "auto" unless told.
    threads : int, optional
        Of the filters.
    pictures : int
        Episodes of each class whose images are kept.
    watch : callable
        Told the images done and their total, over all ways of acting.

    Raises
    ------
    RunError, RecipeError, DataSetError
        Files that cannot be used, or a split of other images.
    InvalidArgumentError
        "support" without a run, which alone knows its shots.
    """
    config, about, split, recipe = open_run(run)
    shown, query = (None, data) if split is None else split.parts(data)
    if limit is not None:
        query = query.at_most(limit)
    chosen = prompt or (config.prompt if split is not None else "auto")
    if chosen == "support" and shown is None:
        raise InvalidArgumentError("prompt: 'support' needs the shots of a run; a recipe has none")
    cases = cases_of(query, chosen, shown)
    env = SdieEnv(
        segmenter, cases, rounds=config.rounds, params=config.params, actions=config.actions,
        reward=config.reward, side=config.side, threads=threads, options=config.auto,
    )  # fmt: skip
    value = _critic(run, config) if split is not None else None
    rule = files.read_json(run / files.RESULT)["rule"] if split is not None else "last"
    ways = ways_of(run, recipe, env, config, baselines=baselines)
    known = ["oracle", *(r for r in BLIND if r != "critic")]
    scores: dict[str, dict[str, Scores]] = {}
    own: list[Rollout] = []
    done = 0
    for name, act in ways.items():
        names = [*known, "critic"] if name == SDIE and value is not None else known
        if rule not in names:
            names = [*names, rule]
        meters = {r: Meter(query.classes) for r in names}
        alone = Meter(query.classes)
        for rollouts in _batches(env, act, value if name == SDIE else None):
            for r in rollouts:
                case = cases[r.case]
                for rule_name, meter in meters.items():
                    # Where a way of acting has no critic, the rule's place is taken by the last round.
                    usable = rule_name if rule_name != "critic" or r.values else "last"
                    mask = r.answers[choose(usable, r)].mask
                    meter.add(case.label, mask, case.truth)
                alone.add(case.label, r.answers[0].mask, case.truth)
            if name == SDIE:
                own.extend(rollouts)
            done += len(rollouts)
            watch(done, len(ways) * len(cases))
        scores[name] = {r: m.scores() for r, m in meters.items()}
        if name == SDIE:
            scores[ALONE] = dict.fromkeys(meters, alone.scores())
    judged = {r: judge_rule(r, own) for r in scores[SDIE]}
    weights = np.mean([env.actions.weights(np.stack(r.actions)) for r in own], 0)
    facts = {
        "data": query.name,
        "segmenter": segmenter.name,
        "prompt": chosen,
        "reward": config.reward,
        **({"shots": config.shots, "seed": config.seed} if split is not None else {}),
        "images": len(cases),
        "rounds": config.rounds,
        **{k: v for k, v in about.items() if k == "trained"},
    }
    return Result(scores, judged, rule, _kept(own, cases, pictures), cases, weights, facts)


def _critic(run: Path, config: Config) -> Any:
    """The critics' value, where torch is there to run them."""
    try:
        from ..learn.train import load_agent, policy_of
    except ImportError:
        return None
    return policy_of(load_agent(run)[0], config.rounds)[1]


def _batches(env: SdieEnv, act: Act, value: Any) -> Iterator[list[Rollout]]:
    for start in range(0, len(env), _BATCH):
        yield follow(env, act, range(start, min(start + _BATCH, len(env))), value)


def _kept(rollouts: Sequence[Rollout], cases: Sequence[Case], each: int) -> list[Rollout]:
    """A few episodes of each class: from the one that enhancement helped most to the one it harmed most."""
    groups: dict[str, list[Rollout]] = {}
    for r in rollouts:
        groups.setdefault(cases[r.case].label, []).append(r)
    kept: list[Rollout] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda r: r.rewards[0] - max(r.rewards[1:]))
        at = np.unique(
            np.linspace(0, len(ordered) - 1, min(each, len(ordered))).round().astype(int)
        )
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
