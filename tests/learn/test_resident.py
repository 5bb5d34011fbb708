"""The environment's tensors against its arrays: the same pictures, rewards, observations, runs."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sdie_fast import FilterParams, InvalidArgumentError  # noqa: E402
from sdie_fast.actor import Actions, Choice, observe  # noqa: E402
from sdie_fast.errors import ModelError  # noqa: E402
from sdie_fast.learn.env import SdieEnv  # noqa: E402
from sdie_fast.learn.memory import Memory  # noqa: E402
from sdie_fast.learn.places import Host  # noqa: E402
from sdie_fast.learn.resident import Resident  # noqa: E402
from sdie_fast.learn.td3 import ReplayBuffer  # noqa: E402
from sdie_fast.segment.geometry import on_host  # noqa: E402
from sdie_fast.segment.prompts import Answer  # noqa: E402

from .conftest import Threshold, make_case  # noqa: E402

GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    ],
)
FAST = FilterParams(wls_solver="fast")
OPTIONS = {"grid": 1, "largest": 1.0}


@pytest.fixture(params=["cpu", GPU])
def device(request):
    return request.param


@pytest.fixture
def places(device):
    return Host(FAST, Actions(), None), Resident(FAST, Actions(), None, device)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 33, 47), np.uint8)


class TestPlaces:
    def test_pictures(self, places, device, images, rng):
        host, there = places
        moved = there.take(images)
        assert moved.device.type == device
        np.testing.assert_array_equal(images, on_host(moved))
        state, other = host.begin(images), there.begin(moved)
        for _ in range(2):
            np.testing.assert_array_equal(host.levels(state), on_host(there.levels(other)))
            np.testing.assert_array_equal(host.observe(state, 16), on_host(there.observe(other, 16)))
            actions = rng.uniform(-1, 1, (3, 6)).astype(np.float32)
            state, other = host.round(state, actions), there.round(other, actions)
            assert other.device.type == device
            # On a GPU another backend computes the same filters.
            atol = 0 if device == "cpu" else 1 / 255
            np.testing.assert_allclose(state[..., 0], on_host(other), atol=atol)
            if device != "cpu":
                other = torch.from_numpy(state[..., 0]).to(device)

    @pytest.mark.parametrize("shape", [(200, 200), (33, 47), (16, 100), (9, 11), (1, 5)])
    @pytest.mark.parametrize("side", [8, 16, 64])
    def test_observed_to_the_number(self, shape, side, device):
        """Pillow's fixed-point means of areas, larger and smaller."""
        images = np.random.default_rng(side).random((3, *shape)).astype(np.float32)
        there = Resident(FAST, Actions(), None, device)
        found = there.observe(torch.from_numpy(images).to(device), side)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(on_host(found), observe(images, side))

    def test_chosen_parameters(self, device, images, rng):
        meaning = Actions((Choice("guided_eps", 0.001, 0.1),))
        host, there = Host(FAST, meaning, 1), Resident(FAST, meaning, 1, device)
        actions = rng.uniform(-1, 1, (3, 7)).astype(np.float32)
        state = host.round(host.begin(images), actions)
        other = there.round(there.begin(there.take(images)), actions)
        atol = 0 if device == "cpu" else 1 / 255
        np.testing.assert_allclose(state[..., 0], on_host(other), atol=atol)

    def test_masks_and_votes(self, places, rng):
        host, there = places
        answers = [Answer(rng.random((33, 47)) < p, float(q)) for p, q in ((0.3, 0.9), (0.1, 0.2), (0, 0), (1, 1))]
        np.testing.assert_array_equal(host.masks(answers), on_host(there.masks(answers)))
        lists = [[a, b, answers[0]] for a, b in zip(answers, answers[::-1], strict=True)]
        voted = host.votes(lists)
        assert voted.any()
        assert not voted.all()
        np.testing.assert_array_equal(voted, on_host(there.votes(lists)))

    def test_keys(self, places, rng):
        _, there = places
        image = rng.integers(0, 256, (33, 47), np.uint8)
        batch = np.repeat(image[None], 40, 0)
        for k in range(1, 40):  # one level apart somewhere, or two pixels exchanged
            y, x = rng.integers(33), rng.integers(46)
            if k % 2:
                batch[k, y, x] ^= 1 << rng.integers(8)
            else:
                batch[k, y, x : x + 2] = batch[k, y, x : x + 2][::-1] + np.uint8([0, 1])
        keys = there.keys(there.take(batch))
        assert len({*keys}) == 40
        assert {len(key) for key in keys} == {16}
        assert keys == there.keys(there.take(batch)) == there.keys(there.take(batch.copy()))

    def test_no_such_device(self, cases):
        with pytest.raises(InvalidArgumentError, match="device: received"):
            Resident(FAST, Actions(), None, "gpu")
        with pytest.raises(ModelError, match="not there"):
            SdieEnv(Threshold(), cases, device="cuda:99")


def pair(cases, segmenter=Threshold, **options):
    given = {"rounds": 4, "params": FAST, "side": 16, "options": OPTIONS, **options}
    return (SdieEnv(segmenter(), cases, device=d, **given) for d in (None, "cpu"))


class TestSteps:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"credit": "best", "relative": True, "passes": 2},
            {"credit": "vote", "reward": "miou"},
            {"actions": Actions((Choice("guided_eps", 0.001, 0.1),))},
        ],
    )
    def test_the_same(self, cases, options):
        host, there = pair(cases, **options)
        rng = np.random.default_rng(0)
        which = [1, 3, 3]
        a, b = host.reset(which), there.reset(which)
        for _ in range(4):
            np.testing.assert_array_equal(a.seen, on_host(b.seen))
            assert isinstance(b.seen, torch.Tensor)
            actions = rng.uniform(-1, 1, (3, host.actions.size))
            one, two = host.step(actions), there.step(actions)
            np.testing.assert_array_equal(one.images, two.images)
            assert isinstance(two.images, np.ndarray)
            np.testing.assert_array_equal(one.reward, two.reward)
            assert one.done == two.done
            for x, y in zip(one.answers, two.answers, strict=True):
                np.testing.assert_array_equal(x.mask, y.mask)
            a, b = one.state, two.state
        assert host.calls == there.calls == 12
        assert host.segmenter.images == there.segmenter.images

    def test_what_is_known_costs_nothing(self, cases, tmp_path):
        _, env = pair(cases, memory=Memory(tmp_path / "m.sqlite", Threshold()))
        action = np.zeros((4, 6))
        env.reset()
        first = env.step(action)
        spent = env.segmenter.images
        env.reset()
        again = env.step(action)
        assert env.segmenter.images == spent
        np.testing.assert_array_equal(first.reward, again.reward)
        # Another process, and arrays: their keys are those of the images.
        host, _ = pair(cases, memory=Memory(tmp_path / "m.sqlite", Threshold()))
        host.reset()
        np.testing.assert_array_equal(host.step(action).reward, first.reward)
        assert host.segmenter.images == 0

    def test_faces(self, cases):
        faces = pytest.importorskip("sdie_fast.learn.faces")
        _, env = pair(cases)
        seen, _ = faces.GymEnv(env).reset(options={"case": 0})
        assert isinstance(seen["image"], np.ndarray)


@pytest.fixture(scope="module", params=["cpu", GPU])
def sam(request):
    pytest.importorskip("segment_anything")
    pytest.importorskip("onnx")
    from sdie_fast.segment.torch_sam import TorchSam

    return TorchSam(device=request.param)


class TestWithSam:
    """The segmenter beside it on the device."""

    def test_the_same(self, sam, cases):
        given = {"rounds": 2, "params": FAST, "side": 16, "options": {"grid": 2}, "relative": True}
        host = SdieEnv(sam, cases[:2], **given)
        there = SdieEnv(sam, cases[:2], **given, device=str(sam.device))
        host.reset()
        there.reset()
        for _ in range(2):
            action = np.random.default_rng(0).uniform(-1, 1, (2, 6))
            one, two = host.step(action), there.step(action)
            assert np.abs(one.images.astype(int) - two.images).max() <= 1
            if sam.device.type == "cpu":
                np.testing.assert_allclose(one.reward, two.reward, atol=1e-6)

    @pytest.mark.parametrize("credit", ["best", "vote"])
    def test_no_picture_leaves(self, sam, monkeypatch, credit):
        """A step's own work moves counts and hashes: less than any picture or mask."""
        largest = 0
        cpu = torch.Tensor.cpu

        def watched(tensor):
            nonlocal largest
            largest = max(largest, tensor.numel() * tensor.element_size())
            return cpu(tensor)

        monkeypatch.setattr(torch.Tensor, "cpu", watched)
        options = {"grid": 2, "quality": 0.3, "stability": 0.3}
        env = SdieEnv(
            sam, [make_case(k, 64) for k in range(3)], rounds=2, params=FAST, side=64, options=options,
            credit=credit, device=str(sam.device),
        )  # fmt: skip
        env.reset()
        step = env.step(np.zeros((3, 6)))
        assert 0 < largest < 2 * 12 * 12 * 4 * 3  # of three images, IoU of up to 12 masks each
        assert largest < 64 * 64
        assert step.answers[0].mask.shape == (64, 64)
        assert largest == 3 * 64 * 64


class TestReplay:
    def test_tensors_and_arrays(self, device):
        replay, plain = ReplayBuffer(9, 8, 3, 4, device), ReplayBuffer(9, 8, 3, 4)
        rng = np.random.default_rng(0)
        for at in range(5):
            seen, after = rng.integers(0, 256, (2, 2, 8, 8), dtype=np.uint8)
            action, reward = rng.random((2, 4)).astype(np.float32), rng.random(2).astype(np.float32)
            plain.add(seen, at % 3, action, reward, after)
            given = (torch.from_numpy(v).to(device) for v in (seen, after))
            replay.add(next(given), at % 3, action, torch.from_numpy(reward), next(given))
        a, b = (r.sample(np.random.default_rng(1), 20, 2, d) for r, d in ((replay, device), (plain, "cpu")))
        for name in ("action", "reward", "done"):
            assert getattr(a, name).device.type == device
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name))
        for x, y in zip((*a.state, *a.next_state), (*b.state, *b.next_state), strict=True):
            assert torch.equal(x.cpu(), y)
        # A checkpoint is the same, and goes anywhere.
        kept = replay.state_dict()
        assert all(v.device.type == "cpu" for v in kept["arrays"].values())
        other = ReplayBuffer(9, 8, 3, 4)
        other.load_state_dict(kept)
        for name, value in plain.state_dict()["arrays"].items():
            assert torch.equal(other.state_dict()["arrays"][name], value)


class TestRuns:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        """Without the recipes: exporting them takes most of a run's time, and test_train.py does it."""
        pytest.importorskip("onnxscript")
        from sdie_fast.learn import train

        monkeypatch.setattr(train.Training, "finish", lambda _: None)

    @pytest.fixture
    def config(self):
        from sdie_fast.learn.config import Config

        return Config(
            rounds=4, passes=2, side=16, segmentations=60, warmup=2, updates=1, batch=8, greedy_every=2,
            actor_after=4, checkpoint_every=1, params=FAST, auto=OPTIONS,
        )  # fmt: skip

    def run(self, cases, config, out, **options):
        from sdie_fast.learn.train import Training

        found = Training(Threshold(), cases, config, out, tensorboard=False, **options)
        found.run()
        return found

    @pytest.mark.slow
    def test_the_same_run(self, cases, config, tmp_path):
        """And one that is killed on the host goes on with tensors."""
        plain = self.run(cases, config, tmp_path / "host")
        there = self.run(cases, config, tmp_path / "there", resident=True)
        assert there.history == plain.history

        def kill(progress):
            if progress.episode == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(cases, config, tmp_path / "both", watch=kill)
        both = self.run(cases, config, tmp_path / "both", resident=True)
        assert both.history == plain.history
        for k, v in both.agent.actor.state_dict().items():
            assert torch.equal(v, plain.agent.actor.state_dict()[k])

    @pytest.mark.slow
    def test_bfloat16(self, cases, config, tmp_path):
        """Half the bits where that is enough: near the other run, and weights in float32."""
        # Networks that hardly learn: how far two that do drift apart depends on the processor.
        config = dataclasses.replace(config, actor_rate=1e-6, critic_rate=1e-6)
        half = self.run(cases, config, tmp_path / "half", amp=True, resident=True)
        plain = self.run(cases, config, tmp_path / "plain")
        assert half.history != plain.history
        assert half.history[0]["return"] == plain.history[0]["return"]  # before the networks have a say
        told = [[r["critic_loss"] for r in run.history if "critic_loss" in r] for run in (half, plain)]
        np.testing.assert_allclose(told[0], told[1], rtol=0.05)
        assert {v.dtype for v in half.agent.actor.parameters()} == {torch.float32}


@pytest.mark.slow
class TestCommand:
    """`sdie-fast train` and `evaluate` with the segmenter in torch."""

    @pytest.fixture
    def folder(self, tmp_path):
        from PIL import Image

        for k in range(3):
            case = make_case(k, 48)
            for kind, plane in (
                ("images", case.image),
                ("masks", case.truth.astype(np.uint8) * 255),
            ):
                path = tmp_path / "data" / kind / "blob" / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane).save(path)
        return tmp_path / "data"

    def call(self, *arguments):
        from typer.testing import CliRunner

        from sdie_fast.cli import app

        return CliRunner().invoke(app, [str(a) for a in arguments])

    def test_train(self, folder, tmp_path, monkeypatch):
        for needed in ("onnxscript", "matplotlib", "segment_anything"):
            pytest.importorskip(needed)
        from sdie_fast.learn import distill, env

        monkeypatch.setattr(distill, "STEPS", 10)
        monkeypatch.setattr(distill, "VARIANTS", 2)
        places = []
        begin = env.SdieEnv.reset
        monkeypatch.setattr(
            env.SdieEnv,
            "reset",
            lambda self, *given: (places.append(type(self.place)), begin(self, *given))[1],
        )
        run = tmp_path / "run"
        torch_small = ("--segmenter-backend", "torch", "--size", 48)
        settings = 'size = 48\nbackend = "torch"\nrounds = 2\npasses = 1\nviews = 1\ncompare = false\n[auto]\ngrid = 2'
        (tmp_path / "settings.toml").write_text(settings)
        done = self.call(
            "train", folder, "--out", run, "--shots", 1, "--budget", 4, "--config", tmp_path / "settings.toml",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert {*places} == {Resident}
        assert 'segmenter = "SAM small float32, torch"' in (run / "config.toml").read_text()
        done = self.call("evaluate", folder, "--recipe", run, "--no-baselines", "--json", *torch_small)
        assert done.exit_code == 0, done.output

    @pytest.mark.parametrize(
        ("arguments", "settings", "told"),
        [
            (["--device", "gpu"], "", "device: received 'gpu'"),
            (["--device", "cuda:99"], "", "'cuda:99' is not there"),
            ([], 'backend = "jax"', "backend: received 'jax'; accepted: 'auto', 'onnx', 'tensorrt', 'torch'"),
            ([], 'dtype = "bfloat16"', "--segmenter-dtype: received 'bfloat16' with ONNX"),
            ([], 'dtype = "float16"', "dtype: received 'float16'"),
            (["--segmenter", "FILE"], 'backend = "onnx"', "sdie-fast export-sam"),
            (["--segmenter", "FILE"], "", "not a checkpoint"),
        ],
    )
    def test_refusals(self, folder, tmp_path, arguments, settings, told):
        (tmp_path / "sam.pth").write_bytes(b"no")
        (tmp_path / "settings.toml").write_text("size = 48\n" + settings)
        given = [a.replace("FILE", str(tmp_path / "sam.pth")) for a in arguments]
        done = self.call("train", folder, "--out", tmp_path / "run", "--config", tmp_path / "settings.toml", *given)
        assert done.exit_code == 2, done.output
        assert told in " ".join(done.output.split())
        assert not (tmp_path / "run").exists()
