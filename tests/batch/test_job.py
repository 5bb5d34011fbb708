import io
import pickle
import threading
import time

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie
from sdie_fast import Recipe, files
from sdie_fast.batch.job import Job, _Together
from sdie_fast.errors import InvalidArgumentError, SdieError

WEIGHTS = {"identity": 1, "sharpen": 2}


def encoded(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_file_s_content(rng):
    pixels = rng.integers(0, 256, (30, 40)).astype(np.uint8)
    asked = []
    job = pickle.loads(pickle.dumps(Job(Recipe([WEIGHTS]))))
    for threads in (1, 2, lambda: asked.append(1) or 2):
        done = job(encoded(pixels), "x.png", ".tif", threads)
        back = files.decode(b"".join(done.parts), "x.tif")
        assert np.array_equal(back.pixels, sdie.enhance(pixels, WEIGHTS))
        assert done.pixels == 1200
        assert min(done.decode, done.enhance, done.encode) > 0
    assert asked == [1]
    with pytest.raises(SdieError):
        job(b"not an image", "x.png", ".png")


def test_the_key_tells_what_is_done():
    makers = (
        lambda **k: Job(Recipe([WEIGHTS]), **k),
        lambda **k: Job(Recipe([WEIGHTS] * 2), **k),
        lambda **k: Job(Recipe([WEIGHTS]), per_channel=True, **k),
    )
    keys = [make(**options).key for make in makers for options in ({}, {"white_level": 4095}, {"png_level": 6})]
    assert len(set(keys)) == len(keys)
    assert Job(Recipe([WEIGHTS]), "reference").key == keys[0]


class Counting:
    """An enhancer that keeps the sizes of its batches, and waits at the first until it is let go."""

    white_level = None

    def __init__(self):
        self.batches, self.free, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, batch):
        self.batches.append(len(batch))
        self.begun.set()
        self.free.wait(10)
        if batch.min() == 0:
            raise InvalidArgumentError("a zero")
        return 255 - batch, None


def test_threads_share_a_call():
    enhancer, together = Counting(), pickle.loads(pickle.dumps(_Together()))
    answers = {}

    def ask(k):
        try:
            answers[k] = together(enhancer, np.full((3, 4 + k % 2), k, np.uint8))
        except InvalidArgumentError as error:
            answers[k] = error

    threads = [threading.Thread(target=ask, args=(k,)) for k in (1, 0, *range(2, 150))]
    threads[0].start()
    enhancer.begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(together._asked) < 149:
        time.sleep(0.001)
    enhancer.free.set()
    for thread in threads:
        thread.join(10)
    assert isinstance(answers.pop(0), InvalidArgumentError)  # and of its neighbours, none failed
    assert all((answers[k] == 255 - k).all() and answers[k].shape == (3, 4 + k % 2) for k in answers)
    assert len(answers) == 149
    assert enhancer.batches[0] == 1
    assert max(enhancer.batches) == 64
