import dataclasses
import importlib.util
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, filters

NAMES = tuple(filters.TABLE)

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
    "gamma_exponent": (0.5, [0.1, 10], [0.09, 10.1]),
    "median_window": (None, [3, 15], [2, 17]),
    "gaussian_window": (None, [3, 15], [2, 17]),
    "gaussian_sigma": (1.5, [0.1, 100], [0, 101]),
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
        assert params.windows()[:6] == (1, 1, 15, 5, 11, 1)
        assert params.bilateral_sigma_range == 75 / 255
        assert params.spatiogram_method == "clahe"

    def test_windows_follow_the_common_one_unless_they_have_their_own(self):
        assert FilterParams(window=9, sharpen_window=3).windows()[:6] == (1, 1, 9, 3, 9, 1)


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
                    "image", "out", "backend", "threads", "white_level", "per_channel", "max_pixels", "axes"
                }  # fmt: skip

    def test_is_the_round_with_all_weight_on_it(self, name, backend, rng):
        image = rng.integers(0, 256, (21, 34), np.uint8)
        weights = {name: 1}
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
        weights = {name: 1}
        np.testing.assert_array_equal(out, sdie.enhance(image, weights, params=params, **common))
        assert out.max() <= 4095

    def test_flat_images_have_flat_results(self, name, backend):
        flat = getattr(filters, name)(np.full((16, 20), 0.5, np.float32), backend=backend)
        if name == "spatiogram":  # a histogram with one bin in use: its place is what equalisation gives
            assert flat.min() >= 0
            assert flat.max() <= 1
        elif name == "gamma":
            np.testing.assert_allclose(flat, np.sqrt(0.5), atol=1e-6)
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
        if filters.TABLE[name]().reach() == 0:
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
    for name in ("wls", "bilateral", "guided", "median", "gaussian"):
        assert getattr(filters, name)(noisy, backend=backend).std() < 0.8 * noisy.std(), name
    for name in ("sharpen", "spatiogram"):
        assert getattr(filters, name)(noisy, backend=backend).std() > 1.2 * noisy.std(), name


def test_edges_survive_smoothing(backend):
    step = np.full((24, 24), 0.2, np.float32)
    step[:, 12:] = 0.8
    for name in ("wls", "bilateral", "median"):
        jump = np.diff(getattr(filters, name)(step, backend=backend)[12])[11]
        assert jump > 0.5, name


class TestTable:
    """What is derived from the table."""

    def test_default_toolkit(self):
        assert sdie.FILTERS == ("identity", "wls", "bilateral", "sharpen", "guided", "spatiogram")
        assert tuple(filters.TABLE)[:6] == sdie.FILTERS
        assert {"gamma", "median", "gaussian"} <= set(filters.TABLE)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_says_what_it_is(self, name):
        own = filters.TABLE[name]()
        assert own.name == name
        assert own.__doc__.splitlines()[0].endswith(".")
        assert own.operations().lanes >= 0
        assert FilterParams().of(name) == own
        for flat, parameter in filters.PARAMETERS.items():
            if flat.startswith(f"{name}_"):
                assert parameter.sentence().endswith(".")

    def test_colours_and_turns_are_their_own(self):
        for of in (lambda f: f.colour, lambda f: f.turn):
            assert len({of(cls) for cls in filters.TABLE.values()}) == len(filters.TABLE)

    @pytest.mark.parametrize("name", NAMES)
    def test_reach_is_how_far_a_pixel_is_seen(self, name, rng):
        own = filters.TABLE[name]()
        if own.whole_image:
            pytest.skip("sees the whole image")
        g = rng.random((41, 41))
        changed = g.copy()
        changed[20, 20] = 1.5 - g[20, 20]
        rows, columns = np.nonzero(own.reference(changed) != own.reference(g))
        farthest = max(np.abs(rows - 20).max(), np.abs(columns - 20).max())
        # Guided means are means of means.
        assert farthest <= own.reach() * (2 if name == "guided" else 1)
        assert farthest >= own.reach()

    def test_resolved_has_every_parameter_and_every_window(self):
        values = FilterParams(window=5, median_window=9).resolved()
        assert set(values) == set(filters.PARAMETERS)
        assert (values["bilateral_window"], values["median_window"]) == (5, 9)
        assert values["wls_lambda"] == 1.0

    def test_dictionary_of_some_filters(self):
        assert list(FilterParams().to_dict(("gamma", "guided"))) == [
            "window",
            "guided_window",
            "guided_eps",
            "gamma_exponent",
        ]

    def test_pickles_without_its_hash(self):
        params = FilterParams(gamma_exponent=2.0)
        hash(params)
        loaded = pickle.loads(pickle.dumps(params))
        assert loaded == params
        assert "_hash" not in vars(loaded)

    def test_signatures_are_told(self):
        signature = inspect.signature(filters.gaussian)
        assert list(signature.parameters)[:3] == ["image", "window", "sigma"]
        assert signature.parameters["sigma"].default == 1.5
        assert "sigma : float" in filters.gaussian.__doc__
        with pytest.raises(TypeError, match=r"gaussian\(\) got an unexpected keyword argument 'radius'"):
            filters.gaussian(np.zeros((9, 9), np.uint8), radius=2)

    def test_stub_is_the_table(self):
        tool = Path(__file__).parents[2] / "tools" / "filter_stub.py"
        spec = importlib.util.spec_from_file_location("filter_stub", tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.PATH.read_text() == module.stub(), "run python tools/filter_stub.py"


class TestToolkit:
    @pytest.mark.parametrize(
        ("weights", "given", "expected"),
        [
            (np.ones(6), None, sdie.FILTERS),
            ({"wls": 1}, None, sdie.FILTERS),
            ([{"wls": 1}, {"median": 2}], None, (*sdie.FILTERS, "median")),
            (np.ones(2), ["median", "wls"], ("median", "wls")),
        ],
    )
    def test_names(self, weights, given, expected):
        assert filters.toolkit(weights, given) == expected

    @pytest.mark.parametrize(
        ("weights", "given", "error", "told"),
        [
            (
                {"blur": 1},
                None,
                InvalidArgumentError,
                "weights: received the unknown filter 'blur'; accepted: identity",
            ),
            ([{"wls": 1}, {"x": 1}], None, InvalidArgumentError, "the unknown filter 'x'"),
            ([1], ["blur"], InvalidArgumentError, "filters: received the unknown filter 'blur'"),
            ([1, 1], ["wls", "wls"], InvalidArgumentError, "filters: received 'wls' twice"),
            ([1], [], InvalidArgumentError, "filters: received no name"),
            ([1], "wls", InvalidTypeError, "filters: received 'wls' of type str"),
            ([1], 3, InvalidTypeError, "filters: received 3"),
        ],
    )
    def test_bad(self, weights, given, error, told):
        with pytest.raises(error, match=told):
            filters.toolkit(weights, given)
