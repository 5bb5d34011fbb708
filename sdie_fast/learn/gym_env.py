"""`SdieEnv` as Gymnasium has it: one participant. Needs `pip install "sdie-fast[train]"`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ..actor import progress
from .env import SdieEnv
from .place import on_host

Observation = dict[str, npt.NDArray[Any]]


def spaces_of(env: SdieEnv) -> tuple[spaces.Dict, spaces.Box]:
    """Spaces of one participant's observation ("image", uint8 (1, side, side); "round", one-hot (T,)) and action."""
    return (
        spaces.Dict(
            {
                "image": spaces.Box(0, 255, (1, env.side, env.side), np.uint8),
                "round": spaces.Box(0.0, 1.0, (env.rounds,), np.float32),
            }
        ),
        spaces.Box(-1.0, 1.0, (env.actions.size,), np.float32),
    )


def observation(env: SdieEnv, seen: Any, at: int) -> Observation:
    """What n participants see, as arrays: each space with n in front. After the last round, the round is still the last."""
    return {
        "image": on_host(seen)[:, None],
        "round": progress(env.rounds, min(at, env.rounds - 1), len(seen)),
    }


class GymEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """One participant, whose image is drawn anew each episode.

    Parameters
    ----------
    env : SdieEnv
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: SdieEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = spaces_of(env)
        self._shown: npt.NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; options: {"case": k} names the image."""
        super().reset(seed=seed)
        given = (options or {}).get("case")
        case = int(self.np_random.integers(len(self.env))) if given is None else int(given)
        state = self.env.reset([case])
        self._shown = self.env.cases[case].image
        found = observation(self.env, state.seen, state.at)
        return {k: v[0] for k, v in found.items()}, {"case": case}

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take a round; the episode ends by itself, and is never cut short."""
        step = self.env.step(np.asarray(action, np.float32)[None])
        self._shown = step.images[0]
        found = observation(self.env, step.state.seen, step.state.at)
        info = {"predicted_iou": step.answers[0].quality}
        return {k: v[0] for k, v in found.items()}, float(step.reward[0]), step.done, False, info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Give the image as it now is, (H, W, 3)."""
        return None if self._shown is None else np.repeat(self._shown[..., None], 3, 2)
