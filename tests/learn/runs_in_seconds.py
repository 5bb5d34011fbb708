"""Runs so small that they take seconds."""

import pytest

torch = pytest.importorskip("torch")

from sdie_fast import FilterParams  # noqa: E402
from sdie_fast.learn.config import Config  # noqa: E402
from sdie_fast.learn.train import Training  # noqa: E402

CONFIG = Config(
    rounds=3, passes=1, side=16, segmentations=150, warmup=2, updates=1, batch=8, greedy_every=2, actor_after=16, checkpoint_every=1,
    params=FilterParams(wls_solver="fast"), auto={"grid": 1, "largest": 1.0}, prompt="auto",
)  # fmt: skip


def training(segmenter, cases, out, config=CONFIG, **options):
    return Training(segmenter, cases, config, out, tensorboard=False, **options)


class Killed(Exception):
    pass


def kill_after(episode):
    """What watches a run, and kills it."""

    def watch(progress):
        if progress.episode == episode:
            raise Killed

    return watch
