"""A segmenter whose answers can be told by hand, and cases for it."""

import numpy as np
import pytest

from sdie_fast.segment import Embeddings, Segmenter
from sdie_fast.segment.geometry import Geometry, as_images


class Threshold(Segmenter):
    """Everything lighter than 0.5 is foreground; the predicted IoU falls with what is in between."""

    def __init__(self):
        self.images = 0

    @property
    def name(self):
        return "threshold"

    @property
    def size(self):
        return 64

    @property
    def thresholds(self):
        return 0.0, 0.0

    def encode(self, images):
        views = as_images(images)
        self.images += len(views)
        out = np.zeros((len(views), 1, 64, 64), np.float32)
        geometries = []
        for k, view in enumerate(views):
            geometry = Geometry(*view.shape[:2], 64)
            white = 255.0 if view.dtype == np.uint8 else 1.0
            plane = view[..., 0].astype(np.float32) / np.float32(white)
            geometry.fill(plane[None], out[k])
            geometries.append(geometry)
        return Embeddings(out, tuple(geometries))

    def decode(self, embedding, prompt):
        prompt = prompt.checked(embedding.geometries[0])
        logits = np.repeat((embedding.features[:, :1] - 0.5) * 20, 4, 1)
        quality = np.full((1, 4), np.abs(logits).mean() / 10, np.float32)
        return np.repeat(logits, len(prompt), 0), np.repeat(quality, len(prompt), 0)


@pytest.fixture
def segmenter():
    return Threshold()


def make_case(seed, size=32, label="blob"):
    """A light blob on a dark, noisy ground; the noise hides it from a threshold until it is smoothed."""
    from sdie_fast.learn.cases import Case

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    cy, cx = rng.uniform(0.35, 0.65, 2) * size
    truth = (y - cy) ** 2 + (x - cx) ** 2 < (0.25 * size) ** 2
    image = 0.38 + 0.22 * truth + rng.normal(0, 0.12, truth.shape)
    return Case((image.clip(0, 1) * 255).astype(np.uint8), truth, "auto", label, f"{label}/{seed}")


@pytest.fixture
def cases():
    return [make_case(k) for k in range(4)]


@pytest.fixture
def env(segmenter, cases):
    from sdie_fast import FilterParams
    from sdie_fast.learn.env import SdieEnv

    return SdieEnv(
        segmenter, cases, rounds=3, params=FilterParams(wls_solver="fast"), side=16,
        options={"grid": 1, "largest": 1.0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick():
    """Networks that learn for a short while: what is asked is not how well."""
    torch = pytest.importorskip("torch")
    from sdie_fast.learn import distill, warmstart

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks are so small that a second one waits for the first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "STEPS", 60)
        patch.setattr(distill, "VARIANTS", 3)
        patch.setattr(warmstart, "STEPS", 60)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def unfinished(monkeypatch):
    """Without the recipes: exporting them takes most of a run's time, and what is asked is how it learned."""
    from sdie_fast.learn.train import Training

    monkeypatch.setattr(Training, "finish", lambda _: None)
