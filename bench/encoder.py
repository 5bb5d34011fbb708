"""SAM's image encoder by ONNX Runtime against segment-anything in torch fp32, on the CPU: python bench/encoder.py

Needs `pip install ".[sam]"`. Weights are random and seeded unless --checkpoint names some. Each precision is exported (its
parity with torch is in the table), then all take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from sdie_fast.segment.checkpoint import build, load_checkpoint
from sdie_fast.segment.export import export_sam
from sdie_fast.segment.onnx import Options, open_session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--architecture", default="vit_b")
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    if args.checkpoint:
        model, name = load_checkpoint(args.checkpoint)
    else:
        model, name = build(args.architecture).eval(), args.architecture
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "rel_pos" in key or "pos_embed" in key:  # all zero in a fresh model
                    p.normal_(0, 0.02)
    side = model.image_encoder.img_size
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        sessions, parity, times = {}, {}, {"torch": []}
        for precision in args.precision:
            directory = Path(folder) / precision
            manifest = export_sam(None, directory, architecture=name, model=model, precision=precision)
            sessions[precision] = open_session(
                directory / "encoder.onnx",
                Options("cpu", args.threads),
                key=manifest.files["encoder.onnx"],
                precision=precision,
            )
            parity[precision], times[precision] = manifest.parity, []
        for _ in range(args.rounds):
            with torch.no_grad():
                begin = time.perf_counter()
                model.image_encoder(image)
                times["torch"].append(time.perf_counter() - begin)
            for precision, session in sessions.items():
                begin = time.perf_counter()
                session.run(images=image.numpy())
                times[precision].append(time.perf_counter() - begin)
    print(
        f"{name}, {side} x {side}, {args.threads} threads, {platform.machine()}; "
        + ", ".join(f"{p} {version(p)}" for p in ("torch", "onnxruntime"))
    )
    for key, values in times.items():
        line = f"{key:6} {', '.join(f'{v:.2f}' for v in values)} s; median {np.median(values):.2f}"
        if key != "torch":
            line += (
                f", {np.median(times['torch']) / np.median(values):.2f}x; embedding error "
                f"{parity[key]['embedding_error']:.1e}, mask IoU {parity[key]['mask_iou']:.4f}"
            )
        print(line)


if __name__ == "__main__":
    main()
