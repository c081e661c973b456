"""Curves: loss against iteration, score against threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from instaseg.metrics.config import threshold_key, with_needed
from instaseg.metrics.summary import value_of
from instaseg.report.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    new_figure,
    tidy,
)

_PARTS = (ORANGE, GREEN, PINK, SKY)
_METHODS = (BLUE, ORANGE, GREEN, PINK)
_VALIDATION = "validation_"


def loss_figure(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Draw a training's loss, its parts, the validation loss and the learning rate.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of the training log by column: ``iteration``, ``loss``, parts ``loss_<name>``,
        ``validation_loss``, ``learning_rate``; columns that a row lacks are not drawn there.

    Returns
    -------
    Figure
    """
    figure = new_figure(8, 5)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    parts = [name for name in columns if name.startswith("loss_")]
    # one part alone is the loss itself
    for number, name in enumerate(parts if len(parts) > 1 else []):
        colour = _PARTS[number % len(_PARTS)]
        x, y = _column(rows, name)
        loss.plot(x, _smooth(y), color=colour, linewidth=1, label=name.removeprefix("loss_"))
    x, y = _column(rows, "loss")
    loss.plot(x, y, color=BLACK, linewidth=0.6, alpha=0.25)
    loss.plot(x, _smooth(y), color=BLACK, linewidth=1.6, label="loss, smoothed")
    x, validated = _column(rows, _VALIDATION + "loss")
    if len(x):
        loss.plot(x, validated, color=VERMILLION, marker="o", markersize=3.5, label="validation")
    _scale(loss, np.concatenate([y, validated]))
    loss.set_ylabel("loss")
    if len(loss.get_lines()) and len(y):
        loss.legend(frameon=False)
    else:
        loss.text(0.5, 0.5, "no rows in the log", ha="center", transform=loss.transAxes)
    rate.plot(*_column(rows, "learning_rate"), color=GREY)
    rate.set_ylabel("learning\nrate")
    rate.set_ylim(bottom=0)
    rate.set_xlabel("iteration")
    for axes in (loss, rate):
        tidy(axes)
    figure.align_ylabels()
    return figure


def score_figure(
    scores: Mapping[str, Mapping[str, Any]], *, thresholds: Sequence[float] = ()
) -> Figure:
    """Draw S and F-score against the threshold of a match, one line for each method.

    Parameters
    ----------
    scores : mapping of str to dict
        Averaged scores (:mod:`instaseg.metrics.summary`) by name of the method; the first one is
        ours, others are drawn dashed.
    thresholds : sequence of float
        Thresholds to draw besides those every evaluation has.

    Returns
    -------
    Figure
    """
    figure = new_figure(9, 3.8)
    x = with_needed(thresholds)
    panels = zip(
        figure.subplots(1, 2, sharey=True),
        (("S", "S = TP / (TP + FP + FN)"), ("fscore", "F-score = 2 TP / (2 TP + FP + FN)")),
        strict=True,
    )
    for axes, (part, title) in panels:
        for number, (name, found) in enumerate(scores.items()):
            y = [value_of(dict(found), f"confusion_matrix.{threshold_key(t)}.{part}") for t in x]
            axes.plot(
                x,
                y,
                label=name,
                color=_METHODS[number % len(_METHODS)],
                linestyle="-" if number == 0 else "--",
                marker="o",
                markersize=3.5,
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("threshold")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        tidy(axes)
        if scores:
            axes.legend(frameon=False, loc="lower left")
    return figure


def _column(
    rows: Sequence[Mapping[str, float]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return iterations and values of the rows that have a column."""
    kept = [(row["iteration"], row[name]) for row in rows if name in row and "iteration" in row]
    table = np.array(kept, float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a running mean over a twentieth of the values, cut off at both ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    middle = np.arange(len(values))
    begin = np.maximum(middle - half, 0)
    end = np.minimum(middle + half + 1, len(values))
    return np.asarray((total[end] - total[begin]) / (end - begin))


def _scale(axes: Any, values: NDArray[np.float64]) -> None:
    """Use a logarithmic axis where the values span more than a factor of ten."""
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    elif len(values) and values.min() >= 0:
        axes.set_ylim(bottom=0)
