"""Where training crops are taken: the place in image and labels, and the crop before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from instaseg.geometry import Box
from instaseg.report.config import VisualizeSettings
from instaseg.report.figures import BLUE, VERMILLION, new_figure
from instaseg.report.overlays import INSTANCE_COLOURS, displayed

_PANEL_INCHES = 3.2
_NO_CLASS = "#8C8C8C"


@dataclass(frozen=True)
class View:
    """A picture of an image with its labels.

    Parameters
    ----------
    raw : ndarray, (c, y, x)
        The image.
    labels : ndarray of int, (l, y, x)
        Layers of instances, or classes; negative where there is none.
    """

    raw: NDArray[Any]
    labels: NDArray[Any]


def section(raw: NDArray[Any], labels: NDArray[Any]) -> View:
    """Return the middle plane of a volume, or an image as it is.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        The image.
    labels : ndarray of int, (l, [z,] y, x)
        Its labels; their z axis may be shorter, with the same middle.
    """
    if raw.ndim == 3:
        return View(raw, labels)
    return View(raw[:, raw.shape[1] // 2], labels[:, labels.shape[1] // 2])


def crop_figure(
    whole: View,
    crops: Sequence[tuple[str, View]],
    *,
    box: Box,
    voxel: Sequence[int] | None,
    settings: VisualizeSettings,
    title: str = "",
) -> Figure:
    """Draw image and labels with the outline of a crop, and versions of the crop beside them.

    Parameters
    ----------
    whole : View
        The plane of the image that the crop is taken from.
    crops : sequence of (str, View)
        What each version is called, and the crop.
    box : Box
        Outline of the crop in the plane, ``y, x``, in voxels; may leave the image.
    voxel : sequence of int, optional
        The voxel the crop was chosen for, ``y, x``.
    settings : VisualizeSettings
        Brightness of the images.
    title : str
        Line above the panels.

    Returns
    -------
    Figure
        Images above, labels below.
    """
    columns = 1 + len(crops)
    figure = new_figure(columns * _PANEL_INCHES, 2 * _PANEL_INCHES + 0.5)
    if title:
        figure.suptitle(title, fontsize=10)
    panels = figure.subplots(2, columns, squeeze=False)
    for column, (name, view) in enumerate([("whole image", whole), *crops]):
        pictures = (displayed(view.raw, settings), label_colours(view.labels))
        for axes, picture in zip(panels[:, column], pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
        panels[0, column].set_title(name, fontsize=9)
    for axes in panels[:, 0]:
        mark(axes, box, voxel)
    return figure


def mark(axes: Any, box: Box, voxel: Sequence[int] | None) -> None:
    """Draw the outline of a box with its own height and width, and a point at a voxel."""
    (y, x), (height, width) = box.begin, box.shape
    # pixels lie around whole numbers
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, ec=BLUE, lw=1.6))
    if voxel is not None:
        axes.plot([voxel[1]], [voxel[0]], marker="s", markersize=4, color=VERMILLION)


def label_colours(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return a picture ``(y, x, 3)`` of layers of labels, black where there is none.

    Numbers that follow each other have different colours; what is negative is grey.
    """
    numbers = labels.max(axis=0)
    colours = np.array([to_rgb(colour) for colour in INSTANCE_COLOURS])
    picture = np.zeros((*numbers.shape, 3))
    inside = numbers > 0
    picture[inside] = colours[(numbers[inside] - 1) % len(colours)]
    picture[numbers < 0] = to_rgb(_NO_CLASS)
    return picture
