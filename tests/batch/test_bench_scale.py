"""What bench/scale.py reckons and plays."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask: distributed is missing")

spec = importlib.util.spec_from_file_location("scale", Path(__file__).resolve().parents[2] / "bench" / "scale.py")
scale = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scale)

PLENTY = {"overhead": 1e-9, "bandwidth": 1e18, "life": 1e9, "spread": 0.0}


def plan(images=1_000_000, seconds=0.36, hours=10):
    return scale.arithmetic(images, seconds, 40e3, 60e3, hours, 0.05)


def test_arithmetic():
    found = plan()
    assert found["core_hours"] == pytest.approx(100)
    assert found["cores"] == 10
    assert (found["terabytes_in"], found["terabytes_out"]) == pytest.approx((0.04, 0.06))
    assert found["gigabits_per_second"] == pytest.approx(0.8e12 / 36000 / 1e9)
    assert found["shards"] == 40
    assert found["images_per_task"] == 8  # three seconds
    assert found["tasks"] == 125_000
    assert (found["price"], found["price_per_million"]) == pytest.approx((5, 5))


@pytest.mark.slow
def test_with_plenty_of_everything_the_simulation_is_the_arithmetic():
    for images in (1_000_000, 100_000_000):  # the second is played smaller
        found = scale.simulate(plan(images), 0.36, 100e3, **PLENTY)
        assert found["hours"] == pytest.approx(10, rel=1e-3)
        assert found["efficiency"] == pytest.approx(1, rel=1e-3)
        assert found["workers_died"] == 0


@pytest.mark.slow
def test_what_is_short_sets_the_pace():
    for short in ({"bandwidth": 1e5 * 1e6 / 72000}, {"overhead": 72000 / 125_000}):
        found = scale.simulate(plan(), 0.36, 100e3, **{**PLENTY, **short})
        assert found["hours"] == pytest.approx(20, rel=1e-2)


def test_deaths_cost_what_was_begun_and_half_a_minute():
    found = scale.simulate(plan(), 0.36, 100e3, **{**PLENTY, "life": 1.0})
    died = found["workers_died"]
    assert 60 < died < 140  # a hundred worker hours
    assert found["hours_lost"] == pytest.approx(died * 1.44 / 3600, rel=0.3)  # half a task
    assert found["hours"] == pytest.approx(10 + (died * 30 / 3600 + found["hours_lost"]) / 10, rel=5e-3)
