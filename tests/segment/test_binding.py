"""ONNX Runtime's IO binding: embeddings that stay where they were computed, images that lie on a device.

On the CPU the same code binds the host's memory by its address. `-m gpu` runs it with CUDA.
"""

import numpy as np
import pytest

from sdie_fast.errors import ModelError
from sdie_fast.segment import Options, Prompt, Sam, Support
from sdie_fast.segment import sam as module
from sdie_fast.segment.onnx import Held, available

pytest.importorskip("onnxruntime")

GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(bool(available()["cuda"]), reason="onnxruntime without CUDA"),
    ],
)
BOX = Prompt(boxes=np.array([[10, 12, 40, 50], [5, 5, 30, 20]], np.float32))


@pytest.fixture(scope="module", params=["cpu", GPU])
def held(request):
    """A Sam that keeps its embeddings, as it does by itself where both parts run on a GPU."""
    try:
        sam = Sam(options=Options(request.param), batch=2)
    except ModelError as error:
        pytest.skip(str(error))
    assert sam._held == (request.param == "cuda")
    sam._held = True
    return sam


@pytest.fixture(scope="module")
def plain():
    return Sam(batch=2, options=Options("cpu"))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 60, 70), np.uint8)


def test_embeddings_stay(held, plain, images):
    ours, theirs = held.encode(images), plain.encode(images)
    assert isinstance(ours.features, Held)
    assert len(ours) == len(ours.features) == 5
    assert len({id(batch) for batch, _ in ours.features.rows}) == 3  # of two images each, and the rest
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-3)
    for k in (0, 1, 4, -1):
        # The row's own address, and not its batch's.
        span = ours[k].features.span()
        assert span.shape == (1, 64, 32, 32)
        logits, quality = held.decode(ours[k], BOX)
        expected, judged = plain.decode(theirs[k], BOX)
        np.testing.assert_allclose(logits, expected, atol=1e-3 * expected.std())
        np.testing.assert_allclose(quality, judged, atol=1e-4)
    with pytest.raises(IndexError):
        ours[5]


def test_every_prompt(held, plain, images):
    truth = np.zeros((60, 70), bool)
    truth[10:30, 20:40] = True
    for prompt in (BOX, Support(images[:2], [truth, truth])):
        masks, quality = held(images, prompt)
        expected, judged = plain(images, prompt)
        assert (masks == expected).mean() > 0.999
        np.testing.assert_allclose(quality, judged, atol=1e-3)
    masks, _ = held(images[0], grid=2)
    assert (masks == plain(images[0], grid=2)[0]).mean() > 0.999


def test_images_on_a_device(held, plain, images):
    """Tensors are made ready by torch, and bound by their address."""
    torch = pytest.importorskip("torch")
    place = held._encoder.device
    for given in (
        torch.from_numpy(images).to(place),
        [torch.from_numpy(image).to(place) for image in images],
        torch.from_numpy(images.astype(np.float32) / 255).to(place),
    ):
        for sam in (held, plain):
            found = sam.encode(given).numpy()
            np.testing.assert_allclose(found, plain.encode(images).numpy(), atol=5e-3)
    colour = torch.from_numpy(np.stack([images[0], images[1], images[2]], 2)).to(place)
    np.testing.assert_allclose(held.encode(colour).numpy(), plain.encode(colour.cpu().numpy()).numpy(), atol=5e-3)
    masks, _ = held(torch.from_numpy(images).to(place), BOX)
    assert (masks == plain(images, BOX)[0]).mean() > 0.999


def test_without_torch(monkeypatch):
    """Arrays of NumPy's need nothing; a GPU's say what is missing."""
    import sys

    class OnGpu:
        @property
        def __cuda_array_interface__(self):
            return {"shape": (4, 4), "typestr": "|u1", "data": (0, False), "version": 3}

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "sdie_fast.segment.tensors", raising=False)
    monkeypatch.delattr("sdie_fast.segment.tensors", raising=False)
    sam = Sam()
    assert len(sam.encode(np.zeros((30, 30), np.uint8))) == 1
    assert not module._on_host(OnGpu())
    with pytest.raises(ModelError, match="torch is missing"):
        sam.encode(OnGpu())
