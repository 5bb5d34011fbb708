from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from sdie_fast.data import synthetic
from sdie_fast.errors import InvalidArgumentError, InvalidTypeError


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_masks_cover_a_plausible_share(kind):
    for seed in range(8):
        sample = synthetic.surface(kind, seed=seed)
        assert sample.image.shape == sample.mask.shape == (200, 200)
        assert (sample.kind, sample.seed) == (kind, seed)
        assert 0.004 <= sample.mask.mean() <= 0.36


def test_same_seed_same_bytes_whatever_came_before():
    first = synthetic.surface("patch", seed=5)
    synthetic.surface("scratch", seed=9)
    again = synthetic.surface("patch", seed=5)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)


def test_seeds_kinds_and_sizes_differ():
    images = [synthetic.surface(k, seed=s).image for k in ("patch", "scratch") for s in (0, 1)]
    for i, a in enumerate(images):
        for b in images[:i]:
            assert (a != b).mean() > 0.5


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_defects_can_be_seen(kind):
    """Most of a kind's samples differ from the surface beside them, in level or in roughness."""
    seen = 0
    for seed in range(10):
        sample = synthetic.surface(kind, seed=seed, dtype=np.float32)
        near = binary_dilation(sample.mask, iterations=8) & ~binary_dilation(
            sample.mask, iterations=2
        )
        inside, beside = sample.image[sample.mask], sample.image[near]
        step = abs(inside.mean() - beside.mean()) / beside.std()
        rough = abs(np.log(inside.std() / beside.std()))
        seen += step > 0.5 or rough > 0.25
    assert seen >= 8


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (300, 41)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sizes_and_types(size, dtype):
    sample = synthetic.surface("inclusion", seed=2, size=size, dtype=dtype)
    assert sample.image.shape == size
    assert sample.image.dtype == dtype
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    assert 0.02 * top < sample.image.mean() < 0.95 * top


def test_types_show_one_surface():
    eight = synthetic.surface("oil_spot", seed=4)
    real = synthetic.surface("oil_spot", seed=4, dtype=np.float32)
    assert np.abs(eight.image / 255.0 - real.image).max() <= 0.5 / 255 + 1e-6


def test_grey_level_statistics_are_a_strips(data):
    """Brightness, spread and gradient lie where those of photographed strip lie."""

    def figures(images):
        return np.array(
            [
                [
                    i.mean(),
                    i.std(),
                    np.abs(np.diff(i, axis=1)).mean(),
                    np.abs(np.diff(i, axis=0)).mean(),
                ]
                for i in images
            ]
        )

    real = figures(
        [
            np.asarray(Image.open(p).convert("L"), float)
            for kind in ("Steel_In", "Steel_Pa", "Steel_Sc")
            for p in sorted((data / "defects-dev" / kind / "Images").iterdir())[::5]
        ]
    )
    made = figures([s.image.astype(float) for s in synthetic.dataset(per_kind=4, seed=50)])
    low, high = np.percentile(real, [2, 98], axis=0)
    median = np.median(made, axis=0)
    assert (low / 1.3 <= median).all()
    assert (median <= 1.3 * high).all()


def test_clean_has_no_defect():
    sample = synthetic.clean(seed=1)
    assert not sample.mask.any()
    assert sample.kind == "clean"


def test_dataset_and_its_layout_on_disk(tmp_path):
    root = synthetic.write_dataset(
        tmp_path / "made", ["scratch", "patch"], per_kind=2, seed=7, size=(48, 64)
    )
    lines = (root / "all_defective.txt").read_text().splitlines()
    assert lines[0] == "Steel_Sc/Images/Steel_Sc_1.png  11"
    assert lines[-1] == "Steel_Pa/Images/Steel_Pa_2.png  7"
    samples = list(synthetic.dataset(["scratch", "patch"], per_kind=2, seed=7, size=(48, 64)))
    for line, mask_line, sample in zip(
        lines, (root / "all_mask.txt").read_text().splitlines(), samples, strict=True
    ):
        assert np.array_equal(np.asarray(Image.open(root / line.split("  ")[0])), sample.image)
        mask = np.asarray(Image.open(root / mask_line.split("  ")[0]))
        assert np.array_equal(mask == 255, sample.mask)
        assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "rust", "seed": 0}, InvalidArgumentError, "kind.*rust"),
        ({"kind": "patch", "seed": -1}, InvalidArgumentError, "seed.*-1"),
        ({"kind": "patch", "seed": 0.5}, InvalidTypeError, "seed.*0.5"),
        ({"kind": "patch", "seed": 0, "size": (8, 200)}, InvalidArgumentError, r"size\[0\].*8"),
        ({"kind": "patch", "seed": 0, "size": 200}, InvalidTypeError, "size.*200"),
        ({"kind": "patch", "seed": 0, "dtype": np.int64}, InvalidTypeError, "dtype.*int64"),
        ({"kind": "patch", "seed": 0, "dtype": "grey"}, InvalidTypeError, "dtype.*grey"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        synthetic.surface(**arguments)


def test_bad_dataset():
    with pytest.raises(InvalidTypeError, match="kinds"):
        list(synthetic.dataset("patch", per_kind=1, seed=0))
    with pytest.raises(InvalidArgumentError, match="per_kind"):
        list(synthetic.dataset(per_kind=0, seed=0))
