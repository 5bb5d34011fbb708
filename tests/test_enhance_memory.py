"""Images and results wherever they lie in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sdie_fast as sdie
from sdie_fast import InvalidArgumentError, InvalidTypeError

DTYPES = (np.uint8, np.uint16, np.float32)
ALL = np.ones(6)


@given(draw=st.data())
def test_any_strides_in_and_out(draw, backend, picture):
    dtype = draw.draw(st.sampled_from(DTYPES))
    colour = draw.draw(st.booleans())
    shape = (2, 22, 26, 3) if colour else (2, 22, 26)
    axes = draw.draw(st.permutations(range(len(shape))))
    base = picture(np.random.default_rng(draw.draw(st.integers(0, 99))), shape, dtype)
    # The same values laid out in another order of axes, then sliced with any sign and step.
    laid = np.empty([shape[a] for a in axes], dtype).transpose(np.argsort(axes))
    laid[...] = base
    steps = [draw.draw(st.sampled_from([1, -1, 2, -2])) for _ in range(3)]
    view = laid[:: steps[0], :: steps[1], :: steps[2]]
    if colour and draw.draw(st.booleans()):
        view = view[..., ::-1]
    out = np.zeros([2 * n for n in view.shape], dtype)[
        tuple(slice(None, None, draw.draw(st.sampled_from([2, -2]))) for _ in view.shape)
    ]
    expected = sdie.enhance(np.ascontiguousarray(view), ALL, backend=backend, threads=1)
    np.testing.assert_array_equal(sdie.enhance(view, ALL, backend=backend, threads=1), expected)
    assert sdie.enhance(view, ALL, out=out, backend=backend, threads=1) is out
    np.testing.assert_array_equal(out, expected)


def test_nothing_is_written_between_the_elements_of_out(backend, rng, picture):
    image = picture(rng, (20, 23), np.uint8)
    frame = np.full((40, 46), 77, np.uint8)
    sdie.enhance(image, ALL, out=frame[::2, 1::2], backend=backend)
    assert (frame[1::2] == 77).all()
    assert (frame[::2, ::2] == 77).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_read_only_and_fortran_input(dtype, backend, rng, picture):
    image = picture(rng, (20, 23), dtype)
    expected = sdie.enhance(image, ALL, backend=backend)
    frozen = image.copy()
    frozen.flags.writeable = False
    batch = np.broadcast_to(image, (3, 20, 23))
    grey = np.broadcast_to(image[..., None], (20, 23, 3))
    for same in (frozen, np.asfortranarray(image)):
        np.testing.assert_array_equal(sdie.enhance(same, ALL, backend=backend), expected)
    np.testing.assert_array_equal(sdie.enhance(batch, ALL, backend=backend), np.stack([expected] * 3))
    channels = sdie.enhance(grey, ALL, backend=backend, per_channel=True)
    np.testing.assert_array_equal(channels, np.stack([expected] * 3, axis=-1))


def test_misaligned_input(backend, rng, picture):
    for dtype in (np.uint16, np.float32):
        image = picture(rng, (20, 23), dtype)
        shifted = np.frombuffer(b"\0" + image.tobytes(), dtype, offset=1).reshape(image.shape)
        assert not shifted.flags.aligned
        np.testing.assert_array_equal(
            sdie.enhance(shifted, ALL, backend=backend),
            sdie.enhance(image, ALL, backend=backend),
        )


def test_memory_map_and_field(backend, rng, tmp_path, picture):
    image = picture(rng, (20, 23), np.uint8)
    expected = sdie.enhance(image, ALL, backend=backend)
    image.tofile(tmp_path / "frame")
    mapped = np.memmap(tmp_path / "frame", np.uint8, "r", shape=image.shape)
    records = np.zeros((20, 23), [("a", "u1"), ("v", "u1"), ("b", "f4")])
    records["v"] = image
    for same in (mapped, records["v"]):
        np.testing.assert_array_equal(sdie.enhance(same, ALL, backend=backend), expected)


def test_out_that_cannot_be_used_stays_untouched(rng, picture):
    image = picture(rng, (20, 23), np.float32)
    out = np.full_like(image, 7)
    bad = image.copy()
    bad[3, 4] = np.nan
    with pytest.raises(InvalidArgumentError, match="NaN"):
        sdie.enhance(bad, ALL, out=out)
    assert (out == 7).all()
    with pytest.raises(InvalidArgumentError, match="shares memory"):
        sdie.enhance(image, ALL, out=image)
    with pytest.raises(InvalidArgumentError, match="shares memory"):
        sdie.enhance(image[:, 1:], ALL, out=image[:, :-1])
    out.flags.writeable = False
    with pytest.raises(InvalidArgumentError, match="read-only"):
        sdie.enhance(image, ALL, out=out)
    with pytest.raises(InvalidTypeError, match="dtype"):
        sdie.enhance(image, ALL, out=np.zeros(image.shape, np.float64))
    with pytest.raises(InvalidArgumentError, match="shape"):
        sdie.enhance(image, ALL, out=np.zeros((23, 20), np.float32))
