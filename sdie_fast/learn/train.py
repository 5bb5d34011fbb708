"""Training: episodes of exploration, updates in between, checkpoints.

All randomness is a function of the seed and a counter, so that a run that was killed goes on from its last checkpoint to
the same end.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..errors import InvalidArgumentError, RunError
from ..recipe import Recipe
from ..segment import Segmenter
from ..segment.prompts import Answer
from . import runs as files
from .baselines import SIGMA, searches, start_schedule
from .cases import Case
from .config import Config
from .curve import return_curve
from .distill import distill, export_actor
from .env import Rollout, SdieEnv, follow
from .episode import Observation
from .memory import Memory
from .places import Floats
from .select import BLIND, best_rule, holds_up, judge_rule, usable
from .td3 import ReplayBuffer, make_agent, policy_of, tensors
from .verifier import SHIPPED, Evidence, References, Verifier, describe, group_of
from .warmstart import BY_BEAM, clone, search_goals, search_together

__all__ = ["Progress", "Training"]

# Streams of random numbers: (seed, stream, counter).
_EXPLORE, _UPDATE, _VIEW = 1, 2, 7


@dataclass
class Progress:
    """How far a run is.

    Attributes
    ----------
    episode, segmentations, updates : int
        Done so far.
    mean_return, reward, greedy : float
        Of the last episode: sum over its rounds, mean of its last round; of the last without
        exploration.
    steps_per_second : float
        Rounds of one image.
    doing : str
        What goes on, where it is no episode.
    """

    episode: int = 0
    segmentations: int = 0
    updates: int = 0
    mean_return: float = float("nan")
    reward: float = float("nan")
    greedy: float = float("nan")
    steps_per_second: float = 0.0
    doing: str = ""


class Training:
    """A run in its folder; made anew, or found there and gone on with.

    Parameters
    ----------
    segmenter : Segmenter
        The frozen model.
    cases : iterable of Case
        The shots, each in all its views one after the other: see `cases.cases_of`.
    config : Config
    out : Path
        The folder.
    device : str
        Of the networks and the replay buffer.
    amp : bool
        See `TD3`.
    resident : bool
        Whether images, masks and truths are on that device too (`SdieEnv`): for a segmenter that is there.
    threads : int, optional
        Of the filters.
    watch : callable
        Told of each episode.
    tensorboard : bool
        Whether OUT/tensorboard is written.
    memory : Memory, optional
        Where answers of the segmenter are kept beyond this run.

    Raises
    ------
    InvalidArgumentError
        Not a whole number of shots in `config.views` views each.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cases: Iterable[Case],
        config: Config,
        out: Path,
        *,
        device: str = "cpu",
        amp: bool = False,
        resident: bool = False,
        threads: int | None = None,
        watch: Callable[[Progress], None] = lambda _: None,
        tensorboard: bool = True,
        memory: Memory | None = None,
    ) -> None:
        self.config, self.out, self.device = config, out, device
        cases = list(cases)
        self.env = SdieEnv(
            segmenter, cases, reward=config.reward, relative=config.relative, credit=config.credit, threads=threads,
            options=config.auto, memory=memory, device=device if resident else None, **files.episode_options(config),
        )  # fmt: skip
        self.agent = make_agent(config, device, amp=amp)
        self._first = copy.deepcopy(self.agent.actor.state_dict())
        self.begun: list[float] = []  # each shot's return without exploration: at first
        self.ended: list[float] = []  # and last
        self.replay = ReplayBuffer(config.capacity, config.side, config.rounds, config.actions.size, device)
        self.progress = Progress()
        self.evidence = Evidence()
        if len(cases) % config.views:
            raise InvalidArgumentError(f"cases: received {len(cases)}; accepted: a multiple of {config.views} views")
        self.upright = list(range(0, len(cases), config.views))  # each shot as it is
        self.references = References([cases[k] for k in self.upright])
        start = start_schedule(config.start, config.rounds, config.passes, config.actions)
        self.goals = np.repeat(start[None], len(self.upright), 0)  # each shot's schedule, about which learning begins
        self.history: list[dict[str, float]] = []
        self.watch, self._tensorboard = watch, tensorboard

    def run(self) -> None:
        """Train to the end of the budget and write everything.

        Raises
        ------
        RunError
            The folder is in use, holds another run, or cannot be written to.
        """
        with files.locked(self.out):
            checkpoint = self.out / files.CHECKPOINT
            if checkpoint.exists():
                self._load(files.load_checkpoint(checkpoint))  # each part brings its own to its device
            elif self.config.start == "searched":
                self._search()
            writer = self._writer()
            begin, first = time.monotonic(), self.progress.episode
            while self.progress.segmentations < self.config.segmentations:
                record = self._episode()
                done = self.progress.episode - first
                spent = max(time.monotonic() - begin, 1e-9)
                self.progress.steps_per_second = done * self.config.rounds * len(self.upright) / spent
                self.history.append(record)
                if writer is not None:
                    for name, value in record.items():
                        writer.add_scalar(name, value, self.progress.segmentations)
                if self.progress.episode % self.config.checkpoint_every == 0:
                    self._save(checkpoint)
                self.watch(self.progress)
            self._save(checkpoint)
            if writer is not None:
                writer.close()
            self.finish()

    def _tell(self, doing: str, segmentations: int) -> None:
        self.watch(replace(self.progress, doing=doing, segmentations=segmentations))

    def _writer(self) -> Any:
        if not self._tensorboard:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None  # an extra of the extra
        return SummaryWriter(str(self.out / "tensorboard"), purge_step=self.progress.segmentations + 1)

    def _search(self) -> None:
        """Begin with what a search finds for each class (`warmstart`): the actor is its clone, the verifier's evidence all of it."""
        c = self.config
        self.goals = search_goals(
            self.env, self.upright, c.seed, self._witness,
            lambda: self._tell("searching passes", self.env.calls),
        )  # fmt: skip
        self.progress.segmentations += self.env.calls
        clone(self.agent.actor, self.env, self.upright, self.goals, c.seed)
        self.agent.follow_actor()
        self._first = copy.deepcopy(self.agent.actor.state_dict())

    def _explore(self, state: Observation, which: Sequence[int]) -> Floats:
        """The policy's actions and noise; at first, noise about the start, as wide as a search's (`baselines.SIGMA`)."""
        c, count = self.config, len(state.seen)
        rng = np.random.default_rng((c.seed, _EXPLORE, self.progress.episode * c.rounds + state.at))
        shape = (count, c.actions.size)
        if self.progress.episode < c.warmup:
            action, scale = self._goal(state, which), SIGMA
        else:
            action, scale = self.agent.act(*tensors(state, c.rounds)), c.noise
        noise = scale * rng.standard_normal(shape)
        return np.clip(action + noise, -1.0, 1.0).astype(np.float32)

    def _goal(self, state: Observation, which: Sequence[int]) -> Floats:
        """What the first policy does with those cases, (n, size)."""
        return np.asarray(self.goals[np.asarray(which) // self.config.views, state.at])

    def _episode(self) -> dict[str, float]:
        """One episode of every participant, with its updates; now and then one without exploration."""
        p, c = self.progress, self.config
        before = self.env.calls
        record: dict[str, float] = {}
        if p.episode == 0:  # what it begins with is not to be lost, if nothing better is found
            record["greedy_return"] = self._greedy()
        which = self._views()
        state = self.env.reset(which)
        raw = np.stack([self.env.cases[k].image for k in which])
        answers = [self.env.judge(which, raw)[0]]
        total, told = np.zeros(len(which), np.float32), {}
        for _ in range(c.rounds):
            action = self._explore(state, which)
            step = self.env.step(action)
            goal = self._goal(state, which) if c.start == "searched" else action
            self.replay.add(state.seen, state.at, action, step.reward, step.state.seen, goal)
            total += step.reward
            answers.append(step.answers)
            state = step.state
            if p.episode >= c.warmup - 1:
                told = self._learn()
        for k, own in zip(which, zip(*answers, strict=True), strict=True):
            self._witness(k, own)
        p.episode += 1
        p.mean_return, p.reward = float(total.mean()), float(step.reward.mean())
        record |= {"return": p.mean_return, "reward": p.reward, **told}
        ends = p.segmentations + self.env.calls - before >= c.segmentations
        if (p.episode % c.greedy_every == 0 and p.episode > c.warmup) or ends:
            record["greedy_return"] = self._greedy()
        p.segmentations += self.env.calls - before
        return {"segmentations": float(p.segmentations), **record}

    def _views(self) -> list[int]:
        """Cases of an episode: each shot in one of its views."""
        views = self.config.views
        rng = np.random.default_rng((self.config.seed, _VIEW, self.progress.episode))
        return [k + int(v) for k, v in zip(self.upright, rng.integers(views, size=len(self.upright)), strict=True)]

    def describe(self, k: int, answers: Sequence[Answer]) -> Floats:
        """Describe an episode's answers (`verifier.describe`) beside the other shots of its class."""
        case = self.env.cases[k]
        refer = self.config.refer
        reference = self.references.of(case.label, without=case.name) if refer else None
        return describe(case.image, answers, reference)

    def _witness(self, k: int, answers: Sequence[Answer]) -> None:
        """What an episode of a case tells the verifier."""
        self.evidence.add(self.describe(k, answers), answers, self.env.cases[k])

    def _greedy(self) -> float:
        """Mean return of an episode of the averaged policy, without exploration."""
        rounds = self.config.rounds

        def act(state: Observation) -> Floats:
            return self.agent.act(*tensors(state, rounds), averaged=True)

        rollouts = follow(self.env, act, self.upright)
        for r in rollouts:
            self._witness(r.case, r.answers)
        gained = [r.gained for r in rollouts]
        if self.begun:
            self.ended = gained
        else:
            self.begun = gained
        self.progress.greedy = float(np.mean(gained))
        return self.progress.greedy

    @property
    def improved(self) -> bool:
        """Whether the last policy is kept, and not the first: see `Config.keep`."""
        return self.config.keep == "last" or holds_up(self.begun, self.ended, searched=self.config.start == "searched")

    @property
    def kept(self) -> dict[str, Any]:
        """The policy's weights that a run ends with: its average over the last updates, or the first."""
        return dict(self.agent.actor_target.state_dict() if self.improved else self._first)

    def _learn(self) -> dict[str, float]:
        c = self.config
        told: dict[str, list[float]] = {}
        for _ in range(c.updates * len(self.upright)):
            rng = np.random.default_rng((c.seed, _UPDATE, self.agent.updates))
            batch = self.replay.sample(rng, c.batch, c.shift, self.device)
            noise = c.policy_noise * rng.standard_normal((c.batch, c.actions.size))
            found = self.agent.update(batch, torch.from_numpy(noise.astype(np.float32)).to(self.device))
            for name, value in found.items():
                told.setdefault(name, []).append(value)
        self.progress.updates = self.agent.updates
        return {name: float(np.mean(values)) for name, values in told.items()}

    def _save(self, path: Path) -> None:
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        files.write_bytes(self.out / files.LOG, rows.encode())
        files.save_checkpoint(
            path,
            {
                "agent": self.agent.state_dict(),
                "kept": self.kept,
                "first": self._first,
                "goals": torch.from_numpy(self.goals),
                "begun": self.begun,
                "ended": self.ended,
                "replay": self.replay.state_dict(),
                "evidence": self.evidence.state_dict(),
                "progress": asdict(self.progress),
                "history": self.history,
            },
        )

    def _load(self, state: dict[str, Any]) -> None:
        try:
            self.agent.load_state_dict(state["agent"])
            self.begun, self.ended = list(state["begun"]), list(state["ended"])
            self._first, self.goals = state["first"], state["goals"].numpy()
            self.replay.load_state_dict(state["replay"])
            self.evidence.load_state_dict(state["evidence"])
            self.progress = Progress(**state["progress"])
            self.history = list(state["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.out / files.CHECKPOINT}: not a checkpoint of this run: {error!r}") from error

    def finish(self) -> list[Rollout]:
        """Write the recipes, the verifier, the curve and the figures on the shots; gives the shots' episodes back."""
        c = self.config
        self._tell("the policy's pictures of the shots", self.progress.segmentations)
        self.agent.actor.load_state_dict(self.kept)
        act, value = policy_of(self.agent, c.rounds)
        rollouts = follow(self.env, act, self.upright, value)
        rule = self._verify(rollouts)
        schedule, loss = distill(self.agent.actor, self.env, c)
        notes = f"{c.shots} shot(s), seed {c.seed}, prompt {c.prompt}; {self.progress.segmentations} segmentations"
        nets: dict[Literal["policy", "schedule"], Any] = {"policy": self.agent.actor, "schedule": schedule}
        for kind, net in nets.items():
            path = self.out / "made" / f"{kind}.onnx"
            actor = export_actor(net, kind, path, c.rounds, c.side, c.actions)
            Recipe(None, c.params, self.out.name, notes, kind, actor, c.passes).save(self.out / kind)
        mean = np.mean([c.actions.weights(np.stack(r.actions)) for r in rollouts], 0)
        told = f"{notes}; mean over the shots"
        fixed = Recipe(mean, c.params, self.out.name, told, passes=c.passes, filters=c.actions.filters)
        fixed.save(self.out / "fixed")
        rules = [name for name in ("oracle", *BLIND) if all(usable(name, r) for r in rollouts)]
        result = {
            "rule": rule,
            "policy": "the last" if self.improved else "the first",
            "alone": float(np.mean([r.rewards[0] for r in rollouts])),
            "rules_on_shots": {name: asdict(judge_rule(name, rollouts)) for name in rules},
            "distillation_error": loss,
            "segmentations": self.progress.segmentations,
            "seconds": self.env.seconds,
        }
        files.write_json(self.out / files.RESULT, result)
        if self.history:  # a run may end with its search
            files.write_bytes(self.out / "curve.png", return_curve(self.history))
        return rollouts

    def _verify(self, rollouts: Sequence[Rollout]) -> str:
        """Write the verifier; score the shots' episodes by others that have not seen these shots; fix the rule by them."""
        seed = self.config.seed
        prior = Verifier.load(SHIPPED).forest if self.config.prior else None
        forest = self.evidence.fit(seed, prior=prior)
        verifier = Verifier(forest, self.references.all() if self.config.refer else {})
        files.write_bytes(self.out / files.VERIFIER, verifier.to_bytes())
        unseen = self.evidence.unseen(seed, prior)
        for r in rollouts:  # a single shot has none that has not seen it
            judge = unseen.get(group_of(self.env.cases[r.case]), forest)
            r.scores = judge.predict(self.describe(r.case, r.answers)).tolist()
        return best_rule(self.evidence.worths(unseen))

    def compare(self) -> None:
        """Search what learning is compared with (`baselines.searches`), each with the same budget, and write it.

        Raises
        ------
        RunError
            They cannot be written.
        """

        def told(spent: int, best: float) -> None:
            self._tell(f"best return {best:+.3f}", spent)

        c, env = self.config, self.env
        found = dict(searches(env, c.start, c.segmentations, c.seed, self.upright, told))
        if c.start == "searched":
            found[BY_BEAM] = search_together(env, self.upright, lambda spent: self._tell("searching passes", spent))
        files.write_json(self.out / files.SEARCHED, {name: rows.tolist() for name, rows in found.items()})
