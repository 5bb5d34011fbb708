"""The command `bench`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ImageFileError, InvalidArgumentError
from .common import Json, Quiet, bars, complain, fail, failing, needing, say, show_table, stdout

if TYPE_CHECKING:
    from .._bench.compare import Verdict


def bench(
    sizes: Annotated[
        list[str] | None, typer.Option("--size", help="HEIGHTxWIDTH or a side; repeatable.", show_default="200, 1024")
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--case", help="round, rounds, exact-round, batch, shares, a filter; repeatable.", show_default="all"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of every candidate.", min=1, max=1024, metavar="N")] = 1,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="KEY=A,B", help="size, threads, batch, rounds, backend; repeatable: all pairs."
        ),
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate", metavar="MODULE:NAME", help="Your own function, with one --case: plane in, plane out."
        ),
    ] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="OpenCV, SciPy, kornia and others.")] = True,
    cold: Annotated[bool, typer.Option("--cold/--no-cold", help="Time first calls, in fresh processes.")] = True,
    repeats: Annotated[int, typer.Option(help="Timed calls of each candidate, at most.", min=7, metavar="N")] = 500,
    seconds: Annotated[float, typer.Option(help="For all timed calls together, at most.", min=0, metavar="N")] = 50.0,
    footprint: Annotated[str, typer.Option(help="Our bilateral's: disk (OpenCV's) or square.")] = "disk",
    backend: Annotated[str, typer.Option(help="cpu, cuda (copies included) or reference.")] = "cpu",
    against: Annotated[
        Path | None, typer.Option("--compare", metavar="OLD.json", help="An older run, as --json printed it.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--report", metavar="PAGE.html", help="A page with charts.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency, in turns with other libraries; answers are compared first.

    round: six filters, fast WLS; rounds: five; exact-round: exact WLS; batch: 64 images; shares: each alone, and without.
    p50 to p99.9 in ms (-: too few samples: p99 takes 459, p99.9 4603); ratio: the p50 over ours. With --compare: exit
    code 1 where ours became slower, 2 where nothing compares.

    Example: `sdie-fast bench --case bilateral --candidate mine:smooth --sweep threads=1,2`
    """
    from .._bench import compare, latency
    from .._bench.cases import load
    from .._bench.setting import parse_size, parse_sweeps, product

    with failing():
        swept = parse_sweeps(sweeps or [])
        if sizes and "size" in swept:
            raise InvalidArgumentError("--size: accepted without --sweep size=...")
        values: dict[str, list[Any]] = {
            "size": [parse_size(s) for s in sizes or ["200", "1024"]],
            "threads": [threads],
            "backend": [backend],
        }
        if own and len(cases or ()) != 1:
            raise InvalidArgumentError("--candidate: accepted with one --case, which says what it computes")
        old = None if against is None else compare.read_report(against)
        if page is not None:
            with needing("bench"):
                import matplotlib  # noqa: F401 - before two minutes are spent
        with bars(not as_json) as bar:
            task = bar.add_task("measuring", total=None, told="")
            report = latency.measure(
                product(values | swept), cases=cases, peers=peers, own={spec: load(spec) for spec in own or ()},
                repeats=repeats, seconds=seconds, footprint=footprint, cold=cold,
                watch=lambda done, total, told: bar.update(task, completed=done, total=total, told=told),
            )  # fmt: skip
        verdicts: list[Verdict] = []
        words: list[str] = []
        if old is not None:
            verdicts, words = compare.compare(old, report)
            report["comparison"] = {"verdicts": [v._asdict() for v in verdicts], "not_comparable": words}
        if page is not None:
            _write(page, report, verdicts)
    if as_json:
        print(json.dumps(report))
    else:
        _tell(report)
    _warn(report)
    if not as_json:
        _tell_comparison(verdicts, words)
    if old is not None and not verdicts:
        raise fail(f"--compare: nothing can be compared with {against}: {'; '.join(words[:4])}")
    if compare.slower(verdicts):
        raise typer.Exit(1)


def _write(page: Path, report: Mapping[str, Any], verdicts: Sequence[Verdict]) -> None:
    from .._bench.page import write_report

    try:
        write_report(page, report, verdicts)
    except OSError as error:
        raise ImageFileError(f"--report: {page} cannot be written: {error.strerror or error}") from error


def _tell(report: Mapping[str, Any]) -> None:
    from .._bench.page import FIRST, HEADS, cells, first_cells, note, rates, setting_words

    say(", ".join(f"{k} {v}" for k, v in report["machine"].items() if v))
    say(rates(report))
    for (case, where), group in itertools.groupby(report["rows"], key=lambda row: (row["case"], setting_words(row))):
        rows = list(group)
        stdout.print(f"\n[bold]{case}[/bold], {where}", highlight=False)
        show_table(HEADS, map(cells, rows))
        for row in rows[1:]:
            if row["difference"]:
                say(f"  {row['candidate']} differs by {row['difference']}")
    if report["first_calls"]:
        say(f"\nours, {FIRST}")
        show_table(*first_cells(report))
    say("")
    for line in (*report["missing"], note()):
        say(line)


def _warn(report: Mapping[str, Any]) -> None:
    for warning in report["noise"]["warnings"]:
        complain(f"too noisy to tell small differences: {warning}", style="yellow")


def _tell_comparison(verdicts: Sequence[Verdict], words: Sequence[str]) -> None:
    from .._bench.page import VERDICT_HEADS, verdict_tables

    for line in words:
        say(line)
    for title, rows in verdict_tables(verdicts):
        stdout.print(f"\n[bold]{title}[/bold], against the older run", highlight=False)
        show_table(VERDICT_HEADS, rows)
    wide = sum(v.high / v.low > 1.2 for v in verdicts)
    if wide:
        say(
            f"\n{wide} of {len(verdicts)} intervals are wider than 20%: more --repeats, or a quieter machine, would tell more"
        )
