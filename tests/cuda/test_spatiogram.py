"""The device's spatiogram filter against the reference, method by method."""

from __future__ import annotations

import numpy as np
import pytest

from sdie_fast import filters

pytest.importorskip("numba_cuda")

# Float32 rounding alone; the design allows 1/510.
TOLERANCE = {"spatiogram": 2e-5, "clahe": 1e-5, "global": 1e-5}


@pytest.fixture
def make(cuda):
    """Makes the filter: `make(planes, height, width, ...)`."""
    from sdie_fast.cuda.spatiogram import Spatiogram

    def build(planes, height, width, *, method="spatiogram", bins=32, tiles=3):
        return Spatiogram(planes, height, width, method=method, bins=bins, tiles=tiles)

    return build


@pytest.fixture
def enqueue(cuda):
    """Runs a filter from device planes to device planes: "spatiogram" ends in the fused kernel."""
    from sdie_fast import FilterParams
    from sdie_fast.cuda import local
    from sdie_fast.cuda.kernels import POSITION

    def run(made, image, out, *, clip_limit=1.0, active=None):
        made(image, out, clip_limit=clip_limit, active=active)
        if made.method != "spatiogram" or image.shape[0] == 0:
            return
        count, height, width = image.shape
        weights = np.zeros((count, 1, len(filters.TABLE)), np.float32)
        weights[:, 0, POSITION["spatiogram"]] = 1.0
        ends = local.Ends(local.columns_of(width), equalised=True, luma=False, integers=False)
        mix = local.local_mix(local.parts_of(FilterParams(), [False] * len(filters.TABLE)), ends)
        flat = image.reshape(count * height * width)
        images = cuda.to_device(np.zeros((1, 1, 1, 1), np.float32))
        mix.kernel[mix.grid(height, width, count), mix.block](
            flat, flat, made.records, made.used, height, width, cuda.to_device(weights), 0, 1,
            cuda.to_device(local.numbers(FilterParams())), out.reshape(count * height * width), images, images,
            np.float32(1.0), 0, 0, 0,
        )  # fmt: skip

    return run


@pytest.fixture
def equalise(cuda, make, enqueue):
    """Runs the filter on (H, W) or (n, H, W) float32 into an array that tells what was not written."""

    def run(image, *, clip_limit=1.0, active=None, **settings):
        image = np.ascontiguousarray(image, np.float32)
        planes = image.reshape(-1, *image.shape[-2:])
        out = cuda.to_device(np.full_like(planes, np.nan))
        if active is not None:
            active = cuda.to_device(np.asarray(active, np.float32))
        enqueue(make(*planes.shape, **settings), cuda.to_device(planes), out, clip_limit=clip_limit, active=active)
        return out.copy_to_host().reshape(image.shape)

    return run


@pytest.fixture
def in_simulator(cuda):
    from sdie_fast.cuda import driver

    return driver.simulated()


def expect(plane, *, method="spatiogram", bins=32, clip_limit=1.0, tiles=3):
    plane = np.asarray(plane, np.float32).astype(np.float64)
    return filters.TABLE["spatiogram"](method=method, bins=bins, clip_limit=clip_limit, tiles=tiles).reference(plane)


def texture(rng, h, w):
    """Texture along x, a gradient, a dark blob, noise; the whole range but its ends."""
    y, x = np.mgrid[:h, :w]
    g = 0.5 + 0.1 * np.sin(x / 5.0) + 0.25 * (rng.random((h, w)) - 0.5) + 0.15 * x / w
    g[(y - h / 3) ** 2 + (x - w / 2) ** 2 < (min(h, w) / 6) ** 2] *= 0.15
    return g.astype(np.float32)


def scenes(rng, h, w):
    """Planes whose bins sit in hard places: narrow, thin, far from their own outliers."""
    y, x = np.mgrid[:h, :w]
    noise = 0.02 * rng.standard_normal((h, w))
    flat = np.full((h, w), 0.37)
    pixel, pixels = np.full((h, w), 0.2), np.full((h, w), 0.2)
    pixel[2, 3] = pixels[2, 3] = 1.0
    pixels[h - 3, w - 2], pixels[h // 2, w // 3] = 1.0, 0.99
    speck = 0.4 + noise
    speck[h // 2 : h // 2 + 2, w // 2 : w // 2 + 3] = 0.97
    scratch = 0.3 + noise
    scratch[np.abs(x - w // 3 - y) < 1] = 0.9
    ends = np.where(x < w // 2, 0.9, 0.1)
    ends[h // 2, :2] = 0.5
    shuffled = np.minimum(x / (w - 6), 1.0)
    shuffled[:, w - 6 :] = rng.permutation(np.linspace(0.01, 0.99, h * 6)).reshape(h, 6)
    found = {
        "flat": flat,
        "black": 0 * flat,
        "white": 0 * flat + 1,
        "black and white": np.where((x + y) % 2, 0.0, 1.0),
        "bright pixel": pixel,
        "bright pixels": pixels,
        "speck": speck,
        "halves": np.where(x < w // 2, 0.3, 0.7) + noise,
        "scratch": scratch,
        "ramp along x": (x + 0.5) / w,
        "ramp along y": (y + 0.5) / h + 0.0 * x,
        "ends": ends,
        "shuffled end": shuffled,
        "random": rng.random((h, w)),
    }
    return {name: np.clip(g, 0, 1).astype(np.float32) for name, g in found.items()}


# ---- every method --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
@pytest.mark.parametrize(
    "size", [(7, 7), *(pytest.param(s, marks=pytest.mark.simulator) for s in ((9, 11), (18, 16), (7, 40)))], ids=str
)
def test_against_the_reference(equalise, method, size, rng):
    plane = texture(rng, *size)
    got = equalise(plane, method=method, tiles=2)
    assert np.abs(got - expect(plane, method=method, tiles=2)).max() <= TOLERANCE[method]


@pytest.mark.simulator
@pytest.mark.parametrize("method", ["clahe", "global"])
def test_inactive_planes_are_left_alone(cuda, make, method, rng):
    """Fewer planes than there is memory for."""
    planes = np.stack([texture(rng, 9, 10) for _ in range(3)])
    weights = np.array([0.25, 0.0, 1.0], np.float32)
    out = cuda.to_device(np.full_like(planes, np.nan))
    make(5, 9, 10, method=method, tiles=1)(cuda.to_device(planes), out, clip_limit=1.0, active=cuda.to_device(weights))
    got = out.copy_to_host()
    assert np.isnan(got[1]).all()
    for i in (0, 2):
        error = np.abs(got[i] - expect(planes[i], method=method, tiles=1))
        assert error.max() <= TOLERANCE[method]


def test_statistics_of_inactive_planes_are_not_gathered(cuda, make, rng):
    planes = np.stack([texture(rng, 9, 10) for _ in range(3)])
    made = make(5, 9, 10)
    made.used.copy_to_device(np.full(5, -1, np.int32))
    active = cuda.to_device(np.array([0.25, 0.0, 1.0], np.float32))
    made(cuda.to_device(planes), None, clip_limit=1.0, active=active)
    used = made.used.copy_to_host()
    assert used[1] == used[3] == -1
    for i in (0, 2):
        shares = np.abs(planes[i] * 32.0 - 0.5 - np.arange(32)[:, None, None]).clip(max=1.0)
        assert used[i] == (shares < 1.0).any((1, 2)).sum()


@pytest.mark.simulator
@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
def test_a_plane_does_not_depend_on_its_batch(equalise, method, rng):
    planes = np.stack([texture(rng, 10, 9), rng.random((10, 9)).astype(np.float32)])
    together = equalise(planes, method=method, tiles=1)
    for plane, got in zip(planes, together, strict=True):
        assert np.array_equal(equalise(plane, method=method, tiles=1), got)


@pytest.mark.simulator
@pytest.mark.parametrize("method", ["clahe", "global"])
def test_in_place(cuda, make, method, rng):
    planes = texture(rng, 9, 10)[None]
    state = cuda.to_device(planes)
    make(1, 9, 10, method=method, tiles=1)(state, state, clip_limit=1.0)
    error = np.abs(state.copy_to_host() - expect(planes[0], method=method, tiles=1))
    assert error.max() <= TOLERANCE[method]


def test_no_planes(cuda, make):
    empty = cuda.device_array((0, 9, 10), np.float32)
    make(1, 9, 10)(empty, empty, clip_limit=1.0)


@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
def test_memory_is_what_was_said(cuda, make, method):
    for shape in ((1, 9, 11), (3, 70, 90)):
        made = make(*shape, method=method, bins=7, tiles=2)
        held = sum(int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize for array in made._memory.values())
        assert type(made).workspace_bytes(*shape, method=method, bins=7, tiles=2) == held


@pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
@pytest.mark.parametrize("shape", [(3, 200, 200), (1, 333, 1027), (2, 1024, 64)])
def test_real_sizes(in_simulator, equalise, method, shape, rng):
    """Many cells and parts; for a GPU."""
    if in_simulator:
        pytest.skip("takes the simulator minutes")
    planes = np.stack([texture(rng, *shape[1:]) for _ in range(shape[0])])
    got = equalise(planes, method=method, tiles=5)
    for plane, result in zip(planes, got, strict=True):
        assert np.abs(result - expect(plane, method=method, tiles=5)).max() <= 1e-4


def test_one_compilation_for_every_shape(in_simulator, equalise, rng):
    """Two at most: where a batch of one has another layout."""
    if in_simulator:
        pytest.skip("the simulator compiles nothing")
    from sdie_fast.cuda import kernels

    for method in ("spatiogram", "clahe", "global"):
        for shape in ((9, 11), (2, 17, 30), (3, 40, 13)):
            equalise(rng.random(shape), method=method)
    for name, kernel, _ in kernels.every_kernel():
        if name.split(":")[0] in ("equalise", "moments", "spatiogram"):
            assert len(kernel.overloads) <= 2, name


# ---- by place ------------------------------------------------------------------------------------


@pytest.mark.simulator
@pytest.mark.parametrize("bins", [2, 3, 7, 16, 33, 64])
def test_bins(equalise, bins, rng):
    planes = scenes(rng, 16, 24)
    if bins == 64:  # a minute and a half for all of them in the simulator
        planes = {name: planes[name] for name in ("bright pixels", "scratch", "random")}
    got = equalise(np.stack(list(planes.values())), bins=bins)
    for (name, plane), result in zip(planes.items(), got, strict=True):
        assert np.abs(result - expect(plane, bins=bins)).max() <= TOLERANCE["spatiogram"], name


@pytest.mark.simulator
def test_many_cells(equalise, rng):
    """Three cells along x, two patches of threads."""
    plane = texture(rng, 10, 150)
    assert np.abs(equalise(plane) - expect(plane)).max() <= TOLERANCE["spatiogram"]


@pytest.mark.simulator
def test_bins_narrower_than_a_patch(equalise):
    """No bin covers a patch of threads: each finds the floor of its own pixels."""
    plane = np.broadcast_to((np.arange(100) + 0.5) / 100, (8, 100))
    got = equalise(plane, bins=64)
    assert np.abs(got - expect(plane, bins=64)).max() <= TOLERANCE["spatiogram"]


@pytest.mark.simulator
def test_pixels_far_outside_of_every_bin(monkeypatch, in_simulator, equalise, rng):
    """No image is known that needs it: the floor that is too low is raised instead."""
    if not in_simulator:
        pytest.skip("a GPU's kernels hold the constant")
    from sdie_fast.cuda import spatiogram

    monkeypatch.setattr(spatiogram, "LOWEST_FLOOR", np.float32(1e9))
    for name in ("bright pixel", "scratch", "random"):
        plane = scenes(rng, 12, 20)[name]
        assert np.abs(equalise(plane) - expect(plane)).max() <= TOLERANCE["spatiogram"], name


@pytest.mark.simulator
def test_thin_lines_keep_their_width(equalise):
    """An oblique line: the variance across it is the small difference of large ones."""
    y, x = np.mgrid[:40, :40]
    plane = np.where(np.abs(x - y) < 1, 0.9, 0.2)
    assert np.abs(equalise(plane) - expect(plane)).max() <= TOLERANCE["spatiogram"]


def test_cuts_of_a_plane(cuda):
    from sdie_fast.cuda import moments as statistics

    for n in range(1, 400):
        rows, columns = statistics.cell_sides(n, n)
        assert 1 <= rows <= statistics.CELL_ROWS
        assert 1 <= columns <= statistics.LANES
        assert -(-n // columns) == -(-n // statistics.LANES)  # no more cells than there must be
        assert -(-n // columns) * columns - n < -(-n // columns)  # of which none is far smaller
    assert statistics.cell_sides(200, 200) == (50, 29)


# ---- by level ------------------------------------------------------------------------------------


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("size", "tiles", "clip_limit"), [((15, 21), 3, 0.01), ((16, 18), 3, 4.0), ((15, 20), 2, 40.0), ((9, 20), 1, 1.0)]
)
def test_clahe(equalise, size, tiles, clip_limit, rng):
    plane = texture(rng, *size)
    got = equalise(plane, method="clahe", clip_limit=clip_limit, tiles=tiles)
    wanted = expect(plane, method="clahe", clip_limit=clip_limit, tiles=tiles)
    assert np.abs(got - wanted).max() <= TOLERANCE["clahe"]


@pytest.mark.simulator
@pytest.mark.parametrize("clip_limit", [1.0, 60.0])
def test_clahe_of_tiles_that_are_clipped(equalise, clip_limit, rng):
    """Few levels, so that many pixels are over the limit; on 8-bit levels and between them."""
    for planes in (rng.integers(0, 4, (24, 32)) / 3, 0.2 + 0.02 * rng.random((24, 32))):
        got = equalise(planes, method="clahe", clip_limit=clip_limit, tiles=2)
        wanted = expect(planes, method="clahe", clip_limit=clip_limit, tiles=2)
        assert np.abs(got - wanted).max() <= TOLERANCE["clahe"]


@pytest.mark.simulator
def test_clahe_of_more_tiles_than_pixels(equalise, rng):
    """The padding is reflected more than once."""
    plane = texture(rng, 2, 3)
    got = equalise(plane, method="clahe", tiles=5)
    assert np.abs(got - expect(plane, method="clahe", tiles=5)).max() <= TOLERANCE["clahe"]


@pytest.mark.simulator
@pytest.mark.parametrize("method", ["clahe", "global"])
def test_levels_of_hard_scenes(equalise, method, rng):
    kept = ("flat", "white", "black and white", "bright pixels", "ramp along x")
    planes = {name: plane for name, plane in scenes(rng, 9, 12).items() if name in kept}
    planes["8 bit"] = rng.integers(0, 256, (9, 12)) / np.float32(255)
    got = equalise(np.stack(list(planes.values())), method=method, tiles=1)
    for (name, plane), result in zip(planes.items(), got, strict=True):
        error = np.abs(result - expect(plane, method=method, tiles=1)).max()
        assert error <= TOLERANCE[method], name


@pytest.mark.simulator
@pytest.mark.parametrize("method", ["clahe", "global"])
def test_tiles_counted_in_parts(monkeypatch, in_simulator, equalise, method, rng):
    if not in_simulator:
        pytest.skip("a GPU's kernels hold the constant; real sizes have parts")
    from sdie_fast.cuda import equalise as levels

    monkeypatch.setattr(levels, "PART_PIXELS", 100)
    plane = texture(rng, 21, 22)
    got = equalise(plane, method=method, tiles=2)
    assert np.abs(got - expect(plane, method=method, tiles=2)).max() <= TOLERANCE[method]
