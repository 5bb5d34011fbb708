"""Graphs that others export, small and with random weights, against onnxruntime called as their exporters call it.

samexporter's SAM is segment-anything's own `SamOnnxModel`. The others have modules here, with the names, shapes and
order of computation of theirs: no checkpoint of them is at hand.
"""

import json
import pickle
import shutil
import warnings

import numpy as np
import pytest

from sdie_fast.errors import InvalidArgumentError, ModelError
from sdie_fast.segment import Prompt, Sam, Support
from sdie_fast.segment.exported import CONVENTIONS, Maps
from sdie_fast.segment.geometry import Geometry, Stretched
from sdie_fast.segment.onnx import Held
from sdie_fast.segment.sam import FORMAT

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each kind's directory, made when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            if kind.startswith("samexporter"):
                pytest.importorskip("segment_anything")
            torch.manual_seed(sum(map(ord, kind)))
            made[kind] = tmp_path_factory.mktemp("graphs")
            MAKERS[kind](made[kind])
            describe(made[kind], graph=kind.split()[0])
        return made[kind]

    return get


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (90, 110, 3), dtype=np.uint8)


def scaled(image, high, wide):
    """A picture made larger, (high, wide, 3)."""
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    return resize(planes, (high, wide), mode="bilinear")[0].permute(1, 2, 0).numpy()


def by_hand(folder, kind, image, at, labels, mask=None):
    """One prompt of points and corners (P, 2), called as the exporters' own scripts do.

    Returns logits (M, side, side), predicted IoU (M,), and where masks are drawn over the picture logits (M, H, W).
    """
    encoder, decoder = (ort.InferenceSession(str(folder / f"t.{part}.onnx")) for part in ("encoder", "decoder"))
    (high, wide), name = image.shape[:2], encoder.get_inputs()[0].name
    if kind.startswith("efficientsam"):
        at, labels = at[labels > 0], labels[labels > 0]  # it has none outside
        if "filled" in kind:  # with what it fills up itself
            nowhere = np.tile(np.array([-wide, -high], np.float32) / SIZE, (4 - len(at), 1))
            at, labels = np.append(at, nowhere, 0), np.append(labels, np.full(len(nowhere), np.float32(-1)))
        planes = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        given = {
            "image_embeddings": encoder.run(None, {name: planes})[0],
            "batched_point_coords": at[None, None],
            "batched_point_labels": labels[None, None],
            "orig_im_size": np.array([high, wide]),
        }
        drawn, judged, low = decoder.run(None, given)
        return low[0], judged[0, 0], drawn[0, 0]
    longest = max(high, wide)
    inner = (SIZE, SIZE) if kind == "sam2" else (round(high * SIZE / longest), round(wide * SIZE / longest))
    own = scaled(image, *inner)
    if len(encoder.get_inputs()[0].shape) == 4:
        planes = np.zeros((1, 3, SIZE, SIZE), np.float32)
        planes[0, :, : inner[0], : inner[1]] = ((own - MEAN) / STD).transpose(2, 0, 1)
        own = planes
    given = dict(zip([o.name for o in encoder.get_outputs()], encoder.run(None, {name: own}), strict=True))
    at = (at * np.array([inner[1] / wide, inner[0] / high])).astype(np.float32)
    if kind != "sam2":
        given["orig_im_size"] = np.array([high, wide], np.float32)
        if 2 not in labels:
            at, labels = np.append(at, np.zeros((1, 2), np.float32), 0), np.append(labels, np.float32(-1))
    given |= {"point_coords": at[None], "point_labels": labels[None]}
    given["mask_input"] = np.zeros((1, 1, SIDE, SIDE), np.float32) if mask is None else mask[None, None]
    given["has_mask_input"] = np.array([mask is not None], np.float32)
    found = dict(zip([o.name for o in decoder.get_outputs()], decoder.run(None, given), strict=True))
    if kind != "sam2":
        return found["low_res_masks"][0], found["iou_predictions"][0], None
    drawn = resize(torch.from_numpy(found["masks"]), (high, wide), mode="bilinear").numpy()
    return found["masks"][0], found["iou_predictions"][0], drawn[0]


AT, LABELS = np.array([[20.0, 30.0], [50.0, 60.0]], np.float32), np.array([1.0, 0.0], np.float32)
CORNERS = np.array([[10.0, 12.0], [55.0, 70.0]], np.float32)
POINT, BOX = Prompt(AT[None, :1], LABELS[None, :1]), Prompt(boxes=CORNERS.reshape(1, 4))
PROMPTS = {
    "point": (POINT, AT[:1], LABELS[:1]),
    "points": (Prompt(AT[None], LABELS[None]), AT, LABELS),
    "box": (BOX, CORNERS, np.array([2, 3], np.float32)),
    "both": (
        Prompt(AT[None], LABELS[None], CORNERS.reshape(1, 4)),
        np.append(AT, CORNERS, 0),
        np.array([1, 0, 2, 3], np.float32),
    ),
}


@pytest.mark.parametrize("shape", [(90, 110, 3), (120, 64, 3)])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_as_by_hand(folders, kind, rng, shape, prompt):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    prompt, at, labels = PROMPTS[prompt]
    sam = Sam(folders(kind))
    if kind == "efficientsam" and len(at) > 1:
        with pytest.raises(
            InvalidArgumentError, match=rf"points: received {len(at)}, .*at most 1 by t\.decoder\.onnx"
        ):
            sam(image, prompt)
        return
    truth, judged, drawn = by_hand(folders(kind), kind, image, at, labels)
    embedding = sam.encode(image)
    assert embedding.numpy().shape == (1, WIDTH, CELLS, CELLS)
    logits, quality = sam.decode(embedding, prompt)
    rows = {4: [0, 1, 2, 3], 3: [int(judged.argmax()), 0, 1, 2], 1: [0, 0, 0, 0]}[len(judged)]
    np.testing.assert_allclose(logits, truth[None, rows], atol=2e-3 * truth.std())
    np.testing.assert_allclose(quality, judged[None, rows], atol=1e-4)
    assert truth.std() > 0.02  # an answer at all
    if drawn is not None:
        best = int(judged.argmax())
        ours = embedding.geometries[0].from_model(logits[:, 1 + best])[0]
        np.testing.assert_allclose(ours, drawn[best], atol=4e-3 * drawn.std())
        both = sam(image, prompt)[0] == (drawn[best] > 0)
        assert both.mean() > 0.999


@pytest.mark.parametrize("kind", ["samexporter", "sam-hq", "sam2"])
def test_a_mask_again(folders, kind, picture):
    """A mask found before counts, and a box with it; EfficientSAM takes none."""
    sam = Sam(folders(kind))
    embedding = sam.encode(picture)
    before = sam.decode(embedding, POINT)[0][:, 0]
    truth, _, _ = by_hand(folders(kind), kind, picture, CORNERS, np.array([2, 3], np.float32), before[0])
    logits, _ = sam.decode(embedding, Prompt(boxes=BOX.boxes, masks=before))
    np.testing.assert_allclose(logits[0, 1:], truth[-3:].repeat(3 // len(truth[-3:]), 0), atol=2e-3 * truth.std())
    assert np.abs(logits - sam.decode(embedding, BOX)[0]).max() > 0.1


def test_many_at_once(folders, kind, rng):
    """Images and prompts together, where the graphs let them, answer as each alone."""
    sam = Sam(folders(kind), batch=2, prompts=3)
    assert sam._graphs.together == (kind == "samexporter" or kind.startswith("efficientsam"))
    images = [rng.integers(0, 256, (70 + 10 * k, 100), dtype=np.uint8) for k in range(3)]
    together = sam.encode(images)
    assert together.numpy().shape == (3, WIDTH, CELLS, CELLS)
    prompts = Prompt(rng.uniform(0, 60, (7, 1, 2)).astype(np.float32), np.ones((7, 1), np.float32))
    logits, quality = sam.decode(together[2], prompts)
    assert logits.shape == (7, 4, SIDE, SIDE)
    for k, image in enumerate(images):
        alone = sam.encode(image)
        np.testing.assert_allclose(together[k].numpy(), alone.numpy(), atol=1e-4)
        assert type(alone.geometries[0]) is (Stretched if CONVENTIONS[kind.split()[0]].stretched else Geometry)
    for k in range(7):
        own, judged = sam.decode(alone, Prompt(prompts.points[k : k + 1], prompts.labels[k : k + 1]))
        np.testing.assert_allclose(logits[k : k + 1], own, atol=2e-3 * own.std())
        np.testing.assert_allclose(quality[k : k + 1], judged, atol=1e-4)


def test_every_prompt(folders, kind, picture):
    """Segmented by each kind of prompt, from a pickle too."""
    if kind == "efficientsam":
        pytest.skip("one point a prompt")
    sam = Sam(folders(kind))
    shown = Support(picture, [np.arange(90)[:, None] < np.full(110, 40)])
    images = np.stack([picture, picture[::-1]])
    copy = pickle.loads(pickle.dumps(sam))
    for given, options in (("auto", {"grid": 3, "quality": 0.0, "stability": 0.0}), (shown, {}), (POINT, {})):
        masks, quality = sam(images, given, **options)
        assert masks.shape == (2, 90, 110)
        assert np.isfinite(quality).all()
        assert masks.any() or given == "auto"
        assert (copy(images, given, **options)[0] == masks).all()
    assert isinstance(sam.encode(picture).features, Maps) == (kind in ("sam2", "sam-hq"))


def test_learning_sees_it(folders, rng):
    """A step of the environment that `train` learns in."""
    from sdie_fast.learn.cases import Case
    from sdie_fast.learn.env import SdieEnv, reward_of

    image = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    truth = image > 99
    sam = Sam(folders("sam2"))
    env = SdieEnv(sam, [Case(image, truth, Support([image], [truth]), "x", "x/1")], rounds=2, side=16)
    env.reset()
    step = env.step(rng.uniform(-1, 1, (1, 6)))
    mask, _ = sam(step.images[0], env.cases[0].prompt)
    assert step.reward[0] == pytest.approx(reward_of(mask, truth, "fb-iou"))


def test_images_of_torch(folders, kind, picture):
    sam = Sam(folders(kind))
    np.testing.assert_allclose(sam.encode(torch.from_numpy(picture)).numpy(), sam.encode(picture).numpy(), atol=1e-3)


def test_maps_that_stay(folders, picture):
    """As on a GPU: several maps an image, each bound by its address."""
    sam, plain = Sam(folders("sam2")), Sam(folders("sam2"))
    sam._held = True
    ours, theirs = (model.encode([picture, picture[::-1]]) for model in (sam, plain))
    assert all(isinstance(m, Held) for m in ours.features.maps)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)
    for k in range(2):
        expected = plain.decode(theirs[k], BOX)[0]
        np.testing.assert_allclose(sam.decode(ours[k], BOX)[0], expected, atol=1e-3 * expected.std())


# ---- what the manifest says ---------------------------------------------------------------------------


@pytest.fixture
def sam2(folders, tmp_path):
    """A copy whose manifest may be changed: `sam2(**values)`."""
    directory = tmp_path / "sam2"
    shutil.copytree(folders("sam2"), directory)
    return lambda **values: describe(directory, **{"graph": "sam2"} | values)


def test_the_least_manifest(sam2):
    """Without sizes a model is as large as those that are published; this one is not."""
    with pytest.raises(ModelError, match=r"image has the shape \(1, 3, 128, 128\); .*'sam2'.*\(1, 3, 1024, 1024\)"):
        Sam(sam2(size=None, channels=None, embedding_size=None))
    with pytest.raises(ModelError, match=r"image_embed has the shape .* accepted .*\(1, 256, 8, 8\)"):
        Sam(sam2(channels=None))
    sam = Sam(sam2(name="small"))
    assert (sam.name, sam.size, sam.thresholds) == ("SAM small fp32", SIZE, (0.88, 0.95))
    assert sam.manifest.pixel_mean == pytest.approx(MEAN)


def test_hashes(sam2):
    """Checked where they are given, made where they are not: other files, other answers kept."""
    directory = sam2()
    own = Sam(directory).manifest.files
    assert sorted(own) == ["t.decoder.onnx", "t.encoder.onnx"]
    assert Sam(sam2(files=own)).fingerprint == Sam(sam2(files={})).fingerprint
    with pytest.raises(ModelError, match=r"t\.encoder\.onnx: not the file that"):
        Sam(sam2(files={"t.encoder.onnx": own["t.decoder.onnx"]}))
    before = Sam(sam2()).fingerprint
    (directory / "t.encoder_data.bin").write_bytes(b"weights")
    assert Sam(directory).fingerprint != before


def test_means(sam2, picture):
    usual = Sam(sam2()).encode(picture).numpy()
    other = Sam(sam2(pixel_mean=[0, 0, 0], pixel_std=[255, 255, 255])).encode(picture).numpy()
    assert np.abs(usual - other).max() > 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"graph": "sam3"}, "graph: received 'sam3'; accepted: sdie_fast, samexporter, sam-hq, sam2, efficientsam"),
        ({"graph": []}, "not a valid manifest"),
        ({"graph": None}, "pixel_mean: received \\(\\); accepted: three numbers"),
        ({"graph": "samexporter"}, r"t\.encoder\.onnx: its inputs are image; accepted for 'samexporter': input_image"),
        ({"name": None}, "not a valid manifest"),
        ({"surplus": 1}, "not a valid manifest"),
        ({"encoder": "x.onnx"}, r"x\.onnx: no such file"),
        ({"encoder": "../x.onnx"}, "outside of its directory"),
        ({"encoder": 3}, "not a valid manifest"),
        ({"decoder": "t.encoder.onnx"}, r"t\.encoder\.onnx: its inputs are image; accepted for 'sam2': image_embed, "),
        (
            {"encoder": "t.decoder.onnx"},
            r"t\.decoder\.onnx: its inputs are image_embed, .*accepted for 'sam2': image$",
        ),
        ({"pixel_std": [1, 0, 1]}, "pixel_std: received"),
        ({"pixel_mean": [1, 2]}, "pixel_mean: received"),
        ({"pixel_mean": "abc"}, "not a valid manifest"),
        ({"size": "big"}, "sizes"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_refusals(sam2, values, message):
    with pytest.raises(ModelError, match=message):
        Sam(sam2(**values))


def graph(path, inputs, outputs):
    """A graph that only has inputs and outputs: {name: (type, shape)}, each output one constant."""
    helper, types = onnx.helper, onnx.TensorProto
    sides = [[helper.make_tensor_value_info(n, *own) for n, own in side.items()] for side in (inputs, outputs)]
    nodes = []
    for name, (_, shape) in outputs.items():
        value = onnx.numpy_helper.from_array(np.zeros([n if isinstance(n, int) else 1 for n in shape], np.float32))
        nodes.append(helper.make_node("Constant", [], [name], value=value))
    made = helper.make_graph(nodes, "g", *sides)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return types


def test_graphs_that_do_not_fit(tmp_path):
    kinds = onnx.TensorProto
    encoder = {"batched_images": (kinds.FLOAT, ["n", 3, "h", "w"])}
    maps = {"image_embeddings": (kinds.FLOAT, [1, WIDTH, CELLS, CELLS])}
    inputs = maps | {
        "batched_point_coords": (kinds.FLOAT, [1, "q", "p", 2]),
        "batched_point_labels": (kinds.INT32, [1, "q", "p"]),
        "orig_im_size": (kinds.INT64, [2]),
    }
    outputs = {"output_masks": (kinds.FLOAT, [1, 1, 2, SIDE, SIDE]), "iou_predictions": (kinds.FLOAT, [1, 1, 2])}
    picture = np.zeros((60, 70), np.uint8)

    def opened(encoder=encoder, maps=maps, inputs=inputs, outputs=outputs):
        graph(tmp_path / "t.encoder.onnx", encoder, maps)
        graph(tmp_path / "t.decoder.onnx", inputs, outputs)
        return Sam(describe(tmp_path, graph="efficientsam"))

    sam = opened()
    with pytest.raises(ModelError, match=r"returned masks \(1, 2, 32, 32\) .*accepted: 1, 3 or 4"):
        sam.decode(sam.encode(picture), POINT)
    for changed, message in (
        ({"encoder": {"batched_images": (kinds.FLOAT16, ["n", 3, "h", "w"])}}, r"type tensor\(float16\)"),
        ({"encoder": {"batched_images": (kinds.FLOAT, [2, 3, "h", "w"])}}, r"accepted .*\(1, 3, 128, 128\) or \(any"),
        ({"maps": {"embedding": maps["image_embeddings"]}}, "its outputs are embedding; accepted"),
        ({"inputs": inputs | {"batched_point_coords": (kinds.FLOAT, [1, 5, "p", 2])}}, "batched_point_coords has"),
        ({"inputs": inputs | {"orig_im_size": (kinds.DOUBLE, [2])}}, r"type tensor\(double\); .*tensor\(int64\)"),
        ({"inputs": inputs | {"extra": (kinds.FLOAT, [1])}}, "its inputs are .*extra; accepted"),
        ({"outputs": {"masks": outputs["output_masks"]}}, "its outputs are masks; accepted"),
    ):
        with pytest.raises(ModelError, match=message):
            opened(**changed)


def test_a_graph_that_fails(folders, tmp_path, picture):
    """Shapes may allow what the graph does not."""
    shutil.copytree(folders("sam2"), tmp_path / "m")
    path = tmp_path / "m" / "t.encoder.onnx"
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(path))
    sam = Sam(tmp_path / "m")
    with pytest.raises(ModelError, match=r"t\.encoder\.onnx: cannot be run: "):
        sam.encode([picture, picture])
