"""From a policy to a schedule, one look at the first image giving all rounds' actions, and from either to ONNX.

By Theorem 2 of the paper (Liu et al. 2024) every state follows from the first image and the actions so far, so that a
deterministic policy's actions are a function of that image alone. Learning it costs no segmentation.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ..actor import Actions, Actor, ActorFile, observe, progress
from ..enhance import one_round
from ..errors import ModelError
from ..files import replace_file
from ..segment.onnx_files import to_onnx
from .config import Config
from .env import Act, SdieEnv
from .episode import Observation
from .networks import ScheduleNet, Texture, random_shift
from .places import Floats, Images

__all__ = ["BATCH", "ENCODER", "RATE", "STEPS", "VARIANTS", "demonstrations", "distill", "export_actor"]

VARIANTS = 12  # of each image: turned, mirrored, lighter and darker
# Whatever the policy has: a schedule is there to be fast, and beside a ResNet18 the filters would be the smaller part.
ENCODER = "small"
STEPS = 1500
BATCH = 64
RATE = 1e-3
_PARITY = 1e-3  # largest difference of an exported action in [-1, 1]


def _variants(images: Floats, seed: int) -> Floats:
    """Turned, mirrored and re-lit images (N, H, W) in [0, 1], the images as they are first."""
    rng = np.random.default_rng((seed, 3))
    square = images.shape[1] == images.shape[2]
    made = [images]
    for _ in range(VARIANTS - 1):
        for image in images:
            turned = np.rot90(image, int(rng.integers(4) if square else 2 * rng.integers(2)))
            if rng.random() < 0.5:
                turned = turned[:, ::-1]
            gain, shift = np.exp(rng.uniform(-0.2, 0.2)), rng.uniform(-0.06, 0.06)
            made.append(np.clip((turned - 0.5) * gain + 0.5 + shift, 0.0, 1.0)[None])
    return np.ascontiguousarray(np.concatenate(made), np.float32)


def demonstrations(
    env: SdieEnv, act: Act, seed: int, pictures: Sequence[Images] | None = None
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """What a way of acting does with variants of pictures, the environment's unless told.

    Returns
    -------
    seen : ndarray, uint8, (T, N, side, side)
        What it saw in each round; the pictures as they are come first, then one variant of each after the other.
    actions : ndarray, float32, (N, T, size)
    """
    raw = np.stack(env.pictures if pictures is None else pictures).astype(np.float32) / np.float32(255.0)
    first = state = _variants(raw, seed)[..., None]
    seen, actions = [], []
    for at in range(env.rounds):
        if env.begins_pass(at):
            state = first
        seen.append(observe(state[..., 0], env.side))
        actions.append(act(Observation(seen[-1], at)))
        state = one_round(state, actions[-1], env.actions, env.params, threads=env.threads)
    return np.stack(seen), np.stack(actions, 1)


def distill(actor: nn.Module, env: SdieEnv, config: Config) -> tuple[ScheduleNet, float]:
    """Teach a schedule what a policy does.

    Parameters
    ----------
    actor : Module
        `ActorNet`.
    env : SdieEnv
        Its cases are the shots.
    config : Config

    Returns
    -------
    net : ScheduleNet
    error : float
        Mean absolute difference of the weights on the shots themselves.
    """
    device = next(actor.parameters()).device

    @torch.no_grad()
    def act(state: Observation) -> Floats:
        found = []
        for part in np.array_split(state.seen, -(-len(state.seen) // 256)):
            hot = functional.one_hot(torch.full((len(part),), state.at), config.rounds).float()
            found.append(actor(torch.from_numpy(part).to(device), hot.to(device)).cpu().numpy())
        return np.concatenate(found).astype(np.float32)

    seen, actions = demonstrations(env, act, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = config.encoder if config.encoder == "texture" else ENCODER
        net = ScheduleNet(encoder, config.rounds, config.actions.size).to(device)
    inputs, wanted = torch.from_numpy(seen[0]).to(device), torch.from_numpy(actions).to(device)
    fixed: torch.Tensor | None = None
    if isinstance(net.encoder, Texture):
        net.encoder.settle(inputs)
        with torch.no_grad():
            fixed = net.encoder(inputs[:, None].float() / 255.0)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    rng = np.random.default_rng((config.seed, 4))
    for _ in range(STEPS):
        rows = torch.from_numpy(rng.integers(len(inputs), size=BATCH))
        offsets = torch.from_numpy(rng.integers(0, 5, (BATCH, 2)))
        given = net(random_shift(inputs[rows], offsets.to(device), 2)) if fixed is None else net.of(fixed[rows])
        loss = functional.mse_loss(given, wanted[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        own = net(inputs[: len(env)]).cpu().numpy()
    gap = env.actions.weights(own) - env.actions.weights(actions[: len(env)])
    return net, float(np.abs(gap).mean())


def export_actor(net: nn.Module, kind: str, path: Path, rounds: int, side: int, actions: Actions) -> ActorFile:
    """Write a policy's or a schedule's network to ONNX, if onnxruntime answers as torch does.

    Parameters
    ----------
    net : Module
        `ActorNet`, or `ScheduleNet`.
    kind : {"policy", "schedule"}
    path : Path
        The file, replaced at once.
    rounds, side : int
        T; of observations in pixels.
    actions : Actions
        What its answers mean.

    Returns
    -------
    ActorFile

    Raises
    ------
    ModelError
        onnxruntime's actions differ from torch's by more than 0.001; nothing is written.
    """
    net = copy.deepcopy(net).cpu().float().eval()
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 256, (3, side, side), dtype=np.uint8)
    given = [torch.from_numpy(seen)]
    names = ["observation"]
    if kind == "policy":
        given.append(torch.from_numpy(progress(rounds, rounds - 1, len(seen))))
        names.append("round")
    batch = torch.export.Dim("batch", min=1, max=65536)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "actor.onnx"
        to_onnx(net, tuple(given), made, (names, ["action"]), tuple({0: batch} for _ in given))
        with torch.no_grad():
            expected = net(*given).numpy()
        file = ActorFile.of(made, rounds, side, actions)
        error = float(np.abs(Actor(file, kind)(seen, rounds - 1) - expected).max())
        if not error <= _PARITY:
            raise ModelError(
                f"{path}: onnxruntime's actions differ from torch's by {error:.1e}; "
                f"at most {_PARITY:.0e} is accepted, and nothing was written"
            )
        data = made.read_bytes()
    replace_file(path, lambda stream: stream.write(data))
    return ActorFile.of(path, rounds, side, actions)
