"""The benchmark's charts as SVG in memory, by matplotlib. Needs `pip install "sdie-fast[bench]"`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..filters import TABLE
from .cases import OURS
from .roofline import BYTES

__all__ = ["distributions", "roof", "scaling", "shares"]

Row = Mapping[str, Any]

_COLOURS = {
    "sdie_fast fast": "#56b4e9",
    "sdie_fast, one thread": "#56b4e9",
    OURS: "#0072b2",
    "OpenCV CLAHE": "#e69f00",
    "OpenCV": "#d55e00",
    "SciPy": "#009e73",
    "scikit-image": "#7fbf3f",
    "pyamg": "#cc79a7",
    "kornia-rs": "#8c564b",
    "kornia": "#9467bd",
}
_OWN = "#000000"  # the user's candidate


def _look(name: str) -> dict[str, str]:
    """Colour and label of a candidate: its library's, where its name begins with that."""
    for label, colour in _COLOURS.items():
        if name.startswith(label):
            return {"color": colour, "label": label}
    return {"color": _OWN, "label": name}


def _panels(
    count: int, *, width: float = 3.7, height: float = 2.5, most: int = 3, **options: Any
) -> tuple[Any, list[Any]]:
    """Make a figure of panels, each of so many inches, at most so many to a row."""
    from matplotlib.figure import Figure

    across = min(count, most)
    down = -(-count // across)
    figure = Figure((width * across, height * down + 0.4), layout="constrained")
    axes = list(np.ravel(figure.subplots(down, across, **options)))
    for axis in axes[count:]:
        axis.set_axis_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes[:count]


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """One legend below all panels, each name once."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=round(figure.get_figwidth() / 2.2),
        frameon=False,
        fontsize=8,
    )


def _svg(figure: Any) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "sdie_fast"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _plain(axis: Any) -> None:
    """Write ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(
        LogLocator(10, subs=(1.0, 2.0, 5.0) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 6, 8), numticks=8)
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def distributions(cases: Mapping[str, Sequence[Row]]) -> bytes:
    """Draw the share of calls done within a time, a panel for each case at one setting."""
    figure, axes = _panels(len(cases), sharey=True)
    for axis, (case, rows) in zip(axes, cases.items(), strict=True):
        for row in rows:
            times = np.sort(row["samples_ms"])
            places = np.unique(np.linspace(0, len(times) - 1, 200).round().astype(int))  # enough for the eye
            axis.step(times[places], (places + 1) / len(times), where="post", lw=1.6, **_look(row["candidate"]))
        axis.set_xscale("log")
        _plain(axis.xaxis)
        axis.set_title(case, fontsize=9, loc="left")
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 0.5, 0.9, 1], ["0", "50%", "90%", ""])
        axis.grid(alpha=0.25)
        axis.set_xlabel("ms", fontsize=8)
    _legend(figure, axes)
    return _svg(figure)


def scaling(key: str, label: str, cases: Mapping[str, Sequence[Row]]) -> bytes:
    """Draw megapixels a second over what was swept, a panel for each case.

    Parameters
    ----------
    key : str
        "pixels", "threads", "batch" or "rounds": the key of the rows that is x.
    label : str
        Of the x axis.
    cases : mapping of str to rows
        Over threads the dashed line is the first candidate's first figure times the threads.
    """
    figure, axes = _panels(len(cases))
    for axis, (case, rows) in zip(axes, cases.items(), strict=True):
        names = list(dict.fromkeys(row["candidate"] for row in rows))
        for name in names:
            line = sorted((row[key], row["mpx_per_s"]) for row in rows if row["candidate"] == name)
            axis.plot(*np.array(line).T, "o-", ms=4, lw=1.6, **_look(name))
            if key == "threads" and name == names[0]:
                x = np.array([x for x, _ in line], float)
                axis.plot(x, line[0][1] * x / x[0], "--", lw=1, color="#888888", label="in proportion to the first")
        ticks = {row[key]: row["size"] if key == "pixels" else row[key] for row in rows}
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(list(ticks), ticks.values())
        axis.set_xticks([], minor=True)
        axis.set_ylim(min(row["mpx_per_s"] for row in rows) / 1.5, max(row["mpx_per_s"] for row in rows) * 1.5)
        _plain(axis.yaxis)
        axis.set_title(case, fontsize=9, loc="left")
        axis.set_xlabel(label, fontsize=8)
        axis.set_ylabel("Mpx/s", fontsize=8)
        axis.grid(alpha=0.25)
    _legend(figure, axes)
    return _svg(figure)


def shares(sizes: Mapping[str, Sequence[Row]]) -> bytes:
    """Draw what each filter takes alone, and what the round is quicker by without it; a panel for each size."""
    figure, axes = _panels(len(sizes), width=5.5, height=2.8, most=2)
    for axis, (size, rows) in zip(axes, sizes.items(), strict=True):
        times = {row["candidate"]: row["median_ms"] for row in rows}
        whole = times[OURS]
        names = [name for name in TABLE if f"{OURS}, {name} only" in times][::-1]
        places = np.arange(len(names))
        alone = [times[f"{OURS}, {name} only"] for name in names]
        saved = [whole - times[f"{OURS}, no {name}"] for name in names]
        colours = [TABLE[name].colour for name in names]
        drawn = axis.barh(places + 0.2, alone, 0.36, color=colours)
        axis.bar_label(drawn, [f"{v:.3g}" for v in alone], padding=3, fontsize=7)
        drawn = axis.barh(places - 0.2, saved, 0.36, color=colours, alpha=0.45, hatch="///", edgecolor="white")
        axis.bar_label(drawn, [f"{v:.3g}" for v in saved], padding=3, fontsize=7)
        axis.set_yticks(places, names)
        axis.axvline(0, color="#555555", lw=0.8)
        axis.margins(x=0.2)
        axis.set_title(f"{size}: the round takes {whole:.3g} ms", fontsize=9, loc="left")
        axis.set_xlabel("ms", fontsize=8)
    return _svg(figure)


def _names(axis: Any, x: Any, y: Any, names: Sequence[str]) -> None:
    """Write names beside points: right, left, above or below, the first of these that covers nothing."""
    places = axis.transData.transform(np.column_stack([x, y])) * 72 / axis.figure.dpi  # in points of 1/72 inch
    boxes = [(left - 4, left + 4, up - 4, up + 4) for left, up in places]
    for k, name in enumerate(names):
        wide = 4.6 * len(name)
        for begin, up in ((7, 0), (-7 - wide, 0), (-wide / 2, 9), (-wide / 2, -9), (7, 9), (7, -9), (7, 0)):
            left, middle = places[k] + (begin, up)
            box = (left, left + wide, middle - 4, middle + 4)
            if not any(box[0] < r and box[1] > el and box[2] < t and box[3] > b for el, r, b, t in boxes):
                break
        boxes.append(box)
        axis.annotate(
            name, (x[k], y[k]), va="center", fontsize=8, textcoords="offset points", xytext=(begin, up - 1)
        )  # fmt: skip


def roof(rows: Sequence[Row], bytes_per_s: float, multiply_adds: float) -> bytes:
    """Draw multiply-adds a second over multiply-adds a byte, below what memory and arithmetic allow.

    Parameters
    ----------
    rows : sequence of row
        Our candidates with their "operations" a pixel.
    bytes_per_s, multiply_adds : float
        Measured rates.
    """
    figure, (axis,) = _panels(1, width=6.6, height=4.2)
    x = np.array([row["operations"] / BYTES for row in rows])
    y = np.array([row["operations"] * row["mpx_per_s"] / 1e3 for row in rows])
    across = np.geomspace(min(x.min(), 1.0) / 2, x.max() * 3, 100)
    axis.plot(across, np.minimum(across * bytes_per_s, multiply_adds) / 1e9, color="#555555", lw=1.5)
    axis.annotate(
        f"{multiply_adds / 1e9:.0f} G/s, a product of matrices", (across[-1], multiply_adds / 1e9),
        ha="right", va="bottom", fontsize=8, xytext=(0, 3), textcoords="offset points",
    )  # fmt: skip
    axis.annotate(
        f"{bytes_per_s / 1e9:.0f} GB/s, a copy", (across[0], across[0] * bytes_per_s / 1e9),
        ha="left", va="top", fontsize=8, xytext=(10, 4), textcoords="offset points",
    )  # fmt: skip
    for k, row in enumerate(rows):
        colour = TABLE[row["case"]].colour if row["case"] in TABLE else "#000000"
        axis.plot(x[k], y[k], "o", color=colour, ms=7, mfc="white" if row["candidate"].endswith(" fast") else colour)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(across[0], across[-1])
    axis.set_ylim(y.min() / 2, max(y.max(), multiply_adds / 1e9) * 2)
    _names(axis, x, y, [row["case"] + row["candidate"].removeprefix(OURS) for row in rows])
    _plain(axis.xaxis)
    _plain(axis.yaxis)
    axis.set_xlabel("multiply-adds a byte read or written, at the least", fontsize=9)
    axis.set_ylabel("G multiply-adds a second, at the least", fontsize=9)
    axis.grid(alpha=0.25)
    return _svg(figure)
