import numpy as np
import pytest

from sdie_fast import InvalidArgumentError
from sdie_fast.learn.baselines import constant
from sdie_fast.learn.env import Rollout, SdieEnv, follow, reward_of
from sdie_fast.learn.places import vote
from sdie_fast.learn.select import (
    BLIND,
    RULES,
    best_rule,
    choose,
    final_mask,
    final_reward,
    holds_up,
    judge_rule,
    signal,
)
from sdie_fast.segment.prompts import Answer


def mask(*pixels):
    found = np.zeros((2, 3), bool)
    for k in pixels:
        found.flat[k] = True
    return found


@pytest.fixture
def rollout():
    answers = [
        Answer(mask(0, 1), 0.1, 0.1),
        Answer(mask(0), 0.5, 0.9),
        Answer(mask(0, 1), 0.9, 0.6),
        Answer(mask(4, 5), 0.2, 0.7),
    ]
    return Rollout(0, answers, [0.2, 0.9, 0.5, 0.1], values=[2.0, 1.5, 1.2], scores=[0.6, 0.2, 0.3, 0.5],
        vote=mask(0, 1), vote_reward=0.7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("oracle", 1),
        ("last", 3),
        ("predicted-iou", 2),
        ("stability", 1),
        ("agreement", 2),
        ("critic", 3),
        ("verifier", 0),
    ],
)
def test_each_rule(rollout, rule, chosen):
    assert choose(rule, rollout) == chosen


def test_signals_by_hand(rollout):
    # Q_t - 0.99 Q_(t+1): what each round itself is expected to bring.
    np.testing.assert_allclose(signal("critic", rollout), [2 - 0.99 * 1.5, 1.5 - 0.99 * 1.2, 1.2], rtol=1e-6)
    # The first image's mask counts: round 1 shares half of it and half of round 2's.
    np.testing.assert_allclose(signal("agreement", rollout), [(0.5 + 0.5 + 0) / 3, (1 + 0.5 + 0) / 3, 0], rtol=1e-6)


def test_only_the_oracle_sees_the_truth(rollout):
    other = Rollout(0, rollout.answers, rollout.rewards[::-1], values=rollout.values, scores=rollout.scores)
    for rule in BLIND:
        if rule == "vote":
            continue  # it combines rounds
        np.testing.assert_array_equal(signal(rule, rollout), signal(rule, other))
    assert choose("oracle", other) != choose("oracle", rollout)


def test_vote_by_hand():
    answers = [Answer(mask(0, 1), 0.3), Answer(mask(1, 2), 0.4), Answer(mask(2), 0.2)]
    # Of 0.9: pixel 0 has 0.3, pixel 1 has 0.7, pixel 2 has 0.6.
    np.testing.assert_array_equal(vote(answers), mask(1, 2))
    unsure = [Answer(a.mask, 0.0) for a in answers]
    np.testing.assert_array_equal(vote(unsure), mask(1, 2))
    # Half is not more than half.
    assert not vote([Answer(mask(0), 0.5), Answer(mask(1), 0.5)]).any()


def test_the_vote_is_a_rule_of_its_own(rollout):
    np.testing.assert_array_equal(final_mask("vote", rollout), rollout.vote)
    assert final_reward("vote", rollout) == 0.7
    np.testing.assert_array_equal(final_mask("stability", rollout), rollout.answers[1].mask)
    assert final_reward("stability", rollout) == 0.9
    found = judge_rule("vote", [rollout])
    assert found.reward == 0.7
    assert found.regret == pytest.approx(0.2)
    assert np.isnan(found.correlation)


def test_judgement(rollout):
    found = judge_rule("predicted-iou", [rollout])
    assert found.reward == 0.5
    assert found.regret == pytest.approx(0.4)
    assert found.correlation == pytest.approx(0.5)  # ranks 2 3 1 against 3 2 1
    assert judge_rule("oracle", [rollout]).regret == 0
    flat = Rollout(0, [Answer(mask(0), 0.5, 0.5)] * 3, [0.1, 0.2, 0.3])
    assert np.isnan(judge_rule("stability", [flat]).correlation)


def test_the_best_rule_is_the_verifier_unless_the_shots_say_otherwise():
    """Another must be better by more than the standard error over the shots."""
    shots = [f"a\t{k}" for k in range(4)]

    def worths(gained):
        other = {shot: 0.2 + g for shot, g in zip(shots, gained, strict=True)}
        return {"verifier": dict.fromkeys(shots, 0.2), "stability": other}

    assert best_rule({}) == "verifier"
    assert best_rule(worths([0.1, 0.1, 0.1, 0.12])) == "stability"
    assert best_rule(worths([0.4, -0.1, -0.1, -0.1])) == "verifier"  # one image's luck
    assert best_rule(worths([-0.1, -0.1, -0.1, -0.1])) == "verifier"
    better = {**worths([0.1, 0.1, 0.1, 0.12]), "agreement": dict.fromkeys(shots, 0.4)}
    assert best_rule(better) == "agreement"
    assert best_rule({rule: {"a\t0": own["a\t0"]} for rule, own in better.items()}) == "verifier"


def test_the_last_policy_is_kept_unless_the_shots_say_that_it_is_worse():
    begun = [0.4, 0.4, 0.4, 0.4]
    assert holds_up(begun, [0.5, 0.6, 0.4, 0.5])
    assert holds_up(begun, [0.5, 0.0, 0.6, 0.2])  # worse, but no more than chance
    assert not holds_up(begun, [0.1, 0.2, 0.1, 0.0])
    assert not holds_up(begun, [])
    assert holds_up([0.4], [0.4])
    assert not holds_up([0.4], [0.39])  # one shot tells of no chance


@pytest.mark.parametrize(
    ("ended", "kept"),
    [
        ([0.5, 0.6, 0.5, 0.6], True),
        ([0.5, 0.3, 0.5, 0.5], False),  # 0.05 above, with a standard error of 0.05
        ([0.4, 0.4, 0.4, 0.4], False),
        ([0.9], False),  # one shot does not tell what is chance
        ([], False),
    ],
)
def test_a_searched_policy_goes_only_for_one_that_is_surely_better(ended, kept):
    begun = [0.4] * len(ended)
    assert holds_up(begun, ended, searched=True) == kept
    assert holds_up(begun, ended) == bool(ended)


def test_rules_without_a_critic(rollout):
    rollout.values.clear()
    rollout.scores.clear()
    with pytest.raises(InvalidArgumentError, match="verifier"):
        choose("verifier", rollout)
    with pytest.raises(InvalidArgumentError, match="critic"):
        choose("critic", rollout)
    with pytest.raises(InvalidArgumentError, match=", ".join(map(repr, RULES))):
        choose("guess", rollout)


class TestRollouts:
    def test_follow(self, env):
        rollouts = follow(env, constant(np.zeros((3, 6))), [1, 3], lambda s, a: np.full(2, s.at))
        assert [r.case for r in rollouts] == [1, 3]
        for r in rollouts:
            assert len(r.answers) == len(r.rewards) == len(r.images) == 4
            assert r.values == [0, 1, 2]
            np.testing.assert_array_equal(r.images[0], env.cases[r.case].image)
            np.testing.assert_array_equal(r.vote, vote(r.answers))
            assert r.vote_reward == reward_of(r.vote, env.cases[r.case].truth, env.reward)
        assert env.calls == 6

    def test_rewards_are_absolute(self, env, segmenter, cases):
        relative = SdieEnv(
            segmenter,
            cases,
            rounds=3,
            params=env.params,
            side=16,
            relative=True,
            options=env.options,
        )
        act = constant(np.zeros((3, 6)))
        for a, b in zip(follow(env, act), follow(relative, act), strict=True):
            np.testing.assert_allclose(a.rewards, b.rewards, atol=1e-6)
