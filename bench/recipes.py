"""Latency of the three kinds of recipe on one 200 x 200 image, split into network and filters: python bench/recipes.py

Needs `pip install ".[train]"`. Networks have random weights: time does not depend on them. The kinds take turns; figures are
medians over all rounds of the measurement. The filters' part of a kind is its whole less its network's calls.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sdie_fast import FILTERS, Enhancer, FilterParams
from sdie_fast._bench.machine import machine
from sdie_fast._bench.timing import by_host, interleave
from sdie_fast.actor import Actions, Actor
from sdie_fast.data import synthetic
from sdie_fast.learn.distill import ENCODER, export_actor
from sdie_fast.learn.networks import ActorNet, ScheduleNet
from sdie_fast.recipe import Recipe

ROUNDS, SIDE = 5, 64


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
    seen = np.zeros((1, SIDE, SIDE), np.uint8)
    weights = dict(zip(FILTERS, (0.3, 0.1, 0.2, 0.25, 0.05, 0.1), strict=True))
    calls = {"fixed": partial(Enhancer(Recipe([weights] * ROUNDS, params), threads=args.threads), image)}
    with tempfile.TemporaryDirectory() as folder:
        for kind, net in (
            ("schedule", ScheduleNet(ENCODER, ROUNDS, len(FILTERS))),
            ("policy", ActorNet(args.encoder, ROUNDS, len(FILTERS))),
        ):
            file = export_actor(net.eval(), kind, Path(folder) / f"{kind}.onnx", ROUNDS, SIDE, Actions())
            recipe = Recipe(None, params, kind=kind, actor=file)
            actor = Actor(file, kind)
            calls[kind] = partial(Enhancer(recipe, threads=args.threads), image)
            calls[f"{kind}'s network"] = (
                partial(actor, seen) if kind == "schedule" else lambda a=actor: [a(seen, at) for at in range(ROUNDS)]
            )
        samples = {name: by_host(call) for name, call in calls.items()}
        times = interleave(samples, args.repeats, budget=float("inf"))
    facts = machine(args.threads) | {
        "onnxruntime": version("onnxruntime"),
        "encoder": args.encoder,
        "wls": args.solver,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    print("kind      whole ms  network ms  filters ms  filters' share")
    for kind in ("fixed", "schedule", "policy"):
        whole = times[kind].median * 1e3
        network = times[f"{kind}'s network"].median * 1e3 if kind != "fixed" else 0.0
        print(f"{kind:9} {whole:8.2f} {network:11.2f} {whole - network:11.2f} {(whole - network) / whole:11.0%}")


if __name__ == "__main__":
    main()
