"""A run's agent: built from its settings, read back from its folder, and asked what it would do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..actor import progress
from ..errors import RunError
from . import folder as files
from .config import Config
from .env import Floats, State
from .networks import ActorNet, CriticNet
from .rollout import Act, start_schedule
from .td3 import TD3, Rates


def make_agent(config: Config, device: str, *, amp: bool = False) -> TD3:
    """Build the networks of a run: the same for the same seed."""
    rates = Rates(
        config.actor_rate, config.critic_rate, config.gamma, config.tau,
        config.policy_noise, config.noise_clip, config.policy_delay, config.actor_after, config.anchor,
    )  # fmt: skip
    shape = (config.encoder, config.rounds, config.actions.size)
    start = start_schedule(config.start, config.rounds, config.passes, config.actions.size).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TD3(lambda: ActorNet(*shape, start=start), lambda: CriticNet(*shape), rates, device, amp=amp)


def tensors(state: State, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A state as the networks take it: what is on a device stays there."""
    hot = progress(rounds, min(state.at, rounds - 1), len(state.seen))
    return torch.as_tensor(state.seen), torch.from_numpy(hot)


def policy_of(agent: TD3, rounds: int) -> tuple[Act, Callable[[State, Floats], Any]]:
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
    config, _ = files.load_config(run)
    state = files.load_checkpoint(run / files.CHECKPOINT)
    agent = make_agent(config, "cpu")
    try:
        agent.load_state_dict(state["agent"])
        agent.actor.load_state_dict(state["kept"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunError(f"{run / files.CHECKPOINT}: not this run's: {error!r}") from error
    return agent, config
