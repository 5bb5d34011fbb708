"""Runs that begin with what a search finds, seen by an encoder that nobody trains."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sdie_fast.learn import distill, runs  # noqa: E402
from sdie_fast.learn.baselines import SEARCHED_WAYS  # noqa: E402
from sdie_fast.learn.networks import Texture  # noqa: E402
from sdie_fast.learn.train import Training  # noqa: E402
from sdie_fast.learn.warmstart import BY_BEAM  # noqa: E402

from .runs_in_seconds import CONFIG, Killed, kill_after, training  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick", "unfinished")

SEARCHED = dataclasses.replace(
    CONFIG, start="searched", encoder="texture", rounds=4, passes=2, segmentations=130, checkpoint_every=2,
)  # fmt: skip
FINISH = Training.finish  # `unfinished` takes its place
SEARCH = 4 * (5 + 2 * 5)  # each shot by each filter, and by each after the two best


def test_killed_and_gone_on_with(segmenter, cases, tmp_path, monkeypatch):
    whole = training(segmenter, cases, tmp_path / "whole", SEARCHED)
    whole.run()
    before = []  # what the search counts is told while it goes on

    def watch(progress):
        before.append((progress.episode, progress.segmentations))
        kill_after(3)(progress)

    spent = [SEARCH, *(row["segmentations"] for row in whole.history)]
    assert spent[-2] < SEARCHED.segmentations <= spent[-1] == whole.progress.segmentations
    killed = training(segmenter, cases, tmp_path / "killed", SEARCHED, watch=watch)
    with pytest.raises(Killed):
        killed.run()
    assert [n for episode, n in before if not episode] == [4 * (k + 1) for k in range(15)]
    second = training(segmenter, cases, tmp_path / "killed", SEARCHED)
    assert not np.array_equal(second.goals, killed.goals)
    monkeypatch.setattr(Training, "_search", None)  # it is not searched again
    second.run()
    np.testing.assert_array_equal(second.goals, whole.goals)
    assert second.history == whole.history
    assert second.evidence.groups == whole.evidence.groups
    for parts in ((second._first, whole._first), (second.kept, whole.kept)):
        assert all(torch.equal(v, parts[1][k]) for k, v in parts[0].items())


def test_the_search_is_part_of_the_budget(segmenter, cases, tmp_path):
    run = training(segmenter, cases, tmp_path / "run", SEARCHED)
    run._search()
    assert run.progress.segmentations == run.env.calls == SEARCH
    assert len(run.evidence.groups) == 4 * 8  # two of each of 15 passes, four at a time
    first = run._episode()
    assert first["segmentations"] == run.env.calls == SEARCH + 2 * 4 * 4  # a greedy one before


def test_learning_begins_with_what_was_found(segmenter, cases, tmp_path):
    run = training(segmenter, cases, tmp_path / "run", SEARCHED)
    run._search()
    agent = run.agent
    shared = agent.actor.encoder.state_dict()
    assert shared["mean"].abs().max() > 0
    for net in (agent.actor_target, *agent.critics, *agent.critic_targets):
        assert all(torch.equal(v, shared[k]) for k, v in net.encoder.state_dict().items())
    assert all(torch.equal(v, run._first[k]) for k, v in agent.actor_target.state_dict().items())
    run._episode()
    # The actor is held near what was found, not near what was tried.
    kept = run.replay.state_dict()["arrays"]
    goals = kept["goal"][:16].reshape(4, 4, 6).transpose(0, 1).numpy()
    np.testing.assert_array_equal(goals, run.goals)
    assert not torch.equal(kept["goal"][:16], kept["action"][:16])
    run.begun, run.ended = [0.4, 0.4, 0.4, 0.4], [0.5, 0.3, 0.5, 0.5]
    assert not run.improved  # a little better by chance: see `holds_up`


def test_its_schedule_sees_as_it_does(segmenter, cases, tmp_path):
    run = training(segmenter, cases, tmp_path / "run", SEARCHED)
    net, error = distill.distill(run.agent.actor, run.env, SEARCHED)
    assert isinstance(net.encoder, Texture)
    assert net.encoder.mean.abs().max() > 0
    assert error < 0.1


def test_its_settings(tmp_path):
    runs.save_config(tmp_path, SEARCHED, "data", "threshold")
    assert runs.load_config(tmp_path)[0] == SEARCHED


def test_a_run_may_end_with_its_search(segmenter, cases, tmp_path):
    """The budget is spent: no episode follows, and there is no curve of returns to draw."""
    config = dataclasses.replace(SEARCHED, segmentations=SEARCH, side=32)
    doing = []
    run = training(segmenter, cases, tmp_path / "run", config, watch=lambda p: doing.append(p.doing))
    run.run()
    FINISH(run)
    assert set(doing[:-1]) == {"searching passes"}
    assert doing[-1] == "the policy's pictures of the shots"  # nothing is counted meanwhile, but it takes its time
    assert runs.read_json(run.out / runs.RESULT)["policy"] == "the first"
    assert run.progress.episode == 0
    assert not (run.out / "curve.png").exists()


def test_what_it_is_compared_with(segmenter, cases, tmp_path):
    """One schedule for all classes by the same search: it is what each would be given if all shots were of one class."""
    assert len({case.label for case in cases}) == 1 < len({case.name for case in cases})
    run, same = (
        training(segmenter, own, tmp_path / "run", SEARCHED)
        for own in ([dataclasses.replace(case, label=case.name) for case in cases], cases)
    )
    run.compare()
    found = runs.read_json(run.out / runs.SEARCHED)
    assert list(found) == [*SEARCHED_WAYS, BY_BEAM]
    run._search()
    same._search()
    for goals in same.goals:
        np.testing.assert_array_equal(found[BY_BEAM], goals)
    assert (run.goals != same.goals).any()
