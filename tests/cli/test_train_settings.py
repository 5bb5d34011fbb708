"""What `train` is given: options before the file, the file before the preset, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")

from sdie_fast import FilterParams, filters
from sdie_fast.actor import Actions, Choice
from sdie_fast.cli import app
from sdie_fast.learn.config import PRESETS, Config, Job
from sdie_fast.learn.settings import read_toml, settings, to_toml

CONFIG = Config.preset(
    "published-code", seed=3, filters=("identity", "gamma", "guided"), auto={"grid": 6, "quality": 0.5},
    actions=Actions((Choice("guided_eps", 0.01, 0.1),), ("identity", "gamma", "guided")),
)  # fmt: skip
JOB = Job(data='/photos "new"/é', fold=2, segmenter="/sam", backend="tensorrt", threads=3, compare=False)


@pytest.fixture
def train(tmp_path, rng):
    """A function that runs the command on one class of four images."""
    for k in range(4):
        for kind in ("images", "masks"):
            path = tmp_path / "data" / kind / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(path)

    def run(*arguments, text=""):
        (tmp_path / "given.toml").write_text(text)
        given = [
            "train",
            tmp_path / "data",
            "--out",
            tmp_path / "run",
            "--config",
            tmp_path / "given.toml",
            *arguments,
        ]
        return CliRunner().invoke(app, [str(a) for a in given])

    return run


def test_a_file_holds_everything(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(to_toml(CONFIG, JOB, data="photos", segmenter="SAM"), encoding="utf-8")
    values = read_toml(file)
    assert values["found"] == {"data": "photos", "segmenter": "SAM"}
    for below in ({}, PRESETS["default"]):  # to which nothing is left
        config, job = settings(below, values)
        assert (config.to_dict(), job) == (CONFIG.to_dict(), JOB)


def test_each_key_stands_below_what_it_means():
    lines = to_toml(CONFIG, JOB).splitlines()
    for at, line in enumerate(lines):
        name = line.partition(" = ")[0]
        if "=" in line and not line.startswith("#") and name not in ("format", "name", "low", "high", "log"):
            assert lines[at - 1].startswith("# "), line
    assert "# Discount." in "\n".join(lines).replace("# float: ", "# ")
    assert max(map(len, lines)) <= 120


def test_what_goes_before_what():
    config, job = settings(
        PRESETS["default"],
        {"seed": 1, "shots": 2, "params": {"window": 5}, "size": 64},
        {"seed": 4, "filters": ["wls", "median"]},
    )
    assert (config.seed, config.shots, config.views, job.size) == (4, 2, 8, 64)
    assert config.params == FilterParams(window=5, wls_solver="fast")
    assert config.filters == config.actions.filters == ("wls", "median")


def test_presets():
    paper, code = Config.preset("paper"), Config.preset("published-code")
    assert (paper.rounds, paper.passes, paper.encoder, paper.reward, paper.credit) == (
        5,
        1,
        "resnet18",
        "fb-iou",
        "own",
    )
    assert paper.params == FilterParams()
    assert (code.rounds, code.anchor, code.params) == (4, None, FilterParams.published_code())
    assert Config.preset("default").filters == filters.FILTERS


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (["--shots", 9], "", "has 4 images"),
        (["--shots", 0], "", "shots: received 0; accepted: an integer from 1 to 1000000000"),
        (["--prompt", "guess"], "", "prompt: received 'guess'; accepted: 'auto'"),
        (["--preset", "best"], "", "--preset: received 'best'; accepted: 'default', 'paper', 'published-code'"),
        (["--filters", "wls,blur"], "", "filters: received the unknown filter 'blur'; accepted: identity, wls,"),
        (["--filters", "wls"], "", "filters: received 'wls' alone"),
        (["--filters", "wls,wls"], "", "filters: received 'wls' twice"),
        (["--device", "gpu"], "", "device: received 'gpu'"),
        ([], "views = 3", "views: received 3; accepted: 1, 2, 4, 8"),
        ([], 'credit = "all"', "credit: received 'all'; accepted: 'own', 'vote', 'best'"),
        ([], 'noise = "loud"', "noise: received 'loud' of type str; accepted: a number >= 0 and <= 10"),
        ([], 'seed = "none"', "seed: received None of type NoneType; accepted: an integer from 0"),
        ([], "rounds = 7", "passes: received 5; accepted: a divisor of the 7 rounds"),
        ([], "kredit = 1", "config: received the unknown key 'kredit'; accepted: data, kind, fold"),
        ([], "params = 3", "params: received 3 of type int; accepted: a dict"),
        ([], "[params]\nwls_lamda = 1", "params: received the unknown key 'wls_lamda'; accepted: window, wls_lambda"),
        ([], "[auto]\ngrid = 99", "grid: received 99; accepted: an integer from 1 to 64"),
        ([], "auto = 3", "auto: received 3 of type int; accepted: a dict"),
        ([], 'filters = "wls"', "filters: received 'wls' of type str; accepted: a sequence of names"),
        ([], "shots = ", "not TOML: Invalid value"),
        ([], 'format = "sdie_fast run 1"', "another format than 'sdie_fast run 4'"),
        (["--config", "nowhere.toml"], "", "nowhere.toml: cannot be read: No such file"),
    ],
)
def test_refused_in_a_line(train, arguments, text, told):
    found = train(*arguments, text=text)
    assert found.exit_code == 2, found.output
    assert told in found.output
    assert "\n" not in found.output.strip()


def test_data_come_from_somewhere(tmp_path):
    found = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "run")])
    assert found.exit_code == 2
    assert "DATA: received none" in found.output
