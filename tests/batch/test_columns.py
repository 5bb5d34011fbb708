"""Columns of images, in this process and in another."""

import io
import multiprocessing
import pickle

import numpy as np
import pytest
from PIL import Image

from sdie_fast import Recipe, enhance
from sdie_fast.batch.columns import EnhanceColumns
from sdie_fast.errors import ImageFileError, InvalidArgumentError

WEIGHTS = {"identity": 1, "gamma": 2}
RECIPE = Recipe([WEIGHTS])


def photo(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def batch(rng):
    grey = [rng.integers(0, 256, shape, np.uint8) for shape in ((30, 40), (31, 40), (30, 40, 3))]
    several = np.empty(3, object)
    several[:] = grey
    files = np.empty(3, object)
    files[:] = [photo(image) for image in grey]
    return {
        "image": rng.integers(0, 256, (3, 30, 40), np.uint8),
        "other": several,
        "bytes": files,
        "label": np.array([1, 2, 3]),
    }


def check(batch, out):
    assert np.array_equal(out["image"], enhance(batch["image"], WEIGHTS))
    assert out["label"] is batch["label"] or np.array_equal(out["label"], batch["label"])
    for before, after, data in zip(batch["other"], out["other"], out["bytes"], strict=True):
        assert np.array_equal(after, enhance(before, WEIGHTS))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), after)


def test_columns(batch):
    call = EnhanceColumns(RECIPE, columns=("image", "other", "bytes"))
    before = {name: values.copy() for name, values in batch.items()}
    check(batch, call(batch))
    assert list(call(batch)) == list(batch)
    assert np.array_equal(before["image"], batch["image"])
    assert call({"image": batch["image"][:0]})["image"].shape == (0, 30, 40)
    assert EnhanceColumns(RECIPE)(batch)["other"] is batch["other"]


def test_in_a_process_of_its_own(batch):
    call = pickle.loads(pickle.dumps(EnhanceColumns(RECIPE, columns=("image", "other", "bytes"))))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        check(batch, pool.apply(call, (batch,)))


def test_wrong(batch):
    with pytest.raises(InvalidArgumentError, match="received the columns label; accepted: image or bytes"):
        EnhanceColumns(RECIPE)({"label": batch["label"]})
    batch["bytes"][1] = b"none"
    with pytest.raises(ImageFileError):
        EnhanceColumns(RECIPE)({"bytes": batch["bytes"]})


def test_a_list_is_images_of_several_sizes(rng):
    images = [rng.integers(0, 256, size).astype(np.uint8) for size in ((20, 30), (15, 40))]
    for given, made in zip(images, EnhanceColumns(RECIPE)({"image": images})["image"], strict=True):
        np.testing.assert_array_equal(made, enhance(given, WEIGHTS))
