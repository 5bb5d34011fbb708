import dataclasses
import inspect

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, filters

NAMES = sdie.FILTERS[1:]

# Every parameter: its default, values just inside its range, values just outside.
RANGES = {
    "window": (7, [3, 11], [1, 2, 4, 13]),
    "wls_lambda": (1.0, [1e-6, 100], [0, -1, 100.1]),
    "wls_alpha": (1.2, [0.2, 2], [0.19, 2.01]),
    "wls_solver": ("exact", ["fast"], ["Exact", ""]),
    "wls_tol": (1 / 510, [1e-6, 0.1], [0, 0.11]),
    "wls_domain": ("intensity", ["lightness"], ["lab"]),
    "bilateral_window": (None, [3, 15], [1, 4, 17]),
    "bilateral_sigma_space": (1.5, [0.1, 100], [0, 101]),
    "bilateral_sigma_range": (0.1, [0.005, 10], [0.004, 11]),
    "bilateral_footprint": ("square", ["disk"], ["circle"]),
    "sharpen_window": (None, [3, 15], [6, 17]),
    "sharpen_amount": (0.8, [0, 10], [-0.1, 10.1]),
    "sharpen_radius": (1.5, [0.1, 100], [0, 101]),
    "sharpen_threshold": (0.0, [0, 1], [-0.1, 1.1]),
    "guided_window": (None, [3, 15], [8, 17]),
    "guided_eps": (0.01, [1e-4, 10], [0, 11]),
    "spatiogram_method": ("spatiogram", ["clahe", "global"], ["hist"]),
    "spatiogram_bins": (32, [2, 64], [1, 65]),
    "spatiogram_clip_limit": (1.0, [0.1, 100], [0, 101]),
    "spatiogram_tiles": (5, [1, 64], [0, 65]),
}


class TestFilterParams:
    def test_fields_and_defaults(self):
        assert {f.name: f.default for f in dataclasses.fields(FilterParams)} == {
            name: default for name, (default, _, _) in RANGES.items()
        }
        assert FilterParams().to_dict() == {name: default for name, (default, _, _) in RANGES.items()}

    @pytest.mark.parametrize("name", RANGES)
    def test_ranges(self, name):
        _, inside, outside = RANGES[name]
        for value in inside:
            assert getattr(FilterParams(**{name: value}), name) == value
        for value in outside:
            with pytest.raises(InvalidArgumentError, match=f"^{name}: received {value!r}; accepted: "):
                FilterParams(**{name: value})

    @pytest.mark.parametrize("name", RANGES)
    def test_types(self, name):
        for value in (True, 1j, [3], {}):
            with pytest.raises(InvalidTypeError, match=f"^{name}: received "):
                FilterParams(**{name: value})

    @pytest.mark.parametrize("name", [n for n, r in RANGES.items() if isinstance(r[0], float)])
    def test_not_finite(self, name):
        for value in (np.nan, np.inf, -np.inf):
            with pytest.raises(InvalidArgumentError, match=f"^{name}: received "):
                FilterParams(**{name: value})

    def test_frozen_and_hashable(self):
        params = FilterParams(window=9)
        with pytest.raises(dataclasses.FrozenInstanceError):
            params.window = 5
        assert hash(params) == hash(FilterParams(window=9))
        assert params != FilterParams()

    def test_numpy_numbers_become_plain(self):
        params = FilterParams(window=np.int32(5), wls_lambda=np.float32(2), guided_eps=1)
        assert [type(v) for v in (params.window, params.wls_lambda, params.guided_eps)] == [
            int,
            float,
            float,
        ]
        assert params == FilterParams(window=5, wls_lambda=2.0, guided_eps=1.0)

    def test_dictionary_and_back(self):
        params = FilterParams.published_code()
        assert FilterParams.from_dict(params.to_dict()) == params
        assert FilterParams.from_dict({}) == FilterParams()

    def test_unknown_key(self):
        with pytest.raises(InvalidArgumentError, match="params: received the unknown key 'sigma'; accepted: window"):
            FilterParams.from_dict({"sigma": 1})
        with pytest.raises(InvalidTypeError, match=r"params: received \[\] of type list"):
            FilterParams.from_dict([])

    def test_published_code(self):
        params = FilterParams.published_code()
        assert params.wls_domain == "lightness"
        assert params.bilateral_footprint == "disk"
        assert params.windows() == (1, 1, 15, 5, 11, 1)
        assert params.bilateral_sigma_range == 75 / 255
        assert params.spatiogram_method == "clahe"

    def test_windows_follow_the_common_one_unless_they_have_their_own(self):
        assert FilterParams(window=9, sharpen_window=3).windows() == (1, 1, 9, 3, 9, 1)


@pytest.mark.parametrize("name", NAMES)
class TestEachFilter:
    def test_defaults_are_those_of_the_parameters(self, name):
        expected = {own: 7 if own.endswith("window") else r[0] for own, r in RANGES.items()}
        for option, parameter in inspect.signature(getattr(filters, name)).parameters.items():
            own = f"{name}_{option.rstrip('_')}"
            if own in RANGES:
                assert parameter.default == expected[own]
            else:
                assert option in {
                    "image", "out", "backend", "threads", "white_level", "per_channel", "max_pixels"
                }  # fmt: skip

    def test_is_the_round_with_all_weight_on_it(self, name, backend, rng):
        image = rng.integers(0, 256, (21, 34), np.uint8)
        weights = np.eye(6)[sdie.FILTERS.index(name)]
        np.testing.assert_array_equal(
            getattr(filters, name)(image, backend=backend),
            sdie.enhance(image, weights, backend=backend),
        )

    def test_passes_every_option_on(self, name, backend, rng):
        image = rng.integers(0, 4096, (2, 21, 34, 3), np.uint16)
        out = np.empty_like(image)
        options = {
            option: RANGES[f"{name}_{option.rstrip('_')}"][1][0]
            for option in inspect.signature(getattr(filters, name)).parameters
            if f"{name}_{option.rstrip('_')}" in RANGES
        }
        common = {
            "backend": backend,
            "threads": 2,
            "white_level": 4095,
            "per_channel": True,
            "max_pixels": 21 * 34,
        }
        result = getattr(filters, name)(image, **options, **common, out=out)
        assert result is out
        params = FilterParams(**{f"{name}_{k.rstrip('_')}": v for k, v in options.items()})
        weights = np.eye(6)[sdie.FILTERS.index(name)]
        np.testing.assert_array_equal(out, sdie.enhance(image, weights, params=params, **common))
        assert out.max() <= 4095

    def test_flat_images_have_flat_results(self, name, backend):
        flat = getattr(filters, name)(np.full((16, 20), 0.5, np.float32), backend=backend)
        if name == "spatiogram":  # a histogram with one bin in use: its place is what equalisation gives
            assert flat.min() >= 0
            assert flat.max() <= 1
        else:
            np.testing.assert_allclose(flat, 0.5, atol=1e-6)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_stays_in_range(self, name, dtype, backend, rng):
        white = 1 if dtype == np.float32 else np.iinfo(dtype).max
        image = (rng.integers(0, 2, (19, 23)) * white).astype(dtype)
        result = getattr(filters, name)(image, backend=backend)
        assert result.dtype == dtype
        assert result.shape == image.shape
        assert result.min() >= 0
        assert result.max() <= white

    def test_image_smaller_than_the_window(self, name, backend):
        image = np.zeros((6, 40), np.uint8)
        if name in ("wls", "spatiogram"):  # which have none
            assert getattr(filters, name)(image[:1, :1], backend=backend).shape == (1, 1)
        else:
            with pytest.raises(InvalidArgumentError, match="6 x 40 pixels; accepted: at least 7 x 7"):
                getattr(filters, name)(image, backend=backend)
            assert getattr(filters, name)(image, window=5, backend=backend).shape == image.shape

    def test_bad_input(self, name):
        function = getattr(filters, name)
        good = np.zeros((20, 20), np.float32)
        for bad in (good[:0], good + 2, good * np.nan):
            with pytest.raises(InvalidArgumentError, match="image: received"):
                function(bad)
        for bad in (good.astype(np.float64), good.tolist(), None):
            with pytest.raises(InvalidTypeError, match="image: received"):
                function(bad)
        for option, value, error in (
            ("out", good, InvalidArgumentError),
            ("out", good.tolist(), InvalidTypeError),
            ("backend", "gpu", InvalidArgumentError),
            ("backend", 1, InvalidTypeError),
            ("threads", 0, InvalidArgumentError),
            ("threads", 1.5, InvalidTypeError),
            ("white_level", 255, InvalidArgumentError),
            ("per_channel", 1, InvalidTypeError),
            ("max_pixels", 399, InvalidArgumentError),
        ):
            told = "image: received 20 x 20" if option == "max_pixels" else f"{option}: received"
            with pytest.raises(error, match=told):
                function(good, **{option: value})


def test_parameters_are_checked_by_the_names_of_their_fields():
    image = np.zeros((20, 20), np.uint8)
    for call, told in (
        (lambda: filters.wls(image, lambda_=-1), "wls_lambda: received -1"),
        (lambda: filters.wls(image, solver="cg"), "wls_solver: received 'cg'"),
        (lambda: filters.bilateral(image, window=8), "bilateral_window: received 8"),
        (lambda: filters.sharpen(image, amount=11), "sharpen_amount: received 11"),
        (lambda: filters.guided(image, eps=0), "guided_eps: received 0"),
        (lambda: filters.spatiogram(image, method="x"), "spatiogram_method: received 'x'"),
    ):
        with pytest.raises(InvalidArgumentError, match=told):
            call()


def test_smoothing_smooths_and_sharpening_sharpens(backend, rng):
    noisy = np.clip(0.5 + 0.05 * rng.standard_normal((48, 48)), 0, 1).astype(np.float32)
    for name in ("wls", "bilateral", "guided"):
        assert getattr(filters, name)(noisy, backend=backend).std() < 0.8 * noisy.std(), name
    for name in ("sharpen", "spatiogram"):
        assert getattr(filters, name)(noisy, backend=backend).std() > 1.2 * noisy.std(), name


def test_edges_survive_smoothing(backend):
    step = np.full((24, 24), 0.2, np.float32)
    step[:, 12:] = 0.8
    for name in ("wls", "bilateral"):
        jump = np.diff(getattr(filters, name)(step, backend=backend)[12])[11]
        assert jump > 0.5, name
