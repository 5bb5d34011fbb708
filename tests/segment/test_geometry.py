import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdie_fast.segment.geometry import Geometry

sides = st.integers(1, 700)


@given(sides, sides, st.sampled_from([64, 256, 1024]))
def test_points_go_to_the_input(height, width, size):
    geometry = Geometry(height, width, size)
    high, wide = geometry.inner
    assert max(high, wide) == size
    assert min(high, wide) >= 1
    points = np.array([[0, 0], [width, height], [width / 3, height / 7]], np.float32)
    inside = geometry.to_model(points)
    assert inside[1] == pytest.approx([wide, high], rel=1e-5)
    assert geometry.to_model(points[:2].reshape(1, 4)).tolist() == [inside[:2].ravel().tolist()]


@pytest.mark.parametrize("shape", [(200, 200), (381, 513), (90, 700), (1200, 900), (17, 16)])
def test_resizing_is_pillows(shape, rng):
    plane = rng.uniform(0, 255, shape).astype(np.float32)
    geometry = Geometry(*shape, 256)
    out = np.full((256, 256), np.nan, np.float32)
    geometry.fill(plane, out)
    high, wide = geometry.inner
    pillow = np.asarray(Image.fromarray(plane).resize((wide, high), Image.Resampling.BILINEAR))
    assert np.abs(out[:high, :wide] - pillow).max() < 1e-3
    assert (out[high:] == 0).all()
    assert (out[:, wide:] == 0).all()


@pytest.mark.parametrize("shape", [(200, 200), (300, 150), (150, 301)])
def test_masks_come_back(shape):
    geometry = Geometry(*shape, 256)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.hypot(y - 0.6 * shape[0], x - 0.4 * shape[1]) < 0.25 * min(shape)
    plane = np.zeros((256, 256), np.float32)
    geometry.fill(np.where(mask, 8.0, -8.0).astype(np.float32), plane)
    low = plane.reshape(128, 2, 128, 2).mean((1, 3))
    back = geometry.from_model(low[None])[0] > 0
    assert back.shape == shape
    assert (back & mask).sum() / (back | mask).sum() > 0.97
