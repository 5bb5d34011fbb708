"""Charts as PNG files in memory, by matplotlib. Needs `pip install "sdie-fast[train]"`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..filters import FILTERS

# Of the six filters, in order; told apart by the colour-blind too (Okabe and Ito).
COLOURS = ("#bbbbbb", "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def return_curve(history: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the return of each episode, exploring and greedy, over the segmentations spent (the paper's Figs. 3 to 6)."""
    figure, axes = _figure(7.0, 3.6)
    x = np.array([row["segmentations"] for row in history])
    y = np.array([row["return"] for row in history])
    axes.plot(x, y, color="#bbbbbb", lw=1, label="exploring")
    if len(y) >= 5:
        smooth = np.convolve(y, np.ones(5) / 5, "valid")
        axes.plot(x[4:], smooth, color="#0072b2", lw=2, label="mean of five")
    greedy = [(row["segmentations"], row["greedy_return"]) for row in history if "greedy_return" in row]
    if greedy:
        axes.plot(*np.array(greedy).T, "o-", color="#d55e00", ms=4, lw=1.5, label="without exploration")
    axes.set_xlabel("segmentations")
    axes.set_ylabel("return, mean of the shots")
    axes.legend(frameon=False)
    return _png(figure)


def weights_per_round(weights: npt.NDArray[Any]) -> bytes:
    """Draw the mean weight of each filter in each round, stacked: weights (T, 6)."""
    figure, axes = _figure(5.6, 3.2)
    base = np.zeros(len(weights))
    rounds = np.arange(1, len(weights) + 1)
    for k, name in enumerate(FILTERS):
        axes.bar(rounds, weights[:, k], 0.75, base, color=COLOURS[k], label=name)
        base += weights[:, k]
    axes.set_xlabel("round")
    axes.set_ylabel("weight")
    axes.set_xticks(rounds[:: -(-len(rounds) // 10)])  # labels that do not overlap
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    return _png(figure)


def comparison(rows: Sequence[tuple[str, float, float]], unit: str) -> bytes:
    """Draw named values with their spread as horizontal bars, the first row uppermost: (name, value, spread)."""
    figure, axes = _figure(7.0, 0.32 * len(rows) + 0.9)
    names = [name for name, _, _ in rows][::-1]
    values = [value for _, value, _ in rows][::-1]
    spread = [s for _, _, s in rows][::-1]
    colours = ["#0072b2" if name.startswith("SDIE") else "#bbbbbb" for name in names]
    bars = axes.barh(names, values, color=colours, xerr=spread, ecolor="#555555", capsize=2)
    axes.bar_label(bars, [f"{v:.1f}" for v in values], padding=4, fontsize=8)
    axes.set_xlabel(unit)
    return _png(figure)
