"""The command line, called."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from sdie_fast import cli


@pytest.fixture
def call():
    runner = CliRunner()

    def run(*arguments, **options):
        return runner.invoke(cli.app, [str(a) for a in arguments], **options)

    return run
