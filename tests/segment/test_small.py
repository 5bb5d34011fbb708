import pytest

from sdie_fast.errors import InvalidArgumentError

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from sdie_fast.segment.small import prompt_map  # noqa: E402


def test_size_and_shapes(torch_sam):
    parameters = sum(p.numel() for p in torch_sam.parameters())
    assert 1.5e6 < parameters < 2.5e6
    with torch.no_grad():
        for size in (128, 256):
            embedding = torch_sam.image_encoder(torch.zeros(2, 3, size, size))
            assert embedding.shape == (2, 64, size // 8, size // 8)


def zeros(side=32):
    return torch.zeros(1, 1, side, side)


def test_a_box_is_drawn():
    corners = torch.tensor([[[8.0, 16.0], [24.0, 40.0]]])
    drawn = prompt_map(corners, torch.tensor([[2.0, 3.0]]), zeros(), 64)
    assert drawn.shape == (1, 1, 32, 32)
    inside = torch.full((32, 32), False)
    inside[8:20, 4:12] = True
    assert torch.equal(drawn[0, 0] > 0, inside)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}


def test_points_are_drawn():
    points = torch.tensor([[[20.0, 40.0], [50.0, 10.0], [5.0, 5.0]]])
    drawn = prompt_map(points, torch.tensor([[1.0, 0.0, -1.0]]), zeros(), 64)[0, 0]
    y, x = divmod(int(drawn.argmax()), 32)
    assert (abs(x - 9.5), abs(y - 19.5)) == (0.5, 0.5)
    y, x = divmod(int(drawn.argmin()), 32)
    assert (abs(x - 24.5), abs(y - 4.5)) == (0.5, 0.5)
    without = prompt_map(points[:, :2], torch.tensor([[1.0, 0.0]]), zeros(), 64)
    assert torch.equal(drawn, without[0, 0])


def test_a_mask_is_added():
    corners, labels = torch.tensor([[[0.0, 0.0], [64.0, 64.0]]]), torch.tensor([[2.0, 3.0]])
    assert torch.equal(prompt_map(corners, labels, zeros() - 20.0, 64), zeros() - 1.0)


def test_the_encoder_draws(torch_sam):
    """What it passes on is the drawing of the same prompts, whichever way they came."""
    encoder = torch_sam.prompt_encoder
    point, label = torch.tensor([[[60.0, 80.0]]]), torch.ones(1, 1)
    box, mask = torch.tensor([[40.0, 30.0, 90.0, 120.0]]), torch.randn(1, 1, 128, 128)
    with torch.no_grad():
        _, dense = encoder((point, label), box, mask)
        at = torch.cat([point, box.reshape(1, 2, 2)], 1)
        drawn = prompt_map(at, torch.tensor([[1.0, 2.0, 3.0]]), mask, 256)
        assert torch.equal(dense, encoder.mask_downscaling(drawn))
    with pytest.raises(InvalidArgumentError, match="neither"):
        encoder(None, None, mask)
