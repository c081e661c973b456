"""One picture per sample: the image, both sides' outlines, and the errors by kind.

Where instances overlap, or their projections do, there is a panel more that shows every predicted
instance in a colour of its own: there colours mix, and both outlines run on.

Volumes may be on disk: a projection is made slab by slab, of the middle plane nothing else is read.
Memory is that of one part, of the picture and of the projections of all instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from skimage.measure import find_contours

from instaseg.io.arrays import ArraySource, slabs
from instaseg.metrics.kinds import Errors, Kind
from instaseg.metrics.overlaps import Index, Instances, Window, find_instances, windows
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
    "uncounted": BLUE,
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


@dataclass(frozen=True)
class Outlined:
    """What the picture shows of one instance.

    Parameters
    ----------
    number : int
        Of the instance.
    mask : ndarray of bool, (y, x)
        Its projection, or its part of the middle plane.
    box : tuple of slice
        Where the mask is in the picture; it is its bounding box.
    """

    number: int
    mask: NDArray[np.bool_]
    box: tuple[slice, slice]


def overlay_figure(
    raw: ArraySource, errors: Errors, *, settings: VisualizeSettings, title: str = ""
) -> Figure:
    """Draw the image, the outlines of truth and prediction, and the errors by kind.

    Parameters
    ----------
    raw : array, (c, [z,] y, x)
        The image, in memory or on disk; one channel is shown grey, two as magenta and green, three
        as red, green and blue, of more the mean.
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
    sides = errors.truth, errors.prediction
    shown = [shown_instances(side, settings) for side in sides]
    crossing = any(_overlapping(*side, settings) for side in zip(sides, shown, strict=True))
    figure, panels = picture_panels(displayed(raw, settings), 4 if crossing else 3, title)
    truth, prediction = (
        instance_outlines(of_side, len(side)) for of_side, side in zip(shown, sides, strict=True)
    )
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
        [
            (f"{kind}, {errors.count(kind)}", colour, "-")
            for kind, colour in KIND_COLOURS.items()
            if kind != "uncounted" or errors.count(kind)
        ],
    )
    if crossing:
        plane = errors.prediction.shape[-2:]
        _draw_single(panels[3], shown[1], prediction, settings, shape=plane)
    return figure


def prediction_figure(
    raw: ArraySource, instances: ArraySource, *, settings: VisualizeSettings, title: str = ""
) -> Figure:
    """Draw the image and the predicted outlines, for samples without ground truth.

    Parameters
    ----------
    raw : array, (c, [z,] y, x)
        The image, in memory or on disk.
    instances : array of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Predicted instances, in memory or on disk.
    settings : VisualizeSettings
        How it looks.
    title : str
        Line above the panels.

    Returns
    -------
    Figure
    """
    found = find_instances(instances, ndim=len(raw.shape) - 1, name="instances")
    shown = shown_instances(found, settings)
    crossing = _overlapping(found, shown, settings)
    figure, panels = picture_panels(displayed(raw, settings), 3 if crossing else 2, title)
    outlines = instance_outlines(shown, len(found))
    _draw(panels[1], _flat(outlines), _PREDICTION, settings, style="solid")
    panels[0].set_title("image", fontsize=9)
    legend_above(panels[1], [(f"prediction, {len(found)}", _PREDICTION, "-")])
    if crossing:
        _draw_single(panels[2], shown, outlines, settings, shape=found.shape[-2:])
    return figure


def displayed(raw: ArraySource, settings: VisualizeSettings) -> NDArray[np.float64]:
    """Return the picture shown for an image.

    Parameters
    ----------
    raw : array, (c, [z,] y, x)
        The image, in memory or on disk; volumes become a plane as ``settings.plane`` says.
    settings : VisualizeSettings
        Percentiles that become black and white, for every channel on its own, and gamma.

    Returns
    -------
    ndarray of float64, (y, x, 3)
        Colours in [0, 1]; NaN and constant channels are black.
    """
    planes = shown_plane(raw, settings, lead=1)
    stretched = np.stack([_stretch(plane, settings) for plane in planes])
    if len(stretched) == 2:
        stretched = stretched[[0, 1, 0]]
    elif len(stretched) != 3:
        stretched = np.repeat(stretched.mean(axis=0, keepdims=True), 3, axis=0)
    return np.moveaxis(stretched, 0, -1)


def shown_plane(source: ArraySource, settings: VisualizeSettings, *, lead: int) -> NDArray[Any]:
    """Return the plane of an array that is shown, which is all of an image without z.

    Parameters
    ----------
    source : array, (..., [z,] y, x)
        In memory or on disk. Only the middle plane is read, or slabs one after the other.
    settings : VisualizeSettings
        Which plane is shown; the projection is the maximum along z.
    lead : int
        Number of axes before the spatial ones.

    Returns
    -------
    ndarray, (..., y, x)
    """
    shape = tuple(source.shape)
    every = tuple(slice(0, n) for n in shape[:lead])
    space = shape[lead:]
    if len(space) == 2:
        return source[(*every, *(slice(0, n) for n in space))]
    if settings.plane == "middle":
        parts: Iterable[Window] = (_middle(space),)
    else:
        parts = slabs(space)
    return reduce(np.maximum, (np.asarray(source[(*every, *i)].max(axis=lead)) for i in parts))


def _middle(shape: Sequence[int]) -> Window:
    """Return the window of a volume's middle plane."""
    depth, *plane = shape
    return (slice(depth // 2, depth // 2 + 1), *(slice(0, n) for n in plane))


def _stretch(plane: NDArray[Any], settings: VisualizeSettings) -> NDArray[np.float64]:
    """Return a plane with its percentiles moved to 0 and 1 and everything else clipped."""
    values = np.nan_to_num(plane.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, settings.percentiles) if values.size else (0.0, 0.0)
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) ** settings.gamma)


def shown_instances(instances: Instances, settings: VisualizeSettings) -> list[Outlined]:
    """Return what the plane that is shown has of every instance; window by window is read.

    Parameters
    ----------
    instances : Instances
        2-D or 3-D; of volumes the projection or the middle plane is shown.
    settings : VisualizeSettings
        Which plane is shown.

    Returns
    -------
    list of Outlined
        By number; instances that are not in the plane are left out.
    """
    begin, extent = instances.begin[:, -2:], (instances.end - instances.begin)[:, -2:]
    masks: dict[int, NDArray[np.bool_]] = {}
    for window in _shown_windows(instances, settings):
        sides = tuple(side.stop - side.start for side in window)
        corner = np.array([side.start for side in window[-2:]])
        for _, position, number in instances.entries(window):
            place = np.stack(np.unravel_index(position, sides)[-2:], axis=1) + corner
            for one, pixels in _by_number(number, place):
                if one not in masks:
                    masks[one] = np.zeros(extent[one], bool)
                masks[one][tuple((pixels - begin[one]).T)] = True
    return [_outlined(number, masks[number], begin[number]) for number in sorted(masks)]


def _shown_windows(instances: Instances, settings: VisualizeSettings) -> Iterator[Window]:
    """Yield the windows that the picture shows."""
    if len(instances.shape) == 2 or settings.plane == "projection":
        yield from windows(instances)
        return
    (middle, *_) = _middle(instances.shape)
    for window in windows(instances):
        if window[0].start <= middle.start < window[0].stop:
            yield (middle, *window[1:])


def _by_number(number: Index, place: Index) -> Iterator[tuple[int, Index]]:
    """Yield every number that occurs and its places ``(n, 2)``."""
    order = np.argsort(number, kind="stable")
    numbers, first = np.unique(number[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(place[order], first[1:]), strict=True)


def _outlined(number: int, mask: NDArray[np.bool_], begin: Index) -> Outlined:
    """Return a mask cut to its bounding box; a plane has less of an instance than the volume."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    y, x = (
        slice(int(side.start + start), int(side.stop + start))
        for side, start in zip(inner, begin, strict=True)
    )
    return Outlined(number, mask[inner], (y, x))


def instance_outlines(shown: Sequence[Outlined], count: int) -> list[list[Line]]:
    """Return the outlines of every instance in the plane that is shown.

    Parameters
    ----------
    shown : sequence of Outlined
        From :func:`shown_instances`.
    count : int
        Number of instances.

    Returns
    -------
    list of list of ndarray, (points, 2)
        For each instance its closed lines as x, y in voxels; none where it is not in the plane.
    """
    outlines: list[list[Line]] = [[] for _ in range(count)]
    for one in shown:
        origin = np.array([side.start for side in one.box]) - 1
        lines = _find_contours(np.pad(one.mask, 1).astype(float), 0.5)
        outlines[one.number] = [(line + origin)[:, ::-1] for line in lines]
    return outlines


def _overlapping(
    instances: Instances, shown: Sequence[Outlined], settings: VisualizeSettings
) -> bool:
    """Return whether several instances lie on one pixel of the picture."""
    if len(instances.numberings) == 1 and (
        len(instances.shape) == 2 or settings.plane != "projection"
    ):
        return False
    depth = np.zeros(instances.shape[-2:], np.int32)
    for one in shown:
        depth[one.box] += one.mask
    return bool((depth > 1).any())


def instance_colours(shown: Sequence[Outlined], count: int) -> list[str]:
    """Return a colour for every instance, other than those of instances whose boxes touch its.

    Parameters
    ----------
    shown : sequence of Outlined
        From :func:`shown_instances`.
    count : int
        Number of instances.

    Returns
    -------
    list of str
        Of :data:`INSTANCE_COLOURS`, where they suffice without two neighbours of one colour.
    """
    colours = len(INSTANCE_COLOURS)
    chosen = [number % colours for number in range(count)]
    if not shown:
        return [INSTANCE_COLOURS[number] for number in chosen]
    numbers = np.array([one.number for one in shown])
    starts = np.array([[side.start for side in one.box] for one in shown])
    stops = np.array([[side.stop for side in one.box] for one in shown])
    for i, number in enumerate(numbers.tolist()):
        near = ((starts[:i] <= stops[i]) & (stops[:i] >= starts[i])).all(axis=1)
        taken = {chosen[other] for other in numbers[:i][near].tolist()}
        free = [(number + step) % colours for step in range(colours)]
        chosen[number] = next((c for c in free if c not in taken), number % colours)
    return [INSTANCE_COLOURS[number] for number in chosen]


def _draw_single(
    axes: Any,
    shown: Sequence[Outlined],
    outlines: list[list[Line]],
    settings: VisualizeSettings,
    *,
    shape: Sequence[int],
) -> None:
    """Fill and outline every instance in a colour of its own; colours mix where they overlap."""
    colours = instance_colours(shown, len(outlines))
    total, depth = np.zeros((*shape, 3)), np.zeros(shape)
    for one in shown:
        total[one.box] += one.mask[..., np.newaxis] * to_rgb(colours[one.number])
        depth[one.box] += one.mask
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
