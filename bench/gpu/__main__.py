"""The fused round on a GPU beside what is composed today, in one run.

    python bench/gpu                              # everything, some five minutes
    python bench/gpu --quick --case round single  # two cases, short, nothing compiled by torch
    python bench/gpu --write bench/RESULTS.md --write-targets docs/gpu.md   # and put the tables there
    python bench/gpu --dry-run                    # no GPU: tiny images, answers only, no times
    tools/ptx_emulator/run python bench/gpu --dry-run   # the same on the emulated driver, sooner

Needs `pip install ".[gpu,bench]" torch` and, for the encoder, segment-anything.

How it is measured
    Candidates of a case take turns in shuffled order. A sample is a run of calls, 20 ms at least, between two CUDA events
    on one stream, or by the host's clock where the result ends on the host; the median over the samples is quoted.
    Each call reads another set of images; together the sets exceed the L2 cache four times. (The replayed graphs of
    "single" go round 16 sets, which L2 holds; the first row of that case does not.)
    Answers are compared first: two images of each candidate with the float64 reference (from 256 x 256 pixels on with the
    CPU core). What differs by more than its definition explains is reported and not timed, and the exit code is 1.
    TF32 is off: the composed round keeps float32's digits, as ours does.
    Candidates on the CPU compute 32 images of a batch; ratios are per image.
    Floors: bytes of input and output, and hand-counted operations, over rates measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from clock import Runner, runs
from report import BEGIN, END, markdown
from workloads import CROSSOVER, WORKLOADS, Workload, sets_needed

from sdie_fast import SdieError
from sdie_fast._bench.machine import installed, machine
from sdie_fast._bench.sections import write_section
from sdie_fast._bench.timing import interleave

if TYPE_CHECKING:
    from floor import Floor, Peak

# In the order in which they are measured, the shortest first.
CASES = ("single", "local", "round", "line", "square", "exact", "crossover", "encoder")
COMPILED = ("round", "local", "encoder")  # also by torch.compile
PACKAGES = ("torch", "triton", "numba", "numba-cuda", "numpy")


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def gpu_machine(torch: Any, threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    device = torch.cuda.get_device_properties(0)
    driver = ""
    with contextlib.suppress(OSError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "GPU": device.name,
        "multiprocessors": device.multi_processor_count,
        "L2 bytes": getattr(device, "L2_cache_size", 50 << 20),
        "driver": driver,
        **machine(threads),
        **{name: installed(name) for name in PACKAGES},
        "CUDA of torch": torch.version.cuda,
    }


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError where the body takes longer; 0: no limit. Compilers of torch's can take very long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not made in {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Bench:
    """A run: its options, its rows, and what was left out and why."""

    def __init__(self, args: argparse.Namespace, torch: Any) -> None:
        self.args, self.torch, self.gpu = args, torch, not args.dry_run
        self.runner = Runner(torch, "cuda" if self.gpu else "cpu")
        self.machine: dict[str, Any] = gpu_machine(torch, args.threads) if self.gpu else {}
        self.peak: Peak | None = None
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.failed = False
        self._begin = time.monotonic()
        if self.gpu:
            import floor

            say("rates of this GPU")
            self.peak = floor.measure(self.runner)

    def note(self, case: str, name: str, error: Exception) -> None:
        """Keep why a candidate is missing; a missing package is no failure, nor is a peer that breaks."""
        reason = f"{case}: {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.notes.append(reason)
        say(f"  {reason}")
        ours = name.startswith(("sdie_fast", "TorchSam"))
        if isinstance(error, SdieError) or (ours and not isinstance(error, ImportError)):
            self.failed = True

    def all(self, *, compiled: bool) -> None:
        """Measure the cases asked for; compiled: what torch.compile makes of them, where it is worth while."""
        for case in CASES:  # what was found is written after each, should the run be cut short
            if case not in self.args.case or (compiled and case not in COMPILED):
                continue
            label = f"{case}: torch.compile" if compiled else case
            works = [work for work in (*WORKLOADS, *CROSSOVER) if work.name == case]
            if time.monotonic() - self._begin > self.args.budget:
                self.notes.append(f"{label}: the run's {self.args.budget:.0f} s were over")
            elif case == "encoder":
                try:
                    from sam import Encoders

                    self.measure(Encoders(self.runner), self.args.seconds, compiled)
                except Exception as error:
                    self.note(case, "TorchSam", error)
            else:
                for work in works if self.gpu else [works[0].tiny()]:
                    self.enhancement(work, self.args.seconds / len(works), compiled)
            self.write()

    def enhancement(self, work: Workload, seconds: float, compiled: bool) -> None:
        """Measure one workload."""
        from candidates import Setup

        sets = sets_needed(work, self.machine["L2 bytes"]) if self.gpu else 2
        setup = Setup(work, self.args.footprint, self.runner, sets, self.args.threads, not self.args.no_peers)
        least = None
        if self.peak is not None:
            import floor

            least = floor.floor_of(work.pixels, work.rounds, setup.params, work.filters, self.peak)
        self.measure(setup, seconds, compiled, least)

    def measure(self, job: Any, seconds: float, compiled: bool, floor: Floor | None = None) -> None:
        """Make the candidates of a job, compare their answers and time them."""
        case = job.about["case"]
        say(job.about["title"])
        ready, words = {}, {}
        for name, make in job.makers(compiled=compiled).items():
            try:
                with time_limit(self.args.compile_limit if name.endswith("compiled") else 0):
                    candidate = make()
                    answer = job.answer(candidate)
                if len(answer) != candidate.images:
                    raise SdieError(f"{name}: gives {len(answer)} images; {candidate.images} expected")
                words[name] = job.judge(name, candidate, answer)
                ready[name] = candidate
            except Exception as error:  # a peer's library may raise anything
                self.note(case, name, error)
        if not self.gpu:
            self.rows += [{"case": case, "candidate": name, "difference": word} for name, word in words.items()]
            return
        samples = {name: runs(self.runner, candidate, job.sample) for name, candidate in ready.items()}
        base = None
        for name, t in interleave(samples, 100, least=5, warmup=1, budget=seconds).items():
            candidate = ready[name]
            an_image = t.median / candidate.images
            base = base or an_image
            self.rows.append(
                {
                    **job.about,
                    "candidate": name,
                    "includes": candidate.includes,
                    "images": candidate.images,
                    "median_ms": t.median * 1e3,
                    "iqr_ms": t.iqr * 1e3,
                    "samples": t.samples,
                    "rate": job.units / an_image,
                    "ratio": an_image / base,
                    "floor_ms": [s * 1e3 for s in floor] if floor and candidate.on_device else None,
                    "difference": words[name],
                }
            )
        del job, ready, samples
        self.torch.cuda.empty_cache()

    def write(self) -> dict[str, Any]:
        """Put together what was found so far, and write it to the files asked for; returns it."""
        args = self.args
        report = {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python bench/gpu", *args.given]),
            "dry_run": args.dry_run,
            "machine": self.machine,
            "rates": self.peak and self.peak._asdict(),
            "rows": self.rows,
            "notes": self.notes,
        }
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
        if args.write:
            write_section(args.write, BEGIN, END, markdown(report))
        if args.write_targets:
            write_section(args.write_targets, BEGIN, END, markdown(report, targets=True))
        return report


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    titles = {work.name: work.title for work in WORKLOADS} | {
        "crossover": "from which size on an image on the host is enhanced sooner by the GPU than by the CPU's cores",
        "encoder": "SAM ViT-B's encoder in bfloat16, batches of 8, random weights",
    }
    parser = argparse.ArgumentParser(
        prog="python bench/gpu",
        description=__doc__,
        epilog="cases:\n" + "\n".join(f"  {name:9}  {title}" for name, title in titles.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--case", nargs="+", choices=CASES, default=list(CASES))
    footprint = "of the bilateral filter: 48 taps, the default, or OpenCV's 28"
    add("--footprint", choices=("square", "disk"), default="square", help=footprint)
    add("--seconds", type=float, default=15.0, help="for a case's candidates together (5 turns at least)")
    budget = "begin no case after so long; what is left out is noted"
    add("--budget", type=float, metavar="SECONDS", default=float("inf"), help=budget)
    limit = "for torch.compile of a candidate (round, local and encoder have one, made last of all); 0: none"
    add("--compile-limit", type=float, metavar="SECONDS", default=240.0, help=limit)
    add("--no-peers", action="store_true", help="this package alone")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add("--threads", type=int, default=cores, help="of candidates on the CPU")
    add("--quick", action="store_true", help="3 seconds a case, no torch.compile")
    add("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    add("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file, between its marks")
    add("--write-targets", type=Path, metavar="FILE", help="put the table of targets alone into this one")
    dry = "without a GPU: tiny images, this package in Numba's simulator or on the emulated driver, answers only"
    add("--dry-run", action="store_true", help=dry)
    args = parser.parse_args(arguments)
    args.given = arguments
    if args.quick:
        args.seconds, args.compile_limit = min(args.seconds, 3.0), 0.0
    if args.dry_run and (args.write or args.write_targets):
        parser.error("--write: a dry run has no figures to write")
    return args


def main(given: list[str]) -> int:
    """Run; returns the exit code: 1 where an answer was wrong, 2 where nothing could be measured."""
    args = parse(given)
    if args.dry_run and "EMULATOR_CACHE" not in os.environ:
        # Before anything imports Numba.
        os.environ |= {"NUMBA_ENABLE_CUDASIM": "1", "SDIE_FAST_CUDA_SIMULATOR": "1"}
    try:
        import torch
    except ImportError:
        say("torch is missing: pip install torch")
        return 2
    if not args.dry_run:
        if not torch.cuda.is_available():
            say("torch sees no GPU (nvidia-smi tells whether the driver does); --dry-run compares answers without one")
            return 2
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    np.seterr(all="ignore")  # peers divide by what they like
    bench = Bench(args, torch)
    bench.all(compiled=False)
    if args.compile_limit > 0 and not args.dry_run:
        bench.all(compiled=True)
    report = bench.write()
    if args.dry_run:
        for row in bench.rows:
            print(f"{row['case']:9} {row['candidate']:28} {row['difference']}")
    else:
        print(markdown(report))
    return int(bench.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
