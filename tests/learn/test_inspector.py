"""SDIE on an image without a truth: the same episode that is judged with one, and the mask that the rule chooses."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sdie_fast import FilterParams, InvalidArgumentError, InvalidTypeError, Recipe
from sdie_fast.errors import RunError
from sdie_fast.learn import runs as files
from sdie_fast.learn.config import Config
from sdie_fast.learn.env import SdieEnv, follow
from sdie_fast.learn.inspector import RULES, Inspector
from sdie_fast.learn.runs import act_of, open_run
from sdie_fast.learn.select import choose, final_mask
from sdie_fast.learn.verifier import Evidence, References, Verifier, describe
from sdie_fast.segment.sam import SMALL_SAM, Sam

from .conftest import make_case

AUTO = {"grid": 1, "largest": 1.0}
# Two passes of two rounds: sharpening makes the blobs' noise worse, smoothing shows them.
WEIGHTS = np.eye(6, dtype=np.float32)[[3, 3, 2, 2]]


@pytest.fixture
def recipe(tmp_path):
    made = Recipe(WEIGHTS, FilterParams(wls_solver="fast"), "blobs", passes=2)
    made.save(tmp_path / "recipe")
    return tmp_path / "recipe"


@pytest.fixture
def judged(recipe, segmenter, cases):
    """The same episodes, with the truth."""
    config, _, _, opened = open_run(recipe)
    env = SdieEnv(segmenter, cases, rounds=4, passes=2, params=config.params, options=AUTO)
    return follow(env, act_of(opened, config.actions))


@pytest.fixture
def verifier(judged, cases):
    evidence, references = Evidence(), References(cases)
    for r in judged:
        case = cases[r.case]
        evidence.add(describe(case.image, r.answers, references.of(case.label)), r.answers, case)
    return Verifier(evidence.fit(0), references.all())


@pytest.mark.parametrize("rule", [r for r in RULES if r != "verifier"])
def test_the_judged_episode(recipe, segmenter, cases, judged, rule):
    inspect = Inspector(recipe, segmenter, rule=rule, auto=AUTO)
    for case, r in zip(cases, judged, strict=True):
        found = inspect(case.image)
        assert found.round == choose(rule, r)
        np.testing.assert_array_equal(found.mask, final_mask(rule, r))
        np.testing.assert_array_equal(found.image, r.images[found.round])
        assert found.quality == r.answers[found.round].quality
        assert math.isnan(found.score)


@pytest.mark.parametrize("label", ["blob", None])
def test_the_verifiers_choice(recipe, segmenter, cases, judged, verifier, label):
    (recipe / files.VERIFIER).write_bytes(verifier.to_bytes())
    inspect = Inspector(recipe, segmenter, label=label, auto=AUTO)
    assert inspect.rule == "verifier"
    for case, r in zip(cases, judged, strict=True):
        r.scores = verifier.scores(case.image, r.answers, "blob")
        found = inspect(case.image)
        assert found.round == choose("verifier", r)
        assert found.score == max(r.scores)


def test_without_a_verifier_the_rounds_agree(recipe, segmenter):
    assert Inspector(recipe, segmenter).rule == "agreement"


def test_a_class_nobody_named_is_the_one_that_suits_best(judged, cases, segmenter):
    other = make_case(9, label="speck")
    references = References([*cases, other])
    evidence = Evidence()
    for r in judged:
        case = cases[r.case]
        evidence.add(describe(case.image, r.answers, references.of(case.label)), r.answers, case)
    verifier = Verifier(evidence.fit(0), references.all())
    image, answers = cases[0].image, judged[0].answers
    each = [verifier.scores(image, answers, label) for label in ("blob", "speck")]
    assert each[0] != each[1]
    assert verifier.scores(image, answers, None) == np.max(each, 0).tolist()


def test_refusals(recipe, segmenter, verifier, tmp_path):
    with pytest.raises(RunError, match=r"verifier\.npz: no such file"):
        Inspector(recipe, segmenter, rule="verifier")
    with pytest.raises(RunError, match=r"label: received 'blob'.*knows no classes"):
        Inspector(recipe, segmenter, label="blob")
    for rule in ("oracle", "critic", "best"):
        with pytest.raises(InvalidArgumentError, match=f"rule: received '{rule}'; accepted: 'last'"):
            Inspector(recipe, segmenter, rule=rule)
    (recipe / files.VERIFIER).write_bytes(verifier.to_bytes())
    with pytest.raises(RunError, match=r"label: received 'dent'.*knows blob"):
        Inspector(recipe, segmenter, label="dent")
    inspect = Inspector(recipe, segmenter)
    for image in (np.zeros((9, 9), np.float32), np.zeros((9, 9, 3), np.uint8), [[1]]):
        with pytest.raises(InvalidTypeError, match="image: received"):
            inspect(image)


@pytest.mark.parametrize("again", [lambda i: pickle.loads(pickle.dumps(i)), copy.copy, copy.deepcopy])
def test_pickles_and_copies(again, cases):
    small = SMALL_SAM.with_name("sdie_small")
    inspect = Inspector(small, Sam(prompts=16), label="Steel_Sc", auto={"grid": 2})
    found, expected = again(inspect)(cases[0].image), inspect(cases[0].image)
    for field in dataclasses.fields(expected):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_a_run_whose_prompt_needs_labels(tmp_path, recipe, segmenter):
    from sdie_fast.data.shots import Split

    run = tmp_path / "run"
    files.save_config(run, Config(prompt="support", rounds=4, passes=2), "blobs", "threshold")
    Split({"blob": ("a",)}, {"blob": ("b",)}, 1, 0).save(run / files.SPLIT)
    recipe.rename(run / "policy")
    with pytest.raises(InvalidArgumentError, match="was trained with the prompt 'support'"):
        Inspector(run, segmenter)
