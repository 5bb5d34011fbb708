"""The learned recipe that ships: whole, its own hashes right, and of use on surfaces that it was not trained on."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import sdie_fast as sdie
from sdie_fast._cli import demo
from sdie_fast.data import synthetic
from sdie_fast.evaluate.judge import ALONE, SDIE, evaluate_run
from sdie_fast.learn.verifier import Verifier


@pytest.fixture(scope="module")
def samples():
    return list(synthetic.dataset(per_kind=1, seed=4321))


def test_enhances(samples):
    recipe = sdie.Recipe.load(demo.RECIPE)
    images = np.stack([s.image for s in samples])
    out, trace = sdie.Enhancer(recipe)(images)
    assert out.shape == images.shape
    assert not np.array_equal(out, images)
    np.testing.assert_allclose(trace.sum(-1), 1, rtol=1e-5)


def test_its_verifier_knows_every_kind():
    verifier = Verifier.load(demo.RECIPE / "verifier.npz")
    assert set(verifier.references) == {f"Steel_{c}" for c in synthetic.FSSD_CODES.values()}


def test_is_small():
    assert sum(p.stat().st_size for p in demo.RECIPE.iterdir()) < 6e6


@pytest.mark.slow
def test_helps(tmp_path):
    from sdie_fast.data.releases import open_defect4i
    from sdie_fast.segment import Options, Sam

    data = open_defect4i(synthetic.write_dataset(tmp_path / "set", synthetic.KINDS[::2], per_kind=1, seed=4321))
    segmenter = Sam(None, Options("cpu"))
    found = evaluate_run(segmenter, data, demo.RECIPE, baselines=False, auto=demo.AUTO, rule=demo.RULE)
    assert found.headline(SDIE).miou > found.headline(ALONE).miou + 0.05
