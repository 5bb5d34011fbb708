import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams
from sdie_fast.cuda import rounds

PARAMS = FilterParams(window=3)
IDENTITY = [1, 0, 0, 0, 0, 0]
# Filters that the simulator gets through quickly; the others' tests are beside their kernels.
WEIGHTS = np.array([[2.0, 0, 1, 0, 0, 0], [1.0, 0, 3, 0, 0, 0]])


def run(image, weights=WEIGHTS, **options):
    return sdie.enhance(image, weights, params=PARAMS, backend="cuda", **options)


def expected(image, weights=WEIGHTS, **options):
    return sdie.enhance(image, weights, params=PARAMS, backend="reference", **options)


@pytest.fixture
def chunks(monkeypatch):
    """Two images of 9 x 10 bytes at a time; gives how many images each call of the rounds had."""
    monkeypatch.setattr(host, "CHUNK_BYTES", 2 * 9 * 10)
    return count_images(monkeypatch)


def count_images(monkeypatch):
    counts = []
    real = rounds.Rounds.__call__

    def counting(self, src, *arguments, **options):
        counts.append(src.shape[0])
        return real(self, src, *arguments, **options)

    monkeypatch.setattr(rounds.Rounds, "__call__", counting)
    return counts


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((9, 10), np.uint8, {}),
        ((2, 9, 7), np.uint16, {"white_level": 4095}),
        ((8, 9), np.float32, {}),
        ((7, 8, 3), np.uint8, {}),
        ((1, 7, 8, 3), np.float32, {"per_channel": True}),
    ],
)
def test_as_the_reference(rng, picture, shape, dtype, options):
    image = picture(rng, shape, dtype)
    if "white_level" in options:
        image >>= 4
    result = run(image, **options)
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype) == (shape, dtype)
    tolerance = 2e-5 if dtype == np.float32 else 1
    difference = np.abs(result.astype(float) - expected(image, **options))
    assert difference.max() <= tolerance
    assert difference.mean() <= tolerance / 10


def test_a_batch_goes_in_chunks_of_nearly_one_size(rng, picture, chunks):
    batch = picture(rng, (5, 9, 10), np.uint8)
    weights = rng.random((5, 2, 6)) * [1, 0, 1, 0, 0, 0]
    result = run(batch, weights)
    assert chunks == [2, 2, 1]
    for k in range(5):
        np.testing.assert_allclose(result[k].astype(int), expected(batch[k], weights[k]).astype(int), atol=1)


def test_more_chunks_than_slots_come_back_in_their_places(rng, picture, chunks):
    batch = picture(rng, (7, 9, 10), np.uint8)
    np.testing.assert_array_equal(run(batch, IDENTITY), batch)
    assert chunks == [2, 2, 2, 1]


def test_strides_in_and_out(rng, picture, chunks):
    frame = picture(rng, (3, 9, 20), np.uint8)
    batch = frame[:, ::-1, ::2]
    target = np.zeros((3, 9, 10), np.uint8)[:, :, ::-1]
    assert run(batch, IDENTITY, out=target) is target
    np.testing.assert_array_equal(target, batch)


def test_an_error_on_the_way_leaves_no_trace(rng, picture, chunks, monkeypatch):
    batch = picture(rng, (3, 9, 10), np.uint8)
    real = rounds.Rounds.__call__
    calls = []

    def failing(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("a kernel fell over")
        return real(self, *arguments, **options)

    with monkeypatch.context() as context:
        context.setattr(rounds.Rounds, "__call__", failing)
        with pytest.raises(RuntimeError, match="fell over"):
            run(batch[::-1], IDENTITY)
    np.testing.assert_array_equal(run(batch, IDENTITY), batch)


def test_values_are_checked_on_the_host():
    with pytest.raises(sdie.InvalidArgumentError, match="NaN"):
        run(np.full((9, 9), np.nan, np.float32))
