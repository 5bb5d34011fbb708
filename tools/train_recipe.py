"""Train a recipe on synthetic surfaces of every kind, with the segmenter that ships, and judge it on others.

A few surfaces of each kind are the shots. The policy, its schedule and its mean are judged on new surfaces, which also fixes the
selection rule, and the one that does best is saved with its verifier. Its figures on further surfaces come last, and
nothing is chosen by them.

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
from sdie_fast.evaluate.learned import act_of
from sdie_fast.evaluate.metrics import Meter
from sdie_fast.learn import folder as files
from sdie_fast.learn.baselines import simple
from sdie_fast.learn.config import Config
from sdie_fast.learn.env import Case, SdieEnv, view_of
from sdie_fast.learn.memory import Memory
from sdie_fast.learn.rollout import follow
from sdie_fast.learn.select import BLIND, final_mask
from sdie_fast.learn.train import Training
from sdie_fast.learn.verifier import Verifier
from sdie_fast.recipe import Recipe
from sdie_fast.segment import Options, Sam

TRAIN_SEED, CHOICE_SEED, TEST_SEED = 1, 2, 3
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
    for r in follow(env, act, verifier=verifier):
        case = env.cases[r.case]
        for name, meter in meters.items():
            mask = r.answers[0].mask if name == "alone" else final_mask(name, r)
            meter.add(case.label, mask, case.truth)
    return {name: round(100 * m.scores().miou, 2) for name, m in meters.items()}


def main() -> None:
    """Train, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, help="folder of the run; an interrupted one is gone on with"
    )
    parser.add_argument("--out", type=Path, help="where the recipe is saved")
    parser.add_argument("--each", type=int, default=3, help="surfaces of each kind to learn from")
    parser.add_argument(
        "--test-each", type=int, default=3, help="surfaces of each kind to judge by"
    )
    parser.add_argument("--segmentations", type=int, default=2700)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--grid", type=int, default=6, help="points a side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()

    config = Config(
        shots=given.each, seed=given.seed, prompt="auto", segmentations=given.segmentations, reward="miou",
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

    def env_of(seed: int) -> SdieEnv:
        return SdieEnv(
            segmenter, surfaces(given.test_each, seed), params=config.params, reward="miou",
            threads=given.threads, options=config.auto, memory=memory,
        )  # fmt: skip

    chosen_by, tested_by = env_of(CHOICE_SEED), env_of(TEST_SEED)
    verifier = Verifier.load(given.run / files.VERIFIER)
    figures = {}
    for kind in ("policy", "schedule", "fixed"):
        figures[kind] = judge(chosen_by, act_of(Recipe.load(given.run / kind)), verifier)
        print("choice", kind, figures[kind], flush=True)
    kind, rule = max(
        ((k, r) for k in figures for r in KNOWN), key=lambda pair: figures[pair[0]][pair[1]]
    )
    found = {"kind": kind, "rule": rule, "choice": figures, "test": {}}
    ways = {"SDIE": act_of(Recipe.load(given.run / kind)), **simple(tested_by, given.seed)}
    for name, act in ways.items():
        found["test"][name] = judge(tested_by, act, verifier)
        print("test", name, found["test"][name], flush=True)
    (given.run / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        for file in (given.run / kind).iterdir():
            shutil.copy(file, given.out / file.name)
        shutil.copy(given.run / files.VERIFIER, given.out / files.VERIFIER)
    print(f"{kind}, rule {rule}", flush=True)


if __name__ == "__main__":
    main()
