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
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdie_fast.cli import app
from sdie_fast.learn.settings import read_toml

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Table:
    """What is run for a table.

    Attributes
    ----------
    about : str
    budgets : dict of int to int
        Segmentations of training by the number of shots.
    settings : dict of str to str
        The TOML of each variant's settings, by the variant's name.
    limit : int
        Test images of each class.
    fetched : bool
        Whether --segmenter is needed.
    baselines : bool
        Whether what SDIE is compared with is judged too.
    """

    about: str
    budgets: dict[int, int]
    settings: dict[str, str]
    limit: int
    fetched: bool = False
    baselines: bool = True
    seeds: tuple[int, ...] = field(default=SEEDS)


_GRID = "[auto]\ngrid = 6\n"
_MAPS = 'backend = "torch"\ndtype = "bfloat16"\n'
_FAST = '[params]\nwls_solver = "fast"\n'
_SEARCHED = 'start = "searched"\nviews = 1\n'

TABLES = {
    "isnet": Table(
        "ISNet, which nobody here trained: the search for each class, cloned",
        {1: 90, 5: 450}, {"": _MAPS + _SEARCHED + _FAST}, 6, fetched=True,
    ),
    "isnet-ablation": Table(
        "What each part of the learning brings with ISNet",
        {1: 330, 5: 1050},
        {
            "start": _MAPS + "views = 1\ncompare = false\n" + _FAST,
            "td3": _MAPS + _SEARCHED + "compare = false\n" + _FAST,
            "class-known": _MAPS + _SEARCHED + "each_class = true\ncompare = false\n" + _FAST,
        },
        6, fetched=True, baselines=False,
    ),
    "small-sam": Table(
        "The small SAM that ships, with the search", {5: 450}, {"": _SEARCHED + _FAST + _GRID}, 12,
    ),
    "five-passes": Table(
        "The small SAM, TD3 from one filter a pass", {1: 900, 5: 1500}, {"": _GRID}, 12,
    ),
    "one-pass": Table(
        "The small SAM, five rounds in one pass as in the paper", {1: 1200, 5: 2400},
        {"": "rounds = 5\npasses = 1\n" + _GRID}, 16,
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


def train(table: Table, data: Path, out: Path, segmenter: Path | None, memory: Path) -> dict[str, list[Path]]:
    """Make the runs of a table: by variant and number of shots."""
    runs: dict[str, list[Path]] = {}
    for variant, text in table.settings.items():
        out.mkdir(parents=True, exist_ok=True)
        config = out / f"{variant or 'settings'}.toml"
        config.write_text(f"memory = {json.dumps(str(memory))}\n{text}", encoding="utf-8")
        each_class = bool(read_toml(config).get("each_class"))
        for shots, budget in table.budgets.items():
            for seed in table.seeds:
                run = out / f"{variant}-{shots}-{seed}".lstrip("-")
                # A run that has ended is there; a policy for each class has a class's share of the budget.
                if not list(run.glob("**/result.json")) or each_class:
                    call(
                        "train", data, "--config", config, "--shots", shots, "--seed", seed, "--budget",
                        budget // 6 if each_class else budget, "--out", run,
                        *(["--segmenter", segmenter] if segmenter else []),
                    )  # fmt: skip
                runs.setdefault(variant, []).append(run)
    return runs


def evaluate(
    table: Table, data: Path, runs: list[Path], segmenter: Path | None, memory: Path, page: Path
) -> dict[str, Any]:
    """Judge a variant's runs on images that are no shots."""
    seen = [word for run in runs for word in ("--recipe", run)]
    model = ["--segmenter", segmenter, "--segmenter-backend", "torch", "--segmenter-dtype", "bfloat16"]
    found: dict[str, Any] = json.loads(
        call(
            "evaluate", data, *seen, "--limit", table.limit, "--memory", memory, "--json", "--out", page,
            *(model if segmenter else []), *([] if table.baselines else ["--no-baselines"]),
        )
    )  # fmt: skip
    return found


def markdown(rows: dict[str, dict[str, dict[str, float]]], title: str) -> str:
    """A table of means and standard deviations over seeds, in percent."""
    heads = list(next(iter(rows.values())))
    lines = [f"| {title} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, figures in rows.items():
        cells = [
            f"{v['mean']:.1f}" + (f" ± {v['deviation']:.1f}" if v["deviation"] >= 0 else "") for v in figures.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def tables_of(found: dict[str, Any], variant: str) -> str:
    """The tables of an evaluation as Markdown."""
    text = f"## {variant}\n\n" if variant else ""
    text += markdown(found["classes"], "class") + "\n"
    for shots, own in found["by shots"].items():
        text += f"### {shots}\n\n" + markdown(own["main"], "") + "\n" + markdown(own["rules"], "rule") + "\n"
    return text


def main() -> None:
    """Read the arguments, run, write."""
    told = "\n".join(f"  {name:15s} {table.about}" for name, table in TABLES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"tables:\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("data", type=Path, help="a folder that `sdie-fast train` takes")
    parser.add_argument("--segmenter", type=Path, help="what `sdie-fast fetch-segmenter` wrote")
    parser.add_argument("--out", type=Path, default=Path("tables"))
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the table's own")
    parser.add_argument("--limit", type=int, help="test images of each class, instead of the table's own")
    given = parser.parse_args()
    table = TABLES[given.table]
    if table.fetched and given.segmenter is None:
        parser.error(f"{given.table} needs --segmenter: sdie-fast fetch-segmenter isnet DIR")
    changes = {k: v for k, v in (("seeds", given.seeds and tuple(given.seeds)), ("limit", given.limit)) if v}
    table = Table(**{**vars(table), **changes})
    segmenter = given.segmenter if table.fetched else None
    out, memory = given.out / given.table, given.out.resolve() / "answers.sqlite"
    runs = train(table, given.data, out, segmenter, memory)
    found, text = {}, f"# {given.table}: {table.about}\n\n"
    for variant, own in runs.items():
        page = out / f"{variant or 'report'}.html"
        found[variant] = evaluate(table, given.data, own, segmenter, memory, page)
        text += tables_of(found[variant], variant)
    (out / f"{given.table}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / f"{given.table}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
