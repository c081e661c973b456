"""What the deep watershed learns, made from instances: walls, depth, directions, levels, weights.

One pass over an image, whatever the number of its instances: overlapping annotations are painted
into one label per voxel, walls are carved into it, one exact distance transform for all labels
gives the depth, and directions and levels follow from that::

    layers ──paint──► labels ──walls──► cells ──distance──► depth ──► directions
      (L, ...)                                                  └───► levels

Borders of instances are all in place before the distance is taken, so that no instance's targets
are those of a border that another one has moved. Units: the depth is measured in units of the
smallest side of a voxel, so that edges of levels mean the same at any resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.geometry import voxel_sides
from instaseg.methods.deep_watershed.config import DeepWatershedSettings
from instaseg.regions.distance import distance_per_label

Labels = NDArray[Any]
Depth = NDArray[np.float32]

_SMOOTHINGS = 2
DIRECTION_REACH = _SMOOTHINGS + 1
"""Voxels around one whose depths its direction depends on."""

BACKGROUND, CELL, WALL = 0, 1, 2
"""Classes of :attr:`Targets.classes`."""


@dataclass(frozen=True)
class Painted:
    """Annotations painted into one image.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        One label per voxel, 0 is background; where annotations overlap, the smaller one.
    ranks : ndarray of int32, ([z,] y, x)
        Place of the voxel's instance in the order of painting, from 1; 0 for background. Smaller
        instances are painted later and have larger ranks.
    areas : ndarray of float32, ([z,] y, x)
        Voxels of the voxel's whole instance, overlaps included; 0 for background.
    """

    labels: NDArray[np.int32]
    ranks: NDArray[np.int32]
    areas: NDArray[np.float32]


@dataclass(frozen=True)
class Targets:
    """What a network is trained with, for every voxel of an image.

    Parameters
    ----------
    classes : ndarray of uint8, ([z,] y, x)
        `BACKGROUND`, `CELL` or `WALL`.
    depth : ndarray of float32, ([z,] y, x)
        Distance to the nearest voxel of something else, 0 outside cells.
    directions : ndarray of float32, (ndim, [z,] y, x)
        Unit vectors away from the nearest boundary; 0 where there is no such direction.
    levels : ndarray of uint8, ([z,] y, x)
        Number of edges that the depth exceeds.
    areas : ndarray of float32, ([z,] y, x)
        Voxels of the instance, 0 for background.
    """

    classes: NDArray[np.uint8]
    depth: Depth
    directions: NDArray[np.float32]
    levels: NDArray[np.uint8]
    areas: NDArray[np.float32]


def targets_from_labels(
    labels: Labels,
    spacing: Sequence[float] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
) -> Targets:
    """Return the targets of an image with labelled instances.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background.
    spacing : sequence of float, optional
        Size of a voxel per axis; 1 where it is left out. Only its proportions count.
    settings : mapping, optional
        Keys of ``[method]``, such as ``edges`` and ``wall_width``.

    Returns
    -------
    Targets

    Examples
    --------
    >>> targets_from_labels(np.array([[0, 3, 3, 3, 0]])).depth.tolist()
    [[0.0, 1.0, 2.0, 1.0, 0.0]]
    """
    chosen = DeepWatershedSettings.model_validate(dict(settings or {}))
    return make_targets(
        labels[np.newaxis],
        voxel_sides(spacing, labels.ndim),
        edges=chosen.edges,
        wall_width=chosen.wall_width,
        background_reach=chosen.background_reach if chosen.background == "label" else None,
    )


def make_targets(
    layers: Labels,
    spacing: Sequence[float],
    *,
    edges: Sequence[float],
    wall_width: int | None = None,
    background_reach: float | None = None,
) -> Targets:
    """Return the targets of an image.

    Parameters
    ----------
    layers : ndarray of int, (L, [z,] y, x)
        Labels; 0 is background, no id occurs in two layers, instances of different layers may
        overlap.
    spacing : sequence of float
        Physical size of a voxel per axis; only its proportions count.
    edges : sequence of float
        Ascending depths between the levels, in units of the smallest side of a voxel.
    wall_width : int, optional
        Odd side in voxels of the square that walls are drawn with; None draws none.
    background_reach : float, optional
        Background at most so far from an instance has directions too, away from it, as if it were
        one large instance; None gives it none.

    Returns
    -------
    Targets

    Notes
    -----
    The border of the image is no wall: instances go on beyond it as far as distances know.
    """
    painted = paint(layers)
    walls = find_walls(painted.ranks, wall_width) if wall_width else np.zeros(layers[0].shape, bool)
    cells = np.where(walls, 0, painted.labels).astype(np.int32)
    relative = np.asarray(spacing, float) / min(spacing)
    if background_reach is not None:
        everything = np.where(cells == 0, cells.max(initial=0) + 1, cells).astype(np.int32)
        all_depth = _depth(everything, relative)
        depth = np.where(cells > 0, all_depth, np.float32(0))
        directions = find_directions(everything, all_depth, relative)
        directions[:, (cells == 0) & (all_depth > background_reach)] = 0
    else:
        depth = _depth(cells, relative)
        directions = find_directions(cells, depth, relative)
    classes = np.where(walls, WALL, np.where(cells > 0, CELL, BACKGROUND)).astype(np.uint8)
    return Targets(classes, depth, directions, find_levels(depth, edges), painted.areas)


def _depth(labels: NDArray[np.int32], spacing: NDArray[np.float64]) -> Depth:
    """Return the distances; where nothing else is in sight, as many as the image has voxels."""
    depth = distance_per_label(labels, spacing.tolist(), border="open")
    return np.minimum(depth, np.float32(labels.size))


def paint(layers: Labels) -> Painted:
    """Paint annotations into one image, by descending area: the smaller one is on top.

    What two annotations share is a larger share of the smaller one, which so keeps all of it.

    Parameters
    ----------
    layers : ndarray of int, (L, [z,] y, x)
        Labels; no id occurs in two layers.

    Returns
    -------
    Painted
        Of instances with the same area, the one with the larger id is on top.

    Examples
    --------
    >>> paint(np.array([[[1, 1, 1, 0]], [[0, 0, 2, 2]]])).labels.tolist()
    [[1, 1, 2, 2]]
    """
    dense, mapping = fastremap.renumber(layers, in_place=False)
    # by their new numbers; background, 0, is the first
    names = np.array([name for name, _ in sorted(mapping.items(), key=lambda pair: pair[1])])
    counts = np.bincount(dense.reshape(-1), minlength=len(names))
    order = 1 + np.lexsort((names[1:], -counts[1:]))
    rank_of = np.zeros(len(names), np.int32)
    rank_of[order] = np.arange(1, len(names))
    ranks: NDArray[np.int32] = rank_of[dense].max(axis=0)
    order = np.concatenate([[0], order])
    areas = np.where(order > 0, counts[order], 0).astype(np.float32)
    return Painted(names[order].astype(np.int32)[ranks], ranks, areas[ranks])


def find_walls(ranks: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Return the walls between instances that touch, overlap or nearly touch.

    Painting an instance carves a ring of ``(width - 1) / 2`` voxels around it out of those that
    were painted before it, and covers the walls below itself. What is left of this after all are
    painted: a voxel is wall if the square around it holds an instance that was painted later than
    the voxel's own. Background is never wall, and the instance painted last stays whole.

    Parameters
    ----------
    ranks : ndarray of int32, ([z,] y, x)
        Order of painting, see :class:`Painted`.
    width : int
        Odd side in voxels of the square (cube); 3 separates instances under 8 neighbours.

    Returns
    -------
    ndarray of bool, ([z,] y, x)

    Examples
    --------
    >>> find_walls(np.array([[1, 1, 1, 2, 2, 0]], np.int32), 3)[0].tolist()
    [False, False, True, False, False, False]
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd and positive; got {width}")
    highest = ndimage.maximum_filter(ranks, size=width, mode="constant", cval=0)
    return np.asarray((ranks > 0) & (highest > ranks))


def find_directions(
    labels: NDArray[np.int32], depth: Depth, spacing: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return unit vectors that point away from the nearest boundary of a voxel's own instance.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        0 is background and has no direction.
    depth : ndarray of float32, ([z,] y, x)
        Distance of each voxel to the nearest one with another label.
    spacing : sequence of float
        Size of a voxel per axis, in the units of `depth`.

    Returns
    -------
    ndarray of float32, (ndim, [z,] y, x)
        In the order of the axes; 0 where the two sides balance, as on the middle line of a strip
        of odd width.

    Notes
    -----
    The way from the nearest boundary voxel ``n`` to ``p`` is half the gradient of the squared
    distance, and a central difference of it is exact where the neighbours on both sides have the
    same nearest voxel: ``((p + 1 - n)^2 - (p - 1 - n)^2) / 4 = p - n``. A neighbour with another
    label counts with distance 0, so an instance's vectors never depend on its neighbours' depth.
    At the border of the image, where one side is missing, the difference to the other one counts.
    Steps of the outline turn such vectors by up to 45 degrees, so they are averaged twice with
    those of the neighbours in the same instance: on discs 3 instead of 8 degrees are left.
    """
    vectors = np.zeros((labels.ndim, *labels.shape), np.float32)
    for axis, step in enumerate(spacing):
        own = np.moveaxis(vectors[axis], axis, 0)
        label, d = np.moveaxis(labels, axis, 0), np.moveaxis(depth, axis, 0)
        if len(label) < 2:
            continue
        same = label[1:] == label[:-1]
        after = np.where(same, d[1:], np.float32(0))  # of each voxel but the last
        before = np.where(same, d[:-1], np.float32(0))  # of each voxel but the first
        own[1:-1] = (after[1:] ** 2 - before[:-1] ** 2) / np.float32(4 * step)
        own[0] = (after[0] - d[0]) * d[0] / np.float32(step) * same[0]
        own[-1] = (d[-1] - before[-1]) * d[-1] / np.float32(step) * same[-1]
    vectors[:, labels == 0] = 0
    for _ in range(_SMOOTHINGS):
        vectors = _summed_within(labels, _unit(vectors))
    return _unit(vectors)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors ``(ndim, ...)`` of length 1; those that are nearly 0 become 0."""
    length = np.sqrt((vectors**2).sum(axis=0))
    unit = np.zeros_like(vectors)
    np.divide(vectors, length, out=unit, where=length > 1e-4)
    return unit


def _summed_within(labels: Labels, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each voxel's vector plus those of its face neighbours with the same label."""
    total = vectors.copy()
    for axis in range(labels.ndim):
        lower: list[slice] = [slice(None)] * labels.ndim
        upper = list(lower)
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(lower), tuple(upper)
        same = labels[first] == labels[second]
        total[:, *first] += vectors[:, *second] * same
        total[:, *second] += vectors[:, *first] * same
    return total


def find_levels(depth: Depth, edges: Sequence[float]) -> NDArray[np.uint8]:
    """Return how many of the ascending `edges` each depth exceeds: 0 ... ``len(edges)``.

    Examples
    --------
    >>> find_levels(np.float32([0, 1, 1.4142135, 2, 9]), [0.5, 1.2, 1.7]).tolist()
    [0, 1, 2, 3, 3]
    """
    # an edge is never reached exactly, see DeepWatershedSettings.edges
    return np.searchsorted(np.asarray(edges, np.float32), depth).astype(np.uint8)
