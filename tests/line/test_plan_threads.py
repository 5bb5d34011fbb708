"""Plans and threads: one call at a time, where a plan's own threads run, forks."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

import numpy as np
import pytest

from sdie_fast import BusyError, FilterParams, InvalidArgumentError, LineError

line = pytest.importorskip("sdie_fast.line", reason="the compiled module is not there")

ROW = {"identity": 1, "wls": 1, "bilateral": 2, "sharpen": 1, "guided": 1}
SMALL = [ROW] * 2, 600, 600


@contextlib.contextmanager
def working():
    """A plan that another thread keeps busy, and its frame."""
    stop, plan = threading.Event(), line.Plan([ROW] * 4, 1200, 1000, params=FilterParams(wls_solver="fast"))
    frame = np.zeros((1000, 1200), np.uint8)

    def work():
        while not stop.is_set():
            try:
                plan.run(frame)
            except BusyError:
                pass
            except InvalidArgumentError:  # it was closed between two calls
                return

    other = threading.Thread(target=work)
    other.start()
    try:
        yield plan, frame
    finally:
        stop.set()
        other.join()
        plan.close()


def refused(call):
    """What one of many calls raises because another one is in the plan."""
    for _ in range(10_000):
        try:
            call()
        except BusyError as error:
            return str(error)
        time.sleep(1e-4)
    return ""


def test_one_call_at_a_time():
    with working() as (plan, frame):
        out = np.empty_like(frame)
        assert "another" in refused(lambda: plan.run(frame, out))
        assert plan.stats().refused >= 1


def test_closing_does_not_meet_a_call():
    for _ in range(100):  # a call that lands between two runs closes the plan, rightly: then the next plan is tried
        with working() as (plan, _):
            while plan.stats().frames == 0:
                time.sleep(1e-3)
            try:
                plan.close()
            except BusyError as error:
                told = str(error)
                break
    else:
        pytest.fail("close() was never refused while another thread ran the plan")
    assert "another thread is in it" in told


@pytest.mark.skipif(sys.platform != "linux", reason="pins threads and forks")
def test_threads_where_they_are_told(picture, rng):
    frame = picture(rng, (600, 600), np.uint8)
    allowed = sorted(os.sched_getaffinity(0))
    with line.Plan(*SMALL, threads=2, cpus=[allowed[-1]]) as plan:
        wanted, _ = plan.run(frame)
        child = os.fork()
        if child == 0:
            try:
                plan.run(frame)
            except LineError as error:
                os._exit(0 if "fork" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_array_equal(plan.run(frame)[0], wanted)
    with pytest.raises(LineError, match="1023"):
        line.Plan(*SMALL, threads=2, cpus=[1023])
