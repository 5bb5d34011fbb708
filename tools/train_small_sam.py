"""Train the small SAM that ships, on procedural scenes: `python tools/train_small_sam.py OUT`.

Needs `pip install ".[sam]"`. Some ninety minutes on two CPU cores; a GPU is used where there is one. Everything follows from
--seed; a killed run goes on from OUT/last.pt with the same numbers to come. OUT/small_sam.pt is the moving average of the
weights, which `sdie-fast export-sam` takes; OUT/log.jsonl has the losses and the held-out figures. --init goes on from the
weights of an earlier run with a learning rate that begins anew.

First on scenes of 128 x 128, where a step costs a quarter, then on 256 x 256: the encoder is convolutional and positions
are relative, so that what was learned carries over. What ships is the mean of the weights at the end of both (Wortsman et
al. 2022): nearly as good on scenes of 256 x 256 as the last ones, and better on photographs.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scenes import MAX_TARGETS, SIZE, scene
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from sdie_fast.segment.small import build_small_sam

HELD_OUT = 1_000_000  # scenes from this number on are never trained on
POINT_SHARE = 0.6  # of steps that begin with a point; the others begin with a box
EASY = 5000  # of the scenes of 128 x 128, those before this number are the easier the earlier
EXPERIENCE = 6000  # steps that weights given by --init count for: no easy beginning
FIRST_CORRECTION = 3000  # step from which on some prompts are followed by a correction
CORRECTIONS = 0.35  # share of the steps


def make_scene(number: tuple[int, int, int]) -> tuple[Any, Any]:
    """Give (image, masks packed by bits) of (size, seed, number)."""
    size, _, k = number
    s = scene(number, size, 1.0 - k / EASY if size < SIZE and k < EASY else None)
    masks = np.zeros((MAX_TARGETS, size, size), bool)
    masks[: len(s.masks)] = s.masks
    return s.image, np.packbits(masks, axis=-1)


def make_pool(size: int, seed: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make scenes in as many processes as there are CPUs."""
    images = np.empty((count, size, size), np.uint8)
    masks = np.empty((count, MAX_TARGETS, size, size // 8), np.uint8)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # of the processes to come, which are as many as the CPUs
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        numbers = [(size, seed, first + k) for k in range(count)]
        for k, (image, packed) in enumerate(pool.imap(make_scene, numbers, chunksize=64)):
            images[k], masks[k] = image, packed
            if (k + 1) % 2000 == 0:
                print(f"scenes: {k + 1} of {count}", flush=True)
    return images, masks


class Sampler:
    """Batches of images, targets and first prompts, each a function of (seed, step)."""

    def __init__(self, pool: tuple[np.ndarray, np.ndarray], seed: int, batch: int, prompts: int) -> None:
        self.images, self.masks = pool
        self.size = self.images.shape[1]
        self.seed, self.batch, self.prompts = seed, batch, prompts

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, str, np.random.Generator]:
        """Return images (B, 3, S, S) in 0..255, targets (B, P, S, S) as bool, the kind of prompt, and the generator."""
        rng = np.random.default_rng((self.seed, 1, step))
        images, targets = [], []
        known = min(len(self.images), 1500 + 4 * step)  # the easy ones first
        for k in rng.integers(known, size=self.batch):
            image = self.images[k].astype(np.float32)
            masks = np.unpackbits(self.masks[k], axis=-1).astype(bool)
            there = np.flatnonzero(masks.any((1, 2)))
            masks = masks[there[rng.integers(len(there), size=self.prompts)]]
            # Views and light change from draw to draw.
            turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
            image, masks = np.rot90(image, turn), np.rot90(masks, turn, (1, 2))
            if mirror:
                image, masks = image[:, ::-1], masks[:, :, ::-1]
            if rng.random() < 0.4:  # nearer: a part of the scene, enlarged
                size = self.size
                side = int(rng.uniform(0.5, 0.95) * size)
                y, x = rng.integers(0, size - side, 2)
                part = masks[:, y : y + side, x : x + side]
                if (part.sum((1, 2)) >= 32).all():
                    at = (np.arange(size) * side / size).astype(int)
                    rows, columns = np.ix_(at, at)
                    image = image[y : y + side, x : x + side][rows, columns]
                    masks = part[:, rows, columns]
            if rng.random() < 0.3:
                image = 255.0 - image
            gain, shift = np.exp(rng.uniform(-0.4, 0.3)), rng.uniform(-25, 25)
            image = np.clip((image - 128.0) * gain + 128.0 + shift, 0, 255)
            images.append(np.ascontiguousarray(image, np.float32))
            targets.append(np.ascontiguousarray(masks))
        kind = "point" if rng.random() < POINT_SHARE else "box"
        pictures = torch.from_numpy(np.stack(images))[:, None].expand(-1, 3, -1, -1)
        return pictures, torch.from_numpy(np.stack(targets)), kind, rng


def set_size(model: Any, size: int) -> None:
    """Make a model take images of that side: its parameters do not depend on it."""
    model.prompt_encoder.input_image_size = (size, size)
    model.prompt_encoder.image_embedding_size = (size // 8, size // 8)


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Bounding boxes (N, 4) as x0, y0, x1, y1 of masks (N, S, S)."""
    rows, columns = masks.any(2).float(), masks.any(1).float()
    size = masks.shape[-1]
    x0, y0 = columns.argmax(1), rows.argmax(1)
    x1, y1 = size - 1 - columns.flip(1).argmax(1), size - 1 - rows.flip(1).argmax(1)
    return torch.stack([x0, y0, x1, y1], 1).float()


def random_points(masks: torch.Tensor, rng: np.random.Generator, inner: bool) -> torch.Tensor:
    """A pixel (N, 2) as x, y of each mask (N, S, S); inner: away from the outline, half of the time."""
    points = np.zeros((len(masks), 2), np.float32)
    for k, mask in enumerate(masks.numpy()):
        inside = mask
        if inner and rng.random() < 0.5:
            core = mask[2:, 2:] & mask[:-2, :-2] & mask[2:, :-2] & mask[:-2, 2:]
            if core.any():
                inside = np.pad(core, 1)
        where = np.flatnonzero(inside)
        if len(where):
            at = where[rng.integers(len(where))]
            points[k] = at % mask.shape[1], at // mask.shape[1]
    return torch.from_numpy(points) + 0.5


def decode(
    model: Any, embeddings: torch.Tensor, points: Any, boxes: Any, masks: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """All four masks (N, 4, S/2, S/2) and their predicted IoU (N, 4) for N prompts on N embeddings."""
    sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
    decoder = model.mask_decoder
    count = len(embeddings)
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].expand(count, -1, -1)
    tokens = torch.cat([tokens, sparse], 1)
    place = model.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
    hidden, image = decoder.transformer(embeddings + dense, place, tokens)
    image = image.transpose(1, 2).reshape(embeddings.shape)
    image = decoder.output_upscaling(image)
    weights = torch.stack([mlp(hidden[:, 1 + k]) for k, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
    logits = torch.einsum("nkc,nchw->nkhw", weights, image)
    return logits.float(), decoder.iou_prediction_head(hidden[:, 0]).float()


def losses(logits: torch.Tensor, quality: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask losses (N, 4) and squared errors of the predicted IoU (N, 4); target (N, h, w) in [0, 1], by area."""
    t = target[:, None]
    p = logits.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(logits, t.expand_as(logits), reduction="none")
    focal = ((p - t).square() * cross).mean((2, 3))
    overlap = (p * t).sum((2, 3))
    dice = 1.0 - (2.0 * overlap + 1.0) / (p.sum((2, 3)) + t.sum((2, 3)) + 1.0)
    with torch.no_grad():
        hard = (logits > 0).float()
        iou = torch.minimum(hard, t).sum((2, 3)) / torch.maximum(hard, t).sum((2, 3)).clamp(min=1.0)
    return 5.0 * focal + dice, (quality - iou).square()


def total_loss(mask_loss: torch.Tensor, quality_loss: torch.Tensor, single: bool) -> torch.Tensor:
    """The single-mask token always learns; of the three others the best, where the prompt is ambiguous."""
    loss = mask_loss[:, 0].mean() + quality_loss.mean()
    if single:
        return loss
    return loss + mask_loss[:, 1:].min(1).values.mean()


def step_loss(model: Any, sampler: Sampler, step: int, device: str) -> torch.Tensor:
    """Loss of one batch: a first prompt, then a correction with the mask as a further prompt."""
    images, targets, kind, rng = sampler(step)
    prompts, size = targets.shape[1], targets.shape[-1]
    flat = targets.reshape(-1, size, size)
    area = functional.avg_pool2d(flat[:, None].float(), 2)[:, 0].to(device)
    enabled = torch.autocast(device, torch.bfloat16)
    with enabled:
        x = (images.to(device) - model.pixel_mean) / model.pixel_std
        embeddings = model.image_encoder(x.contiguous(memory_format=torch.channels_last))
        embeddings = embeddings.repeat_interleave(prompts, 0)
        boxes = points = labels = None
        if kind == "box":
            box = boxes_of(flat)
            side = torch.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]] * 2, 1)
            jitter = torch.from_numpy(rng.normal(0, 0.1, (len(flat), 4)).astype(np.float32))
            boxes = (box + (side * jitter).clamp(-20, 20)).clamp(0, size).to(device)
        else:
            points = random_points(flat, rng, inner=True)[:, None].to(device)
            labels = torch.ones(len(flat), 1, device=device)
        given = None if points is None else (points, labels)
        logits, quality = decode(model, embeddings, given, boxes, None)
    loss = total_loss(*losses(logits, quality, area), single=kind == "box")
    if step < FIRST_CORRECTION or rng.random() >= CORRECTIONS:
        return loss
    with torch.no_grad():
        best = quality[:, 1:].argmax(1) + 1 if kind == "point" else torch.zeros(len(flat), dtype=torch.long)
        chosen = logits[torch.arange(len(flat)), best]
        guess = (functional.interpolate(chosen[:, None], scale_factor=2.0, mode="bilinear")[:, 0] > 0).cpu()
        wrong = guess ^ flat
        extra = random_points(torch.where(wrong.any((1, 2), keepdim=True), wrong, flat), rng, inner=False)
        inside = flat[torch.arange(len(flat)), extra[:, 1].long(), extra[:, 0].long()].float()
        extra, inside = extra[:, None].to(device), inside[:, None].to(device)
    points = extra if points is None else torch.cat([points, extra], 1)
    labels = inside if labels is None else torch.cat([labels, inside], 1)
    with enabled:
        logits, quality = decode(model, embeddings, (points, labels), boxes, chosen[:, None])
    return loss + total_loss(*losses(logits, quality, area), single=True)


@torch.no_grad()
def evaluate(model: Any, pool: tuple[np.ndarray, np.ndarray], device: str) -> dict[str, float]:
    """Mean IoU on held-out scenes from the innermost point and from the box, and the IoU head's mean absolute error."""
    found: dict[str, list[float]] = {"point": [], "point_best_of_3": [], "box": [], "iou_error": []}
    for image, packed in zip(*pool, strict=True):
        masks = np.unpackbits(packed, axis=-1).astype(bool)
        masks = masks[masks.any((1, 2))]
        flat = torch.from_numpy(masks)
        x = torch.from_numpy(image.astype(np.float32)).to(device)[None, None].expand(-1, 3, -1, -1)
        embedding = model.image_encoder((x - model.pixel_mean) / model.pixel_std).expand(len(masks), -1, -1, -1)
        inner = [
            np.unravel_index(distance_transform_edt(np.pad(m, 1)).argmax(), (image.shape[0] + 2,) * 2) for m in masks
        ]
        points = torch.tensor([[[x - 0.5, y - 0.5]] for y, x in inner], dtype=torch.float32, device=device)
        labels = torch.ones(len(masks), 1, device=device)
        for kind in ("point", "box"):
            given = (points, labels) if kind == "point" else None
            boxes = boxes_of(flat).to(device) if kind == "box" else None
            logits, quality = decode(model, embedding, given, boxes, None)
            hard = functional.interpolate(logits, scale_factor=2.0, mode="bilinear").cpu() > 0
            truth = flat[:, None]
            iou = (hard & truth).sum((2, 3)) / (hard | truth).sum((2, 3)).clamp(min=1)
            quality = quality.cpu()
            if kind == "point":
                picked = quality[:, 1:].argmax(1, keepdim=True) + 1
                found["point"] += iou.gather(1, picked)[:, 0].tolist()
                found["point_best_of_3"] += iou[:, 1:].max(1).values.tolist()
                found["iou_error"] += (iou.gather(1, picked) - quality.gather(1, picked)).abs()[:, 0].tolist()
            else:
                found["box"] += iou[:, 0].tolist()
                found["iou_error"] += (iou[:, 0] - quality[:, 0]).abs().tolist()
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of checkpoints and log")
    parser.add_argument("--coarse-steps", type=int, default=15000, help="on 128 x 128, twice the batch")
    parser.add_argument("--steps", type=int, default=4000, help="on 256 x 256, after these")
    parser.add_argument("--batch", type=int, default=8, help="scenes a step")
    parser.add_argument("--prompts", type=int, default=2, help="prompts a scene")
    parser.add_argument("--scenes", type=int, default=20000, help="different scenes")
    parser.add_argument("--held-out", type=int, default=150)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="small_sam.pt of an earlier run to begin with")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    model = build_small_sam().to(args.device).train()
    experience = 0
    if args.init:
        model.load_state_dict(torch.load(args.init, map_location=args.device, weights_only=True))
        experience = EXPERIENCE
    average = build_small_sam().to(args.device).eval()
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.02, betas=(0.9, 0.98))
    step = 0
    last = args.out / "last.pt"
    if last.exists():
        state = torch.load(last, map_location=args.device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])
        print(f"going on from step {step}", flush=True)

    def save(path: Path, state: object) -> None:
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    begin, recent, size = time.monotonic(), [], 0
    total = args.coarse_steps + args.steps
    with open(args.out / "log.jsonl", "a", encoding="utf-8") as log:
        while step < total:
            now = SIZE // 2 if step < args.coarse_steps else SIZE
            if now != size:
                size = now
                held_out = make_pool(size, args.seed, HELD_OUT, args.held_out)
                pool = make_pool(size, args.seed, 0, args.scenes)
                sampler = Sampler(pool, args.seed, args.batch * SIZE // size, args.prompts)
                set_size(model, size)
                set_size(average, size)
            rate = args.rate * min((step + 1) / 200, 1.0)
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = step_loss(model, sampler, experience + step, args.device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            keep = min(0.999, (experience + step + 1) / (experience + step + 10))
            with torch.no_grad():
                for a, b in zip(average.parameters(), model.parameters(), strict=True):
                    a.lerp_(b, 1.0 - keep)
            step += 1
            recent.append(float(loss.detach()))
            if step % 50 == 0 or step in (args.coarse_steps, total):
                spent = time.monotonic() - begin
                record = {
                    "step": step,
                    "loss": round(float(np.mean(recent)), 4),
                    "seconds": round(spent, 1),
                }
                recent.clear()
                if step % 500 == 0 or step in (args.coarse_steps, total):
                    record |= {k: round(v, 4) for k, v in evaluate(average, held_out, args.device).items()}
                    # In half, so that the file that ships is half as large.
                    half = {k: v.half() for k, v in average.state_dict().items()}
                    save(args.out / "small_sam.pt", half)
                    if step == args.coarse_steps:
                        save(args.out / "coarse.pt", half)
                    save(
                        last,
                        {
                            "model": model.state_dict(),
                            "average": average.state_dict(),
                            "optimizer": optimizer.state_dict(),
                            "step": step,
                        },
                    )
                print(json.dumps(record), flush=True)
                log.write(json.dumps(record) + "\n")
                log.flush()
    if size and args.steps and args.coarse_steps:
        coarse = torch.load(args.out / "coarse.pt", weights_only=True)
        last_ones = torch.load(args.out / "small_sam.pt", weights_only=True)
        mean = {k: ((v.float() + last_ones[k].float()) / 2).half() for k, v in coarse.items()}
        save(args.out / "small_sam.pt", mean)
        average.load_state_dict(mean)
        print(json.dumps({"mean": evaluate(average, held_out, args.device)}), flush=True)


if __name__ == "__main__":
    main()
