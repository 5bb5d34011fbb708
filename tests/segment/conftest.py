"""A small SAM with random weights, exported once: its answers mean nothing, but they are torch's."""

import pytest


@pytest.fixture(scope="session")
def torch_sam():
    torch = pytest.importorskip("torch")
    pytest.importorskip("segment_anything")
    from sdie_fast.segment.small import build_small_sam

    torch.manual_seed(3)
    return build_small_sam()


@pytest.fixture(scope="session")
def sam_dir(torch_sam, tmp_path_factory):
    pytest.importorskip("onnxscript")
    from sdie_fast.segment.export import export_sam

    directory = tmp_path_factory.mktemp("models") / "small"
    export_sam(None, directory, architecture="small", model=torch_sam)
    return directory


@pytest.fixture(scope="session")
def sam(sam_dir):
    from sdie_fast.segment import Sam

    return Sam(sam_dir, prompts=5, batch=3)
