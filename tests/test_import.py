import pytest

import sdie_fast


def test_import_brings_numpy_only(python):
    heavy = ["torch", "scipy", "PIL", "typer", "rich", "onnxruntime", "numba", "matplotlib"]
    loaded = python(
        "import sys, numpy; before = set(sys.modules); import sdie_fast;"
        f"print(sorted(set({heavy}) & (set(sys.modules) - before)))"
    )
    assert loaded == "[]"


def test_import_leaves_the_compiled_module_for_its_first_use(python):
    assert python("import sys, sdie_fast; print('sdie_fast._core' in sys.modules)") == "False"


def test_public_names_exist():
    for name in sdie_fast.__all__:
        assert getattr(sdie_fast, name) is not None


def test_version_is_text():
    assert isinstance(sdie_fast.__version__, str)
    assert sdie_fast.__version__[0].isdigit()


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        sdie_fast.no_such_name  # noqa: B018


def test_filter_names_in_order():
    assert sdie_fast.FILTERS == ("identity", "wls", "bilateral", "sharpen", "guided", "spatiogram")


def test_errors_are_also_the_built_in_ones():
    pairs = [
        (sdie_fast.InvalidArgumentError, ValueError),
        (sdie_fast.InvalidTypeError, TypeError),
        (sdie_fast.BackendUnavailableError, RuntimeError),
        (sdie_fast.DeviceMemoryError, MemoryError),
        (sdie_fast.RecipeError, ValueError),
        (sdie_fast.ImageFileError, OSError),
    ]
    for error, builtin in pairs:
        assert issubclass(error, sdie_fast.SdieError)
        assert issubclass(error, builtin)
