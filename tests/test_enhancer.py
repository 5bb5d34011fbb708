import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import (
    BackendUnavailableError,
    FilterParams,
    InvalidArgumentError,
    InvalidTypeError,
    RecipeError,
    _backends,
)

ALL = np.ones(6)
LOCAL = np.array([2.0, 0, 1, 1, 1, 0])


class TestEnhancer:
    recipe = sdie.Recipe([LOCAL, ALL], FilterParams(window=5), name="two rounds")

    def test_applies_the_recipe(self, backend, rng, picture):
        enhancer = sdie.Enhancer(self.recipe, backend=backend, threads=1)
        image = picture(rng, (20, 24), np.uint8)
        result, trace = enhancer(image)
        np.testing.assert_array_equal(
            result,
            sdie.enhance(image, [LOCAL, ALL], params=FilterParams(window=5), backend=backend),
        )
        np.testing.assert_array_equal(trace, self.recipe.weights)
        assert trace.shape == (2, 6)
        assert trace.dtype == np.float32

    def test_writes_to_out(self, backend, rng, picture):
        batch = picture(rng, (2, 20, 24), np.uint16)
        out = np.zeros_like(batch)
        result, _ = sdie.Enhancer(self.recipe, backend)(batch, out=out)
        assert result is out
        assert out.any()

    def test_axes(self, backend, rng, picture):
        narrow = picture(rng, (3, 20, 8), np.uint8)[..., ::2]
        enhancer = sdie.Enhancer(sdie.Recipe({"gamma": 1, "wls": 1}), backend)
        np.testing.assert_array_equal(enhancer(narrow, axes="NHW")[0], [enhancer(image)[0] for image in narrow])
        np.testing.assert_array_equal(enhancer(narrow[0, ..., None])[0][..., 0], enhancer(narrow[0])[0])

    def test_loads_from_a_path(self, tmp_path):
        self.recipe.save(tmp_path)
        assert sdie.Enhancer(tmp_path).recipe == self.recipe
        assert sdie.Enhancer(str(tmp_path / "recipe.json")).recipe == self.recipe

    def test_passes_its_options_on(self, backend):
        image = np.full((10, 10, 3), 4095, np.uint16)
        enhancer = sdie.Enhancer(self.recipe, backend, white_level=4095, per_channel=True, max_pixels=100)
        assert enhancer(image)[0].max() <= 4095
        with pytest.raises(InvalidArgumentError, match="at most white_level=4095"):
            enhancer(image + np.uint16(1))
        with pytest.raises(InvalidArgumentError, match="at most 100"):
            enhancer(np.zeros((11, 11), np.uint16))

    def test_bad_arguments_are_told_at_once(self, tmp_path, monkeypatch):
        for bad, error in (
            (lambda: sdie.Enhancer(3), InvalidTypeError),
            (lambda: sdie.Enhancer(tmp_path / "missing.json"), RecipeError),
            (lambda: sdie.Enhancer(self.recipe, "gpu"), InvalidArgumentError),
            (lambda: sdie.Enhancer(self.recipe, threads=0), InvalidArgumentError),
            (lambda: sdie.Enhancer(self.recipe, per_channel=1), InvalidTypeError),
        ):
            with pytest.raises(error, match=r"received|cannot be read"):
                bad()
        missing = _backends.Backend("cpu", False, "it is gone", "bring it back", None)
        monkeypatch.setattr(_backends, "get", lambda name: missing)
        with pytest.raises(BackendUnavailableError, match="it is gone; to fix: bring it back"):
            sdie.Enhancer(self.recipe, "cpu")


def test_real_images(backend, data):
    image_module = pytest.importorskip("PIL.Image")
    for kind in ("Steel_In", "Steel_Pa", "Steel_Sc", "MT_Break", "MT_Crack", "MT_Uneven"):
        file = sorted((data / "defects-dev" / kind / "Images").iterdir())[7]
        with image_module.open(file) as opened:
            image = np.asarray(opened.convert("L"))[:200, :200]
        result = sdie.Enhancer(sdie.default_recipe(), backend)(image)[0]
        expected = sdie.Enhancer(sdie.default_recipe(), "reference")(image)[0]
        assert not np.array_equal(result, image)
        # Mild: the picture stays the one it was.
        assert np.abs(result.astype(float) - image).mean() < 32
        assert np.corrcoef(result.ravel(), image.ravel())[0, 1] > 0.9
        np.testing.assert_allclose(result.astype(int), expected.astype(int), atol=2)
