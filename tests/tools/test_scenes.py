import numpy as np
import pytest
from scenes import MAX_SHARE, MAX_TARGETS, MIN_SHARE, scene


@pytest.mark.parametrize("size", [128, 256])
def test_scenes(size):
    for k in range(25):
        s = scene((1, k), size)
        assert s.image.dtype == np.uint8
        assert s.image.shape == (size, size)
        assert s.masks.dtype == bool
        assert 1 <= len(s.masks) <= MAX_TARGETS
        assert s.masks.shape[1:] == (size, size)
        assert (s.masks.mean((1, 2)) >= MIN_SHARE).all()
        assert not (s.masks & s.background).any()


def test_seeded():
    a, b = scene(5, 128), scene(5, 128)
    assert (a.image == b.image).all()
    assert (a.masks == b.masks).all()
    assert (a.image != scene(6, 128).image).any()


@pytest.mark.parametrize(
    ("seed", "mean", "areas"),
    [(0, 59.99, [128, 140, 77, 62]), (1, 10.26, [399]), (2, 17.69, [113, 442]), (3, 103.39, [179, 54])],
)
def test_a_seed_gives_what_it_always_gave(seed, mean, areas):
    """But for what another matrix library rounds otherwise."""
    made = scene(seed, 64)
    assert made.image.mean() == pytest.approx(mean, abs=0.05)
    assert [int(m.sum()) for m in made.masks] == pytest.approx(areas, abs=2)


def test_ease_raises_contrast():
    def contrast(ease):
        found = []
        for k in range(25):
            s = scene((2, k), 128, ease)
            image = s.image.astype(float)
            found += [
                abs(image[m].mean() - image[s.background].mean()) / (image[s.background].std() + 4) for m in s.masks
            ]
        return np.median(found)

    assert contrast(1.0) > 1.3 * contrast(0.0)


def test_single_targets_leave_room():
    shares = [m.mean() for k in range(25) for m in scene((3, k), 128).masks]
    assert np.mean(np.array(shares) <= MAX_SHARE) > 0.9
