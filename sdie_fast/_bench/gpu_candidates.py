"""Who computes a case of `gpu_cases`: this package on the GPU, the round composed in torch and in CuPy, OpenCV, the CPU core.

Every candidate reads another of the setup's sets of images at each call, so that the cache cannot hold them, and writes
whole 8-bit images. On a machine without a GPU the same candidates run on the CPU, for their answers only: this package in
Numba's simulator, torch on the CPU, NumPy in CuPy's place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import FILTERS, enhance
from ..errors import SdieError
from . import gpu_cases, gpu_torch
from . import peers as peer
from .gpu_cases import Case, Planes
from .gpu_timing import Clock, EventClock, Timed, host_clock

OURS = "sdie_fast"
COMPOSED = "torch composed"
CPU_IMAGES = 32  # of a batch that candidates on the CPU compute: their time is per pixel


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way of computing a case.

    `answer` gives the first set's result, (n, H, W) uint8; `images` is how many of the batch a call
    computes; `where` is what the time includes; `same` says whether the definitions are the reference's.
    """

    timed: Timed
    answer: Callable[[], Planes]
    images: int
    where: str
    same: bool = True


class Setup:
    """A case's images on the host and the device, and the stream everything runs on.

    Parameters
    ----------
    case : Case
    footprint : {"square", "disk"}
    torch : module
    device : {"cuda", "cpu"}
        "cpu": the dry run; nothing of it is worth timing.
    sets : int
        Of images, drawn here.
    threads : int
        For candidates on the CPU.
    """

    def __init__(self, case: Case, footprint: str, torch: Any, device: str, sets: int, threads: int) -> None:
        self.case, self.torch, self.device, self.sets, self.threads = (
            case,
            torch,
            device,
            sets,
            threads,
        )
        self.footprint = footprint
        self.params = case.params(footprint)
        self.images = gpu_cases.draw(case, sets)
        self.results = np.empty_like(self.images)
        self.rows = np.tile(np.array(case.active, np.float32), (case.rounds, 1))
        self.src = torch.from_numpy(self.images).to(device)
        self.dst = torch.empty_like(self.src)
        self.weights = torch.from_numpy(case.weights()).to(device)
        self.stream: Any = torch.cuda.Stream() if device == "cuda" else None
        self.clock: Clock = EventClock(torch, self.stream) if self.stream else host_clock
        if self.stream:
            torch.cuda.synchronize()

    def on_stream(self, call: Callable[[int], Any]) -> Callable[[int], Any]:
        """Wrap a call of a set's number so that torch's current stream is the setup's."""

        def run(k: int) -> Any:
            with self.torch.no_grad(), self.torch.cuda.stream(self.stream):
                return call(k % self.sets)

        return run

    def read(self, tensor: Any) -> Planes:
        """Copy a result to the host, after all that was enqueued."""
        if self.stream:
            self.stream.synchronize()
        return np.asarray(tensor.cpu().numpy())


Maker = Callable[[Setup], Candidate]


def ours(setup: Setup) -> Candidate:
    """`enhance` from array to array on the device."""
    if setup.device == "cpu":
        return _simulated(setup)

    @setup.on_stream
    def call(k: int) -> None:
        enhance(setup.src[k], setup.rows, params=setup.params, out=setup.dst[k], backend="cuda")

    def answer() -> Planes:
        setup.dst[0].fill_(77)  # nothing of an earlier candidate's may pass for this one's
        call(0)
        return setup.read(setup.dst[0])

    return Candidate(Timed(call, setup.clock), answer, setup.case.images, "device")


def _simulated(setup: Setup) -> Candidate:
    def call(k: int) -> Planes:
        return enhance(setup.images[k], setup.rows, params=setup.params, backend="cuda")

    return Candidate(Timed(call, host_clock), lambda: call(0), setup.case.images, "simulator")


def ours_replayed(setup: Setup) -> Candidate:
    """The launches of `Rounds` alone, recorded as CUDA graphs, each on a set of its own."""
    from numba import cuda

    from ..cuda.graph import Graph
    from ..cuda.rounds import Rounds

    case = setup.case
    sets = min(setup.sets, 16)
    rounds = Rounds((*case.shape, 1), setup.params, active=case.active)
    weights = cuda.as_cuda_array(setup.weights)
    own = cuda.stream()
    src, dst = ([cuda.as_cuda_array(t[k][..., None]) for k in range(sets)] for t in (setup.src, setup.dst))

    def work(k: int) -> Callable[[Any], None]:
        def enqueue(stream: Any) -> None:
            rounds(src[k], dst[k], weights, case.active, white_level=255.0, stream=stream)

        return enqueue

    work(0)(own)  # compiles, which cannot be recorded
    own.synchronize()
    graphs = [Graph(work(k), own) for k in range(sets)]
    on = cuda.external_stream(setup.stream.cuda_stream)

    def call(k: int) -> None:
        graphs[k % sets].launch(on)

    def answer() -> Planes:
        setup.dst[0].fill_(77)
        setup.torch.cuda.synchronize()
        call(0)
        return setup.read(setup.dst[0])

    return Candidate(Timed(call, setup.clock), answer, case.images, "device, graph replays")


def ours_from_host(setup: Setup) -> Candidate:
    """`enhance` from NumPy array to NumPy array."""

    def call(k: int) -> Planes:
        k %= setup.sets
        return enhance(
            setup.images[k],
            setup.rows,
            params=setup.params,
            out=setup.results[k],
            backend="cuda",
        )

    return Candidate(Timed(call, host_clock), lambda: call(0).copy(), setup.case.images, "host to host")


def _composed(setup: Setup) -> Callable[[Any], Any]:
    case = setup.case
    run = gpu_torch.round_of(setup.params, case.active, case.rounds, setup.device)
    return lambda images: run(images, setup.weights)


def torch_eager(setup: Setup) -> Candidate:
    """The composed round, operation by operation."""
    run = _composed(setup)
    call = setup.on_stream(lambda k: run(setup.src[k]))
    return Candidate(Timed(call, setup.clock), lambda: setup.read(call(0)), setup.case.images, "device")


def torch_compiled(setup: Setup) -> Candidate:
    """The composed round fused by torch.compile."""
    case = setup.case
    run = setup.torch.compile(gpu_torch.round_of(setup.params, case.active, case.rounds, setup.device), dynamic=False)
    call = setup.on_stream(lambda k: run(setup.src[k], setup.weights))
    return Candidate(Timed(call, setup.clock), lambda: setup.read(call(0)), case.images, "device")


def torch_replayed(setup: Setup) -> Candidate:
    """The composed round recorded as a CUDA graph; the set is copied to where the graph reads it."""
    torch, run = setup.torch, _composed(setup)
    held = setup.src[0].clone()
    with torch.no_grad(), torch.cuda.stream(setup.stream):
        for _ in range(3):
            run(held)
    setup.stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=setup.stream):
        result = run(held)

    @setup.on_stream
    def call(k: int) -> Any:
        held.copy_(setup.src[k])
        graph.replay()
        return result

    return Candidate(
        Timed(call, setup.clock),
        lambda: setup.read(call(0)),
        setup.case.images,
        "device, graph replays",
    )


def torch_from_host(setup: Setup) -> Candidate:
    """The composed round between pinned buffers on the host."""
    run = _composed(setup)
    pinned = setup.torch.from_numpy(setup.images[: min(setup.sets, 64)]).pin_memory()
    result = setup.torch.empty_like(pinned[0]).pin_memory()

    @setup.on_stream
    def call(k: int) -> Planes:
        result.copy_(run(pinned[k % len(pinned)].to("cuda", non_blocking=True)), non_blocking=True)
        setup.stream.synchronize()
        return np.asarray(result.numpy())

    return Candidate(Timed(call, host_clock), lambda: call(0).copy(), setup.case.images, "host to host")


def cupy_composed(setup: Setup) -> Candidate:
    """The round composed from CuPy; on the CPU from NumPy and SciPy."""
    from .gpu_cupy import ArrayRound

    case = setup.case
    if setup.device == "cpu":
        import scipy.ndimage

        composed = ArrayRound(np, scipy.ndimage, setup.params)

        def on_host(k: int) -> Planes:
            result: Planes = composed.run(setup.images[k], case.weights(), case.active)
            return result

        return Candidate(Timed(on_host, host_clock), lambda: on_host(0), case.images, "NumPy")
    import cupy
    import cupyx.scipy.ndimage

    composed = ArrayRound(cupy, cupyx.scipy.ndimage, setup.params)
    src, weights = cupy.asarray(setup.src), cupy.asarray(setup.weights)
    stream = cupy.cuda.ExternalStream(setup.stream.cuda_stream)

    def call(k: int) -> Any:
        with stream:
            return composed.run(src[k % setup.sets], weights, case.active)

    def answer() -> Planes:
        result = call(0)
        setup.stream.synchronize()
        return np.asarray(cupy.asnumpy(result))

    return Candidate(Timed(call, setup.clock), answer, case.images, "device")


def opencv(setup: Setup) -> Candidate:
    """The round composed from OpenCV, image by image on the CPU, 8 bits between rounds."""
    import cv2

    case = setup.case
    library = peer.OpenCV(cv2, setup.threads)
    every: tuple[Callable[[Planes], Planes], ...] = (
        lambda g: g,
        library.wls,
        library.bilateral,
        library.sharpen,
        library.guided,
        library.equalise,
    )
    used = [apply for apply, wanted in zip(every, case.active, strict=True) if wanted]
    share = 1.0 / len(used)

    def one(g: Planes) -> Planes:
        for _ in range(case.rounds):
            total: Any = used[0](g)
            if len(used) > 1:
                total = cv2.addWeighted(total, share, used[1](g), share, 0.0, dtype=cv2.CV_32F)
            for apply in used[2:]:
                total = cv2.addWeighted(total, 1.0, apply(g), share, 0.0, dtype=cv2.CV_32F)
            g = np.asarray(cv2.convertScaleAbs(total))
        return g

    part = min(case.images, CPU_IMAGES)

    def call(k: int) -> Planes:
        return np.stack([one(g) for g in setup.images[k % setup.sets, :part]])

    return Candidate(Timed(call, host_clock), lambda: call(0), part, "CPU", same=False)


def core(setup: Setup) -> Candidate:
    """`enhance` on the CPU, by the compiled core."""
    part = min(setup.case.images, CPU_IMAGES)
    out = np.empty_like(setup.images[0, :part])

    def call(k: int) -> Planes:
        return enhance(
            setup.images[k % setup.sets, :part],
            setup.rows,
            params=setup.params,
            out=out,
            backend="cpu",
            threads=setup.threads,
        )

    return Candidate(Timed(call, host_clock), lambda: call(0).copy(), part, "CPU")


def makers(case: Case, *, gpu: bool, peers: bool, compiled: bool) -> Iterator[tuple[str, Maker]]:
    """List the candidates of a case by name, this package first.

    compiled: the round fused by torch.compile alone, which can take minutes to make.
    """
    if compiled:
        yield OURS, ours
        yield f"{COMPOSED}, compiled", torch_compiled
        return
    if case.name == "crossover":
        # In the simulator arrays on the host are all that there are.
        yield f"{OURS}, NumPy", ours_from_host
        yield f"{OURS}, CPU core", core
        return
    yield OURS, ours
    if gpu:
        yield f"{OURS}, replayed", ours_replayed
        yield f"{OURS}, NumPy", ours_from_host
    yield f"{OURS}, CPU core", core
    if not peers:
        return
    yield COMPOSED, torch_eager
    if gpu and case.name == "single":
        yield f"{COMPOSED}, replayed", torch_replayed
    if gpu and case.name == "round":
        yield f"{COMPOSED}, NumPy", torch_from_host
    if case.solver == "fast":
        yield "CuPy composed", cupy_composed
    yield "OpenCV composed" if case.active != gpu_cases.WLS_ONLY else "OpenCV smoother", opencv


def judged(setup: Setup, name: str, candidate: Candidate, true: npt.NDArray[np.float64]) -> str:
    """Compare a candidate's first and last image with what is true of them; returns the difference in words.

    Raises
    ------
    SdieError
        Further apart than the definitions explain, or not the images asked for.
    """
    answer = candidate.answer()
    expected = (candidate.images, *setup.case.shape[1:])
    if answer.shape != expected or answer.dtype != np.uint8:
        raise SdieError(f"{name}: gives {answer.dtype} {answer.shape}; uint8 {expected} expected")
    own = answer[[0, -1]]
    if candidate.images < setup.case.images:
        own, true = own[:1], true[:1]
    if not candidate.same:
        most, mean = gpu_cases.difference(own, true)
        if most > gpu_cases.OTHER_DEFINITION[0] or mean > gpu_cases.OTHER_DEFINITION[1]:
            raise SdieError(f"{name}: differs by {most:.2f} (mean {mean:.3f}) of 255")
        return f"{most:.2f} (mean {mean:.3f}) of 255, other definitions"
    whole = bool((true == np.rint(true)).all())
    return gpu_cases.compare(name, own, true, gpu_cases.bound(setup.case, rounded=whole))


def filters_of(case: Case) -> str:
    """Name the active filters."""
    return ", ".join(name for name, used in zip(FILTERS, case.active, strict=True) if used)
