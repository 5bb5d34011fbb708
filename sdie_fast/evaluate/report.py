"""An evaluation as one HTML file with its charts and pictures in it: of a segmenter, and of what was learned."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..learn.places import Images, Masks
from ..learn.select import choose, final_mask, final_reward, usable
from .figures import comparison, weights_per_round
from .judge import SDIE, Evaluation, Judged, Result, kept
from .page import WIDTH, chart, data_url, table, write_page
from .tables import PAPER, Row, by_shots, class_table, gain, main_table, mean_weights, rule_table

__all__ = ["Report", "overlay", "write_report"]

_COLUMNS = ("input", "enhanced", "SDIE", "segmenter alone", "truth")


def overlay(image: Images, mask: Masks) -> Images:
    """Paint a mask's foreground half red over a grey picture: (H, W, 3)."""
    colour = _rgb(image).astype(np.float32)
    colour[mask] = 0.55 * colour[mask] + 0.45 * np.array([255, 40, 40], np.float32)
    return colour.astype(np.uint8)


def _rgb(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.repeat(image[..., None], 3, 2)


def _strip(parts: Sequence[Images], width: int) -> str:
    """Pictures side by side, so many pixels wide, as a data URL."""
    gap = np.full((parts[0].shape[0], 4, 3), 255, np.uint8)
    wide = [p for part in parts for p in (part, gap)][:-1]
    picture = Image.fromarray(np.concatenate(wide, 1))
    picture = picture.resize((width, round(width * picture.height / picture.width)))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return data_url(buffer.getvalue(), "jpeg")


def _figure(source: str, text: str) -> str:
    return f'<figure><img src="{source}" alt=""><figcaption>{html.escape(text)}</figcaption></figure>'


def _figures(rows: Sequence[Row], first: str) -> str:
    return table(((row.name, *row.figures.values()) for row in rows), (first, *rows[0].figures))


class Report:
    """Collects what a segmenter answered, a few cases of each class, and writes the page.

    Parameters
    ----------
    each : int
        Pictures kept of each class: the best, the worst, and what lies between in equal steps.
    """

    def __init__(self, each: int = 8) -> None:
        self._each = each
        self._pictures: list[tuple[str, float, str, str]] = []  # label, IoU, name, picture

    def add(self, judged: Judged) -> None:
        """Keep one case."""
        case = judged.case
        parts = [_rgb(case.image), overlay(case.image, judged.mask), overlay(case.image, case.truth)]
        strip = _strip(parts, min(3 * case.image.shape[1] + 8, 640))
        self._pictures.append((case.label, judged.iou, case.name, strip))

    def write(self, path: Path, title: str, facts: Mapping[str, Any], evaluation: Evaluation) -> None:
        """Write the page, by atomic rename."""
        scores = evaluation.scores
        pictures: dict[str, list[str]] = {}
        for label, iou, name, strip in kept(
            self._pictures, self._each, lambda p: p[0], lambda p: (-p[1], p[2])
        ):  # fmt: skip
            pictures.setdefault(label, []).append(_figure(strip, f"{name}: IoU {100 * iou:.0f}"))
        classes = ((name, scores.images[name], f"{100 * value:.1f}") for name, value in scores.iou.items())
        body = (
            f"{table(facts.items())}<p><b>MIoU {100 * scores.miou:.1f}, FB-IoU {100 * scores.fb_iou:.1f}</b> "
            f"(foreground {100 * scores.foreground_iou:.1f}, background {100 * scores.background_iou:.1f})</p>"
            f"{table(classes, ('class', 'images', 'IoU'))}"
            "<p>Image, prediction, truth; from the best of each class to the worst.</p>"
        )
        write_page(path, title, body + "".join(f"<h2>{html.escape(k)}</h2>{''.join(v)}" for k, v in pictures.items()))


def _episode(result: Result, k: int) -> str:
    """The pictures of `_COLUMNS` side by side, and what to say below."""
    r = result.rollouts[k]
    case = result.cases[r.case]
    rule = result.fixed[case.label]
    rule = rule if usable(rule, r) else "last"
    at = choose(rule, r)
    parts = [
        _rgb(case.image),
        _rgb(r.images[at]),
        overlay(r.images[at], final_mask(rule, r)),
        overlay(case.image, r.answers[0].mask),
        overlay(case.image, case.truth),
    ]
    how = "by vote" if rule == "vote" else f"after round {at}" if at else "the image as it came"
    text = f"{case.name or case.label}: reward {100 * r.rewards[0]:.0f} alone, {100 * final_reward(rule, r):.0f} {how}"
    return _figure(_strip(parts, WIDTH), text)


def _said(name: str, runs: Sequence[Result]) -> str:
    """One group's result in a line."""
    miou = next(r for r in main_table(runs) if r.name == SDIE).figures["MIoU"]
    told = f"{html.escape(name)}: " if name else ""
    return (
        f"<p class='said'>{told}<b>SDIE {miou} MIoU, {gain(runs).mean:+.1f} against the segmenter alone</b>"
        f" (rule: {html.escape(runs[0].rule)}, fixed before these images were seen)</p>"
    )


def _compared(name: str, runs: Sequence[Result]) -> str:
    """One group beside its baselines, and its selection rules."""
    rows = main_table(runs)
    mious = [(r.name, r.figures["MIoU"].mean, max(r.figures["MIoU"].deviation, 0.0)) for r in rows]
    told = f", {html.escape(name)}" if name else ""
    return (
        f"<h2>Against what it must beat{told}</h2>{chart(comparison(mious, 'MIoU, %'), 'MIoU of each way of acting')}"
        f"{_figures(rows, '')}<p>The oracle picks each image's best round by the truth; no line can. It lifts chance too, which is"
        f" why it stands beside every way of acting. It goes by each image's own reward and takes none unenhanced, so that a class's"
        f" sums may come out higher by a rule that does not see the truth.</p>"
        f"<h2>Which mask is final{told}</h2>{_figures(rule_table(runs), 'rule')}"
    )


def write_report(path: Path, title: str, results: Sequence[Result], curves: Sequence[bytes] = ()) -> None:
    """Write the page of what was learned, by atomic rename.

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
    facts = {**first.facts, "runs": len(results)}
    shown = [(k, v) for k, v in facts.items() if k not in ("shots", "seed") or len(results) == 1]
    paper = "".join(
        f"<p>In the paper (Liu et al. 2024; SAM ViT-H, oracle), on {html.escape(name)}: "
        + "; ".join(f"{k} {a} MIoU, {b} FB-IoU" for k, (a, b) in figures.items())
        + ".</p>"
        for name, figures in PAPER.items()
        if name.lower() in str(first.facts.get("data", "")).lower()
    )
    pictures: dict[str, list[str]] = {}
    for k, rollout in enumerate(first.rollouts):
        pictures.setdefault(first.cases[rollout.case].label, []).append(_episode(first, k))
    heads = "".join(f"<span>{name}</span>" for name in _COLUMNS)
    weights = weights_per_round(mean_weights(results), first.filters)
    write_page(
        path,
        title,
        f"{''.join(_said(*group) for group in groups.items())}{table(shown)}"
        "<h2>Class by class</h2><p>IoU in percent, intersections and unions summed over each class's images.</p>"
        f"{_figures(class_table(results), 'class')}{paper}{''.join(_compared(*group) for group in groups.items())}"
        f"<h2>What the policy does</h2>{chart(weights, 'weights of each round')}"
        f"{''.join(chart(curve, 'return curve') for curve in curves)}"
        "<h2>Pictures</h2><p>Of each class from the image that enhancement helped most to the one it harmed most.</p>"
        + "".join(
            f'<h3>{html.escape(k)}</h3><div class="heads">{heads}</div>{"".join(v)}' for k, v in pictures.items()
        ),
    )
