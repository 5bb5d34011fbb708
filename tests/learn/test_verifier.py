"""What a verifier sees, that it learns, and that its file is data and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from sdie_fast.errors import RunError
from sdie_fast.learn.cases import Case
from sdie_fast.learn.forest import Forest
from sdie_fast.learn.verifier import (
    FEATURES,
    LOOKS,
    REFERRED,
    SHIPPED,
    SIGNALS,
    Evidence,
    Looks,
    Reference,
    References,
    Verifier,
    agreements,
    describe,
)
from sdie_fast.segment.prompts import Answer

SIZE = 48


def disk(cy, cx, radius):
    y, x = np.mgrid[:SIZE, :SIZE]
    return (y - cy) ** 2 + (x - cx) ** 2 <= radius**2


def picture(truth, seed=0, light=60):
    noise = np.random.default_rng(seed).normal(90, 4, truth.shape)
    return (noise + light * truth).clip(0, 255).astype(np.uint8)


def look(mask, image=None):
    return dict(zip(LOOKS, Looks(picture(mask) if image is None else image).of(mask), strict=True))


class TestLooks:
    def test_a_disk_by_hand(self):
        truth = disk(24, 24, 8)
        found = look(truth)
        share = truth.mean()
        assert found[LOOKS[0]] == pytest.approx(np.log(share + 1e-3), rel=1e-5)
        # The outline of a small disk is longer than a circle by what pixels add, and the outer row only counts once.
        assert abs(found["log compactness, 0 for a disk"]) < 0.3
        assert found["log number of parts"] == 0
        assert found[LOOKS[7]] == 0
        deviation = picture(truth).std() / 255
        assert found[LOOKS[1]] * deviation == pytest.approx(60 / 255, rel=0.25)
        assert found["mean gradient along the outline over the image's mean"] > 3

    def test_what_differs(self):
        truth = disk(24, 24, 8)
        image = picture(truth)
        shifted, two = disk(24, 10, 8), disk(12, 12, 5) | disk(36, 36, 5)
        assert look(shifted, image)[LOOKS[6]] < look(truth, image)[LOOKS[6]]
        assert look(shifted, image)[LOOKS[5]] < look(truth, image)[LOOKS[5]]
        assert look(two)["log number of parts"] == pytest.approx(np.log(2))
        bar = np.zeros_like(truth)
        bar[20:23] = True
        assert look(bar)["log compactness, 0 for a disk"] > 1
        assert look(bar)[LOOKS[7]] == pytest.approx((0 + 0 + 3 / 48 + 3 / 48) / 4)
        dark = picture(truth, light=-50)
        assert look(truth, dark)[LOOKS[5]] < 0 < look(truth, image)[LOOKS[5]]

    @pytest.mark.parametrize("mask", [np.zeros((9, 7), bool), np.ones((9, 7), bool)])
    def test_nothing_and_everything(self, mask):
        found = Looks(np.full((9, 7), 80, np.uint8)).of(mask)
        assert np.isfinite(found).all()
        assert found[1] == 0

    @given(st.integers(0, 2**32), st.integers(3, 40), st.integers(3, 40))
    @settings(max_examples=25, deadline=None)
    def test_always_finite(self, seed, height, width):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (height, width)).astype(np.uint8)
        assert np.isfinite(Looks(image).of(rng.random((height, width)) < rng.random())).all()


def test_agreements_by_hand():
    a, b = disk(24, 24, 8), np.zeros((SIZE, SIZE), bool)
    np.testing.assert_allclose(agreements([a, a, b]), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(agreements([a]), [1.0])


def test_describe_by_hand():
    truth = disk(24, 24, 8)
    image = picture(truth)
    answers = [Answer(truth, 0.9, 0.8), Answer(disk(10, 10, 4), 0.3, 0.2)]
    rows = describe(image, answers)
    assert rows.shape == (2, len(FEATURES))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, -3:-1], [[0.9, 0.8], [0.3, 0.2]], rtol=1e-6)
    own = Looks(image).of(truth)
    reference = Reference(own[:6].astype(float), np.full(6, 2.0))
    wide = describe(image, answers, reference)
    assert wide.shape == (2, len(FEATURES) + len(REFERRED))
    np.testing.assert_allclose(wide[0, len(FEATURES) :], 0, atol=1e-5)
    distance = (Looks(image).of(answers[1].mask)[:6] - own[:6]) / 2.0
    np.testing.assert_allclose(wide[1, len(FEATURES) : -2], np.abs(distance), rtol=1e-5)
    assert wide[1, -2] == pytest.approx(distance[0], rel=1e-5)
    assert wide[1, -1] == pytest.approx(np.mean(distance**2), rel=1e-5)


def case(radius, label="a", name="1"):
    truth = disk(24, 24, radius) if radius else np.zeros((SIZE, SIZE), bool)
    return Case(picture(truth), truth, "auto", label, name)


class TestReferences:
    def test_one_of_the_others(self):
        shots = [case(4, "a", "1"), case(8, "a", "2"), case(12, "b", "3")]
        references = References(shots)
        looks = [Looks(s.image).of(s.truth)[:6] for s in shots]
        np.testing.assert_allclose(references.of("a").mean, np.mean(looks[:2], 0), rtol=1e-6)
        np.testing.assert_allclose(references.of("a", without="1").mean, looks[1], rtol=1e-6)
        # A single shot can only be compared with itself.
        np.testing.assert_allclose(references.of("b", without="3").mean, looks[2], rtol=1e-6)
        floor = 0.5 * np.std(looks, 0) + 0.05
        np.testing.assert_allclose(references.of("b").spread, floor, rtol=1e-5)
        assert set(references.all()) == {"a", "b"}

    def test_shots_without_foreground(self):
        references = References([case(0, "a", "1"), case(8, "b", "2")])
        np.testing.assert_allclose(references.of("a").mean, references.of("b").mean)
        assert References([case(0)]).of("a") is None
        assert References([case(0)]).all() == {}

    def test_the_first_view_counts(self):
        twice = References([case(4), case(12)])
        np.testing.assert_allclose(twice.of("a").mean, References([case(4)]).of("a").mean)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 5)).astype(np.float32)
    targets = (features[:, 0] + (features[:, 1] > 0.3)).astype(np.float32)
    return features, targets


class TestForest:
    def test_is_scikit_learns(self, rows):
        from sklearn.ensemble import ExtraTreesRegressor

        from sdie_fast.learn import forest as trees

        features, targets = rows
        theirs = ExtraTreesRegressor(trees.TREES, min_samples_leaf=trees.LEAF, max_features=0.5, random_state=3).fit(
            features, targets
        )
        other = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
        ours = Forest.fit(features, targets, 3)
        # Thresholds are rounded to float32: a row at one may fall on the other side.
        np.testing.assert_allclose(ours.predict(other), theirs.predict(other), atol=0.02)
        assert np.corrcoef(ours.predict(other), other[:, 0] + (other[:, 1] > 0.3))[0, 1] > 0.9

    def test_forests_blended_have_an_equal_say(self, rows):
        features, targets = rows
        a = Forest.fit(features, targets, 3)
        b = Forest.fit(features, 100 * np.abs(features[:, 2]), 4)
        b = Forest(b.roots[:30], b.feature, b.threshold, b.left, b.right, b.value, b.width)
        both = Forest.blended((a, b), features)
        other = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
        expected = np.mean([f.predict(other) / f.predict(features).std() for f in (a, b)], 0)
        np.testing.assert_allclose(both.predict(other), expected, rtol=1e-4)
        constant = Forest.fit(features, np.zeros(len(features), np.float32), 0)
        assert np.isfinite(Forest.blended((a, constant), features).predict(other)).all()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"left": [1, 0, 2]},  # round in circles
            {"right": [9, 1, 2]},
            {"left": [-1, 1, 2]},
            {"feature": [2, 0, 0]},
            {"roots": [3]},
            {"roots": []},
            {"value": [0.0]},
            {"right": [0, 1, 2]},
        ],
    )
    def test_not_trees(self, wrong):
        good = {
            "roots": [0],
            "feature": [1, 0, 0],
            "left": [1, 1, 2],
            "right": [2, 1, 2],
            "threshold": [0.5, 0.0, 0.0],
            "value": [0.0, 1.0, 2.0],
        }

        def made(given):
            real = ("threshold", "value")
            return Forest(
                **{k: np.array(v, np.float32 if k in real else np.int32) for k, v in given.items()},
                width=2,
            )

        np.testing.assert_array_equal(made(good).predict(np.array([[9, 0.5], [0, 0.6]], np.float32)), [1, 2])
        with pytest.raises(RunError, match="not trees"):
            made({**good, **wrong})


@pytest.fixture(scope="module")
def evidence():
    """Masks of the right thing and of the wrong one, of ten shots."""
    found = Evidence()
    references = References([case(4 + k % 5, name=str(k)) for k in range(10)])
    for k in range(10):
        shot = case(4 + k % 5, name=str(k))
        answers = [Answer(shot.truth, 0.5, 0.5), Answer(disk(9, 9, 5), 0.5, 0.5)]
        rows = describe(shot.image, answers, references.of("a", without=str(k)))
        for _ in range(4):
            found.add(rows, answers, shot)
    return found, references


class TestVerifier:
    def test_tells_right_from_wrong(self, evidence, tmp_path):
        found, references = evidence
        verifier = Verifier(found.fit(0), references.all())
        other = disk(30, 20, 7)
        answers = [Answer(disk(9, 9, 5), 0.5, 0.5), Answer(other, 0.5, 0.5)]
        scores = verifier.scores(picture(other, 99), answers, "a")
        assert scores[1] > scores[0] + other.mean() / 2
        (tmp_path / "v.npz").write_bytes(verifier.to_bytes())
        again = Verifier.load(tmp_path / "v.npz")
        assert again.scores(picture(other, 99), answers, "a") == scores
        with pytest.raises(RunError, match="knows the classes a; received 'b'"):
            again.scores(picture(other), answers, "b")

    def test_folds_leave_out_each_shot_once(self, evidence):
        found, _ = evidence
        folds = found.folds(1)
        assert len(folds) == 5
        assert sorted(n for fold in folds for n in fold) == sorted(f"a\t{k}" for k in range(10))
        assert folds != found.folds(2)
        forest = found.fit(0, without=folds[0])
        assert not np.array_equal(forest.value, found.fit(0).value)

    def test_each_shot_is_judged_by_a_forest_that_has_not_seen_it(self, evidence, monkeypatch):
        found, _ = evidence
        monkeypatch.setattr(Evidence, "fit", lambda _, seed, without, prior: (seed, tuple(without), prior))
        unseen = found.unseen(1, "prior")
        assert sorted(unseen) == sorted(set(found.groups))
        for shot, (seed, without, prior) in unseen.items():
            assert (seed, prior) == (1, "prior")
            assert shot in without
        assert {without for _, without, _ in unseen.values()} == {tuple(fold) for fold in found.folds(1)}
        alone = Evidence()
        alone.groups = found.groups[:4]
        assert len(set(alone.groups)) == 1
        assert alone.unseen(1) == Evidence().unseen(1) == {}

    def test_what_rules_choices_are_worth(self, monkeypatch):
        """By hand: three episodes of two shots, one of a third that none can judge."""
        found = Evidence()
        raw, first, second = (0.1, 0.4), (0.2, 0.4), (0.3, 0.3)  # intersections and unions
        for group, overlaps in (
            ("a\t1", (raw, first, second)),
            ("a\t1", (raw, second, second)),
            ("b\t2", (second, raw, first)),
            ("b\t3", (second, second, second)),
        ):
            rows = np.zeros((3, len(FEATURES)), np.float32)
            rows[:, SIGNALS["predicted-iou"]] = (
                0.9,
                0.5,
                0.4,
            )  # the picture as it came is no candidate: the first round
            rows[:, SIGNALS["stability"]] = 0.2, 0.3, 0.7  # the second
            rows[:, SIGNALS["agreement"]] = 0.1, 0.6, 0.6  # of equals the first
            rows[:, 0] = 1, 0, 0  # what the forests below go by
            found.features.append(rows)
            found.overlaps.append(np.float32(overlaps))
            found.groups.append(group)
        monkeypatch.setattr(found, "level", lambda: 0.5)

        class Forest:
            def __init__(self, sign):
                self.sign = sign

            def predict(self, rows):
                return self.sign * rows[:, 0]

        worths = found.worths({"a\t1": Forest(1), "b\t2": Forest(-1)})
        raw, first, second = -0.1, 0.0, 0.15  # I - U / 2
        expected = {
            "predicted-iou": {"a\t1": (first + second) / 2, "b\t2": raw},
            "stability": {"a\t1": second, "b\t2": first},
            "agreement": {"a\t1": (first + second) / 2, "b\t2": raw},
            "verifier": {"a\t1": raw, "b\t2": raw},  # as it came, and the first round
        }
        assert worths.keys() == expected.keys()
        for rule, own in expected.items():
            assert worths[rule] == pytest.approx(own, abs=1e-6), rule
        assert found.worths({}) == {}

    def test_what_was_learned_elsewhere_has_a_say(self, evidence):
        found, references = evidence
        rows = np.concatenate(found.features)
        own, prior = found.fit(0), Forest.fit(rows, -rows[:, 0], 1)
        both = found.fit(0, prior=prior)
        expected = Forest.blended((own, prior), rows)
        np.testing.assert_array_equal(both.predict(rows), expected.predict(rows))
        assert np.corrcoef(both.predict(rows), own.predict(rows))[0, 1] < 0.99
        assert Verifier(both, references.all()).forest.width == own.width

    def test_what_ships_compares_with_shots(self):
        assert Verifier.load(SHIPPED).forest.width == len(FEATURES) + len(REFERRED)

    def test_what_a_mask_is_worth(self, monkeypatch):
        """Its intersection less the level times its union: the level is the MIoU of all that is known."""
        found, targets = Evidence(), []
        right, wrong = case(8, "a", "1"), case(4, "b", "2")
        whole = Answer(np.ones((SIZE, SIZE), bool))
        found.add(np.zeros((2, 3), np.float32), [Answer(right.truth), whole], right)
        found.add(np.zeros((2, 3), np.float32), [Answer(~wrong.truth), whole], wrong)
        a, b = right.truth.mean(), wrong.truth.mean()
        level = (2 * a / (a + 1) + b / 2) / 2
        assert found.level() == pytest.approx(level, rel=1e-5)
        monkeypatch.setattr(Forest, "fit", lambda _rows, t, _seed: targets.append(t))
        found.fit(0)
        expected = [a - level * a, a - level, -level, b - level]
        np.testing.assert_allclose(targets[0], expected, rtol=1e-4)
        found.fit(0, without=["a\t1"])
        np.testing.assert_allclose(targets[1], expected[2:], rtol=1e-4)
        assert Evidence().level() == 0

    def test_evidence_goes_on(self, evidence):
        pytest.importorskip("torch")
        found, _ = evidence
        again = Evidence()
        again.load_state_dict(found.state_dict())
        np.testing.assert_array_equal(again.fit(5).value, found.fit(5).value)
        again = Evidence()
        again.load_state_dict(Evidence().state_dict())
        assert again.groups == []

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04none", None, "pickle", "lacking"])
    def test_a_file_that_is_none(self, evidence, tmp_path, data):
        path = tmp_path / "v.npz"
        if data == "pickle":
            np.savez(path, roots=np.array([print], object))
        elif data == "lacking":
            np.savez(path, width=np.int32(1))
        elif data is not None:
            path.write_bytes(data)
        with pytest.raises(RunError, match=r"v\.npz: "):
            Verifier.load(path)
