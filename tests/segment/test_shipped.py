"""The small SAM that ships, on scenes that it was not trained on."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from scenes import scene

import sdie_fast as sdie
from sdie_fast.learn.cases import box_of, point_of
from sdie_fast.segment import Options, Prompt, Sam, Support

HELD_OUT = 1_000_000


@pytest.fixture(scope="module")
def shipped():
    return Sam()


@pytest.fixture(scope="module")
def scenes():
    return [scene((256, 0, HELD_OUT + k)) for k in range(20)]


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_size(shipped):
    assert shipped.manifest.name == "small"
    assert sum(p.stat().st_size for p in shipped.directory.iterdir()) < 8e6


@pytest.mark.parametrize(("kind", "least"), [(box_of, 0.6), (point_of, 0.45)])
def test_prompts_on_held_out_scenes(shipped, scenes, kind, least):
    found, predicted = [], []
    for s in scenes:
        embedding = shipped.encode([s.image])
        for truth in s.masks:
            logits, quality = shipped.decode(embedding, kind(truth))
            best = 0 if kind is box_of else int(quality[0, 1:].argmax()) + 1
            mask = embedding.geometries[0].from_model(logits[:, best])[0] > 0
            found.append(iou(mask, truth))
            predicted.append(quality[0, best])
    assert np.mean(found) > least
    assert np.abs(np.array(found) - predicted).mean() < 0.25
    assert np.corrcoef(found, predicted)[0, 1] > 0.4


def test_auto_finds_what_stands_out(shipped, scenes):
    found = [iou(shipped(s.image, grid=8)[0], s.masks.any(0)) for s in scenes[:6]]
    assert np.mean(found) > 0.3


def test_support_finds_its_like(shipped, scenes):
    """The same scene turned and lighter."""
    found = []
    for s in scenes[:6]:
        support = Support([s.image], [s.masks.any(0)])
        turned = np.ascontiguousarray(np.rot90(s.image) // 2 + 100)
        found.append(iou(shipped(turned, support)[0], np.rot90(s.masks.any(0))))
    assert np.mean(found) > 0.3


def test_a_quiet_surface_has_next_to_nothing(shipped):
    noise = np.random.default_rng(0).normal(128, 4, (200, 200)).clip(0, 255).astype(np.uint8)
    assert shipped(noise)[0].mean() < 0.2


BOX = Prompt(boxes=np.array([[60, 60, 190, 190]], np.float32))


@pytest.mark.parametrize("again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
def test_pickles_and_copies(again, shipped, scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(shipped.directory.parent)
    sam = Sam(shipped.directory.name, Options("cpu", threads=1), batch=3, prompts=5, verify=False)
    monkeypatch.chdir(tmp_path)
    found = again(sam)
    assert found.fingerprint == shipped.fingerprint
    assert (found.options, found._batch, found._prompts) == (sam.options, 3, 5)
    assert len(pickle.dumps(sam)) < 2000  # the files are read again
    for one, other in zip(found(scenes[0].image, BOX), sam(scenes[0].image, BOX), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
def test_a_supports_pickles_and_copies(again, shipped, scenes):
    support = Support([scenes[0].image], [scenes[0].masks.any(0)], 2)
    embedding = shipped.encode([scenes[1].image])
    expected = support.similarity(shipped, embedding)
    found = again(support)
    assert found.fingerprint == support.fingerprint
    np.testing.assert_array_equal(found.similarity(shipped, embedding), expected)


def test_in_a_spawned_process(shipped, scenes):
    image = scenes[0].image
    fixed = sdie.Enhancer(sdie.default_recipe(), threads=1)
    learned = sdie.Enhancer(shipped.directory.with_name("sdie_small"), threads=1)
    calls = [(fixed, (image,)), (learned, (image,)), (shipped, (image, BOX))]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for call, given in calls:
            for one, other in zip(pool.apply(call, given), call(*given), strict=True):
                np.testing.assert_array_equal(one, other)
