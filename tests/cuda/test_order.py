"""Whatever touches the same memory from two streams is ordered by an event, a wait of the host or the driver's own rules.

Neither the simulator nor the emulated driver would notice: they do everything when it is enqueued. So the calls are written
down, and each stream and event gets a clock of what must have been done before it (Lamport's vector clocks).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams

pytest.importorskip("numba_cuda")
from sdie_fast.cuda import arrays, driver, follow, graph, memory, run, streams

LEGACY = 1


class Access(NamedTuple):
    """What an operation does to some bytes, and when by its stream's clock."""

    stream: int
    time: int
    begin: int
    end: int
    writes: bool
    what: str


class Order:
    """What must be done before what. Kernels count as writing all that they are given."""

    def __init__(self):
        self.host, self.clocks, self.events = Counter(), defaultdict(Counter), {}
        self.blocking = {LEGACY}  # these and the legacy stream wait for each other
        self.allocations, self.accesses = {}, defaultdict(list)
        self.capturing, self.graphs = None, {}
        self.unordered, self.operations = [], 0

    def now(self, stream):
        """The clock of a stream: what is done before its next operation."""
        clock = self.clocks[stream] | self.host
        if stream in self.blocking:
            for other in self.blocking if stream == LEGACY else [LEGACY]:
                clock |= self.clocks[other]
        self.clocks[stream] = clock
        return clock

    def within(self, address):
        """The allocation that an address lies in, as (begin, end), or nothing."""
        return [(b, b + n) for b, n in self.allocations.items() if b <= address < b + n]

    def operation(self, stream, what, touched):
        """`touched`: (begin, end, writes) of device memory."""
        if self.capturing is not None and stream == self.capturing[0]:
            self.capturing[1].extend(touched)
            return
        self.operations += 1
        clock = self.now(stream)
        clock[stream] += 1
        for begin, end, writes in touched:
            for at, _ in self.within(begin):
                for old in self.accesses[at]:
                    apart = old.end <= begin or end <= old.begin or not (writes or old.writes)
                    if old.stream != stream and not apart and clock[old.stream] < old.time:
                        self.unordered.append(f"{what} on {stream} after {old.what} on {old.stream}")
                self.accesses[at].append(Access(stream, clock[stream], begin, end, writes, what))

    def copy(self, name, to, source, size, stream=LEGACY):
        self.operation(
            int(stream) or LEGACY, name, [(int(to), int(to) + size, True), (int(source), int(source) + size, False)]
        )

    def launch(self, stream, kernel, arguments):
        whole = {place for a in arguments if isinstance(a, int) for place in self.within(a)}
        self.operation(int(stream.handle) or LEGACY, kernel, [(*place, True) for place in whole])

    def call(self, name, arguments, answer):
        """Follow a function of the driver that was called."""
        given = [int(a) if hasattr(a, "__int__") else a for a in arguments]
        if name.startswith("cuMemcpy"):
            self.copy(name, *given)
            if name == "cuMemcpyDtoH":
                self.host |= self.now(LEGACY)
        elif name == "cuMemAlloc":
            self.allocations[int(answer)] = given[0]
            self.accesses.pop(int(answer), None)
        elif name == "cuMemFree":  # it waits for the device
            for clock in self.clocks.values():
                self.host |= clock
            self.allocations.pop(given[0], None)
        elif name == "cuStreamCreate" and not given[0] & 1:
            self.blocking.add(int(answer))
        elif name == "cuStreamSynchronize":
            self.host |= self.now(given[0] or LEGACY)
        elif name == "cuEventRecord":
            self.events[given[0]] = Counter(self.now(given[1] or LEGACY))
        elif name == "cuStreamWaitEvent":
            self.clocks[given[0] or LEGACY] |= self.events.get(given[1], Counter())
        elif name == "cuEventSynchronize":
            self.host |= self.events.get(given[0], Counter())
        elif name == "cuStreamBeginCapture":
            self.capturing = given[0], []
        elif name == "cuStreamEndCapture":
            self.graphs[int(answer)] = self.capturing[1]
            self.capturing = None
        elif name == "cuGraphInstantiate":
            self.graphs[int(answer)] = self.graphs[given[0]]
        elif name == "cuGraphLaunch":
            self.operation(given[1] or LEGACY, "graph", list(set(self.graphs[given[0]])))


@pytest.fixture
def order(cuda, monkeypatch):
    """Writes down what this package and Numba ask of the driver."""
    if driver.simulated():
        pytest.skip("the simulator has no streams")
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv.driver import driver as numbas

    found, real = Order(), driver.binding()

    class Binding:
        def __getattr__(self, name):
            function = getattr(real, name)

            def followed(*arguments):
                answer = function(*arguments)
                if answer[0] == 0:
                    found.call(name, arguments, answer[1] if len(answer) > 1 else None)
                return answer

            return followed if name.startswith("cu") and name[2].isupper() else function

    def follow_numba(name):
        function = getattr(numbas, name)

        def followed(*arguments):
            answer = function(*arguments)
            found.call(name, arguments, answer)
            return answer

        monkeypatch.setattr(numbas, name, followed)

    memory.cache.clear()
    streams._external.cache_clear()
    monkeypatch.setattr(memory, "_turns", {})
    binding = Binding()
    monkeypatch.setattr(driver, "binding", lambda: binding)
    for name in (
        *("cuMemAlloc", "cuMemFree", "cuMemcpyHtoD", "cuMemcpyDtoH", "cuMemcpyDtoD", "cuStreamSynchronize"),
        *("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync", "cuStreamCreate", "cuEventRecord"),
        *("cuStreamWaitEvent", "cuEventSynchronize"),
    ):
        follow_numba(name)
    launch = dispatcher.launch

    def launched(stream, config, kernel, *arguments):
        found.launch(stream, "kernel", arguments)
        launch(stream, config, kernel, *arguments)

    monkeypatch.setattr(dispatcher, "launch", launched)
    yield found
    memory.cache.clear()


SIDE = 12
PARAMS = FilterParams(window=3, wls_solver="fast")


def use(cuda, rng, monkeypatch):
    """Every way an image can go, on streams of every kind, one after the other without a wait."""
    mine = [0, *(cuda.external_stream(int(streams.call("cuStreamCreate", flags))) for flags in (1, 1, 0))]

    def image(shape, stream):
        made = cuda.device_array(shape, np.uint8, stream=stream)
        made.copy_to_device(rng.integers(0, 256, shape, np.uint8), **({"stream": stream} if stream else {}))
        return made

    def enhance(given, rounds=2, **options):
        weights = rng.random((rounds, 6)) + 0.1
        sdie.enhance(given, weights, params=PARAMS, backend="cuda", **options)

    one, several = (SIDE, SIDE), (5, SIDE, SIDE)
    for _ in range(3):  # plain, recorded, replayed
        for stream in mine:
            enhance(image(one, stream))
        out = image(one, mine[2])
        enhance(image(one, mine[1]), out=out)
        out.copy_to_host(stream=mine[2])
        enhance(rng.integers(0, 256, one, np.uint8))
    monkeypatch.setattr(run, "CHUNK_BYTES", 2 * SIDE * SIDE)
    monkeypatch.setattr(graph, "MOST_BYTES", 0)
    for stream in mine:
        enhance(rng.integers(0, 256, several, np.uint8))
        enhance(image(several, stream))
        follow.look(arrays.describe("image", image(one, stream))[None, ..., None], 255.0, 8)


def test_all_is_ordered(cuda, rng, order, monkeypatch):
    use(cuda, rng, monkeypatch)
    assert order.operations > 200
    assert order.unordered == []


@pytest.mark.parametrize(("place", "name"), [(streams, "settle"), (streams._Event, "wait"), (arrays, "_follow")])
def test_what_is_left_out_is_noticed(cuda, rng, order, monkeypatch, place, name):
    monkeypatch.setattr(place, name, lambda *arguments: None)
    use(cuda, rng, monkeypatch)
    assert order.unordered
