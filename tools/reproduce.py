"""Make a table of the documentation again, from a folder of labelled images and, for some, a fetched segmenter.

    sdie-fast fetch-segmenter isnet isnet/
    python tools/reproduce.py isnet defects-dev/ --segmenter isnet/ --out tables/

Every run is a folder of OUT/TABLE with its settings, its split and its seed; TABLE.md holds the tables, TABLE.json the
figures. A table that was interrupted goes on. The segmenter's answers are kept in OUT/answers.sqlite, which tables
share. The commands are printed as a user would give them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdie_fast import FilterParams, Recipe
from sdie_fast.cli import app
from sdie_fast.evaluate.judge import ALONE, SDIE
from sdie_fast.evaluate.tables import Spread
from sdie_fast.filters import FILTERS
from sdie_fast.learn.settings import read_toml

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Table:
    """What is run for a table.

    Attributes
    ----------
    about : str
    budgets : dict of int to int
        Segmentations of training by the number of shots; where each class has its policy, of each. Where there is none,
        nothing is learned: the rows are each filter once, twice and after each other.
    settings : str
        TOML.
    limit : int
        Test images of each class.
    fetched : bool
        Whether --segmenter is needed.
    baselines : bool
        Whether what SDIE is compared with is judged too.
    """

    about: str
    budgets: dict[int, int]
    settings: str
    limit: int
    fetched: bool = False
    baselines: bool = True
    seeds: tuple[int, ...] = field(default=SEEDS)


_GRID = "[auto]\ngrid = 6\n"
_TD3 = 'compare = false\nkeep = "last"\n'
_FAST = '[params]\nwls_solver = "fast"\n'
# One thread: with it the digits were the same on two processors (docs/experiments.md), and with two they were others.
_SEARCHED = 'threads = 1\nstart = "searched"\nencoder = "texture"\nviews = 1\n'
_SHARP = _FAST + "sharpen_amount = 2.0\n"
_MAPS = 'backend = "torch"\ndtype = "bfloat16"\n' + _SEARCHED

TABLES = {
    "isnet": Table(
        "ISNet, which nobody here trained: the passes found for each class, and an actor that tells the classes apart",
        {1: 90, 5: 450}, _MAPS + "compare = false\n" + _FAST, 6, fetched=True,
    ),
    "isnet-filters": Table(
        "ISNet behind each filter, once and twice, and behind each pair", {}, _SHARP, 6, fetched=True, baselines=False,
    ),
    "isnet-sharp": Table(
        "ISNet with a sharpening of 2 instead of 0.8", {1: 90, 5: 450}, _MAPS + "compare = false\n" + _SHARP, 6,
        fetched=True,
    ),
    "isnet-known": Table(
        "ISNet where the policy is told the class", {5: 75},
        _MAPS + "compare = false\neach_class = true\n" + _FAST, 6, fetched=True, baselines=False,
    ),
    "isnet-searches": Table(
        "As isnet-sharp, beside other searches of as many segmentations: CMA-ES, the gradient, one for all classes",
        {1: 90, 5: 450}, _MAPS + _SHARP, 6, fetched=True,
    ),
    "isnet-td3": Table(
        "As isnet-sharp, with TD3 after the search", {5: 1500}, _MAPS + _TD3 + _SHARP, 6, fetched=True, baselines=False,
    ),
    "small-sam-filters": Table(
        "The small SAM behind each filter, once and twice, and behind each pair", {}, _FAST + _GRID, 12, baselines=False,
    ),
    "small-sam": Table(
        "The small SAM that ships, with the search, beside other searches of as many segmentations", {1: 90, 5: 450},
        _SEARCHED + _FAST + _GRID, 12,
    ),
    "small-sam-td3": Table(
        "As small-sam, with TD3 after the search", {5: 1500}, _SEARCHED + _TD3 + _FAST + _GRID, 12, baselines=False,
    ),
    "small-sam-updates": Table(
        "As small-sam-td3, with 8 updates a segmentation instead of 2", {5: 1500},
        "updates = 8\n" + _SEARCHED + _TD3 + _FAST + _GRID, 12, baselines=False,
    ),
    "five-passes": Table("The small SAM: TD3 from one filter a pass", {1: 900, 5: 1500}, _GRID, 12),
    "one-pass": Table(
        "The small SAM: five rounds in one pass, as in the paper", {1: 1200, 5: 2400},
        "rounds = 5\npasses = 1\n" + _GRID, 16,
    ),
}  # fmt: skip


def call(*words: object) -> str:
    """Run a command of `sdie-fast`; gives back what it printed."""
    given = [str(word) for word in words]
    print("$ sdie-fast", shlex.join(given), flush=True)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        app(given, standalone_mode=False)
    return told.getvalue()


def train(table: Table, data: Path, out: Path, segmenter: Path | None, config: Path) -> list[Path]:
    """Make the runs of a table; a run that has ended is there, and one that was killed goes on."""
    runs = []
    for shots, budget in table.budgets.items():
        for seed in table.seeds:
            runs.append(out / f"{shots}-{seed}")
            call(
                "train", data, "--config", config, "--shots", shots, "--seed", seed, "--budget", budget, "--out", runs[-1],
                *(["--segmenter", segmenter] if segmenter else []),
            )  # fmt: skip
    return runs


def evaluate(
    table: Table, data: Path, runs: list[Path], segmenter: Path | None, memory: Path, page: Path | None
) -> dict[str, Any]:
    """Judge runs on images that are no shots."""
    seen: list[object] = [word for run in runs for word in ("--recipe", run)]
    model = ["--segmenter", segmenter, "--segmenter-backend", "torch", "--segmenter-dtype", "bfloat16", "--threads", 1]
    found: dict[str, Any] = json.loads(
        call(
            "evaluate", data, *seen, "--limit", table.limit, "--memory", memory, "--json",
            *(["--out", page] if page else []), *(model if segmenter else ["--grid", 6]),
            *([] if table.baselines else ["--no-baselines"]),
        )
    )  # fmt: skip
    return found


def chains(
    table: Table, data: Path, out: Path, segmenter: Path | None, memory: Path, params: FilterParams
) -> dict[str, Any]:
    """IoU by class behind each filter, once, twice and after each other, nothing being chosen or learned."""
    names = [name for name in FILTERS if name != "identity"]
    rows: dict[str, Any] = {}
    for chain in [*((name,) for name in names), *((a, b) for a in names for b in names)]:
        recipe = out / "-".join(chain)
        weights = np.eye(len(FILTERS), dtype=np.float32)[[FILTERS.index(name) for name in chain]]
        Recipe(weights, params, recipe.name).save(recipe)
        found = evaluate(table, data, [recipe], segmenter, memory, None)["classes"]
        rows.setdefault(ALONE, {label: own[ALONE] for label, own in found.items()})
        rows[", ".join(chain)] = {label: own[SDIE] for label, own in found.items()}
    return rows


def cell(figure: dict[str, float | None]) -> str:
    """A figure of the printed JSON, in which what is not defined is null, as the tables on a terminal show it."""
    return str(Spread(**{k: math.nan if v is None else v for k, v in figure.items()}))


def markdown(rows: dict[str, dict[str, dict[str, float | None]]], title: str) -> str:
    """A table of means and standard deviations over seeds, in percent."""
    heads = list(next(iter(rows.values())))
    lines = [f"| {title} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, figures in rows.items():
        lines.append(f"| {name} | " + " | ".join(map(cell, figures.values())) + " |")
    return "\n".join(lines) + "\n"


def tables_of(found: dict[str, Any]) -> str:
    """The tables of an evaluation as Markdown."""
    text = markdown(found["classes"], "class")
    for shots, own in found["by shots"].items():
        text += f"\n## {shots}\n\n" + markdown(own["main"], "") + "\n" + markdown(own["rules"], "rule")
    return text


def main() -> None:
    """Read the arguments, run, write."""
    told = "\n".join(f"  {name:17s} {table.about}" for name, table in TABLES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"tables:\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("data", type=Path, help="a folder that `sdie-fast train` takes")
    parser.add_argument("--segmenter", type=Path, help="what `sdie-fast fetch-segmenter` wrote")
    parser.add_argument("--out", type=Path, default=Path("tables"))
    parser.add_argument("--shots", type=int, nargs="+", choices=(1, 5), help="1 or 5 alone, where a table has both")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the table's own")
    parser.add_argument("--limit", type=int, help="test images of each class, instead of the table's own")
    given = parser.parse_args()
    table = TABLES[given.table]
    if table.fetched and given.segmenter is None:
        parser.error(f"{given.table} needs --segmenter: sdie-fast fetch-segmenter isnet DIR")
    if given.shots and not set(given.shots) <= set(table.budgets):
        parser.error(f"--shots: {given.table} has {', '.join(map(str, table.budgets)) or 'none'}")
    budgets = {shots: n for shots, n in table.budgets.items() if not given.shots or shots in given.shots}
    seeds, limit = tuple(given.seeds or table.seeds), given.limit or table.limit
    table = replace(table, budgets=budgets, seeds=seeds, limit=limit)
    segmenter = given.segmenter if table.fetched else None
    out, memory = given.out / given.table, given.out.resolve() / "answers.sqlite"
    out.mkdir(parents=True, exist_ok=True)
    config = out / "settings.toml"
    config.write_text(f"memory = {json.dumps(str(memory))}\n{table.settings}", encoding="utf-8")
    if table.budgets:
        runs = train(table, given.data, out, segmenter, config)
        found = evaluate(table, given.data, runs, segmenter, memory, out / "report.html")
        made = tables_of(found)
    else:
        params = FilterParams.from_dict(read_toml(config)["params"])
        found = chains(table, given.data, out, segmenter, memory, params)
        made = markdown(found, "filters")
    text = f"# {given.table}: {table.about}\n\n" + made
    (out / f"{given.table}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / f"{given.table}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
