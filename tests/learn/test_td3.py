"""TD3's arithmetic: by hand, and against stable-baselines3."""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sdie_fast.learn.config import Config  # noqa: E402
from sdie_fast.learn.td3 import TD3, Batch, ReplayBuffer  # noqa: E402

PLAIN = Config(actor_after=0, anchor=None)  # Algorithm 1 and no more


class Plain(torch.nn.Module):
    """A network of vectors."""

    def __init__(self, net, tanh=False):
        super().__init__()
        self.net, self.tanh = net, tanh

    def forward(self, *given):
        found = self.net(torch.cat(given, 1))
        return torch.tanh(found) if self.tanh else found


def mlp(low, high):
    return torch.nn.Sequential(torch.nn.Linear(low, 16), torch.nn.ReLU(), torch.nn.Linear(16, high))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.rand(shape, generator=generator) * 2 - 1

    done = (torch.arange(8)[:, None] % 3 == 0).float()
    action = draw(8, 3)
    return Batch((draw(8, 5),), action, draw(8, 1), (draw(8, 5),), done, action)


@pytest.fixture
def agent():
    torch.manual_seed(0)
    return TD3(lambda: Plain(mlp(5, 3), True), lambda: Plain(mlp(8, 1)), dataclasses.replace(PLAIN, tau=0.1))


class TestByHand:
    def test_target(self, agent, batch):
        noise = torch.full((8, 3), 9.0)
        noise[:, 1] = -0.2
        found = agent.target(batch, noise)
        action = (agent.actor_target(*batch.next_state) + torch.tensor([0.5, -0.2, 0.5])).clamp(-1, 1)
        q = [c(*batch.next_state, action) for c in agent.critic_targets]
        expected = batch.reward + 0.99 * (1 - batch.done) * torch.minimum(*q)
        torch.testing.assert_close(found, expected.detach())
        assert torch.equal(found[batch.done == 1], batch.reward[batch.done == 1])

    def test_two_critics_that_differ(self, agent):
        a, b = (next(iter(c.parameters())) for c in agent.critics)
        assert not torch.equal(a, b)

    def test_the_actor_waits_for_its_critics(self, agent, batch):
        agent.config = dataclasses.replace(agent.config, actor_after=2)
        start = copy.deepcopy(agent.actor.state_dict())
        targets = copy.deepcopy(agent.critic_targets.state_dict())
        for _ in range(2):
            assert "actor_loss" not in agent.update(batch, torch.zeros(8, 3))
        assert all(torch.equal(v, start[k]) for k, v in agent.actor.state_dict().items())
        # The critics' targets do not wait.
        assert any(not torch.equal(v, targets[k]) for k, v in agent.critic_targets.state_dict().items())
        agent.update(batch, torch.zeros(8, 3))
        assert "actor_loss" in agent.update(batch, torch.zeros(8, 3))

    def test_delay_and_soft_update(self, agent, batch):
        start = copy.deepcopy(agent.actor.state_dict())
        targets = copy.deepcopy(agent.critic_targets.state_dict())
        told = agent.update(batch, torch.zeros(8, 3))
        assert "actor_loss" not in told
        assert all(torch.equal(v, start[k]) for k, v in agent.actor.state_dict().items())
        assert all(torch.equal(v, targets[k]) for k, v in agent.critic_targets.state_dict().items())
        told = agent.update(batch, torch.zeros(8, 3))
        assert "actor_loss" in told
        assert any(not torch.equal(v, start[k]) for k, v in agent.actor.state_dict().items())
        for k, v in agent.critic_targets.state_dict().items():
            torch.testing.assert_close(v, 0.9 * targets[k] + 0.1 * agent.critics.state_dict()[k])

    def test_the_actors_step_leaves_the_critics(self, agent, batch):
        agent.updates = 1
        before = None

        def remember(*_):
            nonlocal before
            before = copy.deepcopy(agent.critics.state_dict())

        agent.critic_optimizer.register_step_post_hook(remember)
        agent.update(batch, torch.zeros(8, 3))
        assert all(torch.equal(v, before[k]) for k, v in agent.critics.state_dict().items())
        assert all(p.requires_grad for p in agent.critics.parameters())

    def test_learns(self, batch):
        """The actor finds the best action where reward is the action's first number."""
        torch.manual_seed(0)
        config = dataclasses.replace(PLAIN, actor_rate=3e-3, critic_rate=3e-3)
        agent = TD3(lambda: Plain(mlp(5, 3), True), lambda: Plain(mlp(8, 1)), config)
        known = Batch(batch.state, batch.action, batch.action[:, :1], batch.next_state, torch.ones(8, 1), batch.action)
        for _ in range(600):
            agent.update(known, torch.zeros(8, 3))
        assert agent.act(*batch.state)[:, 0].min() > 0.8

    def test_anchor_by_hand(self, agent, batch):
        """The critic's word over its own size, against the distance from what was tried; scaling rewards changes nothing."""
        agent.config = dataclasses.replace(agent.config, anchor=2.5)
        action = agent.actor(*batch.state)
        value = agent.critics[0](*batch.state, action)
        expected = ((action - batch.action) ** 2).mean() - 2.5 * value.mean() / value.abs().mean()
        torch.testing.assert_close(agent.actor_loss(batch), expected)
        last = agent.critics[0].net[-1]
        last.weight.data *= 7
        last.bias.data *= 7
        torch.testing.assert_close(agent.actor_loss(batch), expected)

    def test_there_and_back(self, agent, batch):
        agent.update(batch, torch.zeros(8, 3))
        torch.manual_seed(5)
        other = TD3(lambda: Plain(mlp(5, 3), True), lambda: Plain(mlp(8, 1)), agent.config)
        other.load_state_dict(copy.deepcopy(agent.state_dict()))
        for one in (agent, other):
            for _ in range(3):
                one.update(batch, torch.zeros(8, 3))
        assert other.updates == 4
        np.testing.assert_array_equal(agent.act(*batch.state), other.act(*batch.state))


def test_against_stable_baselines3(batch):
    """Fixed weights, a fixed batch, the same noise: the same losses, targets and weights after two updates."""
    pytest.importorskip("stable_baselines3")
    import gymnasium
    from stable_baselines3 import TD3 as Theirs
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    class Space(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (5,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

        def reset(self, seed=None, options=None):
            return np.zeros(5, np.float32), {}

    theirs = Theirs(
        "MlpPolicy", Space(), learning_rate=1e-3, batch_size=8, gamma=0.9, tau=0.05, policy_delay=2,
        target_policy_noise=0.3, target_noise_clip=0.2, seed=0, device="cpu",
        policy_kwargs={"net_arch": [16]},
    )  # fmt: skip
    actors, critics = [theirs.actor.mu], list(theirs.critic.q_networks)
    made = iter([*actors, *critics])

    def build():
        return Plain(copy.deepcopy(next(made)))

    config = dataclasses.replace(
        PLAIN, actor_rate=1e-3, critic_rate=1e-3, gamma=0.9, tau=0.05, policy_noise=0.3, noise_clip=0.2, policy_delay=2
    )
    ours = TD3(build, build, config)
    theirs._setup_learn(1, None)
    sample = ReplayBufferSamples(batch.state[0], batch.action, batch.next_state[0], batch.done, batch.reward)
    theirs.replay_buffer.sample = lambda *_, **__: sample
    torch.manual_seed(7)
    theirs.train(gradient_steps=2, batch_size=8)
    torch.manual_seed(7)
    told = [ours.update(batch, torch.empty(8, 3).normal_(0, 0.3)) for _ in range(2)]
    logged = theirs.logger.name_to_value
    assert np.mean([t["critic_loss"] for t in told]) == pytest.approx(logged["train/critic_loss"], rel=1e-5)
    assert told[1]["actor_loss"] == pytest.approx(logged["train/actor_loss"], rel=1e-5)
    for mine, other in (
        (ours.actor.net, theirs.actor.mu),
        (ours.actor_target.net, theirs.actor_target.mu),
        (ours.critics[0].net, theirs.critic.q_networks[0]),
        (ours.critics[1].net, theirs.critic.q_networks[1]),
        (ours.critic_targets[1].net, theirs.critic_target.q_networks[1]),
    ):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class TestReplay:
    def fill(self, replay, steps, rng):
        for at in range(steps):
            seen = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
            replay.add(seen, at % 3, rng.uniform(-1, 1, (2, 4)), np.array([at, at + 0.5]), 255 - seen)

    def test_what_goes_in_comes_out(self, rng):
        replay = ReplayBuffer(100, 8, 3, 4)
        self.fill(replay, 6, rng)
        batch = replay.sample(rng, 64, 0, "cpu")
        seen, at = batch.state
        assert torch.equal(batch.next_state[0], 255 - seen)
        number = at.argmax(1)
        assert torch.equal(number.float(), batch.reward[:, 0].floor() % 3)
        assert torch.equal(batch.done[:, 0] == 1, number == 2)
        assert torch.equal(batch.next_state[1].argmax(1), (number + 1).clamp(max=2))
        assert len(set(batch.reward[:, 0].tolist())) == 12

    def test_the_oldest_go_first(self, rng):
        replay = ReplayBuffer(7, 8, 3, 4)
        self.fill(replay, 5, rng)
        assert len(replay) == 7
        found = set(replay.sample(rng, 200, 0, "cpu").reward[:, 0].tolist())
        assert found == {1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5}

    def test_there_and_back(self, rng):
        replay = ReplayBuffer(7, 8, 3, 4)
        self.fill(replay, 5, rng)
        other = ReplayBuffer(7, 8, 3, 4)
        other.load_state_dict(replay.state_dict())
        a, b = (r.sample(np.random.default_rng(0), 9, 1, "cpu") for r in (replay, other))
        assert torch.equal(a.state[0], b.state[0])
        assert torch.equal(a.action, b.action)
