"""The return curve of a run (the paper's Figs. 3 to 6), by matplotlib. Needs `pip install "sdie-fast[train]"`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["new_figure", "png_of", "return_curve"]


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Make a matplotlib figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png_of(figure: Any) -> bytes:
    """Draw a figure as a PNG file in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def return_curve(history: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the return of each episode, exploring and greedy, over the segmentations spent; PNG."""
    figure, axes = new_figure(7.0, 3.6)
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
    return png_of(figure)
