"""Train a recipe on synthetic surfaces of every kind, with the segmenter that ships, and judge it on others.

A few surfaces of each kind are the shots of the policy and of the schedule distilled from it, which is what is saved. Surfaces cost
nothing here, so that the verifier learns from more of them, as the schedule enhances them. The figures are of further
surfaces, and nothing is chosen by them.

    python tools/train_recipe.py RUN --out sdie_fast/models/sdie_small
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from sdie_fast import FilterParams
from sdie_fast.data import synthetic
from sdie_fast.evaluate.metrics import Meter
from sdie_fast.learn.baselines import simple
from sdie_fast.learn.cases import Case, view_of
from sdie_fast.learn.config import Config
from sdie_fast.learn.env import SdieEnv, follow
from sdie_fast.learn.memory import Memory
from sdie_fast.learn.runs import VERIFIER, act_of
from sdie_fast.learn.select import BLIND, final_mask
from sdie_fast.learn.train import Training
from sdie_fast.learn.verifier import References, Verifier, describe
from sdie_fast.recipe import Recipe
from sdie_fast.segment import Options, Sam

TRAIN_SEED, VERIFY_SEED, TEST_SEED = 1, 5, 3
BATCH = 24  # surfaces followed at once
KNOWN = [r for r in BLIND if r != "critic"]


def surfaces(each: int, seed: int, views: int = 1) -> list[Case]:
    """Cases of synthetic surfaces, in so many views each; classes are called as `synthetic.write_dataset` does."""
    return [
        Case(
            view_of(s.image, v),
            view_of(np.asarray(s.mask, bool), v),
            "auto",
            f"Steel_{synthetic.FSSD_CODES[s.kind]}",
            f"{s.kind} {k}",
        )
        for k, s in enumerate(synthetic.dataset(per_kind=each, seed=seed))
        for v in range(views)
    ]


def judge(env: SdieEnv, act, verifier: Verifier) -> dict[str, float]:
    """MIoU of the segmenter alone and under each rule."""
    labels = tuple(dict.fromkeys(c.label for c in env.cases))
    meters = {name: Meter(labels) for name in ("alone", *KNOWN, "oracle")}
    rollouts = follow(env, act)
    verifier.score(rollouts, env.cases)
    for r in rollouts:
        case = env.cases[r.case]
        for name, meter in meters.items():
            mask = r.answers[0].mask if name == "alone" else final_mask(name, r)
            meter.add(case.label, mask, case.truth)
    return {name: round(100 * m.scores().miou, 2) for name, m in meters.items()}


def main() -> None:
    """Train, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the run; an interrupted one is gone on with")
    parser.add_argument("--out", type=Path, help="where the recipe is saved")
    parser.add_argument("--each", type=int, default=3, help="surfaces of each kind to learn from")
    parser.add_argument("--test-each", type=int, default=3, help="surfaces of each kind to judge by")
    parser.add_argument("--verify-each", type=int, default=12, help="surfaces of each kind for the verifier alone")
    parser.add_argument("--segmentations", type=int, default=2700)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--grid", type=int, default=6, help="points a side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()

    config = Config(
        shots=given.each, seed=given.seed, rounds=5, passes=1, prompt="auto", segmentations=given.segmentations, reward="miou",
        views=given.views, params=FilterParams(wls_solver="fast"), auto={"grid": given.grid},
    )  # fmt: skip
    segmenter = Sam(None, Options("cpu", given.threads))
    given.run.mkdir(parents=True, exist_ok=True)
    memory = Memory(given.run / "answers.sqlite", segmenter)
    training = Training(
        segmenter, surfaces(given.each, TRAIN_SEED, given.views), config, given.run, threads=given.threads, memory=memory,
        watch=lambda p: print(dataclasses.asdict(p), flush=True),
    )  # fmt: skip
    training.run()

    def env_of(each: int, seed: int) -> SdieEnv:
        return SdieEnv(
            segmenter, surfaces(each, seed), params=config.params, reward="miou",
            threads=given.threads, options=config.auto, memory=memory,
        )  # fmt: skip

    act = act_of(Recipe.load(given.run / "schedule"), config.actions)
    shown = env_of(given.verify_each, VERIFY_SEED)
    references = References(shown.cases)
    for start in range(0, len(shown), BATCH):
        for r in follow(shown, act, range(start, min(start + BATCH, len(shown)))):
            case = shown.cases[r.case]
            reference = references.of(case.label, without=case.name)
            training.evidence.add(describe(case.image, r.answers, reference), r.answers, case)
    verifier = Verifier(training.evidence.fit(given.seed), references.all())
    (given.run / VERIFIER).write_bytes(verifier.to_bytes())

    tested_by = env_of(given.test_each, TEST_SEED)
    figures = {}
    for name, way in {"SDIE": (tested_by, act), **simple(tested_by, given.seed)}.items():
        figures[name] = judge(*way, verifier)
        print(name, figures[name], flush=True)
    (given.run / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        for file in (given.run / "schedule").iterdir():
            shutil.copy(file, given.out / file.name)
        shutil.copy(given.run / VERIFIER, given.out / VERIFIER)


if __name__ == "__main__":
    main()
