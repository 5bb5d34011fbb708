"""What many images take: python bench/scale.py --images 600

Three parts, each a part of what is printed:

- measured here: `sdie-fast enhance` of a folder as it is, with --dask local:1 and local:2, and through an S3 server of
  this machine (moto; what that server can do, not what a bucket can); images/s from the first image to the last. What a
  task of Dask costs beside its work; bytes of an image in and out.
- arithmetic: ten million and a billion images by the rates measured here: core hours, cores to be done in a day, bytes,
  shards, tasks, and money at a stated price.
- a simulation of the same with a scheduler, storage of some bandwidth, and workers that die: how far arithmetic holds.

The simulation assumes: the scheduler hands out tasks one after another, ahead of the workers, so that they wait for it only
where it cannot keep up; then a task waits for its bytes, which storage moves for one task at a time at its full bandwidth;
then a core is busy with it, and no two steps of a task overlap. Tasks take times that differ by a tenth. Workers die at
random; the task of one that dies is done from the start by whichever is free next, and the worker is back after half a
minute. Neither the scheduler nor storage fails. What would be more than 400,000 tasks is played smaller by a whole factor:
that many times fewer workers, a scheduler and storage that many times slower.

Needs `pip install "sdie-fast[dask,urls]" "moto[s3]" flask flask-cors`.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdie_fast._bench.machine import machine
from sdie_fast.batch import cluster
from sdie_fast.data import synthetic
from sdie_fast.files import open_store

SIZES = {"200x200": (200, 200), "1920x1080": (1080, 1920)}
GOALS = (10_000_000, 1_000_000_000)
SHARD = 1e9  # bytes
PLAYED = 400_000  # tasks
ENV = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
}


# ---- measured ----------------------------------------------------------------------------------------


def make(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write a folder of surfaces."""
    folder.mkdir(parents=True)
    for k in range(count):
        image = synthetic.surface(synthetic.KINDS[k % len(synthetic.KINDS)], seed=k, size=size).image
        Image.fromarray(image).save(folder / f"{k:06}.png", compress_level=1)


def enhance(source: object, target: object, *options: object, **environment: str) -> dict[str, Any]:
    """Run the command; what it says, and the seconds with its start."""
    begin = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-m", "sdie_fast.cli", "enhance", *map(str, (source, target, *options)), "--json"],
        check=True, stdout=subprocess.PIPE, env={**os.environ, **environment}, cwd=tempfile.gettempdir(),
    ).stdout  # fmt: skip
    return json.loads(told) | {"wall_seconds": time.perf_counter() - begin}


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 server of a process of its own that has a folder's files as s3://photos/in; the environment to reach it."""
    code = (
        "import sys, time; from moto.server import ThreadedMotoServer\n"
        "s = ThreadedMotoServer(port=0, verbose=False); s.start()\n"
        "print('http://%s:%d' % s.get_host_and_port(), flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stdin=pipe, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            there = {**ENV, "AWS_ENDPOINT_URL": server.stdout.readline().decode().strip()}
            os.environ.update(there)
            import boto3

            boto3.client("s3").create_bucket(Bucket="photos")
            store, source = open_store("s3://photos/in"), open_store(folder)
            for entry in source.walk():
                store.write(entry.name, [source.read(entry.name)])
            yield there
        finally:
            server.kill()


def per_task(count: int) -> float:
    """Seconds that Dask takes for a task that does nothing, one process working."""
    with cluster.connected("local:1") as client:
        client.gather(client.map(abs, range(10), pure=False))
        begin = time.perf_counter()
        client.gather(client.map(abs, range(count), pure=False))
        return (time.perf_counter() - begin) / count


def size_of(folder: object) -> float:
    """Mean bytes of an image."""
    return float(np.mean([entry.size for entry in open_store(str(folder)).walk() if entry.name.endswith(".png")]))


def measure(counts: dict[str, int], options: list[str], s3_count: int) -> dict[str, Any]:
    """Run every candidate once on every set."""
    found: dict[str, Any] = {"overhead_per_task_s": per_task(500), "sets": {}}
    with tempfile.TemporaryDirectory() as place:
        for name, count in counts.items():
            source = Path(place) / name / "in"
            make(source, count, SIZES[name])
            rows = {}
            for label, more in {
                "1 thread": ["--threads", 1],
                "2 threads": ["--threads", 2],
                "local:1": ["--dask", "local:1"],
                "local:2": ["--dask", "local:2"],
            }.items():
                rows[label] = enhance(source, source.parent / label, *options, *more)
            one = rows["1 thread"]
            found["sets"][name] = {
                "images": count,
                "megapixels": math.prod(SIZES[name]) / 1e6,
                "bytes_in": size_of(source),
                "bytes_out": size_of(source.parent / "1 thread"),
                "core_seconds": (one["read_seconds"] + one["enhance_seconds"] + one["write_seconds"]) / count,
                "runs": rows,
            }
        few = Path(place) / "few"
        make(few, s3_count, SIZES["200x200"])
        with bucket(few) as there:
            runs = {
                "2 threads": enhance("s3://photos/in", "s3://photos/a", *options, "--threads", 2, **there),
                "local:2": enhance("s3://photos/in", "s3://photos/b", *options, "--dask", "local:2", **there),
            }
            found["s3"] = {"images": s3_count, "bytes_out": size_of("s3://photos/a"), "runs": runs}
    return found


# ---- arithmetic --------------------------------------------------------------------------------------


def arithmetic(
    images: int, core_seconds: float, bytes_in: float, bytes_out: float, hours: float, price: float
) -> dict[str, float]:
    """Work out what images take.

    Parameters
    ----------
    images : int
        How many.
    core_seconds : float
        Of one core for one image: decoding, enhancing, encoding.
    bytes_in, bytes_out : float
        Of one image's files.
    hours : float
        In which all are to be done.
    price : float
        Of an hour of one core.
    """
    total = images * core_seconds / 3600
    cores = math.ceil(total / hours)
    per = max(1, min(cluster._MOST, int(max(cluster._SECONDS, cluster._EACH * cores) / core_seconds)))
    return {
        "images": images,
        "core_hours": total,
        "cores": cores,
        "hours": hours,
        "terabytes_in": images * bytes_in / 1e12,
        "terabytes_out": images * bytes_out / 1e12,
        "gigabits_per_second": images * (bytes_in + bytes_out) * 8 / (hours * 3600) / 1e9,
        "requests_per_second": 2 * images / (hours * 3600),  # one to read, one to write; of shards, next to none
        "shards": math.ceil(images * bytes_in / SHARD),
        "images_per_task": per,
        "tasks": math.ceil(images / per),
        "price_per_million": total * price / images * 1e6,
        "price": total * price,
    }


# ---- simulation --------------------------------------------------------------------------------------


def simulate(
    plan: dict[str, float],
    core_seconds: float,
    bytes_each: float,
    *,
    overhead: float,
    bandwidth: float,
    life: float,
    back: float = 30.0,
    spread: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Play what `arithmetic` planned, event by event.

    Parameters
    ----------
    plan : dict
        What `arithmetic` answered.
    core_seconds, bytes_each : float
        Of an image.
    overhead : float
        Seconds of the scheduler for a task.
    bandwidth : float
        Bytes a second of storage, all workers together.
    life : float
        Hours after which a worker dies, in the mean.
    back : float
        Seconds until a worker that died is there again.
    spread : float
        Standard deviation of a task's time, relative.
    seed : int
        Of chance.
    """
    rng = random.Random(seed)
    smaller = math.ceil(plan["tasks"] / PLAYED)
    overhead, bandwidth = overhead * smaller, bandwidth / smaller
    size, tasks = plan["images_per_task"], math.ceil(plan["tasks"] / smaller)
    workers = max(1, min(round(plan["cores"] / smaller), tasks))
    deaths = [rng.expovariate(1 / (life * 3600)) for _ in range(workers)]
    events = [(0.0, worker) for worker in range(workers)]  # when each is free
    scheduler = storage = end = lost = 0.0
    died, left = 0, tasks
    while left:
        now, worker = heapq.heappop(events)
        left -= 1
        scheduler += overhead
        storage = max(now, scheduler, storage) + size * bytes_each / bandwidth
        ready = storage + size * core_seconds * max(0.0, rng.gauss(1, spread))
        if deaths[worker] < ready:
            start = max(now, deaths[worker])
            died += 1
            lost += start - now
            left += 1
            ready = start + back
            deaths[worker] = ready + rng.expovariate(1 / (life * 3600))
        else:
            end = max(end, ready)
        heapq.heappush(events, (ready, worker))
    return {
        "hours": end / 3600,
        "efficiency": tasks * size * core_seconds / (workers * end),
        "smaller": smaller,
        "workers": workers * smaller,
        "workers_died": died * smaller,
        "hours_lost": lost * smaller / 3600,
        "scheduler_busy": tasks * overhead / end,
        "storage_busy": tasks * size * bytes_each / bandwidth / end,
        "bandwidth_gigabits": bandwidth * smaller * 8 / 1e9,
        "life_hours": life,
    }


# ---- all of it ---------------------------------------------------------------------------------------


def project(found: dict[str, Any], hours: float, price: float, headroom: float, life: float) -> list[dict[str, Any]]:
    """Reckon and simulate every goal for every size."""
    rows = []
    for name, those in found["sets"].items():
        for goal in GOALS:
            seconds, moved = those["core_seconds"], those["bytes_in"] + those["bytes_out"]
            plan = arithmetic(goal, seconds, those["bytes_in"], those["bytes_out"], hours, price)
            bandwidth = headroom * plan["gigabits_per_second"] * 1e9 / 8
            played = simulate(
                plan, seconds, moved, overhead=found["overhead_per_task_s"], bandwidth=bandwidth, life=life
            )
            rows.append({"size": name, **plan, "simulated": played})
    return rows


def main() -> None:
    """Measure, reckon and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="of 200 x 200; of 1920 x 1080, a thirtieth")
    parser.add_argument("--hours", type=float, default=24.0, help="in which all is to be done")
    parser.add_argument("--price", type=float, default=0.04, help="of an hour of one core, in your money")
    parser.add_argument("--headroom", type=float, default=3.0, help="storage's bandwidth over what is needed at least")
    parser.add_argument("--life", type=float, default=48.0, help="hours after which a worker dies, in the mean")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("options", nargs="*", help="of enhance, after --; none: the recipe that ships")
    args = parser.parse_args()
    counts = {"200x200": args.images, "1920x1080": max(4, args.images // 30)}
    found = measure(counts, args.options, max(10, args.images // 4))
    rows = project(found, args.hours, args.price, args.headroom, args.life)
    facts = {k: v for k, v in machine(os.cpu_count() or 1).items() if v}
    if args.json:
        print(json.dumps({"machine": facts, "measured": found, "projected": rows}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for name, those in {**found["sets"], "200x200 through S3": found["s3"]}.items():
        print(f"\n{those['images']} images of {name}", end="")
        if "core_seconds" in those:
            moved = f"{those['bytes_in'] / 1e3:.1f} kB in, {those['bytes_out'] / 1e3:.1f} kB out"
            print(f": {1e3 * those['core_seconds']:.2f} ms of a core, {moved}", end="")
        print()
        for label, run in those["runs"].items():
            rate = run["images_per_second"]
            print(
                f"    {label:10} {rate:9.1f} images/s {run['seconds']:7.2f} s, {run['wall_seconds']:7.2f} with its start"
            )
    print(f"\na task costs {1e3 * found['overhead_per_task_s']:.2f} ms beside its work")
    print(f"\nto be done in {args.hours:g} hours, at {args.price:g} for an hour of a core:")
    for row in rows:
        played = row["simulated"]
        print(
            f"{row['images']:>13,} of {row['size']:9}: {row['core_hours']:,.0f} core hours, {row['cores']:,} cores;"
            f" {row['terabytes_in']:,.1f} TB in, {row['terabytes_out']:,.1f} TB out, {row['gigabits_per_second']:,.1f}"
            f" Gbit/s; {row['shards']:,} shards, or {row['requests_per_second']:,.0f} requests/s;"
            f" {row['price_per_million']:,.2f} a million, {row['price']:,.0f} in all"
        )
        print(
            f"    simulated: {played['hours']:.1f} hours, {played['efficiency']:.1%} of the cores' time used; "
            f"{row['tasks']:,} tasks of {row['images_per_task']}; the scheduler is busy {played['scheduler_busy']:.1%},"
            f" storage of {played['bandwidth_gigabits']:,.0f} Gbit/s {played['storage_busy']:.0%};"
            f" {played['workers_died']:,} workers died, with them {played['hours_lost']:.1f} hours of work"
        )


if __name__ == "__main__":
    main()
