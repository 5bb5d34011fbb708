import io

import numpy as np
import pytest
from PIL import Image

from sdie_fast.files import opened_image, replace_file
from sdie_fast.errors import DataSetError, ImageFileError

_stream = io.BytesIO()
Image.fromarray((np.arange(900) % 251).astype(np.uint8).reshape(30, 30)).save(_stream, "PNG")
PNG = _stream.getvalue()


@pytest.mark.parametrize("durable", [False, True])
def test_whole_or_nothing(tmp_path, durable):
    target = tmp_path / "deep" / "x.png"
    replace_file(target, lambda file: file.write(b"old"), durable=durable)

    def save(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(target, save, durable=durable)
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), (b"text", "not an image file"), (PNG[:60], "cannot be read: ")],
)
def test_images_that_cannot_be_opened(tmp_path, content, told):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataSetError, match=rf"x\.png: {told}"), opened_image(path, DataSetError) as image:
        image.load()


def test_what_is_said_of_an_opened_image_passes(tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    with pytest.raises(ImageFileError, match="by the caller"), opened_image(tmp_path / "x.png", DataSetError):
        raise ImageFileError("refused by the caller")
