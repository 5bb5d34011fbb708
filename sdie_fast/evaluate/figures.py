"""Charts as PNG files in memory, by matplotlib. Needs `pip install "sdie-fast[train]"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters import TABLE
from ..learn.curve import new_figure, png_of

__all__ = ["comparison", "weights_per_round"]


def weights_per_round(weights: npt.NDArray[Any], filters: Sequence[str]) -> bytes:
    """Draw the mean weight of each filter in each round, stacked: weights (T, F) of those filters."""
    figure, axes = new_figure(5.6, 3.2)
    base = np.zeros(len(weights))
    rounds = np.arange(1, len(weights) + 1)
    for k, name in enumerate(filters):
        axes.bar(rounds, weights[:, k], 0.75, base, color=TABLE[name].colour, label=name)
        base += weights[:, k]
    axes.set_xlabel("round")
    axes.set_ylabel("weight")
    axes.set_xticks(rounds[:: -(-len(rounds) // 10)])  # labels that do not overlap
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    return png_of(figure)


def comparison(rows: Sequence[tuple[str, float, float]], unit: str) -> bytes:
    """Draw named values with their spread as horizontal bars, the first row uppermost: (name, value, spread)."""
    figure, axes = new_figure(7.0, 0.32 * len(rows) + 0.9)
    names = [name for name, _, _ in rows][::-1]
    values = [value for _, value, _ in rows][::-1]
    spread = [s for _, _, s in rows][::-1]
    colours = ["#0072b2" if name.startswith("SDIE") else "#bbbbbb" for name in names]
    bars = axes.barh(names, values, color=colours, xerr=spread, ecolor="#555555", capsize=2)
    axes.bar_label(bars, [f"{v:.1f}" for v in values], padding=4, fontsize=8)
    axes.set_xlabel(unit)
    return png_of(figure)
