"""What was learned, as one HTML file with its charts and pictures in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .._files import replace_file
from .figures import comparison, weights_per_round
from .learned import SDIE, Result
from .report import STYLE, overlay
from .tables import PAPER, Row, by_shots, class_table, gain, main_table, mean_weights, rule_table

COLUMNS = ("input", "enhanced", "SDIE", "segmenter alone", "truth")
WIDTH = 1016  # of a row of pictures, in pixels


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _table(rows: Sequence[Row], first: str) -> str:
    names = list(rows[0].figures)
    head = "".join(f"<th>{html.escape(n)}</th>" for n in (first, *names))
    body = "".join(
        f"<tr><td>{html.escape(row.name)}</td>" + "".join(f"<td>{row.figures[n]}</td>" for n in names) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _strip(result: Result, k: int) -> tuple[str, str]:
    """The pictures of `COLUMNS` side by side, and what to say below."""
    from ..learn.select import choose, final_mask, final_reward, usable

    r = result.rollouts[k]
    case = result.cases[r.case]
    rule = result.fixed[case.label]
    rule = rule if usable(rule, r) else "last"
    at = choose(rule, r)
    parts = [
        np.repeat(case.image[..., None], 3, 2),
        np.repeat(r.images[at][..., None], 3, 2),
        overlay(r.images[at], final_mask(rule, r)),
        overlay(case.image, r.answers[0].mask),
        overlay(case.image, case.truth),
    ]
    gap = np.full((case.image.shape[0], 4, 3), 255, np.uint8)
    wide = [p for part in parts for p in (part, gap)][:-1]
    picture = Image.fromarray(np.concatenate(wide, 1))
    picture = picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    how = "by vote" if rule == "vote" else f"after round {at}" if at else "the image as it came"
    text = f"{case.name or case.label}: reward {100 * r.rewards[0]:.0f} alone, {100 * final_reward(rule, r):.0f} {how}"
    return _url(buffer.getvalue(), "jpeg"), text


def _said(name: str, runs: Sequence[Result]) -> str:
    """One group's result in a line."""
    miou = next(r for r in main_table(runs) if r.name == SDIE).figures["MIoU"]
    told = f"{html.escape(name)}: " if name else ""
    return (
        f"{told}<b>SDIE {miou} MIoU, {gain(runs).mean:+.1f} against the segmenter alone</b>"
        f" (rule: {html.escape(runs[0].rule)}, fixed before these images were seen)"
    )


def _compared(name: str, runs: Sequence[Result]) -> str:
    """One group beside its baselines, and its selection rules."""
    rows = main_table(runs)
    bars = comparison(
        [(r.name, r.figures["MIoU"].mean, max(r.figures["MIoU"].deviation, 0.0)) for r in rows],
        "MIoU, %",
    )
    told = f", {html.escape(name)}" if name else ""
    return (
        f'<h2>Against what it must beat{told}</h2><img class="chart" src="{_url(bars, "png")}" alt="MIoU of each way of acting">'
        f"{_table(rows, '')}<p>The oracle picks each image's best round by the truth; no line can. It lifts chance too, which is"
        f" why it stands beside every way of acting. It goes by each image's own reward and takes none unenhanced, so that a class's"
        f" sums may come out higher by a rule that does not see the truth.</p>"
        f"<h2>Which mask is final{told}</h2>{_table(rule_table(runs), 'rule')}"
    )


def write_report(path: Path, title: str, results: Sequence[Result], curves: Sequence[bytes] = ()) -> None:
    """Write the page, by atomic rename.

    Parameters
    ----------
    path : Path
    title : str
    results : sequence of Result
        Of one or more runs that differ by their seed.
    curves : sequence of bytes
        Return curves, PNG.
    """
    first = results[0]
    groups = by_shots(results)
    facts = "".join(
        f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>"
        for k, v in {**first.facts, "runs": len(results)}.items()
        if k not in ("shots", "seed") or len(results) == 1
    )
    paper = "".join(
        f"<p>In the paper (Liu et al. 2024; SAM ViT-H, oracle), on {html.escape(name)}: "
        + "; ".join(f"{k} {a} MIoU, {b} FB-IoU" for k, (a, b) in figures.items())
        + ".</p>"
        for name, figures in PAPER.items()
        if name.lower() in str(first.facts.get("data", "")).lower()
    )
    said = "".join(f"<p class='said'>{_said(name, runs)}</p>" for name, runs in groups.items())
    compared = "".join(_compared(name, runs) for name, runs in groups.items())
    drawn = "".join(f'<img class="chart" src="{_url(c, "png")}" alt="return curve">' for c in curves)
    pictures: dict[str, list[str]] = {}
    for k, rollout in enumerate(first.rollouts):
        source, text = _strip(first, k)
        pictures.setdefault(first.cases[rollout.case].label, []).append(
            f'<figure><img src="{source}" alt=""><figcaption>{html.escape(text)}</figcaption></figure>'
        )
    heads = "".join(f"<span>{name}</span>" for name in COLUMNS)
    grids = "".join(
        f'<h3>{html.escape(k)}</h3><div class="heads">{heads}</div>{"".join(v)}' for k, v in pictures.items()
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE} .chart {{ max-width: 46em; width: 100%; image-rendering: auto; }}"
        f" .heads {{ display: flex; width: {WIDTH}px; }} .heads span {{ flex: 1; color: #555; }}</style>"
        f"<h1>{html.escape(title)}</h1>{said}<table>{facts}</table>"
        f"<h2>Class by class</h2><p>IoU in percent, intersections and unions summed over each class's images.</p>"
        f"{_table(class_table(results), 'class')}{paper}{compared}"
        f'<h2>What the policy does</h2><img class="chart" src="{_url(weights_per_round(mean_weights(results)), "png")}"'
        f' alt="weights of each round">{drawn}'
        f"<h2>Pictures</h2><p>Of each class from the image that enhancement helped most to the one it harmed most.</p>"
        f"{grids}</html>\n"
    )
    replace_file(path, lambda file: file.write(page.encode()))
