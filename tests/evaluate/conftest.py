"""The threshold segmenter and the blobs of tests/learn, as a data set, and a small run on it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "learn" / "conftest.py"


@pytest.fixture(scope="session")
def blobs():
    """`Threshold` and `make_case`."""
    spec = importlib.util.spec_from_file_location("learn_conftest", FOLDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folder(tmp_path_factory, blobs):
    """Two classes of four blobs each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("set") / "data"
    for k in range(8):
        case = blobs.make_case(k, label="ab"[k % 2])
        for kind, plane in (("images", case.image), ("masks", case.truth.astype(np.uint8) * 255)):
            path = root / kind / case.label / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane).save(path)
    return root


@pytest.fixture(scope="session")
def data(folder):
    from sdie_fast.data.folder import open_folder

    return open_folder(folder, size=32)


@pytest.fixture(scope="session")
def trained(data, blobs, tmp_path_factory):
    """A function that trains a small run on a data set's shots, all files that `train` leaves included."""
    for name in ("torch", "onnxscript", "matplotlib", "cma", "sklearn"):
        pytest.importorskip(name)
    import torch

    from sdie_fast import FilterParams
    from sdie_fast.data.shots import draw
    from sdie_fast.learn import distill, runs
    from sdie_fast.learn.cases import cases_of
    from sdie_fast.learn.config import Config
    from sdie_fast.learn.train import Training

    def train(data, out, **changes):
        given = {
            "shots": 1, "rounds": 4, "passes": 2, "side": 16, "segmentations": 30, "updates": 1, "batch": 8, "prior": True,
            "params": FilterParams(wls_solver="fast"), "auto": {"grid": 1, "largest": 1.0},
        }  # fmt: skip
        config, segmenter = Config(**{**given, **changes}), blobs.Threshold()
        split = draw(data, config.shots, config.seed)
        runs.save_config(out, config, data.name, segmenter.name)
        split.save(out / runs.SPLIT)
        shown, _ = split.parts(data)
        run = Training(segmenter, cases_of(shown, config.prompt, shown, own=True), config, out, tensorboard=False)
        run.run()
        return run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks are so small that a second one waits for the first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "STEPS", 20)
        patch.setattr(distill, "VARIANTS", 2)
        yield train
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run(data, trained, tmp_path_factory):
    """A run's folder, its searches included; the toolkit is not the default one."""
    out = tmp_path_factory.mktemp("run") / "run"
    out.mkdir()
    trained(data, out, filters=("identity", "median", "sharpen", "wls")).compare()
    return out
