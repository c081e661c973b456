"""One picture per sample: the image, both sides' outlines, and the errors by kind.

Where instances overlap, or their projections do, there is a panel more that shows every predicted
instance in a colour of its own: there colours mix, and both outlines run on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.measure import find_contours

from instaseg.metrics.kinds import Errors, Kind
from instaseg.metrics.overlaps import Instances, find_instances
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
)

KIND_COLOURS: dict[Kind, str] = {
    "matched": GREEN,
    "missed": SKY,
    "inexact": ORANGE,
    "false": VERMILLION,
    "split": YELLOW,
    "merged": PINK,
}
"""Colour of every kind of instance, in the order of the legend."""

INSTANCE_COLOURS = (ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PINK)
"""Colours of single instances; instances whose boxes touch get different ones if there are enough.
"""

_TRUTH = "#FFFFFF"
_PREDICTION = ORANGE
_FILL = 0.35
_FILL_CROSSING = 0.75
_PANEL_INCHES = 4.6
_HEADER_INCHES = 0.75

# scikit-image has no type annotations
_find_contours: Any = find_contours

Line = NDArray[np.float64]
LineStyle = Literal["-", "--"]


def overlay_figure(
    raw: NDArray[Any], errors: Errors, *, settings: VisualizeSettings, title: str = ""
) -> Figure:
    """Draw the image, the outlines of truth and prediction, and the errors by kind.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        The image; one channel is shown grey, two as magenta and green, three as red, green and
        blue, of more the mean.
    errors : Errors
        What :func:`instaseg.metrics.kinds.find_errors` found in it.
    settings : VisualizeSettings
        How it looks.
    title : str
        Line above the panels.

    Returns
    -------
    Figure
    """
    crossing = _overlapping(errors.truth, settings) or _overlapping(errors.prediction, settings)
    figure, panels = picture_panels(displayed(raw, settings), 4 if crossing else 3, title)
    truth = instance_outlines(errors.truth, settings)
    prediction = instance_outlines(errors.prediction, settings)
    _draw(panels[1], _flat(truth), _TRUTH, settings, style="solid")
    _draw(panels[1], _flat(prediction), _PREDICTION, settings, style=(0, (3, 1.5)))
    _draw_errors(panels[2], errors, (truth, prediction), settings)
    panels[0].set_title("image", fontsize=9)
    legend_above(
        panels[1],
        [
            (f"truth, {len(errors.truth)}", _TRUTH, "-"),
            (f"prediction, {len(errors.prediction)}", _PREDICTION, "--"),
        ],
    )
    legend_above(
        panels[2],
        [(f"{kind}, {errors.count(kind)}", colour, "-") for kind, colour in KIND_COLOURS.items()],
    )
    if crossing:
        _draw_single(panels[3], errors.prediction, prediction, settings)
    return figure


def prediction_figure(
    raw: NDArray[Any], instances: NDArray[Any], *, settings: VisualizeSettings, title: str = ""
) -> Figure:
    """Draw the image and the predicted outlines, for samples without ground truth.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        The image.
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Predicted instances.
    settings : VisualizeSettings
        How it looks.
    title : str
        Line above the panels.

    Returns
    -------
    Figure
    """
    found = find_instances(instances, ndim=raw.ndim - 1, name="instances")
    crossing = _overlapping(found, settings)
    figure, panels = picture_panels(displayed(raw, settings), 3 if crossing else 2, title)
    outlines = instance_outlines(found, settings)
    _draw(panels[1], _flat(outlines), _PREDICTION, settings, style="solid")
    panels[0].set_title("image", fontsize=9)
    legend_above(panels[1], [(f"prediction, {len(found)}", _PREDICTION, "-")])
    if crossing:
        _draw_single(panels[2], found, outlines, settings)
    return figure


def displayed(raw: NDArray[Any], settings: VisualizeSettings) -> NDArray[np.float64]:
    """Return the picture shown for an image.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        The image; volumes become a plane as ``settings.plane`` says.
    settings : VisualizeSettings
        Percentiles that become black and white, for every channel on its own, and gamma.

    Returns
    -------
    ndarray of float64, (y, x, 3)
        Colours in [0, 1]; NaN and constant channels are black.
    """
    planes = raw
    if raw.ndim == 4:
        planes = raw.max(axis=1) if settings.plane == "projection" else raw[:, raw.shape[1] // 2]
    stretched = np.stack([_stretch(plane, settings) for plane in planes])
    if len(stretched) == 2:
        stretched = stretched[[0, 1, 0]]
    elif len(stretched) != 3:
        stretched = np.repeat(stretched.mean(axis=0, keepdims=True), 3, axis=0)
    return np.moveaxis(stretched, 0, -1)


def _stretch(plane: NDArray[Any], settings: VisualizeSettings) -> NDArray[np.float64]:
    """Return a plane with its percentiles moved to 0 and 1 and everything else clipped."""
    values = np.nan_to_num(plane.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, settings.percentiles) if values.size else (0.0, 0.0)
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) ** settings.gamma)


def instance_outlines(instances: Instances, settings: VisualizeSettings) -> list[list[Line]]:
    """Return the outlines of every instance in the plane that is shown.

    Parameters
    ----------
    instances : Instances
        2-D or 3-D; of volumes the projection or the middle plane is outlined.
    settings : VisualizeSettings
        Which plane is shown.

    Returns
    -------
    list of list of ndarray, (points, 2)
        For each instance its closed lines as x, y in voxels; none where it is not in the plane.
    """
    outlines: list[list[Line]] = [[] for _ in range(len(instances))]
    for number, mask, box in _masks(instances, settings):
        origin = np.array([side.start for side in box]) - 1
        lines = _find_contours(np.pad(mask, 1).astype(float), 0.5)
        outlines[number] = [(line + origin)[:, ::-1] for line in lines]
    return outlines


def _masks(
    instances: Instances, settings: VisualizeSettings
) -> Iterator[tuple[int, NDArray[np.bool_], tuple[slice, slice]]]:
    """Yield number, mask ``(y, x)`` inside its box, and box of what the plane shows of each."""
    for channel in instances.channels:
        shown = channel
        if channel.ndim == 3 and settings.plane == "middle":
            shown = channel[channel.shape[0] // 2]
        for number, box in enumerate(find_objects(shown)):
            if box is not None:
                mask = shown[box] == number + 1
                yield number, mask.any(axis=0) if mask.ndim == 3 else mask, box[-2:]


def _overlapping(instances: Instances, settings: VisualizeSettings) -> bool:
    """Return whether several instances lie on one pixel of the picture."""
    if len(instances.channels) == 1 and (
        instances.channels.ndim == 3 or settings.plane != "projection"
    ):
        return False
    depth = np.zeros(instances.shape[-2:], np.int32)
    for _, mask, box in _masks(instances, settings):
        depth[box] += mask
    return bool((depth > 1).any())


def instance_colours(instances: Instances, settings: VisualizeSettings) -> list[str]:
    """Return a colour for every instance, other than those of instances whose boxes touch its.

    Parameters
    ----------
    instances : Instances
        2-D or 3-D.
    settings : VisualizeSettings
        Which plane is shown.

    Returns
    -------
    list of str
        Of :data:`INSTANCE_COLOURS`, where they suffice without two neighbours of one colour.
    """
    count = len(INSTANCE_COLOURS)
    chosen = [number % count for number in range(len(instances))]
    found = [(number, box) for number, _, box in _masks(instances, settings)]
    if not found:
        return [INSTANCE_COLOURS[number] for number in chosen]
    numbers = np.array([number for number, _ in found])
    starts = np.array([[side.start for side in box] for _, box in found])
    stops = np.array([[side.stop for side in box] for _, box in found])
    for i, number in enumerate(numbers.tolist()):
        near = ((starts[:i] <= stops[i]) & (stops[:i] >= starts[i])).all(axis=1)
        taken = {chosen[other] for other in numbers[:i][near].tolist()}
        free = [(number + step) % count for step in range(count)]
        chosen[number] = next((c for c in free if c not in taken), number % count)
    return [INSTANCE_COLOURS[number] for number in chosen]


def _draw_single(
    axes: Any, instances: Instances, outlines: list[list[Line]], settings: VisualizeSettings
) -> None:
    """Fill and outline every instance in a colour of its own; colours mix where they overlap."""
    colours = instance_colours(instances, settings)
    total = np.zeros((*instances.shape[-2:], 3))
    depth = np.zeros(instances.shape[-2:])
    for number, mask, box in _masks(instances, settings):
        total[box] += mask[..., np.newaxis] * to_rgb(colours[number])
        depth[box] += mask
    mixed = np.divide(total, depth[..., np.newaxis], where=depth[..., np.newaxis] > 0, out=total)
    # where instances cross, more of the image is covered, so that the crossing stands out
    covered = np.where(depth > 1, _FILL_CROSSING, _FILL) * (depth > 0)
    axes.imshow(np.dstack([mixed, covered]), interpolation="nearest")
    for number, lines in enumerate(outlines):
        _draw(axes, lines, colours[number], settings, style="solid")
    shared = int((depth > 1).sum())
    axes.set_title(f"every prediction in a colour, {shared} pixels shared", fontsize=9)


def picture_panels(picture: NDArray[Any], count: int, title: str) -> tuple[Figure, list[Any]]:
    """Return a figure with `count` panels that all show the picture, four of them in two rows."""
    height, width = picture.shape[:2]
    rows = 2 if count == 4 else 1
    columns = count // rows
    # wide or tall images get smaller panels, so that every figure has about the same area
    scale = _PANEL_INCHES / max(height, width, 1)
    figure = new_figure(
        columns * max(width * scale, 2.0), rows * (max(height * scale, 1.0) + _HEADER_INCHES)
    )
    if title:
        figure.suptitle(title, fontsize=10)
    panels = list(figure.subplots(rows, columns).flat)
    for axes in panels:
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
    return figure, panels


def _draw_errors(
    axes: Any,
    errors: Errors,
    outlines: tuple[list[list[Line]], list[list[Line]]],
    settings: VisualizeSettings,
) -> None:
    """Draw predictions and missed instances in the colours of their kinds, errors filled."""
    truth, prediction = outlines
    for kind, colour in KIND_COLOURS.items():
        side = (
            (errors.truth_kinds, truth)
            if kind == "missed"
            else (errors.prediction_kinds, prediction)
        )
        lines = _flat(line for found, line in zip(*side, strict=True) if found == kind)
        if kind != "matched":
            filled = PolyCollection(lines, facecolors=colour, alpha=_FILL, linewidths=0)
            axes.add_collection(filled)
        _draw(axes, lines, colour, settings, style="solid")


def _draw(
    axes: Any, lines: list[Line], colour: str, settings: VisualizeSettings, *, style: Any
) -> None:
    """Draw outlines."""
    width = settings.outline_width
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, linestyles=style))


def _flat(outlines: Iterable[list[Line]]) -> list[Line]:
    """Return the outlines of all instances as one list."""
    return [line for lines in outlines for line in lines]


def legend_above(axes: Any, entries: Sequence[tuple[str, str, LineStyle]]) -> None:
    """Write names in their colours above a panel."""
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=2.2) for _, colour, style in entries
    ]
    axes.legend(
        handles,
        [name for name, _, _ in entries],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(entries) if len(entries) < 4 else 3,
        fontsize=8,
        handlelength=1.4,
        columnspacing=1.2,
        borderpad=0.35,
        facecolor="#444444",
        edgecolor="none",
        labelcolor="white",
        framealpha=1,
    )
