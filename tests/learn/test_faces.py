"""The environment as Gymnasium and stable-baselines3 have it."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")


def test_gymnasium_accepts_it(env):
    from gymnasium.utils.env_checker import check_env

    from sdie_fast.learn.faces import GymEnv

    check_env(GymEnv(env), skip_render_check=True)


def test_an_episode(env):
    from sdie_fast.learn.faces import GymEnv

    face = GymEnv(env)
    seen, info = face.reset(seed=1, options={"case": 2})
    assert info["case"] == 2
    np.testing.assert_array_equal(seen["round"], [1, 0, 0])
    done, rewards = False, []
    while not done:
        seen, reward, done, cut, _ = face.step(np.zeros(6, np.float32))
        rewards.append(reward)
        assert not cut
    assert len(rewards) == 3
    env.reset([2])
    np.testing.assert_allclose(rewards[0], env.step(np.zeros((1, 6))).reward[0])
    assert face.render().shape == (32, 32, 3)


def test_sac_of_stable_baselines3_trains(env):
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import SAC

    from sdie_fast.learn.faces import SdieVecEnv

    env.side = 36  # the least that its usual convolutions take
    face = SdieVecEnv(env)
    model = SAC(
        "MultiInputPolicy", face, learning_starts=8, batch_size=8, buffer_size=64, device="cpu",
        policy_kwargs={"net_arch": [16]}, train_freq=1,
    )  # fmt: skip
    model.learn(36)
    action, _ = model.predict(face.reset(), deterministic=True)
    assert action.shape == (4, 6)
    assert np.abs(action).max() <= 1


def test_the_vector_face_begins_anew(env):
    pytest.importorskip("stable_baselines3")
    from sdie_fast.learn.faces import SdieVecEnv

    face = SdieVecEnv(env)
    first = face.reset()
    for k in range(3):
        seen, reward, done, infos = face.step(np.zeros((4, 6), np.float32))
        assert reward.shape == (4,)
        assert done.all() == (k == 2)
    np.testing.assert_array_equal(seen["image"], first["image"])
    assert (infos[0]["terminal_observation"]["image"] != first["image"][0]).any()
    assert infos[0]["TimeLimit.truncated"] is False
    assert face.get_attr("rounds") == [3] * 4
    assert face.env_method("__len__", indices=[0, 1]) == [4, 4]
    assert face.env_is_wrapped(object, 0) == [False]
