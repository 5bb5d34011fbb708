"""Weights by gradient: what is descended is the loss of the pictures that the core makes."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

import sdie_fast as sdie  # noqa: E402
from sdie_fast import InvalidArgumentError, InvalidTypeError  # noqa: E402
from sdie_fast.learn.cases import Case  # noqa: E402
from sdie_fast.learn.gradient import fit_weights  # noqa: E402

from .conftest import make_case  # noqa: E402

FOUR = ("identity", "sharpen", "median", "gaussian")


class Soft:
    """What is lighter than 0.5 is foreground, by a slope."""

    def __init__(self, slope=12.0):
        self.slope, self.pictures = slope, 0

    def shares(self, images):
        self.pictures += len(images)
        return (self.slope * (images - 0.5)).sigmoid()


def speckled(seed):
    """A light square with salt and pepper, which of the four filters the median alone takes away."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((40, 40), bool)
    truth[10:30, 12:28] = True
    image = np.where(truth, 165, 90).astype(np.uint8)
    spots = rng.random(truth.shape)
    image[spots < 0.12], image[spots > 0.88] = 0, 255
    return Case(image, truth)


def smooth(seed):
    """One whose filters' outputs are all within [0, 1]."""
    case = make_case(seed)
    return Case((60 + ndimage.gaussian_filter(case.image.astype(float), 1) / 2).astype(np.uint8), case.truth)


def loss_by_hand(case, weights, filters, params=None):
    """Of the core's own picture, in float64."""
    state = case.image.astype(np.float32) / np.float32(255)
    losses = []
    for row in np.atleast_2d(weights):
        state = sdie.enhance(state, row, filters=filters, params=params)
        shares = 1 / (1 + np.exp(-12.0 * (state.astype(np.float64) - 0.5)))
        both, either = np.minimum(shares, case.truth).sum(), np.maximum(shares, case.truth).sum()
        losses.append(1 - (both + 1) / (either + 1))
    return np.mean(losses)


def softmax(logits):
    found = np.exp(logits)
    return found / found.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param([[0.3, 0.1, 0.4, 0.2]], id="one round, exactly"),
        # Nothing but the identity lies between the first round's weights and the second's picture.
        pytest.param([[0.3, 0.1, 0.4, 0.2], [1, 0, 0, 0]], id="two rounds, through the identity"),
    ],
)
def test_gradient_is_that_of_finite_differences(start, monkeypatch):
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)  # a step of which is the gradient
    cases, filters = [smooth(k) for k in range(2)], FOUR
    rounds, rate = len(start), 0.1
    fit = fit_weights(Soft(), cases, rounds=rounds, steps=2, rate=rate, start=start, filters=filters)
    assert fit.losses[1] < fit.losses[0]
    expected = np.mean([loss_by_hand(c, start, filters) for c in cases])
    assert fit.losses[0] == pytest.approx(expected, abs=2e-3 if rounds > 1 else 1e-5)
    step = np.log(fit.weights[0]) - np.log(start[0])
    gradient = (step - step.mean()) / -rate
    for k in range(4):
        sides = []
        for h in (0.02, -0.02):
            moved = np.array(start, float)
            moved[0] = softmax(np.log(moved[0]) + h * np.eye(4)[k])
            sides.append(np.mean([loss_by_hand(c, moved, filters) for c in cases]))
        assert gradient[k] == pytest.approx((sides[0] - sides[1]) / 0.04, rel=0.03, abs=2e-4)


def test_the_right_filter_is_found():
    cases, told = [speckled(k) for k in range(3)], []
    fit = fit_weights(Soft(), cases, steps=40, filters=FOUR, watch=lambda *t: told.append(t))
    assert FOUR[fit.weights[0].argmax()] == "median"
    assert fit.weights.sum(1) == pytest.approx(1)
    assert fit.weights.dtype == np.float32
    assert told == [(3 * (k + 1), 1 - loss) for k, loss in enumerate(fit.losses)]

    def iou(weights):
        masks = [sdie.enhance(c.image, weights, filters=FOUR) > 127 for c in cases]
        return np.mean([(m & c.truth).sum() / (m | c.truth).sum() for m, c in zip(masks, cases, strict=True)])

    assert iou(fit.weights) > iou(np.ones(4)) + 0.1


@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_given_back_is_the_best(rows):
    """Of steps so long that they miss what lies in the middle."""
    case, options = speckled(0), {"rounds": 2, "filters": ("identity", "median"), "rate": 3.0}
    case.truth[:] = True
    wanted = torch.from_numpy(sdie.enhance(case.image / np.float32(255), [1, 1], filters=options["filters"]))
    segmenter = Soft()
    segmenter.shares = lambda images: 1 - (images - wanted).abs()
    fit = fit_weights(segmenter, [case], steps=4, start=[[0.6, 0.4]] * rows, **options)
    assert fit.weights.shape == (rows, 2)
    assert min(fit.losses) < fit.losses[-1] - 0.01
    again = fit_weights(segmenter, [case], steps=1, start=fit.weights, **options)
    assert again.losses[0] == pytest.approx(min(fit.losses), abs=1e-5)


def test_an_epoch_takes_each_case_once():
    """Steps of two, of three cases: 2 + 1 make an epoch, of which the fifth step has a part."""
    cases = [speckled(k) for k in range(3)]
    segmenter = Soft()
    fit = fit_weights(segmenter, cases, rounds=2, steps=5, batch=2, rate=1e-9, filters=FOUR)
    assert fit.segmentations == segmenter.pictures == 2 * (2 + 1 + 2 + 1 + 2)
    whole = fit_weights(Soft(), cases, rounds=2, steps=1, filters=FOUR).losses[0]
    for at in (0, 2):
        assert (2 * fit.losses[at] + fit.losses[at + 1]) / 3 == pytest.approx(whole, abs=1e-5)


def test_an_unfinished_epoch_does_not_count():
    cases = [speckled(k) for k in range(3)]
    one, two, three = (fit_weights(Soft(), cases, steps=n, batch=2, rate=0.5, filters=FOUR) for n in (1, 2, 3))
    assert three.losses[2] < min(three.losses[:2])
    np.testing.assert_array_equal(three.weights, two.weights)
    np.testing.assert_allclose(one.weights, 0.25, atol=1e-6)  # unless there is no other


def test_same_seed_same_weights():
    cases = [speckled(k) for k in range(4)]
    a, b, c = (fit_weights(Soft(), cases, steps=6, batch=1, seed=s, filters=FOUR) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.weights, b.weights)
    assert a.losses == b.losses != c.losses


def test_parameters_and_toolkit_are_used():
    case, filters = speckled(0), ("median", "identity")
    case.image.flags.writeable = False
    for params in (None, sdie.FilterParams(median_window=3)):
        fit = fit_weights(Soft(), [case], steps=1, params=params, filters=filters, start=[1, 0.1])
        assert fit.losses[0] == pytest.approx(loss_by_hand(case, [1, 0.1], filters, params), abs=1e-5)


def test_a_model_file(tmp_path):
    """The same through a graph of ONNX as through the function that it is."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    from onnx import TensorProto, helper

    from sdie_fast.segment.torch_maps import TorchMaps

    shape = ["n", 1, 40, 40]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "slope"], ["y"])],
        "slope",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("slope", TensorProto.FLOAT, [], [12.0])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    segmenter = TorchMaps(path, mean=127.5, scale=255.0, normalise="sigmoid")
    found = [fit_weights(s, [speckled(0)], steps=4, filters=FOUR) for s in (segmenter, Soft())]
    np.testing.assert_allclose(found[0].losses, found[1].losses, atol=1e-4)
    np.testing.assert_allclose(found[0].weights, found[1].weights, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"segmenter": object()}, InvalidTypeError, "segmenter: received a object; accepted: one with differentiable"),
        ({"cases": []}, InvalidArgumentError, "cases: received"),
        ({"cases": 3}, InvalidArgumentError, "cases: received 3"),
        ({"cases": [3]}, InvalidTypeError, r"cases\[0\]"),
        ({"rounds": 0}, InvalidArgumentError, "rounds"),
        ({"steps": 0}, InvalidArgumentError, "steps"),
        ({"rate": 0.0}, InvalidArgumentError, "rate"),
        ({"batch": 0}, InvalidArgumentError, "batch"),
        ({"seed": -1}, InvalidArgumentError, "seed"),
        ({"start": [1, 2]}, InvalidArgumentError, "start: weights"),
        ({"start": np.ones((3, 6)), "rounds": 2}, InvalidArgumentError, "start: received 3 rows for 2"),
        ({"params": 1}, InvalidTypeError, "params"),
        ({"filters": ("blur",)}, InvalidArgumentError, "filters"),
        ({"threads": 0}, InvalidArgumentError, "threads"),
    ],
)
def test_bad_input(options, kind, told):
    given = {"segmenter": Soft(), "cases": [speckled(0)], **options}
    with pytest.raises(kind, match=told):
        fit_weights(**given)


def test_prompts_from_the_truth_are_refused():
    case = speckled(0)
    for prompt in ("box", None):
        with pytest.raises(InvalidArgumentError, match=r"cases\[1\]: received the prompt"):
            fit_weights(Soft(), [case, Case(case.image, case.truth, prompt)])
