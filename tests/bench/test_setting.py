from __future__ import annotations

import pytest

from sdie_fast._bench.setting import Setting, parse_size, parse_sweeps, product
from sdie_fast.errors import SdieError


@pytest.mark.parametrize(("text", "size"), [("200", (200, 200)), ("64x96", (64, 96)), ("1024X16384", (1024, 16384))])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "axb", "1x2x3", "-200"])
def test_bad_sizes(text):
    with pytest.raises(SdieError, match="--size"):
        parse_size(text)


def test_sweeps_are_multiplied():
    swept = parse_sweeps(["size=200,64x96", "threads=1,2", "backend=cpu"])
    settings = product({"size": [(1, 1)], "rounds": [3]} | swept)
    assert settings == [Setting(size, threads, rounds=3) for size in ((200, 200), (64, 96)) for threads in (1, 2)]
    assert parse_sweeps(["batch=4,4,8"]) == {"batch": [4, 8]}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["sizes=1"], r"'sizes=1'; accepted is KEY=VALUE,\.\.\. with KEY of size, threads"),
        (["threads"], "accepted is KEY=VALUE"),
        (["threads="], "accepted is KEY=VALUE"),
        (["threads=1", "threads=2"], "threads was given twice"),
        (["threads=0"], r"--sweep threads: received 0; accepted: an integer from 1 to 1024"),
        (["rounds=two"], "--sweep rounds: .*two"),
        (["size=3"], "--size: '3'"),
    ],
)
def test_bad_sweeps(texts, words):
    with pytest.raises(SdieError, match=words):
        parse_sweeps(texts)


def test_what_matters_to_a_case():
    point = Setting((200, 200), 2, 8, 3)
    assert point.of("round") == Setting((200, 200), 2, 1, 1)
    assert point.of("rounds") == Setting((200, 200), 2, 1, 3)
    assert point.of("batch") == Setting((200, 200), 2, 8, 1)
    assert [Setting((side, side)).of("batch").batch for side in (64, 200, 1024, 4096)] == [64, 64, 2, 2]
    assert point.of("batch").facts() == {"size": "200x200", "threads": 2, "batch": 8, "rounds": 1, "backend": "cpu"}
