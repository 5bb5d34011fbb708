"""Networks: what they take and give, encoders that learn and one that does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sdie_fast import InvalidArgumentError  # noqa: E402
from sdie_fast.actor import Actions, Actor  # noqa: E402
from sdie_fast.learn.networks import (  # noqa: E402
    ActorNet,
    CriticNet,
    ScheduleNet,
    Texture,
    _action,
    build_encoder,
    random_shift,
)


class TestNetworks:
    @pytest.mark.parametrize("name", ["small", "texture", "resnet18"])
    def test_shapes_and_ranges(self, name):
        seen = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
        at = torch.eye(5)[:3]
        actor, critic = ActorNet(name, 5, 6).eval(), CriticNet(name, 5, 6).eval()
        action = actor(seen, at)
        assert action.shape == (3, 6)
        assert action.abs().max() < 0.5  # near the middle at first
        assert critic(seen, at, action).shape == (3, 1)
        assert ScheduleNet(name, 5, 6)(seen).shape == (3, 5, 6)
        # No statistics of a batch: an image's answer is its own.
        torch.testing.assert_close(actor(seen[:1], at[:1]), action[:1], rtol=1e-4, atol=1e-5)
        assert not torch.equal(actor(seen[:1], at[1:2]), action[:1])

    def test_resnet18_is_torchvisions(self):
        net, features = build_encoder("resnet18")
        assert features == 512
        # 11.18 million less two of the three channels' kernels.
        assert sum(p.numel() for p in net.parameters()) == 11_176_512 - 2 * 64 * 49
        assert not any("BatchNorm" in type(m).__name__ for m in net.modules())

    def test_unknown(self):
        with pytest.raises(InvalidArgumentError, match="encoder"):
            build_encoder("vgg")

    def test_shift(self):
        seen = torch.arange(2 * 16).reshape(2, 4, 4)
        out = random_shift(seen, torch.tensor([[1, 1], [2, 0]]), 1)
        assert torch.equal(out[0], seen[0])
        assert torch.equal(out[1, :, 1:], seen[1][[1, 2, 3, 3]][:, :3])
        assert torch.equal(out[1, :, 0], out[1, :, 1])


def pictures(seed, side, count=2):
    """Planes (N, 1, S, S) whose rows differ from their columns."""
    noise = torch.rand((count, 1, side, side), generator=torch.Generator().manual_seed(seed))
    return (0.3 * noise + torch.linspace(0, 0.7, side)[:, None] ** 2).clamp(0, 1)


class TestTexture:
    @given(st.integers(16, 200), st.integers(0, 2**20))
    @settings(max_examples=12)
    def test_of_any_size(self, side, seed):
        found = Texture()(pictures(seed, side))
        assert found.shape == (2, Texture.FEATURES)
        assert torch.isfinite(found).all()

    def test_mirrored_and_turned(self):
        """Mirrored, or turned by half, a surface is the same; by a quarter, its rows are columns."""
        net, planes = Texture(), pictures(0, 64)
        found = net._raw(planes)
        for same in (planes.flip(2), planes.flip(3), planes.rot90(2, (2, 3))):
            torch.testing.assert_close(net._raw(same), found, rtol=1e-4, atol=1e-5)
        quarter = net._raw(planes.rot90(1, (2, 3)))
        whole = 2 + 9 + 13  # mean, spread, histograms
        torch.testing.assert_close(quarter[:, :whole], found[:, :whole], rtol=1e-4, atol=1e-5)
        scales, turned = (each[:, whole:].reshape(2, 4, 19) for each in (found, quarter))
        swapped = [6 * part + k for part in range(3) for k in (1, 0, 3, 2, 4, 5)] + [18]
        torch.testing.assert_close(turned, scales[:, :, swapped], rtol=1e-4, atol=1e-5)
        assert (turned - scales).abs().max() > 0.1

    def test_tells_surfaces_apart(self):
        """Lighter, rougher, coarser: each moves numbers of its own."""
        net, plane = Texture(), pictures(3, 64, 1)
        found = net._raw(plane)
        assert net._raw(plane * 0.5)[0, 0] == pytest.approx(0.5 * float(found[0, 0]), rel=1e-4)
        smooth = torch.nn.functional.avg_pool2d(plane, 3, 1, 1)
        assert (net._raw(smooth)[0, 24:30] < found[0, 24:30]).all()  # derivatives at the finest scale

    def test_histograms_by_hand(self):
        half = torch.zeros(1, 1, 32, 32)
        half[..., 16:] = 0.25
        found = Texture()._raw(half)[0]
        assert found[0] == 0.125
        assert found[2:11].tolist() == [0.5, 0, 0.5, 0, 0, 0, 0, 0, 0]
        assert float(found[11:24].sum()) == pytest.approx(1)

    def test_a_constant_picture(self):
        """Also where the shots were constant: nothing is divided by zero."""
        net = Texture()
        for value in (0.0, 0.5, 1.0):
            assert torch.isfinite(net(torch.full((2, 1, 32, 32), value))).all()
        net.settle(torch.full((3, 32, 32), 90, dtype=torch.uint8))
        assert net(torch.full((1, 1, 32, 32), 90 / 255)).abs().max() < 0.1
        assert torch.isfinite(net(pictures(0, 32))).all()

    def test_standardised_by_the_shots(self):
        seen = (pictures(1, 32, 20)[:, 0] * torch.linspace(0.3, 1, 20)[:, None, None] * 255).byte()
        net = Texture()
        raw = net(seen[:, None] / 255.0)
        net.settle(seen)
        found = net(seen[:, None] / 255.0)
        varied = raw.std(0) > 0.05
        assert varied.sum() > 50
        torch.testing.assert_close(found.mean(0)[varied], torch.zeros(int(varied.sum())), atol=0.1, rtol=0)
        assert ((found.std(0)[varied] - 1).abs() < 0.15).all()
        assert found.abs().max() <= 5  # and no surface, however strange, is far away
        assert net(1 - pictures(9, 32)).abs().max() == 5

    def test_nothing_is_learned(self):
        torch.manual_seed(0)
        net = ActorNet("texture", 3, 6)
        net.encoder.settle((pictures(1, 16, 8)[:, 0] * 255).byte())
        before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
        assert sorted(before) == ["mean", "spread", "stencils"]
        assert not list(net.encoder.parameters())
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        net(torch.randint(0, 256, (4, 16, 16)), torch.eye(3)[[0, 1, 2, 0]]).square().sum().backward()
        optimizer.step()
        assert all(torch.equal(before[name], value) for name, value in net.encoder.state_dict().items())

    def test_there_and_back(self):
        net, again = ActorNet("texture", 3, 6), ActorNet("texture", 3, 6)
        net.encoder.settle((pictures(1, 16, 8)[:, 0] * 255).byte())
        seen, at = torch.randint(0, 256, (4, 16, 16)), torch.eye(3)[[0, 1, 2, 0]]
        assert not torch.equal(net(seen, at), again(seen, at))
        again.load_state_dict(net.state_dict())
        assert torch.equal(net(seen, at), again(seen, at))


def test_actions_reach_the_ends_and_can_leave_them():
    x = torch.tensor([-20.0, -1.2, -0.4, 0.0, 0.4, 1.2, 20.0], requires_grad=True)
    found = _action(x)
    assert found[[0, 1, 3, 5, 6]].tolist() == [-1, -1, 0, 1, 1]
    assert found[4].item() == pytest.approx(1.25 * np.tanh(0.4), rel=1e-5)
    found.sum().backward()
    torch.testing.assert_close(x.grad, 1 - torch.tanh(x.detach()) ** 2)
    assert x.grad[1] > 0.3


@pytest.mark.parametrize("kind", ["policy", "schedule"])
def test_a_texture_actor_as_onnx(tmp_path, kind):
    pytest.importorskip("onnxscript")
    from sdie_fast.learn.distill import export_actor

    torch.manual_seed(0)
    net = (ActorNet if kind == "policy" else ScheduleNet)("texture", 3, 6)
    net.encoder.settle((pictures(1, 32, 8)[:, 0] * 255).byte())
    file = export_actor(net, kind, tmp_path / "actor.onnx", 3, 32, Actions())
    seen = (pictures(7, 32, 5)[:, 0] * 255).byte()
    with torch.no_grad():
        expected = net(seen, torch.eye(3)[[1] * 5]) if kind == "policy" else net(seen)
    np.testing.assert_allclose(Actor(file, kind)(seen.numpy(), 1), expected.numpy(), atol=1e-3)
