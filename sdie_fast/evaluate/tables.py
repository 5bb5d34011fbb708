"""The tables of an evaluation: SDIE beside the segmenter alone and the baselines, with the spread over runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..learn.places import Floats
from .judge import ALONE, SDIE, Result
from .metrics import Scores

__all__ = [
    "PAPER", "Row", "Spread", "by_shots", "class_table", "gain", "main_table", "mean_weights", "rule_table", "spread",
]  # fmt: skip

# Liu et al. 2024, tables 1 and 2: MIoU and FB-IoU in percent, with SAM ViT-H and the oracle.
PAPER = {
    "FSSD-12": {"SAM alone": (43.7, 67.1), "SDIE, 1 shot": (61.3, 76.3), "SDIE, 5 shots": (62.8, 77.6)},
    "Defects-4i": {"SAM alone": (31.74, 65.72), "SDIE, 1 shot": (39.77, 66.23), "SDIE, 5 shots": (43.96, 68.32)},
}  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs, in percent."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        return f"{self.mean:.1f}" + (f" ± {self.deviation:.1f}" if self.deviation >= 0 else "")


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of shares; of a single one, no spread (-1)."""
    percent = 100.0 * np.asarray(values, np.float64)
    return Spread(float(percent.mean()), float(percent.std(ddof=1)) if len(percent) > 1 else -1.0)


@dataclass(frozen=True)
class Row:
    """One line: a way of acting, and its figures in percent."""

    name: str
    figures: dict[str, Spread]


def _ious(scores: Sequence[Scores]) -> dict[str, Spread]:
    return {"MIoU": spread([s.miou for s in scores]), "FB-IoU": spread([s.fb_iou for s in scores])}


def main_table(results: Sequence[Result]) -> list[Row]:
    """MIoU and FB-IoU of each way of acting under the rule fixed on the shots, and MIoU under the oracle.

    The oracle sees the truth; it is given for every way of acting, chance included, since the best of several rounds
    lifts any of them.
    """
    rows = []
    for name in (ALONE, *(n for n in results[0].scores if n != ALONE)):
        if all(name in r.scores for r in results):
            told = _ious([r.headline(name) for r in results])
            best = _ious([r.scores[name]["oracle"] for r in results])
            rows.append(Row(name, told | {f"oracle {k}": v for k, v in best.items()}))
    return rows


def by_shots(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Runs that differ by their seed alone, by what tells them from the others: "1 shot", "5 shots"; "" for bare recipes."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        shots = result.facts.get("shots")
        named = "" if shots is None else f"{shots} shot" + "s" * (shots > 1)
        groups.setdefault(named, []).append(result)
    return groups


def class_table(results: Sequence[Result]) -> list[Row]:
    """The paper's Tables 1 and 2: IoU of each class, MIoU and FB-IoU, of the segmenter alone, and of SDIE by number of shots.

    SDIE under the rule fixed on the shots, and under the oracle.
    """
    groups = by_shots(results)

    def figures(of: Callable[[Scores], float]) -> dict[str, Spread]:
        found = {ALONE: spread([of(r.headline(ALONE)) for r in results])}
        for name, runs in groups.items():
            told = f", {name}" if len(groups) > 1 else ""
            found[SDIE + told] = spread([of(r.headline()) for r in runs])
            found["oracle" + told] = spread([of(r.scores[SDIE]["oracle"]) for r in runs])
        return found

    rows = [
        Row(label, figures(lambda s, label=label: s.iou[label]))  # type: ignore[misc]
        for label in results[0].headline().iou
    ]
    return [*rows, Row("MIoU", figures(lambda s: s.miou)), Row("FB-IoU", figures(lambda s: s.fb_iou))]


def rule_table(results: Sequence[Result]) -> list[Row]:
    """Every selection rule on SDIE's own rounds: MIoU and FB-IoU, rank correlation with the reward, and regret."""
    rows = []
    for rule in results[0].rules:
        if all(rule in r.rules for r in results):
            judged = [r.rules[rule] for r in results]
            figures = {
                "Spearman x 100": spread([j.correlation for j in judged]),
                "regret x 100": spread([j.regret for j in judged]),
            }
            rows.append(Row(rule, _ious([r.scores[SDIE][rule] for r in results]) | figures))
    return rows


def gain(results: Sequence[Result]) -> Spread:
    """SDIE's MIoU above the segmenter's alone, run by run."""
    return spread([r.headline().miou - r.headline(ALONE).miou for r in results])


def mean_weights(results: Sequence[Result]) -> Floats:
    """Mean weights (T, F) over the runs that have the first one's toolkit and rounds."""
    first = results[0]
    same = [r.weights for r in results if (r.filters, r.weights.shape) == (first.filters, first.weights.shape)]
    return np.asarray(np.mean(same, 0), np.float32)
