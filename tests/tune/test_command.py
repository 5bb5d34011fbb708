"""`sdie-fast tune` as it is typed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sdie_fast
from sdie_fast import cli


def test_help_fits_a_screen():
    told = CliRunner().invoke(cli.app, ["tune", "--help"]).stdout
    assert len(told.splitlines()) <= 45
    assert "Example: `sdie-fast tune" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["none"], "none: no such folder"),
        ([".", "--recipe", "none"], "cannot be read"),
        ([".", "--host", "256.0.0.1", "--port", "0"], "cannot listen at 256.0.0.1:0: "),
        ([".", "--white-level", "0"], "--white-level"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli.app, ["tune", *options, "--no-browser"])
    assert told.exit_code == 2
    assert words in told.output


def test_it_serves_until_it_is_interrupted(folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(sdie_fast.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "sdie_fast.cli", "tune", str(folder), "--no-browser", "--port", "0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as running:
        try:
            said = running.stdout.readline()
            url = re.match(r"(http://127\.0\.0\.1:\d+/) shows .*steel; Ctrl\+C ends it", said)[1]
            with urllib.request.urlopen(f"{url}api/state") as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"{url}api/thumb?name=colour.png") as answer:
                assert answer.headers["Content-Type"] == "image/jpeg"
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0
            assert running.stdout.read() == "ended\n"
            assert running.stderr.read() == ""
        finally:
            running.kill()
