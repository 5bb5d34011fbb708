"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018), as SDIE uses it (Liu et al. 2024, Algorithm 1).

Below the algorithm: a run's agent, built from its settings, read back from its folder, and asked what it would do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ..actor import progress
from ..errors import RunError
from .baselines import start_schedule
from .config import Config
from .env import Act
from .episode import Observation
from .networks import ActorNet, CriticNet, Texture, random_shift
from .places import Floats
from .runs import CHECKPOINT, load_checkpoint, load_config

__all__ = ["TD3", "Batch", "ReplayBuffer", "load_agent", "make_agent", "policy_of", "tensors"]

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """Transitions: states are what the networks take before the action, as tensors with N rows.

    Attributes
    ----------
    state, next_state : tuple of Tensor
    action : Tensor, float32, (N, size)
    reward, done : Tensor, float32, (N, 1)
        done is 1 where nothing comes after.
    goal : Tensor, float32, (N, size)
        What the actor is anchored to: the action itself, or, after a search, what the first policy did there.
    """

    state: Tensors
    action: torch.Tensor
    reward: torch.Tensor
    next_state: Tensors
    done: torch.Tensor
    goal: torch.Tensor


class TD3:
    """An actor, two critics, their targets, and how they learn.

    Parameters
    ----------
    make_actor, make_critic : callable
        Build `actor(*state) -> action` in [-1, 1] and `critic(*state, action) -> value (N, 1)`; the second
        critic is a second call.
    config : Config, optional
        Its learning rates, gamma, tau, policy_noise, noise_clip, policy_delay, actor_after and anchor.
    device : str
    amp : bool
        Whether networks run in bfloat16 where that is accurate enough (torch.autocast); weights stay float32.
    """

    _PARTS = ("actor", "critics", "actor_target", "critic_targets", "actor_optimizer", "critic_optimizer")

    def __init__(
        self,
        make_actor: Callable[[], nn.Module],
        make_critic: Callable[[], nn.Module],
        config: Config | None = None,
        device: str = "cpu",
        *,
        amp: bool = False,
    ) -> None:
        self.config, self.device = Config() if config is None else config, device
        self.actor = make_actor().to(device)
        self.critics = nn.ModuleList([make_critic(), make_critic()]).to(device)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic_targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), self.config.actor_rate)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), self.config.critic_rate)
        self.updates = 0
        self._amp = amp

    def _autocast(self) -> Any:
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self._amp)

    @torch.no_grad()
    def act(self, *state: torch.Tensor, averaged: bool = False) -> npt.NDArray[np.float32]:
        """Give the policy's actions, without exploration; averaged: those of the target, which follows it slowly."""
        actor = self.actor_target if averaged else self.actor
        with self._autocast():
            found = actor(*(s.to(self.device) for s in state))
        return np.asarray(found.float().cpu().numpy())

    @torch.no_grad()
    def value(self, state: Tensors, action: torch.Tensor) -> npt.NDArray[np.float32]:
        """Give the smaller of the two critics' values, (N,)."""
        given = [x.to(self.device) for x in (*state, action)]
        with self._autocast():
            both = [critic(*given).float() for critic in self.critics]
        return np.asarray(torch.minimum(*both)[:, 0].cpu().numpy())

    @torch.no_grad()
    def target(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """Y = r + gamma * min_i Q'_i(s', pi'(s') + eps), eps = clip(noise, -c, c) (Algorithm 1)."""
        c = self.config.noise_clip
        action = (self.actor_target(*batch.next_state) + noise.clamp(-c, c)).clamp(-1.0, 1.0)
        values = [q(*batch.next_state, action).float() for q in self.critic_targets]
        return batch.reward + (1.0 - batch.done) * self.config.gamma * torch.minimum(*values)

    def critic_loss(self, batch: Batch, target: torch.Tensor) -> torch.Tensor:
        """Sum over both critics of the mean of (y - Q_i(s, a))^2."""
        losses = [functional.mse_loss(q(*batch.state, batch.action).float(), target) for q in self.critics]
        return losses[0] + losses[1]

    def actor_loss(self, batch: Batch) -> torch.Tensor:
        """-mean Q_1(s, pi(s)): its gradient is the deterministic policy gradient. With `anchor`, scaled, and the distance from the goal."""
        action = self.actor(*batch.state)
        value = self.critics[0](*batch.state, action).float()
        if self.config.anchor is None:
            return -value.mean()
        scale = self.config.anchor / value.detach().abs().mean().clamp(min=1e-6)
        return functional.mse_loss(action.float(), batch.goal) - scale * value.mean()

    def follow_actor(self) -> None:
        """Begin with an actor that was taught elsewhere: its target is the same, and so are all encoders that do not learn."""
        self.actor_target.load_state_dict(self.actor.state_dict())
        if isinstance(self.actor.encoder, Texture):  # standardised by the shots, for all alike
            for net in (*self.critics, *self.critic_targets):
                net.encoder.load_state_dict(self.actor.encoder.state_dict())

    @torch.no_grad()
    def soft_update(self) -> None:
        """Theta' <- tau * theta + (1 - tau) * theta'."""
        for target, source in ((self.actor_target, self.actor), (self.critic_targets, self.critics)):
            for old, new in zip(target.parameters(), source.parameters(), strict=True):
                old.lerp_(new, self.config.tau)

    def update(self, batch: Batch, noise: torch.Tensor) -> dict[str, float]:
        """Learn from a batch: the critics, and every `policy_delay`-th time the actor and the targets.

        Parameters
        ----------
        batch : Batch
            On the agent's device.
        noise : Tensor, float32, (N, size)
            Normal, of standard deviation `policy_noise`: given, so that a run follows from its seed.

        Returns
        -------
        dict of str to float
            Losses, and the mean target.
        """
        self.updates += 1
        with self._autocast():
            target = self.target(batch, noise)
            critic_loss = self.critic_loss(batch, target)
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        self.critic_optimizer.step()
        told = {"critic_loss": float(critic_loss.detach()), "target": float(target.mean())}
        if self.updates % self.config.policy_delay == 0:
            if self.updates > self.config.actor_after:
                told["actor_loss"] = self._update_actor(batch)
            self.soft_update()
        return told

    def _update_actor(self, batch: Batch) -> float:
        self.critics.requires_grad_(False)  # their gradients would be thrown away
        with self._autocast():
            loss = self.actor_loss(batch)
        self.actor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.actor_optimizer.step()
        self.critics.requires_grad_(True)
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on as if nothing had happened."""
        return {name: getattr(self, name).state_dict() for name in self._PARTS} | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.updates = int(state["updates"])


class ReplayBuffer:
    """The last transitions, in tensors that are written round and round.

    Parameters
    ----------
    capacity : int
        Transitions kept: 8192 in the published code.
    side, rounds, size : int
        Of observations in pixels; T; numbers in an action.
    device : str
        Where they are kept: 70 MB with the usual numbers. What is added from there, and batches that are used there, are
        not copied elsewhere. Which transitions are drawn does not depend on it, nor does a checkpoint.
    """

    def __init__(self, capacity: int, side: int, rounds: int, size: int, device: str = "cpu") -> None:
        self.capacity, self.rounds, self.written, self.device = capacity, rounds, 0, device
        shapes = {
            "seen": ((side, side), torch.uint8),
            "next_seen": ((side, side), torch.uint8),
            "at": ((), torch.int64),
            "action": ((size,), torch.float32),
            "goal": ((size,), torch.float32),
            "reward": ((1,), torch.float32),
        }
        self._kept = {
            name: torch.zeros((capacity, *shape), dtype=dtype, device=device)
            for name, (shape, dtype) in shapes.items()
        }

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, seen: Any, at: int, action: Any, reward: Any, next_seen: Any, goal: Any = None) -> None:
        """Keep n transitions of one round: (n, side, side), the round before it, (n, size), (n,), (n, side, side), (n, size).

        Arrays or tensors, from wherever they are.
        """
        count = len(seen)
        rows = self._rows((self.written + np.arange(count)) % self.capacity)
        values = {
            "seen": seen,
            "next_seen": next_seen,
            "action": action,
            "reward": reward,
            "goal": action if goal is None else goal,
        }
        for name, value in values.items():
            kept = self._kept[name]
            given = torch.as_tensor(value).to(self.device, kept.dtype)
            kept[rows] = given.reshape(count, *kept.shape[1:])
        self._kept["at"][rows] = at
        self.written += count

    def _rows(self, rows: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(rows).to(self.device)

    def sample(self, rng: np.random.Generator, count: int, shift: int, device: str) -> Batch:
        """Draw `count` transitions with replacement, their images shifted by up to `shift` pixels."""
        rows = self._rows(rng.integers(len(self), size=count))
        drawn = {name: kept[rows].to(device) for name, kept in self._kept.items()}
        for name in ("seen", "next_seen"):
            if shift:
                offsets = torch.from_numpy(rng.integers(0, 2 * shift + 1, (count, 2))).to(device)
                drawn[name] = random_shift(drawn[name], offsets, shift)
        at = drawn["at"]
        done = at + 1 >= self.rounds

        def hot(k: torch.Tensor) -> torch.Tensor:
            return functional.one_hot(k.clamp(max=self.rounds - 1), self.rounds).float()

        return Batch(
            (drawn["seen"], hot(at)), drawn["action"], drawn["reward"],
            (drawn["next_seen"], hot(at + 1)), done.float()[:, None], drawn["goal"],
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What was written, without the empty rest, on the host."""
        kept = {name: kept[: len(self)].clone().cpu() for name, kept in self._kept.items()}
        return {"written": self.written, "arrays": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.written = int(state["written"])
        for name, kept in self._kept.items():
            kept[: len(self)] = state["arrays"][name].to(self.device)


def make_agent(config: Config, device: str, *, amp: bool = False) -> TD3:
    """Build the networks of a run: the same for the same seed."""
    shape = (config.encoder, config.rounds, config.actions.size)
    start = start_schedule(config.start, config.rounds, config.passes, config.actions).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TD3(lambda: ActorNet(*shape, start=start), lambda: CriticNet(*shape), config, device, amp=amp)


def tensors(state: Observation, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What an agent sees, as the networks take it: what is on a device stays there."""
    hot = progress(rounds, min(state.at, rounds - 1), len(state.seen))
    return torch.as_tensor(state.seen), torch.from_numpy(hot)


def policy_of(agent: TD3, rounds: int) -> tuple[Act, Callable[[Observation, Floats], Any]]:
    """The agent's way of acting without exploration, and its critics' value."""
    return (
        lambda state: agent.act(*tensors(state, rounds)),
        lambda state, actions: agent.value(tensors(state, rounds), torch.from_numpy(actions)),
    )


def load_agent(run: Path) -> tuple[TD3, Config]:
    """The agent of a run with the policy that it kept, for its critics.

    Raises
    ------
    RunError
        Not a run's folder, or a damaged one.
    """
    config, _ = load_config(run)
    state = load_checkpoint(run / CHECKPOINT)
    agent = make_agent(config, "cpu")
    try:
        agent.load_state_dict(state["agent"])
        agent.actor.load_state_dict(state["kept"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunError(f"{run / CHECKPOINT}: not this run's: {error!r}") from error
    return agent, config
