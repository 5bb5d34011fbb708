"""tools/reproduce.py: its tables' settings, the commands it gives, and the Markdown it makes of what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reproduce

from sdie_fast import Recipe
from sdie_fast.learn.config import PRESETS
from sdie_fast.learn.settings import read_toml, settings


@pytest.mark.parametrize("name", reproduce.TABLES)
def test_settings_are_those_of_a_run(name, tmp_path):
    table = reproduce.TABLES[name]
    (tmp_path / "a.toml").write_text(table.settings)
    config, job = settings(PRESETS["default"], read_toml(tmp_path / "a.toml"))
    assert config.params.wls_solver == "fast"
    assert job.backend == ("torch" if table.fetched and table.budgets else "auto")
    assert config.auto == ({} if table.fetched else {"grid": 6})  # a map model has no grid


def test_a_table_is_made_by_commands(monkeypatch, tmp_path, capsys):
    """Every run of every number of shots and seed, then one evaluation of all of them, with one memory."""
    given = []
    row = {"MIoU": {"mean": 12.34, "deviation": 1.2}, "oracle MIoU": {"mean": 20.0, "deviation": -1.0}}
    found = {"classes": {"a": row}, "by shots": {"1 shot": {"main": {"SDIE": row}, "rules": {"last": row}}}}

    def call(*words):
        given.append([str(word) for word in words])
        return json.dumps(found)

    monkeypatch.setattr(reproduce, "call", call)
    monkeypatch.setattr("sys.argv", ["reproduce.py", "isnet", "data", "--segmenter", "net", "--out", str(tmp_path)])
    reproduce.main()
    *trained, judged = given
    runs = [f"{tmp_path}/isnet/{shots}-{seed}" for shots in (1, 5) for seed in (0, 1, 2)]
    assert [words[words.index("--out") + 1] for words in trained] == runs
    assert [words[words.index("--budget") + 1] for words in trained] == ["90"] * 3 + ["450"] * 3
    assert [judged[k + 1] for k, word in enumerate(judged) if word == "--recipe"] == runs
    memory = judged[judged.index("--memory") + 1]
    assert f"memory = {json.dumps(memory)}" in (tmp_path / "isnet" / "settings.toml").read_text()
    text = (tmp_path / "isnet" / "isnet.md").read_text()
    assert "| a | 12.3 ± 1.2 | 20.0 |" in text
    assert "## 1 shot" in text
    assert text in capsys.readouterr().out


def test_one_number_of_shots(monkeypatch, tmp_path, capsys):
    given = []
    monkeypatch.setattr(reproduce, "call", lambda *words: given.append(words) or "{}")
    monkeypatch.setattr(reproduce, "tables_of", lambda found: "")
    words = ["reproduce.py", "small-sam", "data", "--shots", "5", "--seeds", "0", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    reproduce.main()
    assert [word for word, *_ in given] == ["train", "evaluate"]
    assert given[0][given[0].index("--shots") + 1] == 5
    monkeypatch.setattr("sys.argv", ["reproduce.py", "small-sam-td3", "data", "--shots", "1"])
    with pytest.raises(SystemExit):
        reproduce.main()
    assert "--shots: small-sam-td3 has 5" in capsys.readouterr().err


def test_filters_are_judged_one_by_one_and_in_pairs(monkeypatch, tmp_path):
    """Nothing is trained: each chain of filters is a recipe, judged by its last picture."""
    judged = []

    def call(command, data, _, recipe, *words):
        assert (command, data) == ("evaluate", Path("data"))
        assert {"--no-baselines", "--segmenter", "--limit"} <= set(words)
        assert "--out" not in words
        made = Recipe.load(recipe)
        assert made.params.sharpen_amount == 2.0
        judged.append([made.filters[k] for k in made.weights.argmax(1)])
        figures = {"segmenter alone": {"mean": 1.0, "deviation": -1.0}, "SDIE": {"mean": 7.0, "deviation": -1.0}}
        return json.dumps({"classes": {"a": figures, "MIoU": figures}})

    monkeypatch.setattr(reproduce, "call", call)
    words = ["reproduce.py", "isnet-filters", "data", "--segmenter", "net", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    reproduce.main()
    assert len(judged) == 5 + 25
    assert {("wls",), ("wls", "wls"), ("bilateral", "spatiogram")} < set(map(tuple, judged))
    text = (tmp_path / "isnet-filters" / "isnet-filters.md").read_text()
    assert "| filters | a | MIoU |" in text
    assert text.count("| segmenter alone | 1.0 | 1.0 |") == 1
    assert text.count("| 7.0 | 7.0 |") == 30


def test_a_fetched_segmenter_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["reproduce.py", "isnet", "data"])
    with pytest.raises(SystemExit):
        reproduce.main()
    assert "sdie-fast fetch-segmenter isnet DIR" in capsys.readouterr().err


def test_a_figure_that_is_not_defined_is_a_dash():
    assert reproduce.cell({"mean": None, "deviation": None}) == "-"
    assert reproduce.cell({"mean": 20.72, "deviation": 2.93}) == "20.7 ± 2.9"
    assert reproduce.cell({"mean": 20.72, "deviation": -1.0}) == "20.7"
