"""Plans of the compiled core, and those that `enhance` keeps."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, _backends
from sdie_fast.filters import FILTERS, TABLE

core = pytest.importorskip("sdie_fast._core", reason="the compiled module is not there")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MIB = 2**20
PARAMS = FilterParams(wls_solver="fast")
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


@pytest.fixture(autouse=True)
def empty():
    sdie.clear_cache()
    yield
    sdie.clear_cache()


def make(dtype="float32", height=20, width=30, channels=1, *, filters=FILTERS, params=PARAMS, **rest):
    own = _backends.core_params(params)
    return core.Plan(dtype, height, width, channels, WHITE[dtype], own, filters=filters, **rest)


def mix(images=1, rounds=1, filters=FILTERS):
    """Normalised weights (N, T, F), equal ones."""
    one = np.array([name in filters for name in TABLE], np.float32) / np.float32(len(filters))
    return np.ascontiguousarray(np.broadcast_to(one, (images, rounds, len(TABLE))))


def tasks():
    """Threads of this process, by number; waits for those to go that are joined and still listed for a moment."""
    now, before = set(os.listdir("/proc/self/task")), None
    while now != before:
        time.sleep(0.05)
        now, before = set(os.listdir("/proc/self/task")), now
    return now


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", WHITE)
@pytest.mark.parametrize(
    ("shape", "per_channel"),
    [
        ((1, 20, 30, 1), False),
        ((7, 20, 30, 1), False),
        ((2, 33, 21, 3), True),
        ((4, 33, 21, 3), False),
        ((1, 260, 270, 1), False),
        ((4, 260, 270, 1), False),
    ],
)
def test_a_plan_is_what_enhance_does(shape, per_channel, dtype, threads, rng, picture):
    images = picture(rng, (*shape[:-1], 3) if shape[-1] == 3 else shape[:-1], np.dtype(dtype)).reshape(shape)
    plan = make(dtype, *shape[1:], rounds=2, per_channel=per_channel, threads=threads)
    for rounds in (2, 1):
        wanted = sdie.enhance(
            images, np.ones((rounds, 6)), params=PARAMS, per_channel=per_channel, axes="NHWC", threads=1
        )
        # In place in larger arrays, mirrored and upside down.
        src = np.zeros((shape[0], 2 * shape[1], shape[2] + 5, shape[3]), dtype)[:, ::-2, 5:]
        src[...] = images
        dst = np.zeros((shape[0], shape[1], 2 * shape[2], shape[3]), dtype)[:, :, ::-2]
        assert plan.run(src, dst, mix(shape[0], rounds)) > 0.0
        np.testing.assert_array_equal(dst, wanted)


def test_weights_of_each_image_and_call(rng):
    """A plan for all filters runs any of them, whatever the call before has left in its memory."""
    images = rng.random((6, 24, 25, 1), np.float32)
    plan = make(height=24, width=25, filters=tuple(TABLE), rounds=3, threads=2)
    for rounds in (1, 3, 2):
        weights = rng.random((6, rounds, len(TABLE))) * rng.integers(0, 2, (6, rounds, len(TABLE)))
        weights[..., 0] += 0.01
        weights = (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
        out = np.empty_like(images)
        plan.run(images, out, weights)
        for image, weight, got in zip(images, weights, out, strict=True):
            alone = make(height=24, width=25, filters=tuple(TABLE), rounds=rounds)
            wanted = np.empty_like(image)
            alone.run(image[None], wanted[None], weight[None])
            np.testing.assert_array_equal(got, wanted)


def test_memory_and_threads_are_what_is_needed():
    def plan(side=250, **rest):
        made = make(height=side, width=side, **rest)
        return made.bytes / MIB, made.threads

    def needed(side, rounds=1):
        return core.workspace_bytes(side, side, _backends.core_params(PARAMS), mix(1, rounds)) / MIB

    for threads, images, team in ((1, 0, 1), (4, 0, 4), (4, 2, 2), (4, 9, 4)):  # small: an image for each thread
        got, made = plan(threads=threads, images=images)
        assert made == team
        assert team * needed(250) <= got <= team * needed(250) + 3  # of whole huge pages
    assert plan(side=1000, rounds=2)[0] >= needed(1000, 2)
    assert plan(side=1000, filters=("identity",))[0] < needed(1000) / 2
    split, several = plan(side=1000, threads=4, images=1), plan(side=1000, threads=4)
    assert split[0] < 2 * needed(1000)
    assert several[0] >= 4 * needed(1000)
    assert split[1] == several[1] == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dtype": "float64"}, "dtype: received 'float64'; accepted: uint8, uint16, float32"),
        ({"height": 0}, "size: received 0 x 30 pixels; accepted: 1 to 2\\^30"),
        ({"height": 2**20, "width": 2**20}, "size: received 1048576 x 1048576"),
        ({"channels": 4}, "channels: received 4; accepted: 1 or 3"),
        ({"filters": ("identity", "blur")}, "filters: received the unknown filter 'blur'; accepted: identity, wls"),
        ({"filters": ()}, "filters: received none"),
        ({"rounds": 0}, "rounds: received 0; accepted: 1 or more"),
        ({"images": -1}, "images: received -1"),
        ({"threads": 0}, "threads: received 0; accepted: 1 to 1024"),
        ({"threads": 2000}, "threads: received 2000"),
        ({"isa": "pdp-11"}, "isa is 'pdp-11'"),
    ],
)
def test_bad_input_for_a_plan(change, told, monkeypatch):
    monkeypatch.setitem(WHITE, "float64", 1.0)
    with pytest.raises(ValueError, match=told):
        make(**change)


@pytest.mark.parametrize("white", [0.0, -1.0, float("nan"), float("inf")])
def test_a_white_level_that_is_none(white):
    with pytest.raises(ValueError, match="white_level"):
        core.Plan("uint16", 9, 9, 1, white, _backends.core_params(PARAMS), filters=FILTERS)


def test_bad_calls_of_a_plan_write_nothing(rng):
    plan = make(filters=("identity", "gaussian"), images=2)
    src, dst = rng.random((2, 20, 30, 1), np.float32), np.full((2, 20, 30, 1), 7, np.float32)
    weights = mix(2, filters=("identity",))
    wrong = [
        (
            src[:, :-1],
            dst,
            weights,
            r"src: received float32 \(2, 19, 30, 1\); accepted: float32 \(N <= 2, 20, 30, 1\)",
        ),
        (src, dst[:1], weights, r"dst: received float32 \(1, 20, 30, 1\)"),
        (src.astype(np.uint8), dst, weights, "src: received uint8"),
        (np.repeat(src, 2, 0), np.repeat(dst, 2, 0), mix(4, filters=("identity",)), r"src: received float32 \(4,"),
        (src, dst, mix(2, rounds=2, filters=("identity",)), "weights: received 2 rounds; accepted: 1"),
        (src, dst, mix(2, filters=("wls",)), "weights: received one for wls; accepted: those of the plan's filters"),
        (src, dst, mix(1), r"weights: received shape \(1, 1, 9\); accepted: \(2, T, 9\)"),
    ]
    for images, out, given, told in wrong:
        with pytest.raises(ValueError, match=told):
            plan.run(images, out, given)
    assert (dst == 7).all()
    plan.run(src, dst, weights)
    np.testing.assert_array_equal(dst, src)


def test_a_plan_has_one_caller_at_a_time(rng):
    """What another thread calls meanwhile is refused, not mixed up."""
    src = rng.random((40, 90, 90, 1), np.float32)
    plan, wanted = make(height=90, width=90), np.empty_like(src)
    plan.run(src, wanted, mix(40))
    refused, done = [], []

    def call():
        out = np.empty_like(src)
        start.wait()
        try:
            plan.run(src, out, mix(40))
        except RuntimeError as error:
            refused.append(str(error))
        else:
            done.append(np.array_equal(out, wanted))

    for _ in range(50):
        if refused:
            break
        start = threading.Barrier(4)
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert set(refused) == {"the plan is running in another thread; make a plan for each"}
    assert all(done)


@linux
@pytest.mark.parametrize("shape", [(1, 24, 24, 1), (3, 24, 24, 1), (1, 256, 256, 1)])
def test_a_thousand_runs_make_no_thread_and_take_no_memory(shape, rng):
    src = rng.random(shape, np.float32)
    dst = np.empty_like(src)
    before = len(tasks())
    plan = make(height=shape[1], width=shape[2], filters=("identity", "gamma"), threads=2)
    assert len(tasks()) == before + 1
    weights = mix(shape[0], filters=("identity", "gamma"))
    plan.run(src, dst, weights)
    names, memory = tasks(), resident()
    for _ in range(1000):
        plan.run(src, dst, weights)
    assert tasks() == names
    assert resident() - memory < MIB
    del plan
    assert len(tasks()) == before


@linux
def test_calls_of_a_kind_share_a_plan(rng):
    image, before = rng.random((20, 30), np.float32), len(tasks())
    stacks = np.stack([image] * 2), np.stack([image] * 9)
    sdie.enhance(image, np.ones((2, 6)), threads=4)  # one thread has work
    first = core.cache_info()
    assert first["plans"] == 1
    assert len(tasks()) == before
    sdie.enhance(image, {"identity": 1, "wls": 1}, threads=1)  # less than the plan can do
    sdie.enhance(stacks[0], {"wls": 1}, threads=1)
    assert core.cache_info() == first
    sdie.enhance(stacks[0], ALL, threads=2)
    assert core.cache_info()["plans"] == 2
    assert len(tasks()) == before + 1
    sdie.enhance(stacks[1], ALL, threads=2)
    assert core.cache_info()["plans"] == 2
    assert len(tasks()) == before + 1
    for other in ({"weights": {"median": 1}}, {"params": FilterParams(window=5)}, {"image": image[:, 1:]}):
        count = core.cache_info()["plans"]
        sdie.enhance(**{"image": image, "weights": ALL, "threads": 1, **other})
        assert core.cache_info()["plans"] == count + 1
    sdie.clear_cache()
    assert core.cache_info() == {"plans": 0, "bytes": 0}
    assert len(tasks()) == before


ALL = np.ones(6)


@linux
def test_the_cache_has_limits(rng):
    """Plans unused for longest go first; one that is larger than all may be is not kept."""
    most = max(8, os.cpu_count())

    def enhance(width):
        sdie.enhance(rng.random((20, width), np.float32), ALL, threads=1)

    for k in range(most + 4):
        enhance(20 + k)
    assert core.cache_info()["plans"] == most
    for k in range(200):  # memory goes from plan to plan
        enhance(20 + k)
    assert core.cache_info()["plans"] == most
    assert core.cache_info()["bytes"] < 3 * MIB * most
    frame = np.zeros((2**13, 2**14), np.uint8)
    sdie.enhance(frame, {"identity": 1}, threads=2)  # 512 MiB and margins; it took the place of the oldest
    assert core.cache_info()["plans"] == most - 1
    sdie.enhance(frame[: 2**12 + 2**11], {"identity": 1}, threads=2)
    assert core.cache_info()["plans"] == most
    sdie.enhance(frame[: 2**12], {"identity": 1}, threads=2)  # the two are too large together
    assert core.cache_info()["plans"] == 1
    assert 256 * MIB < core.cache_info()["bytes"] < 300 * MIB


@linux
def test_many_callers_get_a_plan_each(rng):
    """Any number of threads, of one shape and of several, with clear_cache in between."""
    images = [rng.random((30 + k % 3, 40), np.float32) for k in range(12)]
    wanted = [sdie.enhance(image, ALL, params=PARAMS, threads=1) for image in images]
    before, wrong = len(tasks()), []

    def work(k):
        for n in range(60):
            threads = 1 + (k + n) % 2
            stack = np.stack([images[k]] * threads)
            if not all(
                np.array_equal(out, wanted[k]) for out in sdie.enhance(stack, ALL, params=PARAMS, threads=threads)
            ):
                wrong.append(k)
            if n % 20 == k:
                sdie.clear_cache()

    callers = [threading.Thread(target=work, args=(k,)) for k in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
    assert core.cache_info()["plans"] <= max(8, os.cpu_count())
    sdie.clear_cache()
    assert len(tasks()) == before


FORK = """
import os, signal, sys, threading, numpy as np, sdie_fast as sdie
from sdie_fast import _backends, _core
params = _backends.core_params(sdie.FilterParams(wls_solver="fast"))
plans = [_core.Plan("float32", 300, 300, 1, 1.0, params, filters=sdie.FILTERS, threads=n) for n in (1, 3)]
image = np.random.default_rng(1).random((300, 300), np.float32)
weights = np.array([[[1, 1, 1, 1, 1, 1, 0, 0, 0]]], np.float32) / np.float32(6)
out = np.empty((1, 300, 300, 1), np.float32)
wanted = sdie.enhance(image, np.ones(6), params=sdie.FilterParams(wls_solver="fast"), threads=3)
def busy():  # forks fall into all stages of its calls
    while True:
        sdie.enhance(image[:90, :90], np.ones(6), threads=1)
threading.Thread(target=busy, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            assert _core.cache_info() == {"plans": 0, "bytes": 0}
            assert len(os.listdir("/proc/self/task")) == 1
            plans[0].run(image[None, ..., None], out, weights)
            assert np.array_equal(out[0, ..., 0], wanted)
            try:
                plans[1].run(image[None, ..., None], out, weights)
            except RuntimeError as error:
                assert "in the process that made it" in str(error), error
            else:
                raise AssertionError("the parent's threads")
            again = sdie.enhance(image, np.ones(6), params=sdie.FilterParams(wls_solver="fast"), threads=3)
            assert np.array_equal(again, wanted)
            assert len(os.listdir("/proc/self/task")) == 3
            plans.clear()
            sdie.clear_cache()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
plans[1].run(image[None, ..., None], out, weights)
assert np.array_equal(out[0, ..., 0], wanted)
print("done")
"""


@linux
def test_fork(python):
    """A child starts with plans of its own; its parent keeps its."""
    assert python(FORK) == "done"


def test_the_process_ends_while_threads_are_at_work(python):
    code = """
import threading, numpy as np, sdie_fast as sdie
stack = np.zeros((4, 200, 200), np.float32)
def work():
    while True:
        sdie.enhance(stack, np.ones(6), threads=2)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
sdie.enhance(stack, np.ones(6), threads=3)
print("over")
"""
    for _ in range(3):
        assert python(code) == "over"


@linux
def test_pinned_threads_keep_to_a_cpu_each():
    allowed = sorted(os.sched_getaffinity(os.getpid()))
    if len(allowed) < 2:
        pytest.skip("one CPU")
    before = tasks()
    plan = make(threads=2, pin=True)
    (new,) = tasks() - before
    assert os.sched_getaffinity(int(new)) == {allowed[1]}
    assert sorted(os.sched_getaffinity(0)) == allowed  # the caller's is left alone
    del plan
    with pytest.raises(ValueError, match=f"pin: received {len(allowed) + 1} threads; accepted: at most one"):
        make(threads=len(allowed) + 1, pin=True)


@linux
def test_an_idle_plan_takes_no_cpu(rng):
    """Between calls the threads sleep."""
    src = rng.random((2, 60, 60, 1), np.float32)
    plan = make(height=60, width=60, threads=2)
    before = tasks()
    plan.run(src, np.empty_like(src), mix(2))
    for task in before - {str(threading.get_native_id())}:
        stat = Path(f"/proc/self/task/{task}/stat")
        states = (stat.read_text().rpartition(")")[2].split()[0] for _ in range(1000))
        assert "S" in states, f"thread {task} never sleeps"
