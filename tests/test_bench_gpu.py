"""The GPU benchmark's cases, floors, timing and tables, which need no GPU, and a dry run of the whole."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdie_fast
from sdie_fast import FilterParams
from sdie_fast._bench import gpu_cases, gpu_floor, gpu_timing
from sdie_fast.errors import SdieError

ROOT = Path(__file__).resolve().parents[1]
CASE = {case.name: case for case in gpu_cases.CASES}


@pytest.fixture
def report():
    pytest.importorskip("torch")
    from sdie_fast._bench import gpu_report

    return gpu_report


class Rates:
    bytes, lanes, special = 4e12, 30e12, 4e12


def row(case, candidate, median, pixels, **others):
    return {
        "case": case,
        "title": CASE[case].title,
        "candidate": candidate,
        "where": "device",
        "median_ms": median,
        "iqr_ms": 0.01,
        "gpx_per_s": pixels / median / 1e6,
        "ratio": 1.0,
        "difference": "0.50",
        **others,
    }


def test_images_differ():
    case = gpu_cases.Case("small", "", 5, 24, 40)
    images = gpu_cases.draw(case, 3)
    assert images.shape == (3, 5, 24, 40)
    assert images.dtype == np.uint8
    assert len({plane.tobytes() for plane in images.reshape(15, -1)}) == 15


def test_sets_exceed_the_cache():
    for case in gpu_cases.CASES:
        sets = gpu_cases.sets_needed(case, 50 << 20)
        assert sets >= 2
        assert sets * 2 * case.pixels >= 4 * (50 << 20)
        assert (sets - 1) * 2 * case.pixels < 4 * (50 << 20) or sets == 2


def test_weights_are_normalised():
    weights = CASE["local"].weights()
    assert weights.shape == (512, 1, 6)
    np.testing.assert_allclose(weights[0, 0], [0.25, 0, 0.25, 0.25, 0.25, 0])


@pytest.mark.parametrize("name", ["round", "exact", "single"])
def test_truth_of_both_kinds(name, compiled):
    case = CASE[name].tiny()
    images = gpu_cases.draw(case, 1)[0]
    by_reference = gpu_cases.truth(case, "disk", images)
    # The truth of a large case's images is the compiled core's: the same but for rounding.
    large = dataclasses.replace(case, height=4096)
    by_core = gpu_cases.truth(large, "disk", images)
    assert (by_core == np.rint(by_core)).all()
    assert np.abs(by_reference - by_core).max() <= gpu_cases.bound(case, rounded=False)


def test_comparison():
    a = np.zeros((2, 3), np.uint8)
    assert gpu_cases.compare("x", a, a + 1, 1.0).startswith("1.00")
    with pytest.raises(SdieError, match=r"x: differs by 2\.00 .* at most 1 expected"):
        gpu_cases.compare("x", a, a + 2, 1.0)
    with pytest.raises(SdieError, match="nan"):
        gpu_cases.compare("x", a, np.full((2, 3), np.nan), 1.0)
    with pytest.raises(SdieError, match="shape"):
        gpu_cases.compare("x", a, a[:1], 1.0)


def test_taps():
    assert gpu_floor.taps(7, "square") == 48
    assert gpu_floor.taps(7, "disk") == 28  # OpenCV's 29 with the centre


def test_operations_add_up():
    params = FilterParams(wls_solver="fast", bilateral_footprint="disk")
    every = gpu_floor.operations(params, (True,) * 6)
    single = [gpu_floor.operations(params, tuple(i == k for i in range(6))) for k in range(6)]
    none = gpu_floor.operations(params, (False,) * 6)
    assert every.lanes == pytest.approx(sum(s.lanes - none.lanes for s in single) + none.lanes)
    assert every.special == pytest.approx(sum(s.special for s in single))
    assert single[2].special == 15  # 28 weights, two pixels each, and a reciprocal
    exact = gpu_floor.operations(FilterParams(), (False, True, False, False, False, False))
    assert exact.lanes > single[1].lanes


def test_floor():
    each = gpu_floor.Operations(60.0, 4.0)
    floor = gpu_floor.floor_of(1000, 5, 8000, each, Rates)
    assert floor.bytes == pytest.approx(8000 / 4e12)
    assert floor.lanes == pytest.approx(5 * 1000 * 60 / 30e12)
    assert floor.special == pytest.approx(5 * 1000 * 4 / 4e12)
    assert floor.arithmetic == floor.lanes
    assert floor.seconds == floor.lanes


def test_turns_and_inputs():
    seen = {"a": [], "b": []}
    order = []

    def clock(enqueue, first, calls):
        for k in range(first, first + calls):
            enqueue(k)
        return 0.004 if calls == 1 else 0.005

    def call(name):
        def enqueue(k):
            seen[name].append(k)
            order.append(name)

        return gpu_timing.Timed(enqueue, clock)

    times = gpu_timing.interleave({"a": call("a"), "b": call("b")}, seconds=0, least=4, sample=0.02)
    for name, timing in times.items():
        assert timing.samples == 4
        assert timing.median == 0.005
        # Warm-up, a trial, and 4 samples of 20 ms: every call has the next input.
        assert seen[name] == list(range(2 + 1 + 4 * 5))
    turns = [order[6 + 10 * t :][:10] for t in range(4)]
    assert all(t in (["a"] * 5 + ["b"] * 5, ["b"] * 5 + ["a"] * 5) for t in turns)


def test_host_clock():
    calls = []
    assert gpu_timing.host_clock(calls.append, 3, 2) >= 0
    assert calls == [3, 4]


def test_figures(report):
    batch, large = CASE["round"].pixels, CASE["square"].pixels
    rows = [
        row("round", "sdie_fast", 2.0, batch),
        row("round", "sdie_fast, replayed", 1.6, batch, where="device, graph replays"),
        row("round", "sdie_fast, NumPy", 1.0, batch, where="host to host"),
        row("round", "sdie_fast, CPU core", 0.5, batch, where="CPU"),
        row("round", "torch composed", 32.0, batch),
        row("square", "sdie_fast", 1.6, large),
        row("single", "sdie_fast", 0.4, 40000),
        {"case": "encoder", "candidate": "segment-anything, bfloat16", "images_per_s": 500.0},
        {"case": "encoder", "candidate": "TorchSam, bfloat16", "images_per_s": 250.0},
    ]
    found = report.figures(rows)
    assert found["round"] == pytest.approx(batch / 1.6e6)  # from device to device only
    assert found["round-ratio"] == pytest.approx(20.0)
    assert found["square"] == pytest.approx(large / batch)
    assert found["single"] == 0.4
    assert found["encoder"] == 250.0
    assert "local" not in found
    table = report.targets_table(rows).splitlines()
    assert sum(line.endswith("| met |") for line in table) == 5
    assert sum(report.NOT_MEASURED in line for line in table) == 3
    rows[0]["median_ms"] = rows[1]["median_ms"] = 4.0
    assert "| 8.00x | missed |" in report.targets_table(rows)


def test_crossover(report):
    def pair(elements, gpu, cpu):
        return [
            {"case": "crossover", "elements": elements, "where": where, "median_ms": ms}
            for where, ms in (("host to host", gpu), ("CPU", cpu))
        ]

    rows = [*pair(100, 0.1, 0.2), *pair(200, 0.5, 0.4), *pair(400, 0.6, 0.8), *pair(800, 0.7, 1.6)]
    assert report.crossover(rows) == 400  # 100 was luck: 200 was not faster
    assert report.crossover(rows[:4]) is None
    assert report.crossover([]) is None


def test_section(report, tmp_path):
    batch = CASE["round"].pixels
    found = {
        "date": "2026-01-02",
        "command": "python bench/bench_cuda.py",
        "machine": {
            "gpu": "Some GPU",
            "multiprocessors": 132,
            "l2_megabytes": 50.0,
            "driver": "580",
            "versions": {"torch": "2", "cupy-cuda13x": ""},
        },
        "rates": {"bytes": 4e12, "lanes": 30e12, "special": 4e12},
        "rows": [
            row("round", "sdie_fast", 2.0, batch, floor_bytes_ms=0.01, floor_arithmetic_ms=0.2, share=0.1),
            row("round", "sdie_fast, CPU core", 900.0, batch, where="CPU"),
        ],
        "notes": ["round: CuPy composed: ModuleNotFoundError: No module named 'cupy'"],
    }  # fmt: skip
    path = tmp_path / "RESULTS.md"
    path.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\n## After\n")
    report.write_section(path, report.markdown(found))
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\n\n## After\n")
    assert "old" not in text
    for words in (
        "2026-01-02, Some GPU, 132",
        "torch 2.",
        "4.00 TB/s",
        "| 10% |",
        "No module named",
    ):
        assert words in text
    assert "cupy-cuda13x" not in text
    assert "Measured 2026-01-02 on Some GPU" in report.summary(found)
    report.write_section(path, report.markdown(None))
    assert "Some GPU" not in path.read_text()
    path.write_text("no marks")
    with pytest.raises(SdieError, match="gpu tables"):
        report.write_section(path, "x")
    assert path.read_text() == "no marks"


def test_results_name_their_gpu(report):
    # Either nothing was measured, said plainly, or the tables say on what.
    for path, nothing, named in (
        ("bench/RESULTS.md", report.markdown(None), "multiprocessors"),
        ("docs/gpu.md", report.summary(None), "Measured 20"),
    ):
        text = (ROOT / path).read_text()
        section = text.split(report.BEGIN)[1].split(report.END)[0].strip()
        assert section == nothing or named in section


def bench(*arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(Path(sdie_fast.__file__).parents[1]), **environment}
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "bench_cuda.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


def test_dry_run(tmp_path, compiled):
    pytest.importorskip("torch")
    pytest.importorskip("numba_cuda")
    path = tmp_path / "report.json"
    done = bench("--dry-run", "--case", "round", "exact", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["machine"] is None
    got = {(r["case"], r["candidate"]) for r in found["rows"]}
    for case in ("round", "exact"):
        assert {(case, "sdie_fast"), (case, "sdie_fast, CPU core"), (case, "torch composed")} <= got
    assert ("round", "CuPy composed") in got
    assert not any("median_ms" in r for r in found["rows"])


def test_a_dry_run_writes_no_tables(tmp_path):
    done = bench("--dry-run", "--write", str(tmp_path / "RESULTS.md"))
    assert done.returncode == 2
    assert "no figures to write" in done.stderr


def test_no_gpu(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench("--quick")
    assert done.returncode == 2
    assert "sees no GPU" in done.stderr
