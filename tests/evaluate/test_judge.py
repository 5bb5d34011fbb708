"""Judging runs: a small real one, on synthetic surfaces, with the segmenter that ships."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")
pytest.importorskip("cma")

from sdie_fast import InvalidArgumentError
from sdie_fast.cli import app
from sdie_fast.data import synthetic
from sdie_fast.data.folder import open_folder
from sdie_fast.evaluate.judge import ALONE, FIXED, SDIE, evaluate_run
from sdie_fast.evaluate.report import write_report
from sdie_fast.evaluate.tables import Spread, by_shots, class_table, gain, main_table, rule_table, spread
from sdie_fast.learn.forest import TREES
from sdie_fast.learn.verifier import SHIPPED, Verifier

KINDS = synthetic.KINDS[:2]


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdie_fast.learn.distill.STEPS", 20)
        patch.setattr("sdie_fast.learn.distill.VARIANTS", 2)
        yield


def sdie_fast(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


SETTINGS = "rounds = 4\npasses = 2\nviews = 1\nsize = 96\nthreads = 1\n"


def train(folder, out, *arguments, settings=SETTINGS):
    file = out.parent / f"{out.name}.toml"
    file.write_text(settings)
    return sdie_fast("train", folder, "--out", out, "--config", file, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("set") / "data", KINDS, per_kind=4, seed=3, size=(96, 96))


@pytest.fixture(scope="module")
def run(folder):
    out = folder.parent / "run"
    result = train(folder, out, "--shots", 1, "--budget", 40, "--prompt", "support")
    assert result.exit_code == 0, result.output
    assert "on the shots, reward" in result.output
    return out


@pytest.fixture(scope="module")
def result(folder, run):
    from sdie_fast.segment import Options, Sam

    return evaluate_run(Sam(None, Options("cpu", 1)), open_folder(folder, size=96), run)


def test_shots_are_not_judged(result, run):
    split = json.loads((run / "split.json").read_text())
    shown = {n for names in split["support"].values() for n in names}
    assert len(result.cases) == 6
    assert not shown & {c.name for c in result.cases}


def test_the_verifier_that_ships_has_a_say(run):
    assert "prior = true" in (run / "config.toml").read_text()
    shipped, own = Verifier.load(SHIPPED).forest, Verifier.load(run / "verifier.npz").forest
    assert len(own.roots) == TREES + len(shipped.roots)


def test_everything_is_compared(result):
    assert set(result.scores) == {
        ALONE, SDIE, "SDIE, schedule", "SDIE, fixed", "uniform", "random", "half identity", "one filter a round", "one filter a pass", "wls", "bilateral", "sharpen",
        "guided", "spatiogram", "CMA-ES, constant", "CMA-ES, schedule",
    }  # fmt: skip
    assert set(result.scores[SDIE]) == {
        "oracle",
        "last",
        "predicted-iou",
        "stability",
        "critic",
        "agreement",
        "vote",
        "verifier",
        FIXED,
    }
    assert len({id(s) for s in result.scores[ALONE].values()}) == 1
    for name in (SDIE, "random", "wls"):
        assert result.scores[name]["oracle"].images == dict.fromkeys(result.scores[ALONE]["last"].images, 3)
    assert result.weights.shape == (4, 6)


def test_the_headline_is_the_rule_of_the_shots(result, run):
    assert result.rule == json.loads((run / "result.json").read_text())["rule"]
    assert result.fixed == dict.fromkeys(result.headline().iou, result.rule)
    assert result.headline() is result.scores[SDIE][FIXED]
    assert result.headline() == result.scores[SDIE][result.rule]


def test_a_policy_for_each_class(folder, tmp_path):
    """Each class is judged with its own run: the same figures as that run's alone."""
    from sdie_fast.segment import Options, Sam

    out = tmp_path / "runs"
    more = "rounds = 10\nviews = 2\nsize = 96\nthreads = 1\neach_class = true\ncompare = false\n[auto]\ngrid = 3\n"
    done = train(folder, out, "--shots", 1, "--budget", 20, settings=more)
    assert done.exit_code == 0, done.output
    data, segmenter = open_folder(folder, size=96), Sam(None, Options("cpu", 1))
    whole = evaluate_run(segmenter, data, out, baselines=False)
    assert list(whole.fixed) == list(data.classes)
    assert whole.facts["policies"] == "2, one for each class"
    for label in data.classes:
        assert json.loads((out / label / "split.json").read_text())["support"].keys() == {label}
        part = evaluate_run(
            segmenter,
            data,
            out / label,
            baselines=False,
        )
        assert whole.fixed[label] == part.rule
        for name in whole.scores:
            assert whole.scores[name][FIXED].iou[label] == part.scores[name][FIXED].iou[label]
    assert {whole.cases[r.case].label for r in whole.rollouts} == set(data.classes)


def test_figures_are_those_of_the_masks(result, run, folder):
    """The last round of SDIE's second and last pass, by hand: enhance, segment, sum up."""
    import sdie_fast as sdie
    from sdie_fast.actor import Actor, observe, weights_of
    from sdie_fast.data.shots import Split
    from sdie_fast.evaluate.metrics import Meter
    from sdie_fast.learn.cases import cases_of
    from sdie_fast.segment import Options, Sam

    shown, query = Split.load(run / "split.json").parts(open_folder(folder, size=96))
    segmenter, recipe = Sam(None, Options("cpu", 1)), sdie.Recipe.load(run / "policy")
    actor = Actor(recipe.actor, "policy")
    meter, alone = Meter(query.classes), Meter(query.classes)
    for case in cases_of(query, "support", shown):
        state = case.image[None] / np.float32(255)
        for at in (2, 3):
            action = actor(observe(state, recipe.actor.side), at)
            state = sdie.enhance(state, weights_of(action)[:, None], params=recipe.params)
        enhanced = np.floor(255 * state[0] + 0.5).astype(np.uint8)
        meter.add(case.label, segmenter(enhanced, case.prompt)[0], case.truth)
        alone.add(case.label, segmenter(case.image, case.prompt)[0], case.truth)
    assert result.scores[SDIE]["last"].miou == pytest.approx(meter.scores().miou, abs=0.02)
    assert result.scores[ALONE]["last"].miou == pytest.approx(alone.scores().miou, abs=1e-9)


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


def test_command(folder, run):
    page = run.parent / "report.html"
    found = sdie_fast(
        "evaluate", folder, "--recipe", run, "--size", 96, "--threads", 1, "--no-baselines", "--limit", 1, "--out", page,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    for word in (ALONE, "SDIE, schedule", "oracle", "agreement", "against the segmenter alone"):
        assert word in found.output
    text = page.read_text()
    assert text.count("data:image/png") == 3
    assert text.count("data:image/jpeg") == 2
    assert "http" not in text
    found = sdie_fast(
        "evaluate", folder, "--recipe", run / "policy", "--size", 96, "--no-baselines", "--limit", 1, "--json",
        "--prompt", "box",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["facts"][0]["prompt"] == "box"
    assert told["rule"] == ["last"]
    assert {ALONE, SDIE} == set(told["by shots"]["recipe"]["main"])


def test_command_remembers_and_may_choose_another_rule(folder, run, tmp_path, monkeypatch):
    """The second evaluation asks the segmenter nothing, and says the same."""
    kept = tmp_path / "answers.sqlite"
    given = ["evaluate", folder, "--recipe", run, "--size", 96, "--no-baselines", "--json", "--select", "verifier", "--memory", kept]  # fmt: skip
    first = sdie_fast(*given)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["rule"] == ["verifier"]

    def never(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr("sdie_fast.segment.sam.Sam.decode", never)
    assert sdie_fast(*given).stdout == first.stdout


def test_goes_on_with_a_run(folder, run):
    before = (run / "log.jsonl").read_text()
    again = train(folder, run, "--shots", 1, "--budget", 40, "--prompt", "support")
    assert again.exit_code == 0, again.output
    again = sdie_fast("train", "--config", run / "config.toml", "--out", run)
    assert again.exit_code == 0, again.output
    assert (run / "log.jsonl").read_text() == before
    other = sdie_fast("train", "--config", run / "config.toml", "--out", run, "--seed", 4)
    assert other.exit_code == 2
    assert "holds a run of other settings: seed 0, received 4" in other.output


def test_its_settings_repeat_a_run(run, tmp_path):
    text = (run / "config.toml").read_text().replace("compare = true", "compare = false")
    (tmp_path / "again.toml").write_text(text)
    again = sdie_fast("train", "--config", tmp_path / "again.toml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again" / "config.toml").read_text() == text
    assert (tmp_path / "again" / "log.jsonl").read_text() == (run / "log.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--recipe", "nowhere"], "--recipe: nowhere: no such"),
        (["--recipe", "RUN/policy", "--prompt", "support"], "needs the shots"),
        (["--recipe", "RUN/split.json"], "recipe"),
    ],
)
def test_bad_recipes(folder, run, arguments, told):
    given = [a.replace("RUN", str(run)) for a in arguments]
    found = sdie_fast("evaluate", folder, "--size", 96, *given)
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (["--shots", 9], "", "has 4 images"),
        (["--shots", 0], "", "shots: received 0; accepted: an integer from 1 to 1000000000"),
        (["--prompt", "guess"], "", "prompt: received 'guess'; accepted: 'auto'"),
        (["--preset", "best"], "", "--preset: received 'best'; accepted: 'default', 'paper', 'published-code'"),
        (["--filters", "wls,blur"], "", "filters: received the unknown filter 'blur'; accepted: identity, wls,"),
        (["--filters", "wls"], "", "filters: received 'wls' alone"),
        (["--filters", "wls,wls"], "", "filters: received 'wls' twice"),
        ([], "views = 3", "views: received 3; accepted: 1, 2, 4, 8"),
        ([], 'credit = "all"', "credit: received 'all'; accepted: 'own', 'vote', 'best'"),
        ([], 'noise = "loud"', "noise: received 'loud' of type str; accepted: a number >= 0 and <= 10"),
        ([], "kredit = 1", "config: received the unknown key 'kredit'; accepted: data, kind, fold"),
        ([], "[params]\nwls_lamda = 1", "params: received the unknown key 'wls_lamda'; accepted: window, wls_lambda"),
        ([], "[auto]\ngrid = 99", "grid: received 99; accepted: an integer from 1 to 64"),
        ([], "auto = 3", "auto: received 3 of type int; accepted: a dict"),
        ([], "shots = ", "not TOML: Invalid value"),
        ([], 'format = "sdie_fast run 1"', "another format than 'sdie_fast run 4'"),
        (["--config", "nowhere.toml"], "", "nowhere.toml: cannot be read: No such file"),
    ],
)
def test_bad_training(folder, tmp_path, arguments, settings, told):
    found = train(folder, tmp_path / "r", *arguments, settings=settings)
    assert found.exit_code == 2, found.output
    assert told in " ".join(found.output.split())
    assert "\n" not in found.output.strip()


def test_training_without_data(tmp_path):
    found = sdie_fast("train", "--out", tmp_path / "r")
    assert found.exit_code == 2
    assert "DATA: received none" in found.output


def test_a_split_of_other_images(run, tmp_path):
    from sdie_fast.errors import DataSetError
    from sdie_fast.segment import Options, Sam

    other = synthetic.write_dataset(tmp_path / "o", synthetic.KINDS[3:4], per_kind=2, seed=1, size=(96, 96))
    with pytest.raises(DataSetError, match="no image"):
        evaluate_run(Sam(None, Options("cpu", 1)), open_folder(other, size=96), run)
    with pytest.raises(InvalidArgumentError, match="support"):
        evaluate_run(
            Sam(None, Options("cpu", 1)),
            open_folder(other, size=96),
            run / "policy",
            prompt="support",
        )


def test_spread_is_over_runs(result):
    rows = main_table([result, result, result])
    assert all(v.deviation == pytest.approx(0) for row in rows for v in row.figures.values())
    assert all(np.isfinite(v.mean) for row in rows for v in row.figures.values())
