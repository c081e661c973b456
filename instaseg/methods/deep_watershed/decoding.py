"""From predicted depths to instances: cut, components, growing back.

::

    depth ──cut──► deep parts ──components──► seeds ──grow──► instances ──check──► instances
                                                 ▲
    foreground ──────────────────────────────────┘ where they may grow

Every voxel's work is done in whole-array operations; their number does not depend on the number
of instances. Depths and distances are in units of the smallest side of a voxel, sizes in voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.geometry import voxel_sides
from instaseg.methods.deep_watershed.config import LabelSettings
from instaseg.methods.deep_watershed.targets import find_directions
from instaseg.regions.distance import distance_inside, distance_per_label, nearest
from instaseg.regions.flood import flood, step_lengths

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """What is predicted of an image.

    Parameters
    ----------
    depth : ndarray of float32, ([z,] y, x)
        Expected distance to the boundary, see :func:`read_depth`.
    foreground : ndarray of float32, ([z,] y, x)
        Probability of being part of an instance.
    directions : ndarray of float32, (ndim, [z,] y, x), optional
        Vectors away from the nearest boundary; used by the check of directions alone.
    """

    depth: Floats
    foreground: Floats
    directions: Floats | None = None


def read_depth(
    levels: NDArray[Any], edges: Sequence[float], kind: Literal["ordinal", "classes"]
) -> Floats:
    """Return the depth that predicted levels mean.

    Parameters
    ----------
    levels : ndarray of float, (K, [z,] y, x) or (K + 1, [z,] y, x)
        For each of K edges the probability that the depth exceeds it (`ordinal`), or that of each
        of the K + 1 levels (`classes`).
    edges : sequence of float
        Ascending depths between levels.
    kind : {"ordinal", "classes"}
        How `levels` are given.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        `ordinal`: the expected value of the last edge exceeded; `classes`: the last edge below the
        likeliest level. For certain predictions both are the largest edge below the true depth.

    Examples
    --------
    >>> read_depth(np.float32([[1, 1], [0, 0.5]]), [0.5, 1.5], "ordinal").tolist()
    [0.5, 1.0]
    """
    if kind == "classes":
        reached = np.concatenate([[0], edges]).astype(np.float32)
        return np.asarray(reached[levels.argmax(axis=0)])
    steps = np.diff(np.asarray(edges, np.float32), prepend=np.float32(0))
    depth = np.zeros(levels.shape[1:], np.float32)
    for step, level in zip(steps, levels, strict=True):
        depth += step * level.astype(np.float32)
    return depth


def find_instances(
    evidence: Evidence, settings: LabelSettings, spacing: Sequence[float]
) -> tuple[Labels, NDArray[np.float64]]:
    """Return the instances of an image, and how sure each of them is.

    Parameters
    ----------
    evidence : Evidence
        Predictions.
    settings : LabelSettings
        Table ``[vote_instances]``.
    spacing : sequence of float
        Size of a voxel per axis; only the proportions count.

    Returns
    -------
    labels : ndarray of int32, ([z,] y, x)
        1, 2, 3 ...; 0 is background.
    scores : ndarray of float64, (n,)
        Of the instances 1, 2, 3 ..., see :func:`instance_scores`.
    """
    relative = (np.asarray(spacing, float) / min(spacing)).tolist()
    foreground = evidence.foreground > np.float32(settings.fg_threshold)
    seeds = find_seeds(evidence.depth, foreground, settings)
    labels = grow(seeds, evidence.depth, foreground, settings=settings, spacing=relative)
    scores = instance_scores(labels, evidence.foreground)
    good = scores >= settings.min_score
    if settings.max_direction_error is not None and evidence.directions is not None:
        errors = direction_errors(labels, evidence.directions, relative)
        good &= errors <= settings.max_direction_error
    if good.all():
        return labels, scores
    return keep(labels, good), scores[good]


def instances_from_energy(
    energy: NDArray[Any],
    foreground: NDArray[Any],
    spacing: Sequence[float] | None = None,
    *,
    labelling: Mapping[str, Any] | None = None,
) -> Labels:
    """Return the instances of an image of which energy and foreground are known.

    Parameters
    ----------
    energy : ndarray of float, ([z,] y, x)
        Depth inside instances, in units of the smallest side of a voxel; see :func:`read_depth`.
    foreground : ndarray of float or bool, ([z,] y, x)
        Probability of being part of an instance.
    spacing : sequence of float, optional
        Size of a voxel per axis; 1 where it is left out.
    labelling : mapping, optional
        Keys of ``[vote_instances]``.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels 1, 2, 3 ...; 0 is background.

    Raises
    ------
    DataError
        If the arrays do not have the same shape.

    Examples
    --------
    >>> energy = np.array([[0, 1, 2, 1, 1, 2, 2, 1]], np.float32)
    >>> instances_from_energy(energy, energy > 0, labelling={"cut": 1.5}).tolist()
    [[0, 1, 1, 1, 2, 2, 2, 2]]
    """
    if energy.shape != foreground.shape or energy.ndim not in (2, 3):
        raise DataError(
            "energy and foreground: expected one shape ([z,] y, x) for both, found"
            f" {list(energy.shape)} and {list(foreground.shape)}"
        )
    evidence = Evidence(energy.astype(np.float32), foreground.astype(np.float32))
    settings = LabelSettings.model_validate(dict(labelling or {}))
    return find_instances(evidence, settings, voxel_sides(spacing, energy.ndim))[0]


def find_seeds(depth: Floats, foreground: Mask, settings: LabelSettings) -> Labels:
    """Return the parts of the foreground that are deeper than the cut, one label for each.

    With `seed_cut` a part that falls apart there is replaced by what it falls into, and one that
    does not reach it stays as it is.

    Parameters
    ----------
    depth : ndarray of float32, ([z,] y, x)
    foreground : ndarray of bool, ([z,] y, x)
    settings : LabelSettings

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        1, 2, 3 ... in the order of their first voxels (with `seed_cut`: of the deeper ones first).
    """
    low = _parts(depth, foreground, settings.cut, settings)
    if settings.seed_cut is not None:
        high = _parts(depth, foreground, settings.seed_cut, settings)
        reached = np.zeros(int(low.max(initial=0)) + 1, bool)
        reached[low[high > 0]] = True
        rest = keep(low, ~reached[1:])
        low = np.where(rest > 0, rest + high.max(initial=0), high).astype(np.int32)
    if settings.unseeded == "keep":
        low = _with_unseeded(low, foreground, settings)
    return low


def _parts(depth: Floats, foreground: Mask, cut: float, settings: LabelSettings) -> Labels:
    """Return connected voxels deeper than `cut`, holes filled, without small parts."""
    deep = (depth > np.float32(cut)) & foreground
    deep = fill_small_holes(deep, settings.fill_holes)
    return _drop_small(local_labels(deep, settings.neighbours), settings.min_size)


def _with_unseeded(seeds: Labels, foreground: Mask, settings: LabelSettings) -> Labels:
    """Return the seeds and the connected parts of the foreground that hold none."""
    parts = _drop_small(local_labels(foreground, settings.neighbours), settings.min_size)
    seeded = np.zeros(int(parts.max(initial=0)) + 1, bool)
    seeded[parts[seeds > 0]] = True
    rest = keep(parts, ~seeded[1:])
    return np.where(rest > 0, rest + seeds.max(initial=0), seeds).astype(np.int32)


def _drop_small(labels: NDArray[Any], least: int) -> Labels:
    """Return labels 1, 2, 3 ... of at least so many voxels, numbered anew."""
    labels = labels.astype(np.int32)
    if least <= 1:
        return labels
    return keep(labels, np.bincount(labels.reshape(-1))[1:] >= least)


def keep(labels: Labels, good: NDArray[np.bool_]) -> Labels:
    """Return the labels whose entry in `good` (n,) is True, numbered 1, 2, 3 ... in their order.

    Examples
    --------
    >>> keep(np.array([[1, 2, 0, 3]], np.int32), np.array([True, False, True])).tolist()
    [[1, 0, 0, 2]]
    """
    numbers = np.concatenate([[0], np.where(good, np.cumsum(good), 0)]).astype(np.int32)
    return np.asarray(numbers[labels])


def fill_small_holes(mask: Mask, most: int) -> Mask:
    """Return a mask with its holes of at most `most` voxels filled; holes connect by faces.

    Background that meets the border of the image counts like any other.
    """
    if most == 0:
        return mask
    holes = local_labels(~mask, "faces")
    small = np.bincount(holes.reshape(-1)) <= most
    small[0] = False
    return np.asarray(mask | small[holes])


def grow(
    seeds: Labels,
    depth: Floats,
    foreground: Mask,
    *,
    settings: LabelSettings,
    spacing: Sequence[float],
) -> Labels:
    """Give instances back what the cut took from them.

    Parameters
    ----------
    seeds : ndarray of int32, ([z,] y, x)
        Instances as they are after the cut.
    depth : ndarray of float32, ([z,] y, x)
        `flood` goes from deep to shallow voxels.
    foreground : ndarray of bool, ([z,] y, x)
        Where `flood` and `nearest` may grow.
    settings : LabelSettings
        `grow`, `grow_most`, `dilate_width`, `neighbours`.
    spacing : sequence of float
        Size of a voxel per axis in units of the smallest.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        The same labels on more voxels.
    """
    match settings.grow:
        case "none":
            return seeds
        case "dilate":
            # where squares meet the later label wins, as in the published code
            return np.asarray(
                ndimage.maximum_filter(seeds, size=settings.dilate_width, mode="constant")
            )
        case "nearest":
            inside = foreground | (seeds > 0)
            # nothing is looked for beyond the foreground's farthest voxel
            far = float(distance_inside(seeds == 0, spacing)[inside].max(initial=0))
            if not np.isfinite(far):
                return seeds
            most = far if settings.grow_most is None else min(far, settings.grow_most)
            return np.where(inside, nearest(seeds, spacing, most=most)[0], 0).astype(np.int32)
        case "flood":
            inside = foreground | (seeds > 0)
            if settings.grow_most is not None:
                inside &= distance_inside(seeds == 0, spacing) <= np.float32(settings.grow_most)
            lengths = step_lengths(tuple(spacing))
            return flood(
                -depth, seeds, mask=inside, neighbours=settings.neighbours, lengths=lengths
            )


def instance_scores(labels: Labels, foreground: Floats) -> NDArray[np.float64]:
    """Return how sure each instance is: the mean of ``2 p - 1`` over its voxels, 0 to 1.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        1, 2, 3 ...
    foreground : ndarray of float32, ([z,] y, x)
        Probability of being part of an instance.
    """
    margin = np.maximum(2 * foreground.reshape(-1) - 1, 0)
    return _means(labels, margin)


def direction_errors(
    labels: Labels, predicted: Floats, spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Return how far the predicted directions are from those that the instances themselves have.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        1, 2, 3 ...
    predicted : ndarray of float32, (ndim, [z,] y, x)
        Vectors of any length, which is not used.
    spacing : sequence of float
        Size of a voxel per axis in units of the smallest.

    Returns
    -------
    ndarray of float64, (n,)
        Mean of 1 - cosine over the voxels of an instance that have a direction: 0 where all agree,
        1 for random ones, 2 where they are opposite; 0 for an instance without directions.

    Notes
    -----
    The idea is that of Cellpose's check of flows (Stringer et al. 2021,
    https://doi.org/10.1038/s41592-020-01018-x): what a wrong merge looks like disagrees with what
    was predicted at the seam.
    """
    depth = np.minimum(distance_per_label(labels, spacing), np.float32(labels.size))
    own = find_directions(labels, depth, spacing)
    length = np.sqrt((predicted.astype(np.float32) ** 2).sum(axis=0))
    cosine = (own * predicted).sum(axis=0) / np.maximum(length, np.float32(1e-6))
    known = (own != 0).any(axis=0)
    return _means(
        np.where(known, labels, 0).astype(np.int32), 1 - cosine, int(labels.max(initial=0))
    )


def _means(labels: Labels, values: NDArray[Any], count: int | None = None) -> NDArray[np.float64]:
    """Return the mean of `values` over each label 1 ... `count`, 0 for one without voxels."""
    flat = labels.reshape(-1)
    least = (int(flat.max(initial=0)) if count is None else count) + 1
    sums = np.bincount(flat, weights=values.reshape(-1), minlength=least)
    sizes = np.bincount(flat, minlength=least)
    return np.asarray((sums / np.maximum(sizes, 1))[1:])
