"""Who computes a workload: this package on the GPU, the round composed in torch, OpenCV, and the CPU core.

Every method reads another of the setup's sets of images at each call, so that the cache cannot hold them, and gives
whole 8-bit images. On a machine without a GPU those that can run on the CPU, for their answers only: this package in
Numba's simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from clock import Method, Runner
from composed import round_of
from workloads import Planes, Workload, draw, truth

from sdie_fast import enhance
from sdie_fast._bench.cases import check
from sdie_fast._bench.peers import Bound, OpenCV
from sdie_fast.filters import TABLE

__all__ = ["Setup"]

# What is only looked at for being an image of the same thing: OpenCV's smoother and equalisation are other filters.
OTHER = Bound(255.0, 64.0, "other definitions")
CPU_IMAGES = 32  # of a batch that candidates on the CPU compute: their time is per pixel


class Setup:
    """A workload's images on the host and on the device.

    Parameters
    ----------
    work : Workload
    footprint : {"square", "disk"}
    runner : Runner
    sets : int
        Of images, drawn here.
    threads : int
        For candidates on the CPU.
    peers : bool
        Whether others than this package are listed.
    """

    sample = 0.02  # seconds that one takes at least

    def __init__(
        self, work: Workload, footprint: str, runner: Runner, sets: int, threads: int, peers: bool = True
    ) -> None:
        self.work, self.runner, self.sets, self.threads, self.peers = work, runner, sets, threads, peers
        self.about = {"case": work.name, "title": work.title, "elements": work.pixels, "unit": "Gpx/s"}
        self.units = work.height * work.width / 1e9  # an image's
        self.params = work.params(footprint)
        self.images = draw(work, sets)
        self.results = np.empty_like(self.images)
        self.src = runner.torch.from_numpy(self.images).to(runner.name)
        self.dst = runner.torch.empty_like(self.src)
        self.weights = runner.torch.from_numpy(work.weights).to(runner.name)
        self.enhance = partial(enhance, filters=work.filters, params=self.params)
        self.composed = round_of(self.params, work.filters, work.rounds, runner.name)
        self.truth = truth(work, footprint, self.images[0][[0, -1]])
        runner.wait()

    def answer(self, method: Method) -> Planes:
        """Read what a method makes of the first set; nothing of an earlier one's may pass for it."""
        self.dst.fill_(77)
        self.results.fill(77)
        self.runner.wait()
        return self.runner.read(method.call(0))

    def judge(self, name: str, method: Method, answer: Planes) -> str:
        """Say how far the answer lies from what is true of its first and last image (see `check`)."""
        shown = [0, -1] if method.images == self.work.images else [0]
        allowed = 0.5 + 0.5 * self.work.rounds
        bound = Bound(allowed, allowed, "rounding, and 1/510 a round") if method.same else OTHER
        return check(self.work.name, name, bound, self.truth[shown], answer[shown])

    def makers(self, *, compiled: bool) -> dict[str, Callable[[], Method]]:
        """List the candidates by name, this package first.

        compiled: the round fused by torch.compile alone, which can take minutes to make.
        """
        gpu, peers, case = self.runner.name == "cuda", self.peers, self.work.name
        core = partial(ours_from_host, backend="cpu")
        if case == "crossover":
            chosen: dict[str, Callable[[Setup], Method]] = {
                "sdie_fast, NumPy": ours_from_host,
                "sdie_fast, CPU core": core,
            }
        elif compiled:
            chosen = {"sdie_fast": ours, "torch composed, compiled": partial(composed, compiled=True)}
        else:
            every = (
                # In the simulator arrays on the host are all that there are.
                (True, "sdie_fast", ours if gpu else ours_from_host),
                (gpu, "sdie_fast, replayed", ours_replayed),
                (gpu, "sdie_fast, NumPy", ours_from_host),
                (True, "sdie_fast, CPU core", core),
                (peers, "torch composed", composed),
                (peers and gpu and case == "single", "torch composed, replayed", composed_replayed),
                (peers and gpu and case == "round", "torch composed, NumPy", composed_from_host),
                (peers, "OpenCV smoother" if case == "exact" else "OpenCV composed", opencv),
            )
            chosen = {name: make for wanted, name, make in every if wanted}
        return {name: partial(make, self) for name, make in chosen.items()}


def ours(setup: Setup) -> Method:
    """`enhance` from array to array on the device."""
    weights = setup.work.weights[0]

    def call(k: int) -> Any:
        k %= setup.sets
        return setup.enhance(setup.src[k], weights, out=setup.dst[k], backend="cuda")

    return Method(setup.runner.on_stream(call), setup.work.images)


def ours_from_host(setup: Setup, backend: str = "cuda") -> Method:
    """`enhance` from NumPy array to NumPy array; by the compiled core, a part of the batch."""
    part = min(setup.work.images, CPU_IMAGES) if backend == "cpu" else setup.work.images
    weights = setup.work.weights[0]

    def call(k: int) -> Planes:
        src, dst = (images[k % setup.sets, :part] for images in (setup.images, setup.results))
        return setup.enhance(src, weights, out=dst, backend=backend, threads=setup.threads)

    return Method(call, part, "CPU" if backend == "cpu" else "host to host")


def ours_replayed(setup: Setup) -> Method:
    """The launches of `Rounds` alone, recorded as CUDA graphs, each on a set of its own."""
    from numba import cuda

    from sdie_fast.cuda import streams
    from sdie_fast.cuda.graph import Graph
    from sdie_fast.cuda.rounds import Rounds

    work = setup.work
    sets = min(setup.sets, 16)
    active = tuple(name in work.filters for name in TABLE)
    normalised = np.zeros((*work.weights.shape[:2], len(TABLE)), np.float32)
    normalised[..., list(active)] = work.weights
    weights = cuda.to_device(normalised)
    rounds = Rounds((*work.shape, 1), setup.params, active=active)
    own = streams.own()
    src, dst = ([cuda.as_cuda_array(t[k][..., None]) for k in range(sets)] for t in (setup.src, setup.dst))

    def enqueue(k: int, stream: Any) -> None:
        rounds(src[k], dst[k], weights, active, white_level=255.0, stream=stream)

    setup.runner.wait()  # for what was copied to the device on another stream
    enqueue(0, own)  # compiles, which cannot be recorded
    own.synchronize()
    graphs = [Graph(partial(enqueue, k), own) for k in range(sets)]
    setup.runner.wait()
    on = streams.stream(setup.runner.stream.cuda_stream)

    def call(k: int, _held: Any = (rounds, weights)) -> Any:  # of which the graphs know the addresses alone
        graphs[k % sets].launch(on)
        return setup.dst[k % sets]

    return Method(call, work.images, "device, graph replays")


def composed(setup: Setup, *, compiled: bool = False) -> Method:
    """The round composed in torch, operation by operation or fused by torch.compile."""
    run = setup.runner.torch.compile(setup.composed, dynamic=False) if compiled else setup.composed
    call = setup.runner.on_stream(lambda k: run(setup.src[k % setup.sets], setup.weights))
    return Method(call, setup.work.images)


def composed_replayed(setup: Setup) -> Method:
    """The composed round recorded as a CUDA graph; the set is copied to where the graph reads it."""
    runner, torch = setup.runner, setup.runner.torch
    for k in range(3):  # first uses of the libraries cannot be recorded
        composed(setup).call(k)
    held = setup.src[0].clone()
    runner.wait()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=runner.stream):
        result = setup.composed(held, setup.weights)

    def call(k: int) -> Any:
        held.copy_(setup.src[k % setup.sets])
        graph.replay()
        return result

    return Method(runner.on_stream(call), setup.work.images, "device, graph replays")


def composed_from_host(setup: Setup) -> Method:
    """The composed round between pinned buffers on the host."""
    runner = setup.runner
    pinned = runner.torch.from_numpy(setup.images[: min(setup.sets, 64)]).pin_memory()
    result = runner.torch.empty_like(pinned[0]).pin_memory()

    def call(k: int) -> Planes:
        src = pinned[k % len(pinned)].to(runner.name, non_blocking=True)
        result.copy_(setup.composed(src, setup.weights), non_blocking=True)
        runner.stream.synchronize()
        return np.asarray(result.numpy())

    return Method(runner.on_stream(call), setup.work.images, "host to host")


def opencv(setup: Setup) -> Method:
    """The round composed from OpenCV, image by image on the CPU, 8 bits between rounds."""
    library = OpenCV(setup.threads, contrib=True)
    part = min(setup.work.images, CPU_IMAGES)

    def call(k: int) -> Planes:
        planes = list(setup.images[k % setup.sets, :part])
        for _ in range(setup.work.rounds):
            planes = [library.round(g, setup.work.filters) for g in planes]
        return np.stack(planes)

    return Method(call, part, "CPU", same=False)
