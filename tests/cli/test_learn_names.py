"""What a run says where it is used with another segmenter than it was trained with."""

from __future__ import annotations

import pytest

from sdie_fast._cli import learn_commands


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ISNet bfloat16, torch", "ISNet"),
        ("SAM small fp32", "SAM small"),
        ("SAM vit_b float32, torch", "SAM vit_b"),
        ("SAM vit_b int8", "SAM vit_b"),
    ],
)
def test_precision_and_runtime_are_no_part_of_a_model(name, model):
    assert learn_commands._model_of(name) == model


def test_another_segmenter_is_told_of(tmp_path, capsys):
    pytest.importorskip("cma")
    from sdie_fast.learn.config import Config
    from sdie_fast.learn.runs import save_config

    class Model:
        name = "SAM small fp32"

    save_config(tmp_path / "run", Config(), "data", "ISNet bfloat16, torch")
    learn_commands.warn_of_another(tmp_path / "run", Model())
    told = capsys.readouterr().err
    assert "trained with the segmenter ISNet bfloat16, torch, and is used with SAM small fp32: see --segmenter" in told
    Model.name = "ISNet"
    learn_commands.warn_of_another(tmp_path / "run", Model())
    learn_commands.warn_of_another(tmp_path, Model())  # a bare recipe's folder
    assert not capsys.readouterr().err
