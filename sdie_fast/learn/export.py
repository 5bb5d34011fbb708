"""Trained networks to ONNX, kept only if they answer as torch does. Needs `pip install "sdie-fast[train]"`."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .._files import replace_file
from ..actor import Actions, Actor, ActorFile, progress
from ..errors import ModelError
from ..segment.onnx_files import to_onnx

PARITY = 1e-3  # largest difference of an action in [-1, 1]


def export_actor(net: nn.Module, kind: str, path: Path, rounds: int, side: int, actions: Actions) -> ActorFile:
    """Write a policy's or a schedule's network.

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
        onnxruntime's answers differ from torch's by more than `PARITY`; nothing is written.
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
        dynamic = tuple({0: batch} for _ in given)
        to_onnx(net, tuple(given), made, (names, ["action"]), dynamic)
        with torch.no_grad():
            expected = net(*given).numpy()
        file = ActorFile.of(made, rounds, side, actions)
        error = float(np.abs(Actor(file, kind)(seen, rounds - 1) - expected).max())
        if not error <= PARITY:
            raise ModelError(
                f"{path}: onnxruntime's actions differ from torch's by {error:.1e}; "
                f"at most {PARITY:.0e} is accepted, and nothing was written"
            )
        data = made.read_bytes()
    replace_file(path, lambda stream: stream.write(data))
    return ActorFile.of(path, rounds, side, actions)
