import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError
from sdie_fast.actor import Actions, Choice, observe, weights_of
from sdie_fast.learn import cases as module
from sdie_fast.learn.cases import Case, view_of
from sdie_fast.learn.env import SdieEnv, reward_of
from sdie_fast.learn.episode import Episode
from sdie_fast.learn.places import vote
from sdie_fast.segment import Prompt, Support


def by_hand(env, actions):
    """Final images of a sequence of actions (T, n, 6), through the fused call of all rounds."""
    images = np.stack([c.image for c in env.cases])
    weights = np.stack([weights_of(a) for a in actions], 1)
    return sdie.enhance(images, weights, params=env.params)


class TestRewards:
    def test_by_hand(self):
        mask, truth = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
        mask[0, :2] = truth[0, 1:4] = True
        assert reward_of(mask, truth, "miou") == 1 / 4
        assert reward_of(mask, truth, "fb-iou") == (1 / 4 + 4 / 7) / 2

    def test_empty(self):
        none = np.zeros((3, 3), bool)
        assert reward_of(none, none, "miou") == reward_of(none, none, "fb-iou") == 1
        assert reward_of(none, ~none, "fb-iou") == 0


class TestSteps:
    def test_rounds_are_those_of_enhance(self, env, rng):
        state = env.reset()
        actions = rng.uniform(-1, 1, (3, 4, 6)).astype(np.float32)
        for at in range(3):
            assert state.at == at
            step = env.step(actions[at])
            state = step.state
            assert step.done == (at == 2)
        expected = by_hand(env, actions)
        assert np.abs(step.images.astype(int) - expected).max() <= 1
        np.testing.assert_array_equal(
            state.seen,
            observe(env._state[..., 0], 16),  # what is seen is the state, not its rounding
        )

    def test_reward_is_the_masks(self, env, rng):
        env.reset()
        step = env.step(rng.uniform(-1, 1, (4, 6)))
        for k, case in enumerate(env.cases):
            mask, _ = env.segmenter(step.images[k], grid=1, largest=1.0)
            np.testing.assert_array_equal(mask, step.answers[k].mask)
            assert step.reward[k] == pytest.approx(reward_of(mask, case.truth, "fb-iou"))

    def test_relative_takes_the_first_reward_off(self, env, segmenter, cases, rng):
        other = SdieEnv(
            segmenter, cases, rounds=3, params=env.params, side=16, relative=True,
            options=env.options,
        )  # fmt: skip
        action = rng.uniform(-1, 1, (4, 6))
        for e in (env, other):
            e.reset()
        first = env.judge(range(4), np.stack([c.image for c in cases]))[1]
        np.testing.assert_allclose(other.step(action).reward, env.step(action).reward - first, atol=1e-6)

    @pytest.mark.parametrize("credit", ["vote", "best"])
    @pytest.mark.parametrize("relative", [False, True])
    def test_credit_for_the_masks_so_far(self, env, segmenter, cases, rng, relative, credit):
        credited = SdieEnv(
            segmenter, cases, rounds=3, params=env.params, side=16, relative=relative, credit=credit,
            options=env.options,
        )  # fmt: skip
        actions = rng.uniform(-1, 1, (3, len(cases), 6))
        env.reset()
        credited.reset()
        answers = [[a] for a in env.judge(range(len(cases)), np.stack([c.image for c in cases]))[0]]
        base = [reward_of(a[0].mask, c.truth, "fb-iou") for a, c in zip(answers, cases, strict=True)]
        for action in actions:
            plain, step = env.step(action), credited.step(action)
            for k, case in enumerate(cases):
                answers[k].append(plain.answers[k])
                each = [reward_of(a.mask, case.truth, "fb-iou") for a in answers[k]]
                voted = reward_of(vote(answers[k]), case.truth, "fb-iou")
                want = (voted if credit == "vote" else max(each)) - relative * base[k]
                assert step.reward[k] == pytest.approx(want, abs=1e-6)

    def test_passes_begin_with_the_image_as_it_came(self, segmenter, cases, env, rng):
        several = SdieEnv(segmenter, cases, rounds=6, passes=2, params=env.params, side=16, options=env.options)
        actions = rng.uniform(-1, 1, (6, len(cases), 6))
        state, steps = several.reset(), []
        first = state.seen
        for at, action in enumerate(actions):
            assert state.at == at
            if at in (0, 3):
                np.testing.assert_array_equal(state.seen, first)
            steps.append(several.step(action))
            state = steps[-1].state
            assert steps[-1].done == (at == 5)
        for part in (0, 3):
            env.reset()
            for at in range(3):
                step = env.step(actions[part + at])
                np.testing.assert_array_equal(step.images, steps[part + at].images)

    def test_one_pass_remembers_what_several_do(self, segmenter, cases, env, rng):
        several = SdieEnv(segmenter, cases, rounds=6, passes=2, params=env.params, side=16, options=env.options)
        actions = rng.uniform(-1, 1, (6, len(cases), 6))
        several.reset()
        steps = [several.step(action) for action in actions]
        one, asked = several.one_pass(), segmenter.images
        assert (one.rounds, one.passes, one.calls) == (3, 1, 0)
        one.reset()
        for action, step in zip(actions[:3], steps, strict=False):
            np.testing.assert_array_equal(one.step(action).images, step.images)
        assert segmenter.images == asked
        assert several.calls == 6 * len(cases)

    @pytest.mark.parametrize("passes", [0, 2, 4, 1.5])
    def test_passes_divide_the_rounds(self, segmenter, cases, passes):
        with pytest.raises((InvalidArgumentError, InvalidTypeError), match="passes"):
            SdieEnv(segmenter, cases, rounds=3, passes=passes)

    def test_deterministic_and_remembered(self, env, segmenter, rng):
        action = rng.uniform(-1, 1, (4, 6))
        env.reset()
        first = env.step(action)
        asked = segmenter.images
        env.reset()
        again = env.step(action)
        np.testing.assert_array_equal(first.reward, again.reward)
        np.testing.assert_array_equal(first.state.seen, again.state.seen)
        assert segmenter.images == asked
        assert env.calls == 8  # the budget counts them all the same

    def test_memory_is_bounded(self, segmenter, cases, rng):
        env = SdieEnv(
            segmenter,
            cases,
            remembered=4,
            options={"grid": 1},
            params=FilterParams(wls_solver="fast"),
        )
        env.reset()
        for _ in range(5):
            env.step(rng.uniform(-1, 1, (4, 6)))
        assert len(env._known) <= 8

    def test_the_same_picture_of_two_cases_is_judged_by_each_ones_truth(self, segmenter, cases):
        other = Case(cases[0].image, ~cases[0].truth)
        env = SdieEnv(segmenter, [cases[0], other], options={"grid": 1, "largest": 1.0})
        _, reward = env.judge([0, 1], np.stack([cases[0].image] * 2))
        assert reward[0] > 2 * reward[1]

    def test_chosen_parameters(self, segmenter, cases):
        actions = Actions((Choice("sharpen_amount", 0.1, 10.0),))
        env = SdieEnv(
            segmenter,
            cases[:2],
            actions=actions,
            options={"grid": 1},
            params=FilterParams(wls_solver="fast"),
        )
        env.reset()
        sharpen = np.array([-1, -1, -1, 1, -1, -1], np.float32)
        step = env.step(np.stack([[*sharpen, -1], [*sharpen, 1]]))
        for k, amount in enumerate((0.1, 10.0)):
            expected = sdie.filters.sharpen(cases[k].image, amount=amount)
            assert np.abs(step.images[k].astype(int) - expected).max() <= 1

    def test_participants_may_be_chosen(self, env):
        state = env.reset([2, 2, 0])
        assert len(state.seen) == 3
        np.testing.assert_array_equal(state.seen[0], state.seen[1])
        assert (state.seen[0] != state.seen[2]).any()

    def test_nothing_to_point_at(self, segmenter, cases):
        empty = Case(cases[0].image, np.zeros_like(cases[0].truth), None)
        env = SdieEnv(segmenter, [empty, cases[1]], options={"grid": 1})
        answers, reward = env.judge([0, 1], np.stack([empty.image, cases[1].image]))
        assert not answers[0].mask.any()
        assert reward[0] == 1.0

    def test_most_of_a_steps_time_is_accounted_for(self, env, rng):
        env.reset()
        env.step(rng.uniform(-1, 1, (4, 6)))
        assert all(v > 0 for v in env.seconds.values())


class TestBadInput:
    def test_cases(self, segmenter, cases):
        with pytest.raises(InvalidArgumentError, match="none"):
            SdieEnv(segmenter, [])
        from .conftest import make_case

        with pytest.raises(InvalidArgumentError, match=r"\(32, 32\) and \(40, 40\)"):
            SdieEnv(segmenter, [cases[0], make_case(0, 40)])
        with pytest.raises(InvalidTypeError):
            Case(cases[0].image.astype(np.float32), cases[0].truth)
        with pytest.raises(InvalidTypeError):
            Case(cases[0].image, cases[0].truth.astype(np.uint8))
        with pytest.raises(InvalidArgumentError, match="shape"):
            Case(cases[0].image, cases[0].truth[1:])

    @pytest.mark.parametrize(
        "options", [{"rounds": 0}, {"reward": "dice"}, {"side": 4}, {"relative": 1}, {"params": {}}]
    )
    def test_options(self, segmenter, cases, options):
        with pytest.raises((InvalidArgumentError, InvalidTypeError)):
            SdieEnv(segmenter, cases, **options)

    def test_steps(self, env):
        with pytest.raises(InvalidArgumentError, match="reset"):
            env.step(np.zeros((4, 6)))
        env.reset()
        for bad in (np.zeros((3, 6)), np.zeros((4, 5)), np.full((4, 6), np.nan)):
            with pytest.raises(InvalidArgumentError, match="actions"):
                env.step(bad)
        for _ in range(3):
            env.step(np.zeros((4, 6)))
        with pytest.raises(InvalidArgumentError, match="over"):
            env.step(np.zeros((4, 6)))

    @pytest.mark.parametrize("which", [[], [4], [-1]])
    def test_participants(self, env, which):
        with pytest.raises(InvalidArgumentError, match="which"):
            env.reset(which)


def cases_of(*given, **options):
    return list(module.cases_of(*given, **options))


class TestCases:
    @pytest.fixture
    def data(self, tmp_path):
        from sdie_fast.data import synthetic
        from sdie_fast.data.folder import open_folder

        root = synthetic.write_dataset(tmp_path / "set", synthetic.KINDS[:2], per_kind=3, seed=1, size=(64, 64))
        return open_folder(root, size=64)

    def test_support_leaves_the_image_itself_out(self, data):
        one = data.subset([s.name for s in data.of_class(data.classes[0])])
        cases = cases_of(one, "support", one, own=True)
        assert len(cases) == 3
        assert all(isinstance(c.prompt, Support) for c in cases)
        assert len({id(c.prompt) for c in cases}) == 3
        shown = cases_of(one, "support", one)
        assert len({id(c.prompt) for c in shown}) == 1

    def test_views(self, data):
        plain = cases_of(data, "support", data, own=True)
        turned = cases_of(data, "support", data, own=True, views=4)
        assert len(turned) == 4 * len(plain)
        for k, case in enumerate(turned):
            raw = plain[k // 4]
            assert (case.label, case.name) == (raw.label, raw.name)
            # What is shown stays what was given.
            assert [m.tobytes() for m in case.prompt._masks] == [m.tobytes() for m in raw.prompt._masks]
            steps = (1, -1)[k & 1], (1, -1)[(k >> 1) & 1]
            np.testing.assert_array_equal(case.image, raw.image[:: steps[1], :: steps[0]])
            np.testing.assert_array_equal(case.truth, raw.truth[:: steps[1], :: steps[0]])

    def test_views_are_the_eight_of_a_square(self, rng):
        plane = rng.random((5, 7))
        found = [view_of(plane, k) for k in range(8)]
        assert [v.shape for v in found] == [(5, 7)] * 4 + [(7, 5)] * 4
        assert len({v.tobytes() for v in found}) == 8
        np.testing.assert_array_equal(found[5], plane[:, ::-1].T)

    def test_a_single_shot_shows_itself(self, data):
        one = data.at_most(1)
        cases = cases_of(one, "support", one, own=True)
        assert len(cases) == len(data.classes)

    def test_prompts(self, data):
        assert {c.prompt for c in cases_of(data, "auto")} == {"auto"}
        assert all(isinstance(c.prompt, Prompt) for c in cases_of(data, "box"))
        with pytest.raises(InvalidArgumentError, match="prompt"):
            cases_of(data, "guess")
        other = data.subset([s.name for s in data.of_class(data.classes[1])])
        with pytest.raises(InvalidArgumentError, match="no image of class"):
            cases_of(data, "support", other)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("parameters", [(), (Choice("gamma_exponent", 0.5, 2.0),)])
def test_images_narrower_than_a_pixels_channels(device, parameters, segmenter, rng):
    if device:
        pytest.importorskip("torch")
    actions = Actions(parameters, ("identity", "gamma"))  # filters without a window
    images = list(rng.integers(0, 256, (2, 16, 4), np.uint8))
    episode = Episode(segmenter, images, ["auto"] * 2, actions=actions, side=8, device=device)
    episode.reset()
    step = episode.step(np.zeros((2, actions.size), np.float32))
    expected = [
        sdie.enhance(image, {"identity": 1, "gamma": 1}, params=FilterParams(gamma_exponent=1.0)) for image in images
    ]
    if parameters:
        np.testing.assert_array_equal(step.images, expected)
    assert step.answers[0].mask.shape == (16, 4)
