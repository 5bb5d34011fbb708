"""The page of `sdie-fast bench`, its tables, and the command itself."""

from __future__ import annotations

import json
import re
import sys

import pytest
from typer.testing import CliRunner

from sdie_fast import cli
from sdie_fast._bench import compare, latency, page
from sdie_fast._bench.setting import Setting


@pytest.fixture(scope="module")
def report(compiled):
    settings = [Setting((side, side), threads, 2) for side in (32, 48) for threads in (1, 2)]
    cases = ["round", "wls", "guided", "batch", "shares"]
    found = latency.measure(settings, cases=cases, peers=False, cold=False, repeats=7, seconds=0.5)
    where = {key: found["rows"][0][key] for key in compare.KEYS[:-1]}
    return found | {"first_calls": [{**where, "import_ms": 200.0, "process_ms": 12.0, "size_ms": 2.0}]}


@pytest.fixture
def call():
    def run(*arguments, **options):
        return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)], **options)

    return run


def test_cells_of_a_row():
    row = {
        "candidate": "OpenCV", "version": "uint8", "samples": 4603, "median_ms": 1.0, "iqr_ms": 0.25, "p90_ms": 2.0,
        "p99_ms": 3.0, "p99.9_ms": None, "mpx_per_s": 40.0, "ratio": 2.5,
    }  # fmt: skip
    expected = ("OpenCV, uint8", "4,603", "1.000", "0.250", "2.000", "3.000", "-", "40.0", "2.50x")
    assert page.cells(row) == expected
    assert len(page.HEADS) == len(expected)
    assert "p50 7, p90 44, p99 459, p99.9 4,603" in page.note()


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({}, "200x200, 1 thread"),
        ({"threads": 2, "batch": 64}, "200x200, 2 threads, 64 images"),
        ({"rounds": 5, "backend": "cuda"}, "200x200, 1 thread, 5 rounds, cuda"),
    ],
)
def test_where_a_row_was_measured(others, words):
    assert page.setting_words(Setting((200, 200), 1, 1, 1).facts() | others) == words


def test_page_holds_everything_and_fetches_nothing(report, tmp_path):
    pytest.importorskip("matplotlib")
    verdicts, _ = compare.compare(report, report)
    page.write_report(tmp_path / "page.html", report, verdicts)
    text = (tmp_path / "page.html").read_text()
    for words in (
        "How long calls take", "By image size", "By threads", "What each filter costs the round", "Roofline",
        "All figures", "Ours, cold and warm", "Against the older run", "no difference told", report["date"],
    ):  # fmt: skip
        assert words in text, words
    assert text.count("data:image/svg+xml;base64,") >= 6
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|<script|@import""", text)


def test_page_of_one_case_without_peaks(report, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [row for row in report["rows"] if (row["case"], row["size"], row["threads"]) == ("guided", "32x32", 1)]
    bare = report | {
        "rows": rows, "first_calls": [], "missing": ["guided, X: not measured: <gone>"],
        "rates": {"1": {"bytes": 1e9, "multiply_adds": None}}, "noise": report["noise"] | {"warnings": ["<loud>"]},
    }  # fmt: skip
    page.write_report(tmp_path / "page.html", bare)
    text = (tmp_path / "page.html").read_text()
    assert "By threads" not in text
    assert "The peak was not measured" in text
    assert "&lt;gone&gt;" in text
    assert "&lt;loud&gt;" in text


# ---- the command ---------------------------------------------------------------------------------------


def quick(*arguments):
    return ["--size", 32, "--case", "guided", "--repeats", 7, "--no-cold", "--no-peers", *arguments]


def test_command(call, compiled):
    done = call(*quick("--json"))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["candidate"] == "sdie_fast"
    told = call(*quick()).stdout
    assert "guided, 32x32, 1 thread" in told
    assert "p99.9" in told
    assert call("--size", "2").exit_code == 2


def test_sweep(call, compiled):
    done = call("--case", "gamma", "--repeats", 7, "--no-cold", "--no-peers", "--json",
                "--sweep", "size=32,48", "--sweep", "threads=1,2")  # fmt: skip
    assert [(r["size"], r["threads"]) for r in json.loads(done.stdout)["rows"]] == [
        ("32x32", 1), ("32x32", 2), ("48x48", 1), ("48x48", 2),
    ]  # fmt: skip
    assert "accepted without --sweep size" in call("--size", "32", "--sweep", "size=48").stderr
    assert "accepted is KEY=VALUE" in call("--sweep", "colour=red").stderr


def test_candidate(call, compiled, tmp_path, monkeypatch):
    (tmp_path / "mine_of_the_command.py").write_text("def smooth(g):\n    return g\n")
    monkeypatch.chdir(tmp_path)
    done = call(*quick("--candidate", "mine_of_the_command:smooth"))
    assert done.exit_code == 0, done.output
    assert "mine_of_the_command:smooth differs by" in done.stdout
    assert "told, not judged" in done.stdout
    done = call(*quick("--candidate", "mine_of_the_command:none"))
    assert done.exit_code == 2
    assert "mine_of_the_command:none" in done.stderr
    assert "accepted with one --case" in call("--candidate", "mine_of_the_command:smooth").stderr


def test_comparison(call, compiled, tmp_path):
    old = tmp_path / "old.json"
    report = json.loads(call(*quick("--json")).stdout)
    for factor, code in ((1e-3, 1), (1e3, 0)):
        changed = json.loads(json.dumps(report))
        for row in changed["rows"]:
            row["samples_ms"] = [factor * ms for ms in row["samples_ms"]]
        old.write_text(json.dumps(changed))
        done = call(*quick("--compare", old))
        assert done.exit_code == code, done.output
        assert ("slower" if code else "faster") in done.stdout
    old.write_text(json.dumps(report | {"machine": report["machine"] | {"processor": "another"}}))
    done = call(*quick("--compare", old, "--json"))
    assert done.exit_code == 2
    assert "processor was another" in done.stderr
    assert json.loads(done.stdout)["comparison"]["verdicts"] == []
    assert "accepted is what" in call("--compare", tmp_path / "none.json").stderr


def test_report_that_cannot_be_written(call, compiled, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    done = call(*quick("--report", tmp_path / "file" / "page.html"))
    assert done.exit_code == 2
    assert "--report: " in done.stderr
    assert call(*quick("--report", tmp_path / "page.html")).exit_code == 0
    assert "Roofline" in (tmp_path / "page.html").read_text()


def test_report_without_matplotlib(call, compiled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call(*quick("--report", tmp_path / "page.html"))
    assert done.exit_code == 2
    assert 'matplotlib is missing: pip install "sdie-fast[bench]"' in done.stderr
