"""What a user sees: narrow terminals, none at all, no colours, --quiet, completion, wrong words."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

import sdie_fast
from sdie_fast._cli import common, line_run
from sdie_fast.batch.summary import Summary, digits, duration
from sdie_fast.data import synthetic

MAIN = "import sys; sys.argv[0] = 'sdie-fast'; from sdie_fast.cli import main; main()"
ROOT = str(Path(sdie_fast.__file__).parents[1])
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*[34][0-9][0-9;]*m")


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for k in range(4):
        Image.fromarray(synthetic.surface("scratch", seed=k, size=(32, 32)).image).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def terminal(tmp_path):
    """Run the command on a terminal of so many columns; returns what came, as it came, and the exit code."""
    pty, termios, fcntl, struct = (pytest.importorskip(n) for n in ("pty", "termios", "fcntl", "struct"))

    def run(columns, *arguments, **environment):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
        child = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, arguments)],
            stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path,
            env={**inherited, "TERM": "xterm-256color", "PYTHONPATH": ROOT, **environment},
        )  # fmt: skip
        os.close(slave)
        came = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            came += part
        os.close(master)
        return came.decode(), child.wait()

    return run


def lines_of(text):
    """Lines as they stood on the screen, the last of those that were drawn over each other."""
    return [line.split("\r")[-1] for line in ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")]


class TestOnATerminal:
    def test_progress_fits_sixty_columns(self, terminal, photographs):
        text, code = terminal(60, "enhance", photographs, "out")
        assert code == 0
        (bar,) = {line for line in lines_of(text) if line.startswith("enhancing") and "4/4" in line}
        assert len(bar) <= 60
        assert "…" not in bar
        assert re.search(r"[\d,.]+ images/s, [\d,.]+ Mpx/s", bar)
        assert COLOURS.search(text)

    @pytest.mark.parametrize("columns", [50, 60, 80, 120])
    def test_many_words_leave_room_for_how_far_it_is(self, monkeypatch, columns):
        file = io.StringIO()
        monkeypatch.setattr(
            common, "stderr", Console(file=file, width=columns, force_terminal=True, color_system=None)
        )
        told = "return +0.100, greedy +0.200, 12.3 steps/s"
        with common.bars() as bar:
            bar.update(bar.add_task("training Steel_Am", total=5000, told=""), completed=4321, told=told)
        line = [line for line in lines_of(file.getvalue()) if "training" in line][-1].rstrip()
        assert len(line) <= columns
        assert re.search(r"4321/5000 [-\d:]+ return", line)
        assert (told in line) == (columns >= 80)

    def test_no_color(self, terminal, photographs):
        text, code = terminal(60, "enhance", photographs, "out", NO_COLOR="1")
        assert code == 0
        assert "4/4" in text
        assert not COLOURS.search(text)

    def test_errors_have_no_bar_above_them(self, terminal, tmp_path):
        (tmp_path / "empty").mkdir()
        text, code = terminal(60, "enhance", "empty", "out", NO_COLOR="1")
        assert code == 2
        assert ESCAPES.sub("", text).strip() == (
            "error: IN: no image files (.png, .jpg, .jpeg, .bmp, .tif, .tiff) under empty"
        )

    def test_quiet(self, terminal, photographs):
        assert terminal(60, "enhance", photographs, "out", "--quiet") == ("", 0)


class TestWithoutATerminal:
    def test_no_bar(self, call, photographs, tmp_path):
        done = call("enhance", photographs, tmp_path / "out")
        assert done.exit_code == 0
        assert done.stderr == ""
        assert re.fullmatch(r"4 enhanced, 0 skipped, 0 failed in .+\n", done.stdout)

    def test_a_long_run_tells_now_and_then(self, capsys, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
        with common.bars() as log:
            task = log.add_task("training", total=5000, told="")
            for step in range(100):
                now[0] += 1
                log.update(task, completed=step * 50, told=f"return {step}")
        assert capsys.readouterr().err.splitlines() == [
            "training: 1,450 of 5,000, return 29",
            "training: 2,950 of 5,000, return 59",
            "training: 4,450 of 5,000, return 89",
            "training: 4,950 of 5,000, return 99",
        ]

    def test_quiet_leaves_errors(self, call, photographs, tmp_path):
        (photographs / "broken.png").write_bytes(b"no picture")
        done = call("enhance", photographs, tmp_path / "out", "-q")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "broken.png" in done.stderr
        # And the next command of the process is not quiet.
        assert "4 enhanced" in call("enhance", photographs / "0.png", tmp_path / "out2").stdout.replace("1 e", "4 e")

    def test_quiet_leaves_results(self, call):
        done = call("doctor")
        assert "backend cpu" in done.stdout

    def test_a_fact_a_line(self, call, monkeypatch):
        monkeypatch.setenv("COLUMNS", "60")
        done = call("doctor")
        for name in ("Python  ", "platform  ", "backend cuda  "):
            (line,) = (line for line in done.stdout.splitlines() if line.startswith(name))
            assert len(line.split(maxsplit=1)) == 2
        assert "…" not in done.stdout
        assert re.search(r"^Python +\S+ \(.+\)$", done.stdout, re.M)


class TestTables:
    HEADS = ("candidate", "samples", "p50 ms", "p90", "p99", "p99.9", "Mpx/s", "ratio")
    ROWS = (("OpenCV composed", "4603", "0.666", "0.7", "1.25", "12.375", "1,234.5", "13.25x"),) * 2

    @pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_nothing_is_cut(self, columns, is_terminal):
        table = Table(box=None, pad_edge=False)
        for name in self.HEADS:
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.ROWS:
            table.add_row(*row)
        file = io.StringIO()
        common.show_whole(table, Console(file=file, width=columns, force_terminal=is_terminal, color_system=None))
        text = ESCAPES.sub("", file.getvalue())
        assert "…" not in text
        for cell in (*self.HEADS, *self.ROWS[0][1:]):
            assert cell in text.replace("\n", " ")
        if is_terminal:
            assert max(map(len, text.splitlines())) <= columns
        else:
            assert len(text.splitlines()) == 3

    @pytest.mark.parametrize("columns", [30, 60, 80])
    def test_figures_of_a_line(self, columns):
        latency = dict.fromkeys(("min", "mean", "p50", "p90", "p99", "p999", "max"), 123.0)
        counts = dict.fromkeys(("frames", "late", "shortened", "refused", "rounds"), 1234567)
        facts = {"latency_ms": latency, **counts, "frames_per_s": 4e4, "mpx_per_s": 1180.5, "load": 0.99}
        file = io.StringIO()
        Console(file=file, width=columns).print(line_run._figures("frames", facts))
        text = file.getvalue()
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= columns
        assert all(name in text for name in ("frames", "Mpx/s", "p99.9", "refused"))
        assert len(text.splitlines()) == {30: 8, 60: 4, 80: 4}[columns]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0421, "0.042 s"), (0.5, "0.5 s"), (9.94, "9.9 s"), (42.3, "42 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"),
        (7445, "2 h 4 min"), (360000, "100 h 0 min"),
    ],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_rates():
    assert [digits(v) for v in (0.0123, 0.5, 5.67, 9.96, 57.4, 12345.6)] == [
        "0.012", "0.5", "5.7", "10", "57", "12,346",
    ]  # fmt: skip
    told = str(Summary(done=3, pixels=3 * 10**6, seconds=7445, read_seconds=1))
    assert told.startswith("3 enhanced, 0 skipped, 0 failed in 2 h 4 min (0.0004 images/s, 0.0004 Mpx/s; ")


class TestHelp:
    @pytest.mark.parametrize("columns", ["60", "80"])
    def test_no_line_of_the_list_is_cut(self, call, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", columns)
        done = call("--help")
        assert done.exit_code == 0
        assert "..." not in done.stdout.partition("Commands:")[2]

    def test_version(self, call):
        assert call("--version").stdout == f"sdie-fast {sdie_fast.__version__}\n"

    @pytest.mark.parametrize(
        "words", ["enhance", "segment", "train", "evaluate", "bench", "demo", "line", "export-sam", "fetch-segmenter"]
    )
    def test_quiet_is_everywhere(self, call, words):
        assert "--quiet" in call(words, "--help").stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["enhanc"], "Did you mean 'enhance'?"),
            (["enhance", "a", "b", "--wieghts", "wls=1"], "--weights"),
            (["enhance"], "Missing argument 'IN'"),
            (["segment", "nowhere", "out"], "error: IN: nowhere does not exist\n"),
            (["segment", ".", "out", "--box", "1,2"], "error: --box"),
        ],
    )
    def test_wrong_words_are_told(self, call, arguments, words, tmp_path, monkeypatch):
        if arguments[0] == "segment":
            pytest.importorskip("onnxruntime")
        monkeypatch.chdir(tmp_path)
        done = call(*arguments)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    def test_completion(self, tmp_path):
        def complete(words, at):
            told = {"_SDIE_FAST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
            environment = {**os.environ, "PYTHONPATH": ROOT, **told}
            done = subprocess.run(
                [sys.executable, "-c", MAIN], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
            )
            return done.stdout.split()

        assert complete("sdie-fast ex", 1) == ["export-sam", "export-line"]
        assert complete("sdie-fast enhance --wei", 2) == ["--weights"]


def test_json_is_no_quieter_and_no_louder(call, photographs, tmp_path):
    done = call("enhance", photographs, tmp_path / "out", "--json", "--quiet")
    assert json.loads(done.stdout)["done"] == 4
    assert done.stderr == ""
