"""Settings of a run, as they are written and read again."""

import json

import pytest

from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, SdieError
from sdie_fast.actor import Actions, Choice
from sdie_fast.learn.config import Config


def test_there_and_back():
    config = Config.preset("published-code", shots=1, actions=Actions((Choice("guided_eps", 0.01, 0.1),)))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_published_code():
    c = Config.preset("published-code")
    assert (c.rounds, c.encoder, c.noise, c.policy_noise, c.noise_clip) == (
        4,
        "resnet18",
        0.05,
        0.1,
        0.5,
    )
    assert (c.gamma, c.tau, c.policy_delay, c.capacity, c.batch) == (0.99, 0.005, 2, 8192, 32)
    assert c.actor_rate == c.critic_rate == 3e-4
    assert c.params == FilterParams.published_code()


@pytest.mark.parametrize(
    "wrong",
    [
        {"shots": 0},
        {"prompt": "x"},
        {"reward": "x"},
        {"gamma": 2.0},
        {"seed": -1},
        {"relative": 1},
        {"noise": "a"},
        {"start": "x"},
        {"passes": 4},
        {"rounds": 0},
        {"rounds": 65, "passes": 1},
        {"views": 3},
        {"credit": "x"},
        {"keep": "best"},
        {"refer": 1},
        {"prior": 1},
        {"prior": True, "refer": False},
    ],
)
def test_bad(wrong):
    with pytest.raises((InvalidArgumentError, InvalidTypeError)):
        Config(**wrong)
    with pytest.raises(SdieError):
        Config.from_dict({**Config().to_dict(), **wrong})
