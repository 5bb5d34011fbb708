"""Graphs as others export them, small and with random weights.

samexporter's SAM is segment-anything's own `SamOnnxModel`. The others have modules here, with the names, shapes and
order of computation of theirs: no checkpoint of them is at hand.
"""

import json
import warnings

import numpy as np
import pytest

from sdie_fast.segment.sam import FORMAT

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
nn, resize = torch.nn, torch.nn.functional.interpolate

SIZE, CELLS, WIDTH = 128, 8, 16
SIDE = 4 * CELLS
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class Encoder(nn.Module):
    """Patches, each on its own; what else it gives, and what it does to a picture first, is a convention's."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        self.patch = nn.Conv2d(3, WIDTH, 16, 16)
        self.finer = nn.ModuleList([nn.Conv2d(3, WIDTH, k, k) for k in (4, 8)])

    def forward(self, x):
        if self.graph == "efficientsam":
            x = resize(x, (SIZE, SIZE), mode="bilinear")
            x = (x - torch.tensor(MEAN / 255).view(-1, 1, 1)) / torch.tensor(STD / 255).view(-1, 1, 1)
        elif x.ndim == 3:
            x = ((x - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)
            x = nn.functional.pad(x, (0, SIZE - x.shape[-1], 0, SIZE - x.shape[-2]))[None]
        found = self.patch(x)
        if self.graph == "sam2":
            return self.finer[0](x), self.finer[1](x), found.reshape(1, WIDTH, CELLS, CELLS)
        if self.graph == "sam-hq":
            inner = found.permute(0, 2, 3, 1)
            return found, torch.stack([inner.tanh(), inner.sin(), inner.cos(), inner])
        return found


class Decoder(nn.Module):
    """Every input counts: a point's place and label, a mask and whether it is one, each of the maps."""

    def __init__(self):
        super().__init__()
        self.waves = nn.Parameter(torch.randn(2, WIDTH // 2))
        self.kinds = nn.Embedding(5, WIDTH)
        self.dense, self.none = nn.Conv2d(1, WIDTH, 4, 4), nn.Parameter(torch.randn(1, WIDTH, 1, 1))
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 4, 4)
        self.heads, self.judge = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(WIDTH, 4)
        self.early = nn.Conv2d(WIDTH, WIDTH, 1)

    def predict(self, embedding, at, labels, dense=0.0, finer=0.0, nowhere=0.0):
        waves = (2 * (at + 0.5) / SIZE - 1) @ self.waves * 3
        tokens = torch.cat([waves.sin(), waves.cos()], -1)
        tokens = torch.where((labels != -1)[..., None], tokens, nowhere * tokens)
        token = (tokens + self.kinds((labels + 1).long())).sum(1)
        found = embedding + dense + token[..., None, None]
        heads = self.heads(token).reshape(-1, 4, WIDTH)
        logits = heads @ (self.up(found) + finer).flatten(2)
        return logits.reshape(-1, 4, SIDE, SIDE), self.judge(token + found.mean((2, 3))).sigmoid()

    def as_dense(self, mask, has):
        return has * self.dense(mask) + (1 - has) * self.none


class Sam2Decoder(Decoder):
    def forward(self, embed, high0, high1, at, labels, mask, has):
        at = torch.cat([at, torch.zeros(at.shape[0], 1, 2)], 1)
        labels = torch.cat([labels, -torch.ones(labels.shape[0], 1)], 1)
        finer = high0 + resize(high1, scale_factor=2)
        logits, quality = self.predict(embed, at, labels, self.as_dense(mask, has), finer)
        return logits[:, 1:].clamp(-32, 32), quality[:, 1:]


class HqDecoder(Decoder):
    def forward(self, embed, inner, at, labels, mask, has, original):
        dense = self.as_dense(mask, has) + self.early(inner[0].permute(0, 3, 1, 2))
        logits, quality = self.predict(embed, at, labels, dense)
        low = logits[:, :1] + logits[:, 3:]
        drawn = resize(low, (SIZE, SIZE), mode="bilinear")
        return resize(drawn, (original[0].long(), original[1].long()), mode="bilinear"), quality[:, :1], low


class EfficientDecoder(Decoder):
    def forward(self, embed, at, labels, original):
        batch, queries, points, _ = at.shape
        at = torch.stack([at[..., 0] * SIZE / original[1], at[..., 1] * SIZE / original[0]], -1)
        at = nn.functional.pad(at, (0, 0, 0, 6 - points), value=-1.0).reshape(batch * queries, 6, 2)
        labels = nn.functional.pad(labels, (0, 6 - points), value=-1.0).reshape(batch * queries, 6)
        logits, quality = self.predict(embed, at, labels, nowhere=1.0)
        low = logits[:, 1:]
        drawn = resize(low, (original[0], original[1]), mode="bilinear")
        return drawn.reshape(batch, queries, 3, original[0], original[1]), quality[None, :, 1:], low


def write(module, args, path, names, dynamic=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), args, str(path), input_names=names[0], output_names=names[1], dynamic_axes=dynamic,
            opset_version=17, dynamo=False,
        )  # fmt: skip


EMBEDDING = torch.randn(1, WIDTH, CELLS, CELLS)
GIVEN = torch.zeros(1, 5, 2), torch.zeros(1, 5), torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1)
NAMES = ["point_coords", "point_labels", "mask_input", "has_mask_input"]
POINTS = {name: {1: "num_points"} for name in NAMES[:2]}
MASKS = ["masks", "iou_predictions", "low_res_masks"]


def make_sam2(folder):
    kept = ["high_res_feats_0", "high_res_feats_1", "image_embed"]
    write(Encoder("sam2"), torch.zeros(1, 3, SIZE, SIZE), folder / "t.encoder.onnx", (["image"], kept))
    high = torch.zeros(1, WIDTH, 32, 32), torch.zeros(1, WIDTH, 16, 16)
    dynamic = {name: {0: "num_labels"} for name in NAMES[2:]} | {
        name: {0: "num_labels", 1: "num_points"} for name in NAMES[:2]
    }
    names = (["image_embed", *kept[:2], *NAMES], MASKS[:2])
    write(Sam2Decoder(), (EMBEDDING, *high, *GIVEN), folder / "t.decoder.onnx", names, dynamic)


def make_hq(folder):
    write(
        Encoder("sam-hq"), torch.zeros(SIZE, SIZE, 3), folder / "t.encoder.onnx",
        (["input_image"], ["image_embeddings", "interm_embeddings"]), {"input_image": {0: "high", 1: "wide"}},
    )  # fmt: skip
    inputs = (EMBEDDING, torch.zeros(4, 1, CELLS, CELLS, WIDTH), *GIVEN, torch.tensor([50.0, 70.0]))
    names = (["image_embeddings", "interm_embeddings", *NAMES, "orig_im_size"], MASKS)
    write(HqDecoder(), inputs, folder / "t.decoder.onnx", names, POINTS)


def make_efficient(folder, at=(1, 5, 1), free=1):
    free = {free: "num"} if isinstance(free, int) else dict.fromkeys(free, "num")
    dynamic = {"batched_images": {0: "batch", 2: "height", 3: "width"}, "image_embeddings": {0: "batch"}}
    write(
        Encoder("efficientsam"), torch.zeros(1, 3, 90, 110), folder / "t.encoder.onnx",
        (["batched_images"], ["image_embeddings"]), dynamic,
    )  # fmt: skip
    names = ["image_embeddings", "batched_point_coords", "batched_point_labels", "orig_im_size"]
    write(
        EfficientDecoder(), (EMBEDDING, torch.zeros(*at, 2), torch.zeros(at), torch.tensor([90, 110])),
        folder / "t.decoder.onnx", (names, ["output_masks", "iou_predictions"]),
        {names[0]: {0: "batch"}, names[1]: free, names[2]: free},
    )  # fmt: skip


def make_sam(folder, whole=False):
    """Segment-anything's own decoder, and an encoder as samexporter wraps it: MobileSAM has the same."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
    from segment_anything.modeling import Sam as Theirs
    from segment_anything.utils.onnx import SamOnnxModel

    theirs = Theirs(
        ImageEncoderViT(SIZE, depth=1, embed_dim=24, num_heads=2, out_chans=WIDTH),
        PromptEncoder(WIDTH, (CELLS, CELLS), (SIZE, SIZE), 8),
        MaskDecoder(transformer_dim=WIDTH, transformer=TwoWayTransformer(1, WIDTH, 2, 32)),
    )
    shape, free = ((SIZE, SIZE, 3), {0: "high", 1: "wide"}) if whole else ((1, 3, SIZE, SIZE), {0: "batch"})
    write(
        Encoder("samexporter"), torch.zeros(shape), folder / "t.encoder.onnx",
        (["input_image"], ["image_embeddings"]), {"input_image": free},
    )  # fmt: skip
    write(
        SamOnnxModel(theirs, return_single_mask=False), (EMBEDDING, *GIVEN, torch.tensor([50.0, 70.0])),
        folder / "t.decoder.onnx", (["image_embeddings", *NAMES, "orig_im_size"], MASKS), POINTS,
    )  # fmt: skip


MAKERS = {
    "samexporter": make_sam,
    "samexporter whole": lambda folder: make_sam(folder, whole=True),
    "sam-hq": make_hq,
    "sam2": make_sam2,
    "efficientsam": make_efficient,
    "efficientsam points": lambda folder: make_efficient(folder, (1, 1, 5), 2),
    "efficientsam filled": lambda folder: make_efficient(folder, (1, 1, 4), ()),
    "efficientsam both": lambda folder: make_efficient(folder, (1, 2, 5), (1, 2)),
}


def describe(folder, **values):
    """The manifest a user would write."""
    content = {"format": FORMAT, "name": "t", "encoder": "t.encoder.onnx", "decoder": "t.decoder.onnx"}
    content |= {"size": SIZE, "channels": WIDTH, "embedding_size": CELLS} | values
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder
