"""Streams: a web in strips, against the whole web."""

from __future__ import annotations

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, Recipe

line = pytest.importorskip("sdie_fast.line", reason="the compiled module is not there")

LOCAL = Recipe([{"bilateral": 1, "guided": 1, "sharpen": 1}, {"identity": 1, "median": 1}])
WIDTH, LINES = 61, 777


@pytest.fixture
def web(rng, picture):
    return picture(rng, (LINES, WIDTH), np.uint8)


def whole(web, recipe=LOCAL):
    return sdie.Enhancer(recipe)(web)[0]


@pytest.mark.parametrize("chunk", [1, 50, 64, 200, LINES])
@pytest.mark.parametrize("threads", [1, 2])
def test_local_filters_are_those_of_the_whole_web(chunk, threads, web):
    with line.Stream(LOCAL, WIDTH, strip=64, threads=threads) as stream:
        for _ in range(2):  # after an end comes another web
            out = list(stream.web(web[at : at + chunk] for at in range(0, LINES, chunk)))
            np.testing.assert_array_equal(np.concatenate(out), whole(web))
        assert stream.stats().frames == 2 * -(-LINES // 64)
        assert stream.latency == 64 + stream.context - 1
        assert stream.context >= 9


@pytest.mark.parametrize(("pixels", "output"), [("RGB8", None), ("RGB8", "Mono8"), ("Mono16", "Mono8")])
def test_formats(pixels, output, rng, picture):
    colour = pixels == "RGB8"
    web = picture(rng, (200, WIDTH, 3) if colour else (200, WIDTH), np.uint8 if colour else np.uint16)
    with line.Plan(LOCAL, WIDTH, 200, pixels, output) as plan, line.Stream(LOCAL, WIDTH, pixels, output) as stream:
        assert stream.output.shape == (256, *plan.output.shape[1:])
        np.testing.assert_array_equal(np.concatenate(list(stream.web([web[::-1]]))), plan.run(web[::-1])[0])


def test_lines_come_when_they_are_finished(web):
    with line.Stream(LOCAL, WIDTH, strip=64) as stream:
        assert stream.push(web[: 64 + stream.context - 1]) == 64 + stream.context - 1
        assert stream.pull().shape == (0, WIDTH)
        assert stream.push(web[64 + stream.context - 1 :][:1]) == 1
        out = np.zeros((100, WIDTH), np.uint8)
        first = stream.pull(10, out)
        assert np.shares_memory(first, out)
        assert len(first) == 10
        rest = stream.pull(out=out[10:])
        assert len(rest) == 54
        np.testing.assert_array_equal(out[:64], whole(web)[:64])
        assert not out[64:].any()
        assert len(stream.pull(0)) == 0


def test_what_is_not_pulled_is_not_pushed_either(web):
    with line.Stream(LOCAL, WIDTH, strip=32, capacity=40) as stream:
        taken = stream.push(web)
        assert 0 < taken < LINES
        assert stream.push(web[taken:]) == 0
        got = [stream.pull()]
        while taken < LINES:
            taken += stream.push(web[taken:])
            got.append(stream.pull())
        while not stream.finish():
            got.append(stream.pull())
        got.append(stream.pull())
        np.testing.assert_array_equal(np.concatenate(got), whole(web))


def test_statistics(web):
    """Frozen ones are those of the lines learned, so that every web is treated alike; those of a strip are its own."""
    recipe = Recipe({"spatiogram": 1}, FilterParams(spatiogram_method="global"))
    dark, bright = (web // 2), (web // 2 + 127)
    with line.Stream(recipe, WIDTH, strip=64, statistics="frozen") as stream:
        stream.learn(web)
        after = [np.concatenate(list(stream.web([part]))) for part in (dark, bright, dark)]
    np.testing.assert_array_equal(after[0], after[2])
    assert after[0].mean() + 80 < after[1].mean()  # what is brighter stays so
    with line.Stream(recipe, WIDTH, strip=LINES, statistics="strip") as stream:
        own = [np.concatenate(list(stream.web([part]))) for part in (dark, bright)]
    assert abs(own[0].mean() - own[1].mean()) < 2


def test_weights_change(web):
    with line.Stream({"gamma": 1}, WIDTH, strip=16, filters=["median"]) as stream:
        first = np.concatenate(list(stream.web([web])))
        stream.set_weights({"median": 1})
        second = np.concatenate(list(stream.web([web])))
    np.testing.assert_array_equal(first, sdie.filters.gamma(web))
    np.testing.assert_array_equal(second, sdie.filters.median(web))


def test_what_does_not_suit(web):
    for given, told in (
        ({"strip": 0}, "strip: received 0"),
        ({"context": -1}, "context: received -1"),
        ({"statistics": "mine"}, "statistics: received 'mine'; accepted: 'strip', 'rolling', 'frozen'"),
        ({"half_life": 0}, "half_life: received 0"),
        ({"capacity": 0}, "capacity: received 0"),
    ):
        options = {"strip": 64, **given}
        with pytest.raises(InvalidArgumentError, match=told):
            line.Stream(LOCAL, WIDTH, **options)
    with line.Stream(LOCAL, WIDTH) as stream:
        with pytest.raises(InvalidArgumentError, match=r"lines: .*\(9, 60\); accepted: .*\(any number, 61\)"):
            stream.push(web[:9, 1:])
        with pytest.raises(InvalidTypeError, match=r"lines: .*float32"):
            stream.push(web.astype(np.float32))
        with pytest.raises(InvalidTypeError, match="out: "):
            stream.pull(out=np.zeros((9, WIDTH), np.uint16))
        with pytest.raises(InvalidTypeError, match=r"lines: .*NoneType"):
            stream.learn(None)
    with pytest.raises(InvalidArgumentError, match="stream: received one that was closed"):
        stream.push(web)
