"""An evaluation as one HTML file with its pictures in it."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .._files import replace_file
from .run import Case, Evaluation

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; }
table { border-collapse: collapse; } td, th { padding: .2em .9em .2em 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { border-bottom: 1px solid #999; }
figure { display: inline-block; margin: .4em .6em .4em 0; } figcaption { font-size: 12px; color: #555; }
img { display: block; image-rendering: pixelated; }
"""


def overlay(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Paint a mask's foreground half red over a grey picture: (H, W, 3)."""
    colour = np.repeat(image[..., None], 3, 2).astype(np.float32)
    colour[mask] = 0.55 * colour[mask] + 0.45 * np.array([255, 40, 40], np.float32)
    return colour.astype(np.uint8)


def _strip(case: Case) -> str:
    """Image, prediction and truth side by side, as a data URL."""
    parts = [
        np.repeat(case.image[..., None], 3, 2),
        overlay(case.image, case.prediction),
        overlay(case.image, case.truth),
    ]
    gap = np.full((case.image.shape[0], 4, 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([parts[0], gap, parts[1], gap, parts[2]], 1))
    picture.thumbnail((640, 640))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


class Report:
    """Collects cases, a few of each class, and writes the page.

    Parameters
    ----------
    each : int
        Pictures kept of each class: the best, the worst, and what lies between in equal steps.
    """

    def __init__(self, each: int = 8) -> None:
        self._each = each
        self._cases: dict[str, list[tuple[float, str, str]]] = {}

    def add(self, case: Case) -> None:
        """Keep one case."""
        self._cases.setdefault(case.sample.label, []).append((case.iou, case.sample.name, _strip(case)))

    def write(self, path: Path, title: str, facts: dict[str, Any], evaluation: Evaluation) -> None:
        """Write the page, by atomic rename."""
        scores = evaluation.scores
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{scores.images[name]}</td><td>{100 * value:.1f}</td></tr>"
            for name, value in scores.iou.items()
        )
        known = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
        pictures = []
        for label, cases in self._cases.items():
            ordered = sorted(cases, key=lambda c: (-c[0], c[1]))
            picked = np.unique(np.linspace(0, len(ordered) - 1, min(self._each, len(ordered))).round().astype(int))
            figures = "".join(
                f'<figure><img src="{ordered[k][2]}" alt=""><figcaption>{html.escape(ordered[k][1])}: '
                f"IoU {100 * ordered[k][0]:.0f}</figcaption></figure>"
                for k in picked
            )
            pictures.append(f"<h2>{html.escape(label)}</h2>{figures}")
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><table>{known}</table>"
            f"<p><b>MIoU {100 * scores.miou:.1f}, FB-IoU {100 * scores.fb_iou:.1f}</b> "
            f"(foreground {100 * scores.foreground_iou:.1f}, background {100 * scores.background_iou:.1f})</p>"
            f"<table><tr><th>class</th><th>images</th><th>IoU</th></tr>{rows}</table>"
            f"<p>Image, prediction, truth; from the best of each class to the worst.</p>{''.join(pictures)}</html>\n"
        )
        replace_file(path, lambda file: file.write(page.encode()))
