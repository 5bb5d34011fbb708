import types
from enum import IntEnum

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import driver, graph, memory, run, streams


class Code(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class Binding:
    """The driver's functions for graphs, which write down their calls and may refuse one."""

    CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED="relaxed")

    def __init__(self, refuse=""):
        self.refuse = refuse
        self.calls = []

    def CUstream(self, handle):
        return handle

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            if name == self.refuse:
                # On an error, cuda.bindings gives the code, and None for what there is not.
                return (Code.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, None)
            gives = {"cuStreamEndCapture": ("graph",), "cuGraphInstantiate": ("executable",)}
            return (Code.CUDA_SUCCESS, *gives.get(name, ()))

        return call

    def names(self):
        return [call[0] for call in self.calls]


def stream(handle):
    return types.SimpleNamespace(handle=handle)


@pytest.fixture
def told(monkeypatch):
    """Makes a driver that refuses a function, and puts it in the place of the real one."""

    def make(refuse=""):
        binding = Binding(refuse)
        monkeypatch.setattr(driver, "binding", lambda: binding)
        return binding

    return make


class TestGraph:
    def test_records_and_launches(self, told):
        binding = told()
        recorded = graph.Graph(lambda s: binding.calls.append(("work", s.handle)), stream(5))
        assert binding.calls == [
            ("cuStreamBeginCapture", 5, "relaxed"),
            ("work", 5),
            ("cuStreamEndCapture", 5),
            ("cuGraphInstantiate", "graph", 0),
            ("cuGraphDestroy", "graph"),
        ]
        recorded.launch(stream(7))
        assert binding.calls[-1] == ("cuGraphLaunch", "executable", 7)
        del recorded
        assert binding.calls[-1] == ("cuGraphExecDestroy", "executable")

    @pytest.mark.parametrize("refuse", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
    def test_a_driver_that_refuses(self, told, refuse):
        binding = told(refuse)
        with pytest.raises(graph.RecordingError, match=f"{refuse} answers CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            graph.Graph(lambda s: None, stream(5))
        if refuse == "cuGraphInstantiate":
            assert binding.names()[-1] == "cuGraphDestroy"

    def test_work_that_fails_ends_the_recording(self, told):
        binding = told()

        def work(s):
            raise ValueError("not now")

        with pytest.raises(graph.RecordingError, match="cannot be recorded: not now"):
            graph.Graph(work, stream(5))
        assert binding.names() == ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphDestroy"]


class Recorded:
    """Stands for a graph: what it recorded, it does again at each launch."""

    made = 0

    def __init__(self, enqueue, on):
        type(self).made += 1
        self.enqueue, self.stream = enqueue, on

    def launch(self, on):
        self.enqueue(on)


@pytest.fixture
def recorded(monkeypatch, simulated):
    Recorded.made = 0
    monkeypatch.setattr(graph, "Graph", Recorded)
    monkeypatch.setattr(run, "worth_recording", lambda size: True)
    return Recorded


class TestReplay:
    def test_the_second_call_is_recorded(self, recorded):
        done = []
        replay = graph.Recorder()
        for k in range(4):
            replay("kind", lambda s, k=k: done.append(k), 0)
        assert recorded.made == 1
        assert done == [0, 1, 1, 1]  # what was recorded is what runs

    def test_recordings_are_made_on_a_stream_that_waits_for_no_other(self, recorded, monkeypatch):
        monkeypatch.setattr(streams, "own", lambda: "our own")
        replay = graph.Recorder()
        for _ in range(2):
            replay("kind", lambda s: None, 0)
        assert replay._graphs["kind"].stream == "our own"

    def test_kinds_are_recorded_apart_and_few_are_kept(self, recorded):
        replay = graph.Recorder()
        for _ in range(3):
            for key in "ab":
                replay(key, lambda s: None, 0)
        assert recorded.made == 2
        for key in range(20):
            replay(key, lambda s: None, 0)
        assert len(replay._graphs) == graph._KEPT

    def test_what_cannot_be_recorded_runs_and_is_told_once(self, monkeypatch):
        tries = []

        def refuse(*arguments):
            tries.append(1)
            raise graph.RecordingError("the driver is old")

        monkeypatch.setattr(graph, "Graph", refuse)
        monkeypatch.setattr(graph, "_told", set())
        done = []
        replay = graph.Recorder()
        replay("kind", done.append, 3)
        with pytest.warns(RuntimeWarning, match="one by one, because the driver is old"):
            replay("kind", done.append, 3)
        replay("kind", done.append, 3)
        assert done == [3, 3, 3]
        assert len(tries) == 1
        other = graph.Recorder()
        for _ in range(3):
            other("kind", done.append, 4)  # of this reason one warning is enough
        assert done[3:] == [4, 4, 4]


PARAMS = FilterParams(window=3)


def test_replayed_images_of_the_host(recorded, rng, picture):
    memory.cache.clear()
    images = [picture(rng, (9, 10), np.uint8) for _ in range(3)]
    weights = [[3, 0, k, 0, 0, 0] for k in (1, 2, 5)]  # the buffer's contents may change
    for image, w in zip(images, weights, strict=True):
        result = sdie.enhance(image, w, params=PARAMS, backend="cuda")
        reference = sdie.enhance(image, w, params=PARAMS, backend="reference")
        np.testing.assert_allclose(result.astype(int), reference.astype(int), atol=1)
    assert recorded.made == 1


def test_replayed_images_of_the_device(recorded, rng, picture, cuda):
    memory.cache.clear()
    for k, made in ((0, 0), (1, 1), (2, 1)):
        image = picture(rng, (2, 9, 10), np.float32)
        out = cuda.device_array(image.shape, np.float32)
        weights = [3, 0, k + 1, 0, 0, 0]
        result = sdie.enhance(cuda.to_device(image), weights, params=PARAMS, out=out)
        assert result is out
        reference = sdie.enhance(image, weights, params=PARAMS, backend="reference")
        np.testing.assert_allclose(out.copy_to_host(), reference, atol=2e-5)
        assert recorded.made == made
    # Other filters are other work.
    sdie.enhance(cuda.to_device(image), [1, 0, 0, 0, 0, 0], params=PARAMS)
    assert recorded.made == 1


def test_large_batches_and_the_simulator_are_not_recorded(monkeypatch):
    monkeypatch.setattr(driver, "simulated", lambda: False)
    assert graph.worth_recording(200 * 200)
    assert not graph.worth_recording(512 * 200 * 200)
    monkeypatch.setattr(driver, "simulated", lambda: True)
    assert not graph.worth_recording(1)


def test_a_real_graph_gives_the_same(cuda, rng, picture, monkeypatch):
    if driver.simulated():
        pytest.skip("graphs are the driver's: on a GPU only")
    memory.cache.clear()
    images = [picture(rng, (64, 80), np.uint8) for _ in range(4)]
    weights = np.ones((5, 6))
    with monkeypatch.context() as context:
        context.setattr(run, "worth_recording", lambda size: False)
        plain = [sdie.enhance(i, weights, backend="cuda").astype(int) for i in images]
    for image, expected in zip(images, plain, strict=True):
        result = sdie.enhance(image, weights, backend="cuda")
        np.testing.assert_allclose(result.astype(int), expected, atol=1)
        result = sdie.enhance(cuda.to_device(image), weights).copy_to_host()
        np.testing.assert_allclose(result.astype(int), expected, atol=1)
    (workspace,) = memory.cache._held.values()
    recorders = [b.recorder for slots in workspace._kinds.values() for b in slots.values()]
    recorded = [g for recorder in recorders for g in recorder._graphs.values() if g is not None]
    assert len(recorded) == 2  # the host's way and the device's
    assert not any(recorder._refused for recorder in recorders)
