import threading

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sdie_fast as sdie
from sdie_fast import (
    FilterParams,
    InvalidArgumentError,
    InvalidTypeError,
)

DTYPES = (np.uint8, np.uint16, np.float32)
ALL = np.ones(6)
# The filters whose output depends continuously, and little, on the rounding of their input.
LOCAL = np.array([2.0, 0, 1, 1, 1, 0])


@st.composite
def weight_vectors(draw, leading=()):
    weights = draw(
        hnp.arrays(
            np.float64,
            (*leading, 6),
            elements=st.one_of(st.just(0.0), st.floats(1e-3, 10)),
            fill=st.nothing(),
        )
    )
    assume((weights.sum(axis=-1) > 0).all())
    return weights


@st.composite
def filter_params(draw):
    odd = st.integers(1, 5).map(lambda r: 2 * r + 1)
    return FilterParams(
        window=draw(odd),
        wls_lambda=draw(st.floats(0.01, 10)),
        wls_alpha=draw(st.floats(0.5, 2)),
        wls_solver=draw(st.sampled_from(["exact", "fast"])),
        wls_domain=draw(st.sampled_from(["intensity", "lightness"])),
        bilateral_window=draw(st.none() | odd),
        bilateral_sigma_space=draw(st.floats(0.5, 20)),
        bilateral_sigma_range=draw(st.floats(0.02, 2)),
        bilateral_footprint=draw(st.sampled_from(["square", "disk"])),
        sharpen_window=draw(st.none() | odd),
        sharpen_amount=draw(st.floats(0, 2)),
        sharpen_radius=draw(st.floats(0.3, 5)),
        guided_window=draw(st.none() | odd),
        guided_eps=draw(st.floats(1e-3, 1)),
        spatiogram_method=draw(st.sampled_from(["spatiogram", "clahe", "global"])),
        spatiogram_bins=draw(st.integers(2, 64)),
        spatiogram_clip_limit=draw(st.floats(0.5, 4)),
        spatiogram_tiles=draw(st.integers(1, 8)),
        gamma_exponent=draw(st.floats(0.2, 5)),
        median_window=draw(st.none() | odd),
        gaussian_window=draw(st.none() | odd),
        gaussian_sigma=draw(st.floats(0.3, 5)),
    )


class TestShapesAndTypes:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "shape", [(17, 24), (24, 17), (7, 7), (3, 17, 24), (17, 24, 3), (2, 17, 24, 3), (1, 17, 24)]
    )
    def test_shape_and_dtype_are_the_images(self, shape, dtype, backend, rng, picture):
        image = picture(rng, shape, dtype)
        before = image.copy()
        result = sdie.enhance(image, ALL, backend=backend)
        assert (result.shape, result.dtype) == (shape, dtype)
        assert type(result) is np.ndarray
        assert not np.array_equal(result, image)
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(9, 11), (2, 9, 11, 3)])
    def test_identity_is_exact(self, shape, dtype, backend, rng, picture):
        image = picture(rng, shape, dtype)
        result = sdie.enhance(image, np.eye(6)[[0, 0, 0]], backend=backend)
        if dtype == np.float32 and shape[-1] == 3:  # luma and back
            np.testing.assert_allclose(result, image, atol=1e-6)
        else:
            np.testing.assert_array_equal(result, image)

    def test_identity_keeps_every_value(self, backend):
        for dtype, count in ((np.uint8, 256), (np.uint16, 65536)):
            image = np.arange(count, dtype=dtype).reshape(-1, 16)
            np.testing.assert_array_equal(sdie.enhance(image, [1, 0, 0, 0, 0, 0], backend=backend), image)
        twelve_bits = np.arange(4096, dtype=np.uint16).reshape(64, 64)
        result = sdie.enhance(twelve_bits, [1, 0, 0, 0, 0, 0], white_level=4095, backend=backend)
        np.testing.assert_array_equal(result, twelve_bits)

    def test_a_single_pixel(self, backend):
        one = np.full((1, 1), 0.25, np.float32)
        assert sdie.enhance(one, [1, 1, 0, 0, 0, 0], backend=backend)[0, 0] == pytest.approx(0.25, abs=1e-6)

    @pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 3), (1, 1)])
    @pytest.mark.parametrize("method", ["spatiogram", "clahe", "global"])
    def test_tiny_images_without_windows(self, shape, method, backend, rng):
        image = rng.random(shape, np.float32)
        params = FilterParams(spatiogram_method=method)
        result = sdie.enhance(image, [1, 1, 0, 0, 0, 1], params=params, backend=backend)
        expected = sdie.enhance(image, [1, 1, 0, 0, 0, 1], params=params, backend="reference")
        np.testing.assert_allclose(result, expected, rtol=0, atol=1 / 510)

    @pytest.mark.parametrize("strided", [False, True])
    @pytest.mark.parametrize("batch", [(), (2,)])
    def test_one_channel_is_grey(self, batch, strided, backend, rng, picture):
        grey = picture(rng, (*batch, 17, 24), np.uint8)
        image, out = grey[..., None], np.zeros((*batch, 17, 24, 2), np.uint8)[..., 1:]
        if strided:  # one channel of four, from the right
            image = np.repeat(image, 4, axis=-1)[..., ::-1, 2:3]
            grey = grey[..., ::-1]
        result = sdie.enhance(image, ALL, backend=backend, out=out)
        assert result is out
        np.testing.assert_array_equal(result[..., 0], sdie.enhance(grey, ALL, backend=backend))
        assert sdie.enhance(image, ALL, backend=backend).shape == image.shape

    @given(
        shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5)),
        dtype=st.sampled_from(DTYPES),
        seed=st.integers(0, 99),
    )
    def test_a_batch_by_its_axes_is_image_after_image(self, shape, dtype, seed, backend, picture):
        images = picture(np.random.default_rng(seed), (*shape[:2], 2 * shape[2]), dtype)[..., ::2]
        weights = {"identity": 1, "gamma": 2}  # filters without a window
        out = np.zeros_like(images)
        sdie.enhance(images, weights, axes="NHW", out=out, backend=backend)
        each = [sdie.enhance(image, weights, backend=backend) for image in images]
        np.testing.assert_array_equal(out, each)
        np.testing.assert_array_equal(
            sdie.filters.gamma(images, axes="NHW", backend=backend),
            [sdie.filters.gamma(image, backend=backend) for image in images],
        )

    def test_uint16_is_scaled_by_the_white_level(self, backend, rng):
        image = rng.integers(0, 256, (20, 20)).astype(np.uint16)
        np.testing.assert_array_equal(
            sdie.enhance(image, ALL, white_level=255, backend=backend),
            sdie.enhance(image.astype(np.uint8), ALL, backend=backend),
        )


class TestWeights:
    @given(weights=weight_vectors(leading=(2,)))
    def test_only_ratios_matter(self, weights, backend, picture):
        image = picture(np.random.default_rng(0), (16, 16), np.float32)
        np.testing.assert_array_equal(
            sdie.enhance(image, weights, backend=backend),
            sdie.enhance(image, 4 * weights, backend=backend),
        )

    def test_one_vector_is_one_round(self, backend, rng, picture):
        image = picture(rng, (16, 20), np.uint8)
        np.testing.assert_array_equal(
            sdie.enhance(image, ALL, backend=backend), sdie.enhance(image, [ALL], backend=backend)
        )

    def test_rounds_feed_the_result_back(self, backend, rng, picture):
        image = picture(rng, (16, 20), np.float32)
        weights = rng.random((4, 6)) * (LOCAL > 0)
        state = image
        for w in weights:
            state = sdie.enhance(state, w, backend=backend)
        np.testing.assert_allclose(sdie.enhance(image, weights, backend=backend), state, atol=1e-6)

    def test_rounds_do_not_round_to_the_images_dtype(self, backend):
        # Nine tenths of a step per round never leave an integer image that is rounded in between.
        image = np.full((16, 16), 100, np.uint8)
        image[:, 8:] = 102
        once = sdie.filters.guided(image, eps=0.1, backend=backend)
        many = sdie.enhance(
            image,
            np.tile(np.eye(6)[4], (30, 1)),
            params=FilterParams(guided_eps=0.1),
            backend=backend,
        )
        assert np.ptp(many.astype(int)) <= np.ptp(once.astype(int))
        np.testing.assert_allclose(many, 101, atol=1)

    def test_each_image_of_a_batch_has_its_own(self, backend, rng, picture):
        batch = picture(rng, (3, 18, 20), np.uint8)
        weights = rng.random((3, 2, 6))
        weights[1, :, 1:] = 0
        result = sdie.enhance(batch, weights, backend=backend)
        for image, w, got in zip(batch, weights, result, strict=True):
            np.testing.assert_array_equal(sdie.enhance(image, w, backend=backend), got)
        np.testing.assert_array_equal(result[1], batch[1])

    def test_by_name(self, backend, rng, picture):
        batch = picture(rng, (2, 18, 20), np.uint8)
        for named, array in (
            ({"sharpen": 1, "wls": 2}, [0, 2, 0, 1, 0, 0]),
            ([{"sharpen": 1}, {"identity": 1, "guided": 1}], [[0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0]]),
            ([[{"sharpen": 1}], [{"bilateral": 3}]], [[[0, 0, 0, 1, 0, 0]], [[0, 0, 1, 0, 0, 0]]]),
        ):
            np.testing.assert_array_equal(
                sdie.enhance(batch, named, backend=backend), sdie.enhance(batch, array, backend=backend)
            )

    def test_array_of_a_toolkit(self, backend, rng, picture):
        image = picture(rng, (18, 20), np.uint8)
        np.testing.assert_array_equal(
            sdie.enhance(image, [[3, 1], [0, 1]], filters=("median", "identity"), backend=backend),
            sdie.enhance(image, [{"median": 3, "identity": 1}, {"identity": 1}], backend=backend),
        )

    def test_a_single_image_is_a_batch_of_one(self, backend, rng, picture):
        image = picture(rng, (18, 20), np.uint8)
        np.testing.assert_array_equal(
            sdie.enhance(image, np.ones((1, 2, 6)), backend=backend),
            sdie.enhance(image, np.ones((2, 6)), backend=backend),
        )

    def test_windows_of_filters_that_are_not_used_do_not_matter(self, backend):
        image = np.zeros((4, 5), np.uint8)
        assert sdie.enhance(image, [1, 1, 0, 0, 0, 1], backend=backend).shape == (4, 5)
        params = FilterParams(sharpen_window=3)
        assert sdie.enhance(image, [1, 0, 0, 1, 0, 0], params=params, backend=backend).shape == (
            4,
            5,
        )
        batch_weights = np.zeros((2, 1, 6))
        batch_weights[:, :, 0] = 1
        batch_weights[1, 0, 4] = 1e-3
        with pytest.raises(InvalidArgumentError, match="received 4 x 5 pixels; accepted: at least 7 x 7"):
            sdie.enhance(np.zeros((2, 4, 5), np.uint8), batch_weights, backend=backend)

    @pytest.mark.parametrize(
        ("weights", "told"),
        [
            ([1, 1, 1, 1, 1, -1], r"received -1.0 at \[0, 5\]"),
            ([0] * 6, "received zeros alone"),
            ([1, 1, 1, 1, 1, np.nan], "received nan"),
            ([1] * 5, r"received shape \(5,\)"),
            (np.ones((2, 1, 6)), r"received shape \(2, 1, 6\) for 1 image"),
            ({"blur": 1}, "received the unknown filter 'blur'; accepted: identity, wls"),
            ({"wls": -1}, "received -1.0 for 'wls'; accepted: finite numbers >= 0"),
            ({}, "received zeros alone"),
            ([{"wls": 1}, [1, 0, 0, 0, 0, 0, 0]], "received .*accepted: shapes"),
        ],
    )
    def test_bad_weights(self, weights, told):
        with pytest.raises(InvalidArgumentError, match=f"weights: {told}"):
            sdie.enhance(np.zeros((9, 9), np.uint8), weights)


class TestColour:
    def test_grey_in_colour_is_grey(self, backend, rng, picture):
        image = picture(rng, (20, 22), np.float32)
        result = sdie.enhance(np.stack([image] * 3, axis=-1), LOCAL, backend=backend)
        expected = sdie.enhance(image, LOCAL, backend=backend)
        np.testing.assert_allclose(result, np.stack([expected] * 3, axis=-1), atol=1e-5)

    def test_chroma_is_carried_over(self, backend, rng):
        image = 0.3 + 0.4 * rng.random((20, 22, 3), np.float32)
        result = sdie.enhance(image, [[1, 0, 1, 0, 1, 0]] * 2, backend=backend)
        np.testing.assert_allclose(np.diff(result, axis=-1), np.diff(image, axis=-1), atol=1e-6)
        luma = np.array([0.299, 0.587, 0.114], np.float32)
        expected = sdie.enhance(image @ luma, [[1, 0, 1, 0, 1, 0]] * 2, backend=backend)
        np.testing.assert_allclose(result @ luma, expected, atol=1e-5)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_per_channel_is_three_grey_images(self, dtype, backend, rng, picture):
        batch = picture(rng, (2, 20, 22, 3), dtype)
        result = sdie.enhance(batch, [ALL] * 2, per_channel=True, backend=backend)
        for c in range(3):
            np.testing.assert_array_equal(result[..., c], sdie.enhance(batch[..., c], [ALL] * 2, backend=backend))

    def test_per_channel_of_grey_changes_nothing(self, backend, rng, picture):
        image = picture(rng, (20, 22), np.uint8)
        np.testing.assert_array_equal(
            sdie.enhance(image, ALL, per_channel=True, backend=backend),
            sdie.enhance(image, ALL, backend=backend),
        )


class TestBackendsAgree:
    @given(
        params=filter_params(),
        weights=weight_vectors(),
        shape=st.tuples(st.integers(11, 40), st.integers(11, 40)),
        dtype=st.sampled_from(DTYPES),
        colour=st.sampled_from([None, False, True]),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_one_round(self, params, weights, shape, dtype, colour, seed, compiled, picture):
        image = picture(np.random.default_rng(seed), shape if colour is None else (*shape, 3), dtype)
        options = {"params": params, "per_channel": bool(colour)}
        result = sdie.enhance(image, weights, backend=compiled, **options).astype(np.float64)
        expected = sdie.enhance(image, weights, backend="reference", **options).astype(np.float64)
        white = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
        # Half a step of an integer on each side comes on top of the round's own tolerance.
        tolerance = 1 / 510 * white + (0 if dtype == np.float32 else 1)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)

    @given(weights=weight_vectors(leading=(3,)), seed=st.integers(0, 2**32 - 1))
    def test_rounds_of_local_filters(self, weights, seed, compiled, picture):
        weights[:, [1, 5]] = 0
        assume((weights.sum(axis=-1) > 0).all())
        image = picture(np.random.default_rng(seed), (19, 33), np.float32)
        np.testing.assert_allclose(
            sdie.enhance(image, weights, backend=compiled),
            sdie.enhance(image, weights, backend="reference"),
            rtol=0,
            atol=1e-4,
        )


class TestThreads:
    @pytest.mark.parametrize("shape", [(5, 40, 44), (300, 310), (3, 20, 24, 3)])
    def test_results_do_not_depend_on_them(self, shape, compiled, rng, picture):
        image = picture(rng, shape, np.uint8)
        expected = sdie.enhance(image, [ALL] * 2, threads=1, backend=compiled)
        for threads in (2, 3, 16, None):
            np.testing.assert_array_equal(sdie.enhance(image, [ALL] * 2, threads=threads, backend=compiled), expected)

    def test_calls_from_several_threads(self, backend, rng, picture):
        images = picture(rng, (6, 30, 34), np.uint8)
        expected = [sdie.enhance(image, ALL, backend=backend) for image in images]
        results = [None] * len(images)

        def work(i):
            results[i] = sdie.enhance(images[i], ALL, backend=backend, threads=2)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        np.testing.assert_array_equal(results, expected)


class TestArguments:
    image = np.zeros((12, 12), np.uint8)

    @pytest.mark.parametrize(
        ("options", "error", "told"),
        [
            (
                {"params": {"window": 5}},
                InvalidTypeError,
                "params: received .*accepted: FilterParams",
            ),
            (
                {"backend": "opencl"},
                InvalidArgumentError,
                "'opencl'; accepted: 'cuda', 'cpu', 'reference', 'auto'",
            ),
            ({"backend": None}, InvalidTypeError, "backend: received None"),
            ({"threads": 0}, InvalidArgumentError, "threads: received 0"),
            ({"threads": 2.0}, InvalidTypeError, "threads: received 2.0"),
            ({"white_level": 255}, InvalidArgumentError, "white_level: received 255 with a uint8"),
            ({"per_channel": "yes"}, InvalidTypeError, "per_channel: received 'yes'"),
            (
                {"max_pixels": 143},
                InvalidArgumentError,
                "12 x 12 = 144 pixels; accepted: at most 143",
            ),
            ({"max_pixels": 0}, InvalidArgumentError, "max_pixels: received 0"),
            ({"axes": "HWC"}, InvalidArgumentError, "axes: received 'HWC' for uint8 array"),
        ],
    )
    def test_bad_options(self, options, error, told):
        with pytest.raises(error, match=told):
            sdie.enhance(self.image, ALL, **options)

    @pytest.mark.parametrize("name", sdie.filters.TABLE)
    def test_alpha_is_refused(self, name, backend):
        rgba = np.zeros((12, 14, 4), np.uint8)
        calls = [
            lambda image: getattr(sdie.filters, name)(image, backend=backend),
            lambda image: sdie.enhance(image, {name: 1}, backend=backend),
            sdie.Enhancer(sdie.Recipe({name: 1}), backend),
        ]
        for call in calls:
            for image in (rgba, rgba[..., :2], rgba[None]):
                with pytest.raises(
                    InvalidArgumentError, match=f"image: .*: {image.shape[-1]} channels; accepted: 1 or 3"
                ):
                    call(image)

    def test_large_images_need_a_limit_of_their_own(self):
        with pytest.raises(InvalidArgumentError, match="max_pixels= raises the limit"):
            sdie.enhance(np.broadcast_to(np.uint8(0), (2**14 + 1, 2**14)), ALL)

    def test_values_above_the_white_level(self):
        with pytest.raises(InvalidArgumentError, match="up to 4096; accepted: at most white_level=4095"):
            sdie.enhance(np.full((12, 12), 4096, np.uint16), ALL, white_level=4095)
