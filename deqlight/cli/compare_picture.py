"""Station 1, the comparison: its picture. A dot for each seed, the mean, and the spread, row by row."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .compare_rows import QUANTITIES, Row, metric_of
from .compare_store import put
from .compare_table import labels

__all__ = ["draw"]

DOTS = 110
"""Per inch."""
LABEL = 36
"""Characters in a line of a row's name."""


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw what has finished: one panel for each metric, the best row on top, its parameters beside it.

    Raises:
        ConfigError: naming the extra, where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("table.png needs matplotlib: pip install 'deqlight[plots]'") from error
    named = [(row, label) for row, label in zip(rows, labels(rows), strict=True) if row.score is not None]
    metrics = list(dict.fromkeys(str(row.metric) for row, _ in named))
    if not metrics:
        path.unlink(missing_ok=True)
        return
    heights = [1.0 + sum(row.metric == metric for row, _ in named) for metric in metrics]
    figure = Figure(figsize=(7.5, 0.6 * len(metrics) + 0.36 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(metrics), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        own = [(row, label) for row, label in named if row.metric == metric]
        for place, (row, _) in enumerate(own):
            score = row.score
            if score is not None:
                axes.plot(score.values, [place] * len(score.values), "o", color="C0", alpha=0.35, markersize=4, mew=0)
                axes.errorbar(score.mean, place, xerr=score.std, fmt="o", color="C0", capsize=3, markersize=6)
            parameters = QUANTITIES[0].spread(row.finished)
            axes.annotate(
                "" if parameters is None else f"{parameters.mean:,.0f}",
                (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8,
            )  # fmt: skip
        axes.set_yticks(range(len(own)), [textwrap.fill(label, LABEL) for _, label in own], fontsize=8)
        axes.set_ylim(len(own) - 0.5, -0.5)
        axes.set_xlabel(f"{metric_of(metric).title}: seeds, mean ± standard deviation")
        axes.set_title("parameters", fontsize=8, loc="right")
        axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DOTS, format="png")
    put(path, picture.getvalue())
