"""Plans: every pixel format, deadlines, weights that change, refusals."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, Recipe, RecipeError
from sdie_fast.filters import TABLE
from sdie_fast.reference import LUMA, enhance_plane

line = pytest.importorskip("sdie_fast.line", reason="the compiled module is not there")

HEIGHT, WIDTH = 31, 37
PARAMS = FilterParams(wls_solver="fast")
ROW = {"identity": 1, "wls": 1, "bilateral": 2, "sharpen": 1, "guided": 1}
BITS = {
    "Mono8": 8,
    "Mono10": 10,
    "Mono10p": 10,
    "Mono10Packed": 10,
    "Mono12": 12,
    "Mono12p": 12,
    "Mono12Packed": 12,
    "Mono14": 14,
    "Mono16": 16,
}
WORDS = ("Mono10", "Mono12", "Mono14", "Mono16")


def packed(values, name):
    """Lines of integers in a packed format, written from GenICam's text, slowly."""
    bits = BITS[name]
    rows = []
    for row in values.tolist():
        if name.endswith("p"):  # one number of many bits, least significant first
            number = sum(value << (bits * k) for k, value in enumerate(row))
            rows.append(list(number.to_bytes(-(-bits * len(row) // 8), "little")))
        else:  # two pixels in three bytes: high bits, low bits of both, high bits
            low, line_bytes = bits - 8, []
            for a, b in zip(row[::2], [*row[1::2], 0], strict=False):
                middle = (a & ((1 << low) - 1)) | (b & ((1 << low) - 1)) << 4
                line_bytes += [a >> low, middle, b >> low]
            rows.append(line_bytes[: 3 * (len(row) // 2) + 2 * (len(row) % 2)])
    return np.array(rows, np.uint8)


def encoded(state, name):
    """Intensities (H, W) or (H, W, 3) as a camera would send them, and as it meant them."""
    if name == "float32":
        return state.astype(np.float32), state.astype(np.float32).astype(np.float64)
    white = (1 << BITS.get(name, 8)) - 1
    values = np.rint(state * white).astype(np.int64)
    if name in WORDS:
        return values.astype(np.uint16), values / white
    return (values.astype(np.uint8) if name in ("Mono8", "RGB8", "BGR8") else packed(values, name)), values / white


def state_of(rng, picture, name):
    shape = (HEIGHT, WIDTH, 3) if name in ("RGB8", "BGR8") else (HEIGHT, WIDTH)
    return picture(rng, shape, np.float32).astype(np.float64)


def rounds_of_reference(state, name, rounds):
    weights = [[ROW.get(f, 0) for f in TABLE]] * rounds
    if state.ndim == 2:
        return enhance_plane(state, weights, PARAMS)
    luma = state @ (LUMA if name == "RGB8" else LUMA[::-1])
    return np.clip(state + (enhance_plane(luma, weights, PARAMS) - luma)[..., None], 0, 1)


def make(recipe=None, width=WIDTH, height=HEIGHT, *formats, **options):
    given = {} if isinstance(recipe, (Recipe, str, os.PathLike)) else {"params": PARAMS}
    return line.Plan(ROW if recipe is None else recipe, width, height, *formats, **given, **options)


@pytest.fixture
def frame(rng, picture):
    return picture(rng, (HEIGHT, WIDTH), np.uint8)


def test_formats_are_those_of_pfnc():
    assert set(line.FORMATS) == {*BITS, "RGB8", "BGR8", "float32"}
    assert line.layout("Mono12p", 5, 4) == ((4, 8), np.uint8)
    assert line.layout("mono10packed", 4, 1) == ((1, 6), np.uint8)
    assert line.layout("Mono14", 5, 4) == ((4, 5), np.uint16)
    assert line.layout("BGR8", 5, 4) == ((4, 5, 3), np.uint8)


@pytest.mark.parametrize("name", line.FORMATS)
def test_every_format_is_the_reference(name, rng, picture):
    """Within the bound of a round, and half a step of the format."""
    frame, state = encoded(state_of(rng, picture, name), name)
    with make(None, WIDTH, HEIGHT, name, "float32" if state.ndim == 2 else None) as plan:
        assert plan.input == (frame.shape, frame.dtype)
        out, report = plan.run(frame)
    assert (report.rounds, report.wanted, report.reason, report.late) == (1, 1, "", False)
    bound = 1 / 510
    if state.ndim == 3:
        out, bound = out / 255.0, bound + 0.5 / 255
    assert np.abs(out - rounds_of_reference(state, name, 1)).max() <= bound


@pytest.mark.parametrize("name", line.FORMATS)
def test_every_format_is_written(name, rng, picture):
    """The identity gives the frame back, from lines that lie apart and upside down into such lines."""
    frame, _ = encoded(state_of(rng, picture, name), name)
    around = np.zeros((2 * HEIGHT, frame.shape[1] + 6, *frame.shape[2:]), frame.dtype)
    source, out = around[::-2, 3:-3], np.zeros_like(around)[::2, 5:-1]
    source[...] = frame
    with line.Plan({"identity": 1}, WIDTH, HEIGHT, name) as plan:
        given, _ = plan.run(source, out)
    assert given is out
    np.testing.assert_array_equal(out, frame)


@pytest.mark.parametrize("name", ["Mono8", "Mono16", "RGB8", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_what_enhance_does(name, threads, rng, picture):
    height, width = 300, 280  # large enough to be split
    dtype = {"Mono8": np.uint8, "RGB8": np.uint8, "Mono16": np.uint16, "float32": np.float32}[name]
    frame = picture(rng, (height, width, 3) if name == "RGB8" else (height, width), np.dtype(dtype))
    recipe = Recipe([ROW, {"spatiogram": 1, "wls": 1}], FilterParams(guided_eps=0.02))
    wanted = sdie.enhance(frame, recipe.weights, params=recipe.params, threads=1)
    with make(recipe, width, height, name, threads=threads) as plan:
        for _ in range(2):
            np.testing.assert_array_equal(plan.run(frame)[0], wanted)


def test_white_level(rng, picture):
    frame = (picture(rng, (HEIGHT, WIDTH), np.uint8).astype(np.uint16)) * 10
    wanted = sdie.enhance(frame, ROW, params=PARAMS, white_level=2550)
    with make(None, WIDTH, HEIGHT, "Mono16", "float32", white_level=2550) as plan:
        np.testing.assert_allclose(plan.run(frame)[0], wanted / 2550, atol=0.6 / 2550)


def test_recipes_from_everywhere(tmp_path, frame):
    recipe = Recipe([{"median": 2, "identity": 1}, {"gamma": 1}], FilterParams(median_window=5, gamma_exponent=0.7))
    folder = recipe.save(tmp_path / "r").parent
    exported = line.export(recipe, tmp_path / "r.line")
    wanted, _ = sdie.Enhancer(recipe)(frame)
    for given in (recipe, folder, str(folder), folder / "recipe.json", exported):
        with make(given) as plan:
            np.testing.assert_array_equal(plan.run(frame)[0], wanted)
    with pytest.raises(InvalidArgumentError, match="params: received"):
        line.Plan(exported, WIDTH, HEIGHT, params=PARAMS)
    with pytest.raises(RecipeError, match="nowhere"):
        line.Plan(tmp_path / "nowhere", WIDTH, HEIGHT)


def test_the_first_pass_of_several(frame):
    recipe = Recipe([{"gamma": 1}, {"median": 1}], passes=2)
    with make(recipe) as plan:
        out, report = plan.run(frame)
    assert report.wanted == 1
    np.testing.assert_array_equal(out, sdie.Enhancer(recipe)(frame)[0])


def test_a_network_is_refused_and_what_to_do_is_told():
    from importlib.resources import files

    learned = Recipe.load(str(files("sdie_fast") / "models" / "sdie_small"))
    with pytest.raises(
        InvalidArgumentError, match=r"kind '\w+', whose network .* accepted: kind 'fixed' .*set_weights"
    ):
        line.Plan(learned, WIDTH, HEIGHT)


# ---- time --------------------------------------------------------------------------------------------


def test_without_time_the_output_is_the_input(frame):
    with make(None, WIDTH, HEIGHT, "Mono8", "Mono16", deadline=1e-9) as plan:
        out, report = plan.run(frame)
        assert (report.rounds, report.wanted, report.reason, report.late) == (0, 1, "no time", True)
        np.testing.assert_array_equal(out, frame.astype(np.uint16) * 257)
        stats = plan.stats()
        assert (stats.frames, stats.late, stats.shortened) == (1, 1, 1)


def test_latency_counts_from_when_the_frame_was_due(frame):
    with make(deadline=5.0) as plan:
        _, report = plan.run(frame, since=time.monotonic() - 2.0)
        assert 2.0 <= report.latency < 2.0 + 60.0
        assert report.busy < report.latency
        assert not report.late
        _, report = plan.run(frame, since=time.monotonic() - 9.0)
        assert report.late
        assert report.rounds == 0


def test_stats(frame):
    with make() as plan:
        assert plan.stats() == (0,) * 13
        assert plan.percentile(50) == 0
        seen = [plan.run(frame)[1].latency for _ in range(50)]
        stats = plan.stats()
        assert (stats.frames, stats.late, stats.shortened, stats.refused) == (50, 0, 0, 0)
        assert (stats.min, stats.max) == (min(seen), max(seen))
        assert stats.mean == pytest.approx(np.mean(seen), rel=1e-6)
        assert stats.p50 <= stats.p90 <= stats.p99 <= stats.p999 <= stats.max * 1.008
        assert plan.percentile(50) == stats.p50
        plan.reset_stats()
        assert plan.stats().frames == 0


# ---- weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "toolkit"),
    [
        ([[3, 1]], ("median", "identity")),  # an array is in the recipe's order
        ([1, 1], ("median", "identity")),
        ({"median": 1}, None),
        ([{"gamma": 1}, {"identity": 1, "median": 2}], None),
    ],
)
def test_weights_change_between_frames(weights, toolkit, frame):
    recipe = Recipe([[1, 3]] * 2, filters=("median", "identity"))
    with line.Plan(recipe, WIDTH, HEIGHT, filters=["gamma"]) as plan:
        assert plan.filters == ("median", "identity")
        plan.run(frame)
        plan.set_weights(weights)
        np.testing.assert_array_equal(plan.run(frame)[0], sdie.enhance(frame, weights, filters=toolkit))


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([[1, 3]] * 3, "rounds"),
        ({"sharpen": 1}, "sharpen"),
        ({"blur": 1}, "unknown filter 'blur'"),
        ([1, 2, 3], "weights: received shape"),
        ([0, 0], "a weight > 0"),
        ([1, float("nan")], "finite"),
    ],
)
def test_weights_that_do_not_suit(weights, told, frame):
    with line.Plan(Recipe([[1, 3]] * 2, filters=("median", "identity")), WIDTH, HEIGHT) as plan:
        before, _ = plan.run(frame)
        with pytest.raises(InvalidArgumentError, match=told):
            plan.set_weights(weights)
        np.testing.assert_array_equal(plan.run(frame)[0], before)


def test_weights_change_whole_while_frames_run(frame):
    """Every frame has one recipe or the other, never a mixture."""
    rows = ({"gamma": 1}, {"median": 1})
    wanted = [sdie.enhance(frame, [row] * 3).tobytes() for row in rows]
    done = threading.Event()
    with line.Plan([rows[0]] * 3, WIDTH, HEIGHT, filters=["median"]) as plan:

        def change():
            for k in range(3000):
                plan.set_weights([rows[k % 2]] * 3)
            done.set()

        other = threading.Thread(target=change)
        other.start()
        seen = set()
        while not done.is_set():
            seen.add(plan.run(frame)[0].tobytes())
        other.join()
    assert seen <= set(wanted)


def test_closed(frame):
    with make() as plan:
        plan.run(frame)
    plan.close()
    for call in (lambda: plan.run(frame), plan.stats, plan.reset_stats, lambda: plan.set_weights(ROW)):
        with pytest.raises(InvalidArgumentError, match="plan: received one that was closed"):
            call()


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (
            lambda f: f[:, 1:],
            InvalidArgumentError,
            r"frame: received an array of shape \(31, 36\); accepted: .*\(31, 37\)",
        ),
        (lambda f: f[1:], InvalidArgumentError, r"shape \(30, 37\)"),
        (lambda f: f[None], InvalidArgumentError, r"shape \(1, 31, 37\)"),
        (lambda f: f.astype(np.uint16), InvalidTypeError, r"elements of type uint16; accepted: .* uint8"),
        (lambda f: f.view(np.int8), InvalidTypeError, "int8"),
        (lambda f: f.tolist(), InvalidTypeError, "an object of type list; accepted: a numpy.ndarray of uint8"),
        (lambda f: None, InvalidTypeError, "NoneType"),
        (lambda f: f[:, ::-1], InvalidArgumentError, "pixels -1 bytes apart"),
        (lambda f: np.broadcast_to(f[:1], f.shape), InvalidArgumentError, "one line that is repeated"),
        (
            lambda f: np.lib.stride_tricks.as_strided(f, f.shape, (5, 1)),
            InvalidArgumentError,
            "src_stride: received 5",
        ),
    ],
)
def test_frames_that_do_not_suit(change, error, told, frame):
    out = np.full_like(frame, 7)
    with make() as plan:
        with pytest.raises(error, match=told):
            plan.run(change(frame), out)
        assert (out == 7).all()


def test_targets_that_do_not_suit(frame):
    locked = np.empty_like(frame)
    locked.flags.writeable = False
    with make() as plan:
        with pytest.raises(InvalidTypeError, match=r"out: .* accepted: a writable numpy\.ndarray"):
            plan.run(frame, locked)
        with pytest.raises(InvalidArgumentError, match="memory"):
            plan.run(frame, frame)
        assert plan.stats().refused == 1


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"width": 0}, InvalidArgumentError, "width: received 0"),
        ({"width": 2**20, "height": 2**20}, InvalidArgumentError, "2\\^30|pixels"),
        ({"height": 2.5}, InvalidTypeError, "height: received 2.5"),
        ({"input": "Mono9"}, InvalidArgumentError, "received 'Mono9'; accepted: Mono8, Mono10, .*float32"),
        ({"output": "RGB8"}, InvalidArgumentError, "output"),
        ({"input": 8}, InvalidTypeError, "input: received 8"),
        ({"threads": 0}, InvalidArgumentError, "threads: received 0"),
        ({"priority": 100}, InvalidArgumentError, "priority: received 100"),
        ({"deadline": 0}, InvalidArgumentError, "deadline: received 0"),
        ({"deadline": float("nan")}, InvalidArgumentError, "deadline: received nan"),
        ({"white_level": -1}, InvalidArgumentError, "white_level: received -1"),
        ({"warm_up": -1}, InvalidArgumentError, "warm_up: received -1"),
        ({"filters": ["blur"]}, InvalidArgumentError, "unknown filter 'blur'"),
        ({"recipe": [ROW] * 33}, InvalidArgumentError, "received 33 rounds; accepted: 1 to 32"),
        ({"recipe": {"wls": -1}}, InvalidArgumentError, "weights"),
    ],
)
def test_configurations_that_do_not_suit(given, error, told):
    options = {"recipe": ROW, "width": WIDTH, "height": HEIGHT, **given}
    with pytest.raises(error, match=told):
        line.Plan(**options)


def test_it_is_loaded_when_it_is_asked_for(python):
    told = python("import sys, sdie_fast; a = 'sdie_fast.line' in sys.modules; print(a, sdie_fast.line.Plan.__name__)")
    assert told == "False Plan"
