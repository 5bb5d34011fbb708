"""Latency of the three kinds of recipe on one 200 x 200 image, split into network and filters: python bench/recipes.py

Needs `pip install ".[train]"`. Networks have random weights: time does not depend on them. The kinds take turns; figures are
medians over all rounds of the measurement. The filters' part of a kind is its whole less its network's calls.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sdie_fast import Enhancer, FilterParams
from sdie_fast.actor import Actions, Actor
from sdie_fast.data import synthetic
from sdie_fast.learn.distill import ENCODER, export_actor
from sdie_fast.learn.networks import ActorNet, ScheduleNet
from sdie_fast.recipe import Recipe

ROUNDS, SIDE = 5, 64


def milliseconds(call: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--solver", default="fast")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    params = FilterParams(wls_solver=args.solver)
    image = next(synthetic.dataset(per_kind=1, seed=0)).image
    weights = [0.3, 0.1, 0.2, 0.25, 0.05, 0.1]
    with tempfile.TemporaryDirectory() as folder:
        recipes = {"fixed": Recipe(np.tile(weights, (ROUNDS, 1)), params)}
        for kind, net in (
            ("schedule", ScheduleNet(ENCODER, ROUNDS, 6)),
            ("policy", ActorNet(args.encoder, ROUNDS, 6)),
        ):
            path = Path(folder) / f"{kind}.onnx"
            file = export_actor(net.eval(), kind, path, ROUNDS, SIDE, Actions())
            recipes[kind] = Recipe(None, params, kind=kind, actor=file)
        whole: dict[str, Callable[[], object]] = {}
        network: dict[str, Callable[[], object]] = {"fixed": lambda: None}
        for kind, recipe in recipes.items():
            enhancer = Enhancer(recipe, threads=args.threads)
            whole[kind] = lambda enhancer=enhancer: enhancer(image)
            if recipe.actor is not None:
                actor = Actor(recipe.actor, recipe.kind)
                seen = np.zeros((1, SIDE, SIDE), np.uint8)
                if kind == "policy":
                    network[kind] = lambda a=actor, s=seen: [a(s, at) for at in range(ROUNDS)]
                else:
                    network[kind] = lambda a=actor, s=seen: a(s)
        taken: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.repeats):
            for kind in recipes:
                taken.setdefault((kind, "whole"), []).append(milliseconds(whole[kind]))
                taken.setdefault((kind, "network"), []).append(milliseconds(network[kind]))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {args.threads} thread(s); "
        f"onnxruntime {version('onnxruntime')}; encoder {args.encoder}, wls {args.solver}, T = {ROUNDS}"
    )
    print("kind      whole ms  network ms  filters ms  filters' share")
    for kind in recipes:
        total, net_ms = (float(np.median(taken[kind, part])) for part in ("whole", "network"))
        print(f"{kind:9} {total:8.2f} {net_ms:11.2f} {total - net_ms:11.2f} {(total - net_ms) / total:11.0%}")


if __name__ == "__main__":
    main()
