import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError, InvalidTypeError, _weights


class TestWeights:
    @pytest.mark.parametrize(
        ("value", "shape"),
        [
            ([1, 2, 3, 4, 5, 6], (1, 6)),
            (np.ones((5, 6), np.float16), (5, 6)),
            (np.ones((2, 5, 6), np.uint64), (2, 5, 6)),
            (((0, 0, 0, 0, 0, 1),), (1, 6)),
        ],
    )
    def test_shapes(self, value, shape):
        weights = _weights.weights(value, sdie.FILTERS)
        assert weights.shape == shape
        assert weights.dtype == np.float32
        assert weights.flags.c_contiguous
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(), (5,), (7,), (6, 5), (0, 6), (2, 0, 6), (0, 1, 6), (1, 1, 1, 6)])
    def test_wrong_shapes(self, shape):
        with pytest.raises(InvalidArgumentError, match=r"weights: received shape \("):
            _weights.weights(np.ones(shape), sdie.FILTERS)

    def test_ragged(self):
        with pytest.raises(InvalidArgumentError, match=r"weights: received \[\[1\], \[1, 2\]\]"):
            _weights.weights([[1], [1, 2]], sdie.FILTERS)

    @pytest.mark.parametrize("value", [None, "abcdef", [True] * 6, [1j] * 6, [None] * 6, ["1"] * 6])
    def test_wrong_types(self, value):
        with pytest.raises(InvalidTypeError, match="weights: received"):
            _weights.weights(value, sdie.FILTERS)

    @pytest.mark.parametrize("bad", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
    def test_wrong_values(self, bad):
        weights = np.ones((2, 3, 6))
        weights[1, 2, 4] = bad
        with pytest.raises(InvalidArgumentError, match=rf"weights: received {bad} at \[1, 2, 4\]; accepted"):
            _weights.weights(weights, sdie.FILTERS)

    def test_all_zero(self):
        weights = np.ones((3, 6))
        weights[1] = 0
        with pytest.raises(InvalidArgumentError, match=r"zeros alone at \[1\]"):
            _weights.weights(weights, sdie.FILTERS)

    @pytest.mark.parametrize("scale", [1e-310, 5e-324, 1e300, 1.7e308])
    def test_extreme_scales(self, scale):
        np.testing.assert_array_equal(
            _weights.weights(np.full(6, scale), sdie.FILTERS), _weights.weights(np.ones(6), sdie.FILTERS)
        )

    def test_the_argument_is_left_alone(self):
        given_weights = np.array([1.0, 0, 0, 0, 0, 3])
        _weights.weights(given_weights, sdie.FILTERS)
        assert given_weights.tolist() == [1.0, 0, 0, 0, 0, 3]

    @given(hnp.arrays(np.float64, (3, 6), elements=st.floats(0, 1e6)))
    def test_normalising_twice_changes_nothing(self, a):
        a[:, 0] += 1e-3
        once = _weights.weights(a, sdie.FILTERS)
        np.testing.assert_array_equal(_weights.weights(once, sdie.FILTERS), once)

    def test_per_image(self):
        each = _weights.weights(np.ones((3, 2, 6)), sdie.FILTERS)
        _weights.weights_for(each, 3)
        _weights.weights_for(each[0], 7)
        with pytest.raises(InvalidArgumentError, match=r"weights: received shape \(3, 2, 6\) for 4 image"):
            _weights.weights_for(each, 4)

    def test_shared(self):
        with pytest.raises(InvalidArgumentError, match=r"shapes \(6,\) or \(T, 6\)"):
            _weights.shared_weights(np.ones((1, 2, 6)), sdie.FILTERS)


class TestFrozen:
    """Weights as keys of caches."""

    @pytest.mark.parametrize(
        "value",
        [
            {"identity": 1, "wls": 2.5},
            [1, 0, 0, 0.5, 0, 0],
            (1, 0, 0, 0, 0, 0),
            np.arange(12.0).reshape(2, 6),
            np.arange(12, dtype=np.uint8).reshape(2, 6)[:, ::-1],
            np.arange(6, dtype=">f4"),
        ],
    )
    def test_thawed_they_are_the_same(self, value):
        again = _weights.thawed(_weights.frozen(value))
        assert type(again) is type(value)
        assert repr(again) == repr(value)  # which messages quote
        assert hash(_weights.frozen(value)) == hash(_weights.frozen(again))

    @pytest.mark.parametrize(
        "value",
        [
            {"identity": True},
            [True, 0, 0, 0, 0, 1],
            {1: 1.0},
            [[1, 0, 0, 0, 0, 0]],
            [{"wls": 1}],
            np.ones((100, 3, 6)),
            np.ones(6, bool),
            np.ones(6, object),
            np.ma.ones(6),
            "wls",
            None,
        ],
    )
    def test_the_rest_is_none(self, value):
        assert _weights.frozen(value) is None

    def test_what_was_accepted_once_lets_nothing_else_pass(self):
        image = np.zeros((9, 9), np.uint8)
        for good, bad in (([1, 0, 0, 0, 0, 0], [True, False, False, False, False, False]), ({"wls": 1}, {"wls": "1"})):
            sdie.enhance(image, good)
            with pytest.raises(InvalidTypeError, match="weights: received"):
                sdie.enhance(image, bad)
        weights = np.ones(6)
        sdie.enhance(image, weights)
        weights[3] = -1
        with pytest.raises(InvalidArgumentError, match=r"weights: received -1.0 at \[0, 3\]"):
            sdie.enhance(image, weights)
        sdie.filters.gamma(image, exponent=1)
        with pytest.raises(InvalidTypeError, match="gamma_exponent: received True"):
            sdie.filters.gamma(image, exponent=True)
