import types

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie
from sdie_fast import DeviceMemoryError, FilterParams, _backends
from sdie_fast.actor import Actions, Choice, observe

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import arrays, driver, follow, memory

PARAMS = FilterParams(window=3)
WEIGHTS = np.array([[2.0, 0, 1, 0, 0, 0], [1.0, 0, 3, 0, 0, 0]])
IDENTITY = [1, 0, 0, 0, 0, 0]


class TestAreas:
    """The box filter is Pillow's, to the bit."""

    def shrink(self, image, length, side):
        bounds, share = follow.areas(length, side)
        sums = np.stack([image[:, a:b].sum(axis=1, dtype=np.int64) for a, b in bounds], axis=1)
        return (sums * share + (1 << 21)) >> 22

    @pytest.mark.parametrize("side", [8, 13, 64])
    def test_of_every_length(self, rng, side):
        for length in [*range(1, 70), 100, 127, 200, 255, 511, 1000]:
            row = rng.integers(0, 256, (3, length), np.uint8)
            expected = Image.fromarray(row).resize((side, 3), Image.Resampling.BOX)
            np.testing.assert_array_equal(self.shrink(row, length, side), np.asarray(expected))


class TestLook:
    @pytest.mark.parametrize(("shape", "side"), [((2, 9, 17), 8), ((1, 16, 8), 8), ((1, 5, 6), 8)])
    def test_sees_what_the_host_sees(self, cuda, rng, shape, side):
        image = rng.integers(0, 256, shape, np.uint8)
        given = arrays.describe("image", cuda.to_device(image))[..., np.newaxis]
        expected = observe(image / np.float32(255), side)
        np.testing.assert_array_equal(follow.look(given, 255.0, side), expected)

    def test_floats_are_rounded_to_even(self, cuda):
        image = (np.arange(64, dtype=np.float32).reshape(1, 8, 8) + np.float32(0.5)) / np.float32(255)
        given = arrays.describe("image", cuda.to_device(image))[..., np.newaxis]
        np.testing.assert_array_equal(follow.look(given, 1.0, 8), observe(image, 8))

    def test_colour_is_seen_as_luma(self, cuda, rng):
        image = rng.integers(0, 4096, (1, 8, 9, 3), np.uint16)
        given = arrays.describe("image", cuda.to_device(image))
        luma = (image / np.float32(4095)) @ np.array([0.299, 0.587, 0.114], np.float32)
        seen = follow.look(given, 4095.0, 8)
        np.testing.assert_allclose(seen.astype(int), observe(luma, 8), atol=1)


def test_no_memory_for_the_states(cuda, monkeypatch):
    class Full:
        def device_array(self, shape, dtype):
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(driver, "cuda", Full)
    monkeypatch.setattr(driver, "free_memory", lambda: 5 * 2**20)
    with pytest.raises(DeviceMemoryError, match="needs 4 MiB more of GPU memory; free: 5 MiB; to fix"):
        memory.allocate((2**20,), np.float32)


def near(result, image):
    expected = sdie.enhance(image, WEIGHTS, params=PARAMS, backend="reference")
    np.testing.assert_allclose(result.astype(int), expected.astype(int), atol=1)


class FakeActor:
    """Answers by the mean of what it sees, with identity and bilateral alone."""

    def __init__(self, kind, rounds, meaning):
        self.file = types.SimpleNamespace(side=8, actions=meaning)
        self.kind, self.rounds, self.size = kind, rounds, meaning.size

    def __call__(self, seen, at=None):
        actions = np.full((len(seen), self.rounds, self.size), -1, np.float32)
        actions[..., 0] = 0
        actions[..., 2] = (seen.mean(axis=(1, 2)) / 128 - 1)[:, None] + 0.1 * np.arange(self.rounds)
        if self.size > 6:
            actions[..., 6] = 0.3
        return actions if self.kind == "schedule" else actions[:, at]


@pytest.fixture(params=["policy", "schedule", "policy with a parameter"])
def enhancer(request, monkeypatch):
    """Makes an enhancer whose network is the fake one."""
    kind = request.param.split()[0]
    chosen = Actions()
    if "parameter" in request.param:
        chosen = Actions((Choice("bilateral_sigma_range", 0.05, 0.5),))

    def make(backend, **options):
        found = sdie.Enhancer(sdie.Recipe([IDENTITY] * 2, PARAMS), backend, **options)
        found._actor = FakeActor(kind, 2, chosen)
        found.recipe = types.SimpleNamespace(kind=kind, params=PARAMS, rounds=2, passes=1, filters=sdie.FILTERS)
        return found

    return make


class TestEnhancer:
    recipe = sdie.Recipe(WEIGHTS, PARAMS)

    @pytest.mark.parametrize("backend", ["auto", "cuda"])
    def test_fixed_weights(self, cuda, rng, picture, backend):
        made = sdie.Enhancer(self.recipe, backend)
        image = picture(rng, (9, 10), np.uint8)
        result, trace = made(cuda.to_device(image))
        near(result.copy_to_host(), image)
        np.testing.assert_array_equal(trace, self.recipe.weights)
        result, _ = made(image)  # the same enhancer, on the host
        assert isinstance(result, np.ndarray)
        near(result, image)
        assert made.backend == ("cuda" if backend == "cuda" else _backends.resolve("auto").name)

    @pytest.mark.parametrize(("shape", "dtype"), [((8, 9), np.uint8), ((7, 8, 1), np.uint8), ((7, 8, 3), np.float32)])
    def test_networks(self, cuda, rng, picture, enhancer, shape, dtype):
        image = picture(rng, shape, dtype)
        expected, expected_trace = enhancer("reference")(image)
        tolerance = 1 if dtype != np.float32 else 5e-5
        out = cuda.to_device(np.zeros_like(image))
        result, trace = enhancer("auto")(cuda.to_device(image), out)
        assert result is out
        for found, at in ((out.copy_to_host(), trace), enhancer("cuda")(image)):
            np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=0, atol=tolerance)
            np.testing.assert_allclose(at, expected_trace, atol=5e-3)
