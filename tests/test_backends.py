import dataclasses
import importlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import BackendUnavailableError, InvalidArgumentError, InvalidTypeError, _backends

IMAGE = np.full((9, 9), 0.5, np.float32)


@pytest.fixture
def without(monkeypatch):
    """Make named backends unavailable for the test."""

    def take(*names):
        _backends._automatic.cache_clear()
        real = _backends.get

        def get(name):
            found = real(name)
            if name in names:
                return _backends.Backend(name, False, f"no {name} today", f"wait for {name}", found.run)
            return found

        monkeypatch.setattr(_backends, "get", get)

    yield take
    _backends._automatic.cache_clear()


def test_names():
    assert _backends.NAMES == ("cuda", "cpu", "reference", "auto")
    assert [b.name for b in _backends.backends()] == ["cuda", "cpu", "reference"]


def test_each_backend_is_available_or_says_why_not():
    for found in _backends.backends():
        assert found.available == (not found.reason) == (not found.fix)
        assert found is _backends.get(found.name)


def test_resolve(backend):
    assert _backends.resolve(backend).name == backend


@pytest.mark.parametrize("name", ["gpu", "CPU", ""])
def test_unknown_name(name):
    told = f"backend: received '{name}'; accepted: 'cuda', 'cpu', 'reference', 'auto'"
    with pytest.raises(InvalidArgumentError, match=told):
        _backends.resolve(name)


def test_name_of_wrong_type():
    with pytest.raises(InvalidTypeError, match="backend: received 3 of type int"):
        _backends.resolve(3)


def test_a_named_backend_that_cannot_run_raises(without):
    without("cpu")
    with pytest.raises(BackendUnavailableError, match="'cpu' cannot run here: no cpu today; to fix: wait for cpu"):
        sdie.enhance(IMAGE, np.ones(6), backend="cpu")


def test_auto_takes_the_first_that_runs_without_a_word(compiled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _backends.resolve("auto").name == compiled


@pytest.mark.parametrize(
    "call",
    [
        lambda: sdie.enhance(IMAGE, np.ones(6)),
        lambda: sdie.filters.guided(IMAGE),
    ],
)
def test_auto_falls_back_with_one_warning_at_the_callers_line(without, call):
    without("cpu")
    with pytest.warns(RuntimeWarning, match="'auto' runs 'reference'.*no cpu today.*wait for cpu") as told:
        call()
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


def test_auto_raises_where_nothing_runs(without):
    without("cpu", "reference")
    with pytest.raises(BackendUnavailableError, match=r"no cpu today.*no reference today"):
        sdie.enhance(IMAGE, np.ones(6))


def test_auto_says_nothing_of_a_gpu_that_is_not_there(without, compiled):
    without("cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sdie.enhance(IMAGE, np.ones(6))


def test_auto_leaves_the_gpu_alone_until_the_crossover_is_measured(python):
    # Not even the driver is asked, which would spoil a fork.
    code = (
        "import sys, numpy as np, sdie_fast as sdie; from sdie_fast import _backends as b;"
        "sdie.enhance(np.zeros((9, 9), np.uint8), np.ones(6)); sdie.Enhancer(sdie.default_recipe());"
        "from sdie_fast.cuda import driver;"
        "print(b.CROSSOVER_ELEMENTS, [m for m in sys.modules if m.startswith('numba')], driver.state.cache_info().misses)"
    )
    assert python(code) == "inf [] 0"


def test_above_the_crossover_auto_takes_the_gpu(monkeypatch, compiled):
    ran = []

    def run(src, dst, weights, params, options):
        ran.append(src.shape)
        dst[...] = src

    real = _backends.get
    gpu = _backends.Backend("cuda", True, "", "", run)
    monkeypatch.setattr(_backends, "get", lambda name: gpu if name == "cuda" else real(name))
    monkeypatch.setattr(_backends, "CROSSOVER_ELEMENTS", 81)
    sdie.enhance(IMAGE, np.ones(6))
    sdie.enhance(IMAGE[:8], np.ones(6))
    sdie.enhance(IMAGE, np.ones(6), backend="cpu")
    assert ran == [(1, 9, 9, 1)]


def test_a_filter_that_a_backend_lacks(monkeypatch, compiled):
    """An explicit backend says which; only "auto" takes another, audibly."""
    real = _backends.get
    poor = dataclasses.replace(real("cpu"), filters=sdie.FILTERS)
    monkeypatch.setattr(_backends, "get", lambda name: poor if name == "cpu" else real(name))
    with pytest.raises(sdie.BackendUnavailableError, match="'cpu' cannot run here: it has no filter 'median'"):
        sdie.enhance(IMAGE, {"wls": 1, "median": 1}, backend="cpu")
    sdie.enhance(IMAGE, {"wls": 1}, backend="cpu")
    _backends._automatic.cache_clear()
    with pytest.warns(RuntimeWarning, match="'auto' runs 'reference', which is slower, because 'cpu' .* 'median'"):
        result = sdie.enhance(IMAGE, {"median": 1})
    _backends._automatic.cache_clear()
    np.testing.assert_array_equal(result, sdie.enhance(IMAGE, {"median": 1}, backend="reference"))


def test_listing_the_backends_imports_no_numba(python):
    code = (
        "import sys; from sdie_fast import _backends as b; b.backends();"
        "print([m for m in sys.modules if m.split('.')[0] in ('numba', 'numba_cuda', 'cuda')])"
    )
    assert python(code) == "[]"


PRINT_CPU = "from sdie_fast import _backends as b; c = b.get('cpu'); print(c.available, c.reason, c.fix)"


def test_a_missing_compiled_module_is_told(python, tmp_path):
    source = Path(sdie.__file__).parent
    shutil.copytree(source, tmp_path / "sdie_fast", ignore=shutil.ignore_patterns("_core*", "__pycache__"))
    told = python(PRINT_CPU, package_root=tmp_path)
    assert told.startswith("False the compiled module sdie_fast._core is missing pip install")


def test_an_unknown_instruction_set_is_told(python, compiled):
    told = python(PRINT_CPU, SDIE_FAST_ISA="pdp-11")
    assert told.startswith("False the compiled module does not load: SDIE_FAST_ISA is 'pdp-11'")


def test_missing_scipy_is_told(monkeypatch):
    monkeypatch.setattr(_backends.importlib.util, "find_spec", lambda name: None)
    found = _backends._reference()
    assert (found.available, found.reason, found.fix) == (
        False,
        "SciPy is missing",
        "pip install scipy",
    )


def test_core_params_resolve_every_window(compiled):
    core = importlib.import_module("sdie_fast._core")
    params = sdie.FilterParams.published_code()
    assert isinstance(_backends.core_params(params), core.Params)
    assert _backends.core_params(params) is _backends.core_params(params)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_the_rounded_intensities(backend, rng, dtype):
    image = rng.integers(0, np.iinfo(dtype).max, (20, 30), dtype)
    white = np.float64(np.iinfo(dtype).max)
    weights = [1, 0, 1, 1, 1, 0]
    result = sdie.enhance(image, weights, backend=backend)
    real = sdie.enhance((image / white).astype(np.float32), weights, backend=backend)
    error = np.abs(result - white * real)
    assert error.max() <= 0.5 + white * 1e-6
