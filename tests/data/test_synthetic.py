from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from sdie_fast.data import synthetic
from sdie_fast.errors import ImageFileError, InvalidArgumentError, InvalidTypeError

surface = functools.cache(synthetic.surface)


def digest(sample):
    return hashlib.sha256(sample.image.tobytes() + sample.mask.tobytes()).hexdigest()


def test_kinds_are_those_of_the_benchmark():
    assert "".join(synthetic.FSSD_CODES[kind] for kind in synthetic.KINDS) == ("AmIaLdOpOsWsPaPkRiRpScSe")


# What is drawn


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_masks_cover_a_plausible_share(kind):
    shares = []
    for seed in range(15):
        sample = surface(kind, seed=seed, dtype=np.float32)
        assert sample.image.shape == sample.mask.shape == (200, 200)
        assert sample.mask.dtype == np.bool_
        assert (sample.kind, sample.seed) == (kind, seed)
        shares.append(sample.mask.mean())
    assert min(shares) >= 0.005
    assert max(shares) <= 0.35
    assert max(shares) > 2 * min(shares)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_defects_can_be_seen(kind):
    """Grey level steps at the outline by more than the ground on its outer side varies."""
    seen = 0
    for seed in range(12):
        sample = surface(kind, seed=seed, dtype=np.float32)
        inner = sample.mask & ~binary_erosion(sample.mask, iterations=5, border_value=1)
        near = binary_dilation(sample.mask, iterations=2)
        outer = binary_dilation(near, iterations=4) & ~near
        step = abs(sample.image[inner].mean() - sample.image[outer].mean())
        seen += step > 0.5 * sample.image[outer].std()
    assert seen >= 9


def test_a_sound_strip_has_no_defect():
    sample = synthetic.clean(seed=1, size=(64, 96))
    assert sample.kind == "clean"
    assert sample.image.shape == sample.mask.shape == (64, 96)
    assert not sample.mask.any()


@pytest.mark.parametrize(
    ("kind", "mean", "pixel", "area"),
    [
        ("abrasion_mask", 136.17, 152, 61), ("iron_sheet_ash", 121.34, 123, 214), ("liquid", 71.02, 99, 147),
        ("oxide_scale", 129.29, 128, 124), ("oil_spot", 86.80, 109, 29), ("water_spot", 124.48, 118, 160),
        ("patch", 199.28, 165, 132), ("punching", 77.47, 83, 121), ("red_iron_sheet", 78.15, 68, 270),
        ("roll_printing", 169.41, 207, 20), ("scratch", 75.69, 61, 276), ("inclusion", 132.74, 144, 143),
    ],
)  # fmt: skip
def test_a_seed_gives_what_it_always_gave(kind, mean, pixel, area):
    """Pictures of earlier versions can be made again; float64 arithmetic may round a pixel otherwise."""
    sample = synthetic.surface(kind, seed=5, size=(64, 48))
    assert sample.image.mean() == pytest.approx(mean, abs=0.02)
    assert int(sample.image[20, 30]) == pytest.approx(pixel, abs=1)
    assert int(sample.mask.sum()) == pytest.approx(area, abs=2)


def test_samples_vary():
    means, contrasts, rows, columns = [], [], [], []
    for seed in range(30):
        sample = synthetic.surface("oil_spot", seed=seed)
        inside, outside = sample.image[sample.mask], sample.image[~sample.mask]
        means.append(sample.image.mean())
        contrasts.append(abs(inside.mean() - outside.mean()))
        place = np.argwhere(sample.mask).mean(axis=0)
        rows.append(place[0])
        columns.append(place[1])
    assert np.std(means) > 15
    assert np.std(rows) > 15
    assert np.std(columns) > 15
    # Many are faint.
    assert min(contrasts) < 15
    assert max(contrasts) > 25


def test_grey_level_statistics_are_a_strips(data):
    """Brightness, spread, gradients and noise lie where those of photographed strip lie."""

    def figures(image):
        i = image.astype(np.float64)
        laplacian = i[1:-1, 1:-1] * 4 - i[2:, 1:-1] - i[:-2, 1:-1] - i[1:-1, 2:] - i[1:-1, :-2]
        gradients = [np.abs(np.diff(i, axis=axis)).mean() for axis in (0, 1)]
        return [i.mean(), i.std(), *gradients, np.median(np.abs(laplacian))]

    pairs = {"Steel_In": "inclusion", "Steel_Pa": "patch", "Steel_Sc": "scratch"}
    for folder, kind in pairs.items():
        files = sorted((data / "defects-dev" / folder / "Images").iterdir())
        real = np.array([figures(np.asarray(Image.open(f).convert("L"))) for f in files])
        made = np.array([figures(s.image) for s in synthetic.dataset([kind], per_kind=20, seed=50)])
        low, high = np.percentile(real, [10, 90], axis=0)
        median = np.median(made, axis=0)
        assert (low <= median).all(), (folder, low, median)
        assert (median <= high).all(), (folder, median, high)


def test_spectra_are_a_strips(data):
    """Median power falls with frequency as in the photographs, within a factor of three."""

    def spectrum(image):
        i = image.astype(np.float64)
        window = np.hanning(i.shape[0])[:, None] * np.hanning(i.shape[1])
        power = np.abs(np.fft.fft2((i - i.mean()) * window)) ** 2
        f = np.hypot(np.fft.fftfreq(i.shape[0])[:, None], np.fft.fftfreq(i.shape[1]))
        edges = (0.02, 0.04, 0.08, 0.16, 0.3, 0.5)
        return [np.log10(np.median(power[(f >= a) & (f < b)])) for a, b in itertools.pairwise(edges)]

    for folder, kind in {"Steel_In": "inclusion", "Steel_Sc": "scratch"}.items():
        files = sorted((data / "defects-dev" / folder / "Images").iterdir())
        real = [spectrum(np.asarray(Image.open(f).convert("L"))) for f in files]
        made = [spectrum(s.image) for s in synthetic.dataset([kind], per_kind=20, seed=60)]
        gap = np.median(made, axis=0) - np.median(real, axis=0)
        assert (np.abs(gap) < np.log10(3)).all(), (folder, gap)


# The same again, and never the same twice


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_same_seed_same_bytes_whatever_came_before(kind):
    first = digest(synthetic.surface(kind, seed=5, size=(90, 70)))
    synthetic.surface("scratch", seed=9, size=(40, 40))
    np.random.default_rng(0).standard_normal(3)
    assert digest(synthetic.surface(kind, seed=5, size=(90, 70))) == first


def test_same_seed_same_bytes_in_another_process(python):
    code = (
        "import hashlib; from sdie_fast.data import synthetic;"
        "s = synthetic.surface('liquid', seed=2**63, size=(80, 80));"
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    assert python(code) == digest(synthetic.surface("liquid", seed=2**63, size=(80, 80)))


def test_the_callers_random_state_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(4)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    synthetic.surface("patch", seed=1, size=(32, 32))
    assert np.array_equal(np.random.random(4), expected)  # noqa: NPY002


def test_seeds_kinds_and_sizes_have_nothing_in_common():
    grounds = []
    for seed in (0, 1, 2, 2**32, 2**64 - 1):
        for kind in ("oil_spot", "inclusion", "clean"):
            make = synthetic.clean if kind == "clean" else synthetic.surface
            arguments = () if kind == "clean" else (kind,)
            image = make(*arguments, seed=seed, size=(128, 128), dtype=np.float32).image
            # The grain alone: illumination is alike in all of them.
            grain = (image[1:] - image[:-1])[:, 1:].ravel()
            grounds.append((grain - grain.mean()) / grain.std())
    correlation = np.corrcoef(grounds)
    assert np.abs(correlation - np.eye(len(grounds))).max() < 0.25


def test_data_sets_draw_reproducible_and_distinct_samples():
    long = list(synthetic.dataset(["patch", "scratch"], per_kind=3, seed=4, size=(48, 48)))
    short = list(synthetic.dataset(["scratch"], per_kind=2, seed=4, size=(48, 48)))
    assert [s.kind for s in long] == ["patch"] * 3 + ["scratch"] * 3
    assert [digest(s) for s in short] == [digest(s) for s in long[3:5]]
    again = synthetic.surface("patch", seed=long[1].seed, size=(48, 48))
    assert digest(again) == digest(long[1])
    # Neighbouring seeds share no sample.
    other = list(synthetic.dataset(["patch", "scratch"], per_kind=3, seed=5, size=(48, 48)))
    assert not {s.seed for s in long} & {s.seed for s in other}
    assert len({digest(s) for s in long + other}) == 12


# Sizes and dtypes


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (41, 300), (300, 41), (97, 16)])
def test_small_and_narrow_sizes(size):
    for kind, seed in itertools.product(synthetic.KINDS, range(3)):
        sample = synthetic.surface(kind, seed=seed, size=size)
        assert sample.image.shape == sample.mask.shape == size
        assert 0.005 <= sample.mask.mean() <= 0.35
        assert sample.image.flags.c_contiguous
        assert sample.mask.flags.c_contiguous
        assert 5 < sample.image.mean() < 250


@pytest.mark.parametrize("kind", ["inclusion", "roll_printing"])
def test_a_large_size(kind):
    sample = synthetic.surface(kind, seed=2, size=(1024, 1024))
    assert sample.image.shape == (1024, 1024)
    assert 0.005 <= sample.mask.mean() <= 0.35


@pytest.mark.parametrize("kind", ["patch", "punching"])
def test_dtypes_show_one_photograph(kind):
    eight, sixteen, real = (
        synthetic.surface(kind, seed=4, size=(60, 80), dtype=dtype)
        for dtype in (np.uint8, "uint16", np.dtype(np.float32))
    )
    assert [s.image.dtype for s in (eight, sixteen, real)] == [np.uint8, np.uint16, np.float32]
    assert np.abs(eight.image / 255 - real.image).max() <= 0.5 / 255 + 1e-6
    assert np.abs(sixteen.image / 65535 - real.image).max() <= 0.5 / 65535 + 1e-6
    assert real.image.min() >= 0
    assert real.image.max() <= 1
    assert np.array_equal(eight.mask, real.mask)
    assert np.array_equal(eight.mask, sixteen.mask)


# On disk


@pytest.mark.parametrize("existing", [False, True])
def test_layout_on_disk(tmp_path, existing):
    target = tmp_path / "sets" / "made"
    if existing:
        target.mkdir(parents=True)
    arguments = {"per_kind": 2, "seed": 7, "size": (48, 64)}
    root = synthetic.write_dataset(str(target), ["scratch", "patch"], **arguments)
    assert root == target
    assert [p.name for p in target.parent.iterdir()] == ["made"]
    lines = (root / "all_defective.txt").read_text().splitlines()
    assert lines == [
        "Steel_Sc/Images/Steel_Sc_1.png  11",
        "Steel_Sc/Images/Steel_Sc_2.png  11",
        "Steel_Pa/Images/Steel_Pa_1.png  7",
        "Steel_Pa/Images/Steel_Pa_2.png  7",
    ]
    masks = (root / "all_mask.txt").read_text().splitlines()
    assert masks == [line.replace("/Images/", "/GT/") for line in lines]
    written = {str(p.relative_to(root)) for p in root.rglob("*.png")}
    assert written == {line.split("  ")[0] for line in lines + masks}
    samples = list(synthetic.dataset(["scratch", "patch"], **arguments))
    for line, mask_line, sample in zip(lines, masks, samples, strict=True):
        image = np.asarray(Image.open(root / line.split("  ")[0]))
        mask = np.asarray(Image.open(root / mask_line.split("  ")[0]))
        assert np.array_equal(image, sample.image)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, np.where(sample.mask, 255, 0))


def test_nothing_half_written(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageFileError, match=r"made.*disk full"):
        synthetic.write_dataset(tmp_path / "made", ["patch"], per_kind=1, seed=0, size=(32, 32))
    assert not list(tmp_path.iterdir())


def test_no_directory_is_overwritten(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    for target in (tmp_path, tmp_path / "kept.txt"):
        with pytest.raises(InvalidArgumentError, match=r"directory.*empty"):
            synthetic.write_dataset(target, per_kind=1, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "rust", "seed": 0}, InvalidArgumentError, "kind.*rust.*scratch"),
        ({"kind": 3, "seed": 0}, InvalidTypeError, "kind.*3"),
        ({"kind": "patch", "seed": -1}, InvalidArgumentError, "seed.*-1"),
        ({"kind": "patch", "seed": 2**64}, InvalidArgumentError, "seed"),
        ({"kind": "patch", "seed": 0.5}, InvalidTypeError, "seed.*0.5"),
        ({"kind": "patch", "seed": True}, InvalidTypeError, "seed.*True"),
        ({"kind": "patch", "seed": 0, "size": (8, 200)}, InvalidArgumentError, r"size\[0\].*8"),
        ({"kind": "patch", "seed": 0, "size": (64, 2**20)}, InvalidArgumentError, r"size\[1\]"),
        (
            {"kind": "patch", "seed": 0, "size": (16384, 16384)},
            InvalidArgumentError,
            "size.*pixels",
        ),
        ({"kind": "patch", "seed": 0, "size": (64, 64, 3)}, InvalidArgumentError, "size.*3"),
        ({"kind": "patch", "seed": 0, "size": 200}, InvalidTypeError, "size.*200"),
        ({"kind": "patch", "seed": 0, "size": "64"}, InvalidTypeError, "size"),
        ({"kind": "patch", "seed": 0, "size": (64.0, 64)}, InvalidTypeError, r"size\[0\].*64"),
        ({"kind": "patch", "seed": 0, "dtype": np.int64}, InvalidTypeError, "dtype.*int64"),
        ({"kind": "patch", "seed": 0, "dtype": "grey"}, InvalidTypeError, "dtype.*grey"),
        ({"kind": "patch", "seed": 0, "dtype": ">u2"}, InvalidTypeError, "dtype"),
    ],
)
def test_bad_surface(arguments, error, message):
    with pytest.raises(error, match=message):
        synthetic.surface(**arguments)
    if arguments["kind"] == "patch":
        del arguments["kind"]
        with pytest.raises(error, match=message):
            synthetic.clean(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kinds": "patch"}, InvalidTypeError, "kinds.*patch"),
        ({"kinds": 7}, InvalidTypeError, "kinds.*7"),
        ({"kinds": []}, InvalidArgumentError, "kinds"),
        ({"kinds": ["patch", "patch"]}, InvalidArgumentError, "kinds.*patch"),
        ({"kinds": ["patch", "rust"]}, InvalidArgumentError, "kinds.*rust"),
        ({"per_kind": 0}, InvalidArgumentError, "per_kind.*0"),
        ({"per_kind": 1.0}, InvalidTypeError, "per_kind.*1.0"),
        ({"seed": "1"}, InvalidTypeError, "seed"),
        ({"size": (4, 4)}, InvalidArgumentError, "size"),
    ],
)
def test_bad_data_set(tmp_path, arguments, error, message):
    given = {"kinds": ["patch"], "per_kind": 1, "seed": 0, **arguments}
    # At the call, before a sample is asked for.
    with pytest.raises(error, match=message):
        synthetic.dataset(**given)
    with pytest.raises(error, match=message):
        synthetic.write_dataset(tmp_path / "made", **given)
    assert not list(tmp_path.iterdir())


def test_bad_directory():
    with pytest.raises(InvalidTypeError, match="directory"):
        synthetic.write_dataset(3, per_kind=1, seed=0)
