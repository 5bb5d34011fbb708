import threading
import time

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import DeviceMemoryError, FilterParams, InvalidArgumentError
from sdie_fast.filters import TABLE

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import driver, memory, rounds, run, streams

PARAMS = FilterParams(window=3)
WEIGHTS = np.array([[2.0, 0, 1, 0, 0, 0], [1.0, 0, 3, 0, 0, 0]])
IDENTITY = [1, 0, 0, 0, 0, 0]


@pytest.fixture(autouse=True)
def _empty():
    memory.cache.clear()
    yield
    memory.cache.clear()


@pytest.fixture
def made(monkeypatch):
    """Shapes for which rounds are made."""
    shapes = []
    real = rounds.Rounds.__init__

    def counting(self, shape, *arguments, **options):
        shapes.append(shape)
        real(self, shape, *arguments, **options)

    monkeypatch.setattr(rounds.Rounds, "__init__", counting)
    return shapes


@pytest.fixture
def done(monkeypatch):
    """How many images each call of the rounds has."""
    counts = []
    real = rounds.Rounds.__call__

    def counting(self, src, *arguments, **options):
        counts.append(src.shape[0])
        return real(self, src, *arguments, **options)

    monkeypatch.setattr(rounds.Rounds, "__call__", counting)
    return counts


@pytest.fixture
def still(monkeypatch):
    """No kernels, where it is memory that is looked at."""
    monkeypatch.setattr(rounds.Rounds, "__call__", lambda *arguments, **options: None)


def reference(image, weights=WEIGHTS, **options):
    return sdie.enhance(image, weights, params=PARAMS, backend="reference", **options)


def assert_near(result, image, weights=WEIGHTS, **options):
    tolerance = 2e-5 if image.dtype == np.float32 else 1
    expected = reference(image, weights, **options)
    np.testing.assert_allclose(result.astype(float), expected.astype(float), rtol=0, atol=tolerance)


class Foreign:
    """An array of the simulator's memory with a CUDA array interface and nothing else."""

    def __init__(self, array):
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
            "data": array.__array_interface__["data"],
            "stream": None,
        }


class TestOnTheDevice:
    @pytest.mark.parametrize("backend", ["auto", "cuda"])
    @pytest.mark.parametrize(
        ("shape", "dtype"), [((9, 10), np.uint8), ((2, 7, 8), np.uint16), ((7, 8, 3), np.float32)]
    )
    def test_answers_in_kind(self, cuda, rng, picture, backend, shape, dtype):
        image = picture(rng, shape, dtype)
        given = cuda.to_device(image)
        result = sdie.enhance(given, WEIGHTS, params=PARAMS, backend=backend)
        assert type(result) is type(given)
        assert (tuple(result.shape), result.dtype) == (shape, dtype)
        assert_near(result.copy_to_host(), image)
        np.testing.assert_array_equal(given.copy_to_host(), image)

    def test_into_out(self, cuda, rng, picture):
        image = picture(rng, (2, 9, 10), np.uint8)
        out = cuda.to_device(np.zeros_like(image))
        assert sdie.enhance(cuda.to_device(image), WEIGHTS, params=PARAMS, out=out) is out
        assert_near(out.copy_to_host(), image)

    def test_single_filters_too(self, cuda, rng, picture):
        image = picture(rng, (9, 10), np.uint8)
        result = sdie.filters.bilateral(cuda.to_device(image), window=3)
        expected = sdie.filters.bilateral(image, window=3, backend="reference")
        np.testing.assert_allclose(result.copy_to_host().astype(int), expected, atol=1)

    @pytest.mark.usefixtures("simulated")
    def test_any_strides(self, rng, picture):
        frame = picture(rng, (2, 9, 20), np.uint8)
        image = frame[:, ::-1, ::2]
        for target in (
            np.zeros((2, 9, 10), np.uint8)[:, :, ::-1],
            np.zeros((2, 18, 30), np.uint8)[:, ::2, ::3],
            np.zeros((9, 10, 2), np.uint8).transpose(2, 0, 1),
        ):
            sdie.enhance(Foreign(image), WEIGHTS, params=PARAMS, out=Foreign(target))
            assert_near(target, np.ascontiguousarray(image))

    @pytest.mark.usefixtures("simulated")
    def test_unknown_libraries_get_numbas_arrays(self, rng, picture, cuda):
        image = picture(rng, (9, 10), np.uint8)
        result = sdie.enhance(Foreign(image), WEIGHTS, params=PARAMS)
        assert type(result) is type(cuda.to_device(image))
        assert_near(result.copy_to_host(), image)

    def test_values_outside_are_clipped_and_not_told(self, cuda):
        image = np.linspace(-1, 2, 90, dtype=np.float32).reshape(9, 10)
        result = sdie.enhance(cuda.to_device(image), IDENTITY, params=PARAMS)
        np.testing.assert_array_equal(result.copy_to_host(), np.clip(image, 0, 1))

    def test_white_level_and_channels(self, cuda, rng, picture):
        image = picture(rng, (7, 8, 3), np.uint16) >> 4
        options = {"white_level": 4095, "per_channel": True}
        result = sdie.enhance(cuda.to_device(image), WEIGHTS, params=PARAMS, **options)
        assert_near(result.copy_to_host(), image, **options)

    def test_weights_of_each_image(self, cuda, rng, picture):
        batch = picture(rng, (3, 9, 10), np.uint8)
        weights = rng.random((3, 2, 6)) * [1, 0, 1, 0, 0, 0]
        result = sdie.enhance(cuda.to_device(batch), weights, params=PARAMS)
        assert_near(result.copy_to_host(), batch, weights)

    @pytest.mark.parametrize(
        ("make_out", "told"),
        [
            (lambda cuda, image, given: given, "shares memory with image"),
            (lambda cuda, image, given: np.zeros_like(image), "on the host"),
            (lambda cuda, image, given: cuda.to_device(image[:8]), "the image's shape"),
        ],
    )
    def test_bad_outputs(self, cuda, make_out, told):
        image = np.zeros((9, 10), np.uint8)
        given = cuda.to_device(image)
        with pytest.raises(InvalidArgumentError, match=f"out: received .*{told}"):
            sdie.enhance(given, IDENTITY, out=make_out(cuda, image, given))

    def test_an_output_of_the_device_for_the_host(self, cuda):
        image = np.zeros((9, 10), np.uint8)
        with pytest.raises(InvalidArgumentError, match="accepted: an array on the host"):
            sdie.enhance(image, IDENTITY, out=cuda.to_device(image), backend="cuda")


@pytest.fixture
def chunks(monkeypatch, done):
    """Two images of 9 x 10 bytes at a time; gives how many images each call of the rounds had."""
    monkeypatch.setattr(run, "CHUNK_BYTES", 2 * 9 * 10)
    return done


def on_cuda(image, weights=WEIGHTS, **options):
    return sdie.enhance(image, weights, params=PARAMS, backend="cuda", **options)


class TestOnTheHost:
    @pytest.mark.parametrize(
        ("shape", "dtype", "options"),
        [
            ((9, 10), np.uint8, {}),
            ((2, 9, 7), np.uint16, {"white_level": 4095}),
            ((8, 9), np.float32, {}),
            ((7, 8, 3), np.uint8, {}),
            ((1, 7, 8, 3), np.float32, {"per_channel": True}),
        ],
    )
    def test_as_the_reference(self, rng, picture, shape, dtype, options):
        image = picture(rng, shape, dtype)
        if "white_level" in options:
            image >>= 4
        result = on_cuda(image, **options)
        assert isinstance(result, np.ndarray)
        assert (result.shape, result.dtype) == (shape, dtype)
        tolerance = 2e-5 if dtype == np.float32 else 1
        difference = np.abs(result.astype(float) - reference(image, **options))
        assert difference.max() <= tolerance
        assert difference.mean() <= tolerance / 10

    def test_a_batch_goes_in_chunks_of_nearly_one_size(self, rng, picture, chunks):
        batch = picture(rng, (5, 9, 10), np.uint8)
        weights = rng.random((5, 2, 6)) * [1, 0, 1, 0, 0, 0]
        result = on_cuda(batch, weights)
        assert chunks == [2, 2, 1]
        for k in range(5):
            np.testing.assert_allclose(result[k].astype(int), reference(batch[k], weights[k]).astype(int), atol=1)

    def test_streams_wait_for_no_others(self, rng, picture, chunks, monkeypatch):
        made = []
        real = streams.own
        monkeypatch.setattr(streams, "own", lambda: made.append(1) or real())
        on_cuda(picture(rng, (2, 9, 10), np.uint8), IDENTITY)
        assert len(made) == 1
        on_cuda(picture(rng, (5, 9, 10), np.uint8), IDENTITY)
        assert len(made) == 1 + 3

    def test_more_chunks_than_slots_come_back_in_their_places(self, rng, picture, chunks):
        batch = picture(rng, (7, 9, 10), np.uint8)
        np.testing.assert_array_equal(on_cuda(batch, IDENTITY), batch)
        assert chunks == [2, 2, 2, 1]

    def test_strides_in_and_out(self, rng, picture, chunks):
        frame = picture(rng, (3, 9, 20), np.uint8)
        batch = frame[:, ::-1, ::2]
        target = np.zeros((3, 9, 10), np.uint8)[:, :, ::-1]
        assert on_cuda(batch, IDENTITY, out=target) is target
        np.testing.assert_array_equal(target, batch)

    def test_an_error_on_the_way_leaves_no_trace(self, rng, picture, chunks, monkeypatch):
        batch = picture(rng, (3, 9, 10), np.uint8)
        real = rounds.Rounds.__call__
        calls = []

        def failing(self, *arguments, **options):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("a kernel fell over")
            return real(self, *arguments, **options)

        with monkeypatch.context() as context:
            context.setattr(rounds.Rounds, "__call__", failing)
            with pytest.raises(RuntimeError, match="fell over"):
                on_cuda(batch[::-1], IDENTITY)
        np.testing.assert_array_equal(on_cuda(batch, IDENTITY), batch)

    def test_that_nothing_compiles_is_told(self, monkeypatch):
        def failing(self, *arguments, **options):
            raise AttributeError("module 'numpy' has no attribute 'row_stack'")

        image = np.zeros((9, 9), np.uint8)
        monkeypatch.setattr(rounds.Rounds, "__call__", failing)
        with pytest.raises(AttributeError, match="row_stack"):  # a kernel of one line runs: it is not that
            on_cuda(image)
        found = driver.Availability(False, "a kernel of one line does not run", "mend it")
        monkeypatch.setattr(driver, "proved", lambda: found)
        with pytest.raises(sdie.BackendUnavailableError, match="one line does not run; to fix: mend it"):
            on_cuda(image)

    def test_values_are_checked_on_the_host(self):
        with pytest.raises(sdie.InvalidArgumentError, match="NaN"):
            on_cuda(np.full((9, 9), np.nan, np.float32))


class TestMemory:
    def test_is_kept_for_the_shape(self, cuda, made, still):
        for count in (3, 2, 3, 1):
            image = cuda.to_device(np.zeros((count, 9, 10), np.uint8))
            sdie.enhance(image, IDENTITY, params=PARAMS)
        assert made == [(3, 9, 10, 1)]
        sdie.enhance(np.zeros((2, 9, 10), np.uint8), IDENTITY, params=PARAMS, backend="cuda")
        assert made == [(3, 9, 10, 1)]  # of host and device alike
        sdie.enhance(cuda.to_device(np.zeros((4, 9, 10), np.uint8)), IDENTITY, params=PARAMS)
        assert made[1:] == [(4, 9, 10, 1)]
        assert len(memory.cache) == 1

    def test_its_copies_are_there_before_anybody_reads_it(self, cuda, made, still, monkeypatch):
        order = []
        monkeypatch.setattr(streams, "settle", lambda: order.append("settled"))
        monkeypatch.setattr(rounds.Rounds, "__call__", lambda *arguments, **options: order.append("used"))
        image = cuda.to_device(np.zeros((9, 10), np.uint8))
        for _ in range(2):
            sdie.enhance(image, IDENTITY, params=PARAMS)
        assert order[:3] == ["settled", "used", "used"]

    def test_of_few_shapes_is_kept(self, cuda, made, still):
        for width in (9, 10, 11, 12, 13, 9):
            sdie.enhance(cuda.to_device(np.zeros((9, width), np.uint8)), IDENTITY, params=PARAMS)
        assert len(memory.cache) == 4
        assert len(made) == 6  # the first had gone

    def test_grows_with_the_filters_in_use(self, cuda, still):
        fast = FilterParams(window=3, wls_solver="fast")
        image = cuda.to_device(np.zeros((9, 10), np.uint8))
        sdie.enhance(image, IDENTITY, params=fast)
        (workspace,) = memory.cache._held.values()
        assert workspace.active == tuple(name == "identity" for name in TABLE)
        sdie.enhance(image, [0, 1, 0, 0, 0, 0], params=fast)
        (workspace,) = memory.cache._held.values()
        assert workspace.active == tuple(name in ("identity", "wls") for name in TABLE)
        sdie.enhance(image, IDENTITY, params=fast)
        assert list(memory.cache._held.values()) == [workspace]

    def test_batches_that_do_not_fit_are_done_in_parts(self, cuda, rng, picture, made, done, monkeypatch):
        batch = picture(rng, (5, 9, 10), np.uint8)
        job = memory.Job((5, 9, 10, 1), PARAMS, False, tuple(name == "identity" for name in TABLE))
        enough_for_three = (job.bytes(3) + memory.WeightBuffer.bytes(3, 1)) / 0.9 + 1
        monkeypatch.setattr(driver, "free_memory", lambda: enough_for_three)
        monkeypatch.setattr(run, "worth_recording", lambda size: False)  # which would take memory of its own
        result = sdie.enhance(cuda.to_device(batch), IDENTITY, params=PARAMS)
        np.testing.assert_array_equal(result.copy_to_host(), batch)
        assert (made, done) == ([(3, 9, 10, 1)], [3, 2])

    def fail_above(self, monkeypatch, limit, error):
        """Memory for more than so many images at a time cannot be had, whatever was said of it."""
        real = rounds.Rounds.__init__

        def failing(self, shape, *arguments, **options):
            if shape[0] > limit:
                raise error
            real(self, shape, *arguments, **options)

        monkeypatch.setattr(rounds.Rounds, "__init__", failing)

    @pytest.mark.parametrize("place", ["host", "device"])
    def test_running_out_halves_the_batch(self, cuda, rng, picture, done, monkeypatch, place):
        batch = picture(rng, (5, 9, 10), np.uint8)
        self.fail_above(monkeypatch, 2, RuntimeError("[2] ... CUDA_ERROR_OUT_OF_MEMORY"))
        given = batch if place == "host" else cuda.to_device(batch)
        weights = rng.random((5, 1, 6)) * [1, 0, 1, 0, 0, 0]
        result = sdie.enhance(given, weights, params=PARAMS, backend="cuda")
        if place == "device":
            result = result.copy_to_host()
        assert_near(result, batch, weights)
        assert done == [2, 2, 1]

    @pytest.mark.parametrize("place", ["host", "device"])
    def test_no_memory_for_one_image(self, cuda, rng, picture, monkeypatch, place):
        batch = picture(rng, (3, 9, 10), np.uint8)
        given = batch if place == "host" else cuda.to_device(batch)
        small = np.zeros((8, 8), np.uint8)
        sdie.enhance(small, IDENTITY, params=PARAMS, backend="cuda")
        assert len(memory.cache) == 1
        told = (
            r"an image of 9 x 10 pixels with 1 channel\(s\) needs \d+ MiB of GPU memory; free: 3 MiB"
            r"; to fix: .*torch.cuda.empty_cache.*backend='cpu'"
        )
        with monkeypatch.context() as context:
            self.fail_above(context, 0, MemoryError())
            context.setattr(driver, "free_memory", lambda: 3 * 2**20)
            with pytest.raises(DeviceMemoryError, match=told):
                sdie.enhance(given, IDENTITY, params=PARAMS, backend="cuda")
        assert len(memory.cache) == 0
        result = sdie.enhance(given, IDENTITY, params=PARAMS, backend="cuda")  # it goes on
        result = result if place == "host" else result.copy_to_host()
        np.testing.assert_array_equal(result, batch)

    def test_other_errors_are_not_taken_for_it(self, monkeypatch):
        self.fail_above(monkeypatch, 0, RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS"))
        with pytest.raises(RuntimeError, match="ILLEGAL_ADDRESS"):
            sdie.enhance(np.zeros((9, 9), np.uint8), IDENTITY, params=PARAMS, backend="cuda")

    def test_real_memory_runs_out_and_returns(self, cuda, rng, picture):
        if driver.simulated():
            pytest.skip("the simulator's memory is the host's")
        held = []
        piece = 2**28
        while driver.free_memory() > 2 * piece:
            held.append(cuda.device_array(piece, np.uint8))
        with pytest.raises(DeviceMemoryError, match="needs"):
            sdie.enhance(np.zeros((2**13, 2**14), np.uint8), np.ones((2, 6)), backend="cuda")
        image = picture(rng, (64, 64), np.uint8)
        assert_near(sdie.enhance(image, WEIGHTS, params=PARAMS, backend="cuda"), image)
        del held


class TestWeightBuffer:
    def test_uploads_what_differs(self, rng, cuda):
        buffer = memory.WeightBuffer(3, 2)
        stream = cuda.stream()
        for count in (3, 1, 2):
            weights = rng.random((count, 2, len(TABLE))).astype(np.float32)
            for _ in range(2):
                held = buffer.put(weights, stream)
                stream.synchronize()
                np.testing.assert_array_equal(held.copy_to_host(), weights)
            weights[0, 0, 0] = 0.5  # the caller's array is not what is compared with
            held = buffer.put(weights, stream)
            stream.synchronize()
            np.testing.assert_array_equal(held.copy_to_host(), weights)

    def test_no_pinned_memory_is_written_while_it_is_read(self, monkeypatch):
        monkeypatch.setattr(streams, "finished", lambda event: False)
        buffer, stream = memory.WeightBuffer(1, 1), streams.own()
        waited = []

        class Event:
            def record(self, stream):
                pass

            def synchronize(self):
                waited.append(self)

        monkeypatch.setattr(streams, "event", Event)
        for k in range(memory._UPLOADS):
            buffer.put(np.full((1, 1, len(TABLE)), k, np.float32), stream)
        used = [pinned for pinned, _ in buffer._pinned]
        assert len({id(p) for p in used}) == memory._UPLOADS
        assert [p[0, 0, 0] for p in used] == list(range(memory._UPLOADS))
        assert not waited
        buffer.put(np.full((1, 1, len(TABLE)), 99, np.float32), stream)  # there are enough: the oldest is waited for
        assert len(waited) == 1
        assert len(buffer._pinned) == memory._UPLOADS
        assert buffer._pinned[-1][0] is used[0]


def in_threads(work, count):
    errors = []

    def guarded(k):
        try:
            work(k)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_threads_take_turns(monkeypatch):
    using = []

    def work(self, src, dst, weights, active, **options):
        using.append(1)
        time.sleep(0.02)
        assert len(using) == 1
        using.pop()

    monkeypatch.setattr(rounds.Rounds, "__call__", work)

    def call(k):
        # Two shapes: what is done for different ones must not meet on the device, either.
        image = np.zeros((8, 9 + k % 2), np.uint8)
        sdie.enhance(image, WEIGHTS, params=PARAMS, backend="cuda")

    in_threads(call, 6)


def test_streams_take_turns_on_the_device(monkeypatch):
    log = []

    class Event:
        def record(self, stream):
            log.append(("done", stream))

        def wait(self, stream):
            log.append(("after", stream))

    monkeypatch.setattr(streams, "event", Event)
    monkeypatch.setattr(memory, "_turns", {})
    with memory.turn("a"):
        log.append("work")
    with pytest.raises(RuntimeError, match="fell"), memory.turn("b"):
        raise RuntimeError("it fell")
    with memory.turn("c"):
        pass
    assert log == ["work", ("done", "a"), ("after", "b"), ("done", "b"), ("after", "c"), ("done", "c")]


def test_threads_get_their_own_results(rng, picture):
    if driver.simulated():
        pytest.skip("the simulator runs one thread's kernels at a time")
    images = [picture(rng, (80, 90), np.uint8) for _ in range(8)]
    results = [None] * 8

    def work(k):
        for _ in range(20):
            results[k] = sdie.enhance(images[k], [1, 0, k, 0, 0, 0], params=PARAMS, backend="cuda")

    in_threads(work, 8)
    for k in range(8):
        assert_near(results[k], images[k], [1, 0, k, 0, 0, 0])
