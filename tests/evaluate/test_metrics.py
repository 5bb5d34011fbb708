import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError
from sdie_fast.evaluate.metrics import Meter

masks = arrays(bool, (6, 7))


def mask(text):
    return np.array([[c == "x" for c in row] for row in text.split()])


def test_by_hand():
    meter = Meter(["a", "b"])
    # a: 1 of 3, then 2 of 2; b: 0 of 2.
    assert meter.add("a", mask("xx. ..."), mask(".xx ...")) == pytest.approx(1 / 3)
    assert meter.add("a", mask("xx. ..."), mask("xx. ...")) == 1.0
    assert meter.add("b", mask("x.. ..."), mask("... ..x")) == 0.0
    scores = meter.scores()
    assert scores.iou == {"a": pytest.approx(3 / 5), "b": 0.0}
    assert scores.miou == pytest.approx(0.3)
    assert scores.foreground_iou == pytest.approx(3 / 7)
    # Background: 3 + 4 + 4 agree; of 5 + 4 + 6 that either calls background.
    assert scores.background_iou == pytest.approx(11 / 15)
    assert scores.fb_iou == pytest.approx((3 / 7 + 11 / 15) / 2)
    assert scores.fb_iou_published_code == pytest.approx((2 / 3 + 1 + 0.5) / 3)
    assert scores.images == {"a": 2, "b": 1}


@given(st.lists(st.tuples(st.sampled_from("abc"), masks, masks), min_size=1, max_size=8))
def test_against_scikit_learn(samples):
    jaccard_score = pytest.importorskip("sklearn.metrics").jaccard_score
    meter = Meter()
    for label, prediction, truth in samples:
        meter.add(label, prediction, truth)
    scores = meter.scores()

    def jaccard(of, positive):
        pairs = [(p, t) for label, p, t in samples if label in of]
        p, t = (np.concatenate([m.ravel() for m in side]) for side in zip(*pairs, strict=True))
        if not (p == positive).any() and not (t == positive).any():
            return math.nan
        return jaccard_score(t, p, pos_label=positive)

    expected = {label: jaccard(label, True) for label in dict.fromkeys(s[0] for s in samples)}
    assert scores.iou == pytest.approx(expected, nan_ok=True)
    assert scores.foreground_iou == pytest.approx(jaccard("abc", True), nan_ok=True)
    assert scores.background_iou == pytest.approx(jaccard("abc", False), nan_ok=True)


def test_class_without_a_pixel_is_left_out_of_the_mean():
    meter = Meter(["none", "never"])
    meter.add("none", mask("..."), mask("..."))
    meter.add("one", mask("x.."), mask("x.."))
    scores = meter.scores()
    assert math.isnan(scores.iou["none"])
    assert math.isnan(scores.iou["never"])
    assert scores.miou == 1.0
    assert scores.to_dict()["iou"] == {"none": None, "never": None, "one": 1.0}


@pytest.mark.parametrize(
    ("prediction", "truth", "error"),
    [
        (np.zeros((3, 4), np.uint8), np.zeros((3, 4), bool), InvalidTypeError),
        ([[True]], np.zeros((1, 1), bool), InvalidTypeError),
        (np.zeros((3, 4), bool), np.zeros((4, 3), bool), InvalidArgumentError),
        (np.zeros(4, bool), np.zeros(4, bool), InvalidArgumentError),
    ],
)
def test_bad_input(prediction, truth, error):
    with pytest.raises(error, match="received"):
        Meter().add("a", prediction, truth)


def test_tensors(rng):
    """Summed where they are, one by one or together, as arrays are."""
    torch = pytest.importorskip("torch")
    predictions, truths = rng.random((2, 9, 6, 7)) < 0.4
    labels = list("abcabcabc")
    whole, single, plain = Meter(), Meter(), Meter()
    pair = torch.from_numpy(predictions), torch.from_numpy(truths)
    together = whole.add_batch(labels, *pair)
    for k, label in enumerate(labels):
        own = plain.add(label, predictions[k], truths[k])
        assert single.add(label, pair[0][k], pair[1][k]) == own == together[k]
    assert whole.scores() == single.scores() == plain.scores()
    assert Meter().add_batch(labels, predictions, truths) == together
    with pytest.raises(InvalidTypeError, match=r"received torch\.uint8"):
        Meter().add("a", pair[0][0].byte(), pair[1][0])
    with pytest.raises(InvalidArgumentError, match="received 8 for 9 masks"):
        Meter().add_batch(labels[1:], *pair)
    with pytest.raises(InvalidArgumentError, match=r"accepted: one and the same \(N, H, W\)"):
        Meter().add_batch(labels, pair[0][:, 1:], pair[1])


def test_nothing_counted():
    with pytest.raises(InvalidArgumentError, match="no image"):
        Meter(["a"]).scores()
