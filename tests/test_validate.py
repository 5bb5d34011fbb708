import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from sdie_fast import InvalidArgumentError, InvalidTypeError, _validate


class TestNumbers:
    rule = staticmethod(_validate.real(0.0, 2.0, above_low=True))
    odd = staticmethod(_validate.integer(3, 11, odd=True))

    @pytest.mark.parametrize("value", [1, 2.0, np.float32(0.5), np.int16(1), Fraction(1, 3), 5e-324])
    def test_real_accepts(self, value):
        checked = self.rule("x", value)
        assert type(checked) is float
        assert checked == float(value)

    @pytest.mark.parametrize("value", [0, -1.0, 2.5, float("nan"), float("inf"), 10**400, np.float32("nan")])
    def test_real_rejects_values(self, value):
        with pytest.raises(InvalidArgumentError, match=r"^x: received .*; accepted: a number > 0"):
            self.rule("x", value)

    @pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0], np.array([1.0])])
    def test_real_rejects_types(self, value):
        with pytest.raises(InvalidTypeError, match=r"^x: received .* of type "):
            self.rule("x", value)

    def test_a_number_too_long_to_print_is_still_told(self):
        with pytest.raises(InvalidArgumentError, match="too long to print"):
            self.rule("x", 10**6000)

    def test_integer(self):
        assert self.odd("n", np.int64(7)) == 7
        for value in (4, 1, 13, -7):
            with pytest.raises(InvalidArgumentError, match=rf"n: received {value}; accepted: an odd"):
                self.odd("n", value)
        for value in (7.0, "7", True, None):
            with pytest.raises(InvalidTypeError, match="accepted: an odd integer from 3 to 11"):
                self.odd("n", value)

    def test_optional_integer(self):
        assert _validate.integer(1, 2, optional=True)("n", None) is None

    def test_choice(self):
        rule = _validate.choice("a", "b")
        assert rule("c", "a") == "a"
        with pytest.raises(InvalidArgumentError, match="c: received 'z'; accepted: 'a', 'b'"):
            rule("c", "z")
        with pytest.raises(InvalidTypeError):
            rule("c", 1)

    def test_flag(self):
        assert _validate.flag("f", np.True_) is True
        for value in (1, 0, None, "yes"):
            with pytest.raises(InvalidTypeError, match="f: received"):
                _validate.flag("f", value)

    def test_path(self):
        assert _validate.path("p", "a/b") == Path("a/b")
        for value in (3, b"bytes", None):
            with pytest.raises(InvalidTypeError, match="p: received"):
                _validate.path("p", value)
        with pytest.raises(InvalidArgumentError, match="null"):
            _validate.path("p", "a\0b")

    def test_long_values_are_cut_short(self):
        with pytest.raises(InvalidArgumentError) as error:
            _validate.choice("a")("c", "z" * 10000)
        assert len(str(error.value)) < 200


class TestThreads:
    def test_none_is_every_cpu_of_the_process(self):
        expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert _validate.threads(None) == expected

    def test_none_without_affinity(self, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert _validate.threads(None) == 1

    @pytest.mark.parametrize("value", [0, -1, 1025, 2**70])
    def test_out_of_range(self, value):
        with pytest.raises(InvalidArgumentError, match=f"threads: received {value}; accepted: an integer"):
            _validate.threads(value)

    @pytest.mark.parametrize("value", [1.0, "2", True])
    def test_wrong_type(self, value):
        with pytest.raises(InvalidTypeError, match="threads: received"):
            _validate.threads(value)


class TestImage:
    @pytest.mark.parametrize(
        ("shape", "planes"),
        [
            ((4, 5), (1, 4, 5, 1)),
            ((2, 4, 5), (2, 4, 5, 1)),
            ((4, 5, 3), (1, 4, 5, 3)),
            ((2, 4, 5, 3), (2, 4, 5, 3)),
            ((5, 3), (1, 5, 3, 1)),
            ((2, 4, 3), (1, 2, 4, 3)),  # a last axis of 3 is colour
            ((4, 5, 1), (1, 4, 5, 1)),
            ((2, 4, 5, 1), (2, 4, 5, 1)),
            ((4, 2), (1, 4, 2, 1)),
        ],
    )
    def test_shapes(self, shape, planes):
        image = np.zeros(shape, np.uint8)
        view = _validate.image(image)
        assert view.shape == planes
        assert np.shares_memory(view, image)

    @pytest.mark.parametrize("shape", [(), (5,), (1, 2, 4, 5, 3)])
    def test_wrong_shapes(self, shape):
        with pytest.raises(InvalidArgumentError, match=r"image: received uint8 array of shape \(.*shapes \(H, W\)"):
            _validate.image(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("channels", [2, 4])
    def test_channels_that_are_no_intensities(self, channels):
        told = (
            rf"shape \(60, 80, {channels}\): {channels} channels; accepted: 1 or 3 .*axes=\"NHW\" .* {channels} pixels"
        )
        with pytest.raises(InvalidArgumentError, match=told):
            _validate.image(np.zeros((60, 80, channels), np.uint8))

    @pytest.mark.parametrize(
        ("shape", "axes"), [((2, 3, 8, 4), None), ((2, 3, 4, 8), None), ((2, 3, 4, 2), "NHWC"), ((6, 8, 4), "HWC")]
    )
    def test_channels_where_no_other_axes_would_do(self, shape, axes):
        with pytest.raises(
            InvalidArgumentError, match=rf"image: .*: {shape[-1]} channels; accepted: 1 or 3 .*beside\)$"
        ):
            _validate.image(np.zeros(shape, np.uint8), axes=axes)

    @pytest.mark.parametrize(
        ("shape", "axes", "planes"),
        [
            ((6, 3), "HW", (1, 6, 3, 1)),
            *(((5, 6, width), "NHW", (5, 6, width, 1)) for width in (1, 2, 3, 4, 9)),
            ((5, 6, 3), "HWC", (1, 5, 6, 3)),
            ((2, 5, 6, 1), "NHWC", (2, 5, 6, 1)),
        ],
    )
    def test_axes(self, shape, axes, planes):
        image = np.zeros(shape, np.uint8)
        view = _validate.image(image, axes=axes)
        assert view.shape == planes
        assert np.shares_memory(view, image)
        assert _validate.output(None, image, axes)[1].shape == planes

    @pytest.mark.parametrize(
        ("axes", "error", "told"),
        [
            (
                "NHW",
                InvalidArgumentError,
                r"axes: received 'NHW' for uint8 .*\(4, 5\); accepted: .* each of its 2 axes",
            ),
            ("WH", InvalidArgumentError, "axes: received 'WH'; accepted: 'HW', 'HWC', 'NHW', 'NHWC'"),
            (("H", "W"), InvalidTypeError, "axes: received"),
        ],
    )
    def test_bad_axes(self, axes, error, told):
        with pytest.raises(error, match=told):
            _validate.image(np.zeros((4, 5), np.uint8), axes=axes)

    @given(hnp.array_shapes(min_dims=0, max_dims=5, max_side=6), st.sampled_from([None, "HW", "HWC", "NHW", "NHWC"]))
    def test_every_shape_is_viewed_or_refused(self, shape, axes):
        image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        known = {2: "HW", 3: "HWC" if shape[-1:] <= (4,) else "NHW", 4: "NHWC"}.get(len(shape))
        meant = axes or known
        if meant is None or len(meant) != len(shape) or (meant[-1] == "C" and shape[-1] not in (1, 3)):
            with pytest.raises(InvalidArgumentError, match=r"^(image|axes): received"):
                _validate.as_planes(image, axes)
            return
        planes = _validate.as_planes(image, axes)
        assert planes.ndim == 4
        assert planes.shape[3] in (1, 3)
        np.testing.assert_array_equal(planes.ravel(), image.ravel())

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 4, 5), (0, 0, 3), (2, 0, 5, 3)])
    def test_empty(self, shape):
        with pytest.raises(InvalidArgumentError, match="image: received an empty float32 array of shape"):
            _validate.image(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("dtype", ["f8", "f2", "i1", "i2", "i8", "u4", "?", ">u2", ">f4", "c8", "O", "S1"])
    def test_wrong_dtypes(self, dtype):
        with pytest.raises(InvalidTypeError, match=r"image: received .* accepted dtypes: uint8"):
            _validate.image(np.zeros((4, 4), dtype))

    @pytest.mark.parametrize("value", [None, 3, [[0, 1], [1, 0]], "x.png", np.float32(1)])
    def test_wrong_types(self, value):
        with pytest.raises(InvalidTypeError, match=r"image: received .* of type .* accepted: a numpy.ndarray"):
            _validate.image(value)

    def test_masked_array(self):
        with pytest.raises(InvalidTypeError, match="masked"):
            _validate.image(np.ma.masked_all((4, 4), np.uint8))

    def test_misaligned_elements_are_copied(self):
        raw = np.frombuffer(bytes(range(1, 4 * 6 * 4 + 2)), np.uint8)[1:].tobytes()
        image = np.frombuffer(b"\0" + raw, np.uint16, offset=1, count=24).reshape(4, 6)
        assert not image.flags.aligned
        view = _validate.image(image)
        assert view.flags.aligned
        np.testing.assert_array_equal(view[0, :, :, 0], image)

    def test_max_pixels(self):
        huge = np.broadcast_to(np.uint8(0), (2**14 + 1, 2**14))
        with pytest.raises(InvalidArgumentError, match=r"16385 x 16384 = .* at most 268435456 \(max_pixels="):
            _validate.image(huge)
        assert _validate.image(huge, 2**29).shape[1:3] == huge.shape
        batch = np.broadcast_to(np.uint8(0), (2**10, 2**10, 2**10))  # counts per image
        assert _validate.image(batch).shape[0] == 2**10
        with pytest.raises(InvalidArgumentError, match="at most 20"):
            _validate.image(np.zeros((3, 7), np.uint8), 20)

    @pytest.mark.parametrize("value", [0, -5, 2**63])
    def test_max_pixels_out_of_range(self, value):
        with pytest.raises(InvalidArgumentError, match=f"max_pixels: received {value}"):
            _validate.image(np.zeros((3, 7), np.uint8), value)

    def test_max_pixels_of_wrong_type(self):
        with pytest.raises(InvalidTypeError, match=r"max_pixels: received 1000000000.0 of type float"):
            _validate.image(np.zeros((3, 7), np.uint8), 1e9)

    def test_longest_side(self):
        with pytest.raises(InvalidArgumentError, match="a side"):
            _validate.image(np.broadcast_to(np.uint8(0), (1, 2**30 + 1)), 2**40)

    def test_size_against_window(self):
        planes = _validate.image(np.zeros((6, 9), np.uint8))
        _validate.size(planes, 6)
        with pytest.raises(InvalidArgumentError, match="received 6 x 9 pixels; accepted: at least 7 x 7"):
            _validate.size(planes, 7)


class TestIntensities:
    @pytest.mark.parametrize(
        ("bad", "told"),
        [
            (np.nan, "NaN"),
            (np.inf, "values from 0 to inf"),
            (-np.inf, "values from -inf to 0"),
            (1.0000001, "to 1.00000012"),
            (-1e-30, "values from -1"),
        ],
    )
    def test_float(self, bad, told):
        image = np.zeros((1, 5, 5, 1), np.float32)
        image[0, 2, 3, 0] = bad
        with pytest.raises(InvalidArgumentError, match=f"image: received .*{told}.*accepted: finite"):
            _validate.intensities(image, 1.0)

    def test_float_bounds_are_inside(self):
        _validate.intensities(np.array([0.0, 1.0, -0.0], np.float32), 1.0)

    def test_white_level(self):
        image = np.full((1, 5, 5, 1), 4096, np.uint16)
        _validate.intensities(image, 65535.0)
        _validate.intensities(image, 4096.0)
        with pytest.raises(InvalidArgumentError, match="values up to 4096; accepted: at most white_level=4095"):
            _validate.intensities(image, 4095.0)

    def test_white_level_of_each_dtype(self):
        assert _validate.white_level(None, np.dtype(np.uint8)) == 255.0
        assert _validate.white_level(None, np.dtype(np.uint16)) == 65535.0
        assert _validate.white_level(4095, np.dtype(np.uint16)) == 4095.0
        assert _validate.white_level(None, np.dtype(np.float32)) == 1.0
        with pytest.raises(InvalidArgumentError, match="white_level: received 255 with a uint8 image"):
            _validate.white_level(255, np.dtype(np.uint8))

    @pytest.mark.parametrize("value", [0, -1, 65536, np.nan])
    def test_white_level_out_of_range(self, value):
        with pytest.raises(InvalidArgumentError, match="white_level: received"):
            _validate.white_level(value, np.dtype(np.uint16))


class TestOutput:
    image = np.zeros((6, 8), np.float32)

    def test_made_when_missing(self):
        out, planes = _validate.output(None, self.image[::2, ::-2])
        assert (out.shape, out.dtype, planes.shape) == ((3, 4), np.float32, (1, 3, 4, 1))

    @pytest.mark.parametrize(
        "view",
        [
            np.zeros((12, 16), np.float32)[::2, ::2],
            np.zeros((6, 8), np.float32)[::-1, ::-1],
            np.zeros((8, 6), np.float32).T,
            np.zeros((6, 8, 4), np.float32)[:, :, 1],
            np.zeros((6, 8), [("v", "f4"), ("w", "f4")])["w"],
        ],
    )
    def test_strided_is_the_object_given(self, view):
        out, planes = _validate.output(view, self.image)
        assert out is view
        assert np.shares_memory(planes, view)

    @pytest.mark.parametrize(
        ("out", "error", "told"),
        [
            (np.zeros((6, 8), np.uint8), InvalidTypeError, "out: received uint8 array .* float32"),
            (np.zeros((6, 8), ">f4"), InvalidTypeError, "accepted dtype: the image's float32"),
            (np.zeros((6, 9), np.float32), InvalidArgumentError, r"shape \(6, 9\); .* \(6, 8\)"),
            (np.zeros((1, 6, 8), np.float32), InvalidArgumentError, "shape"),
            ([[0.0]], InvalidTypeError, "out: received .* of type list"),
            (np.ma.zeros((6, 8), np.float32), InvalidTypeError, "out: received a masked"),
            (np.broadcast_to(np.float32(0), (6, 8)), InvalidArgumentError, "read-only"),
            (np.zeros((6, 33), np.uint8)[:, 1:].view("f4"), InvalidArgumentError, "misaligned"),
        ],
    )
    def test_rejected(self, out, error, told):
        with pytest.raises(error, match=told):
            _validate.output(out, self.image)

    def test_elements_that_share_memory(self):
        row = np.zeros(64, np.float32)
        for strides in ((0, 4), (4, 4), (16, 4)):
            with pytest.raises(InvalidArgumentError, match="do not overlap"):
                _validate.output(as_strided(row, (6, 8), strides), self.image)
        windows = sliding_window_view(row, 8, writeable=True)[:6]
        with pytest.raises(InvalidArgumentError, match="do not overlap"):
            _validate.output(windows, self.image)

    def test_shared_with_the_image(self):
        frame = np.zeros((12, 16), np.float32)
        for image, out in (
            (frame[:6, :8], frame[:6, :8]),
            (frame[:6, :8], frame[5:11, 7:15]),
            (frame[:6, :8], frame[5::-1, 7::-1]),
            (frame.ravel()[:48].reshape(6, 8), frame.ravel()[47:95].reshape(6, 8)),
        ):
            with pytest.raises(InvalidArgumentError, match="shares memory with image"):
                _validate.output(out, image)

    def test_interleaved_with_the_image_is_no_overlap(self):
        frame = np.zeros((12, 8), np.float32)
        assert _validate.output(frame[1::2], frame[::2])[0].shape == (6, 8)

    @given(st.data())
    def test_slices_and_transposes_never_count_as_overlapping(self, draw):
        base = np.zeros(draw.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)), np.uint16)
        view = base.transpose(draw.draw(st.permutations(range(3))))
        view = view[draw.draw(hnp.basic_indices(view.shape, min_dims=2, allow_newaxis=False))]
        assert not _validate._overlaps_itself(view)
