"""Answers kept on disk: found again, never mistaken for one another."""

import numpy as np
import pytest

from sdie_fast.errors import RunError
from sdie_fast.learn.env import SdieEnv
from sdie_fast.learn.memory import Memory, prompt_key
from sdie_fast.segment import Prompt, Support
from sdie_fast.segment.prompts import Answer

from .conftest import Threshold


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "answers.sqlite"


def test_there_and_back(path, segmenter):
    rng = np.random.default_rng(0)
    memory = Memory(path, segmenter)
    prompt = prompt_key("auto", {"grid": 3})
    images = rng.integers(0, 256, (600, 5, 7)).astype(np.uint8)
    answers = [Answer(rng.random((5, 7)) < 0.5, rng.random(), rng.random()) for _ in images]
    keys = [memory.key(prompt, image) for image in images]
    memory.put(dict(zip(keys[:550], answers[:550], strict=True)))
    found = Memory(path, segmenter).get(keys)
    assert set(found) == set(keys[:550])
    for key, answer in zip(keys[:550], answers[:550], strict=True):
        np.testing.assert_array_equal(found[key].mask, answer.mask)
        assert found[key].mask.dtype == np.bool_
        assert (found[key].quality, found[key].stability) == (answer.quality, answer.stability)


def test_keys_differ(path, segmenter):
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    mask = image > 20
    box = np.array([[0, 0, 4, 4]], np.float32)
    points = np.array([[[1, 1]]], np.float32)
    labels = np.ones((1, 1), np.float32)
    prompts = [
        prompt_key("auto", {}), prompt_key("auto", {"grid": 3}), prompt_key(Support([image], [mask]), {}),
        prompt_key(Support([image], [~mask]), {}), prompt_key(Support([image], [mask], 2), {}),
        prompt_key(Prompt(boxes=box), {}), prompt_key(Prompt(points, labels), {}),
        prompt_key(Prompt(points, labels, box), {}),
    ]  # fmt: skip

    class Stricter(Threshold):
        @property
        def thresholds(self):
            return 0.5, 0.5

    keys = [
        Memory(path, model).key(prompt, picture)
        for model in (segmenter, Stricter())
        for prompt in prompts
        for picture in (image, image.reshape(4, 16), image[::-1])
    ]
    assert len(set(keys)) == len(keys)
    assert prompt_key(Support([image.copy()], [mask]), {}) == prompts[2]


def test_an_environment_asks_once(path, cases):
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 6))

    def rewards(segmenter):
        env = SdieEnv(segmenter, cases, options={"grid": 1}, side=16, memory=Memory(path, segmenter))
        env.reset()
        return env.step(actions).reward

    first, second = Threshold(), Threshold()
    np.testing.assert_array_equal(rewards(first), rewards(second))
    assert (first.images, second.images) == (4, 0)


def test_trouble(tmp_path, segmenter):
    (tmp_path / "file").write_text("not a database, and long enough to be sure of it" * 30)
    with pytest.raises(RunError, match="file: cannot be used"):
        Memory(tmp_path / "file", segmenter)
    with pytest.raises(RunError, match="cannot be used"):
        Memory(tmp_path / "file" / "below", segmenter)
    memory = Memory(tmp_path / "good", segmenter)
    memory._file.execute("DROP TABLE answers")
    with pytest.raises(RunError, match="cannot be read"):
        memory.get([b"k"])
    with pytest.raises(RunError, match="cannot be written"):
        memory.put({b"k": Answer(np.zeros((2, 2), bool))})
