"""The JSON beside a map model, and which file a path means."""

import json

import pytest

from sdie_fast.errors import InvalidArgumentError, InvalidTypeError, ModelError
from sdie_fast.segment.map_manifest import MapManifest, load_map_manifest, map_model_in

SETTINGS = {
    "name": "mine", "size": 64, "mean": (1.0, 2.0, 3.0), "scale": (4.0, 5.0, 6.0), "output": "map",
    "normalise": "min-max", "threshold": 0.25, "sha256": "0" * 64, "source": "drawn by hand",
}  # fmt: skip


def test_there_and_back(tmp_path):
    given = MapManifest(**SETTINGS)
    given.save(tmp_path / "m.onnx")
    assert load_map_manifest(tmp_path / "m.onnx") == given
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_without_one_and_with_a_part(tmp_path):
    assert load_map_manifest(tmp_path / "unet.onnx") == MapManifest("unet")
    (tmp_path / "unet.json").write_text('{"format": "sdie_fast map 1", "mean": 7, "threshold": 1}')
    assert load_map_manifest(tmp_path / "unet.onnx") == MapManifest("unet", mean=(7.0,) * 3, threshold=1.0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("name", 3, InvalidTypeError),
        ("size", 15, InvalidArgumentError),
        ("size", 64.0, InvalidTypeError),
        ("mean", [1, 2], InvalidArgumentError),
        ("mean", "1", InvalidArgumentError),
        ("mean", None, InvalidArgumentError),
        ("mean", [1, 2, float("nan")], InvalidArgumentError),
        ("scale", 0, InvalidArgumentError),
        ("scale", [1, 1e-300, 1], InvalidArgumentError),
        ("output", 0, InvalidTypeError),
        ("normalise", "softmax", InvalidArgumentError),
        ("threshold", 1.5, InvalidArgumentError),
        ("threshold", "0.5", InvalidTypeError),
        ("sha256", 5, InvalidTypeError),
        ("source", None, InvalidTypeError),
    ],
)
def test_bad_values(tmp_path, name, value, error):
    with pytest.raises(error, match=f"^{name}: received"):
        MapManifest(**{name: value})
    (tmp_path / "m.json").write_text(json.dumps({"format": "sdie_fast map 1", name: value}))
    with pytest.raises(ModelError, match=rf"m\.json: {name}: received"):
        load_map_manifest(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "not a map model's JSON"),
        ('{"size": 64}', "not a map model's JSON"),
        ('{"format": "sdie_fast sam 1"}', "not a map model's JSON"),
        ('{"format": "sdie_fast map 1", "std": 1}', "the unknown key 'std'; accepted: name, size, mean"),
    ],
)
def test_bad_files(tmp_path, text, words):
    (tmp_path / "m.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=words):
        load_map_manifest(tmp_path / "m.onnx")


def test_which_model_a_path_means(tmp_path):
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    assert map_model_in(one) == one
    assert map_model_in(tmp_path / "one.pth") is None
    assert map_model_in(tmp_path) is None
    one.touch()
    other.touch()
    assert map_model_in(tmp_path) is None  # no JSON
    one.with_suffix(".json").touch()
    assert map_model_in(tmp_path) == one
    other.with_suffix(".json").touch()
    assert map_model_in(tmp_path) is None  # which of both?
