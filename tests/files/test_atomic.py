"""Files appear whole or not at all."""

import pytest

from sdie_fast.files import replace_file


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("name", ["x.png", "x" * 251 + ".png", "\u00df" * 122 + ".png"])
def test_whole_or_nothing(tmp_path, durable, name):
    target = tmp_path / "deep" / name
    replace_file(target, lambda file: file.write(b"old"), durable=durable)

    def save(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(target, save, durable=durable)
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == [name]
