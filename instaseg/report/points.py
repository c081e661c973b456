"""One picture per sample of points: where they are, their connections, and the errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from instaseg.io.arrays import ArraySource
from instaseg.io.points import KINDS, Points, connections, positions, rows_of
from instaseg.metrics.points import Matches
from instaseg.report.config import VisualizeSettings
from instaseg.report.figures import GREEN, ORANGE, SKY, VERMILLION, new_figure
from instaseg.report.overlays import displayed

_SHAPES = {"pre": "^", "post": "o", "cleft": "s"}
_PANEL_INCHES = 6.0


def points_figure(
    raw: ArraySource,
    predicted: Points,
    *,
    truth: tuple[Points, dict[str, Matches]] | None,
    settings: VisualizeSettings,
    title: str = "",
) -> Figure:
    """Draw points over the image, those of volumes projected along z.

    Parameters
    ----------
    raw : (c, [z,] y, x)
        The image, in memory or on disk.
    predicted : (n, 4 + axes) float64
        Table of points; see :mod:`instaseg.io.points`.
    truth : (table, matches), optional
        Ground truth and what :func:`instaseg.metrics.points.matches_of` found: matched predictions
        are then green, false ones red, and missed points blue.
    settings : VisualizeSettings
        How it looks.
    title : str
        Line above the picture.
    """
    picture = displayed(raw, settings)
    height, width = picture.shape[:2]
    scale = _PANEL_INCHES / max(height, width, 1)
    figure = new_figure(max(width * scale, 3.0), max(height * scale, 2.0) + 0.8)
    axes: Any = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    pairs = connections(predicted)
    ends = positions(predicted)[:, -2:][:, ::-1][pairs]
    axes.add_collection(LineCollection(list(ends), colors=ORANGE, linewidths=0.8))
    handles = []
    for kind, name in enumerate(KINDS):
        for label, table, rows, colour in _groups(predicted, kind, truth):
            if not len(rows):
                continue
            x, y = positions(table)[rows][:, [-1, -2]].T
            axes.scatter(
                x, y, s=18, marker=_SHAPES[name], facecolors="none", edgecolors=colour, linewidths=1
            )
            handles.append(
                Line2D(
                    [],
                    [],
                    color=colour,
                    marker=_SHAPES[name],
                    linestyle="none",
                    markerfacecolor="none",
                    label=f"{name} {label}, {len(rows)}",
                )
            )
    if handles:
        axes.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=3,
            fontsize=8,
            facecolor="#444444",
            edgecolor="none",
            labelcolor="white",
        )
    return figure


def _groups(
    predicted: Points, kind: int, truth: tuple[Points, dict[str, Matches]] | None
) -> list[tuple[str, Points, NDArray[np.intp], str]]:
    """Return groups of points of a kind: their name, table, rows and colour."""
    mine = rows_of(predicted, kind)
    if truth is None:
        return [("predicted", predicted, mine, ORANGE)]
    table, matches = truth
    found = matches[KINDS[kind]]
    theirs = rows_of(table, kind)
    return [
        ("matched", predicted, mine[found.predicted], GREEN),
        ("false", predicted, np.delete(mine, found.predicted), VERMILLION),
        ("missed", table, np.delete(theirs, found.truth), SKY),
    ]
