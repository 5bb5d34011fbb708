"""The search that learning may begin with, and the actor that is taught what it found."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sdie_fast import FILTERS, FilterParams  # noqa: E402
from sdie_fast.actor import Actions  # noqa: E402
from sdie_fast.learn.baselines import constant  # noqa: E402
from sdie_fast.learn.env import SdieEnv, follow  # noqa: E402
from sdie_fast.learn.networks import ActorNet  # noqa: E402
from sdie_fast.learn.warmstart import (  # noqa: E402
    Tried,
    clone,
    portfolio,
    schedule_of,
    search_goals,
    search_passes,
)

from .conftest import Threshold, make_case  # noqa: E402

OTHERS = [k for k, name in enumerate(FILTERS) if name != "identity"]


@pytest.fixture
def env(segmenter):
    """Two shots of each of two classes; passes of two rounds."""
    cases = [make_case(k, label="ab"[k // 2]) for k in range(4)]
    return SdieEnv(
        segmenter, cases, rounds=6, passes=3, reward="miou", params=FilterParams(wls_solver="fast"), side=16,
        options={"grid": 1, "largest": 1.0},
    )  # fmt: skip


def tried(filters, *rewards, general=0.0):
    return Tried(filters, [], np.float32(rewards), general)


class TestSearch:
    def test_each_length_goes_on_with_the_best(self, env):
        told = []
        found = search_passes(env, [[0, 1], [2, 3]], 2, lambda: told.append(1), beam=2)
        assert [len(own) for own in found] == [5 + 2 * 5] * 2
        assert env.calls == 2 * 2 * 15
        assert len(told) == 2 * 15
        for own in found:
            single = {t.filters[0]: float(t.worth.mean()) for t in own if len(t.filters) == 1}
            begun = {t.filters[0] for t in own if len(t.filters) == 2}
            assert sorted(single) == OTHERS
            assert begun == set(sorted(single, key=lambda k: -single[k])[:2])

    def test_rewards_are_those_of_episodes(self, env):
        """A pass tried by itself is what an environment makes of its schedule."""
        (found,) = search_passes(env, [[1, 2]], 2)
        for one in (found[0], found[-1]):
            rows = schedule_of([one], 6, 3, Actions())
            rollouts = follow(env, constant(rows), [1, 2])
            np.testing.assert_allclose(one.rewards, [r.rewards[len(one.filters)] for r in rollouts])

    def test_what_serves_all_classes_is_known(self, env):
        found = search_passes(env, [[0, 1], [2, 3]], 1)
        for one, other in zip(*found, strict=True):
            assert one.filters == other.filters
            expected = (one.rewards.mean() + other.rewards.mean()) / 2
            assert one.general == other.general == pytest.approx(float(expected))


class TestPortfolio:
    def test_serves_the_shots_together(self):
        """The second is not the one most like the first, but the one that is good where that is not."""
        best, like, other = tried((1,), 0.8, 0.1), tried((2,), 0.7, 0.1), tried((3,), 0.1, 0.5)
        assert portfolio([like, other, best], 2) == [best, other]
        assert portfolio([like, other, best], 9) == [best, other, like]

    def test_other_classes_tell_where_the_shots_show_nothing(self):
        assert portfolio([tried((1,), 0.0, general=0.1), tried((2,), 0.0, general=0.4)], 1)[0].filters == (2,)
        assert portfolio([tried((1,), 0.1, general=0.1), tried((2,), 0.0, general=0.4)], 1)[0].filters == (1,)

    def test_schedule(self):
        rows = schedule_of([tried((4,), 0.5), tried((2, 3), 0.5)], 6, 3, Actions())
        weights = Actions().weights(rows)
        identity = FILTERS.index("identity")
        assert (weights.max(1) == 1).all()
        assert list(weights.argmax(1)) == [4, identity, 2, 3, 4, identity]  # fewer than passes: from the first again
        two = Actions(filters=("wls", "median"))
        assert list(two.weights(schedule_of([tried((1,), 0.5)], 2, 1, two)).argmax(1)) == [1, 1]


def test_tensors_are_searched_as_arrays_are(segmenter):
    """The same goals where images and masks are tensors, as on a GPU."""
    cases = [make_case(k, label="ab"[k // 2]) for k in range(4)]
    found = []
    for device in (None, "cpu"):
        env = SdieEnv(
            segmenter, cases, rounds=4, passes=2, reward="miou", params=FilterParams(wls_solver="fast"), side=16,
            options={"grid": 1, "largest": 1.0}, device=device,
        )  # fmt: skip
        found.append(search_goals(env, [0, 1, 2, 3], 0, lambda k, answers: answers[1].mask))
    np.testing.assert_array_equal(*found)


def test_goals_are_each_classs_own(segmenter):
    """One class is bright on dark, which smoothing serves; what its shots find goes to none but them."""
    cases = [make_case(k, label="ab"[k % 2]) for k in range(4)]
    env = SdieEnv(segmenter, cases, rounds=4, passes=2, reward="miou", side=16, options={"grid": 1, "largest": 1.0})
    told = []
    goals = search_goals(env, [0, 1, 2, 3], 0, lambda k, answers: told.append((k, len(answers))))
    assert goals.shape == (4, 4, 6)
    np.testing.assert_array_equal(goals[0], goals[2])
    np.testing.assert_array_equal(goals[1], goals[3])
    assert {length for _, length in told} == {5}  # the picture as it came, and T more
    assert sorted({k for k, _ in told}) == [0, 1, 2, 3]
    gained = [max(r.rewards[1:]) - r.rewards[0] for r in follow(env, constant(goals[0]), [0, 2])]
    assert min(gained) > 0.02  # the noise that hides the blobs is smoothed away


def test_the_actor_is_taught_each_class(segmenter):
    """Two kinds of surface that look different get each its own schedule, also seen turned, which it was not shown."""
    light, dark = np.full((32, 32), 200, np.uint8), np.full((32, 32), 60, np.uint8)
    light[::2], dark[:, ::4] = 230, 30
    cases = [make_case(0, label="a"), make_case(1, label="b")]
    cases = [type(c)(image, c.truth, "auto", c.label, c.name) for c, image in zip(cases, (light, dark), strict=True)]
    env = SdieEnv(Threshold(), cases, rounds=4, passes=2, side=16, options={"grid": 1, "largest": 1.0})
    goals = np.stack([schedule_of([tried(f, 0.5)], 4, 2, Actions()) for f in ((1, 2), (4,))])
    torch.manual_seed(0)
    net = ActorNet("texture", 4, 6)
    loss = clone(net, env, [0, 1], goals, 0)
    assert loss < 0.05
    assert env.calls == 0  # nothing is segmented for it
    from sdie_fast.learn.distill import demonstrations
    from sdie_fast.learn.td3 import tensors

    def act(state):
        with torch.no_grad():
            return net(*tensors(state, 4)).numpy()

    _, actions = demonstrations(env, act, 5, [light[::-1].copy(), dark[:, ::-1].copy()])
    weights = Actions().weights(actions[:2])
    np.testing.assert_allclose(weights, Actions().weights(goals), atol=0.05)
    assert (weights == 0).mean() > 0.7  # what is left out has no weight at all
