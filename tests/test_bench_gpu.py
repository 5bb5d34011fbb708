"""The GPU benchmark's workloads, floors, timing and tables, which need no GPU, and a dry run of the whole."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import clock
import numpy as np
import pytest
import report
import workloads

import sdie_fast
from sdie_fast import FilterParams
from sdie_fast._bench import timing
from sdie_fast._bench.sections import write_section
from sdie_fast.errors import SdieError

ROOT = Path(__file__).resolve().parents[1]
WORK = {work.name: work for work in workloads.WORKLOADS}


def row(case, candidate, median, **others):
    work = WORK.get(case)
    return {
        "case": case,
        "title": work.title if work else case,
        "candidate": candidate,
        "includes": "device",
        "median_ms": median,
        "iqr_ms": 0.01,
        "rate": work.pixels / median / 1e6 if work else 8e3 / median,
        "unit": "Gpx/s",
        "ratio": 1.0,
        "floor_ms": None,
        "difference": "0.50",
        **others,
    }


def test_images_differ():
    work = workloads.Workload("small", "", 5, 24, 40)
    images = workloads.draw(work, 3)
    assert images.shape == (3, 5, 24, 40)
    assert images.dtype == np.uint8
    assert len({plane.tobytes() for plane in images.reshape(15, -1)}) == 15


@pytest.mark.parametrize("name", WORK)
def test_sets_exceed_the_cache(name):
    each = 2 * WORK[name].pixels
    sets = workloads.sets_needed(WORK[name], 50 << 20)
    assert sets * each >= 4 * (50 << 20)
    assert (sets - 1) * each < 4 * (50 << 20) or sets == 2


def test_weights_are_normalised():
    np.testing.assert_array_equal(WORK["local"].weights, np.full((512, 1, 4), 0.25))


@pytest.mark.parametrize("name", ["round", "exact", "single"])
def test_truth_of_both_kinds(name, compiled):
    work = WORK[name].tiny()
    images = workloads.draw(work, 1)[0]
    # The truth of a large workload's images is the compiled core's.
    by_core = workloads.truth(dataclasses.replace(work, height=4096), "disk", images)
    by_reference = workloads.truth(work, "disk", images)
    assert (by_core != by_reference).any()
    np.testing.assert_allclose(by_core, by_reference, rtol=0, atol=work.rounds / 510)


def judge(answer, same=True):
    """What a setup says to an answer whose truth is 100 everywhere."""
    candidates = pytest.importorskip("candidates")
    work = workloads.Workload("small", "", 3, 4, 6, rounds=2)
    setup = types.SimpleNamespace(work=work, truth=np.full((2, 4, 6), 100 / 255, np.float32))
    return candidates.Setup.judge(setup, "x", clock.Method(None, len(answer), same=same), answer)


def test_judgement():
    answer = np.full((3, 4, 6), 101, np.uint8)
    answer[1] = 0  # the first and the last count
    assert judge(answer).startswith("1.0 (mean 1.00) of 255")
    with pytest.raises(SdieError, match=r"small: x differs by 2\.00 .*1\.5.* expected"):
        judge(answer + np.uint8(1))
    answer[2] = 0
    assert judge(answer[:1]).startswith("1.0")  # a part of the batch: its first alone
    with pytest.raises(SdieError, match="differs by 100"):
        judge(answer)
    assert judge(answer, same=False).endswith("of 255: other definitions")
    with pytest.raises(SdieError, match="differs by 100"):
        judge(answer * np.uint8(0), same=False)
    for wrong in (answer[:, :3], answer.astype(np.float32)):
        with pytest.raises(SdieError, match="small: x "):
            judge(wrong)


def test_floor():
    floor = pytest.importorskip("floor")
    rates = floor.Peak(bytes=4e12, lanes=30e12, special=4e12)
    params = FilterParams(wls_solver="fast", bilateral_footprint="disk")
    found = floor.floor_of(1000, 5, params, ("sharpen",), rates)
    assert found.bytes == pytest.approx(2000 / 4e12)
    # A 7 x 7 Gaussian both ways by 7 operations each, 3 to sharpen, 10 to load, mix and store.
    assert found.arithmetic == pytest.approx(5 * 1000 * 27 / 30e12)
    both = floor.floor_of(1000, 5, params, ("sharpen", "bilateral"), rates)
    assert both.arithmetic == pytest.approx(5 * 1000 * max((27 + 28 * 3.5 + 2) / 30e12, 15 / 4e12))
    slow = rates._replace(special=1e10)
    assert floor.floor_of(1000, 1, params, ("bilateral",), slow).arithmetic == pytest.approx(1000 * 15 / 1e10)


def test_runs_take_the_next_set_each_time(monkeypatch):
    seen = {"a": [], "b": []}
    device = clock.Runner(None, "cpu")
    candidates = {name: clock.Method(seen[name].append, 1) for name in seen}
    # Each call takes 4 ms by a clock that only calls move.
    monkeypatch.setattr(clock.time, "perf_counter", lambda: 0.004 * sum(map(len, seen.values())))
    samples = {name: clock.runs(device, c) for name, c in candidates.items()}
    times = timing.interleave(samples, 4, warmup=1)
    for name, t in times.items():
        assert (t.samples, t.median) == (4, pytest.approx(0.004))
        # Two to compile, one to find out, then runs of 20 ms: one for warming up, four that count.
        assert seen[name] == list(range(2 + 1 + 5 * 5))


def test_targets():
    batch, large = WORK["round"].pixels, WORK["square"].pixels
    rows = [
        row("round", "sdie_fast", 2.0),
        row("round", "sdie_fast, replayed", 1.6, includes="device, graph replays"),
        row("round", "sdie_fast, NumPy", 1.0, includes="host to host"),
        row("round", "sdie_fast, CPU core", 0.5, includes="CPU"),
        row("round", "torch composed", 32.0),
        row("square", "sdie_fast", 1.6),
        row("single", "sdie_fast", 0.4),
        row("encoder", "segment-anything, bfloat16", 10.0),
        row("encoder", "TorchSam, bfloat16", 32.0),
    ]
    table = report.targets_table(rows)
    for measured in (
        f"| {batch / 1.6e6:.2f} Gpx/s | met |",  # from device to device only
        "| 20.00x | met |",
        f"| {large / batch:.2f}x | met |",
        "| 0.400 ms | met |",
        "| 250 images/s | met |",
    ):
        assert measured in table
    assert table.count("| met |") == 5
    assert table.count("| not measured | |") == 3
    rows[0]["rate"] = rows[1]["rate"] = batch / 4e6
    assert "| 8.00x | missed |" in report.targets_table(rows)
    assert "| 1.500 ms | missed |" in report.targets_table([row("single", "sdie_fast", 1.5)])


def test_crossover():
    rows = [
        {"case": "crossover", "elements": elements, "includes": includes, "median_ms": ms}
        for elements, gpu, cpu in ((100, 0.1, 0.2), (200, 0.5, 0.4), (400, 0.6, 0.8), (800, 0.7, 1.6))
        for includes, ms in (("host to host", gpu), ("CPU", cpu))
    ]
    assert report.crossover(rows) == 400  # 100 was luck: 200 was not faster
    assert report.crossover(rows[:4]) is None
    assert report.crossover([]) is None


def test_section(tmp_path):
    found = {
        "date": "2026-01-02",
        "command": "python bench/gpu",
        "machine": {"GPU": "Some GPU", "multiprocessors": 132, "torch": "2", "pyamg": None},
        "rates": {"bytes": 4e12, "lanes": 30e12, "special": 4e12},
        "rows": [
            row("round", "sdie_fast", 2.0, floor_ms=(0.01, 0.2)),
            row("round", "sdie_fast, CPU core", 900.0, includes="CPU"),
        ],
        "notes": ["round: OpenCV composed: ImportError: No module named 'cv2'"],
    }
    path = tmp_path / "RESULTS.md"
    path.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\n## After\n")
    write_section(path, report.BEGIN, report.END, report.markdown(found))
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\n\n## After\n")
    assert "old" not in text
    for words in (
        "2026-01-02, GPU Some GPU, multiprocessors 132, torch 2.",
        "4.00 TB/s",
        "| 10% |",
        "No module named",
    ):
        assert words in text
    assert "pyamg" not in text
    assert report.markdown(found, targets=True).startswith("Measured 2026-01-02 on Some GPU.")
    write_section(path, report.BEGIN, report.END, report.markdown(None))
    assert "Some GPU" not in path.read_text()
    path.write_text("no marks")
    with pytest.raises(SdieError, match="gpu tables"):
        write_section(path, report.BEGIN, report.END, "x")
    assert path.read_text() == "no marks"


@pytest.mark.parametrize(
    ("path", "targets", "named"),
    [("bench/RESULTS.md", False, "multiprocessors"), ("docs/gpu.md", True, "Measured 20")],
)
def test_results_name_their_gpu(path, targets, named):
    # Either nothing was measured, said plainly, or the tables say on what.
    section = (ROOT / path).read_text().split(report.BEGIN)[1].split(report.END)[0].strip()
    assert section == report.markdown(None, targets=targets) or named in section


@pytest.fixture(scope="module")
def program():
    """The program itself, as a module."""
    spec = importlib.util.spec_from_file_location("bench_gpu", ROOT / "bench" / "gpu" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "cases", [["local"], pytest.param(["round", "exact"], marks=pytest.mark.simulator)], ids="-".join
)
def test_dry_run(tmp_path, compiled, cases):
    pytest.importorskip("torch")
    pytest.importorskip("numba_cuda")
    path = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "gpu"), "--dry-run", "--json", str(path), "--case", *cases],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(sdie_fast.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["dry_run"]
    for case in cases:
        got = [r["candidate"] for r in found["rows"] if r["case"] == case]
        assert got[:3] == ["sdie_fast", "sdie_fast, CPU core", "torch composed"]
    assert not any("median_ms" in r for r in found["rows"])


def test_every_workload_has_its_turn(program):
    assert sorted(program.CASES) == sorted([*WORK, "crossover", "encoder"])


def test_what_was_found_is_written_after_each_case(program, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    bench = program.Bench(program.parse(["--dry-run", "--json", str(path), "--case", "single", "round"]), None)
    seen = []

    def enhancement(work, seconds, compiled):
        seen.append([row["case"] for row in json.loads(path.read_text())["rows"]] if path.exists() else None)
        bench.rows.append({"case": work.name})

    monkeypatch.setattr(bench, "enhancement", enhancement)
    bench.all(compiled=False)
    assert seen == [None, ["single"]]
    assert [row["case"] for row in json.loads(path.read_text())["rows"]] == ["single", "round"]


def test_a_dry_run_writes_no_tables(program, tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["--dry-run", "--write", str(tmp_path / "RESULTS.md")])
    assert "no figures to write" in capsys.readouterr().err


def test_no_gpu(program, monkeypatch, capsys):
    monkeypatch.setattr(pytest.importorskip("torch").cuda, "is_available", lambda: False)
    assert program.main(["--quick"]) == 2
    assert "sees no GPU" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert program.main([]) == 2
    assert "torch is missing" in capsys.readouterr().err


class Job:
    """Its only candidate is right where it gives 1."""

    def __init__(self, name, call):
        self.about = {"case": "round", "title": ""}
        self.makers = lambda *, compiled: {name: lambda: clock.Method(call, 1)}

    def answer(self, candidate):
        return candidate.call(0)

    def judge(self, name, candidate, answer):
        if answer != [1]:
            raise SdieError(f"{name}: {answer}")
        return "right"


@pytest.mark.parametrize(
    ("name", "call", "failed", "words"),
    [
        ("sdie_fast", lambda _: [1], False, None),
        ("torch composed", lambda _: [2], True, "round: torch composed: SdieError: torch composed: [2]"),
        ("torch composed", lambda _: [1, 1], True, "torch composed: gives 2 images; 1 expected"),
        ("torch composed", lambda _: 1 / 0, False, "ZeroDivisionError"),
        ("sdie_fast", lambda _: 1 / 0, True, "ZeroDivisionError"),
        ("OpenCV composed", lambda _: importlib.import_module("nothing_such"), False, "No module named"),
    ],
    ids=["right", "wrong", "too many", "a peer breaks", "ours breaks", "a peer is missing"],
)
def test_what_fails_a_run(program, name, call, failed, words):
    bench = program.Bench(program.parse(["--dry-run"]), None)
    bench.measure(Job(name, call), 1.0, compiled=False)
    assert bench.failed == failed
    assert [r["difference"] for r in bench.rows] == ([] if words else ["right"])
    assert words is None or words in bench.notes[0]
