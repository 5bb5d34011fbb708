"""`SdieEnv` as Gymnasium and stable-baselines3 have it. Needs `pip install "sdie-fast[train]"`, the latter `[train,sb3]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ..actor import progress
from ..errors import MissingPackageError
from ..segment.geometry import on_host
from .env import SdieEnv
from .episode import Observation
from .places import Floats, Images

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv
else:
    try:
        from stable_baselines3.common.vec_env import VecEnv
    except ImportError:  # Gymnasium's face does without
        VecEnv = None

__all__ = ["GymEnv", "SdieVecEnv"]

_Seen = dict[str, npt.NDArray[Any]]


def _spaces_of(env: SdieEnv) -> tuple[spaces.Dict, spaces.Box]:
    """Spaces of one participant's observation ("image", uint8 (1, side, side); "round", one-hot (T,)) and action."""
    image = spaces.Box(0, 255, (1, env.side, env.side), np.uint8)
    at = spaces.Box(0.0, 1.0, (env.rounds,), np.float32)
    return spaces.Dict({"image": image, "round": at}), spaces.Box(-1.0, 1.0, (env.actions.size,), np.float32)


def _seen(env: SdieEnv, state: Observation) -> _Seen:
    """What n participants see, as arrays: each space with n in front. After the last round, the round is still the last."""
    hot = progress(env.rounds, min(state.at, env.rounds - 1), len(state.seen))
    return {"image": on_host(state.seen)[:, None], "round": hot}


class GymEnv(gymnasium.Env[_Seen, Floats]):
    """One participant, whose image is drawn anew each episode.

    Parameters
    ----------
    env : SdieEnv
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, env: SdieEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = _spaces_of(env)
        self._shown: Images | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[_Seen, dict[str, Any]]:
        """Begin an episode; options: {"case": k} names the image."""
        super().reset(seed=seed)
        given = (options or {}).get("case")
        case = int(self.np_random.integers(len(self.env))) if given is None else int(given)
        found = _seen(self.env, self.env.reset([case]))
        self._shown = self.env.pictures[case]
        return {k: v[0] for k, v in found.items()}, {"case": case}

    def step(self, action: Floats) -> tuple[_Seen, float, bool, bool, dict[str, Any]]:
        """Take a round; the episode ends by itself, and is never cut short."""
        step = self.env.step(np.asarray(action, np.float32)[None])
        self._shown = step.images[0]
        found = {k: v[0] for k, v in _seen(self.env, step.state).items()}
        return found, float(step.reward[0]), step.done, False, {"predicted_iou": step.answers[0].quality}

    def render(self) -> Images | None:
        """Give the image as it now is, (H, W, 3)."""
        return None if self._shown is None else np.repeat(self._shown[..., None], 3, 2)


class SdieVecEnv(VecEnv or object):  # type: ignore[misc]
    """Every case a participant, so that stable-baselines3's SAC and others can be compared with TD3 ("MultiInputPolicy").

    Parameters
    ----------
    env : SdieEnv

    Raises
    ------
    MissingPackageError
        stable-baselines3 is missing.
    """

    def __init__(self, env: SdieEnv) -> None:
        if VecEnv is None:
            raise MissingPackageError('stable_baselines3 is missing: pip install "sdie-fast[train,sb3]"')
        self.env = env
        self.render_mode = None
        super().__init__(len(env), *_spaces_of(env))
        self._actions = np.zeros((len(env), env.actions.size), np.float32)

    def reset(self) -> Any:
        """Begin an episode of every participant."""
        self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        return _seen(self.env, self.env.reset())

    def step_async(self, actions: Any) -> None:
        """Take note of the actions."""
        self._actions = np.asarray(actions, np.float32)

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Take the round; after the last one the next episode has begun."""
        step = self.env.step(self._actions)
        found = _seen(self.env, step.state)
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
