"""The fused round on a GPU beside what is composed today, in one run.

    python bench/bench_cuda.py                              # everything, some five minutes
    python bench/bench_cuda.py --quick --case round single  # two cases, short, nothing compiled by torch
    python bench/bench_cuda.py --write bench/RESULTS.md --write-targets docs/gpu.md   # and put the tables there
    python bench/bench_cuda.py --dry-run                    # no GPU: tiny images, answers only, no times

Needs `pip install ".[gpu,bench]" torch`; CuPy (cupy-cuda13x) and, for the encoder, segment-anything where they are there.

Cases
    round    512 images of 200 x 200, one round of all six filters, fast WLS     local  the local filters alone
    exact    exact WLS alone                                                     single one image, five rounds
    square   20 images of 1024 x 1024                                            line   one frame of 16,384 x 1,024
    crossover  from which size on an image on the host is enhanced sooner by the GPU than by all cores of the CPU
    encoder  SAM ViT-B's encoder in bfloat16, batches of 8, random weights

How it is measured
    Candidates of a case take turns in shuffled order. A sample is a run of calls, 20 ms at least, between two CUDA events
    on one stream, or by the host's clock where the result ends on the host; the median over the samples is quoted.
    Each call reads another set of images; together the sets exceed the L2 cache four times. (The replayed graphs of
    "single" go round 16 sets, which L2 holds; the first row of that case does not.)
    Answers are compared first: two images of each candidate with the float64 reference (from 256 x 256 pixels on with the
    CPU core). What differs by more than its definition explains is reported and not timed, and the exit code is 1.
    TF32 is off: the composed round keeps float32's digits, as ours does.
    Candidates on the CPU compute 32 images of a batch; ratios are per pixel.
    Floors: bytes of input and output, and hand-counted operations, over the rates of three kernels that do nothing
    else, measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from sdie_fast._bench import gpu_candidates, gpu_cases, gpu_encoder, gpu_floor, gpu_report
from sdie_fast._bench.gpu_timing import EventClock, host_clock, interleave
from sdie_fast.errors import SdieError

NAMES = (*(case.name for case in gpu_cases.CASES), "crossover", "encoder")
PACKAGES = ("sdie-fast", "torch", "triton", "numba", "numba-cuda", "cupy-cuda13x", "numpy")
OPENCV = ("opencv-contrib-python-headless", "opencv-python-headless")


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def installed(name: str) -> str:
    """Version of a package, or nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def machine(torch: Any) -> dict[str, Any]:
    """What the figures depend on."""
    device = torch.cuda.get_device_properties(0)
    driver = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError, IndexError):
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[0]
    return {
        "gpu": device.name,
        "multiprocessors": device.multi_processor_count,
        "l2_megabytes": getattr(device, "L2_cache_size", 50 << 20) / 2**20,
        "driver": driver,
        "processor": platform.processor() or platform.machine(),
        "versions": {
            **{name: installed(name) for name in PACKAGES},
            "OpenCV": next(filter(None, map(installed, OPENCV)), ""),
            "CUDA of torch": torch.version.cuda or "",
            "Python": platform.python_version(),
        },
    }


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError where the body takes longer; None: no limit. Compilers of torch's can take very long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not made in {seconds:.0f} s")

    if seconds is None or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Bench:
    """A run: its options, its rows, and what was left out and why."""

    def __init__(self, args: argparse.Namespace, torch: Any, rates: Any) -> None:
        self.args, self.torch, self.rates = args, torch, rates
        self.gpu = not args.dry_run
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.failed = False
        self._begin = time.monotonic()

    def report(self, given: list[str]) -> dict[str, Any]:
        """All that was found so far."""
        return {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python bench/bench_cuda.py", *given]),
            "dry_run": not self.gpu,
            "machine": machine(self.torch) if self.gpu else None,
            "rates": dataclasses.asdict(self.rates) if self.gpu else None,
            "rows": self.rows,
            "notes": self.notes,
        }

    def late(self, what: str) -> bool:
        """Whether the budget is spent; then the case is noted as left out."""
        spent = time.monotonic() - self._begin > self.args.budget
        if spent:
            self.notes.append(f"{what}: the run's {self.args.budget:.0f} s were over")
        return spent

    def note(self, what: str, error: Exception) -> None:
        """Keep why a candidate is missing; a missing package is no failure, nor is a peer that breaks."""
        reason = f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.notes.append(reason)
        say(f"  {reason}")
        ours = what.split(": ")[1].startswith((gpu_candidates.OURS, "TorchSam"))
        if isinstance(error, SdieError) or (ours and not isinstance(error, ImportError)):
            self.failed = True

    def enhancement(self, case: gpu_cases.Case, *, compiled: bool = False) -> None:
        """Compare, then time, every candidate of one case; compiled: what torch.compile makes of the composed round."""
        say(f"{case.title}{' (torch.compile)' if compiled else ''}")
        torch, args = self.torch, self.args
        sets = 2
        if self.gpu:
            cache = int(machine(torch)["l2_megabytes"] * 2**20)
            sets = gpu_cases.sets_needed(case, cache)
        setup = gpu_candidates.Setup(case, args.footprint, torch, "cuda" if self.gpu else "cpu", sets, args.threads)
        true = gpu_cases.truth(case, args.footprint, setup.images[0][[0, -1]])
        ready, words = {}, {}
        for name, make in gpu_candidates.makers(case, gpu=self.gpu, peers=not args.no_peers, compiled=compiled):
            try:
                with time_limit(args.compile_limit if name.endswith("compiled") else None):
                    candidate = make(setup)
                    words[name] = gpu_candidates.judged(setup, name, candidate, true)
                ready[name] = candidate
            except Exception as error:  # a peer's library may raise anything
                self.note(f"{case.name}: {name}", error)
        if not self.gpu:
            for name, word in words.items():
                self.rows.append({"case": case.name, "candidate": name, "difference": word})
            return
        seconds = args.seconds / (len(gpu_cases.CROSSOVER) if case.name == "crossover" else 1)
        times = interleave({name: c.timed for name, c in ready.items()}, seconds=seconds)
        each = gpu_floor.operations(setup.params, case.active)
        floor = gpu_floor.floor_of(case.pixels, case.rounds, 2 * case.pixels, each, self.rates)
        base = None
        for name, t in times.items():
            per_image = t.median / ready[name].images
            base = base or per_image
            on_device = ready[name].where.startswith("device")
            self.rows.append(
                {
                    "case": case.name,
                    "title": case.title,
                    "candidate": name,
                    "where": ready[name].where,
                    "elements": case.pixels,
                    "images": ready[name].images,
                    "median_ms": t.median * 1e3,
                    "iqr_ms": t.iqr * 1e3,
                    "samples": t.samples,
                    "gpx_per_s": case.pixels / case.images / per_image / 1e9,
                    "ratio": per_image / base,
                    "floor_bytes_ms": floor.bytes * 1e3 if on_device else None,
                    "floor_arithmetic_ms": floor.arithmetic * 1e3 if on_device else None,
                    "share": floor.seconds / t.median if on_device else None,
                    "difference": words[name],
                }
            )
        del setup, ready
        torch.cuda.empty_cache()

    def encoder(self, *, compiled: bool = False) -> None:
        """Compare, then time, SAM's encoders."""
        torch, args = self.torch, self.args
        architecture, batch = ("vit_b", 8) if self.gpu else ("small", 2)
        say(f"encoder {architecture}, batches of {batch}")
        stream = torch.cuda.Stream() if self.gpu else None
        clock = EventClock(torch, stream) if self.gpu else host_clock
        try:
            found = gpu_encoder.candidates(
                torch,
                "cuda" if self.gpu else "cpu",
                architecture,
                batch,
                clock,
                stream,
                compiled,
            )
        except Exception as error:
            self.note("encoder: TorchSam", error)
            return
        true, words = None, {}
        for name, candidate in found.items():
            try:
                with time_limit(args.compile_limit if name.endswith("compiled") else None):
                    embedding = candidate.embed()
                true = embedding if true is None else true
                words[name] = f"{gpu_encoder.error_of(true, embedding):.4f}"
            except Exception as error:
                self.note(f"encoder: {name}", error)
        times = {}
        if self.gpu:
            timed = {name: found[name].timed for name in words}
            times = interleave(timed, seconds=args.seconds, sample=0.1)
        for name, word in words.items():
            if compiled and not name.endswith("compiled"):
                continue  # it is in the table already
            row = {"case": "encoder", "candidate": name, "batch": batch, "difference": word}
            if name in times:
                t = times[name]
                row |= {
                    "median_ms": t.median * 1e3,
                    "iqr_ms": t.iqr * 1e3,
                    "samples": t.samples,
                    "images_per_s": batch / t.median,
                }
            self.rows.append(row)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--footprint",
        choices=("square", "disk"),
        default="square",
        help="of the bilateral filter: 48 taps, the default, or OpenCV's 28",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        help="for a case's candidates together (5 turns at least)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        default=float("inf"),
        help="begin no case after so long; what is left out is noted",
    )
    parser.add_argument(
        "--compile-limit",
        type=float,
        metavar="SECONDS",
        default=240.0,
        help="for torch.compile, each time; what is not made by then is noted",
    )
    parser.add_argument("--no-peers", action="store_true", help="this package alone")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="round, local and encoder also by torch.compile, last of all (minutes each; off with --quick)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        help="of candidates on the CPU",
    )
    parser.add_argument("--quick", action="store_true", help="3 seconds a case, no torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the tables into this Markdown file, between its marks",
    )
    parser.add_argument(
        "--write-targets",
        type=Path,
        metavar="FILE",
        help="put the table of targets alone into this one",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="without a GPU: tiny images, this package in Numba's simulator, answers only",
    )
    args = parser.parse_args(arguments)
    if args.quick:
        args.seconds = min(args.seconds, 3.0)
    if args.compile is None:
        args.compile = not args.quick
    if args.dry_run and (args.write or args.write_targets):
        parser.error("--write: a dry run has no figures to write")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code: 1 where an answer was wrong, 2 where nothing could be measured."""
    args = parse(arguments)
    if args.dry_run:
        # Before anything imports Numba.
        os.environ |= {"NUMBA_ENABLE_CUDASIM": "1", "SDIE_FAST_CUDA_SIMULATOR": "1"}
    try:
        import torch
    except ImportError:
        say("torch is missing: pip install torch")
        return 2
    rates = None
    if not args.dry_run:
        if not torch.cuda.is_available():
            say("torch sees no GPU (nvidia-smi tells whether the driver does); --dry-run compares answers without one")
            return 2
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        from sdie_fast._bench import gpu_rates

        say("rates of this GPU")
        rates = gpu_rates.measure()
    bench = Bench(args, torch, rates)
    for case in gpu_cases.CASES:
        if case.name in args.case and not bench.late(case.name):
            bench.enhancement(case.tiny() if args.dry_run else case)
    if "crossover" in args.case and not bench.late("crossover"):
        for case in gpu_cases.CROSSOVER[:1] if args.dry_run else gpu_cases.CROSSOVER:
            bench.enhancement(case.tiny() if args.dry_run else case)
    if "encoder" in args.case and not bench.late("encoder"):
        bench.encoder()
    given = sys.argv[1:] if arguments is None else arguments
    finish(bench, given)
    if args.compile and not args.dry_run:
        # The tables are there by now, should a compiler hang.
        for case in gpu_cases.CASES:
            name = f"{case.name}: torch.compile"
            if case.name in {"round", "local"} & set(args.case) and not bench.late(name):
                bench.enhancement(case, compiled=True)
        if "encoder" in args.case and not bench.late("encoder: torch.compile"):
            bench.encoder(compiled=True)
        finish(bench, given)
    if args.dry_run:
        for row in bench.rows:
            print(f"{row['case']:9} {row['candidate']:28} {row['difference']}")
    else:
        print(gpu_report.markdown(bench.report(given)))
    return 1 if bench.failed else 0


def finish(bench: Bench, given: list[str]) -> None:
    """Write what there is to the files asked for."""
    args, report = bench.args, bench.report(given)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.write:
        gpu_report.write_section(args.write, gpu_report.markdown(report))
    if args.write_targets:
        gpu_report.write_section(args.write_targets, gpu_report.summary(report))


if __name__ == "__main__":
    np.seterr(all="ignore")  # peers divide by what they like
    sys.exit(main())
