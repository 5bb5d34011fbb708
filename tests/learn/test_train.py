"""Training runs: what they learn, what they leave behind, and that nothing kills them for good."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")

import sdie_fast as sdie  # noqa: E402
from sdie_fast import FilterParams, InvalidArgumentError  # noqa: E402
from sdie_fast.actor import Actions, Choice  # noqa: E402
from sdie_fast.errors import RecipeError, RunError  # noqa: E402
from sdie_fast.learn import distill, runs  # noqa: E402
from sdie_fast.learn.baselines import start_schedule  # noqa: E402
from sdie_fast.learn.cases import view_of  # noqa: E402
from sdie_fast.learn.config import Config  # noqa: E402
from sdie_fast.learn.env import SdieEnv  # noqa: E402
from sdie_fast.learn.episode import Observation  # noqa: E402
from sdie_fast.learn.select import RULES  # noqa: E402
from sdie_fast.learn.td3 import load_agent, make_agent, policy_of  # noqa: E402
from sdie_fast.learn.train import Training  # noqa: E402
from sdie_fast.learn.verifier import Verifier  # noqa: E402

from .conftest import Threshold, make_case  # noqa: E402
from .runs_in_seconds import CONFIG, Killed, kill_after, training  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick):
    found = training(Threshold(), [make_case(k) for k in range(4)], tmp_path_factory.mktemp("run") / "run")
    runs.save_config(found.out, CONFIG, "data", "threshold")
    found.run()
    return found


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """The run, in a folder of the test's own."""
    monkeypatch.setattr(trained, "out", shutil.copytree(trained.out, tmp_path / "run"))
    return trained


def test_a_file_has_null_for_what_is_no_number(tmp_path):
    runs.write_json(tmp_path / "a.json", {"rule": {"correlation": float("nan")}, "of": [1.5, float("inf")]})
    assert (tmp_path / "a.json").read_text() == json.dumps(
        {"rule": {"correlation": None}, "of": [1.5, None]}, indent=1
    ) + "\n"


class TestRun:
    def test_what_it_leaves(self, run, cases):
        names = {p.name for p in run.out.iterdir()}
        assert {
            "policy", "schedule", "fixed", "checkpoint.pt", "config.toml", "curve.png", "log.jsonl", "result.json", "verifier.npz",
        } <= names  # fmt: skip
        result = json.loads((run.out / "result.json").read_text())
        assert result["segmentations"] >= CONFIG.segmentations
        assert set(result["rules_on_shots"]) == set(RULES)
        assert result["rules_on_shots"]["oracle"]["regret"] == 0
        assert (run.out / "curve.png").read_bytes().startswith(b"\x89PNG")
        images = np.stack([c.image for c in cases])
        for kind in ("policy", "schedule", "fixed"):
            out, trace = sdie.Enhancer(run.out / kind)(images)
            assert out.shape == images.shape
            assert trace.shape[-2:] == (3, 6)

    def test_the_recipe_is_the_agent(self, run):
        agent, config = load_agent(run.out)
        act, value = policy_of(agent, config.rounds)
        state = run.env.reset()
        actions = act(state)
        _, trace = sdie.Enhancer(run.out / "policy")(np.stack([c.image for c in run.env.cases]))
        np.testing.assert_allclose(trace[:, 0], Actions().weights(actions), atol=1e-3)
        assert value(state, actions).shape == (4,)

    def test_same_seed_same_run(self, run, unfinished, segmenter, cases, tmp_path):
        again = training(segmenter, cases, tmp_path / "again")
        again.run()
        assert again.history == run.history
        other = training(segmenter, cases, tmp_path / "other", dataclasses.replace(CONFIG, seed=1))
        other.run()
        assert other.history != run.history

    def test_killed_and_gone_on_with(self, run, unfinished, segmenter, cases, tmp_path):
        config = dataclasses.replace(CONFIG, checkpoint_every=2)
        first = training(segmenter, cases, tmp_path / "killed", config, watch=kill_after(5))
        with pytest.raises(Killed):
            first.run()
        second = training(segmenter, cases, tmp_path / "killed", config)
        second.run()
        assert second.history == run.history
        for part in (
            "actor_target",
            "critics",
            "critic_targets",
        ):  # finishing a run puts what it keeps in the actor's place
            for k, v in second.agent.state_dict()[part].items():
                assert torch.equal(v, run.agent.state_dict()[part][k]), (part, k)
        assert second.evidence.groups == run.evidence.groups
        second._verify([])
        kept = (tmp_path / "killed" / "verifier.npz", run.out / "verifier.npz")
        assert Verifier.load(kept[0]).to_bytes() == Verifier.load(kept[1]).to_bytes()

    def test_a_finished_run_is_not_trained_on(self, run, unfinished, segmenter, cases):
        again = training(segmenter, cases, run.out)
        again.run()
        assert again.history == run.history

    def test_another_toolkit_chosen_parameters_and_views(self, segmenter, cases, turned, tmp_path, monkeypatch):
        finish, followed = Training.finish, []
        monkeypatch.setattr(Training, "finish", lambda self: followed.extend(finish(self)))
        actions = Actions((Choice("guided_eps", 0.001, 0.1),), ("guided", "identity", "median"))
        config = dataclasses.replace(
            CONFIG, filters=(), actions=actions, params=FilterParams(), segmentations=40, warmup=1, views=4
        )  # fmt: skip
        found = training(segmenter, turned, tmp_path / "run", config)
        runs.save_config(found.out, config, "data", "threshold")
        found.run()
        assert [r.case for r in followed] == [0, 4, 8, 12]
        assert runs.load_config(found.out)[0] == config
        recipe = sdie.Recipe.load(found.out / "policy")
        assert recipe.actor.actions == actions
        for kind in ("policy", "schedule", "fixed"):
            recipe = sdie.Recipe.load(found.out / kind)
            assert recipe.filters == actions.filters
            act = runs.act_of(recipe, actions)
            _, trace = sdie.Enhancer(recipe)(cases[0].image)
            weights = actions.weights(act(found.env.reset([0])))
            np.testing.assert_allclose(trace[..., 0, :].ravel(), weights.ravel(), atol=1e-3, err_msg=kind)

    def test_a_bare_recipe_adds_its_filters(self, tmp_path):
        sdie.Recipe({"gaussian": 1, "sharpen": 3}).save(tmp_path / "recipe")
        config, _, split, recipe = runs.open_run(tmp_path / "recipe")
        assert split is None
        assert config.actions.filters == (*sdie.FILTERS, "gaussian")
        action = runs.act_of(recipe, config.actions)(Observation(np.zeros((1, 8, 8), np.uint8), 0))
        np.testing.assert_allclose(config.actions.weights(action), [[0, 0, 0, 0.75, 0, 0, 0.25]], atol=1e-6)
        with pytest.raises(RecipeError, match="mixes 'gaussian'; accepted: identity, wls"):
            runs.act_of(recipe, Actions())

    def test_tensorboard(self, unfinished, segmenter, cases, tmp_path):
        pytest.importorskip("tensorboard")
        config = dataclasses.replace(CONFIG, segmentations=40)
        Training(segmenter, cases, config, tmp_path / "run").run()
        assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_learns(unfinished, segmenter, cases, tmp_path):
    """Noise hides the blobs from the threshold: the policy finds that smoothing uncovers them, and does better than it began."""
    config = dataclasses.replace(
        CONFIG, segmentations=240, updates=2, batch=16, warmup=3, relative=True, greedy_every=3, seed=2, side=8,
        actor_rate=1e-3, critic_rate=1e-3, actor_after=40, checkpoint_every=50,
    )  # fmt: skip
    run = training(segmenter, cases, tmp_path / "run", config)
    run.run()
    greedy = [row["greedy_return"] for row in run.history if "greedy_return" in row]
    uniform = SdieEnv(segmenter, cases, rounds=3, params=config.params, relative=True, options=config.auto)
    uniform.reset()
    usual = sum(uniform.step(np.zeros((4, 6))).reward.mean() for _ in range(3))
    assert max(greedy) > usual + 0.1
    assert max(greedy) > greedy[0] + 0.02
    assert greedy[-1] == pytest.approx(np.mean(run.ended))
    assert greedy[0] == pytest.approx(np.mean(run.begun))
    assert run.improved


def test_a_policy_gone_astray_is_not_kept(run):
    last, first = run.agent.actor_target.state_dict(), run._first
    for ended, expected in (
        ([0.5, 0.6, 0.4, 0.5], last),
        ([0.5, 0.0, 0.6, 0.2], last),  # worse, but no more than chance
        ([0.1, 0.2, 0.1, 0.0], first),
        ([], first),
    ):
        run.begun, run.ended = [0.4, 0.4, 0.4, 0.4], ended
        assert run.kept is expected or all(torch.equal(v, expected[k]) for k, v in run.kept.items())


def test_the_last_policy_is_kept_where_it_is_asked_for(run):
    run.config = dataclasses.replace(run.config, keep="last")
    run.begun, run.ended = [0.4, 0.4, 0.4, 0.4], [0.1, 0.2, 0.1, 0.0]
    last = run.agent.actor_target.state_dict()
    assert all(torch.equal(v, last[k]) for k, v in run.kept.items())


@pytest.fixture
def turned(cases):
    """The cases in four views each."""
    return [
        dataclasses.replace(c, image=view_of(c.image, k), truth=view_of(c.truth, k)) for c in cases for k in range(4)
    ]


class TestViews:
    @pytest.fixture
    def run(self, segmenter, turned, tmp_path):
        config = dataclasses.replace(CONFIG, views=4, segmentations=90)
        return training(segmenter, turned, tmp_path / "run", config)

    def test_an_episode_shows_each_shot_once(self, run):
        seen = set()
        for run.progress.episode in range(12):
            which = run._views()
            assert [k // 4 for k in which] == [0, 1, 2, 3]
            seen |= {k % 4 for k in which}
        assert seen == {0, 1, 2, 3}

    def test_what_counts_is_the_shots_as_they_are(self, run, unfinished):
        run.run()
        assert run.upright == [0, 4, 8, 12]
        # Greedy episodes cost one segmentation a shot and round, not one a view.
        assert run.progress.segmentations < 90 + 2 * 4 * CONFIG.rounds
        assert len(run.begun) == len(run.ended) == 4

    def test_not_whole(self, segmenter, cases, tmp_path):
        config = dataclasses.replace(CONFIG, views=8)
        with pytest.raises(InvalidArgumentError, match="multiple of 8 views"):
            training(segmenter, cases, tmp_path / "run", config)


class TestTrouble:
    def test_in_use(self, segmenter, cases, tmp_path):
        with (
            runs.locked(tmp_path / "run"),
            pytest.raises(RunError, match="another run is using it"),
        ):
            training(segmenter, cases, tmp_path / "run").run()

    def test_other_settings(self, run):
        runs.save_config(run.out, CONFIG, "data", "threshold")
        with pytest.raises(RunError, match="other settings"):
            runs.save_config(run.out, dataclasses.replace(CONFIG, seed=5), "data", "threshold")

    def test_a_full_disk_leaves_the_older_checkpoint(self, run, monkeypatch):
        before = (run.out / "checkpoint.pt").read_bytes()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"checkpoint\.pt: cannot be written: No space"):
            run._save(run.out / "checkpoint.pt")
        assert (run.out / "checkpoint.pt").read_bytes() == before
        assert not list(run.out.glob(".*.part"))

    @pytest.mark.parametrize("data", [b"", b"none", None])
    def test_a_damaged_checkpoint(self, run, segmenter, cases, data):
        path = run.out / "checkpoint.pt"
        path.write_bytes(path.read_bytes()[:5000] if data is None else data)
        with pytest.raises(RunError, match=r"checkpoint\.pt: cannot be read"):
            training(segmenter, cases, run.out).run()

    def test_a_checkpoint_of_something_else(self, run, segmenter, cases):
        torch.save({"agent": {}}, run.out / "checkpoint.pt")
        with pytest.raises(RunError, match="not a checkpoint of this run"):
            training(segmenter, cases, run.out).run()

    def test_no_code_is_run(self, run, segmenter, cases):
        torch.save({"agent": os.system}, run.out / "checkpoint.pt")
        with pytest.raises(RunError, match="cannot be read"):
            training(segmenter, cases, run.out).run()

    def test_not_a_run(self, tmp_path):
        with pytest.raises(RunError, match=r"config\.toml: cannot be read"):
            load_agent(tmp_path)
        for text, told in (
            ("format = 3", "another format"),
            ("shots = 1", "not a run's settings"),
            ("shots", "not TOML"),
        ):
            (tmp_path / "config.toml").write_text(text)
            with pytest.raises(RunError, match=told):
                load_agent(tmp_path)

    def test_a_folder_that_cannot_be(self, segmenter, cases, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="cannot be used"):
            training(segmenter, cases, tmp_path / "file" / "run").run()


@pytest.mark.parametrize("passes", [1, 5])
@pytest.mark.parametrize("start", ["filters", "uniform"])
def test_the_first_policy_is_the_start(start, passes):
    """Whatever the image."""
    from sdie_fast.actor import weights_of

    config = Config(start=start, rounds=5 * passes, passes=passes, side=16)
    act, _ = policy_of(make_agent(config, "cpu"), config.rounds)
    for at, row in enumerate(start_schedule(start, config.rounds, passes, Actions())):
        state = Observation(np.full((2, 16, 16), 90, np.uint8), at)
        np.testing.assert_allclose(weights_of(act(state)), np.tile(weights_of(row), (2, 1)), atol=0.06)


def test_networks_follow_from_the_seed():
    torch.manual_seed(9)
    a = make_agent(CONFIG, "cpu")
    torch.manual_seed(10)
    b = make_agent(CONFIG, "cpu")
    c = make_agent(dataclasses.replace(CONFIG, seed=3), "cpu")
    weights = [next(iter(x.actor.encoder.parameters())) for x in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class TestDistillation:
    def test_a_schedule_learns_the_policy(self, run, monkeypatch):
        monkeypatch.setattr(distill, "STEPS", 400)
        _, error = distill.distill(run.agent.actor, run.env, CONFIG)
        assert error < 0.03

    def test_costs_no_segmentation(self, run):
        calls, images = run.env.calls, run.env.segmenter.images
        distill.distill(run.agent.actor, run.env, CONFIG)
        assert (run.env.calls, run.env.segmenter.images) == (calls, images)

    def test_demonstrations_begin_each_pass_anew(self, segmenter, cases):
        env = SdieEnv(segmenter, cases, rounds=4, passes=2, side=16)
        seen = []

        def act(state):
            seen.append(state.seen)
            return np.tile(np.float32([-1, -1, -1, 1, -1, -1]), (len(state.seen), 1))

        told, actions = distill.demonstrations(env, act, 0)
        first = told[0]
        assert actions.shape == (len(first), 4, 6)
        np.testing.assert_array_equal(told, seen)
        np.testing.assert_array_equal(seen[2], first)
        np.testing.assert_array_equal(seen[3], seen[1])
        assert (seen[1] != first).any()

    def test_export_refuses_another_answer(self, run, tmp_path, monkeypatch):
        from sdie_fast.errors import ModelError

        monkeypatch.setattr(distill, "_PARITY", -1.0)
        with pytest.raises(ModelError, match="differ from torch"):
            distill.export_actor(run.agent.actor, "policy", tmp_path / "a.onnx", 3, 16, Actions())
        assert not list(tmp_path.glob("*.onnx"))
