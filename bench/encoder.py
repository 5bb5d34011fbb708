"""SAM's image encoder by ONNX Runtime against segment-anything in torch fp32, on the CPU: python bench/encoder.py

Needs `pip install ".[sam]"`. Weights are random and seeded unless --checkpoint names some. Each precision is exported (its
parity with torch is in the table), then all take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from sdie_fast._bench.machine import machine
from sdie_fast._bench.timing import by_host, interleave
from sdie_fast.segment.checkpoint import build, load_checkpoint
from sdie_fast.segment.export import export_sam
from sdie_fast.segment.onnx import Options, open_session


def random_sam(architecture: str) -> torch.nn.Module:
    """segment-anything's model with seeded random weights; positions too, which are zero in a fresh one."""
    torch.manual_seed(0)
    model = build(architecture).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                p.normal_(0, 0.02)
    return model


def main() -> None:
    """Export, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--architecture", default="vit_b")
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.checkpoint:
        model, name = load_checkpoint(args.checkpoint)
    else:
        model, name = random_sam(args.architecture), args.architecture
    side = model.image_encoder.img_size
    image = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    calls, parity = {"torch": partial(torch.no_grad()(model.image_encoder), torch.from_numpy(image))}, {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in args.precision:
            directory = Path(folder) / precision
            manifest = export_sam(None, directory, architecture=name, model=model, precision=precision)
            parity[precision] = manifest.parity
            options, key = Options("cpu", args.threads), manifest.files["encoder.onnx"]
            session = open_session(directory / "encoder.onnx", options, key=key, precision=precision)
            calls[precision] = partial(session.run, images=image)
        samples = {name: by_host(call) for name, call in calls.items()}
        times = interleave(samples, args.rounds, budget=float("inf"))
    facts = machine(args.threads) | {package: version(package) for package in ("torch", "onnxruntime")}
    print(f"{name}, {side} x {side}, " + ", ".join(f"{key} {value}" for key, value in facts.items() if value))
    print("          median s     IQR    best  torch's over it  embedding error  mask IoU")
    for key, t in times.items():
        line = f"{key:8} {t.median:9.2f} {t.iqr:7.2f} {t.best:7.2f} {times['torch'].median / t.median:15.2f}x"
        if key in parity:
            line += f" {parity[key]['embedding_error']:15.1e} {parity[key]['mask_iou']:9.4f}"
        print(line)


if __name__ == "__main__":
    main()
