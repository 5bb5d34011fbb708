"""`sdie-fast line --plan`: whether this machine can do it, with which threads and filters, and what would."""

from __future__ import annotations

import math
import os
import shlex
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _validate
from .._bench.cases import sample
from .._bench.machine import machine, warnings
from ..errors import InvalidArgumentError
from ..filters import FilterParams
from ..line import Layout, Plan, layout
from ..recipe import Recipe
from .common import bars, complain, say, show_table
from .line_run import milliseconds, recipe_of

__all__ = ["LOAD", "measure", "tell"]

LOAD = 0.8  # of the time from frame to frame that work may take
_SECONDS = 18.0  # for all measurements together
_MOST_RUNS = 50
_MOST_PIXELS = 2**25  # pictures beyond are measured once at their size, and otherwise on their first lines
_CHEAPER = {"wls": ("wls_solver", "fast"), "bilateral": ("bilateral_footprint", "disk")}


class _Case(NamedTuple):
    """What is measured: weights, and the filters' parameters, on how many threads."""

    recipe: Recipe
    threads: int


class _Times(NamedTuple):
    """Seconds of a frame."""

    median: float
    worst: float
    runs: int


class _Bench:
    """Times recipes on a synthetic picture within a budget of seconds, of which those to come have equal parts."""

    def __init__(self, size: tuple[int, int], pixels: str, watch: Callable[[str, float], None]) -> None:
        self._width, self._height = size
        self._pixels, self._watch = pixels, watch
        self.lines = min(self._height, max(1, _MOST_PIXELS // self._width))
        self._frame = _picture(self._width, self.lines, pixels)
        self._end = time.monotonic() + _SECONDS

    def __call__(self, case: _Case, what: str, cases_left: int) -> _Times:
        left = max(0.0, self._end - time.monotonic())
        self._watch(f"{what}, {case.threads} thread{'s' * (case.threads > 1)}", round(_SECONDS - left))
        share = left / max(cases_left, 1)
        return self._run(case, self._frame, share)

    def whole(self, case: _Case) -> _Times:
        """Time one frame of the real size."""
        return self._run(case, _picture(self._width, self._height, self._pixels), 0.0)

    def _run(self, case: _Case, frame: Any, share: float) -> _Times:
        lines, scale = len(frame), self._height / len(frame)
        with Plan(
            case.recipe, self._width, lines, self._pixels, threads=case.threads, warm_up=0
        ) as plan:  # fmt: skip
            out = np.empty(*plan.output)
            begin = time.monotonic()
            taken = [plan.run(frame, out)[1].busy]
            while len(taken) <= _MOST_RUNS and time.monotonic() - begin + taken[-1] <= share:
                taken.append(plan.run(frame, out)[1].busy)
        counted = taken[1:] or taken  # the first one also touches the memory
        return _Times(statistics.median(counted) * scale, max(counted) * scale, len(counted))


def _picture(width: int, lines: int, pixels: str) -> Any:
    """A synthetic surface in a camera's format."""
    grey = sample(lines, width)
    wanted: Layout = layout(pixels, width, lines)
    if len(wanted.shape) == 3:
        return np.repeat(grey[..., None], 3, axis=2)
    with Plan({"identity": 1}, width, lines, "Mono8", pixels, warm_up=0) as plan:
        return plan.run(grey)[0]


def measure(path: Path | None, size: tuple[int, int], rate: float, pixels: str, *, show: bool) -> dict[str, Any]:
    """Measure a recipe, its filters and what would be quicker, at that size, in about 20 s.

    Parameters
    ----------
    path : Path, optional
        The recipe's.
    size : tuple of int
        Width and height in pixels of a frame, or of what is enhanced at once of a web.
    rate : float
        Lines a second.
    pixels : str
        The camera's format.
    show : bool
        Whether a bar is.

    Returns
    -------
    dict
        What was asked, "rows" for numbers of threads, "filters" alone, "variants" that would be quicker, "advice".
    """
    recipe = recipe_of(path)
    if not isinstance(recipe, Recipe):
        raise InvalidArgumentError(f"--recipe: received {path}; accepted with --plan: the recipe that it was made of")
    budget = size[1] / rate
    cpus = _validate.threads(None)
    counts = sorted({2**k for k in range(cpus.bit_length()) if 2**k <= cpus} | {cpus})
    used = _used(recipe)
    noise = warnings(os.getloadavg()[0] if hasattr(os, "getloadavg") else None, None, 0.0, cpus)
    with bars(show) as bar:
        task = bar.add_task("measuring", total=_SECONDS, told="")
        bench = _Bench(size, pixels, lambda what, spent: bar.update(task, told=what, completed=min(spent, _SECONDS)))
        left = len(counts) + len(used) + 3  # variants, perhaps
        times = {}
        for n in counts:
            times[n] = bench(_Case(recipe, n), "the recipe", left)
            left -= 1
        if bench.lines < size[1]:
            times[cpus] = bench.whole(_Case(recipe, cpus))
        alone = {}
        for name in used:
            alone[name] = bench(
                _Case(
                    Recipe({name: 1.0}, recipe.params),  # type: ignore[arg-type]
                    cpus,
                ),
                f"{name} alone",
                left,
            )
            left -= 1
        variants, fit = {}, None
        if not any(_verdict(t, budget) == "yes" for t in times.values()):
            for words, variant in _variants(recipe, alone).items():
                variants[words] = bench(_Case(variant, cpus), words, left)
                left -= 1
            shorter, fit = _shorter(recipe, times[cpus], budget, lambda r, w: bench(_Case(r, cpus), w, 1))
            variants |= shorter
    facts = machine(cpus)
    report: dict[str, Any] = {
        "machine": {k: facts[k] for k in ("processor", "instruction set", "CPUs")} | {"usable": cpus},
        "width": size[0],
        "height": size[1],
        "input": pixels,
        "rate_lines_per_s": rate,
        "frames_per_s": rate / size[1],
        "mpx_per_s": size[0] * rate / 1e6,
        "budget_ms": budget * 1e3,
        "warnings": noise,
        "lines_measured": bench.lines,
        "recipe": recipe.name,
        "rounds": _rounds(recipe),
        "rows": [{"threads": n, **_row(t, budget, _rounds(recipe))} for n, t in times.items()],
        "filters": [
            {"filter": name, "rounds": _rounds_of(recipe, name), "median_ms": t.median * 1e3}
            for name, t in alone.items()
        ],
        "variants": [{"change": words, "threads": cpus, **_row(t, budget)} for words, t in variants.items()],
    }
    if fit is not None:  # what was measured goes before the average
        for row in report["rows"]:
            row["rounds_that_fit"] = fit if row["threads"] == cpus else min(row["rounds_that_fit"], fit)
    report["advice"] = _advice(report, path, times, variants, budget)
    return report


def _rounds(recipe: Recipe) -> int:
    return recipe.rounds // recipe.passes


def _rounds_of(recipe: Recipe, name: str) -> int:
    assert recipe.weights is not None
    return int((recipe.weights[: _rounds(recipe), recipe.filters.index(name)] > 0).sum())


def _used(recipe: Recipe) -> list[str]:
    if recipe.weights is None:
        raise InvalidArgumentError(
            f"--recipe: received one of kind {recipe.kind!r}, whose network chooses the weights; accepted with "
            "--plan: kind 'fixed'"
        )
    return [name for name in recipe.filters if name != "identity" and _rounds_of(recipe, name)]


def _verdict(times: _Times, budget: float) -> str:
    if times.median <= LOAD * budget and times.worst <= budget:
        return "yes"
    return "barely" if times.median <= budget else "no"


def _row(times: _Times, budget: float, rounds: int | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "median_ms": times.median * 1e3,
        "worst_ms": times.worst * 1e3,
        "runs": times.runs,
        "load": times.median / budget,
        "verdict": _verdict(times, budget),
    }
    if rounds is not None:
        row["rounds_that_fit"] = int(LOAD * budget / times.median * rounds)
    return row


def _variants(recipe: Recipe, alone: dict[str, _Times]) -> dict[str, Recipe]:
    """Recipes that cost less, by what is changed: parameters, a filter left out."""
    assert recipe.weights is not None
    rows = recipe.weights[: _rounds(recipe)]
    found = {}
    changes = {k: v for name, (k, v) in _CHEAPER.items() if name in alone and getattr(recipe.params, k) != v}
    params = FilterParams.from_dict({**recipe.params.to_dict(), **changes})
    words = ", ".join(f"{k}={v}" for k, v in changes.items())
    if changes:
        found[f"with {words}"] = Recipe(rows, params, filters=recipe.filters)
    costliest = max(alone, key=lambda name: alone[name].median * _rounds_of(recipe, name), default=None)
    if costliest is not None:
        rest = rows.copy()
        rest[:, recipe.filters.index(costliest)] = 0
        if rest.any(axis=1).all():
            also = f", and with {words}" if changes else ""
            found[f"without {costliest}{also}"] = Recipe(rest, params, filters=recipe.filters)
    return found


def _shorter(
    recipe: Recipe, times: _Times, budget: float, bench: Callable[[Recipe, str], _Times]
) -> tuple[dict[str, _Times], int | None]:
    """Measure its first rounds, ever fewer until they fit; and how many do, None where rounds are not what is wrong.

    Rounds differ in cost, so an average only says where to begin.
    """
    assert recipe.weights is not None
    rows = recipe.weights[: _rounds(recipe)]
    count = int(LOAD * budget / times.median * len(rows))
    if count >= len(rows):
        return {}, None
    found: dict[str, _Times] = {}
    count = min(max(count, 1), len(rows) - 1)
    while count:
        words = f"with its first {count} of {len(rows)} rounds"
        taken = found[words] = bench(Recipe(rows[:count], recipe.params, filters=recipe.filters), words)
        if _verdict(taken, budget) == "yes":
            break
        count = min(count - 1, max(1, int(LOAD * budget / taken.median * count)))
    return found, count


def _advice(
    report: dict[str, Any], path: Path | None, times: dict[int, _Times], variants: dict[str, _Times], budget: float
) -> list[str]:
    """What follows from the figures, in words."""
    good = next((row for row in report["rows"] if row["verdict"] == "yes"), None)
    named = "" if path is None else f"--recipe {shlex.quote(str(path))} "
    cpus = max(times)
    command = (
        f"sdie-fast line FRAMES {named}--size {report['width']}x{report['height']} --input {report['input']} "
        f"--threads {cpus if good is None else good['threads']} --pace {report['frames_per_s']:.4g} "
        f"--deadline {float(format(report['budget_ms'], '.3g')):g} --seconds 120"
    )
    if good is not None:
        return [
            f"Yes, on {good['threads']} thread{'s' * (good['threads'] > 1)}: {milliseconds(good['median_ms'])} of "
            f"{milliseconds(report['budget_ms'])} ms. Next, paced and with a deadline: {command}"
        ]
    slow = times[cpus].median / (LOAD * budget)
    if slow <= 1:
        told = [
            "The median fits, but some run took longer than there is time: see what else runs here, or leave the "
            "tail to --deadline, and measure with --pace."
        ]
    else:
        rate = _digits(report["rate_lines_per_s"] / slow, math.floor)
        gain = times[1].median / times[cpus].median
        if cpus > 1 and gain < 1.1:
            also = f"{cpus} threads are no quicker than one, either since the picture is small or since others use the CPUs"
        else:
            also = f"about {_digits(math.ceil(cpus * slow))} such CPUs would do, if all help as these {cpus} do"
            also += f" ({gain:.1f} times as quick as one)" if cpus > 1 else ""
        told = [f"As it is, the recipe is {_digits(slow)} times too slow here, good for {rate} lines/s; {also}."]
    for words, t in variants.items():
        slow = t.median / (LOAD * budget)
        answer = f"{_digits(slow)} times too slow" if slow > 1 else _verdict(t, budget)
        told.append(f"The recipe {words}: {milliseconds(t.median * 1e3)} ms on {cpus} threads, {answer}.")
    fitting = [words for words, t in variants.items() if _verdict(t, budget) == "yes"]
    if fitting:
        told.append(
            f"What fits: {', or '.join(fitting)}. Save that as a recipe of its own, or let the deadline leave rounds "
            f"out. Next, paced: {command}"
        )
    elif times[cpus].median <= LOAD * budget:
        told.append(f"Next, paced: {command}")
    else:
        told.append("Nothing that was tried fits: it takes fewer lines a second, or a quicker machine.")
    return told


def _digits(value: float, rounded: Callable[[float], int] = math.ceil) -> str:
    """Write a number rounded, up unless it is said, to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{rounded(round(value / unit, 6)) * unit:,.6g}"


def tell(report: dict[str, Any]) -> None:
    """Print what was measured."""
    facts = report["machine"]
    say(f"{facts['processor']}, {facts['instruction set']}, {facts['usable']} of {facts['CPUs']} CPUs")
    say(
        f"{report['width']:,} x {report['height']:,} {report['input']} at {report['rate_lines_per_s']:,g} lines/s: "
        f"{report['mpx_per_s']:,.3g} Mpx/s, {milliseconds(report['budget_ms'])} ms a frame; recipe "
        f"{report['recipe']}, {report['rounds']} rounds\n"
    )
    show_table(
        ("threads", "ms a frame", "slowest", "frames/s", "load", "rounds that fit", "does it"),
        (
            (
                str(row["threads"]), milliseconds(row["median_ms"]), milliseconds(row["worst_ms"]),
                f"{1e3 / row['median_ms']:,.3g}", f"{row['load']:,.0%}", str(row["rounds_that_fit"]), row["verdict"],
            )
            for row in report["rows"]
        ),
    )  # fmt: skip
    say("")
    show_table(
        ("filter", f"ms a round, {facts['usable']} threads", "rounds"),
        ((f["filter"], milliseconds(f["median_ms"]), str(f["rounds"])) for f in report["filters"]),
    )
    say("")
    for words in report["advice"]:
        say(words)
    for words in report["warnings"]:
        complain(words, style="yellow")
    say(
        f"\nyes: the median takes at most {LOAD:.0%} of the time, and no run all of it; above that, what waits after a "
        "hitch is not caught up with. The medians are of few runs on a synthetic surface."
    )
    if report["lines_measured"] < report["height"]:
        say(f"All but the last row was measured on {report['lines_measured']:,} lines.")
