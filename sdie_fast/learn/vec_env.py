"""`SdieEnv` as stable-baselines3 has it: all participants at once, so that its SAC and others can be compared.

Needs `pip install "sdie-fast[train,sb3]"`; policies are its "MultiInputPolicy".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from .env import SdieEnv
from .gym_env import observation, spaces_of


class SdieVecEnv(VecEnv):
    """Every case a participant.

    Parameters
    ----------
    env : SdieEnv
    """

    def __init__(self, env: SdieEnv) -> None:
        self.env = env
        self.render_mode = None
        super().__init__(len(env), *spaces_of(env))
        self._actions = np.zeros((len(env), env.actions.size), np.float32)

    def reset(self) -> Any:
        """Begin an episode of every participant."""
        state = self.env.reset()
        self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        return observation(self.env, state.seen, state.at)

    def step_async(self, actions: Any) -> None:
        """Take note of the actions."""
        self._actions = np.asarray(actions, np.float32)

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Take the round; after the last one the next episode has begun."""
        step = self.env.step(self._actions)
        found = observation(self.env, step.state.seen, step.state.at)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        if step.done:
            for k, info in enumerate(infos):
                info["terminal_observation"] = {name: v[k] for name, v in found.items()}
            found = self.reset()
        return found, step.reward, np.full(self.num_envs, step.done), infos

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for every participant."""
        return [getattr(self.env, attr_name, None)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set it for all of them."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Call it once, for all of them."""
        found = getattr(self.env, method_name)(*args, **kwargs)
        return [found] * len(self._rows(indices))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """There are no wrappers."""
        return [False] * len(self._rows(indices))

    def _rows(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else list(indices)
