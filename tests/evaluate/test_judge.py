"""Judging runs: a small real one on blobs, with a segmenter that can be told by hand; and the commands, with the one that ships."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")
pytest.importorskip("cma")

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError
from sdie_fast.actor import Actor, observe, weights_of
from sdie_fast.cli import app
from sdie_fast.data.shots import Split
from sdie_fast.errors import DataSetError
from sdie_fast.evaluate.judge import ALONE, FIXED, SDIE, evaluate_run, evaluate_segmenter, ways_of
from sdie_fast.evaluate.metrics import Meter
from sdie_fast.evaluate.report import Report, write_report
from sdie_fast.evaluate.tables import Spread, by_shots, class_table, gain, main_table, rule_table, spread
from sdie_fast.learn.cases import cases_of
from sdie_fast.learn.env import SdieEnv, follow
from sdie_fast.learn.forest import TREES
from sdie_fast.learn.runs import episode_options, open_run
from sdie_fast.learn.select import RULES
from sdie_fast.learn.verifier import SHIPPED, Verifier

AUTO = {"grid": 1, "largest": 1.0}
TOOLKIT = ("identity", "median", "sharpen", "wls")  # of the run


@pytest.fixture(scope="module")
def result(data, run, blobs):
    return evaluate_run(blobs.Threshold(), data, run)


def test_shots_are_not_judged(result, run):
    split = json.loads((run / "split.json").read_text())
    shown = {n for names in split["support"].values() for n in names}
    assert len(result.cases) == 6
    assert not shown & {c.name for c in result.cases}


def test_the_verifier_that_ships_has_a_say(run):
    shipped, own = Verifier.load(SHIPPED).forest, Verifier.load(run / "verifier.npz").forest
    assert len(own.roots) == TREES + len(shipped.roots)


def test_everything_is_compared(result):
    assert set(result.scores) == {
        ALONE, SDIE, "SDIE, schedule", "SDIE, fixed", "uniform", "random", "half identity", "one filter a round",
        "one filter a pass", *TOOLKIT[1:], "CMA-ES, constant", "CMA-ES, schedule",
    }  # fmt: skip
    assert set(result.scores[SDIE]) == {*RULES, FIXED}
    assert len({id(s) for s in result.scores[ALONE].values()}) == 1
    for name in (SDIE, "random", "median"):
        assert result.scores[name]["oracle"].images == dict.fromkeys(result.scores[ALONE]["last"].images, 3)
    assert (result.filters, result.weights.shape) == (TOOLKIT, (4, 4))


def test_a_schedule_of_all_passes_acts_in_all(run, data, blobs, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    found = json.loads((run / "searched.json").read_text())
    whole = [[*row] for row in np.linspace(-1, 1, 16).reshape(4, 4)]
    (other / "searched.json").write_text(json.dumps({**found, "all": whole}))
    config, _, _, recipe = open_run(other)
    cases = list(cases_of(data, config.prompt, None))
    env = SdieEnv(blobs.Threshold(), cases, options=config.auto, **episode_options(config))
    ways = ways_of(other, recipe, env, config, baselines=True)
    assert ways["all"][0] is env
    np.testing.assert_allclose(follow(*ways["all"], [0])[0].actions, whole, rtol=1e-6)
    assert ways["CMA-ES, schedule"][0].passes == 1


def test_the_headline_is_the_rule_of_the_shots(result, run):
    assert result.rule == json.loads((run / "result.json").read_text())["rule"]
    assert result.fixed == dict.fromkeys(result.headline().iou, result.rule)
    assert result.headline() is result.scores[SDIE][FIXED]
    assert result.headline() == result.scores[SDIE][result.rule]


def test_a_policy_for_each_class(data, run, blobs, tmp_path):
    """Each class is judged with its own run, rule and policy: the same figures as that run's alone."""
    split = Split.load(run / "split.json")
    for label, rule in zip(data.classes, ("verifier", "last"), strict=True):
        shutil.copytree(run, tmp_path / label)
        dataclasses.replace(split, support={label: split.support[label]}, query={label: split.query[label]}).save(
            tmp_path / label / "split.json"
        )
        told = json.loads((run / "result.json").read_text())
        (tmp_path / label / "result.json").write_text(json.dumps({**told, "rule": rule}))
    shutil.rmtree(tmp_path / "b" / "policy")
    sdie.Recipe([{"sharpen": 1}] * 4, passes=2).save(tmp_path / "b" / "policy")
    whole = evaluate_run(blobs.Threshold(), data, tmp_path, baselines=False)
    assert whole.fixed == {"a": "verifier", "b": "last"}
    assert whole.rule == "a: verifier, b: last"
    assert whole.facts["policies"] == "2, one for each class"
    for label in data.classes:
        part = evaluate_run(blobs.Threshold(), data, tmp_path / label, baselines=False)
        assert whole.fixed[label] == part.rule
        for name in whole.scores:
            assert whole.scores[name][FIXED].iou[label] == part.scores[name][FIXED].iou[label]
    assert {whole.cases[r.case].label for r in whole.rollouts} == set(data.classes)


def test_figures_are_those_of_the_masks(result, run, data, blobs):
    """The last round of SDIE's second and last pass, by hand: enhance, segment, sum up."""
    _, query = Split.load(run / "split.json").parts(data)
    segmenter, recipe = blobs.Threshold(), sdie.Recipe.load(run / "policy")
    actor = Actor(recipe.actor, "policy")
    meter, alone = Meter(query.classes), Meter(query.classes)
    for case in cases_of(query, "auto"):
        state = case.image[None] / np.float32(255)
        for at in (2, 3):
            action = actor(observe(state, recipe.actor.side), at)
            state = sdie.enhance(state, weights_of(action)[:, None], params=recipe.params, filters=TOOLKIT)
        enhanced = np.floor(255 * state[0] + 0.5).astype(np.uint8)
        meter.add(case.label, segmenter(enhanced, **AUTO)[0], case.truth)
        alone.add(case.label, segmenter(case.image, **AUTO)[0], case.truth)
    assert result.scores[SDIE]["last"].miou == pytest.approx(meter.scores().miou, abs=0.02)
    assert result.scores[ALONE]["last"].miou == pytest.approx(alone.scores().miou, abs=1e-9)


@pytest.mark.parametrize("prompt", ["auto", "support", "box", "point"])
def test_a_segmenter_alone(data, blobs, tmp_path, prompt):
    told, report = [], Report()
    options = AUTO if prompt == "auto" else None
    found = evaluate_segmenter(blobs.Threshold(), data, prompt, options=options, watch=told.append)
    assert (found.split is None) == (prompt != "support")
    assert len(told) == len(found.images) == (6 if prompt == "support" else 8)
    meter = Meter()
    for judged, row in zip(told, found.images, strict=True):
        assert row["iou"] == judged.iou == meter.add(judged.case.label, judged.mask, judged.case.truth)
        assert (row["name"], row["class"]) == (judged.case.name, judged.case.label)
        report.add(judged)
    assert found.scores == meter.scores()
    report.write(tmp_path / "page.html", "A < B", {"prompt": prompt}, found)
    text = (tmp_path / "page.html").read_text()
    assert "A &lt; B" in text
    assert text.count("data:image/jpeg") == len(told)
    with pytest.raises(InvalidArgumentError, match="prompt: received 'guess'"):
        evaluate_segmenter(blobs.Threshold(), data, "guess")


def test_tables(result):
    rows = main_table([result, result])
    assert [r.name for r in rows][:2] == [ALONE, SDIE]
    assert rows[1].figures["MIoU"] == Spread(pytest.approx(100 * result.headline().miou), 0.0)
    classes = class_table([result])
    assert [r.name for r in classes] == [*result.headline().iou, "MIoU", "FB-IoU"]
    assert classes[-2].figures[SDIE] == Spread(pytest.approx(100 * result.headline().miou), -1.0)
    assert next(r.name for r in rule_table([result])) == "oracle"
    assert gain([result]).mean == pytest.approx(100 * (result.headline().miou - result.headline(ALONE).miou))


def test_groups_by_shots(result):
    five = dataclasses.replace(result, facts={**result.facts, "shots": 5})
    groups = by_shots([result, five, result])
    assert {name: len(runs) for name, runs in groups.items()} == {"1 shot": 2, "5 shots": 1}
    assert set(class_table([result, five])[0].figures) == {
        ALONE, "SDIE, 1 shot", "oracle, 1 shot", "SDIE, 5 shots", "oracle, 5 shots",
    }  # fmt: skip


def test_report_of_two_groups(result, tmp_path):
    five = dataclasses.replace(result, facts={**result.facts, "shots": 5})
    write_report(tmp_path / "page.html", "A < B", [result, five])
    text = (tmp_path / "page.html").read_text()
    for told in ("A &lt; B", "Against what it must beat, 1 shot", "Which mask is final, 5 shots"):
        assert told in text


def test_spread():
    assert str(spread([0.2, 0.4])) == "30.0 ± 14.1"
    assert str(spread([0.25])) == "25.0"
    assert str(spread([float("nan")])) == "-"


def test_report_of_one_run(result, run, tmp_path):
    write_report(tmp_path / "page.html", "blobs", [result], [(run / "curve.png").read_bytes()])
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/png") == 3
    assert text.count("data:image/jpeg") == len(result.rollouts) == 6
    assert "http" not in text
    for name in result.scores:
        assert f"<td>{name}</td>" in text


def test_bare_recipes_and_other_images(data, run, blobs, tmp_path):
    found = evaluate_run(blobs.Threshold(), data, run / "policy", prompt="box", baselines=False)
    assert (found.rule, found.facts["prompt"], len(found.cases)) == ("last", "box", 8)
    assert "shots" not in found.facts
    with pytest.raises(InvalidArgumentError, match="needs the shots"):
        evaluate_run(blobs.Threshold(), data, run / "policy", prompt="support")
    other = dataclasses.replace(data, samples=data.of_class("a"))
    with pytest.raises(DataSetError, match="no image"):
        evaluate_run(blobs.Threshold(), other, run)


def test_spread_is_over_runs(result):
    rows = main_table([result, result, result])
    assert all(v.deviation == pytest.approx(0) for row in rows for v in row.figures.values())
    assert all(np.isfinite(v.mean) for row in rows for v in row.figures.values())


def sdie_fast(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


CONFIG = """
each_class = true
compare = false
rounds = 2
passes = 2
side = 16
size = 32
views = 2
[auto]
grid = 2
"""


@pytest.fixture(scope="module")
def command(folder, trained, tmp_path_factory):
    made = tmp_path_factory.mktemp("commands")
    (made / "given.toml").write_text(CONFIG)
    return ["train", folder, "--out", made / "run", "--shots", 1, "--budget", 1, "--config", made / "given.toml"]


@pytest.fixture(scope="module")
def out(command):
    found = sdie_fast(*command)
    assert found.exit_code == 0, found.output
    assert "on the shots, reward" in found.output
    return command[3]


class TestCommands:
    """`train` and `evaluate` with the segmenter that ships, a policy for each class."""

    def test_a_run_for_each_class(self, out):
        for label in "ab":
            assert json.loads((out / label / "split.json").read_text())["support"].keys() == {label}
            assert sdie.Recipe.load(out / label / "policy").passes == 2

    def test_goes_on_with_a_run(self, command, out, monkeypatch):
        monkeypatch.setattr("sdie_fast.learn.train.Training.finish", lambda _: None)  # most of the time, and not asked
        before = (out / "a" / "log.jsonl").read_text()
        again = sdie_fast(*command)
        assert again.exit_code == 0, again.output
        assert (out / "a" / "log.jsonl").read_text() == before
        other = sdie_fast(*command, "--seed", 4)
        assert other.exit_code == 2
        assert "other settings" in " ".join(other.output.split())

    def test_its_settings_repeat_a_run(self, out, tmp_path, monkeypatch):
        def finish(run):  # exporting takes most of the time, and is not asked
            shutil.copy(out / run.out.name / "result.json", run.out)

        monkeypatch.setattr("sdie_fast.learn.train.Training.finish", finish)
        again = sdie_fast("train", "--config", out / "a" / "config.toml", "--out", tmp_path)
        assert again.exit_code == 0, again.output
        for name in ("a/config.toml", "a/log.jsonl", "b/log.jsonl"):
            assert (tmp_path / name).read_text() == (out / name).read_text()

    def test_evaluate(self, folder, out, tmp_path, monkeypatch):
        """The second time the segmenter is asked nothing, and says the same."""
        given = [
            "evaluate", folder, "--recipe", out, "--size", 32, "--threads", 1, "--no-baselines", "--limit", 1,
            "--select", "verifier", "--memory", tmp_path / "answers.sqlite", "--out", tmp_path / "page.html",
        ]  # fmt: skip
        first = sdie_fast(*given, "--json")
        assert first.exit_code == 0, first.output
        told = json.loads(first.stdout)
        assert told["rule"] == ["verifier"]
        assert {ALONE, SDIE, "SDIE, schedule", "SDIE, fixed"} == set(told["by shots"]["1 shot"]["main"])
        assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 2

        def never(*_):
            raise AssertionError("asked again")

        monkeypatch.setattr("sdie_fast.segment.sam.Sam.decode", never)
        assert sdie_fast(*given, "--json").stdout == first.stdout
        shown = sdie_fast(*given)
        for word in (ALONE, "SDIE, schedule", "oracle", "agreement", "against the segmenter alone"):
            assert word in shown.output

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--recipe", "nowhere"], "--recipe: nowhere: no such"),
            (["--recipe", "RUN/a/policy", "--prompt", "support"], "needs the shots"),
            (["--recipe", "RUN/a/split.json"], "recipe"),
        ],
    )
    def test_bad_recipes(self, folder, out, arguments, told):
        given = [a.replace("RUN", str(out)) for a in arguments]
        found = sdie_fast("evaluate", folder, "--size", 32, *given)
        assert found.exit_code == 2
        assert told in " ".join(found.output.split())
