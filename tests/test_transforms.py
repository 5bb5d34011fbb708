"""Enhancement as a step of torchvision's, albumentations' and anomalib's pipelines, in the libraries themselves."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie
from sdie_fast import transforms
from sdie_fast.data import synthetic

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'sdie-fast[train]'")
pytest.importorskip("torchvision", reason="torchvision is missing: pip install 'sdie-fast[train]'")

from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from sdie_fast.transforms import Enhance  # noqa: E402

WEIGHTS = {"identity": 1, "wls": 2, "sharpen": 1}
PARAMS = sdie.FilterParams(wls_solver="fast", window=5)
NETWORK = Path(sdie.__file__).parent / "models" / "sdie_small"


@pytest.fixture
def albumentations():
    pytest.importorskip("albumentations", reason="albumentations is missing: pip install albumentations")
    from sdie_fast.transforms import albumentations as ours

    return ours


@pytest.fixture
def surfaces():
    """Four steel surfaces, uint8 (4, 60, 70)."""
    return np.stack([s.image for s in synthetic.dataset(("scratch",), per_kind=4, seed=3, size=(60, 70))])


def expected(image, **options):
    return sdie.enhance(image, WEIGHTS, params=PARAMS, **options)


def test_import_brings_neither_library(python):
    code = "import sys, sdie_fast.transforms; print({'torch', 'torchvision', 'albumentations'} & set(sys.modules))"
    assert python(code) == "set()"
    with pytest.raises(AttributeError, match="no_such_name"):
        transforms.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("ours", "missing", "install"),
    [
        ("torchvision", "torch", "torch torchvision"),
        ("torchvision", "torchvision", "torch torchvision"),
        ("albumentations", "albumentations", '"albumentations>=2"'),
    ],
)
def test_what_is_missing_is_told(monkeypatch, ours, missing, install):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"sdie_fast.transforms.{ours}", raising=False)
    with pytest.raises(sdie.MissingPackageError, match=f"^{missing} is missing: pip install {install}$") as caught:
        importlib.import_module(f"sdie_fast.transforms.{ours}")
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == missing


class TestTorchvision:
    @pytest.mark.parametrize("shape", [(1, 40, 50), (3, 40, 50), (2, 3, 40, 50), (2, 2, 1, 40, 50)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_tensors(self, rng, picture, shape, dtype):
        given = picture(rng, (*shape[:-3], *shape[-2:], shape[-3]), dtype)
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(given, -1, -3)))
        before = tensor.clone()
        out = Enhance(weights=WEIGHTS, params=PARAMS)(tensor)
        want = expected(given.reshape(-1, *given.shape[-3:]), axes="NHWC").reshape(given.shape)
        assert out.dtype == tensor.dtype
        assert torch.equal(tensor, before)
        np.testing.assert_array_equal(np.moveaxis(out.numpy(), -3, -1), want)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_other_floats_pass_through_float32(self, rng, dtype):
        image = torch.from_numpy(rng.random((1, 40, 50))).to(getattr(torch, dtype))
        out = Enhance(weights=WEIGHTS, params=PARAMS)(image)
        want = torch.from_numpy(expected(image[0].float().numpy()))
        assert out.dtype == image.dtype
        assert torch.equal(out[0], want.to(image.dtype))

    def test_memory_of_the_host_is_read_in_place(self, monkeypatch, rng):
        transform = Enhance(weights=WEIGHTS)
        seen = []
        inner = type(transform._ready.enhancer()).__call__

        def spy(self, image, out=None, *, axes=None):
            seen.append((image, out))
            return inner(self, image, out, axes=axes)

        monkeypatch.setattr(sdie.Enhancer, "__call__", spy)
        for layout in (torch.contiguous_format, torch.channels_last):
            tensor = torch.from_numpy(rng.random((2, 3, 40, 50), np.float32)).to(memory_format=layout)
            out = transform(tensor)
            image, target = seen.pop()
            assert np.shares_memory(image, tensor.numpy())
            assert np.shares_memory(target, out.numpy())
            assert out.is_contiguous(memory_format=layout)

    @pytest.mark.gpu
    def test_on_a_device(self, rng, picture):
        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture(rng, (2, 40, 50, 3), np.uint8), 3, 1)))
        transform = Enhance(weights=WEIGHTS, params=PARAMS)
        out = transform(tensor.cuda())
        assert out.is_cuda
        assert (out.cpu().int() - transform(tensor).int()).abs().max() <= 1

    def test_gradients_end_here(self):
        image = torch.full((1, 20, 20), 0.5, requires_grad=True)
        assert not Enhance(weights=WEIGHTS)(image).requires_grad

    def test_of_a_sample_the_image_alone(self, rng, picture):
        image = tv_tensors.Image(np.ascontiguousarray(np.moveaxis(picture(rng, (40, 50, 3), np.uint8), 2, 0)))
        sample = {
            "image": image,
            "mask": tv_tensors.Mask(torch.ones(1, 40, 50, dtype=torch.uint8)),
            "boxes": tv_tensors.BoundingBoxes([[1, 2, 3, 4]], format="XYXY", canvas_size=(40, 50)),
            "label": torch.tensor(3),
        }
        out = Enhance(weights=WEIGHTS)(sample)
        assert type(out["image"]) is tv_tensors.Image
        assert not torch.equal(out["image"], image)
        assert all(out[key] is sample[key] for key in ("mask", "boxes", "label"))
        # A mask without an image is no image.
        assert Enhance(weights=WEIGHTS)(sample["mask"]) is sample["mask"]

    @pytest.mark.parametrize(("mode", "dtype"), [("L", np.uint8), ("RGB", np.uint8), ("I;16", np.uint16)])
    def test_pil(self, rng, picture, mode, dtype):
        given = picture(rng, (40, 50, 3) if mode == "RGB" else (40, 50), dtype)
        image = Image.fromarray(given)
        assert image.mode == mode
        out, label = Enhance(weights=WEIGHTS, params=PARAMS)(image, 7)
        assert (out.mode, label) == (mode, 7)
        np.testing.assert_array_equal(np.asarray(out), expected(given))

    def test_twelve_bits(self, rng):
        given = rng.integers(0, 4096, (1, 40, 50)).astype(np.uint16)
        out = Enhance(weights=WEIGHTS, params=PARAMS, white_level=4095)(torch.from_numpy(given))
        np.testing.assert_array_equal(out.numpy()[0], expected(given[0], white_level=4095))

    def test_in_a_pipeline(self, surfaces):
        pipeline = v2.Compose(
            [v2.ToImage(), Enhance(weights=WEIGHTS), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.2])]
        )
        want = (sdie.enhance(surfaces[0], WEIGHTS).astype(np.float32) / 255 - 0.5) / 0.2
        np.testing.assert_allclose(pipeline(Image.fromarray(surfaces[0])).numpy()[0], want, atol=1e-5)

    def test_recipes(self, tmp_path, surfaces):
        recipe = sdie.Recipe([WEIGHTS, WEIGHTS], PARAMS, name="coil")
        recipe.save(tmp_path)
        image = torch.from_numpy(surfaces[:1])
        want, _ = sdie.Enhancer(recipe)(surfaces[0])
        for transform in (Enhance(recipe), Enhance(tmp_path), Enhance(weights=[WEIGHTS] * 2, params=PARAMS.to_dict())):
            np.testing.assert_array_equal(transform(image).numpy()[0], want)
        assert repr(Enhance(recipe)) == "Enhance(recipe='coil', rounds=2)"
        want, _ = sdie.Enhancer(sdie.default_recipe())(surfaces[0])
        np.testing.assert_array_equal(Enhance()(image).numpy()[0], want)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
    def test_copies(self, surfaces, copied):
        image = torch.from_numpy(surfaces[:1])
        transform = Enhance(weights=WEIGHTS)
        assert torch.equal(copied(transform)(image), transform(image))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"recipe": "nowhere", "weights": WEIGHTS}, "recipe, weights: received both"),
            ({"params": PARAMS}, "params, filters: received without weights"),
            ({"weights": {"blur": 1}}, "blur"),
            ({"weights": WEIGHTS, "threads": 0}, "threads: received 0"),
            ({"recipe": "nowhere"}, "nowhere"),
        ],
    )
    def test_wrong_arguments_are_told_at_once(self, options, words):
        with pytest.raises(sdie.SdieError, match=words):
            Enhance(**options)

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (Image.new("RGBA", (30, 30)), r"mode RGBA; accepted: L, RGB, I;16, F \(image.convert"),
            (torch.zeros(30, 30), r"shape \(30, 30\); accepted: \(..., C, H, W\)"),
            (torch.zeros(4, 30, 30), r"image: received float32 array of shape \(1, 30, 30, 4\)"),
            (torch.full((1, 30, 30), 1.5), "image"),
            (torch.zeros(1, 30, 30, dtype=torch.int64), "int64"),
        ],
    )
    def test_images_that_cannot_be_used(self, image, words):
        with pytest.raises(sdie.SdieError, match=words):
            Enhance(weights=WEIGHTS)(image)


# A file of its own, which the workers of "spawn" can import.
LOADERS = """
import sys
import numpy as np, torch
from torch.utils.data import DataLoader
import sdie_fast as sdie
from sdie_fast.data import synthetic
from sdie_fast.transforms import Enhance

SURFACES = np.stack([s.image for s in synthetic.dataset(("scratch",), per_kind=4, seed=3, size=(60, 70))])

class Surfaces(torch.utils.data.Dataset):
    def __init__(self, steps):
        self.steps = steps
    def __len__(self):
        return len(SURFACES)
    def __getitem__(self, index):
        image = SURFACES[index]
        out = [t(torch.from_numpy(image[None]))[0].numpy() if torch_ else t(image=image)["image"] for t, torch_ in self.steps]
        return np.stack(out), [t._ready.enhancer().threads for t, _ in self.steps]

if __name__ == "__main__":
    start, network, with_albumentations = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
    weights = {"identity": 1, "wls": 2, "sharpen": 1}
    steps = [(Enhance(weights=weights), True)]
    if network:
        steps.append((Enhance(network), True))
    if with_albumentations:
        from sdie_fast.transforms import albumentations
        steps.append((albumentations.Enhance(weights=weights), False))
    # The parent has worked, and so has threads that no fork takes along; and it goes on.
    parent = Surfaces(steps)
    want = np.stack([parent[k][0] for k in range(4)])
    images, threads = zip(*DataLoader(parent, batch_size=2, num_workers=2, multiprocessing_context=start))
    assert np.array_equal(torch.cat(images).numpy(), want)
    assert {int(n) for batch in threads for step in batch for n in step} == {1}, threads
    assert np.array_equal(parent[3][0], want[3])
    print("done")
"""


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader(tmp_path, start):
    script = tmp_path / "loaders.py"
    script.write_text(LOADERS)
    network = NETWORK if importlib.util.find_spec("onnxruntime") else ""
    command = [
        sys.executable,
        script,
        start,
        str(network),
        str(importlib.util.find_spec("albumentations") is not None),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(sdie.__file__).parents[1])}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600
    )
    assert done.stdout == "done\n", done.stderr


class TestAlbumentations:
    @pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 3)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_images(self, albumentations, rng, picture, shape, dtype):
        import albumentations as A

        given, mask = picture(rng, shape, dtype), np.ones((40, 50), np.uint8)
        out = A.Compose([albumentations.Enhance(weights=WEIGHTS, params=PARAMS)])(image=given, mask=mask)
        assert np.array_equal(out["image"].reshape(shape), expected(given))
        assert np.array_equal(out["mask"], mask)

    @pytest.mark.parametrize("shape", [(3, 40, 50), (3, 40, 50, 3)])
    def test_several(self, albumentations, rng, picture, shape):
        given = picture(rng, shape, np.uint8)
        transform = albumentations.Enhance(weights=WEIGHTS, params=PARAMS)
        want = expected(given, axes="NHW" if len(shape) == 3 else "NHWC")
        assert np.array_equal(transform.apply_to_images(given), want)
        assert np.array_equal(transform(images=given)["images"], want)
        assert np.array_equal(transform(volume=given)["volume"], want)

    def test_saved_and_loaded(self, albumentations, tmp_path, surfaces):
        import albumentations as A

        recipe = sdie.Recipe([WEIGHTS, {"median": 1, "wls": 2}], sdie.FilterParams(median_window=5))
        recipe.save(tmp_path)
        want = sdie.Enhancer(recipe)(surfaces[0])[0]
        for given in (recipe, tmp_path):
            pipeline = A.Compose([albumentations.Enhance(given, threads=2, p=0.9999999)])
            text = json.dumps(A.to_dict(pipeline))
            loaded = A.from_dict(json.loads(text))
            step = loaded.transforms[0]
            assert (type(step), step.threads, step.p) == (albumentations.Enhance, 2, 0.9999999)
            assert np.array_equal(loaded(image=surfaces[0])["image"], want)
            assert json.dumps(A.to_dict(loaded)) == text
        A.save(pipeline, tmp_path / "pipeline.json")
        assert np.array_equal(A.load(tmp_path / "pipeline.json")(image=surfaces[0])["image"], want)

    def test_a_network_is_saved_by_its_path(self, albumentations):
        pytest.importorskip("onnxruntime")
        assert albumentations.Enhance(NETWORK).to_dict()["transform"]["recipe"] == str(NETWORK)
        with pytest.raises(sdie.InvalidArgumentError, match="accepted for saving: the path"):
            albumentations.Enhance(sdie.Recipe.load(NETWORK)).to_dict()


class TestAnomalib:
    """In the real package: `pip install anomalib`."""

    @pytest.fixture
    def keeping(self):
        """The class of docs/transforms.md: what a checkpoint does not hold is given again."""
        module = pytest.importorskip("anomalib.pre_processing", reason="anomalib is missing: pip install anomalib")

        class KeptPreProcessor(module.PreProcessor):
            def checkpoint_config(self):
                return {}

            def load_checkpoint_config(self, config):
                pass

        return KeptPreProcessor

    @pytest.fixture
    def steel(self, tmp_path):
        """A folder as anomalib reads it."""
        for name in ("good", "bad", "mask"):
            (tmp_path / "steel" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(synthetic.clean(seed=k, size=(80, 80)).image).save(tmp_path / "steel/good" / f"{k}.png")
            bad = synthetic.surface("scratch", seed=k, size=(80, 80))
            Image.fromarray(bad.image).save(tmp_path / "steel/bad" / f"{k}.png")
            Image.fromarray(bad.mask).save(tmp_path / "steel/mask" / f"{k}.png")
        return tmp_path / "steel"

    def test_pre_processor(self, keeping, rng):
        pre = keeping(v2.Compose([Enhance(weights=WEIGHTS), v2.Normalize([0.5] * 3, [0.2] * 3)]))
        batch = torch.from_numpy(rng.random((2, 3, 40, 50), np.float32))
        want = (Enhance(weights=WEIGHTS)(batch) - 0.5) / 0.2
        assert torch.allclose(pre(batch), want, atol=1e-6)

    def test_a_model_trained_tested_and_loaded(self, keeping, steel, monkeypatch):
        pytest.importorskip("lightning")
        from anomalib.data import Folder
        from anomalib.engine import Engine
        from anomalib.models import Padim

        monkeypatch.chdir(steel.parent)
        seen = []

        class Watched(Enhance):
            def transform(self, inpt, params):
                out = super().transform(inpt, params)
                seen.append((type(inpt).__name__, tuple(inpt.shape[-2:]), out is inpt))
                return out

        def pre():
            return keeping(
                v2.Compose([Watched(weights=WEIGHTS), v2.Resize((64, 64)), v2.Normalize([0.5] * 3, [0.2] * 3)])
            )

        data = Folder(
            name="steel", root=steel, normal_dir="good", abnormal_dir="bad", mask_dir="mask",
            train_batch_size=2, eval_batch_size=2, num_workers=0,
        )  # fmt: skip
        options = {"backbone": "resnet18", "pre_trained": False}
        model = Padim(**options, pre_processor=pre())
        engine = Engine(max_epochs=1, accelerator="cpu", devices=1, logger=False)
        engine.fit(model=model, datamodule=data)
        engine.test(model=model, datamodule=data)
        # Images enhanced, at the size that anomalib has given them; masks handed through.
        assert {("Image", (64, 64), False), ("Mask", (64, 64), True)} <= set(seen)
        checkpoint = next(steel.parent.rglob("*.ckpt"))
        loaded = Padim.load_from_checkpoint(checkpoint, **options, pre_processor=pre())
        assert isinstance(loaded.pre_processor.transform.transforms[0], Enhance)
