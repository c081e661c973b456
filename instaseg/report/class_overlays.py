"""Pictures of classes: one colour each over the image, and where they are wrong; their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from instaseg.io.arrays import ArraySource
from instaseg.report.config import VisualizeSettings
from instaseg.report.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    YELLOW,
    new_figure,
    tidy,
)
from instaseg.report.overlays import (
    LineStyle,
    displayed,
    legend_above,
    picture_panels,
    shown_plane,
)

CLASS_COLOURS = (ORANGE, SKY, GREEN, PINK, YELLOW, BLUE)
"""Colours of classes 1, 2 ...; they repeat after the last."""

_FILL = 0.45
_ERROR_FILL = 0.6
_WRONG = VERMILLION
_IGNORED = "#000000"


def class_colour(number: int) -> str:
    """Return the colour of a class; the background has none."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def class_figure(
    raw: ArraySource,
    prediction: ArraySource,
    truth: ArraySource | None,
    *,
    settings: VisualizeSettings,
    title: str = "",
) -> Figure:
    """Draw the image, true and predicted classes, and the voxels whose class is wrong.

    Parameters
    ----------
    raw : array, (c, [z,] y, x)
        The image, as the others in memory or on disk.
    prediction : array of int, ([z,] y, x)
        Classes.
    truth : array of int, ([z,] y, x), optional
        Classes, negative where there is none; without it there are two panels only.
    settings : VisualizeSettings
        How it looks. Of volumes the middle plane is shown, or for every pixel the greatest class
        along z.
    title : str
        Line above the panels.

    Returns
    -------
    Figure
    """
    found = shown_plane(prediction, settings, lead=0)
    figure, panels = picture_panels(displayed(raw, settings), 2 if truth is None else 4, title)
    panels[0].set_title("image", fontsize=9)
    shown = sorted({int(n) for n in np.unique(found)} - {0})
    if truth is None:
        _fill(panels[1], found, "prediction", shown)
        return figure
    true = shown_plane(truth, settings, lead=0)
    shown = sorted({*shown, *(int(n) for n in np.unique(true))} - {0, -1})
    _fill(panels[1], true, "truth", shown)
    _fill(panels[2], found, "prediction", shown)
    wrong = (true >= 0) & (true != found)
    _show(panels[3], np.where(wrong, 1, 0), [to_rgb(_WRONG)], _ERROR_FILL)
    _show(panels[3], np.where(true < 0, 1, 0), [to_rgb(_IGNORED)], _ERROR_FILL)
    compared = int((true >= 0).sum())
    share = 100 * wrong.sum() / compared if compared else 0.0
    legend_above(panels[3], [(f"wrong, {share:.1f} % of the pixels shown", _WRONG, "-")])
    return figure


def _fill(axes: Any, classes: NDArray[Any], title: str, shown: Sequence[int]) -> None:
    """Fill every class with its colour; names are those of all panels."""
    colours = [to_rgb(class_colour(number)) for number in shown]
    place = np.zeros(max([0, *shown]) + 1, np.int64)
    place[list(shown)] = np.arange(1, len(shown) + 1)
    _show(axes, place[np.maximum(classes, 0)], colours, _FILL)
    entries: list[tuple[str, str, LineStyle]] = [(title, "none", "-")]
    entries += [(f"class {number}", class_colour(number), "-") for number in shown[:6]]
    legend_above(axes, entries)


def _show(
    axes: Any, numbers: NDArray[Any], colours: Sequence[tuple[float, ...]], fill: float
) -> None:
    """Draw numbers from 1 in their colours; 0 stays clear."""
    table = np.array([(0.0, 0.0, 0.0, 0.0), *((*colour, fill) for colour in colours)])
    axes.imshow(table[numbers], interpolation="nearest")


def class_score_figure(averages: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the IoU of every class, side by side for all methods.

    Parameters
    ----------
    averages : mapping
        Scores by name of the method, as of :func:`instaseg.metrics.classes.class_scores`.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    width = 0.8 / max(len(averages), 1)
    for number, (name, scores) in enumerate(averages.items()):
        classes = [int(key) for key in scores["classes"]]
        ious = [of_one["iou"] for of_one in scores["classes"].values()]
        places = np.array(classes) + (number - (len(averages) - 1) / 2) * width
        axes.bar(places, ious, width, label=name, color=(BLUE, ORANGE, GREEN, PINK)[number % 4])
        axes.set_xticks(classes, [f"class {n}" if n else "background" for n in classes])
    axes.set_ylim(0, 1)
    axes.set_ylabel("IoU")
    axes.legend(frameon=False)
    tidy(axes)
    return figure
