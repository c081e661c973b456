"""Repair instances: debris, holes, small ones, numbering.

Every function takes label images ``([z,] y, x)`` or instance channels ``(n, [z,] y, x)``, told
apart by `ndim`, the number of spatial axes. Every non-zero label of every channel is one instance.
What is passed in is never changed. Units: voxels.
"""

from __future__ import annotations

from typing import Any

import cc3d
import fastremap
import fill_voids
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from instaseg.errors import DataError
from instaseg.postprocess.config import PostprocessingSettings

Labels = NDArray[Any]


def postprocess(instances: Labels, settings: PostprocessingSettings, *, ndim: int) -> Labels:
    """Repair instances as `settings` says.

    The order is fixed: parts off the largest component go first, because they would enclose holes
    of their own; then holes are filled; then small instances go, by the size they have now; then
    the instances that are left are numbered.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background. Not changed.
    settings : PostprocessingSettings
        What is done.
    ndim : {2, 3}
        Number of spatial axes.

    Returns
    -------
    ndarray
        Same shape; same dtype unless the new numbers need a larger one.

    Raises
    ------
    DataError
        For float or negative labels, and another number of axes.

    Examples
    --------
    >>> labels = np.array([[7, 7, 0, 0, 4]])
    >>> postprocess(labels, PostprocessingSettings(remove_small_comps=1), ndim=2)
    array([[1, 1, 0, 0, 0]])
    """
    if settings.components == "largest":
        instances = keep_largest_component(instances, ndim=ndim)
    if settings.fill_holes == "per_instance":
        instances = fill_holes(instances, ndim=ndim)
    if settings.remove_small_comps > 0:
        instances = remove_small(instances, settings.remove_small_comps, ndim=ndim)
    if settings.relabel == "sequential":
        instances = relabel_sequential(instances, ndim=ndim)
    return _channels(instances, ndim).reshape(instances.shape).copy()


def remove_small(instances: Labels, largest_removed: int, *, ndim: int) -> Labels:
    """Remove instances of at most `largest_removed` voxels.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background.
    largest_removed : int
        Size in voxels.
    ndim : {2, 3}
        Number of spatial axes.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    repaired = _channels(instances, ndim).copy()
    for channel in repaired:
        labels, sizes = fastremap.unique(channel, return_counts=True)
        small = labels[(labels > 0) & (sizes <= largest_removed)]
        channel[np.isin(channel, small)] = 0
    return repaired.reshape(instances.shape)


def keep_largest_component(instances: Labels, *, ndim: int) -> Labels:
    """Keep the largest connected part of every instance.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background. Parts are connected by faces, edges and corners; of equally
        large ones the first in raster order stays.
    ndim : {2, 3}
        Number of spatial axes.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    repaired = _channels(instances, ndim).copy()
    for channel in repaired:
        # As numbers: for booleans, cc3d 4.1 errs in images of even height and odd width.
        values = channel.view(np.uint8) if channel.dtype == bool else channel
        parts = cc3d.connected_components(values, connectivity=8 if ndim == 2 else 26)
        part, first, size = np.unique(parts, return_index=True, return_counts=True)
        label = channel.reshape(-1)[first]
        # per label: the largest size, then the first voxel
        order = np.lexsort((first, -size.astype(np.int64), label))
        _, best = np.unique(label[order], return_index=True)
        keep = np.zeros(int(part[-1]) + 1 if len(part) else 1, bool)
        keep[part[order[best]]] = True
        channel[~keep[parts]] = 0
    return repaired.reshape(instances.shape)


def fill_holes(instances: Labels, *, ndim: int) -> Labels:
    """Fill the holes of every instance.

    A hole is background that cannot reach the border of the volume through faces without crossing
    the instance. Only background voxels are filled: an instance inside the hole stays, and a hole
    inside that one becomes part of it, not of the outer one.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background.
    ndim : {2, 3}
        Number of spatial axes.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    repaired = _channels(instances, ndim).copy()
    for channel in repaired:
        dense, names = fastremap.renumber(channel, in_place=False)
        label_of = {number: label for label, number in names.items()}
        boxes = [
            (box, number) for number, box in enumerate(_boxes(dense), start=1) if box is not None
        ]
        # a smaller box cannot enclose a larger one, so inner instances come first
        for box, number in sorted(boxes, key=lambda found: (_volume(found[0]), found[1])):
            window = channel[box]
            mask = dense[box] == number
            holes = np.asarray(fill_voids.fill(mask, in_place=False), bool) & ~mask
            window[holes & (window == 0)] = label_of[number]
    return repaired.reshape(instances.shape)


def relabel_sequential(instances: Labels, *, ndim: int) -> Labels:
    """Give the instances the numbers 1, 2, 3 ... in the order of channel, then label.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background. Empty channels stay.
    ndim : {2, 3}
        Number of spatial axes.

    Returns
    -------
    ndarray
        Same shape; no number occurs in two channels. Same dtype, or the smallest unsigned one that
        holds the numbers where that is too small.
    """
    channels = _channels(instances, ndim)
    labels = [fastremap.unique(channel, return_counts=True)[0] for channel in channels]
    labels = [found[found > 0] for found in labels]
    total = sum(map(len, labels))
    dtype = channels.dtype
    if dtype.kind == "b" or total > np.iinfo(dtype).max:
        dtype = np.min_scalar_type(total)
    numbered = np.zeros(channels.shape, dtype)
    start = 1
    for channel, found, target in zip(channels, labels, numbered, strict=True):
        foreground = channel > 0
        target[foreground] = start + np.searchsorted(found, channel[foreground])
        start += len(found)
    return numbered.reshape(instances.shape)


def _boxes(dense: Labels) -> list[tuple[slice, ...] | None]:
    """Return the bounding boxes of the labels 1, 2, 3 ..."""
    return list(find_objects(dense.astype(np.int64))) if dense.size else []


def _volume(box: tuple[slice, ...]) -> int:
    """Return the number of voxels of a box."""
    return int(np.prod([side.stop - side.start for side in box]))


def _channels(instances: Labels, ndim: int) -> Labels:
    """Return `instances` as ``(n, [z,] y, x)``, checked."""
    check_shape(instances.shape, instances.dtype, ndim)
    check_labels(instances)
    return instances if instances.ndim == ndim + 1 else instances[None]


def check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], ndim: int) -> None:
    """Check number of axes and type of instances.

    Raises
    ------
    DataError
        For another number of axes, or labels that are no integers.
    """
    if ndim not in (2, 3) or len(shape) not in (ndim, ndim + 1):
        raise DataError(
            "instances: expected ([z,] y, x) or (n, [z,] y, x) with"
            f" {ndim} spatial axes (2 or 3); got shape {shape}"
        )
    if dtype.kind not in "bui":
        raise DataError(
            f"instances: labels must be integers; got {dtype}. Convert them, for example"
            " by instances.astype('int32')"
        )


def check_labels(instances: Labels) -> None:
    """Check the values of a part of instances.

    Raises
    ------
    DataError
        If some are negative.
    """
    if instances.dtype.kind == "i" and instances.size and int(instances.min()) < 0:
        raise DataError(
            f"instances: labels must not be negative; found {int(instances.min())}. 0 is"
            " background, instances are numbered from 1"
        )
