import numpy as np
import pytest

from sdie_fast import InvalidArgumentError
from sdie_fast.learn.env import Case, State, reward_of, vote
from sdie_fast.learn.rollout import (
    ORDER,
    Rollout,
    action_of,
    constant,
    follow,
    random_policy,
    start_action,
    start_schedule,
)
from sdie_fast.learn.select import (
    BLIND,
    RULES,
    best_rule,
    choose,
    final_mask,
    final_reward,
    judge_rule,
    pooled_miou,
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


def case_of(truth, label="a"):
    return Case(np.zeros((2, 3), np.uint8), truth, "auto", label)


def test_the_best_rule_is_that_of_the_highest_pooled_miou(rollout):
    """Sums over a class's images, not the mean of the images' own: a small miss costs less than a large one."""
    small, large = mask(0), mask(0, 1, 2, 3)
    cases = [case_of(small), case_of(large), case_of(mask(5), "b")]
    nothing, some = Answer(mask(), 0.1, 0.9), Answer(mask(0, 1), 0.9, 0.1)
    right = Answer(mask(5), 0.5, 0.5)
    rollouts = [
        Rollout(k, [answers[0], *answers], vote=answers[-1].mask)
        for k, answers in enumerate([[nothing, some], [nothing, some], [right, right]])
    ]
    # Stability chooses nothing, predicted IoU (0, 1): of class a, 0 of 5 and 3 of 6 pixels; class b is right in any case.
    assert pooled_miou("stability", rollouts, cases) == pytest.approx((0 + 1) / 2)
    assert pooled_miou("predicted-iou", rollouts, cases) == pytest.approx((3 / 6 + 1) / 2)
    assert best_rule(rollouts, cases) in ("last", "predicted-iou")
    assert pooled_miou("last", [rollouts[2]], [case_of(mask())] * 3) == 0
    found_nothing = Rollout(0, [nothing, nothing], vote=mask())
    assert pooled_miou("last", [found_nothing], [case_of(mask())]) == 1
    assert best_rule([rollout], [case_of(mask(0))]) == "verifier"  # whatever these images say
    rollout.scores.clear()
    assert best_rule([rollout], [case_of(mask(0))]) == "stability"


def test_rules_without_a_critic(rollout):
    rollout.values.clear()
    rollout.scores.clear()
    assert best_rule([rollout], [case_of(mask(4, 5))]) == "last"
    with pytest.raises(InvalidArgumentError, match="verifier"):
        choose("verifier", rollout)
    with pytest.raises(InvalidArgumentError, match="critic"):
        choose("critic", rollout)
    with pytest.raises(InvalidArgumentError, match=", ".join(RULES)):
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
        from sdie_fast.learn.env import SdieEnv

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

    def test_action_of(self):
        from sdie_fast.actor import weights_of

        weights = np.array([[0.5, 0.25, 0.25, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
        np.testing.assert_allclose(weights_of(action_of(weights)), weights, atol=1e-6)
        assert action_of(weights, 8).shape == (2, 8)

    @pytest.mark.parametrize("identity", [1 / 6, 0.5, 0.9, 1.0])
    def test_start_action(self, identity):
        from sdie_fast.actor import weights_of

        action = start_action(identity, 8)
        assert action.shape == (8,)
        assert -1 <= action.min() <= action.max() <= 0.8 + 1e-6
        rest = (1 - identity) / 5
        np.testing.assert_allclose(weights_of(action[:6]), [identity, *[rest] * 5], atol=1e-3)
        if identity == 1 / 6:
            np.testing.assert_allclose(action, 0, atol=1e-6)

    @pytest.mark.parametrize("rounds", [1, 5, 7])
    def test_start_schedule(self, rounds):
        from sdie_fast import FILTERS
        from sdie_fast.actor import weights_of

        rows = start_schedule("filters", rounds, 1, 8)
        assert rows.shape == (rounds, 8)
        assert -0.95 - 1e-6 <= rows[:, :6].min() <= rows.max() <= 0.8 + 1e-6
        weights = weights_of(rows[:, :6])
        np.testing.assert_allclose(weights[:, 0], 1.8 / 3.8, atol=1e-6)
        for at, w in enumerate(weights):
            assert FILTERS[1 + w[1:].argmax()] == ORDER[at % 5]
            assert w[1:].max() == pytest.approx(1.8 / 3.8)
        np.testing.assert_array_equal(start_schedule("uniform", rounds), 0)

    def test_start_of_passes(self):
        from sdie_fast import FILTERS
        from sdie_fast.actor import weights_of

        weights = weights_of(start_schedule("filters", 18, 6)).reshape(6, 3, 6)
        for k, rounds in enumerate(weights):
            for w in rounds:
                assert FILTERS[w.argmax()] == ORDER[k % 5]
                assert w.max() == 1

    def test_a_short_schedule_begins_anew(self):
        rows = np.arange(12, dtype=np.float32).reshape(2, 6)
        act = constant(rows)
        for at in range(5):
            state = State(np.zeros((3, 8, 8), np.uint8), at)
            np.testing.assert_array_equal(act(state), np.tile(rows[at % 2], (3, 1)))

    def test_chance_is_seeded(self, env):
        a, b = (follow(env, random_policy(3, 6)) for _ in range(2))
        np.testing.assert_array_equal(a[2].actions, b[2].actions)
        assert np.ptp([r.actions[0][0] for r in a]) > 0
