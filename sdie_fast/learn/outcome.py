"""What a run leaves behind: recipes, the verifier, figures on the shots, and the searches that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from ..recipe import Recipe
from . import folder as files
from .agent import policy_of
from .baselines import SEARCHED, search
from .distill import distill
from .export import export_actor
from .rollout import Rollout, follow, start_action, start_schedule
from .select import BLIND, best_rule, judge_rule, usable
from .verifier import SHIPPED, Verifier, group_of

if TYPE_CHECKING:
    from .train import Training


def compare(run: Training) -> None:
    """Search the best constant weights and the best schedule of one pass with the same budget, and write them.

    Raises
    ------
    RunError
        They cannot be written.
    """
    found = {}
    env, size = run.env.one_pass(), run.config.actions.size
    begun = start_schedule(run.config.start, env.rounds, 1, size)
    even = start_action(0.5, size)[None] if run.config.start == "filters" else begun[:1]
    for name, first in zip(SEARCHED, (even, begun), strict=True):

        def told(spent: int, best: float) -> None:
            run.watch(replace(run.progress, segmentations=spent, greedy=best))

        rows = search(
            env,
            run.config.segmentations,
            run.config.seed,
            first,
            which=run.upright,
            watch=told,
        )
        found[name] = rows.tolist()
    files.write_json(run.out / files.SEARCHED, found)


def finish(run: Training) -> list[Rollout]:
    """Write the recipes, the verifier, the curve and the figures on the shots."""
    from ..evaluate.figures import return_curve

    c = run.config
    run.agent.actor.load_state_dict(run.kept)
    act, value = policy_of(run.agent, c.rounds)
    rollouts = follow(run.env, act, run.upright, value)
    _verify(run, rollouts)
    rule = best_rule(rollouts, run.env.cases)
    made = run.out / "made"
    policy = export_actor(run.agent.actor, "policy", made / "policy.onnx", c.rounds, c.side, c.actions)
    net, loss = distill(run.agent.actor, run.env, c)
    schedule = export_actor(net, "schedule", made / "schedule.onnx", c.rounds, c.side, c.actions)
    notes = f"{c.shots} shot(s), seed {c.seed}, prompt {c.prompt}; {run.progress.segmentations} segmentations"
    name, passes = run.out.name, c.passes
    Recipe(None, c.params, name, notes, "policy", policy, passes).save(run.out / "policy")
    Recipe(None, c.params, name, notes, "schedule", schedule, passes).save(run.out / "schedule")
    mean = np.mean([c.actions.weights(np.stack(r.actions)) for r in rollouts], 0)
    Recipe(mean, c.params, name, f"{notes}; mean over the shots", passes=passes).save(run.out / "fixed")
    judged = {
        name: asdict(judge_rule(name, rollouts))
        for name in ("oracle", *BLIND)
        if all(usable(name, r) for r in rollouts)
    }
    files.write_json(
        run.out / files.RESULT,
        {
            "rule": rule,
            "policy": "the last" if run.improved else "the first",
            "alone": float(np.mean([r.rewards[0] for r in rollouts])),
            "rules_on_shots": judged,
            "distillation_error": loss,
            "segmentations": run.progress.segmentations,
            "seconds": run.env.seconds,
        },
    )
    files.write_bytes(run.out / "curve.png", return_curve(run.history))
    return rollouts


def _verify(run: Training, rollouts: Sequence[Rollout]) -> None:
    """Write the verifier, and score the shots' episodes by others that have not seen these shots."""
    seed = run.config.seed
    prior = Verifier.load(SHIPPED).forest if run.config.prior else None
    forest = run.evidence.fit(seed, prior=prior)
    verifier = Verifier(forest, run.references.all() if run.config.refer else {})
    files.write_bytes(run.out / files.VERIFIER, verifier.to_bytes())
    folds = run.evidence.folds(seed)
    if len(folds) < 2:
        return
    for fold in folds:
        forest = run.evidence.fit(seed, without=fold, prior=prior)
        for r in rollouts:
            if group_of(run.env.cases[r.case]) in fold:
                r.scores = forest.predict(run.describe(r.case, r.answers)).tolist()
